//! A reader that is full pauses its transport, and goes on when there is room or need.

use std::io::{ErrorKind, Write};
use std::pin::pin;

use evloop::{FeedError, StreamReader, Transport, create_connection, open_connection};

use crate::common::{Peer, in_thread, listener, pattern, run, turns, within};
use crate::support::{connected, fed, incomplete, now, overrun, poll_once};

struct Idle;

impl evloop::Protocol for Idle {}

/// A transport on which nothing comes, and what keeps it open.
async fn transport() -> (Transport, Peer) {
    let (listener, address) = listener();
    let (transport, _) = create_connection(|| Idle, address).await.unwrap();
    (transport, Peer::accept(&listener))
}

#[test]
fn above_twice_the_limit_reading_pauses_and_at_the_limit_it_goes_on() {
    run(async {
        let (transport, _peer) = transport().await;
        let mut reader = StreamReader::with_limit(4).unwrap();
        reader.set_transport(transport.clone()).unwrap();
        reader.feed_data(b"01234567").unwrap();
        assert!(transport.is_reading());
        reader.feed_data(b"8").unwrap();
        assert!(!transport.is_reading());
        reader.readexactly(4).await.unwrap();
        assert!(!transport.is_reading());
        reader.readexactly(1).await.unwrap();
        assert!(transport.is_reading());
    });
}

#[test]
fn a_second_transport_is_an_error() {
    run(async {
        let (transport, _peer) = transport().await;
        let reader = StreamReader::new();
        reader.set_transport(transport.clone()).unwrap();
        let again = reader.feeder().set_transport(transport);
        assert_eq!(again, Err(FeedError::TransportAlreadySet));
        assert_eq!(
            FeedError::TransportAlreadySet.to_string(),
            "Transport already set"
        );
    });
}

#[test]
fn a_read_that_needs_more_than_the_buffer_may_hold_goes_on_receiving() {
    run(async {
        let (transport, _peer) = transport().await;
        let mut reader = StreamReader::with_limit(4).unwrap();
        let feeder = reader.feeder();
        feeder.set_transport(transport.clone()).unwrap();
        feeder.feed_data(&[b'a'; 9]).unwrap();
        assert!(!transport.is_reading());
        {
            let mut read = pin!(reader.readexactly(20));
            assert!(poll_once(&mut read).await.is_none());
            assert!(transport.is_reading());
            feeder.feed_data(&[b'b'; 9]).unwrap();
            assert!(!transport.is_reading());
            assert!(poll_once(&mut read).await.is_none());
            assert!(transport.is_reading());
            feeder.feed_data(&[b'c'; 2]).unwrap();
            assert!(!transport.is_reading());
            assert_eq!(
                poll_once(&mut read).await.unwrap().unwrap(),
                b"aaaaaaaaabbbbbbbbbcc"
            );
        }
        assert!(transport.is_reading());
    });
}

/// What it has collected stays in the buffer, and counts.
#[test]
fn a_read_to_the_end_pauses_whoever_is_faster_until_it_runs() {
    run(async {
        let (transport, _peer) = transport().await;
        let mut reader = StreamReader::with_limit(4).unwrap();
        let feeder = reader.feeder();
        feeder.set_transport(transport.clone()).unwrap();
        {
            let mut read = pin!(reader.read_to_end(None));
            assert!(poll_once(&mut read).await.is_none());
            for _ in 0..3 {
                feeder.feed_data(&[b'a'; 8]).unwrap();
                feeder.feed_data(b"b").unwrap();
                assert!(!transport.is_reading());
                assert!(poll_once(&mut read).await.is_none());
                assert!(transport.is_reading());
            }
            feeder.feed_eof();
            let all = poll_once(&mut read).await.unwrap().unwrap();
            assert_eq!(all, b"aaaaaaaabaaaaaaaabaaaaaaaab");
        }
        assert!(reader.at_eof());
    });
}

/// The cap is looked at when bytes have come: one receive more than it may be there by then, and
/// the reader's own limit goes on to hold.
#[test]
fn a_read_to_the_end_that_is_refused_has_taken_one_receive_more_than_its_cap() {
    run(async {
        for cap in [0, 1000, 1 << 20] {
            let (mut reader, writer, peer) = connected().await;
            let sending = in_thread(move || {
                let mut sent = 0;
                // Until it is told that nobody is there any more.
                while let Ok(n) = (&peer.0).write(&[b'x'; 64 * 1024]) {
                    sent += n;
                    assert!(sent < 64 << 20, "all was taken");
                }
            });
            let sending = evloop::get_running_loop().unwrap().create_task(sending);
            let most = cap.max(2 * 64 * 1024) + 256 * 1024;
            let refused = within("a refusal", reader.read_to_end(cap)).await;
            let refused = overrun(refused);
            assert_eq!(refused.limit, cap);
            assert!(refused.consumed <= most, "{} for {cap}", refused.consumed);
            // Nor does it grow afterwards, while the peer goes on.
            turns(20).await;
            let held = overrun(reader.read_to_end(cap).await).consumed;
            assert!((cap + 1..=most).contains(&held), "{held} for {cap}");
            writer.transport().abort();
            sending.await.unwrap();
        }
    });
}

#[test]
fn feeding_nothing_does_not_pause() {
    run(async {
        let (transport, _peer) = transport().await;
        let mut reader = fed(4, b"0123456789");
        let feeder = reader.feeder();
        feeder.set_transport(transport.clone()).unwrap();
        let mut read = pin!(reader.readexactly(20));
        assert!(poll_once(&mut read).await.is_none());
        feeder.feed_data(b"").unwrap();
        assert!(transport.is_reading());
    });
}

#[test]
fn a_read_of_nothing_does_not_resume() {
    run(async {
        let (transport, _peer) = transport().await;
        let mut reader = StreamReader::with_limit(4).unwrap();
        reader.set_transport(transport.clone()).unwrap();
        reader.feed_data(b"0123456789").unwrap();
        reader.feed_eof();
        incomplete(reader.readexactly(11).await);
        reader.readexactly(0).await.unwrap();
        reader.read(0).await.unwrap();
        reader.read_into(&mut []).await.unwrap();
        assert!(!transport.is_reading());
        assert_eq!(reader.read(1).await.unwrap(), b"");
        assert!(transport.is_reading());
    });
}

#[test]
fn an_overrun_leaves_reading_paused_until_something_is_read() {
    run(async {
        let (transport, _peer) = transport().await;
        let mut reader = StreamReader::with_limit(4).unwrap();
        reader.set_transport(transport.clone()).unwrap();
        reader.feed_data(b"0123456789").unwrap();
        overrun(reader.readline().await);
        assert!(!transport.is_reading());
        assert!(now(reader.skip_line()).await.is_none());
        assert!(transport.is_reading());
    });
}

#[test]
fn a_reader_dropped_while_paused_goes_on_receiving() {
    run(async {
        let (transport, _peer) = transport().await;
        let reader = fed(4, b"0123456789");
        reader.set_transport(transport.clone()).unwrap();
        reader.feed_data(b"x").unwrap();
        assert!(!transport.is_reading());
        drop(reader);
        assert!(transport.is_reading());
    });
}

#[test]
fn a_reader_that_nobody_reads_holds_the_peer_up() {
    run(async {
        let (listener, address) = listener();
        let (mut reader, writer) = open_connection(address).limit(1024).await.unwrap();
        let peer = Peer::accept(&listener);
        // More than all buffers on the way take.
        let data = pattern(64 << 20);
        let expected = data.clone();
        let sending = in_thread(move || {
            peer.send(&data);
            peer.finish();
        });
        let sending = evloop::get_running_loop().unwrap().create_task(sending);
        within("a full buffer", async {
            while writer.transport().is_reading() {
                turns(1).await;
            }
        })
        .await;
        let held = format!("{reader:?}");
        let bytes: usize = held
            .split("bytes: ")
            .nth(1)
            .and_then(|rest| rest.split(',').next())
            .and_then(|number| number.parse().ok())
            .unwrap();
        // Twice the limit and one read.
        assert!(
            bytes > 2 * 1024 && bytes <= 2 * 1024 + 256 * 1024,
            "{bytes}"
        );
        assert!(!sending.done());
        let received = reader.read_to_end(None).await.unwrap();
        assert!(received == expected);
        sending.await.unwrap();
    });
}

#[test]
fn a_line_longer_than_twice_the_limit_is_refused_and_passed_over() {
    run(async {
        let (listener, address) = listener();
        let (mut reader, _writer) = open_connection(address).limit(1000).await.unwrap();
        let peer = Peer::accept(&listener);
        let sending = in_thread(move || {
            peer.send(&[b'x'; 3_000_000]);
            peer.send(b"\nnext\n");
            peer
        });
        let sending = evloop::get_running_loop().unwrap().create_task(sending);
        let held = overrun(reader.readline().await).consumed;
        assert!(held <= 2 * 1000 + 256 * 1024, "{held} bytes");
        let error = std::io::Error::from(reader.readline().await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(reader.skip_line().await.unwrap(), 3_000_001);
        assert_eq!(reader.readline().await.unwrap(), b"next\n");
        drop(sending.await.unwrap());
    });
}
