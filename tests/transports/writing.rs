//! Writing: when bytes leave, and what a protocol is told about flow.

use std::cell::Cell;
use std::io::{ErrorKind, Read};
use std::rc::Rc;

use evloop::{EventLoop, Transport, get_running_loop};

use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, pattern, run, turns};
use crate::probe::{Call, Probe, block, connect, connected};

/// What the peer can receive without waiting.
fn there(peer: &Peer) -> Vec<u8> {
    peer.0.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let outcome = (&peer.0).read(&mut buffer);
    peer.0.set_nonblocking(false).unwrap();
    match outcome {
        Ok(n) => buffer.truncate(n),
        Err(error) if error.kind() == ErrorKind::WouldBlock => buffer.clear(),
        Err(error) => panic!("{error}"),
    }
    buffer
}

#[test]
fn the_writes_of_a_step_wait_for_its_end_and_leave_in_order() {
    run(async {
        let (transport, peer) = connected(Probe::new(&Trace::default())).await;
        transport.write(b"one ");
        transport.writelines(["two ", "", "three "]);
        transport.write(b"");
        transport.write(b"four");
        assert_eq!(there(&peer), b"");
        turns(1).await;
        assert_eq!(peer.receive(18), b"one two three four");
        assert_eq!(there(&peer), b"");
    });
}

#[test]
fn whoever_asks_where_the_bytes_are_sends_them_first() {
    type Ask = fn(&Transport);
    let ask: [(&str, Ask); 5] = [
        ("get_write_buffer_size", |transport| {
            assert_eq!(transport.get_write_buffer_size(), 0);
        }),
        ("set_write_buffer_limits", |transport| {
            transport.set_write_buffer_limits(None, None).unwrap();
        }),
        ("write_eof", |transport| transport.write_eof().unwrap()),
        ("close", Transport::close),
        ("abort", Transport::abort),
    ];
    for (name, ask) in ask {
        run(async move {
            let (transport, peer) = connected(Probe::new(&Trace::default())).await;
            transport.write(b"hello");
            ask(&transport);
            assert_eq!(peer.receive(5), b"hello", "{name}");
        });
    }
}

#[test]
fn vectors_that_are_given_away_keep_their_place_whatever_the_state() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let mut expected = Vec::new();
        let mut write = |transport: &Transport, byte: u8, size: usize| {
            expected.extend(vec![byte; size]);
            transport.write(vec![byte; size]);
        };
        for size in [1, 511, 512, 513, 70_000, 300_000] {
            write(&transport, b'a', size);
        }
        // Behind a backlog, then with a close that has to wait.
        let waiting = block(&transport);
        for size in [511, 512, 70_000] {
            write(&transport, b'b', size);
        }
        assert_eq!(
            transport.get_write_buffer_size(),
            waiting + 511 + 512 + 70_000
        );
        transport.close();
        transport.write(vec![b'c'; 600]);
        let received = in_thread(move || peer.receive_all()).await;
        let kept: Vec<u8> = received
            .iter()
            .copied()
            .filter(|byte| *byte != b'-')
            .collect();
        expected.extend([b'c'; 600]);
        assert!(kept == expected);
        // On a connection that is lost they are gone.
        trace.until("lost").await;
        transport.write(vec![b'd'; 600]);
        assert_eq!(transport.get_write_buffer_size(), 0);
    });
}

#[test]
fn a_write_of_more_than_64_kib_leaves_at_once() {
    run(async {
        let (transport, peer) = connected(Probe::new(&Trace::default())).await;
        let data = pattern(64 * 1024 + 1);
        transport.write(&data);
        assert_eq!(peer.receive(data.len()), data);
        // In small pieces as well.
        for piece in data.chunks(1000) {
            transport.write(piece);
        }
        assert_eq!(peer.receive(64 * 1024), data[..64 * 1024]);
        turns(1).await;
        assert_eq!(peer.receive(1), data[64 * 1024..]);
    });
}

#[test]
fn what_a_callback_wrote_leaves_before_the_next_handle_runs() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let peer = Rc::new(peer);
        let handle = get_running_loop().unwrap();
        handle.call_soon(move || transport.write(b"hello"));
        let (reader, said) = (Rc::clone(&peer), trace.clone());
        handle.call_soon(move || {
            let received = reader.receive(5);
            said.say(String::from_utf8(received).unwrap());
        });
        trace.until("hello").await;
    });
}

#[test]
fn a_write_while_no_loop_runs_is_sent_at_once() {
    let (listener, address) = listener();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let (transport, _) = event_loop.run_until_complete(connect(Probe::new(&trace), address));
    let peer = Peer::accept(&listener);
    transport.write(b"between ");
    assert_eq!(peer.receive(8), b"between ");
    transport.writelines(["two ", "runs"]);
    assert_eq!(peer.receive(8), b"two runs");
    // Its callbacks wait for the next run.
    block(&transport);
    transport.set_write_buffer_limits(0, None).unwrap();
    transport.close();
    transport.abort();
    assert_eq!(trace, ["made"]);
    event_loop.run_until_complete(trace.until("lost"));
}

#[test]
fn pause_writing_between_two_runs_is_told_in_the_next() {
    let (_listener, address) = listener();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let (transport, _) = event_loop.run_until_complete(connect(Probe::new(&trace), address));
    transport.write(vec![0; 64 << 20]);
    assert!(transport.get_write_buffer_size() > 64 * 1024);
    assert_eq!(trace, ["made"]);
    event_loop.run_until_complete(trace.until("pause"));
    assert_eq!(trace, ["made", "pause"]);
}

#[test]
fn every_byte_of_a_large_write_arrives_in_order() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let data = pattern(16 << 20);
        for chunk in data.chunks(1 << 20) {
            transport.write(chunk);
        }
        transport.close();
        let received = in_thread(move || peer.receive_all()).await;
        assert!(received == data);
        trace.until("lost").await;
    });
}

#[test]
fn the_default_marks_are_16_and_64_kib_and_are_told_low_first() {
    run(async {
        let (transport, _peer) = connected(Probe::new(&Trace::default())).await;
        assert_eq!(transport.get_write_buffer_limits(), (16 * 1024, 64 * 1024));
        let cases = [
            ((Some(100), None), (25, 100)),
            ((None, Some(100)), (100, 400)),
            ((Some(0), None), (0, 0)),
            ((Some(9), Some(9)), (9, 9)),
            ((None, None), (16 * 1024, 64 * 1024)),
        ];
        for ((high, low), expected) in cases {
            transport.set_write_buffer_limits(high, low).unwrap();
            assert_eq!(transport.get_write_buffer_limits(), expected);
        }
        let error = transport.set_write_buffer_limits(1, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "high (1) must be >= low (2)");
        assert_eq!(transport.get_write_buffer_limits(), (16 * 1024, 64 * 1024));
    });
}

#[test]
fn as_many_bytes_as_the_high_mark_do_not_pause_and_one_more_does() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let size = block(&transport);
        // No event is served inside a step, so the size stands still.
        transport.set_write_buffer_limits(size + 100, size).unwrap();
        transport.write(&[0; 100]);
        assert_eq!(transport.get_write_buffer_size(), size + 100);
        // Neither inside this callback nor when it ends.
        let probe = trace.clone();
        let at_the_mark = Rc::new(Cell::new(false));
        let seen = Rc::clone(&at_the_mark);
        let step = transport.clone();
        get_running_loop().unwrap().call_soon(move || {
            if step.get_write_buffer_size() == size + 100 {
                seen.set(true);
                assert_eq!(probe, ["made"]);
                step.write(&[0]);
                assert_eq!(probe, ["made"], "not inside write");
            }
        });
        turns(1).await;
        assert!(at_the_mark.get(), "the peer reads nothing");
        assert_eq!(trace, ["made", "pause"]);
        drop(peer);
    });
}

#[test]
fn pause_writing_comes_after_the_step_and_before_any_other_handle() {
    run(async {
        let trace = Trace::default();
        let (transport, _peer) = connected(Probe::new(&trace)).await;
        let handle = get_running_loop().unwrap();
        let said = trace.clone();
        handle.call_soon(move || {
            transport.write(vec![0; 64 << 20]);
            said.say("written");
        });
        let said = trace.clone();
        handle.call_soon(move || said.say("next"));
        trace.until("next").await;
        assert_eq!(trace, ["made", "written", "pause", "next"]);
    });
}

#[test]
fn pause_and_resume_alternate_and_resume_comes_at_the_low_mark() {
    run(async {
        let trace = Trace::default();
        let sizes = Rc::new(Cell::new(usize::MAX));
        let at_resume = Rc::clone(&sizes);
        let probe = Probe::new(&trace).doing(move |call, transport| {
            if let Call::Resume = call {
                at_resume.set(transport.get_write_buffer_size());
            }
        });
        let (transport, peer) = connected(probe).await;
        transport.set_write_buffer_limits(200_000, 50_000).unwrap();
        let drain = in_thread(move || peer.receive_all());
        let drain = get_running_loop().unwrap().create_task(drain);
        let data = pattern(24 << 20);
        for round in 1..=3 {
            for chunk in data.chunks(8 << 20) {
                transport.write(chunk);
            }
            trace.until_count("resume", round).await;
            assert!(sizes.replace(usize::MAX) <= 50_000);
        }
        transport.close();
        assert_eq!(drain.await.unwrap().len(), 3 * data.len());
        trace.until("lost").await;
        let lines = trace.lines();
        let flow: Vec<_> = lines[1..lines.len() - 1].chunks(2).collect();
        assert!(
            flow.iter().all(|pair| pair == &["pause", "resume"]),
            "{lines:?}"
        );
    });
}

#[test]
fn with_a_high_mark_of_zero_anything_that_waits_pauses() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        transport.set_write_buffer_limits(0, None).unwrap();
        transport.write(b"taken at once");
        turns(2).await;
        assert_eq!(trace, ["made"]);
        block(&transport);
        transport.set_write_buffer_limits(0, None).unwrap();
        trace.until("pause").await;
        let peer = in_thread(move || peer.receive_all());
        let peer = get_running_loop().unwrap().create_task(peer);
        trace.until("resume").await;
        assert_eq!(transport.get_write_buffer_size(), 0);
        transport.close();
        assert!(peer.await.unwrap().ends_with(b"-"));
    });
}

#[test]
fn moved_limits_are_told_from_the_queue_in_both_directions() {
    run(async {
        let trace = Trace::default();
        let (transport, _peer) = connected(Probe::new(&trace)).await;
        let size = block(&transport);
        let handle = get_running_loop().unwrap();
        let (step, said) = (transport.clone(), trace.clone());
        handle.call_soon(move || {
            step.set_write_buffer_limits(size - 1, 0).unwrap();
            said.say("lowered");
        });
        let said = trace.clone();
        handle.call_soon(move || said.say("next"));
        trace.until("pause").await;
        assert_eq!(trace, ["made", "lowered", "next", "pause"]);
        let (step, said) = (transport.clone(), trace.clone());
        handle.call_soon(move || {
            step.set_write_buffer_limits(4 * size, size).unwrap();
            said.say("raised");
        });
        trace.until("resume").await;
        assert_eq!(
            trace,
            ["made", "lowered", "next", "pause", "raised", "resume"]
        );
    });
}

#[test]
fn limits_moved_there_and_back_in_one_step_are_told_as_a_pause_and_its_resume() {
    run(async {
        let trace = Trace::default();
        let (transport, _peer) = connected(Probe::new(&trace)).await;
        let size = block(&transport);
        transport.set_write_buffer_limits(size - 1, 0).unwrap();
        transport.set_write_buffer_limits(4 * size, size).unwrap();
        turns(3).await;
        assert_eq!(trace, ["made", "pause", "resume"]);
    });
}

#[test]
fn resume_writing_may_write_and_close() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Resume = call {
                transport.write(b"more");
                transport.close();
            }
        });
        let (transport, peer) = connected(probe).await;
        block(&transport);
        transport.set_write_buffer_limits(0, None).unwrap();
        let received = in_thread(move || peer.receive_all()).await;
        assert!(received.ends_with(b"-more"));
        trace.until("lost").await;
        assert_eq!(trace, ["made", "pause", "resume", "lost"]);
    });
}

#[test]
fn neither_pause_nor_resume_comes_after_a_loss_is_queued() {
    run(async {
        let trace = Trace::default();
        let (transport, _peer) = connected(Probe::new(&trace)).await;
        let size = block(&transport);
        transport.set_write_buffer_limits(size - 1, 0).unwrap();
        transport.abort();
        trace.until("lost").await;
        turns(2).await;
        assert_eq!(trace, ["made", "lost"]);
    });
}

#[test]
fn an_iterator_that_writes_itself_does_not_confuse_writelines() {
    run(async {
        let (transport, peer) = connected(Probe::new(&Trace::default())).await;
        transport.writelines(["a", "b"].iter().inspect(|_| transport.write(b".")));
        turns(1).await;
        assert_eq!(peer.receive(4), b"..ab");
    });
}

#[test]
fn writelines_above_the_high_mark_pauses_as_write_does() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let line = vec![b'x'; 1 << 20];
        let line = line.as_slice();
        // More than the system takes.
        transport.writelines([line; 64]);
        trace.until("pause").await;
        let received = in_thread(move || peer.receive_all());
        let received = get_running_loop().unwrap().create_task(received);
        trace.until("resume").await;
        transport.close();
        assert_eq!(received.await.unwrap().len(), 64 << 20);
        trace.until("lost").await;
        assert_eq!(trace, ["made", "pause", "resume", "lost"]);
    });
}
