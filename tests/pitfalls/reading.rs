//! Reading: limits, ends, resets, pauses, timeouts.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use evloop::{get_running_loop, open_connection, timeout};

use crate::common::own_process::{self, resident_kib};
use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, pattern, run, turns, within};
use crate::probe::{self, Call, Probe};
use crate::support::{connected, ended, incomplete, kind, overrun};

/// A line over the limit was dropped, and with it what stood behind it.
#[test]
fn jupyter_ai_acp_client_32_a_line_over_the_limit_costs_no_data() {
    run(async {
        let (listener, address) = listener();
        let (mut reader, _writer) = open_connection(address).limit(100).await.unwrap();
        let peer = Peer::accept(&listener);
        let line = [&pattern(99)[..], b"\n", &[b'x'; 150], b"\n", b"next\n"].concat();
        let line: Vec<u8> = line
            .iter()
            .enumerate()
            .map(|(i, byte)| if i < 99 { byte | 0x80 } else { *byte })
            .collect();
        peer.send(&line);
        assert_eq!(reader.readline().await.unwrap(), line[..100]);
        let error = overrun(reader.readline().await);
        assert_eq!(error.limit, 100);
        // Either read what there is, or pass over it.
        assert_eq!(reader.readexactly(50).await.unwrap(), [b'x'; 50]);
        assert_eq!(reader.skip_line().await.unwrap(), 101);
        assert_eq!(reader.readline().await.unwrap(), b"next\n");
    });
}

/// What was there at the end is in the error, and nowhere else.
#[test]
fn asyncio_379_readuntil_at_the_end_tells_what_there_was() {
    run(async {
        let mut reader = ended(64, b"no separator");
        let (partial, _) = incomplete(reader.readuntil(b"\r\n").await);
        assert_eq!(partial, b"no separator");
        assert!(reader.at_eof());
    });
}

/// A length that a peer has sent is no reason to reserve memory.
#[test]
fn asyncio_99_readexactly_of_a_length_that_the_peer_chose() {
    if !own_process::enter("reading::asyncio_99_readexactly_of_a_length_that_the_peer_chose") {
        return;
    }
    run(async {
        let (mut reader, _writer, peer) = connected().await;
        peer.send(b"abc");
        let before = resident_kib();
        for n in [1 << 40, usize::MAX] {
            assert!(crate::support::now(reader.readexactly(n)).await.is_none());
        }
        peer.finish();
        let outcome = within("the end", reader.readexactly(usize::MAX)).await;
        assert_eq!(incomplete(outcome), (b"abc".to_vec(), Some(usize::MAX)));
        assert!(resident_kib() < before + 8 * 1024);
    });
}

/// More than the reader's buffer may hold used to wait for ever.
#[test]
fn asyncio_99_readexactly_of_more_than_the_limit() {
    run(async {
        let (listener, address) = listener();
        let (mut reader, _writer) = open_connection(address).limit(1000).await.unwrap();
        let peer = Peer::accept(&listener);
        let sending = in_thread(move || peer.send(&pattern(1 << 20)));
        let sending = get_running_loop().unwrap().create_task(sending);
        let data = within("all of it", reader.readexactly(1 << 20)).await;
        assert!(data.unwrap() == pattern(1 << 20));
        sending.await.unwrap();
    });
}

/// A read to the end that was given up took along what it had collected.
#[test]
fn asyncio_168_a_read_to_the_end_that_timed_out() {
    run(async {
        let (mut reader, _writer, peer) = connected().await;
        let data = pattern(2000);
        peer.send(&data[..1000]);
        // So the rest of the first half is here, too, or comes meanwhile.
        assert_eq!(reader.readexactly(500).await.unwrap(), data[..500]);
        let early = timeout(Duration::from_millis(20), reader.read_to_end(None)).await;
        assert!(early.is_err());
        peer.send(&data[1000..]);
        peer.finish();
        let rest = within("the end", reader.read_to_end(None)).await.unwrap();
        assert_eq!(rest, data[500..]);
    });
}

/// An answer that is here, and a reset behind it.
#[test]
fn an_answer_before_a_reset_can_be_read() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        peer.send(&[b'a'; 100]);
        assert_eq!(reader.readexactly(1).await.unwrap(), b"a");
        peer.reset();
        let end = within("the reset", writer.wait_closed()).await;
        assert_eq!(kind(end), ErrorKind::ConnectionReset);
        assert_eq!(reader.read(1000).await.unwrap(), [b'a'; 99]);
        assert_eq!(kind(reader.read(1000).await), ErrorKind::ConnectionReset);
    });
}

/// The same with more than a reader takes at once: what the system still gives, then the error.
#[test]
fn a_long_answer_before_a_reset_is_read_as_far_as_the_system_gives_it() {
    run(async {
        let (listener, address) = listener();
        let (mut reader, _writer) = open_connection(address).limit(1000).await.unwrap();
        let peer = Peer::accept(&listener);
        let data = pattern(100 * 1024);
        peer.send(&data);
        peer.reset();
        let mut received = Vec::new();
        let error = loop {
            match within("data or the reset", reader.read(1 << 20)).await {
                Ok(more) => {
                    assert!(!more.is_empty(), "a reset is no end");
                    received.extend(more);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(data.starts_with(&received));
    });
}

/// Who does not read does not see the end: a write does, and whoever reads again.
#[test]
fn asyncio_95_a_loss_while_reading_is_paused() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = probe::connected(Probe::new(&trace)).await;
        transport.pause_reading();
        peer.reset();
        turns(3).await;
        assert_eq!(trace, ["made"]);
        transport.resume_reading();
        trace.until("lost ConnectionReset").await;
        // By a write.
        let trace = Trace::default();
        let (transport, peer) = probe::connected(Probe::new(&trace)).await;
        transport.pause_reading();
        peer.reset();
        while !transport.is_closing() {
            transport.write(b"x");
            turns(1).await;
        }
        turns(2).await;
        assert!(trace.lines()[1].starts_with("lost"), "{trace:?}");
    });
}

/// Pausing and resuming are legal at any time.
#[test]
fn httpcore_201_resume_reading_after_close() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let probe = Probe::new(&trace).doing(|_, transport| {
            transport.pause_reading();
            transport.resume_reading();
            transport.resume_reading();
        });
        let (transport, _peer) = probe::connected(probe).await;
        transport.close();
        transport.resume_reading();
        transport.pause_reading();
        trace.until("lost").await;
        transport.resume_reading();
        turns(3).await;
        assert!(!transport.is_reading());
        assert_eq!(trace, ["made", "lost"]);
    });
}

/// Also before the connection has been registered anywhere.
#[test]
fn cpython_76002_pause_reading_in_connection_made() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Made = call {
                transport.pause_reading();
            }
        });
        let (transport, peer) = probe::connected(probe).await;
        peer.send(b"abc");
        // A second connection whose bytes come later is the witness.
        let (_witness, other) = probe::connected(Probe::new(&trace).named("other ")).await;
        other.send(b"w");
        trace.until("other data w").await;
        turns(2).await;
        assert!(!trace.has("data abc"));
        transport.resume_reading();
        trace.until("data abc").await;
    });
}

/// The result and the end of the time in one turn: the result wins.
#[test]
fn cpython_86296_a_timeout_that_races_with_its_result() {
    run(async {
        let handle = get_running_loop().unwrap();
        let value = handle.create_future();
        let set = value.clone();
        handle.call_later(Duration::from_millis(1), move || set.set_result(7).unwrap());
        let limit = timeout(Duration::from_millis(2), value);
        let waiting = handle.create_task(limit);
        turns(1).await;
        // Nothing else runs until both are due.
        let due = Instant::now() + Duration::from_millis(5);
        while Instant::now() < due {}
        assert_eq!(waiting.await.unwrap(), Ok(Ok(7)));
        assert_eq!(timeout(Duration::ZERO, async { 8 }).await, Ok(8));
    });
}

/// A connect that is given up owns what it has begun.
#[test]
fn asyncpg_464_a_connect_that_is_given_up_leaves_no_connection() {
    run(async {
        let (listener, address) = listener();
        let handle = get_running_loop().unwrap();
        let connecting =
            handle.create_task(async move { open_connection(address).await.map(drop) });
        turns(1).await;
        connecting.cancel();
        drop(connecting.await);
        let peer = Peer::accept(&listener);
        let received = in_thread(move || peer.receive_all_or_error()).await;
        assert!(received.is_ok_and(|bytes| bytes.is_empty()));
    });
}
