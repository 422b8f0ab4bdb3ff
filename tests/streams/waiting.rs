//! Reads that wait: what comes while they do, and what asyncio's own tests ask of a reader besides.

use std::io;
use std::pin::pin;

use evloop::{
    Protocol, StreamReader, create_connection, get_running_loop, open_connection, start_server,
};

use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, run, within};
use crate::support::{connected, fed, incomplete, kind, now, overrun, poll_once, reset, rest};

#[test]
fn a_read_that_waits_gives_what_comes_first() {
    run(async {
        let mut reader = StreamReader::new();
        let feeder = reader.feeder();
        {
            let mut read = pin!(reader.read(30));
            assert!(poll_once(&mut read).await.is_none());
            feeder.feed_data(b"line1\nline2\nline3\n").unwrap();
            assert_eq!(read.await.unwrap(), b"line1\nline2\nline3\n");
        }
        // Nothing is left, and nothing was taken twice.
        feeder.feed_data(b"x").unwrap();
        assert_eq!(rest(&mut reader).await, b"x");
    });
}

#[test]
fn reads_that_wait_end_with_the_stream() {
    run(async {
        let mut reader = StreamReader::new();
        let feeder = reader.feeder();
        {
            let mut all = pin!(reader.read_to_end(None));
            for chunk in [b"chunk1\n", b"chunk2\n"] {
                feeder.feed_data(chunk).unwrap();
                assert!(poll_once(&mut all).await.is_none());
            }
            feeder.feed_eof();
            assert_eq!(all.await.unwrap(), b"chunk1\nchunk2\n");
        }
        let mut reader = StreamReader::new();
        let feeder = reader.feeder();
        let mut read = pin!(reader.read(1024));
        assert!(poll_once(&mut read).await.is_none());
        feeder.feed_eof();
        assert_eq!(read.await.unwrap(), b"");
    });
}

#[test]
fn at_eof_needs_the_end_and_an_empty_buffer() {
    run(async {
        let mut reader = StreamReader::new();
        assert!(!reader.at_eof());
        reader.feed_data(b"some data\n").unwrap();
        assert!(!reader.at_eof());
        reader.readline().await.unwrap();
        assert!(!reader.at_eof());
        reader.feed_data(b"more").unwrap();
        reader.feed_eof();
        assert!(!reader.at_eof());
        reader.read(4).await.unwrap();
        assert!(reader.at_eof());
    });
}

#[test]
fn a_line_is_put_together_from_several_pieces() {
    run(async {
        let mut reader = fed(64, b"chunk1 ");
        let feeder = reader.feeder();
        {
            let mut line = pin!(reader.readline());
            for piece in [&b"chunk2 "[..], b"chunk3 "] {
                assert!(poll_once(&mut line).await.is_none());
                feeder.feed_data(piece).unwrap();
            }
            assert!(poll_once(&mut line).await.is_none());
            feeder.feed_data(b"\n chunk4").unwrap();
            assert_eq!(line.await.unwrap(), b"chunk1 chunk2 chunk3 \n");
        }
        assert_eq!(rest(&mut reader).await, b" chunk4");
    });
}

/// asyncio raises for the same lines, and drops them or more.
#[test]
fn a_line_over_the_limit_is_refused_while_it_is_awaited_and_stays() {
    // Pieces fed one after the other; what the last but one leaves is over the limit or is not.
    let cases: [(&[&[u8]], bool); 4] = [
        (&[b"1234567", b"\n"], true),
        (&[b"12345678\nrest"], false),
        (&[b"chunk1", b"chunk2"], false),
        (&[b"12345678"], false),
    ];
    for (pieces, passes) in cases {
        run(async {
            let mut reader = StreamReader::with_limit(7).unwrap();
            let feeder = reader.feeder();
            let outcome = {
                let mut line = pin!(reader.readline());
                for piece in pieces {
                    assert!(poll_once(&mut line).await.is_none());
                    feeder.feed_data(piece).unwrap();
                }
                line.await
            };
            let whole = pieces.concat();
            if passes {
                assert_eq!(outcome.unwrap(), whole);
            } else {
                assert!(overrun(outcome).consumed >= 8, "{pieces:?}");
                assert_eq!(rest(&mut reader).await, whole);
            }
        });
    }
}

#[test]
fn a_read_after_a_line_crosses_the_ends_of_lines() {
    run(async {
        let mut reader = fed(64, b"line1\nline2\nline3\n");
        assert_eq!(reader.readline().await.unwrap(), b"line1\n");
        assert_eq!(reader.read(7).await.unwrap(), b"line2\nl");
        assert_eq!(rest(&mut reader).await, b"ine3\n");
    });
}

#[test]
fn a_separator_is_found_alone_and_after_a_false_start() {
    run(async {
        // The last piece completes it, and the rest stays.
        let cases: [(&[&[u8]], &[u8]); 5] = [
            (&[b"QWERTaa", b"aXYZ"], b"QWERTaaa"),
            (&[b"QWERTa", b"aaXYZ"], b"QWERTaaa"),
            (&[b"aa", b"aXYZ"], b"aaa"),
            (&[b"aaaXYZ"], b"aaa"),
            (&[b"Xaa", b"XaXa", b"aaXYZ"], b"XaaXaXaaa"),
        ];
        for (pieces, expected) in cases {
            let mut reader = StreamReader::new();
            for (i, piece) in pieces.iter().enumerate() {
                if i > 0 {
                    assert!(now(reader.readuntil(b"aaa")).await.is_none());
                }
                reader.feed_data(piece).unwrap();
            }
            assert_eq!(reader.readuntil(b"aaa").await.unwrap(), expected);
            assert_eq!(rest(&mut reader).await, b"XYZ");
        }
    });
}

#[test]
fn half_a_separator_at_the_end_is_part_of_what_there_is() {
    run(async {
        let mut reader = fed(64, b"some dataAA");
        reader.feed_eof();
        let outcome = incomplete(reader.readuntil(b"AAA").await);
        assert_eq!(outcome, (b"some dataAA".to_vec(), None));
        assert!(reader.at_eof());
    });
}

#[test]
fn an_incomplete_read_on_a_full_buffer_takes_all() {
    run(async {
        let (listener, address) = listener();
        let (transport, _) = create_connection(|| Idle, address).await.unwrap();
        let _peer = Peer::accept(&listener);
        let mut reader = fed(4, b"012345678");
        reader.set_transport(transport.clone()).unwrap();
        reader.feed_data(b"9").unwrap();
        assert!(!transport.is_reading());
        reader.feed_eof();
        let outcome = incomplete(reader.readexactly(20).await);
        assert_eq!(outcome, (b"0123456789".to_vec(), Some(20)));
        assert!(reader.at_eof());
        // Nothing more can come, so nobody asks for it.
        assert!(!transport.is_reading());
    });
}

struct Idle;

impl Protocol for Idle {}

#[test]
fn an_exception_after_a_read_was_cancelled_harms_nobody() {
    run(async {
        let mut reader = StreamReader::new();
        let feeder = reader.feeder();
        let reading = get_running_loop()
            .unwrap()
            .create_task(async move { reader.readline().await });
        crate::common::turns(1).await;
        reading.cancel();
        feeder.set_exception(reset());
        assert!(reading.await.is_err());
        // The same with a reader that lives on.
        let mut reader = StreamReader::new();
        assert!(now(reader.readline()).await.is_none());
        reader.set_exception(reset());
        assert_eq!(
            kind(reader.readline().await),
            io::ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn debug_tells_bytes_end_limit_and_exception() {
    run(async {
        let reader = fed(123, b"data");
        let text = format!("{reader:?}");
        for part in [
            "StreamReader",
            "bytes: 4",
            "eof: false",
            "limit: 123",
            "None",
        ] {
            assert!(text.contains(part), "{text}");
        }
        reader.feed_eof();
        reader.set_exception(reset());
        let text = format!("{reader:?}");
        for part in ["eof: true", "ConnectionReset"] {
            assert!(text.contains(part), "{text}");
        }
    });
}

#[test]
fn a_request_is_answered_by_a_status_line_and_the_rest() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let (mut reader, writer, peer) = connected().await;
        let answering = in_thread(move || {
            assert_eq!(peer.receive(18), b"GET / HTTP/1.0\r\n\r\n");
            peer.send(b"HTTP/1.0 200 OK\r\n\r\nTest message");
        });
        let answering = get_running_loop().unwrap().create_task(answering);
        writer.write(b"GET / HTTP/1.0\r\n\r\n");
        writer.drain().await.unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"HTTP/1.0 200 OK\r\n");
        assert_eq!(reader.read_to_end(None).await.unwrap(), b"\r\nTest message");
        answering.await.unwrap();
        assert!(!writer.is_closing());
        writer.close();
        assert!(writer.is_closing());
        writer.wait_closed().await.unwrap();
        assert_eq!(trace, []);
    });
}

#[test]
fn a_loss_that_is_told_by_hand_fails_reads_and_close_reports_nothing() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let (mut reader, writer, _peer) = connected().await;
        let protocol = writer.transport().get_protocol().unwrap();
        let cause = io::Error::other("by hand");
        protocol
            .borrow_mut()
            .connection_lost(Some(std::sync::Arc::new(cause)));
        for _ in 0..2 {
            assert_eq!(reader.read(5).await.unwrap_err().to_string(), "by hand");
        }
        writer.close();
        crate::common::turns(3).await;
        assert_eq!(trace, []);
    });
}

#[test]
fn wait_closed_returns_though_there_is_input_that_nobody_read() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        peer.send(b"line 1\nline 2\n");
        assert_eq!(reader.readline().await.unwrap(), b"line 1\n");
        writer.close();
        within("the end", writer.wait_closed()).await.unwrap();
    });
}

#[test]
fn a_drain_that_begins_after_close_waits_for_what_is_pending() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        crate::support::block(&writer);
        // The mark has to be told first.
        crate::common::turns(2).await;
        writer.close();
        let mut drain = pin!(writer.drain());
        assert!(poll_once(&mut drain).await.is_none());
        crate::common::turns(3).await;
        assert!(poll_once(&mut drain).await.is_none());
        let received = in_thread(move || peer.receive_all());
        let received = get_running_loop().unwrap().create_task(received);
        within("the flush", drain).await.unwrap();
        writer.wait_closed().await.unwrap();
        assert!(received.await.unwrap().ends_with(b"-"));
    });
}

#[test]
fn a_handler_that_is_dropped_with_its_loop_is_not_reported() {
    let trace = Trace::default();
    let ended = trace.clone();
    let peer = run(async move {
        ended.catch_reports();
        let said = ended.clone();
        let callback = move |mut reader: StreamReader, writer: evloop::StreamWriter| {
            let said = said.clone();
            async move {
                let _open = writer;
                said.say("waiting");
                reader.readline().await.map(drop)
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        let peer = Peer::connect(server.sockets()[0].as_inet().unwrap());
        ended.until("waiting").await;
        peer
    });
    assert_eq!(peer.receive_all(), b"");
    assert_eq!(trace, ["waiting"]);
}

#[test]
fn a_line_echo_serves_coroutine_and_plain_callbacks_alike() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let echo = |mut reader: StreamReader, writer: evloop::StreamWriter| async move {
            let line = reader.readline().await?;
            writer.write(&line);
            writer.close();
            writer.wait_closed().await
        };
        let plain = move |reader, writer| {
            let handle = get_running_loop().expect("the loop that calls");
            drop(handle.create_task(async move { echo(reader, writer).await.unwrap() }));
        };
        let servers = [
            start_server(echo, ("127.0.0.1", 0)).await.unwrap(),
            start_server(plain, ("127.0.0.1", 0)).await.unwrap(),
        ];
        for server in servers {
            let address = server.sockets()[0].as_inet().unwrap();
            let (mut reader, writer) = open_connection(address).await.unwrap();
            writer.write(b"hello world!\n");
            assert_eq!(reader.readline().await.unwrap(), b"hello world!\n");
            assert_eq!(reader.read(1).await.unwrap(), b"");
            writer.close();
            writer.wait_closed().await.unwrap();
            server.close();
            within("the connection", server.wait_closed())
                .await
                .unwrap();
        }
        assert_eq!(trace, []);
    });
}
