//! What an edge-triggered system makes easy to get wrong.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evloop::{LoopHandle, get_running_loop};

use crate::common::peers::{self, Child};
use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, pattern, run, turns, within};
use crate::probe::{Call, Probe, block, connect, connected};

#[test]
fn bytes_and_the_end_in_one_event_are_both_seen() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Made = call {
                transport.pause_reading();
            }
        });
        let (transport, peer) = connected(probe).await;
        peer.send(b"abc");
        peer.finish();
        // Both are in the kernel before the loop looks again.
        transport.resume_reading();
        trace.until("lost").await;
        assert_eq!(trace, ["made", "data abc", "eof", "lost"]);
    });
}

#[test]
fn a_burst_larger_than_the_read_buffer_and_the_end_behind_it_are_seen_whole() {
    run(async {
        let trace = Trace::default();
        let size = Rc::new(Cell::new(0));
        let sum = Rc::clone(&size);
        let probe = Probe::new(&trace).doing(move |call, transport| match call {
            Call::Made => transport.pause_reading(),
            Call::Data(data) => sum.set(sum.get() + data.len()),
            _ => {}
        });
        let (transport, peer) = connected(probe).await;
        let sent = peer.fill();
        peer.finish();
        assert!(sent >= 1 << 20, "{sent}");
        transport.resume_reading();
        trace.until("lost").await;
        assert_eq!(size.get(), sent);
    });
}

#[test]
fn a_flood_on_one_connection_does_not_hold_up_another() {
    run(async {
        let trace = Trace::default();
        let (_flooded, flood) = connected(Probe::new(&trace).named("flood ")).await;
        let echo = Probe::new(&trace).named("echo ").doing(|call, transport| {
            if let Call::Data(data) = call {
                transport.write(data);
            }
        });
        let (_echoing, peer) = connected(echo).await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let flooding = in_thread(move || {
            while !stopped.load(Ordering::Relaxed) {
                flood.fill();
            }
        });
        let flooding = get_running_loop().unwrap().create_task(flooding);
        trace.until("flood data").await;
        in_thread(move || {
            for _ in 0..100 {
                peer.send(b"ping");
                assert_eq!(peer.receive(4), b"ping");
            }
            stop.store(true, Ordering::Relaxed);
        })
        .await;
        flooding.await.unwrap();
        assert_eq!(trace.count("echo data ping"), 100);
        assert!(trace.count("flood data") > 1);
    });
}

/// More than that is there from the first turn on. A turn serves events, and then whoever is owed a
/// visit; a peer that goes on sending may have both.
#[test]
fn an_event_and_a_visit_receive_256_kib_each_at_most() {
    fn at_each_turn(handle: &LoopHandle, f: impl Fn() + 'static) {
        let next = handle.clone();
        handle.call_soon(move || {
            f();
            at_each_turn(&next, f);
        });
    }

    const ONCE: usize = 256 * 1024;
    run(async {
        let [all, now, most] = [(); 3].map(|()| Rc::new(Cell::new(0)));
        let (sum, count) = (Rc::clone(&all), Rc::clone(&now));
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(move |call, transport| match call {
            Call::Made => transport.pause_reading(),
            Call::Data(data) => {
                sum.set(sum.get() + data.len());
                count.set(count.get() + data.len());
            }
            _ => {}
        });
        let (transport, peer) = connected(probe).await;
        let mut sent = peer.fill();
        assert!(sent >= 1 << 20, "{sent}");
        let max = Rc::clone(&most);
        let handle = get_running_loop().unwrap();
        at_each_turn(&handle, move || max.set(max.get().max(now.take())));
        transport.resume_reading();
        for _ in 0..10 {
            within("what was sent", async {
                while all.get() < sent {
                    turns(1).await;
                }
            })
            .await;
            sent += peer.fill();
        }
        let turn = most.get();
        assert!((ONCE..=2 * ONCE).contains(&turn), "{turn} bytes in a turn");
    });
}

#[test]
fn two_bursts_at_once_both_make_progress_turn_by_turn() {
    run(async {
        let trace = Trace::default();
        let pausing = |name| {
            Probe::new(&trace).named(name).doing(|call, transport| {
                if let Call::Made = call {
                    transport.pause_reading();
                }
            })
        };
        let (one, first) = connected(pausing("1 ")).await;
        let (two, second) = connected(pausing("2 ")).await;
        assert!(first.fill() >= 1 << 20);
        assert!(second.fill() >= 1 << 20);
        one.resume_reading();
        two.resume_reading();
        trace.until_count("2 data", 3).await;
        trace.until_count("1 data", 3).await;
        let lines = trace.lines();
        assert_eq!(
            lines[2..8],
            ["1 data", "2 data", "1 data", "2 data", "1 data", "2 data"]
        );
    });
}

/// An urgent byte ends a read early, with bytes behind it and no further edge.
#[test]
fn bytes_behind_an_urgent_byte_arrive_though_the_peer_falls_silent() {
    if !peers::require("python3", "python3") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let bytes = Rc::new(RefCell::new(Vec::new()));
        let all = Trace::default();
        let (collected, done) = (Rc::clone(&bytes), all.clone());
        let made = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&made);
        let probe = Probe::new(&trace).doing(move |call, transport| match call {
            Call::Made => {
                // Everything has to be there before the first byte is read.
                transport.pause_reading();
                *keep.borrow_mut() = Some(transport.clone());
            }
            Call::Data(data) => {
                collected.borrow_mut().extend_from_slice(data);
                if collected.borrow().ends_with(b"def") {
                    done.say("def");
                }
            }
            _ => {}
        });
        let server = serve_one(probe).await;
        let port = server.sockets()[0].port().unwrap();
        // It stays silent until its standard input is closed.
        let mut python = Child::python("urgent.py", &[&port.to_string()]);
        let stdin = python.stdin();
        assert_eq!(python.first_line().await, "sent abc!def");
        trace.until("made").await;
        turns(2).await;
        let transport = made.borrow_mut().take().expect("a transport");
        transport.resume_reading();
        all.until("def").await;
        drop(stdin);
        python.output().await;
        // The urgent byte itself is not part of the stream.
        assert_eq!(bytes.borrow().as_slice(), b"abcdef");
    });
}

async fn serve_one(probe: Probe) -> evloop::Server {
    let mut probe = Some(probe);
    let factory = move || probe.take().expect("one connection");
    evloop::create_server(factory, ("127.0.0.1", 0))
        .await
        .unwrap()
}

#[test]
fn an_event_that_says_readable_and_writable_serves_both() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Data(_) = call {
                transport.pause_reading();
            }
        });
        let (transport, peer) = connected(probe).await;
        block(&transport);
        transport.set_write_buffer_limits(0, None).unwrap();
        trace.until("pause").await;
        // The peer makes room and sends, while the loop does nothing else.
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            peer.send(b"abc");
            let mut room = peer.receive(1 << 20).len();
            sender.send(()).unwrap();
            room += peer.receive_all().len();
            room
        });
        receiver.recv().unwrap();
        trace.until("resume").await;
        trace.until("data abc").await;
        transport.close();
        trace.until("lost").await;
        assert!(reader.join().unwrap() > 1 << 20);
        assert_eq!(
            trace
                .lines()
                .iter()
                .filter(|line| line.starts_with("data"))
                .count(),
            1
        );
    });
}

#[test]
fn a_reset_while_bytes_are_pending_ends_the_connection_with_its_cause() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        block(&transport);
        peer.reset();
        trace.until("lost ConnectionReset").await;
        assert_eq!(transport.get_write_buffer_size(), 0);
        assert!(transport.is_closing());
        turns(2).await;
        // An error of the network is nothing to report.
        assert_eq!(trace, ["made", "lost ConnectionReset"]);
    });
}

#[test]
fn a_reset_while_nothing_is_pending_ends_the_connection_with_its_cause() {
    run(async {
        let trace = Trace::default();
        let (_transport, peer) = connected(Probe::new(&trace)).await;
        peer.reset();
        trace.until("lost ConnectionReset").await;
        assert_eq!(trace, ["made", "lost ConnectionReset"]);
    });
}

#[test]
fn a_reset_is_noticed_by_a_write_while_reading_is_paused() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        transport.pause_reading();
        peer.reset();
        turns(2).await;
        while !transport.is_closing() {
            transport.write(b"x");
            turns(1).await;
        }
        turns(2).await;
        let lines = trace.lines();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1] == "lost ConnectionReset" || lines[1] == "lost BrokenPipe",
            "{lines:?}"
        );
    });
}

#[test]
fn a_write_that_fails_shows_when_the_step_ends_or_at_the_next_call_that_sends() {
    for asks in [false, true] {
        run(async move {
            let (transport, peer) = connected(Probe::new(&Trace::default())).await;
            transport.pause_reading();
            peer.reset();
            // From here to the next await is one step.
            transport.write(b"x");
            assert!(!transport.is_closing());
            if asks {
                assert_eq!(transport.get_write_buffer_size(), 0);
            } else {
                turns(1).await;
            }
            assert!(transport.is_closing());
        });
    }
}

#[test]
fn write_eof_after_a_reset_leaves_it_to_the_next_read_to_tell() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        transport.pause_reading();
        peer.reset();
        transport.write_eof().unwrap();
        assert!(!transport.is_closing());
        transport.resume_reading();
        trace.until("lost ConnectionReset").await;
        assert_eq!(trace, ["made", "lost ConnectionReset"]);
    });
}

#[test]
fn writing_to_a_peer_that_has_closed_ends_with_an_error() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace).keeping_open()).await;
        drop(peer);
        trace.until("eof").await;
        // The first is answered by a reset; one of the next ones tells.
        while !transport.is_closing() {
            transport.write(b"x");
            turns(1).await;
        }
        turns(2).await;
        let lines = trace.lines();
        assert_eq!(lines[..2], ["made", "eof"]);
        assert!(
            lines[2] == "lost ConnectionReset" || lines[2] == "lost BrokenPipe",
            "{lines:?}"
        );
    });
}

#[test]
fn a_peer_that_resets_before_it_is_accepted_harms_nobody() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let factory = {
            let trace = trace.clone();
            move || Probe::new(&trace)
        };
        let server = evloop::create_server(factory, ("127.0.0.1", 0))
            .await
            .unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        Peer::connect(address).reset();
        let peer = Peer::connect(address);
        peer.send(b"abc");
        trace.until("data abc").await;
        assert!(trace.lines().iter().all(|line| !line.starts_with("report")));
    });
}

#[test]
fn both_directions_at_once_carry_16_mib_each_way() {
    run(async {
        let (listener, address) = listener();
        let size = 16 << 20;
        let data = pattern(size);
        let mut received = Vec::with_capacity(size);
        let trace = Trace::default();
        let done = trace.clone();
        let expected = data.clone();
        let probe = Probe::new(&trace).doing(move |call, _| {
            if let Call::Data(chunk) = call {
                received.extend_from_slice(chunk);
                if received.len() == size {
                    assert!(received == expected);
                    done.say("all");
                }
            }
        });
        let (transport, _) = connect(probe, address).await;
        let peer = Peer::accept(&listener);
        transport.write(&data);
        let sender = Peer(peer.0.try_clone().unwrap());
        // Nobody ends the connection before we have looked.
        let _open = peer.0.try_clone().unwrap();
        let copy = data.clone();
        let sending = in_thread(move || sender.send(&copy));
        let sending = get_running_loop().unwrap().create_task(sending);
        let came = in_thread(move || peer.receive(size)).await;
        assert!(came == data);
        sending.await.unwrap();
        trace.until("all").await;
        assert!(!trace.lines().iter().any(|line| line.starts_with("lost")));
    });
}
