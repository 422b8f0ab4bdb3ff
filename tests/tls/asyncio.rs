//! What asyncio's own tests of TLS assert, asserted of ours: the handshake, the end, what a transport
//! knows, files. `start_tls` has a file of its own, and so have the builders.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evloop::{
    CloseReason, ClosedBecause, PeerName, StreamReader, StreamWriter, TlsError, TlsSession,
    Transport, create_connection, open_connection, sendfile, start_server,
};

use crate::blocking::{ServerPeer, client_config, served, server_config};
use crate::common::trace::Trace;
use crate::common::{PATIENCE, Peer, in_thread, listener, pattern, run, turns, within};
use crate::probe::Probe;
use crate::support::{client_context, server_context};

/// Our client and a blocking peer that is the server, after the handshake.
async fn connected(probe: Probe) -> (Transport, ServerPeer) {
    connected_with(probe, server_config()).await
}

async fn connected_with(
    probe: Probe,
    config: Arc<rustls::ServerConfig>,
) -> (Transport, ServerPeer) {
    let (listener, address) = listener();
    let peer = in_thread(move || served(Peer::accept(&listener), config));
    let connection = create_connection(move || probe, ("localhost", address.port()));
    let ours = connection.ssl(client_context());
    let (ours, peer) = futures::join!(within("the connection", async { ours.await }), peer);
    (ours.unwrap().0, peer)
}

/// What a client is told of a peer that does this instead of shaking hands.
async fn failure(peer: impl FnOnce(Peer) -> Option<Peer> + Send + 'static) -> io::Error {
    failure_within(2 * PATIENCE, peer).await
}

/// The same with a limit to the handshake.
async fn failure_within(
    limit: Duration,
    peer: impl FnOnce(Peer) -> Option<Peer> + Send + 'static,
) -> io::Error {
    let (listener, address) = listener();
    let trace = Trace::default();
    trace.catch_reports();
    let peer = in_thread(move || peer(Peer::accept(&listener)));
    let probe = Probe::new(&trace);
    let connection = create_connection(move || probe, ("localhost", address.port()));
    let connection = connection.ssl(client_context());
    let connection = connection.ssl_handshake_timeout(limit);
    let (ours, _peer) = futures::join!(within("a failure", async { connection.await }), peer);
    assert!(trace == [], "nobody else is told: {trace:?}");
    ours.err().expect("a failure")
}

#[test]
fn the_peer_s_end_during_the_handshake_is_a_reset() {
    run(async {
        let error = failure(|peer| {
            peer.receive(5);
            peer.finish();
            Some(peer)
        });
        let error = error.await;
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(TlsError::of(&error), Some(&TlsError::HandshakeCutOff));
    });
}

#[test]
fn a_loss_during_the_handshake_is_told_as_it_is() {
    run(async {
        let error = failure(|peer| {
            peer.receive(5);
            peer.reset();
            None
        });
        let error = error.await;
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET), "{error:?}");
    });
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_in_asyncio_s_words() {
    run(async {
        let error = failure_within(Duration::from_millis(200), Some).await;
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        let words = "SSL handshake is taking longer than 0.2 seconds: aborting the connection";
        assert_eq!(error.to_string(), words);
    });
}

#[test]
fn a_peer_that_speaks_no_tls_is_told_as_such() {
    run(async {
        let error = failure(|peer| {
            peer.send(b"220 plain.example ESMTP ready\r\n");
            Some(peer)
        });
        let error = error.await;
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(TlsError::of(&error), Some(&TlsError::NotTls));
    });
}

#[test]
fn a_handshake_that_is_given_up_ends_the_connection_and_nobody_hears_of_it() {
    run(async {
        let (listener, address) = listener();
        let trace = Trace::default();
        trace.catch_reports();
        let probe = Probe::new(&trace);
        let connection = create_connection(move || probe, ("localhost", address.port()));
        let connection = connection.ssl(client_context());
        let connection = async { connection.await.map(drop) };
        let peer = in_thread(move || {
            let peer = Peer::accept(&listener);
            peer.receive(5);
            peer
        });
        let connection = Box::pin(connection);
        let peer = match futures::future::select(connection, Box::pin(peer)).await {
            futures::future::Either::Right((peer, connection)) => {
                drop(connection);
                peer
            }
            futures::future::Either::Left(_) => panic!("nobody has answered"),
        };
        // An end, or a reset: the system has it as it likes.
        let _ = in_thread(move || peer.receive_all_or_error()).await;
        turns(3).await;
        assert!(trace == [], "{trace:?}");
    });
}

#[test]
fn a_connection_is_known_by_what_was_written_down_also_afterwards() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let name = transport.get_extra_info(PeerName);
        let session = transport.get_extra_info(TlsSession).unwrap();
        assert!(name.is_some());
        transport.close();
        drop(peer);
        trace.until("lost").await;
        assert_eq!(transport.get_extra_info(PeerName), name);
        let after = transport.get_extra_info(TlsSession).unwrap();
        assert_eq!(after.cipher_suite, session.cipher_suite);
        assert_eq!(after.peer_certificates, session.peer_certificates);
    });
}

#[test]
fn another_protocol_goes_on_with_the_connection() {
    run(async {
        let (first, second) = (Trace::default(), Trace::default());
        let (transport, mut peer) = connected(Probe::new(&first)).await;
        peer.write_all(b"one").unwrap();
        first.until("data one").await;
        let next = Rc::new(RefCell::new(Probe::new(&second).on(&transport)));
        transport.set_protocol(next.clone());
        let now = transport.get_protocol().unwrap();
        assert!(std::ptr::addr_eq(Rc::as_ptr(&now), Rc::as_ptr(&next)));
        peer.write_all(b"two").unwrap();
        second.until("data two").await;
        transport.close();
        drop(peer);
        second.until("lost").await;
        assert!(first == ["made", "data one"], "{first:?}");
    });
}

#[test]
fn after_a_close_what_comes_and_what_is_written_is_ignored() {
    run(async {
        let trace = Trace::default();
        let (transport, mut peer) = connected(Probe::new(&trace)).await;
        transport.write(b"last words");
        transport.close();
        transport.write(b"too late");
        let received = in_thread(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            // It has not ended its own side.
            peer.write_all(b"an answer").unwrap();
            peer.conn.send_close_notify();
            peer.flush().unwrap();
            received
        });
        assert_eq!(received.await, b"last words");
        trace.until("lost").await;
        assert!(trace == ["made", "lost"], "{trace:?}");
    });
}

#[test]
fn a_protocol_that_keeps_its_transport_keeps_neither_context_nor_engine() {
    run(async {
        let config = client_config();
        let weak = Arc::downgrade(&config);
        let (listener, address) = listener();
        let peer = in_thread(move || served(Peer::accept(&listener), server_config()));
        let trace = Trace::default();
        let probe = Probe::new(&trace);
        let connection = create_connection(move || probe, ("localhost", address.port()));
        let ours = connection.ssl(config);
        let (ours, peer) = futures::join!(async { ours.await }, peer);
        let (transport, protocol) = ours.unwrap();
        assert_eq!(weak.strong_count(), 1, "the connection has it");
        transport.close();
        drop(peer);
        trace.until("lost").await;
        turns(2).await;
        assert_eq!(Rc::strong_count(&protocol), 1, "nobody has it but us");
        assert_eq!(weak.strong_count(), 0, "though we have the transport still");
        drop(transport);
    });
}

#[test]
fn garbage_on_an_encrypted_connection_is_an_error_of_the_next_read() {
    run(async {
        let (listener, address) = listener();
        let peer = in_thread(move || served(Peer::accept(&listener), server_config()));
        let ours = open_connection(("localhost", address.port())).ssl(client_context());
        let (ours, mut peer) = futures::join!(async { ours.await }, peer);
        let (mut reader, writer) = ours.unwrap();
        peer.write_all(b"a line\n").unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"a line\n");
        peer.sock.write_all(b"this is no record of TLS\n").unwrap();
        let outcome = within("an error", reader.readline()).await;
        let error = io::Error::from(outcome.unwrap_err());
        assert!(
            matches!(TlsError::of(&error), Some(TlsError::Protocol(_))),
            "{error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(
            writer.get_extra_info(ClosedBecause),
            Some(CloseReason::TlsFailed)
        );
    });
}

#[test]
fn a_connection_that_is_cut_off_is_told_from_one_that_has_ended() {
    run(async {
        for cut_off in [true, false] {
            let (listener, address) = listener();
            let peer = in_thread(move || served(Peer::accept(&listener), server_config()));
            let ours = open_connection(("localhost", address.port())).ssl(client_context());
            let (ours, mut peer) = futures::join!(async { ours.await }, peer);
            let (mut reader, writer) = ours.unwrap();
            peer.write_all(b"half of an ").unwrap();
            if !cut_off {
                peer.conn.send_close_notify();
                peer.flush().unwrap();
            }
            peer.sock.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(reader.readexactly(11).await.unwrap(), b"half of an ");
            let outcome = within("the end", reader.read(100)).await;
            if cut_off {
                let error = outcome.unwrap_err();
                assert_eq!(TlsError::of(&error), Some(&TlsError::Truncated));
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            } else {
                assert_eq!(outcome.unwrap(), b"");
            }
            drop((writer, peer));
        }
    });
}

#[test]
fn one_half_ends_without_the_other_on_tls_1_3_alone() {
    run(async {
        let trace = Trace::default();
        let (transport, mut peer) = connected(Probe::new(&trace)).await;
        assert!(transport.can_write_eof());
        transport.write(b"a question");
        transport.write_eof().unwrap();
        let done = in_thread(move || {
            let mut question = Vec::new();
            peer.read_to_end(&mut question).unwrap();
            peer.write_all(b"an answer").unwrap();
            peer.conn.send_close_notify();
            peer.flush().unwrap();
            question
        });
        assert_eq!(done.await, b"a question");
        trace.until("lost").await;
        assert!(
            trace == ["made", "data an answer", "eof", "lost"],
            "{trace:?}"
        );

        let trace = Trace::default();
        let old = crate::blocking::server_config_of(&[&rustls::version::TLS12]);
        let (transport, peer) = connected_with(Probe::new(&trace), old).await;
        assert!(!transport.can_write_eof(), "TLS 1.2 has no such thing");
        assert_eq!(
            transport.write_eof().unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        transport.close();
        drop(peer);
        trace.until("lost").await;
    });
}

#[test]
fn whoever_keeps_its_half_open_goes_on_writing_after_the_peer_s_end() {
    run(async {
        let trace = Trace::default();
        let (transport, mut peer) = connected(Probe::new(&trace).keeping_open()).await;
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        trace.until("eof").await;
        assert!(!transport.is_closing());
        transport.write(b"still here");
        transport.close();
        let received = in_thread(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            received
        });
        assert_eq!(received.await, b"still here");
        trace.until("lost").await;
    });
}

#[test]
fn a_peer_that_never_answers_a_close_has_two_seconds_and_is_no_error() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let before = Instant::now();
        transport.close();
        trace.until("lost").await;
        let took = before.elapsed();
        assert!(took >= Duration::from_secs(2), "{took:?}");
        assert!(took < PATIENCE / 2, "{took:?}");
        assert!(trace == ["made", "lost"], "no error: {trace:?}");
        assert_eq!(
            transport.get_extra_info(ClosedBecause),
            Some(CloseReason::Closed)
        );
        drop(peer);
    });
}

#[test]
fn the_marks_are_those_of_any_transport() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        assert_eq!(
            transport.get_write_buffer_limits(),
            (16 * 1024, 64 * 1024),
            "asyncio's are eight times these"
        );
        transport.abort();
        trace.until("lost").await;
        drop(peer);
    });
}

#[test]
fn a_file_is_read_and_encrypted_between_what_is_written_before_and_after() {
    let bytes = pattern(300_000);
    let folder = crate::common::folder::Folder::new();
    let path = folder.path("file");
    std::fs::write(&path, &bytes).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    run(async {
        let (transport, mut peer) = connected(Probe::new(&Trace::default())).await;
        let received = in_thread(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            received
        });
        let sending = async {
            transport.write(b"before");
            assert_eq!(sendfile(&transport, &file).await.unwrap(), 300_000);
            transport.write(b"between");
            let part = sendfile(&transport, &file).offset(1000).count(100_000);
            assert_eq!(part.await.unwrap(), 100_000);
            transport.write(b"after");
            let refused = sendfile(&transport, &file).offset(0).fallback(false).await;
            let refused = io::Error::from(refused.unwrap_err());
            assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
            transport.close();
        };
        let ((), received) = futures::join!(within("the files", sending), received);
        let expected = [
            b"before",
            &bytes[..],
            b"between",
            &bytes[1000..101_000],
            b"after",
        ];
        assert!(received == expected.concat(), "{} bytes", received.len());
    });
}

#[test]
fn the_socket_stays_where_it_is() {
    run(async {
        let trace = Trace::default();
        let (transport, mut peer) = connected(Probe::new(&trace)).await;
        transport.write(b"before");
        assert_eq!(
            transport.detach().unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        transport.write(b" and after");
        transport.close();
        let received = in_thread(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            received
        });
        assert_eq!(received.await, b"before and after");
        trace.until("lost").await;
        assert!(trace == ["made", "lost"], "{trace:?}");
    });
}

#[test]
fn a_peer_that_closes_after_a_file_has_it_whole() {
    let bytes = pattern(100_000);
    let folder = crate::common::folder::Folder::new();
    let path = folder.path("file");
    std::fs::write(&path, &bytes).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    run(async {
        let trace = Trace::default();
        let (transport, mut peer) = connected(Probe::new(&trace)).await;
        let received = in_thread(move || {
            let mut received = vec![0; 100_000];
            peer.read_exact(&mut received).unwrap();
            peer.conn.send_close_notify();
            peer.flush().unwrap();
            received
        });
        let sent = async { sendfile(&transport, &file).await.unwrap() };
        let (sent, received) = futures::join!(within("the file", sent), received);
        assert_eq!(sent, 100_000);
        assert!(received == bytes);
        trace.until("lost").await;
    });
}

/// Another TLS on the one that there is.
async fn deeper(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    writer.start_tls(server_context("second")).await?;
    let line = reader.readline().await?;
    writer.write(line);
    writer.drain().await
}

#[test]
fn tls_in_tls_talks_and_ends_without_a_word() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let server = start_server(deeper, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let ours = open_connection(("localhost", port)).ssl(client_context());
        let (mut reader, mut writer) = ours.await.unwrap();
        let outer = writer.get_extra_info(TlsSession).unwrap();
        let inner = writer
            .start_tls(client_context())
            .server_hostname("localhost");
        within("TLS in TLS", async { inner.await }).await.unwrap();
        let session = writer.get_extra_info(TlsSession).unwrap();
        assert_ne!(outer.peer_certificates, session.peer_certificates);
        writer.write(b"a line\n");
        let line = within("the line", reader.readline()).await;
        assert_eq!(line.unwrap(), b"a line\n");
        writer.close();
        within("the end", writer.wait_closed()).await.unwrap();
        server.close();
        within("the server's end", server.wait_closed())
            .await
            .unwrap();
        assert!(trace == [], "{trace:?}");
    });
}

/// Takes everything, and only then gives it back.
async fn deeper_store(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    writer.start_tls(server_context("second")).await?;
    let all = reader.read_to_end(None).await?;
    writer.write(all);
    writer.write_eof()?;
    writer.drain().await
}

#[test]
fn much_passes_through_tls_in_tls_and_half_of_it_ends_first() {
    let bytes = pattern(4 << 20);
    run(async {
        let server = start_server(deeper_store, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let ours = open_connection(("localhost", port)).ssl(client_context());
        let (mut reader, mut writer) = ours.await.unwrap();
        let inner = writer
            .start_tls(client_context())
            .server_hostname("localhost");
        within("TLS in TLS", async { inner.await }).await.unwrap();
        for piece in bytes.chunks(100_000) {
            writer.write(piece);
            within("room", writer.drain()).await.unwrap();
            let waiting = writer.transport().get_write_buffer_size();
            assert!(waiting < 1 << 20, "{waiting} bytes wait");
        }
        writer.write_eof().unwrap();
        let back = within("all of it", reader.read_to_end(None)).await.unwrap();
        assert!(back == bytes, "{} bytes", back.len());
        writer.close();
        within("the end", writer.wait_closed()).await.unwrap();
        server.close();
        within("the server's end", server.wait_closed())
            .await
            .unwrap();
    });
}
