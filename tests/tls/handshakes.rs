//! Handshakes: those that fail, those that never end, how many there may be, and who is told.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use evloop::{
    CloseReason, Server, StreamReader, StreamWriter, TlsError, TlsServerContext, TlsSession,
    create_connection, create_server, get_running_loop, start_server, timeout,
};
use futures::future::join;
use rustls::{AlertDescription, CertificateError, Error, SupportedProtocolVersion};

use crate::common::folder::Folder;
use crate::common::own_process::{self, held};
use crate::common::trace::Trace;
use crate::common::{listener, run, turns, within};
use crate::pairs::{KINDS, Ours, accept, address_of, pair, scripted, server_of_probes, sockets};
use crate::probe::Probe;
use crate::scripted::{self, End, Scripted, TLS12, TLS13};
use crate::support::{cert, client_context, server_context};

/// The peer ends the connection in the middle of what it has to say, in good order or not: an error
/// at once, and nothing for the protocol. Behind every byte of its beginning and of what surrounds
/// the beginning of a record, and here and there in the middle of one.
#[test]
fn an_end_behind_every_byte_of_the_handshake() {
    if !own_process::enter("handshakes::an_end_behind_every_byte_of_the_handshake") {
        return;
    }
    run(async {
        let mut before = None;
        for (ours, version) in KINDS {
            let cuts = cuts(ours, version).await;
            for reset in [false, true] {
                for &cut in &cuts {
                    let trace = Trace::default();
                    let (mut peer, socket) = scripted(ours, version);
                    let connecting = ours.connect(socket, Probe::new(&trace));
                    let end = async {
                        let was_cut = speak(&mut peer, cut).await.is_none();
                        if reset && was_cut {
                            turns(2).await;
                            peer.reset();
                        } else {
                            drop(peer);
                        }
                        was_cut
                    };
                    let (connected, was_cut) = join(connecting, end).await;
                    // Signatures differ in their lengths by a byte or two.
                    assert!(was_cut || cut + 6 > cuts[cuts.len() - 1], "behind {cut}");
                    if !was_cut {
                        continue;
                    }
                    let error = connected.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error:?}");
                    if !reset {
                        assert_eq!(TlsError::of(&error), Some(&TlsError::HandshakeCutOff));
                    }
                    turns(3).await;
                    assert_eq!(trace, []);
                    // The first one may have opened what stays.
                    assert_eq!(held(), *before.get_or_insert_with(held), "behind {cut}");
                }
            }
        }
    });
}

/// Where to cut what this peer says in a handshake: everywhere in its beginning and around each
/// header of a record, and everywhere else now and then.
async fn cuts(ours: Ours, version: &'static SupportedProtocolVersion) -> Vec<usize> {
    let (mut peer, socket) = scripted(ours, version);
    let connecting = ours.connect(socket, Probe::new(&Trace::default()));
    let (connected, said) = join(connecting, speak(&mut peer, usize::MAX)).await;
    connected.unwrap().abort();
    let said = said.unwrap();
    let mut cuts: BTreeSet<_> = (0..64).chain((0..said.len()).step_by(31)).collect();
    let mut header = 0;
    while header < said.len() {
        cuts.extend(header.saturating_sub(6)..=header + 6);
        let [high, low] = [said[header + 3], said[header + 4]];
        header += 5 + usize::from(u16::from_be_bytes([high, low]));
    }
    assert_eq!(header, said.len());
    cuts.extend(header - 6..header);
    cuts.into_iter().filter(|cut| *cut < header).collect()
}

/// Says so many bytes of the handshake. All that it has said, if it has fewer.
async fn speak(peer: &mut Scripted, cut: usize) -> Option<Vec<u8>> {
    let is_server = matches!(peer.tls, rustls::Connection::Server(_));
    let mut said = Vec::new();
    loop {
        let records = peer.records();
        if !peer.tls.is_handshaking() && is_server && peer.is_13() {
            // These are tickets only.
            return Some(said);
        }
        let left = cut - said.len();
        if left < records.len() {
            peer.send(&records[..left]).await;
            return None;
        }
        said.extend(&records);
        peer.send(&records).await;
        if !peer.tls.is_handshaking() {
            return Some(said);
        }
        peer.hear().await.unwrap();
    }
}

/// Whose certificate cannot be trusted is told why we go, before we do.
#[test]
fn certificates_that_are_refused() {
    run(async {
        for version in [TLS12, TLS13] {
            for name in ["elsewhere", "expired", "untrusted"] {
                let trace = Trace::default();
                let (socket, theirs) = sockets();
                let mut peer = Scripted::server(theirs, scripted::server_config(version, name));
                let connecting = Ours::Client.connect(socket, Probe::new(&trace));
                let speaking = async {
                    // One that speaks TLS 1.3 takes the handshake for done before it is refused.
                    match peer.shake_hands().await {
                        Ok(()) => peer.read_to_end().await.1,
                        Err(end) => end,
                    }
                };
                let (connected, end) = join(connecting, speaking).await;
                let error = connected.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                assert_eq!(CloseReason::of(&error), Some(CloseReason::TlsFailed));
                let Some(TlsError::Certificate(why)) = TlsError::of(&error) else {
                    panic!("{error:?}");
                };
                let alert = match name {
                    "elsewhere" => {
                        assert!(matches!(
                            why,
                            CertificateError::NotValidForNameContext { .. }
                        ));
                        assert!(error.to_string().contains("elsewhere.example"), "{error}");
                        AlertDescription::BadCertificate
                    }
                    "expired" => {
                        assert!(matches!(why, CertificateError::ExpiredContext { .. }));
                        assert!(error.to_string().contains("expired"), "{error}");
                        AlertDescription::CertificateExpired
                    }
                    _ => {
                        assert_eq!(*why, CertificateError::UnknownIssuer);
                        AlertDescription::UnknownCA
                    }
                };
                assert_eq!(end, End::Failed(Error::AlertReceived(alert)));
                assert_eq!(trace, []);
            }
        }
    });
}

async fn server_that_asks(trace: &Trace) -> Server {
    let context = TlsServerContext::builder(cert("server.pem"), cert("server.key"))
        .client_ca(cert("ca.pem"))
        .build()
        .unwrap();
    let trace = trace.clone();
    create_server(move || Probe::new(&trace), ("127.0.0.1", 0))
        .ssl(context)
        .await
        .unwrap()
}

/// A client with a certificate is let in, and known.
#[test]
fn a_client_with_a_certificate() {
    run(async {
        for version in [TLS12, TLS13] {
            let trace = Trace::default();
            let server = server_that_asks(&trace).await;
            let config = scripted::client_config_with(version, "client");
            let mut peer = Scripted::connect(address_of(&server), config);
            peer.shake_hands().await.unwrap();
            trace.until("made").await;
            peer.write(b"hello").await;
            trace.until("data hello").await;
        }
    });
}

/// A client without one, or with a stranger's: no connection is made. TLS 1.2 tells the client in
/// the handshake, 1.3 with the first read.
#[test]
fn rustls_1707_clients_that_are_refused() {
    run(async {
        for version in [TLS12, TLS13] {
            for name in [None, Some("stranger")] {
                let trace = Trace::default();
                let server = server_that_asks(&trace).await;
                let config = match name {
                    None => scripted::client_config(version),
                    Some(name) => scripted::client_config_with(version, name),
                };
                let mut peer = Scripted::connect(address_of(&server), config);
                let shaken = peer.shake_hands().await;
                assert_eq!(shaken.is_ok(), version == TLS13);
                let end = match shaken {
                    Ok(()) => peer.read_to_end().await.1,
                    Err(end) => end,
                };
                let alert = match name {
                    Some(_) => AlertDescription::UnknownCA,
                    None => AlertDescription::CertificateRequired,
                };
                assert_eq!(end, End::Failed(Error::AlertReceived(alert)));
                drop(peer);
                server.close();
                within("the end", server.wait_closed()).await.unwrap();
                assert_eq!(trace, []);
            }
        }
    });
}

/// Our client hears of it where it is told: with TLS 1.3 that is its first read.
#[test]
fn rustls_1707_our_client_is_refused() {
    run(async {
        let trace = Trace::default();
        let server = server_that_asks(&trace).await;
        let (mut reader, writer) = evloop::open_connection(address_of(&server))
            .ssl(client_context())
            .await
            .unwrap();
        let error = within("the refusal", reader.read(1)).await.unwrap_err();
        let alert = AlertDescription::CertificateRequired;
        assert_eq!(TlsError::of(&error), Some(&TlsError::Alert(alert)));
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        drop(writer);
        assert_eq!(trace, []);
    });
}

/// The peer is told in words why it cannot be served.
#[test]
fn application_protocols_that_do_not_meet() {
    run(async {
        let context = TlsServerContext::builder(cert("server.pem"), cert("server.key"))
            .alpn(["h2", "http/1.1"])
            .build()
            .unwrap();
        for version in [TLS12, TLS13] {
            let trace = Trace::default();
            let made = trace.clone();
            let factory = move || Probe::new(&made);
            let server = create_server(factory, ("127.0.0.1", 0))
                .ssl(&context)
                .await
                .unwrap();
            for (offered, agreed) in [("http/1.1", true), ("gopher", false)] {
                let mut config = scripted::client_config(version);
                config.alpn_protocols = vec![offered.into()];
                let mut peer = Scripted::connect(address_of(&server), config);
                let shaken = peer.shake_hands().await;
                if agreed {
                    shaken.unwrap();
                    assert_eq!(peer.tls.alpn_protocol(), Some(offered.as_bytes()));
                    trace.until("made").await;
                } else {
                    let alert = AlertDescription::NoApplicationProtocol;
                    assert_eq!(shaken, Err(End::Failed(Error::AlertReceived(alert))));
                }
            }
        }
    });
}

/// No early data: somebody could send it again.
#[test]
fn early_data_is_not_offered_and_sessions_are() {
    run(async {
        let trace = Trace::default();
        let (_server, address) = server_of_probes(&trace).await;
        let mut config = scripted::client_config(TLS13);
        config.enable_early_data = true;
        for resumed in [false, true] {
            let mut peer = Scripted::connect(address, config.clone());
            peer.shake_hands().await.unwrap();
            peer.hear_what_is_there().await;
            let kind = peer.tls.handshake_kind();
            assert_eq!(kind == Some(rustls::HandshakeKind::Resumed), resumed);
            let rustls::Connection::Client(client) = &mut peer.tls else {
                panic!("a client");
            };
            assert!(client.early_data().is_none());
            assert!(!client.is_early_data_accepted());
        }
    });
}

/// Fifty that say nothing are dropped when their time is over, and leave nothing.
#[test]
fn fifty_silent_clients_are_dropped_at_the_handshake_timeout() {
    if !own_process::enter("handshakes::fifty_silent_clients_are_dropped_at_the_handshake_timeout")
    {
        return;
    }
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let limit = Duration::from_millis(500);
        let server = create_server(move || Probe::new(&made), ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .ssl_handshake_timeout(limit)
            .await
            .unwrap();
        turns(2).await;
        let before = held();
        let begun = Instant::now();
        let connect = |_| TcpStream::connect(address_of(&server)).unwrap();
        let silent: Vec<_> = (0..50).map(connect).collect();
        within("all to be accepted", async {
            while held().0 < before.0 + 100 {
                turns(1).await;
            }
        })
        .await;
        let left = (before.0 + 50, before.1);
        within("all to be dropped", async {
            while held() != left {
                evloop::sleep(Duration::from_millis(5)).await.unwrap();
            }
        })
        .await;
        assert!(begun.elapsed() >= limit);
        drop(silent);
        assert_eq!(trace, []);
        assert_eq!(held(), before);
        // Nobody is left to be waited for.
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
    });
}

/// A server that says nothing: our client gives up, and says after how long.
#[test]
fn a_silent_server_is_left_at_the_handshake_timeout() {
    if !own_process::enter("handshakes::a_silent_server_is_left_at_the_handshake_timeout") {
        return;
    }
    run(async {
        let (listener, address) = listener();
        let mut before = None;
        for _ in 0..3 {
            let limit = Duration::from_millis(50);
            let connecting = create_connection(|| Probe::new(&Trace::default()), address)
                .ssl(client_context())
                .ssl_handshake_timeout(limit);
            let error = connecting.await.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            assert_eq!(
                TlsError::of(&error),
                Some(&TlsError::HandshakeTimeout(limit))
            );
            assert_eq!(
                error.to_string(),
                "SSL handshake is taking longer than 0.05 seconds: aborting the connection"
            );
            drop(accept(&listener));
            turns(2).await;
            assert_eq!(held(), *before.get_or_insert_with(held));
        }
    });
}

/// Whoever gives up a connection that is in its handshake leaves nothing, whenever that is.
#[test]
fn a_connect_that_is_dropped_in_its_handshake_leaves_nothing() {
    if !own_process::enter("handshakes::a_connect_that_is_dropped_in_its_handshake_leaves_nothing")
    {
        return;
    }
    run(async {
        let handle = get_running_loop().unwrap();
        let mut before = None;
        for (ours, version) in KINDS {
            for after in 0..12 {
                let trace = Trace::default();
                let (mut peer, socket) = scripted(ours, version);
                let connecting = ours.connect(socket, Probe::new(&trace));
                let task = handle.create_task(connecting);
                for _ in 0..after {
                    turns(1).await;
                    peer.flush().await;
                    if peer.tls.is_handshaking() && after % 2 == 0 {
                        peer.hear_what_is_there().await;
                    }
                }
                task.cancel();
                // It may have been done already.
                if let Ok(Ok(transport)) = within("the task", task).await {
                    transport.abort();
                }
                drop(peer);
                turns(5).await;
                trace.until_count("lost", trace.count("made")).await;
                assert_eq!(trace.count("made"), trace.count("lost"), "{trace:?}");
                assert_eq!(held(), *before.get_or_insert_with(held), "after {after}");
            }
        }
    });
}

/// More than so many handshakes at a time are not begun; those that wait are served when a place is
/// free, however it became free.
#[test]
fn handshakes_beyond_the_limit_wait_for_a_place() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let server = create_server(move || Probe::new(&made), ("127.0.0.1", 0))
            .ssl(server_context("server"))
            // Who has failed has time to hear of it, and no place meanwhile.
            .ssl_shutdown_timeout(Duration::from_secs(3600))
            .max_handshakes(2)
            .await
            .unwrap();
        let address = address_of(&server);
        for way in ["done", "ended", "reset", "garbage"] {
            let connect = || Scripted::connect(address, scripted::client_config(TLS13));
            // Both places are taken by those who say nothing.
            let (mut first, second) = (connect(), connect());
            turns(5).await;
            let mut third = connect();
            third.flush().await;
            turns(10).await;
            assert!(third.hear_what_is_there().await.is_empty());
            assert!(third.tls.is_handshaking(), "{way}: there was a place");
            let made = trace.count("made");
            match way {
                "done" => {
                    first.shake_hands().await.unwrap();
                }
                "ended" => drop(first),
                "reset" => first.reset(),
                _ => first.send(b"GET / HTTP/1.0\r\n\r\n").await,
            }
            within("a place", third.shake_hands()).await.unwrap();
            let done = made + 1 + usize::from(way == "done");
            trace.until_count("made", done).await;
            drop((second, third));
            turns(5).await;
        }
    });
}

/// A place is free again when the server itself aborts those who hold it, and when they have had
/// their time.
#[test]
fn a_place_is_free_again_after_an_abort_and_after_the_timeout() {
    run(async {
        for aborts in [false, true] {
            let trace = Trace::default();
            let made = trace.clone();
            let server = create_server(move || Probe::new(&made), ("127.0.0.1", 0))
                .ssl(server_context("server"))
                .ssl_handshake_timeout(Duration::from_millis(if aborts { 60_000 } else { 100 }))
                .max_handshakes(1)
                .await
                .unwrap();
            let address = address_of(&server);
            let mut silent = Scripted::connect(address, scripted::client_config(TLS13));
            turns(5).await;
            let mut waiting = Scripted::connect(address, scripted::client_config(TLS13));
            if aborts {
                server.abort_clients();
            }
            within("a place", waiting.shake_hands()).await.unwrap();
            trace.until("made").await;
            assert!(silent.hear().await.is_err());
        }
    });
}

/// `wait_closed` waits for a client that is in its handshake, and there are three ways to end that:
/// none of them tells a protocol, which has heard of nothing.
#[test]
fn cpython_104344_wait_closed_with_a_client_in_its_handshake() {
    run(async {
        for way in ["close", "abort", "shutdown", "peer"] {
            let trace = Trace::default();
            let (server, address) = server_of_probes(&trace).await;
            let mut peer = Scripted::connect(address, scripted::client_config(TLS13));
            let hello = peer.records();
            peer.send(&hello[..100]).await;
            turns(5).await;
            server.close();
            let limit = Duration::from_millis(1);
            assert!(timeout(limit, server.wait_closed()).await.is_err());
            match way {
                "close" => server.close_clients(),
                "abort" => server.abort_clients(),
                "shutdown" => {
                    let report = server.shutdown().await;
                    let _ = report.unwrap();
                }
                _ => peer.finish(),
            }
            within("the end", server.wait_closed()).await.unwrap();
            assert_eq!(trace, []);
            assert!(peer.hear().await.is_err());
        }
    });
}

/// A stream server's callback hears of nobody before the handshake is done.
#[test]
fn a_stream_server_is_called_behind_the_handshake() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let callback = move |mut reader: StreamReader, writer: StreamWriter| {
            said.say("called");
            async move {
                let details = writer.get_extra_info(TlsSession).unwrap();
                assert_eq!(details.server_name.as_deref(), Some("localhost"));
                let line = reader.readline().await?;
                writer.write(&line);
                writer.drain().await
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .await
            .unwrap();
        let address = address_of(&server);
        let mut peer = Scripted::connect(address, scripted::client_config(TLS13));
        let last = peer.shake_hands_but_for_the_last().await;
        turns(10).await;
        assert_eq!(trace, []);
        peer.send(&last).await;
        peer.write(b"line\n").await;
        assert_eq!(peer.read_to_end().await, (b"line\n".to_vec(), End::Clean));
        assert_eq!(trace, ["called"]);
    });
}

/// Who comes after the reload sees the new certificate, who was there goes on; a pair that does not
/// fit changes nothing.
#[test]
fn a_certificate_is_exchanged_under_a_running_server() {
    run(async {
        let folder = Folder::new();
        let (pem, key) = (folder.path("now.pem"), folder.path("now.key"));
        let install = |certificate: &str, private: &str| {
            std::fs::copy(cert(&format!("{certificate}.pem")), &pem).unwrap();
            std::fs::copy(cert(&format!("{private}.key")), &key).unwrap();
        };
        install("server", "server");
        let context = TlsServerContext::from_pem_files(&pem, &key).unwrap();
        let trace = Trace::default();
        let made = trace.clone();
        let factory = move || {
            Probe::new(&made).doing(|call, transport| {
                if let crate::probe::Call::Data(data) = call {
                    transport.write(*data);
                }
            })
        };
        let server = create_server(factory, ("127.0.0.1", 0))
            .ssl(&context)
            .await
            .unwrap();
        let connect = async || {
            let config = scripted::client_config(TLS13);
            let mut peer = Scripted::connect(address_of(&server), config);
            peer.shake_hands().await.unwrap();
            let shown = peer.tls.peer_certificates().unwrap()[0].clone();
            (peer, shown)
        };
        let (server_s, second_s) = (
            scripted::certificates("server").remove(0),
            scripted::certificates("second").remove(0),
        );
        let (mut old, shown) = connect().await;
        assert_eq!(shown, server_s);

        install("second", "second");
        context.reload().unwrap();
        let (mut new, shown) = connect().await;
        assert_eq!(shown, second_s);
        // Of a pair that is only half written, and of none.
        install("server", "second");
        let error = context.reload().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let message = error.to_string();
        let words = "now.key: the key is not the one of the certificate";
        assert!(message.contains(words), "{message}");
        std::fs::remove_file(&pem).unwrap();
        let error = context.reload().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("now.pem"), "{error}");
        let (_newest, shown) = connect().await;
        assert_eq!(shown, second_s);
        for peer in [&mut old, &mut new] {
            peer.hear_what_is_there().await;
            peer.write(b"still here").await;
            assert_eq!(peer.read(10).await, b"still here");
        }
    });
}

/// The name that is verified is the host's, or another one that is said; an address is verified,
/// too, and never sent.
#[test]
fn the_name_that_a_client_asks_for() {
    run(async {
        for (name, sent) in [
            (None, None),
            (Some("127.0.0.1"), None),
            (Some("::1"), None),
            (Some("localhost"), Some("localhost")),
        ] {
            let (listener, address) = listener();
            let mut connecting =
                create_connection(|| Probe::new(&Trace::default()), address).ssl(client_context());
            if let Some(name) = name {
                connecting = connecting.server_hostname(name);
            }
            let answering = async {
                turns(1).await;
                let mut peer =
                    Scripted::accept(&listener, scripted::server_config(TLS13, "server"));
                peer.shake_hands().await.unwrap();
                peer
            };
            let (connected, peer) = join(connecting.into_future(), answering).await;
            let (transport, _) = connected.unwrap();
            let rustls::Connection::Server(server) = &peer.tls else {
                panic!("a server");
            };
            assert_eq!(server.server_name(), sent);
            let details = transport.get_extra_info(TlsSession).unwrap();
            assert_eq!(
                details.server_name.as_deref(),
                Some(name.unwrap_or("127.0.0.1"))
            );
            assert_eq!(
                transport.get_extra_info(evloop::PeerName),
                Some(address.into())
            );
            let name = transport.get_extra_info(evloop::SockName).unwrap();
            assert_eq!(name.as_inet(), Some(peer.socket.peer_addr().unwrap()));
        }
    });
}

/// What the two sides know of what they agreed upon.
#[test]
fn what_was_agreed_upon_can_be_asked() {
    run(async {
        for (ours, version) in KINDS {
            let (transport, peer) = pair(ours, version, Probe::new(&Trace::default())).await;
            let details = transport.get_extra_info(TlsSession).unwrap();
            assert_eq!(Some(details.version), peer.tls.protocol_version());
            let suite = peer.tls.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(details.cipher_suite, suite);
            assert_eq!(details.server_name.as_deref(), Some("localhost"));
            let shown = if ours == Ours::Client { 1 } else { 0 };
            assert_eq!(details.peer_certificates.len(), shown);
            assert!(!details.resumed);
            transport.abort();
            turns(3).await;
            assert!(transport.get_extra_info(TlsSession).is_some());
        }
    });
}

/// A factory that is in its handshake when `connection_made` would fail: as without TLS.
#[test]
fn a_protocol_that_panics_behind_the_handshake_costs_one_connection() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        for (ours, version) in KINDS {
            let probe = Probe::new(&Trace::default()).doing(|call, _| {
                if let crate::probe::Call::Made = call {
                    panic!("on purpose");
                }
            });
            let (mut peer, socket) = scripted(ours, version);
            let connecting = ours.connect(socket, probe).into_future();
            let (_, shaken) = join(connecting, peer.shake_hands()).await;
            if shaken.is_ok() {
                assert_ne!(peer.read_to_end().await.1, End::Clean);
            }
        }
        let lines = trace.lines();
        let reported = "report: Fatal error: protocol.connection_made() call failed.";
        let mut reports = lines.iter().filter(|line| line.starts_with(reported));
        assert_eq!(reports.by_ref().count(), 4, "{trace:?}");
    });
}

/// A peer that says goodbye in the middle of the handshake.
#[test]
fn a_goodbye_in_the_middle_of_the_handshake() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (mut peer, socket) = scripted(ours, version);
            let connecting = ours.connect(socket, Probe::new(&trace));
            let speaking = async {
                if ours == Ours::Server {
                    peer.flush().await;
                    turns(3).await;
                }
                // Not encrypted: a warning, close_notify.
                peer.send(&[21, 3, 3, 0, 2, 1, 0]).await;
                peer.finish();
                peer
            };
            let (connected, _peer) = join(connecting, speaking).await;
            let error = connected.unwrap_err();
            assert!(TlsError::of(&error).is_some(), "{error:?}");
            assert_eq!(trace, []);
        }
    });
}

/// A server that takes one connection at a time counts those in their handshakes.
#[test]
fn a_connection_in_its_handshake_takes_a_place_among_the_connections() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let server = create_server(move || Probe::new(&made), ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .max_connections(1)
            .await
            .unwrap();
        let connect = || Scripted::connect(address_of(&server), scripted::client_config(TLS13));
        let silent = connect();
        turns(5).await;
        for round in 1..4 {
            let mut next = connect();
            next.flush().await;
            if round == 1 {
                assert!(next.hear_what_is_there().await.is_empty());
                assert!(next.tls.is_handshaking());
                silent.finish();
            }
            within("a place", next.shake_hands()).await.unwrap();
            trace.until_count("made", round).await;
            let goodbye = next.close_notify();
            next.send(&goodbye).await;
            next.finish();
            trace.until_count("lost", round).await;
        }
    });
}

/// Over a unix socket there is no name but the one that is said.
#[test]
fn tls_over_a_unix_socket() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("socket");
        let callback = |mut reader: StreamReader, writer: StreamWriter| async move {
            let line = reader.readline().await?;
            writer.write(&line);
            writer.drain().await
        };
        let _server = evloop::start_unix_server(callback, &path)
            .ssl(server_context("server"))
            .await
            .unwrap();
        let (mut reader, writer) = evloop::open_unix_connection(&path)
            .ssl(client_context())
            .server_hostname("localhost")
            .await
            .unwrap();
        writer.write(b"hello\n");
        let answer = within("the answer", reader.readline()).await.unwrap();
        assert_eq!(answer, b"hello\n");
        assert!(writer.get_extra_info(evloop::PeerCredentials).is_some());
        let error = evloop::open_unix_connection(&path)
            .ssl(client_context())
            .server_hostname("elsewhere.example")
            .await
            .map(drop)
            .unwrap_err();
        assert!(matches!(
            TlsError::of(&error),
            Some(TlsError::Certificate(_))
        ));
    });
}

/// The header of a proxy takes the place already: behind it there would be none to wait for.
#[cfg(feature = "proxy")]
#[test]
fn a_place_is_taken_before_the_header_of_a_proxy() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let server = create_server(move || Probe::new(&made), ("127.0.0.1", 0))
            .ssl(server_context("server"))
            .proxy_protocol(crate::common::PATIENCE)
            .max_handshakes(1)
            .await
            .unwrap();
        let address = address_of(&server);
        let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n";
        for says_the_header in [false, true] {
            let connect = || Scripted::connect(address, scripted::client_config(TLS13));
            let mut first = connect();
            if says_the_header {
                first.send(header).await;
            }
            turns(5).await;
            let mut second = connect();
            second.send(header).await;
            second.flush().await;
            assert!(second.hear_what_is_there().await.is_empty());
            assert!(second.tls.is_handshaking(), "there was a place");
            drop(first);
            within("a place", second.shake_hands()).await.unwrap();
            drop(second);
            turns(5).await;
        }
        trace.until_count("made", 2).await;
    });
}
