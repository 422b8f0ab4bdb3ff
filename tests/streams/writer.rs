//! `StreamWriter`: drain, close, wait_closed, and what a dropped half leaves.

use std::cell::Cell;
use std::io::{ErrorKind, Read};
use std::rc::Rc;
use std::time::Duration;

use evloop::{PeerName, SockName, get_running_loop, timeout};

use crate::common::trace::Trace;
use crate::common::{in_thread, pattern, run, turns, within};
use crate::support::{block, connected, incomplete, kind, now};

#[test]
fn drain_returns_at_once_at_or_below_the_high_mark_and_sends_nothing() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let high = writer.transport().get_write_buffer_limits().1;
        writer.write(vec![b'x'; high]);
        now(writer.drain()).await.unwrap().unwrap();
        peer.0.set_nonblocking(true).unwrap();
        let early = (&peer.0).read(&mut [0]).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::WouldBlock);
        peer.0.set_nonblocking(false).unwrap();
        turns(1).await;
        assert_eq!(peer.receive(high).len(), high);
    });
}

#[test]
fn drain_above_the_high_mark_sends_and_returns_if_the_system_takes_it() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        writer.transport().set_write_buffer_limits(0, None).unwrap();
        writer.write(b"hello");
        now(writer.drain()).await.unwrap().unwrap();
        assert_eq!(peer.receive(5), b"hello");
    });
}

#[test]
fn drain_waits_above_the_high_mark_until_the_low_one() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let size = block(&writer);
        assert!(now(writer.drain()).await.is_none());
        let (low, high) = writer.transport().get_write_buffer_limits();
        assert!(size > high);
        let received = in_thread(move || peer.receive_all());
        let received = get_running_loop().unwrap().create_task(received);
        within("room", writer.drain()).await.unwrap();
        assert!(writer.transport().get_write_buffer_size() <= low);
        drop(writer);
        assert!(received.await.unwrap().len() >= size);
    });
}

#[test]
fn several_drains_wait_and_one_that_gives_up_takes_nothing_from_the_others() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let writer = Rc::new(writer);
        block(&writer);
        let trace = Trace::default();
        let handle = get_running_loop().unwrap();
        let drains: Vec<_> = (0..4)
            .map(|_| {
                let (writer, trace) = (Rc::clone(&writer), trace.clone());
                handle.create_task(async move {
                    writer.drain().await.unwrap();
                    trace.say("drained");
                })
            })
            .collect();
        turns(2).await;
        drains[1].cancel();
        turns(2).await;
        assert_eq!(trace, []);
        let received = in_thread(move || peer.receive_all());
        let received = handle.create_task(received);
        trace.until_count("drained", 3).await;
        writer.close();
        writer.wait_closed().await.unwrap();
        assert!(!received.await.unwrap().is_empty());
    });
}

/// The first is woken and has not run yet when the second begins to wait.
#[test]
fn a_drain_that_begins_while_another_is_being_woken_is_woken_too() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let writer = Rc::new(writer);
        let handle = get_running_loop().unwrap();
        let mut written = 0;
        let (low, high) = writer.transport().get_write_buffer_limits();
        while writer.transport().get_write_buffer_size() <= high {
            writer.write(&[b'1'; 64 * 1024]);
            written += 64 * 1024;
        }
        let waiting = Rc::clone(&writer);
        let first = handle.create_task(async move { waiting.drain().await });
        turns(2).await;
        // This one is in the queue in every turn, so it comes before one that is woken.
        let filling = Rc::clone(&writer);
        let second = handle.create_task(async move {
            while filling.transport().get_write_buffer_size() > low {
                turns(1).await;
            }
            block(&filling);
            filling.drain().await
        });
        // Room for what was written first, and for no more.
        let peer = in_thread(move || {
            peer.receive(written);
            peer
        })
        .await;
        turns(2).await;
        let received = handle.create_task(in_thread(move || peer.receive_all()));
        within("the first", first).await.unwrap().unwrap();
        within("the second", second).await.unwrap().unwrap();
        drop(writer);
        received.await.unwrap();
    });
}

#[test]
fn a_reset_ends_every_drain_now_and_later_and_every_wait_closed_with_its_cause() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        let writer = Rc::new(writer);
        block(&writer);
        let handle = get_running_loop().unwrap();
        let drains: Vec<_> = (0..3)
            .map(|_| {
                let writer = Rc::clone(&writer);
                handle.create_task(async move { writer.drain().await })
            })
            .collect();
        turns(2).await;
        peer.reset();
        for drain in drains {
            let error = within("the reset", drain).await.unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        }
        for _ in 0..3 {
            let outcomes = [writer.drain().await, writer.wait_closed().await];
            for outcome in outcomes {
                assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
            }
            assert_eq!(kind(reader.read(1).await), ErrorKind::ConnectionReset);
        }
        assert!(writer.is_closing());
        // A write is ignored and harms nobody.
        writer.write(b"too late");
        writer.write_eof().unwrap();
        writer.close();
        assert_eq!(kind(writer.drain().await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_abort_is_reported_to_the_drain_that_waits_and_to_later_ones() {
    run(async {
        let (mut reader, writer, _peer) = connected().await;
        let writer = Rc::new(writer);
        block(&writer);
        let waiting = Rc::clone(&writer);
        let handle = get_running_loop().unwrap();
        let drain = handle.create_task(async move { waiting.drain().await });
        turns(2).await;
        writer.transport().abort();
        let outcome = within("the abort", drain).await.unwrap();
        assert_eq!(kind(outcome), ErrorKind::ConnectionAborted);
        assert_eq!(kind(writer.drain().await), ErrorKind::ConnectionAborted);
        // It was ours, so it is a good end for those who wait for the end.
        writer.wait_closed().await.unwrap();
        assert_eq!(reader.read(1).await.unwrap(), b"");
    });
}

#[test]
fn after_a_close_of_ours_drain_says_that_the_connection_is_lost() {
    run(async {
        let (_reader, writer, _peer) = connected().await;
        writer.close();
        for _ in 0..2 {
            let error = writer.drain().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert_eq!(error.to_string(), "Connection lost");
        }
        writer.wait_closed().await.unwrap();
        assert_eq!(
            writer.drain().await.unwrap_err().to_string(),
            "Connection lost"
        );
    });
}

/// How fast the peer reads must not decide.
#[test]
fn a_drain_that_waits_while_close_sends_everything_ends_well() {
    for low in [0, 16 * 1024] {
        run(async move {
            let (_reader, writer, peer) = connected().await;
            let writer = Rc::new(writer);
            writer
                .transport()
                .set_write_buffer_limits(64 * 1024, low)
                .unwrap();
            block(&writer);
            let waiting = Rc::clone(&writer);
            let handle = get_running_loop().unwrap();
            let drain = handle.create_task(async move { waiting.drain().await });
            turns(2).await;
            writer.close();
            turns(2).await;
            assert!(!drain.done());
            let received = in_thread(move || peer.receive_all());
            let received = handle.create_task(received);
            within("the flush", drain).await.unwrap().unwrap();
            writer.wait_closed().await.unwrap();
            assert!(received.await.unwrap().ends_with(b"-"));
        });
    }
}

#[test]
fn an_exception_that_was_set_by_hand_is_reported_by_drain_too() {
    run(async {
        let (reader, writer, _peer) = connected().await;
        reader.set_exception(std::io::Error::from(ErrorKind::InvalidData));
        assert_eq!(kind(writer.drain().await), ErrorKind::InvalidData);
    });
}

#[test]
fn wait_closed_is_a_latch_for_any_number_of_waiters() {
    run(async {
        let (_reader, writer, _peer) = connected().await;
        let writer = Rc::new(writer);
        let trace = Trace::default();
        let handle = get_running_loop().unwrap();
        for _ in 0..3 {
            let (writer, trace) = (Rc::clone(&writer), trace.clone());
            drop(handle.create_task(async move {
                writer.wait_closed().await.unwrap();
                trace.say("closed");
            }));
        }
        // One that gave up has not poisoned it for the others.
        let late = timeout(Duration::from_millis(1), writer.wait_closed()).await;
        assert!(late.is_err());
        assert_eq!(trace, []);
        writer.close();
        trace.until_count("closed", 3).await;
        for _ in 0..3 {
            now(writer.wait_closed()).await.unwrap().unwrap();
        }
    });
}

#[test]
fn what_was_written_before_close_arrives_whole() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let data = pattern(8 << 20);
        writer.write(&data);
        writer.close();
        assert!(writer.is_closing());
        let received = in_thread(move || peer.receive_all()).await;
        assert!(received == data);
        writer.wait_closed().await.unwrap();
    });
}

#[test]
fn close_gives_reads_the_end_also_those_that_wait() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        peer.send(b"kept");
        assert_eq!(reader.readexactly(2).await.unwrap(), b"ke");
        get_running_loop().unwrap().call_soon({
            let transport = writer.transport().clone();
            move || transport.close()
        });
        let ended = incomplete(reader.readexactly(5).await);
        assert_eq!(ended, (b"pt".to_vec(), Some(5)));
        assert_eq!(incomplete(reader.readexactly(5).await), (vec![], Some(5)));
        assert!(reader.at_eof());
    });
}

#[test]
fn after_the_peer_s_end_reads_end_and_writes_still_arrive() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        peer.send(b"bye");
        peer.finish();
        assert_eq!(reader.read_to_end(None).await.unwrap(), b"bye");
        assert!(!writer.is_closing());
        writer.write(b"still ");
        writer.drain().await.unwrap();
        writer.writelines([&b"here"[..], b"!"]);
        writer.close();
        writer.wait_closed().await.unwrap();
        assert_eq!(peer.receive_all(), b"still here!");
    });
}

#[test]
fn write_eof_ends_writing_only() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        assert!(writer.can_write_eof());
        writer.write(b"question");
        writer.write_eof().unwrap();
        writer.write_eof().unwrap();
        assert!(!writer.is_closing());
        assert_eq!(
            in_thread(move || {
                let question = peer.receive_all();
                peer.send(b"answer");
                question
            })
            .await,
            b"question"
        );
        assert_eq!(reader.read_to_end(None).await.unwrap(), b"answer");
    });
}

#[test]
#[should_panic(expected = "Cannot call write() after write_eof()")]
fn write_after_write_eof_panics_with_the_sentence() {
    run(async {
        let (_reader, writer, _peer) = connected().await;
        writer.write_eof().unwrap();
        writer.write(b"x");
    });
}

#[test]
fn a_dropped_writer_sends_what_was_written_and_closes() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        let data = pattern(8 << 20);
        writer.write(&data);
        drop(writer);
        let received = in_thread(move || peer.receive_all()).await;
        assert!(received == data);
        assert_eq!(within("the end", reader.read(1)).await.unwrap(), b"");
    });
}

#[test]
fn a_shared_writer_closes_when_its_last_owner_is_gone() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let writer = Rc::new(writer);
        let handle = get_running_loop().unwrap();
        let tasks: Vec<_> = (0..10)
            .map(|i| {
                let writer = Rc::clone(&writer);
                handle.create_task(async move {
                    for _ in 0..10 {
                        writer.write(format!("{i}\n").as_bytes());
                        writer.drain().await.unwrap();
                        turns(1).await;
                    }
                })
            })
            .collect();
        drop(writer);
        let received = in_thread(move || peer.receive_all()).await;
        for task in tasks {
            task.await.unwrap();
        }
        let text = String::from_utf8(received).unwrap();
        for i in 0..10 {
            assert_eq!(
                text.lines().filter(|line| *line == i.to_string()).count(),
                10
            );
        }
        assert_eq!(text.len(), 200);
    });
}

#[test]
fn a_dropped_reader_discards_what_comes_and_the_end_is_still_seen() {
    run(async {
        let (reader, writer, peer) = connected().await;
        let sent = peer.fill();
        assert!(sent > 256 * 1024);
        // It has paused the transport by now, and would never see the end.
        within("a full buffer", async {
            while writer.transport().is_reading() {
                turns(1).await;
            }
        })
        .await;
        drop(reader);
        peer.reset();
        let outcome = within("the end", writer.wait_closed()).await;
        assert_eq!(kind(outcome), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_dropped_reader_does_not_hold_the_peer_up() {
    run(async {
        let (reader, writer, peer) = connected().await;
        drop(reader);
        // More than all buffers on the way take.
        in_thread(move || {
            peer.send(&vec![0; 32 << 20]);
            peer.finish();
        })
        .await;
        writer.write(b"still writing");
        writer.close();
        // The peer is gone by then, or is not.
        let _ = writer.wait_closed().await;
    });
}

#[test]
fn a_loop_of_writes_and_drains_to_a_closed_peer_ends_and_starves_nobody() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let ticks = Rc::new(Cell::new(0));
        let ticking = Rc::clone(&ticks);
        let handle = get_running_loop().unwrap();
        let ticker = handle.create_task(async move {
            loop {
                ticking.set(ticking.get() + 1);
                turns(1).await;
            }
        });
        drop(peer);
        let mut rounds = 0;
        let error = loop {
            writer.write(b"x");
            if let Err(error) = writer.drain().await {
                break error;
            }
            rounds += 1;
        };
        assert!(
            matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ),
            "{error}"
        );
        // A step gives way after 128 awaits that had nothing to wait for.
        assert!(
            ticks.get() >= rounds / 128,
            "{rounds} rounds, {} turns",
            ticks.get()
        );
        assert_eq!(kind(writer.drain().await), error.kind());
        assert_eq!(kind(writer.wait_closed().await), error.kind());
        ticker.cancel();
    });
}

#[test]
fn extra_info_is_the_transport_s() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let peer_name = writer.get_extra_info(PeerName).unwrap();
        assert_eq!(peer_name.as_inet(), Some(peer.0.local_addr().unwrap()));
        let sock_name = writer.get_extra_info(SockName).unwrap();
        assert_eq!(sock_name.as_inet(), Some(peer.0.peer_addr().unwrap()));
        writer.close();
        writer.wait_closed().await.unwrap();
        assert_eq!(writer.get_extra_info(PeerName), Some(peer_name));
        assert_eq!(writer.get_extra_info(SockName), Some(sock_name));
    });
}
