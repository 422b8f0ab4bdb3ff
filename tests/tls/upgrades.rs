//! `start_tls` as asyncio's own tests have it: of transports and of streams, on both sides.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evloop::{
    BufferedProtocol, StreamReader, StreamWriter, TlsError, TlsSession, Transport,
    get_running_loop, open_connection, start_server, timeout,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::blocking::{client_config, joined, served, server_config};
use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, pattern, run, turns, within};
use crate::probe::{Call, Probe, block, connected};
use crate::support::{client_context, server_context};

const SIZE: usize = 100 * 1024;

/// A protocol that counts what comes, and says when that is as much as this.
fn counting(trace: &Trace, size: usize) -> Probe {
    let say = trace.clone();
    let mut sum = 0;
    Probe::new(trace).doing(move |call, _| {
        if let Call::Data(data) = call {
            sum += data.len();
            if sum == size {
                say.say("all");
            }
        }
    })
}

/// What is not the arrival of data.
fn story(trace: &Trace) -> Vec<String> {
    let mut lines = trace.lines();
    lines.retain(|line| line != "data");
    lines
}

#[test]
fn a_client_goes_on_encrypted_and_is_made_once() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(counting(&trace, SIZE + 2)).await;
        let peer = in_thread(move || {
            assert_eq!(peer.receive(4), b"TLS?");
            peer.send(b"OK");
            let mut peer = served(peer, server_config());
            let mut received = vec![0; SIZE];
            peer.read_exact(&mut received).unwrap();
            peer.write_all(&received).unwrap();
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"");
            received
        });
        let config = client_config();
        let weak = Arc::downgrade(&config);
        transport.write(b"TLS?");
        let handle = get_running_loop().unwrap();
        let upgrade = async {
            trace.until("data OK").await;
            assert!(transport.get_extra_info(TlsSession).is_none());
            let protocol = transport.get_protocol().unwrap();
            let upgrade = handle.start_tls(&transport, protocol, config);
            let upper = upgrade.server_hostname("localhost").await.unwrap();
            assert!(upper.get_extra_info(TlsSession).is_some());
            upper.write(pattern(SIZE));
            trace.until("all").await;
            upper.close();
            upper
        };
        let (upper, received) = futures::join!(within("the upgrade", upgrade), peer);
        assert!(received == pattern(SIZE));
        trace.until("lost").await;
        assert_eq!(story(&trace), ["made", "data OK", "all", "lost"]);
        assert!(upper.get_protocol().is_none() && transport.is_closing());
        turns(2).await;
        assert_eq!(weak.strong_count(), 0, "the context is free");
    });
}

#[test]
fn a_client_hears_of_the_peer_s_end_after_an_upgrade() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let peer = in_thread(move || {
            let mut peer = served(peer, server_config());
            peer.write_all(b"bye").unwrap();
            peer.conn.send_close_notify();
            peer.flush().unwrap();
            peer
        });
        let handle = get_running_loop().unwrap();
        let protocol = transport.get_protocol().unwrap();
        let upgrade = handle.start_tls(&transport, protocol, client_context());
        let upgrade = async { upgrade.server_hostname("localhost").await };
        let (upper, _peer) = futures::join!(within("the upgrade", upgrade), peer);
        upper.unwrap();
        trace.until("lost").await;
        assert!(trace == ["made", "data bye", "eof", "lost"], "{trace:?}");
    });
}

#[test]
fn a_server_goes_on_encrypted_after_what_it_wrote_before() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(counting(&trace, SIZE)).await;
        let peer = in_thread(move || {
            assert_eq!(peer.receive(5), b"HELLO");
            let mut peer = joined(peer);
            peer.write_all(&pattern(SIZE)).unwrap();
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            peer.conn.send_close_notify();
            peer.flush().unwrap();
            received
        });
        let handle = get_running_loop().unwrap();
        transport.write(b"HELLO");
        let protocol = transport.get_protocol().unwrap();
        let upgrade = handle.start_tls(&transport, protocol, server_context("server"));
        let upgrade = async {
            let upper = upgrade.await.unwrap();
            trace.until("all").await;
            upper.write(b"thanks");
            upper.close();
        };
        let ((), received) = futures::join!(within("the upgrade", upgrade), peer);
        assert_eq!(received, b"thanks");
        trace.until("lost").await;
        assert_eq!(story(&trace), ["made", "all", "lost"]);
    });
}

#[test]
fn an_upgrade_that_is_not_answered_can_be_given_up() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let handle = get_running_loop().unwrap();
        let protocol = transport.get_protocol().unwrap();
        let upgrade = handle.start_tls(&transport, protocol, client_context());
        let upgrade = upgrade.server_hostname("localhost");
        let outcome = timeout(Duration::from_millis(50), async { upgrade.await }).await;
        assert!(outcome.is_err(), "the peer has said nothing");
        trace.until("lost").await;
        assert!(trace == ["made", "lost"], "{trace:?}");
        assert!(transport.is_closing());
        // Its hello, and the end, or a reset.
        let _ = in_thread(move || peer.receive_all_or_error()).await;
    });
}

/// Receives into a buffer of its own.
struct Buffered {
    trace: Trace,
    buffer: [u8; 1000],
    sum: usize,
}

impl BufferedProtocol for Buffered {
    fn connection_made(&mut self, _: Transport) {
        self.trace.say("made");
    }

    fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_updated(&mut self, nbytes: usize) {
        self.sum += nbytes;
        if self.sum == SIZE {
            self.trace.say("all in buffers");
        }
    }
}

#[test]
fn a_protocol_with_its_own_buffer_goes_on_encrypted_and_makes_room_for_another() {
    run(async {
        let (trace, next) = (Trace::default(), Trace::default());
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let buffered = Buffered {
            trace: trace.clone(),
            buffer: [0; 1000],
            sum: 0,
        };
        let buffered = Rc::new(RefCell::new(buffered));
        let peer = in_thread(move || {
            let mut peer = served(peer, server_config());
            peer.write_all(&pattern(SIZE)).unwrap();
            let mut go_on = [0; 2];
            peer.read_exact(&mut go_on).unwrap();
            peer.write_all(b"for the next one").unwrap();
            peer.conn.send_close_notify();
            peer.flush().unwrap();
            peer
        });
        let handle = get_running_loop().unwrap();
        let upgrade = handle.start_tls(&transport, buffered, client_context());
        let upgrade = async {
            let upper = upgrade.server_hostname("localhost").await.unwrap();
            trace.until("all in buffers").await;
            let probe = Probe::new(&next).on(&upper);
            upper.set_protocol(Rc::new(RefCell::new(probe)));
            upper.write(b"go");
        };
        let ((), _peer) = futures::join!(within("the upgrade", upgrade), peer);
        next.until("lost").await;
        assert!(next == ["data for the next one", "eof", "lost"], "{next:?}");
        assert!(trace == ["made", "all in buffers"], "made once: {trace:?}");
    });
}

async fn starttls(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    let line = reader.readline().await?;
    writer.write(line);
    writer.drain().await?;
    assert!(writer.get_extra_info(TlsSession).is_none());
    writer.start_tls(server_context("server")).await?;
    assert!(writer.get_extra_info(TlsSession).is_some());
    let line = reader.readline().await?;
    writer.write(line);
    writer.drain().await
}

#[test]
fn streams_go_on_encrypted_on_both_sides() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let server = start_server(starttls, ("127.0.0.1", 0)).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let (mut reader, mut writer) = open_connection(("localhost", port)).await.unwrap();
        writer.write(b"plain\n");
        assert_eq!(reader.readline().await.unwrap(), b"plain\n");
        assert!(writer.get_extra_info(TlsSession).is_none());
        let upgrade = writer
            .start_tls(client_context())
            .server_hostname("localhost");
        within("the upgrade", async { upgrade.await })
            .await
            .unwrap();
        assert!(writer.get_extra_info(TlsSession).is_some());
        writer.write(b"encrypted\n");
        let line = within("a line", reader.readline()).await;
        assert_eq!(line.unwrap(), b"encrypted\n");
        assert_eq!(reader.read(1).await.unwrap(), b"");
        writer.close();
        within("the end", writer.wait_closed()).await.unwrap();
        server.close();
        within("the server's end", server.wait_closed())
            .await
            .unwrap();
        assert!(trace == [], "{trace:?}");
    });
}

#[test]
fn bytes_that_came_before_are_a_client_s_reason_to_refuse() {
    run(async {
        let (listener, address) = listener();
        let (mut reader, mut writer) = open_connection(address).await.unwrap();
        let peer = Peer::accept(&listener);
        peer.send(b"go ahead\nan order that nobody has encrypted\n");
        assert_eq!(reader.readline().await.unwrap(), b"go ahead\n");
        let upgrade = writer
            .start_tls(client_context())
            .server_hostname("localhost");
        let error = upgrade.await.unwrap_err();
        assert_eq!(TlsError::of(&error), Some(&TlsError::BytesBefore(35)));
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        // Nothing was sent, and nothing is lost.
        let line = reader.readline().await.unwrap();
        assert_eq!(line, b"an order that nobody has encrypted\n");
        writer.close();
        assert_eq!(in_thread(move || peer.receive_all()).await, b"");
    });
}

#[test]
fn bytes_that_came_before_are_a_server_s_beginning_of_the_handshake() {
    run(async {
        let server = start_server(starttls, ("127.0.0.1", 0)).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let peer = in_thread(move || {
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = ClientConnection::new(client_config(), name).unwrap();
            // The command and the hello in one piece.
            let mut first = b"go on\n".to_vec();
            while tls.wants_write() {
                tls.write_tls(&mut first).unwrap();
            }
            let peer = Peer::connect(address);
            peer.send(&first);
            assert_eq!(peer.receive(6), b"go on\n");
            let mut peer = StreamOwned::new(tls, peer.0);
            peer.write_all(b"encrypted\n").unwrap();
            let mut line = Vec::new();
            peer.read_to_end(&mut line).unwrap();
            line
        });
        assert_eq!(peer.await, b"encrypted\n");
        server.close();
        within("the server's end", server.wait_closed())
            .await
            .unwrap();
    });
}

/// Whoever closes the transport of before ends the handshake, and everybody hears of it.
#[test]
fn a_close_of_the_transport_below_ends_the_handshake() {
    for how in [Transport::close, Transport::abort] {
        run(async {
            let trace = Trace::default();
            trace.catch_reports();
            let (transport, peer) = connected(Probe::new(&trace)).await;
            let handle = get_running_loop().unwrap();
            let protocol = transport.get_protocol().unwrap();
            let upgrade = handle.start_tls(&transport, protocol, server_context("server"));
            let upgrade = handle.create_task(async move { upgrade.await.map(drop) });
            turns(3).await;
            how(&transport);
            let outcome = within("an answer", upgrade).await.unwrap();
            let error = outcome.expect_err("no handshake");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error:?}");
            trace.until("lost").await;
            assert!(trace == ["made", "lost"], "{trace:?}");
            // An end, or a reset.
            let _ = in_thread(move || peer.receive_all_or_error()).await;
        });
    }
}

#[test]
fn what_the_peer_has_not_taken_yet_goes_before_the_handshake() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let waiting = block(&transport);
        assert!(waiting > 0);
        transport.write(b"the last in the clear");
        let handle = get_running_loop().unwrap();
        let protocol = transport.get_protocol().unwrap();
        let upgrade = handle.start_tls(&transport, protocol, server_context("server"));
        let peer = in_thread(move || {
            // Dashes, and then the sentence: not a byte of TLS among them.
            while peer.receive(1) == b"-" {}
            assert_eq!(peer.receive(20), b"he last in the clear");
            let mut peer = joined(peer);
            peer.write_all(b"hello").unwrap();
            peer
        });
        let (upper, peer) = futures::join!(within("the upgrade", async { upgrade.await }), peer);
        trace.until("data hello").await;
        upper.unwrap().close();
        drop(peer);
        trace.until("lost").await;
        assert!(trace == ["made", "data hello", "lost"], "{trace:?}");
    });
}

/// A stream to a peer that takes nothing, with more written than there is room for.
async fn congested() -> (StreamReader, StreamWriter, Peer) {
    let (listener, address) = listener();
    let (reader, writer) = open_connection(address).await.unwrap();
    let peer = Peer::accept(&listener);
    block(writer.transport());
    writer.transport().set_write_buffer_limits(0, 0).unwrap();
    (reader, writer, peer)
}

#[test]
fn what_was_written_before_has_the_time_of_a_handshake_to_leave() {
    run(async {
        let (_reader, mut writer, _peer) = congested().await;
        let limit = Duration::from_millis(50);
        let upgrade = writer
            .start_tls(client_context())
            .server_hostname("localhost")
            .ssl_handshake_timeout(limit);
        let error = within("the limit", upgrade.into_future())
            .await
            .unwrap_err();
        let found = TlsError::of(&error);
        assert_eq!(found, Some(&TlsError::HandshakeTimeout(limit)), "{error}");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        within("the end", writer.wait_closed()).await.unwrap();
    });
}

#[test]
fn whoever_gives_up_before_the_handshake_begins_ends_the_connection() {
    run(async {
        // It goes on to take nothing.
        let (_reader, mut writer, _peer) = congested().await;
        let upgrade = writer
            .start_tls(client_context())
            .server_hostname("localhost");
        let given_up = timeout(Duration::from_millis(20), upgrade.into_future()).await;
        assert!(given_up.is_err());
        assert!(writer.is_closing());
        within("the end", writer.wait_closed()).await.unwrap();
    });
}
