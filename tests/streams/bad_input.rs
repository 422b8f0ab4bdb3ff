//! What is asked for wrongly, or by a peer that means no good: an error with a type, no byte
//! lost, no memory used.

use std::error::Error;
use std::io::{self, ErrorKind};

use evloop::{FeedError, ReadError, StreamReader, StreamWriter, get_running_loop, start_server};

use crate::common::own_process::{self, virtual_kib};
use crate::common::trace::Trace;
use crate::common::{Peer, run, turns};
use crate::support::{connected, ended, fed, incomplete, kind, now, overrun, rest};

const HUGE: [usize; 4] = [1 << 32, 1 << 40, isize::MAX as usize, usize::MAX];

/// Far above what a loop and a few connections take, far below what is announced.
const ENOUGH_KIB: usize = 64 * 1024;

#[test]
fn a_length_that_a_peer_announces_uses_no_memory_before_the_bytes_are_there() {
    if !own_process::enter(
        "bad_input::a_length_that_a_peer_announces_uses_no_memory_before_the_bytes_are_there",
    ) {
        return;
    }
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        // A frame: its length in eight bytes, then so many bytes.
        let frame = move |mut reader: StreamReader, writer: StreamWriter| {
            let said = said.clone();
            async move {
                let length = reader.readexactly(8).await.unwrap().try_into().unwrap();
                let length = u64::from_be_bytes(length) as usize;
                said.say(format!("announced {length}"));
                let (partial, expected) = incomplete(reader.readexactly(length).await);
                assert_eq!(expected, Some(length));
                said.say(format!("{} of {length}", partial.len()));
                writer.close();
            }
        };
        let server = start_server(frame, ("127.0.0.1", 0)).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let before = virtual_kib();
        for length in HUGE {
            let peer = Peer::connect(address);
            peer.send(&(length as u64).to_be_bytes());
            trace.until(&format!("announced {length}")).await;
            peer.send(&[b'x'; 10_000]);
            turns(3).await;
            let more = virtual_kib().saturating_sub(before);
            assert!(more < ENOUGH_KIB, "{more} KiB for {length} announced bytes");
            peer.finish();
            trace.until(&format!("10000 of {length}")).await;
        }
        let more = virtual_kib().saturating_sub(before);
        assert!(more < ENOUGH_KIB, "{more} KiB in the end");
        server.close();
        server.close_clients();
        server.wait_closed().await.unwrap();
    });
}

#[test]
fn reads_of_huge_sizes_use_no_memory_either() {
    if !own_process::enter("bad_input::reads_of_huge_sizes_use_no_memory_either") {
        return;
    }
    run(async {
        let before = virtual_kib();
        for huge in HUGE {
            let mut reader = fed(huge, b"abcdef");
            assert!(now(reader.readexactly(huge)).await.is_none());
            assert!(now(reader.read_to_end(huge)).await.is_none());
            assert!(now(reader.readline()).await.is_none());
            assert_eq!(reader.read(huge).await.unwrap(), b"abcdef");
            assert!(now(reader.read(huge)).await.is_none());
            let more = virtual_kib().saturating_sub(before);
            assert!(more < ENOUGH_KIB, "{more} KiB for reads of {huge}");

            reader.feed_data(b"gh").unwrap();
            reader.feed_eof();
            let outcome = incomplete(reader.readexactly(huge).await);
            assert_eq!(outcome, (b"gh".to_vec(), Some(huge)));
        }
    });
}

#[test]
fn huge_limits_and_marks_do_not_overflow() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        for huge in HUGE {
            let transport = writer.transport();
            transport.set_write_buffer_limits(huge, huge).unwrap();
            assert_eq!(transport.get_write_buffer_limits(), (huge, huge));
            transport.set_write_buffer_limits(None, huge).unwrap();
            assert_eq!(transport.get_write_buffer_limits().0, huge);
            writer.write(b"x");
            writer.drain().await.unwrap();
            turns(1).await;
            assert_eq!(peer.receive(1), b"x");

            let (mut reader, writer) = evloop::open_connection(peer_of_its_own())
                .limit(huge)
                .await
                .unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"hello\n");
            assert_eq!(reader.read_to_end(huge).await.unwrap(), b"rest");
            drop(writer);
        }
    });
}

/// Somebody who says hello, and goes.
fn peer_of_its_own() -> std::net::SocketAddr {
    let (listener, address) = crate::common::listener();
    std::thread::spawn(move || Peer::accept(&listener).send(b"hello\nrest"));
    address
}

#[test]
fn a_separator_longer_than_the_limit_and_than_the_stream_is_only_never_found() {
    run(async {
        let long = vec![b'-'; 100_000];
        let mut reader = fed(3, &long[..99_999]);
        assert!(now(reader.readuntil(&long)).await.is_none());
        assert!(now(reader.readuntil((&long, b"x"))).await.is_none());
        reader.feed_data(b"-").unwrap();
        assert_eq!(reader.readuntil(&long).await.unwrap(), long);

        let mut reader = fed(3, b"abc");
        assert!(now(reader.readuntil(&long)).await.is_none());
        reader.feed_eof();
        let outcome = incomplete(reader.readuntil(&long).await);
        assert_eq!(outcome, (b"abc".to_vec(), None));
    });
}

#[test]
fn what_is_refused_has_a_type_and_costs_no_byte() {
    run(async {
        let (_other, writer, _peer) = connected().await;
        let mut reader = fed(8, b"one\ntwo\n");
        reader.set_transport(writer.transport().clone()).unwrap();

        assert_eq!(kind(reader.readuntil(b"").await), ErrorKind::InvalidInput);
        assert_eq!(kind(reader.readuntil(()).await), ErrorKind::InvalidInput);
        let again = reader.set_transport(writer.transport().clone());
        assert_eq!(again, Err(FeedError::TransportAlreadySet));
        assert_eq!(reader.read(0).await.unwrap(), b"");
        assert_eq!(reader.readexactly(0).await.unwrap(), b"");
        assert_eq!(overrun(reader.read_to_end(0).await).consumed, 8);
        reader.feed_eof();
        assert_eq!(reader.feed_data(b"three\n"), Err(FeedError::AfterEof));
        assert_eq!(reader.feeder().feed_data(b"x"), Err(FeedError::AfterEof));
        reader.feed_eof();
        assert_eq!(reader.readline().await.unwrap(), b"one\n");
        assert_eq!(reader.readline().await.unwrap(), b"two\n");
        assert!(reader.at_eof());
    });
}

/// By `?` into `io::Error` or a boxed error, and back to the type.
#[test]
fn a_refusal_can_be_told_from_a_broken_connection() {
    async fn until(separators: &[&str]) -> io::Result<Vec<u8>> {
        Ok(ended(8, b"abc").readuntil(separators).await?)
    }
    async fn feed() -> Result<(), Box<dyn Error>> {
        Ok(ended(8, b"abc").feed_data(b"d")?)
    }
    run(async {
        assert_eq!(kind(until(&[]).await), ErrorKind::InvalidInput);
        assert_eq!(kind(until(&["x", ""]).await), ErrorKind::InvalidInput);
        assert_eq!(kind(until(&["x", "y"]).await), ErrorKind::UnexpectedEof);
        let error = feed().await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&FeedError::AfterEof));
        let broken: Result<(), _> = Err(ReadError::Io(ErrorKind::ConnectionReset.into()));
        assert_eq!(kind(broken), ErrorKind::ConnectionReset);
    });
}

/// However many bytes a peer sends that nobody asks for, two limits and one receive are kept.
#[test]
fn a_peer_that_sends_without_end_is_stopped_at_the_limit() {
    run(async {
        let (mut reader, _writer, peer) = connected().await;
        let sent = peer.fill();
        assert!(sent > 1 << 20, "more than is kept, not {sent}");
        let handle = get_running_loop().unwrap();
        while now(reader.read_to_end(0)).await.is_none() {
            turns(1).await;
        }
        handle.create_task(turns(20)).await.unwrap();
        let buffered = overrun(reader.read_to_end(0).await).consumed;
        assert!(buffered <= (2 * 64 + 256) * 1024, "{buffered} bytes");
        assert!(!rest(&mut reader).await.is_empty());
    });
}
