//! TLS on a connection that is in use.

use std::cell::RefCell;
use std::future::IntoFuture;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use evloop::{
    CloseReason, ClosedBecause, Protocol, StreamReader, StreamWriter, TlsError, TlsSession,
    Transport, create_connection, get_running_loop, open_connection, sendfile, start_server,
    timeout,
};
use futures::future::join;

use crate::common::own_process::{self, held};
use crate::common::trace::Trace;
use crate::common::{pattern, run, turns, within};
use crate::pairs::{address_of, sockets};
use crate::probe::{Call, Probe, block};
use crate::scripted::{self, End, Scripted, TLS12, TLS13};
use crate::support::{cert, client_context, server_context};

type Shared = Rc<RefCell<dyn Protocol>>;

/// A plain connection of a probe.
async fn plain(probe: Probe) -> (Transport, Shared, TcpStream) {
    let (socket, theirs) = sockets();
    let (transport, protocol) = create_connection(move || probe, socket).await.unwrap();
    (transport, protocol, theirs)
}

fn reason(transport: &Transport) -> Option<CloseReason> {
    transport.get_extra_info(ClosedBecause)
}

/// The protocol goes on: it is not told again that it has a connection, and hears of its end once.
#[test]
fn a_protocol_goes_on_with_the_new_transport() {
    run(async {
        let handle = get_running_loop().unwrap();
        for version in [TLS12, TLS13] {
            for is_client in [true, false] {
                let trace = Trace::default();
                let (transport, protocol, theirs) = plain(Probe::new(&trace)).await;
                transport.write(b"before");
                let (starting, mut peer) = if is_client {
                    (
                        handle
                            .start_tls(&transport, protocol, client_context())
                            .server_hostname("localhost"),
                        Scripted::server(theirs, scripted::server_config(version, "server")),
                    )
                } else {
                    (
                        handle.start_tls(&transport, protocol, server_context("server")),
                        Scripted::client(theirs, scripted::client_config(version)),
                    )
                };
                let speaking = async {
                    use std::io::Read;
                    let mut before = [0; 6];
                    while let Err(error) = peer.socket.read_exact(&mut before) {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        turns(1).await;
                    }
                    assert_eq!(&before, b"before");
                    peer.shake_hands().await.unwrap();
                    peer.write(b"hello").await;
                };
                let (started, ()) = join(starting.into_future(), speaking).await;
                let upper = started.unwrap();
                trace.until("data hello").await;
                assert!(upper.get_extra_info(TlsSession).is_some());
                upper.write(b"answer");
                assert_eq!(peer.read(6).await, b"answer");
                upper.close();
                assert_eq!(peer.read_to_end().await.1, End::Clean);
                drop(peer);
                trace.until("lost").await;
                turns(3).await;
                assert_eq!(trace, ["made", "data hello", "lost"]);
            }
        }
    });
}

/// The header of a proxy and the beginning of the handshake in one segment: what the reader has is
/// the handshake's.
#[test]
fn cpython_142352_header_and_client_hello_in_one_segment() {
    run(async {
        for version in [TLS12, TLS13] {
            for cut in [0, 1, 100] {
                let callback = |mut reader: StreamReader, mut writer: StreamWriter| async move {
                    assert_eq!(reader.readline().await?, b"PROXY TCP4\r\n");
                    writer.start_tls(server_context("server")).await?;
                    let line = reader.readline().await?;
                    writer.write(&line);
                    writer.drain().await
                };
                let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
                let config = scripted::client_config(version);
                let mut peer = Scripted::connect(address_of(&server), config);
                let mut bytes = b"PROXY TCP4\r\n".to_vec();
                let hello = peer.records();
                let (now, later) = hello.split_at(hello.len() - cut);
                bytes.extend(now);
                peer.send(&bytes).await;
                turns(3).await;
                peer.send(later).await;
                peer.shake_hands().await.unwrap();
                peer.write(b"hello\n").await;
                assert_eq!(peer.read_to_end().await, (b"hello\n".to_vec(), End::Clean));
            }
        }
    });
}

/// Bytes that a client has before its handshake somebody has put there.
#[test]
fn cpython_118642_bytes_before_a_client_s_handshake_are_refused() {
    run(async {
        let (socket, theirs) = sockets();
        let (mut reader, mut writer) = open_connection(socket).await.unwrap();
        let mut peer = Scripted::server(theirs, scripted::server_config(TLS13, "server"));
        peer.send(b"220 go ahead\r\n250 injected\r\n").await;
        assert_eq!(reader.readline().await.unwrap(), b"220 go ahead\r\n");
        let starting = writer
            .start_tls(client_context())
            .server_hostname("localhost");
        let error = starting.await.unwrap_err();
        assert_eq!(TlsError::of(&error), Some(&TlsError::BytesBefore(14)));
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        // The connection is as it was.
        assert_eq!(reader.readline().await.unwrap(), b"250 injected\r\n");
        writer.write(b"quit");
        turns(2).await;
        let mut said = [0; 4];
        io::Read::read_exact(&mut peer.socket, &mut said).unwrap();
        assert_eq!(&said, b"quit");
    });
}

/// The reader and the writer stay the same.
#[test]
fn a_reader_and_a_writer_go_on() {
    run(async {
        let (socket, theirs) = sockets();
        let (mut reader, mut writer) = open_connection(socket).await.unwrap();
        let mut peer = Scripted::server(theirs, scripted::server_config(TLS13, "server"));
        peer.send(b"ready\n").await;
        assert_eq!(reader.readline().await.unwrap(), b"ready\n");
        assert!(writer.get_extra_info(TlsSession).is_none());
        let starting = writer
            .start_tls(client_context())
            .server_hostname("localhost");
        let (started, shaken) = join(starting.into_future(), peer.shake_hands()).await;
        started.unwrap();
        shaken.unwrap();
        assert!(writer.get_extra_info(TlsSession).is_some());
        let data = pattern(1 << 20);
        writer.write(&data);
        let speaking = async {
            let mut received = Vec::new();
            while received.len() < data.len() {
                received.extend(peer.hear().await.unwrap());
            }
            assert!(received == data);
            peer.write(b"and back\n").await;
        };
        join(async { writer.drain().await.unwrap() }, speaking).await;
        assert_eq!(reader.readline().await.unwrap(), b"and back\n");
        writer.close();
        assert_eq!(peer.read_to_end().await.1, End::Clean);
        drop(peer);
        within("the end", writer.wait_closed()).await.unwrap();
    });
}

/// A handshake that never ends, one that is given up, and one that fails: the protocol is told an
/// end, once, and nothing is left.
#[test]
fn a_handshake_that_comes_to_nothing() {
    if !own_process::enter("start_tls::a_handshake_that_comes_to_nothing") {
        return;
    }
    run(async {
        let handle = get_running_loop().unwrap();
        let mut before = None;
        for way in ["timed out", "cancelled", "garbage", "cut off", "reset"] {
            let trace = Trace::default();
            let (transport, protocol, theirs) = plain(Probe::new(&trace)).await;
            let mut peer = Scripted::server(theirs, scripted::server_config(TLS13, "server"));
            let limit = Duration::from_millis(if way == "timed out" { 50 } else { 60_000 });
            let starting = handle
                .start_tls(&transport, protocol, client_context())
                .server_hostname("localhost")
                .ssl_handshake_timeout(limit);
            let task = handle.create_task(starting.into_future());
            turns(5).await;
            match way {
                "timed out" => {}
                "cancelled" => drop(task.cancel()),
                "garbage" => peer.send(b"454 TLS is not available\r\n").await,
                "cut off" => peer.finish(),
                _ => {
                    peer.reset();
                    let (one, _) = sockets();
                    peer = Scripted::client(one, scripted::client_config(TLS13));
                }
            }
            let outcome = within("the handshake", task).await;
            let line = match way {
                "timed out" => "lost ConnectionAborted",
                "cancelled" => "lost",
                "garbage" => "lost InvalidData",
                _ => "lost ConnectionReset",
            };
            trace.until(line).await;
            turns(5).await;
            assert_eq!(trace, ["made", line], "{way}");
            match outcome {
                Err(_) => assert_eq!(way, "cancelled"),
                Ok(Ok(_)) => panic!("{way}: it came to something"),
                Ok(Err(error)) => match way {
                    "timed out" => {
                        let expected = TlsError::HandshakeTimeout(limit);
                        assert_eq!(TlsError::of(&error), Some(&expected));
                    }
                    "garbage" => assert_eq!(TlsError::of(&error), Some(&TlsError::NotTls)),
                    "cut off" => {
                        assert_eq!(TlsError::of(&error), Some(&TlsError::HandshakeCutOff));
                    }
                    _ => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                },
            }
            drop((transport, peer));
            turns(5).await;
            assert_eq!(held(), *before.get_or_insert_with(held), "{way}");
        }
    });
}

/// What there is nothing to begin on.
#[test]
fn a_transport_that_is_closing_or_has_ended_its_writing() {
    run(async {
        let handle = get_running_loop().unwrap();
        let trace = Trace::default();
        let (transport, protocol, _theirs) = plain(Probe::new(&trace)).await;
        transport.write_eof().unwrap();
        let starting = handle
            .start_tls(&transport, Rc::clone(&protocol), client_context())
            .server_hostname("localhost");
        let error = starting.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);

        let (transport, protocol, _theirs) = plain(Probe::new(&trace)).await;
        block(&transport);
        transport.close();
        let starting = handle
            .start_tls(&transport, Rc::clone(&protocol), client_context())
            .server_hostname("localhost");
        let error = starting.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert_eq!(error.to_string(), "start_tls: the transport is closing");
        transport.abort();
    });
}

/// An argument that is missing, or one too many, is refused before anything happens.
#[test]
fn arguments_that_cannot_be_meant() {
    run(async {
        let handle = get_running_loop().unwrap();
        let trace = Trace::default();
        let (transport, protocol, _theirs) = plain(Probe::new(&trace)).await;
        let starting = handle.start_tls(&transport, Rc::clone(&protocol), client_context());
        let error = starting.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let starting = handle
            .start_tls(&transport, Rc::clone(&protocol), server_context("server"))
            .server_hostname("localhost");
        let error = starting.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(
            error.to_string(),
            "server_hostname is only meaningful for a client"
        );
        let starting = handle
            .start_tls(&transport, protocol, server_context("server"))
            .ssl_handshake_timeout(Duration::ZERO);
        let error = starting.await.map(drop).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ssl_handshake_timeout should be a positive number, got 0"
        );
        assert!(!transport.is_closing());
    });
}

/// The server's list of its clients follows: they are closed the way TLS closes.
#[test]
fn a_server_closes_its_encrypted_clients_by_tls() {
    run(async {
        for aborts in [false, true] {
            let trace = Trace::default();
            let said = trace.clone();
            let callback = move |mut reader: StreamReader, mut writer: StreamWriter| {
                let said = said.clone();
                async move {
                    writer.start_tls(server_context("server")).await?;
                    said.say("started");
                    let end = reader.read(1).await;
                    said.say(format!("end {}", end.is_ok()));
                    io::Result::Ok(())
                }
            };
            let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
            let config = scripted::client_config(TLS13);
            let mut peer = Scripted::connect(address_of(&server), config);
            peer.shake_hands().await.unwrap();
            trace.until("started").await;
            server.close();
            let limit = Duration::from_millis(1);
            assert!(timeout(limit, server.wait_closed()).await.is_err());
            if aborts {
                server.abort_clients();
            } else {
                server.close_clients();
            }
            let (_, end) = peer.read_to_end().await;
            assert_eq!(end == End::Clean, !aborts, "{end:?}");
            drop(peer);
            within("the end", server.wait_closed()).await.unwrap();
            trace.until("end true").await;
        }
    });
}

/// The same while the handshake is on its way.
#[test]
fn a_server_closes_those_that_are_just_being_encrypted() {
    run(async {
        for aborts in [false, true] {
            let trace = Trace::default();
            let said = trace.clone();
            let callback = move |_reader: StreamReader, mut writer: StreamWriter| {
                let said = said.clone();
                async move {
                    said.say("starting");
                    let started = writer.start_tls(server_context("server")).await;
                    said.say(format!("started {}", started.is_ok()));
                }
            };
            let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
            let config = scripted::client_config(TLS13);
            let mut peer = Scripted::connect(address_of(&server), config);
            trace.until("starting").await;
            turns(3).await;
            server.close();
            if aborts {
                server.abort_clients();
            } else {
                server.close_clients();
            }
            within("the end", server.wait_closed()).await.unwrap();
            trace.until("started false").await;
            assert!(peer.hear().await.is_err());
        }
    });
}

/// A second TLS in the first: both go on, and the end of the outer one raises nothing.
#[test]
fn tls_over_tls() {
    run(async {
        let reports = Trace::default();
        reports.catch_reports();
        let callback = |mut reader: StreamReader, mut writer: StreamWriter| async move {
            writer.start_tls(server_context("second")).await?;
            let data = reader.read_to_end(usize::MAX).await?;
            writer.write(&data);
            writer.drain().await
        };
        let server = start_server(callback, ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .await
            .unwrap();
        let (mut reader, mut writer) = open_connection(address_of(&server))
            .ssl(client_context())
            .await
            .unwrap();
        let outer = writer.get_extra_info(TlsSession).unwrap();
        writer
            .start_tls(client_context())
            .server_hostname("localhost")
            .await
            .unwrap();
        let inner = writer.get_extra_info(TlsSession).unwrap();
        assert_ne!(outer.peer_certificates[0], inner.peer_certificates[0]);
        let data = pattern(3 << 20);
        writer.write(&data);
        writer.write_eof().unwrap();
        let received = within("all of it", reader.read_to_end(usize::MAX))
            .await
            .unwrap();
        assert!(received == data);
        writer.close();
        within("the end", writer.wait_closed()).await.unwrap();
        server.close();
        within("the server's end", server.wait_closed())
            .await
            .unwrap();
        assert_eq!(reports, []);
    });
}

/// The lower transport is closed under TLS: the upper one is told, and nothing is reported.
#[test]
fn the_transport_below_is_closed_or_aborted() {
    run(async {
        let reports = Trace::default();
        reports.catch_reports();
        let handle = get_running_loop().unwrap();
        for aborts in [false, true] {
            let trace = Trace::default();
            let (lower, protocol, theirs) = plain(Probe::new(&trace)).await;
            let mut peer = Scripted::server(theirs, scripted::server_config(TLS13, "server"));
            let starting = handle
                .start_tls(&lower, protocol, client_context())
                .server_hostname("localhost");
            let (upper, shaken) = join(starting.into_future(), peer.shake_hands()).await;
            shaken.unwrap();
            let upper = upper.unwrap();
            if aborts {
                lower.abort();
            } else {
                lower.close();
            }
            trace.until("lost").await;
            assert_eq!(trace, ["made", "lost"]);
            assert!(upper.is_closing());
            assert!(reason(&upper).is_some());
            assert_ne!(peer.read_to_end().await.1, End::Clean);
        }
        assert_eq!(reports, []);
    });
}

/// The same protocol is paused and resumed across the change: what it was told before holds.
#[test]
fn a_paused_protocol_is_resumed_by_the_new_transport() {
    run(async {
        let handle = get_running_loop().unwrap();
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, _| {
            let _ = matches!(call, Call::Pause);
        });
        let (lower, protocol, theirs) = plain(probe).await;
        let size = 4 << 20;
        lower.write(pattern(size));
        trace.until("pause").await;
        let mut peer = Scripted::server(theirs, scripted::server_config(TLS13, "server"));
        let starting = handle
            .start_tls(&lower, protocol, client_context())
            .server_hostname("localhost");
        let speaking = async {
            let mut left = size;
            let mut buffer = vec![0; 64 * 1024];
            while left > 0 {
                let room = buffer.len().min(left);
                match io::Read::read(&mut peer.socket, &mut buffer[..room]) {
                    Ok(n) => left -= n,
                    Err(_) => turns(1).await,
                }
            }
            peer.shake_hands().await.unwrap();
        };
        let (upper, ()) = join(starting.into_future(), speaking).await;
        let upper = upper.unwrap();
        trace.until("resume").await;
        assert_eq!(trace, ["made", "pause", "resume"]);
        upper.write(b"on");
        assert_eq!(peer.read(2).await, b"on");
    });
}

/// A reader whose buffer was over its limit, and which had paused the transport for that: what was
/// in it is the handshake's, so it reads on.
#[test]
fn a_reader_that_was_full_reads_on() {
    run(async {
        let callback = |mut reader: StreamReader, mut writer: StreamWriter| async move {
            assert_eq!(reader.readline().await?, b"STARTTLS\n");
            // Until the reader is full.
            turns(5).await;
            writer.start_tls(server_context("server")).await?;
            let data = reader.read_to_end(usize::MAX).await?;
            writer.write(&data);
            writer.drain().await
        };
        let server = start_server(callback, ("127.0.0.1", 0))
            .limit(16)
            .await
            .unwrap();
        let mut peer = Scripted::connect(address_of(&server), scripted::client_config(TLS13));
        let mut bytes = b"STARTTLS\n".to_vec();
        bytes.extend(peer.records());
        peer.send(&bytes).await;
        within("a handshake", peer.shake_hands()).await.unwrap();
        let data = pattern(100_000);
        let mut records = peer.encrypt(&data);
        records.extend(peer.close_notify());
        peer.send(&records).await;
        let (received, end) = within("the answer", peer.read_to_end()).await;
        assert_eq!(end, End::Clean);
        assert!(received == data);
    });
}

/// A reader that is full pauses the transport above TLS, and not the one that it had before: so the
/// peer waits, and goes on when there is room.
#[test]
fn cpython_152431_a_reader_that_is_full_pauses_the_new_transport() {
    run(async {
        let (socket, theirs) = sockets();
        let (mut reader, mut writer) = open_connection(socket).limit(1000).await.unwrap();
        let mut peer = Scripted::server(theirs, scripted::server_config(TLS13, "server"));
        let starting = writer
            .start_tls(client_context())
            .server_hostname("localhost");
        let (started, shaken) = join(starting.into_future(), peer.shake_hands()).await;
        started.unwrap();
        shaken.unwrap();
        assert!(writer.transport().is_reading());
        let data = pattern(20 << 20);
        let records = peer.encrypt(&data);
        let sent = peer.send_what_is_taken(&records).await;
        assert!(sent < records.len(), "all was taken");
        assert!(!writer.transport().is_reading());
        let sending = peer.send(&records[sent..]);
        let (received, ()) = join(reader.readexactly(data.len()), sending).await;
        assert!(received.unwrap() == data);
    });
}

/// A transport that has had its `start_tls`: what would come between TLS and the peer is refused,
/// and nothing of it is on the wire.
#[test]
fn the_old_transport_says_nothing_in_the_clear() {
    run(async {
        let handle = get_running_loop().unwrap();
        let trace = Trace::default();
        let (old, protocol, theirs) = plain(Probe::new(&trace)).await;
        let mut peer = Scripted::client(theirs, scripted::client_config(TLS13));
        let starting = handle.start_tls(&old, protocol.clone(), server_context("server"));
        let (upper, shaken) = join(starting.into_future(), peer.shake_hands()).await;
        let (upper, ()) = (upper.unwrap(), shaken.unwrap());
        assert_eq!(peer.hear_what_is_there().await, b"");

        let refused = |what: &str, error: io::Error| {
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            let message = format!("Cannot call {what}() after start_tls()");
            assert_eq!(error.to_string(), message);
        };
        refused("write", old.try_write(b"SECRET").unwrap_err());
        refused("write_eof", old.write_eof().unwrap_err());
        refused("detach", old.detach().unwrap_err());
        let file = std::fs::File::open(cert("ca.pem")).unwrap();
        let error = sendfile(&old, &file).await.unwrap_err();
        assert_eq!(io::Error::from(error).kind(), ErrorKind::BrokenPipe);
        let again = handle.start_tls(&old, protocol.clone(), server_context("server"));
        refused("start_tls", again.await.unwrap_err());
        let attempts: [&dyn Fn(); 3] = [
            &|| old.write(b"SECRET"),
            &|| old.writelines([b"SECRET"]),
            &|| old.set_protocol(protocol.clone()),
        ];
        for attempt in attempts {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt));
            let payload = outcome.unwrap_err();
            let message = payload.downcast_ref::<String>().unwrap();
            assert!(message.ends_with("() after start_tls()"), "{message}");
        }

        // The peer would take anything else for a broken record.
        upper.write(b"private");
        assert_eq!(peer.read(7).await, b"private");
        peer.write(b"answer").await;
        trace.until("data answer").await;
        old.close();
        trace.until("lost").await;
        assert_eq!(trace, ["made", "data answer", "lost"]);
    });
}

/// Who comes second is told so, and the first goes on.
#[test]
fn two_upgrades_at_once() {
    run(async {
        let handle = get_running_loop().unwrap();
        let trace = Trace::default();
        let (transport, protocol, theirs) = plain(Probe::new(&trace)).await;
        let mut peer = Scripted::client(theirs, scripted::client_config(TLS13));
        let upgrade = || {
            let starting = handle.start_tls(&transport, protocol.clone(), server_context("server"));
            handle.create_task(starting.into_future())
        };
        let (first, second) = (upgrade(), upgrade());
        let error = within("the second", second).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        peer.shake_hands().await.unwrap();
        let upper = within("the first", first).await.unwrap().unwrap();
        peer.write(b"hello").await;
        trace.until("data hello").await;
        upper.close();
        peer.read_to_close_notify().await;
        drop(peer);
        trace.until("lost").await;
        assert_eq!(trace, ["made", "data hello", "lost"]);
    });
}
