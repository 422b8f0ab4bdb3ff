//! `close`, `abort` and `write_eof`, in every state.

use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use evloop::{CloseReason, ClosedBecause, PeerName, SockName, Transport};

use crate::common::own_process;
use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, run, turns};
use crate::probe::{Call, Probe, block, connect, connected};

fn write_eof(transport: &Transport) {
    transport.write_eof().unwrap();
}

fn name_of(call: &Call<'_>) -> &'static str {
    match call {
        Call::Made => "made",
        Call::Data(_) => "data abc",
        Call::Eof => "eof",
        Call::Lost(_) => "lost",
        Call::Pause => "pause",
        Call::Resume => "resume",
    }
}

/// A life in which every callback has its turn, unless `action`, done inside the callback named
/// `at`, ends it. Gives the trace, and whether the peer got all that was accepted.
fn life(at: &'static str, action: fn(&Transport)) -> (Trace, bool) {
    run(async move {
        let trace = Trace::default();
        let probe = Probe::new(&trace)
            .keeping_open()
            .doing(move |call, transport| {
                if name_of(call) == at {
                    action(transport);
                }
            });
        let (listener, address) = listener();
        let (transport, _) = connect(probe, address).await;
        let peer = Peer::accept(&listener);
        peer.send(b"abc");
        if !transport.is_closing() {
            trace.until("data abc").await;
        }
        let mut accepted = 0;
        if !transport.is_closing() && transport.try_write(b"").is_ok() {
            transport.set_write_buffer_limits(1 << 40, None).unwrap();
            while transport.get_write_buffer_size() == 0 {
                transport.write(&[b'-'; 64 * 1024]);
                accepted += 64 * 1024;
            }
            transport.set_write_buffer_limits(0, None).unwrap();
            trace.until("pause").await;
        }
        let paused = trace.has("pause");
        let mut other_end = Peer(peer.0.try_clone().unwrap());
        let received = in_thread(move || {
            // Ends with an error where the abort made it a reset.
            std::io::copy(&mut other_end.0, &mut std::io::sink())
        });
        let received = evloop::get_running_loop().unwrap().create_task(received);
        if paused && !transport.is_closing() {
            trace.until("resume").await;
        }
        if !transport.is_closing() {
            peer.finish();
            trace.until("eof").await;
            transport.close();
        }
        trace.until("lost").await;
        // Nothing comes after it.
        turns(3).await;
        let received = received.await.unwrap();
        (trace, received.is_ok_and(|n| n == accepted))
    })
}

#[test]
fn close_inside_each_callback_sends_everything_and_ends_it_once() {
    let table: [(&str, &[&str]); 6] = [
        ("made", &["made", "lost"]),
        ("data abc", &["made", "data abc", "lost"]),
        ("pause", &["made", "data abc", "pause", "resume", "lost"]),
        ("resume", &["made", "data abc", "pause", "resume", "lost"]),
        (
            "eof",
            &["made", "data abc", "pause", "resume", "eof", "lost"],
        ),
        (
            "lost",
            &["made", "data abc", "pause", "resume", "eof", "lost"],
        ),
    ];
    for (at, expected) in table {
        let (trace, complete) = life(at, Transport::close);
        assert_eq!(trace.lines(), expected, "close inside {at}");
        // One that never read what the peer had sent resets the connection.
        assert!(complete || at == "made", "close inside {at}");
    }
}

#[test]
fn abort_inside_each_callback_ends_it_once() {
    let table: [(&str, &[&str]); 6] = [
        ("made", &["made", "lost"]),
        ("data abc", &["made", "data abc", "lost"]),
        ("pause", &["made", "data abc", "pause", "lost"]),
        ("resume", &["made", "data abc", "pause", "resume", "lost"]),
        (
            "eof",
            &["made", "data abc", "pause", "resume", "eof", "lost"],
        ),
        (
            "lost",
            &["made", "data abc", "pause", "resume", "eof", "lost"],
        ),
    ];
    for (at, expected) in table {
        let (trace, complete) = life(at, Transport::abort);
        assert_eq!(trace.lines(), expected, "abort inside {at}");
        assert!(!(complete && at == "pause"), "what was unsent is dropped");
    }
}

#[test]
fn write_eof_inside_each_callback_ends_writing_only() {
    let short: &[&str] = &["made", "data abc", "eof", "lost"];
    let whole: &[&str] = &["made", "data abc", "pause", "resume", "eof", "lost"];
    let table = [
        ("made", short),
        ("data abc", short),
        ("pause", whole),
        ("resume", whole),
        ("eof", whole),
        ("lost", whole),
    ];
    for (at, expected) in table {
        let (trace, complete) = life(at, write_eof);
        assert_eq!(trace.lines(), expected, "write_eof inside {at}");
        assert!(complete, "write_eof inside {at}");
    }
}

#[test]
fn each_pair_of_endings_delivers_connection_lost_once() {
    type Ending = (fn(&Transport), Option<CloseReason>);
    let endings: [Ending; 3] = [
        (Transport::close, Some(CloseReason::Closed)),
        (Transport::abort, Some(CloseReason::Aborted)),
        // No end by itself: what comes next is.
        (write_eof, None),
    ];
    for (first, reason) in endings {
        for (second, next) in endings {
            let reason = reason.or(next).unwrap_or(CloseReason::PeerEof);
            run(async {
                let trace = Trace::default();
                let (transport, peer) = connected(Probe::new(&trace)).await;
                first(&transport);
                second(&transport);
                peer.finish();
                trace.until("lost").await;
                turns(3).await;
                second(&transport);
                first(&transport);
                turns(3).await;
                assert_eq!(trace.count("lost"), 1, "{trace:?}");
                assert_eq!(trace.lines().last().unwrap(), "lost");
                assert_eq!(peer.receive_all(), b"");
                assert_eq!(transport.get_extra_info(ClosedBecause), Some(reason));
            });
        }
    }
}

#[test]
fn an_abort_of_a_connection_that_has_broken_leaves_it_its_cause() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        peer.reset();
        // Sent at once, and no turn passes: its end is known, and not yet told.
        while !transport.is_closing() {
            transport.write(&[b'-'; 128 * 1024]);
        }
        transport.abort();
        trace.until("lost ConnectionReset").await;
        turns(3).await;
        assert_eq!(trace, ["made", "lost ConnectionReset"]);
        let reason = transport.get_extra_info(ClosedBecause);
        assert_eq!(reason, Some(CloseReason::Reset));
    });
}

#[test]
fn close_waits_for_pending_bytes_and_abort_does_not() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        block(&transport);
        transport.close();
        turns(3).await;
        assert!(transport.is_closing());
        assert_eq!(trace, ["made"]);
        assert!(transport.get_write_buffer_size() > 0);
        transport.abort();
        assert_eq!(transport.get_write_buffer_size(), 0);
        trace.until("lost").await;
        assert_eq!(trace, ["made", "lost"]);
        drop(peer);
    });
}

#[test]
fn close_with_pending_bytes_receives_no_more() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        block(&transport);
        transport.close();
        assert!(!transport.is_reading());
        peer.send(b"too late");
        peer.finish();
        turns(3).await;
        assert_eq!(trace, ["made"]);
        let reader = in_thread(move || peer.receive_all_or_error().map_err(|error| error.kind()));
        drop(reader.await);
        trace.until("lost").await;
        assert_eq!(trace, ["made", "lost"]);
    });
}

#[test]
fn write_after_close_with_pending_bytes_is_delivered() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        block(&transport);
        transport.close();
        transport.write(b"tail");
        transport.writelines([b"1", b"2"]);
        let received = in_thread(move || peer.receive_all()).await;
        assert!(received.ends_with(b"-tail12"));
        trace.until("lost").await;
    });
}

#[test]
fn write_after_close_without_pending_bytes_is_ignored() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        transport.write(b"in time");
        transport.close();
        for _ in 0..7 {
            transport.write(b"too late");
        }
        transport.writelines(["too", "late"]);
        transport.try_write(b"too late").unwrap();
        assert_eq!(transport.get_write_buffer_size(), 0);
        trace.until("lost").await;
        transport.write(b"far too late");
        assert_eq!(peer.receive_all(), b"in time");
        assert_eq!(trace, ["made", "lost"]);
    });
}

/// As in asyncio: a loop of writes to nobody shows in the log, one write too many does not.
#[test]
fn the_fifth_write_to_a_lost_connection_and_later_ones_are_logged() {
    struct Log;

    static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

    impl log::Log for Log {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            WARNINGS.lock().unwrap().push(record.args().to_string());
        }

        fn flush(&self) {}
    }

    // The logger belongs to the process.
    let name = "closing::the_fifth_write_to_a_lost_connection_and_later_ones_are_logged";
    if !own_process::enter(name) {
        return;
    }
    log::set_logger(&Log).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    run(async {
        let trace = Trace::default();
        let (transport, _peer) = connected(Probe::new(&trace)).await;
        transport.close();
        for _ in 0..7 {
            transport.write(b"too late");
        }
        let ignored = |n| format!("a write to a lost connection was ignored, the {n}th");
        assert_eq!(*WARNINGS.lock().unwrap(), [5, 6, 7].map(ignored));
    });
}

#[test]
fn a_write_inside_connection_lost_is_ignored() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Lost(_) = call {
                transport.write(b"too late");
                assert_eq!(transport.get_write_buffer_size(), 0);
            }
        });
        let (transport, peer) = connected(probe).await;
        trace.catch_reports();
        transport.close();
        trace.until("lost").await;
        assert_eq!(peer.receive_all(), b"");
        assert_eq!(trace, ["made", "lost"]);
    });
}

#[test]
fn write_eof_with_pending_bytes_sends_them_first_and_reading_goes_on() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        assert!(transport.can_write_eof());
        block(&transport);
        transport.write(b"the end");
        transport.write_eof().unwrap();
        transport.write_eof().unwrap();
        assert!(!transport.is_closing());
        let (peer, received) = in_thread(move || {
            let received = peer.receive_all();
            (peer, received)
        })
        .await;
        assert!(received.ends_with(b"-the end"));
        peer.send(b"an answer");
        trace.until("data an answer").await;
        transport.close();
        trace.until("lost").await;
        assert_eq!(trace, ["made", "data an answer", "lost"]);
    });
}

#[test]
fn write_after_write_eof_panics_with_the_sentence_and_try_write_is_an_error() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        transport.write(b"before");
        transport.write_eof().unwrap();
        let sentence = |call: &dyn Fn()| {
            let payload = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
            *payload.downcast::<String>().unwrap()
        };
        let write = "Cannot call write() after write_eof()";
        assert_eq!(sentence(&|| transport.write(b"x")), write);
        assert_eq!(sentence(&|| transport.write(b"")), write);
        let lines: &dyn Fn() = &|| transport.writelines(["x"]);
        assert_eq!(
            sentence(lines),
            "Cannot call writelines() after write_eof()"
        );
        let error = transport.try_write(b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        assert_eq!(error.to_string(), write);
        assert_eq!(peer.receive_all(), b"before");
        // It harms nobody: the connection goes on.
        peer.send(b"hello");
        trace.until("data hello").await;
    });
}

#[test]
fn close_inside_data_received_delivers_nothing_more() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Data(_) = call {
                transport.write(b"answer");
                transport.close();
            }
        });
        let (_, peer) = connected(probe).await;
        peer.send(b"one");
        trace.until("lost").await;
        assert_eq!(peer.receive_all(), b"answer");
        assert_eq!(trace, ["made", "data one", "lost"]);
    });
}

#[test]
fn a_transport_kept_after_the_loss_is_a_husk_that_answers_and_ignores() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let local = peer.0.peer_addr().unwrap();
        transport.abort();
        trace.until("lost").await;
        assert!(transport.is_closing());
        assert!(!transport.is_reading());
        transport.write(b"ignored");
        transport.write_eof().unwrap();
        transport.pause_reading();
        transport.resume_reading();
        transport.close();
        transport.abort();
        transport.set_write_buffer_limits(7, 3).unwrap();
        assert_eq!(transport.get_write_buffer_limits(), (3, 7));
        assert_eq!(transport.get_write_buffer_size(), 0);
        assert!(transport.get_protocol().is_none());
        let peer_name = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(peer_name.as_inet(), Some(peer.0.local_addr().unwrap()));
        // Nobody asked while it was open, so it is not known.
        assert!(
            transport
                .get_extra_info(SockName)
                .is_none_or(|name| name.as_inet() == Some(local))
        );
        assert!(format!("{transport:?}").contains("closing: true"));
        turns(2).await;
        assert_eq!(trace, ["made", "lost"]);
    });
}

#[test]
fn the_loss_closes_the_descriptor_though_the_transport_is_kept() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        transport.close();
        trace.until("lost").await;
        turns(1).await;
        // The end comes when the last descriptor is closed, and the peer sends into nothing then.
        assert_eq!(peer.receive_all(), b"");
        let refused = in_thread(move || {
            loop {
                if let Err(error) = std::io::Write::write(&mut &peer.0, b"x") {
                    return error.kind();
                }
            }
        });
        let kind = refused.await;
        assert!(
            matches!(
                kind,
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset
            ),
            "{kind:?}"
        );
        assert!(transport.is_closing());
    });
}

#[test]
fn the_end_of_the_loop_sends_what_was_written_once_more() {
    let (listener, address) = listener();
    let mut event_loop = evloop::EventLoop::new().unwrap();
    let trace = Trace::default();
    let (transport, _) = event_loop.run_until_complete(connect(Probe::new(&trace), address));
    let peer = Peer::accept(&listener);
    event_loop.run_until_complete(async { transport.write(b"last words") });
    event_loop.close();
    assert_eq!(peer.receive_all(), b"last words");
    assert_eq!(trace, ["made"]);
    // The handle that is left is good for nothing, and does no harm.
    transport.write(b"x");
    transport.close();
    let _ = peer.0.shutdown(Shutdown::Both);
}
