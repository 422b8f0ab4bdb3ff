//! `openssl s_server` and `openssl s_client` at the other end, with both versions of TLS.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use evloop::rustls::pki_types::CertificateDer;
use evloop::rustls::pki_types::pem::PemObject;
use evloop::rustls::{AlertDescription, CipherSuite, NamedGroup, ProtocolVersion};
use evloop::{
    CloseReason, ClosedBecause, OpenConnection, Server, StreamReader, StreamWriter,
    TlsClientContext, TlsError, TlsServerContext, TlsSession, open_connection, start_server,
};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};

use crate::common::folder::Folder;
use crate::common::peers::require;
use crate::common::{run, within};
use crate::support::{cert, client_context, server_context};
use crate::talk::Talk;

/// A version of TLS: what openssl calls it, and us.
struct Version {
    flag: &'static str,
    version: ProtocolVersion,
    /// Whether the one direction can end alone.
    half_close: bool,
    /// A cipher suite that nobody chooses unless told to.
    cipher_flags: [&'static str; 2],
    cipher: CipherSuite,
}

const TLS_1_2: Version = Version {
    flag: "-tls1_2",
    version: ProtocolVersion::TLSv1_2,
    half_close: false,
    cipher_flags: ["-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
    cipher: CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
};
const TLS_1_3: Version = Version {
    flag: "-tls1_3",
    version: ProtocolVersion::TLSv1_3,
    half_close: true,
    cipher_flags: ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
    cipher: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
};
const VERSIONS: [Version; 2] = [TLS_1_2, TLS_1_3];

/// Far more than an answer takes, so that nobody mistakes it for one.
const LONG: Duration = Duration::from_secs(25);

fn has_openssl() -> bool {
    require("openssl", "openssl") && require("stdbuf", "coreutils")
}

fn path(name: &str) -> String {
    cert(name).to_str().expect("text").to_owned()
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(cert(name)).unwrap()
}

/// A server that speaks this version only, and its address.
async fn s_server(version: &Version, more: &[&str]) -> (Talk, SocketAddr) {
    let (cert, key) = (path("server.pem"), path("server.key"));
    // What it prints is not kept back.
    let mut args = vec!["-o0", "openssl", "s_server", version.flag];
    args.extend(["-accept", "127.0.0.1:0"]);
    args.extend(["-cert", &cert, "-key", &key]);
    args.extend(more);
    let mut server = Talk::start("stdbuf", &args);
    let address = server.see_address("ACCEPT ").await;
    (server, address)
}

/// A connection to it, by a name that its certificate is for.
fn connect(address: SocketAddr, context: &TlsClientContext) -> OpenConnection {
    let connecting = open_connection(("localhost", address.port())).ssl(context);
    connecting.ssl_shutdown_timeout(LONG)
}

type Connections = UnboundedReceiver<(StreamReader, StreamWriter)>;

/// A server of ours, and its connections.
async fn serve(context: TlsServerContext) -> (Server, Connections) {
    serve_until(context, LONG).await
}

/// The same, which waits so long for a peer's last word.
async fn serve_until(context: TlsServerContext, shutdown: Duration) -> (Server, Connections) {
    let (sender, connections) = unbounded();
    let handler = move |reader: StreamReader, writer: StreamWriter| {
        sender
            .unbounded_send((reader, writer))
            .expect("a test that listens");
    };
    let server = start_server(handler, ("127.0.0.1", 0)).ssl(context);
    let server = server.ssl_shutdown_timeout(shutdown).await.unwrap();
    (server, connections)
}

async fn next(connections: &mut Connections) -> (StreamReader, StreamWriter) {
    within("a connection", connections.next()).await.unwrap()
}

/// A client that speaks this version only, and verifies the server.
fn s_client(server: &Server, version: &Version, more: &[&str]) -> Talk {
    let address = server.sockets()[0].as_inet().unwrap().to_string();
    let roots = path("ca.pem");
    let mut args = vec!["s_client", "-connect", &address, version.flag];
    args.extend(["-CAfile", &roots, "-verify_return_error"]);
    args.extend(["-verify_hostname", "localhost"]);
    args.extend(more);
    Talk::start("openssl", &args)
}

/// Closes, and waits for the end, which has to come by the peer and not by the clock.
async fn part(writer: &StreamWriter) {
    writer.close();
    let since = Instant::now();
    within("the end", writer.wait_closed()).await.unwrap();
    assert!(since.elapsed() < LONG / 2, "{:?}", since.elapsed());
}

async fn end(server: &Server) {
    server.close();
    within("the server's end", server.wait_closed())
        .await
        .unwrap();
}

/// Both directions, a line each, with a peer that shows what comes and sends what it is told.
async fn converse(reader: &mut StreamReader, writer: &StreamWriter, peer: &mut Talk) {
    writer.write(b"hello from us\n");
    peer.see("hello from us\n").await;
    peer.say("hello from openssl");
    let line = within("a line", reader.readline()).await.unwrap();
    assert_eq!(line, b"hello from openssl\n");
}

fn alert(error: &std::io::Error) -> AlertDescription {
    match TlsError::of(error) {
        Some(TlsError::Alert(alert)) => *alert,
        _ => panic!("{error:?}"),
    }
}

#[test]
fn our_client_and_s_server_hear_each_other_and_we_know_what_was_agreed() {
    if !has_openssl() {
        return;
    }
    run(async {
        let context = TlsClientContext::builder()
            .root_file(cert("ca.pem"))
            .alpn(["h2", "http/1.1"])
            .build()
            .unwrap();
        for version in VERSIONS {
            let mut args = vec!["-naccept", "1", "-alpn", "http/1.1"];
            args.extend(version.cipher_flags);
            let (mut server, address) = s_server(&version, &args).await;
            let (mut reader, writer) = connect(address, &context).await.unwrap();
            let session = writer.get_extra_info(TlsSession).unwrap();
            assert_eq!(session.version, version.version);
            assert_eq!(session.cipher_suite, version.cipher);
            assert!(session.key_exchange.is_some());
            assert_eq!(session.alpn.as_deref(), Some(&b"http/1.1"[..]));
            assert_eq!(session.server_name.as_deref(), Some("localhost"));
            assert_eq!(session.peer_certificates, [certificate("server.pem")]);
            assert!(!session.resumed);
            assert_eq!(writer.can_write_eof(), version.half_close);
            converse(&mut reader, &writer, &mut server).await;
            part(&writer).await;
            let (code, transcript) = server.end().await;
            assert_eq!(code, Some(0), "{transcript}");
            assert!(transcript.contains("DONE"), "{transcript}");
        }
    });
}

#[test]
fn our_client_asks_for_the_name_and_for_none_where_it_has_an_address() {
    if !has_openssl() {
        return;
    }
    run(async {
        // Another certificate for whoever asks for this name.
        let (cert2, key2) = (path("second.pem"), path("second.key"));
        let args = ["-servername", "localhost", "-cert2", &cert2, "-key2", &key2];
        for version in VERSIONS {
            let (mut server, address) = s_server(&version, &args).await;
            for (host, certificate_file) in
                [("localhost", "second.pem"), ("127.0.0.1", "server.pem")]
            {
                let connecting = open_connection((host, address.port())).ssl(client_context());
                let (mut reader, writer) = connecting.await.unwrap();
                let session = writer.get_extra_info(TlsSession).unwrap();
                assert_eq!(session.server_name.as_deref(), Some(host));
                assert_eq!(session.peer_certificates, [certificate(certificate_file)]);
                assert_eq!(session.alpn, None);
                converse(&mut reader, &writer, &mut server).await;
                part(&writer).await;
            }
        }
    });
}

#[test]
fn s_client_and_our_server_hear_each_other_and_we_know_what_was_agreed() {
    if !has_openssl() {
        return;
    }
    run(async {
        for version in VERSIONS {
            let context =
                TlsServerContext::builder(cert("server.pem"), cert("server.key")).alpn(["h2"]);
            let (server, mut connections) = serve(context.build().unwrap()).await;
            let mut args = vec!["-servername", "localhost", "-alpn", "http/1.1,h2"];
            args.extend(version.cipher_flags);
            let mut client = s_client(&server, &version, &args);
            let (mut reader, writer) = next(&mut connections).await;
            let session = writer.get_extra_info(TlsSession).unwrap();
            assert_eq!(session.version, version.version);
            assert_eq!(session.cipher_suite, version.cipher);
            assert!(session.key_exchange.is_some());
            assert_eq!(session.alpn.as_deref(), Some(&b"h2"[..]));
            assert_eq!(session.server_name.as_deref(), Some("localhost"));
            assert_eq!(session.peer_certificates, []);
            assert!(!session.resumed);
            assert_eq!(writer.can_write_eof(), version.half_close);
            client.see("ALPN protocol: h2\n").await;
            converse(&mut reader, &writer, &mut client).await;
            part(&writer).await;
            let (code, transcript) = client.end().await;
            assert_eq!(code, Some(0), "{transcript}");
            assert!(transcript.contains("Verified peername: localhost"));
            end(&server).await;
        }
    });
}

#[test]
fn our_server_knows_no_name_where_the_client_asked_for_none() {
    if !has_openssl() {
        return;
    }
    run(async {
        let (server, mut connections) = serve(server_context("server")).await;
        for version in VERSIONS {
            let mut client = s_client(&server, &version, &["-noservername"]);
            let (mut reader, writer) = next(&mut connections).await;
            let session = writer.get_extra_info(TlsSession).unwrap();
            assert_eq!((&session.server_name, &session.alpn), (&None, &None));
            converse(&mut reader, &writer, &mut client).await;
            part(&writer).await;
        }
        end(&server).await;
    });
}

#[test]
fn a_client_that_knows_other_protocols_only_is_refused_by_our_server_with_an_alert() {
    if !has_openssl() {
        return;
    }
    run(async {
        let context =
            TlsServerContext::builder(cert("server.pem"), cert("server.key")).alpn(["h2"]);
        let (server, mut connections) = serve(context.build().unwrap()).await;
        for version in VERSIONS {
            let client = s_client(&server, &version, &["-alpn", "spdy/1"]);
            let (code, transcript) = client.end().await;
            assert_eq!(code, Some(1), "{transcript}");
            assert!(transcript.contains("SSL alert number 120"), "{transcript}");
        }
        end(&server).await;
        assert!(connections.try_recv().is_err(), "nobody was let in");
    });
}

/// How openssl tells of a `close_notify`, which it received or sent.
fn goodbyes(transcript: &str, direction: &str) -> usize {
    let is_one = |line: &&str| {
        let is_alert = line.starts_with(direction) && line.contains(" Alert ");
        is_alert && line.ends_with("warning close_notify")
    };
    transcript.lines().filter(is_one).count()
}

#[test]
fn our_client_closes_first_and_s_server_is_told_and_answers() {
    if !has_openssl() {
        return;
    }
    run(async {
        for version in VERSIONS {
            let (mut server, address) = s_server(&version, &["-naccept", "1", "-msg"]).await;
            let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
            converse(&mut reader, &writer, &mut server).await;
            writer.write(b"the last line\n");
            part(&writer).await;
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::Closed)
            );
            server.see("the last line\n").await;
            let (code, transcript) = server.end().await;
            assert_eq!(code, Some(0), "{transcript}");
            assert_eq!(goodbyes(&transcript, "<<<"), 1, "{transcript}");
            assert_eq!(goodbyes(&transcript, ">>>"), 1, "{transcript}");
        }
    });
}

#[test]
fn s_server_closes_first_and_our_client_reads_the_end_and_answers() {
    if !has_openssl() {
        return;
    }
    run(async {
        for version in VERSIONS {
            // It answers one request with a page about itself, and closes.
            let args = ["-naccept", "1", "-msg", "-www"];
            let (server, address) = s_server(&version, &args).await;
            let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
            writer.write(b"GET / HTTP/1.0\r\n\r\n");
            let page = within("the end", reader.read_to_end(1 << 20))
                .await
                .unwrap();
            assert!(page.starts_with(b"HTTP/1.0 200 ok\r\n"));
            assert!(page.ends_with(b"</pre></BODY></HTML>\r\n\r\n"));
            part(&writer).await;
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::PeerEof)
            );
            let (_, transcript) = server.end().await;
            assert_eq!(goodbyes(&transcript, ">>>"), 1, "{transcript}");
        }
    });
}

#[test]
fn our_server_closes_first_and_s_client_is_told_and_answers() {
    if !has_openssl() {
        return;
    }
    run(async {
        let (server, mut connections) = serve(server_context("server")).await;
        for version in VERSIONS {
            let mut client = s_client(&server, &version, &["-msg"]);
            let (mut reader, writer) = next(&mut connections).await;
            converse(&mut reader, &writer, &mut client).await;
            writer.write(b"the last line\n");
            part(&writer).await;
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::Closed)
            );
            client.see("the last line\n").await;
            client.see("closed\n").await;
            let (code, transcript) = client.end().await;
            assert_eq!(code, Some(0), "{transcript}");
            assert_eq!(goodbyes(&transcript, "<<<"), 1, "{transcript}");
            assert_eq!(goodbyes(&transcript, ">>>"), 1, "{transcript}");
        }
        end(&server).await;
    });
}

#[test]
fn s_client_closes_first_and_our_server_reads_the_end_and_answers() {
    if !has_openssl() {
        return;
    }
    run(async {
        let (server, mut connections) = serve(server_context("server")).await;
        for version in VERSIONS {
            let mut client = s_client(&server, &version, &["-msg"]);
            let (mut reader, writer) = next(&mut connections).await;
            converse(&mut reader, &writer, &mut client).await;
            client.say("the last line");
            client.hang_up();
            let last = within("the end", reader.read_to_end(1 << 20))
                .await
                .unwrap();
            assert_eq!(last, b"the last line\n");
            part(&writer).await;
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::PeerEof)
            );
            let (code, transcript) = client.end().await;
            assert_eq!(code, Some(0), "{transcript}");
            assert_eq!(goodbyes(&transcript, ">>>"), 1, "{transcript}");
        }
        end(&server).await;
    });
}

#[test]
fn write_eof_ends_our_half_on_tls_1_3_and_is_unsupported_on_1_2() {
    if !has_openssl() {
        return;
    }
    run(async {
        for version in VERSIONS {
            let (mut server, address) = s_server(&version, &["-naccept", "1"]).await;
            let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
            converse(&mut reader, &writer, &mut server).await;
            if version.half_close {
                writer.write(b"the last line\n");
                writer.write_eof().unwrap();
                server.see("the last line\n").await;
                // s_server answers by ending the connection.
                server.see("DONE").await;
                assert_eq!(within("the end", reader.read(1)).await.unwrap(), b"");
            } else {
                let refusal = writer.write_eof().unwrap_err();
                assert_eq!(refusal.kind(), ErrorKind::Unsupported);
                converse(&mut reader, &writer, &mut server).await;
            }
            part(&writer).await;
        }
    });
}

/// A program that stands still neither reads nor answers, but its system takes what is sent.
#[test]
fn a_peer_that_never_answers_our_close_notify_costs_no_more_than_the_shutdown_timeout() {
    if !has_openssl() {
        return;
    }
    run(async {
        let limit = Duration::from_millis(300);
        for version in VERSIONS {
            let (mut peer, address) = s_server(&version, &["-naccept", "1"]).await;
            let connecting = connect(address, &client_context()).ssl_shutdown_timeout(limit);
            let (mut reader, writer) = connecting.await.unwrap();
            converse(&mut reader, &writer, &mut peer).await;
            close_on_somebody_who_stands_still(&writer, &peer, limit).await;

            let (server, mut connections) = serve_until(server_context("server"), limit).await;
            let mut peer = s_client(&server, &version, &[]);
            let (mut reader, writer) = next(&mut connections).await;
            converse(&mut reader, &writer, &mut peer).await;
            close_on_somebody_who_stands_still(&writer, &peer, limit).await;
            end(&server).await;
        }
    });
}

async fn close_on_somebody_who_stands_still(writer: &StreamWriter, peer: &Talk, limit: Duration) {
    peer.signal("STOP");
    writer.close();
    let since = Instant::now();
    within("the end", writer.wait_closed()).await.unwrap();
    let taken = since.elapsed();
    assert!(limit <= taken && taken < LONG, "{taken:?}");
}

#[test]
fn a_peer_that_is_killed_is_a_truncation_and_no_clean_end() {
    if !has_openssl() {
        return;
    }
    run(async {
        for version in VERSIONS {
            let (mut server, address) = s_server(&version, &["-naccept", "1"]).await;
            let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
            converse(&mut reader, &writer, &mut server).await;
            server.say("half of what it wanted to say");
            let line = within("a line", reader.readline()).await.unwrap();
            assert_eq!(line, b"half of what it wanted to say\n");
            drop(server);
            let error = within("the end", reader.read(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert_eq!(TlsError::of(&error), Some(&TlsError::Truncated));
            writer.close();
            drop(within("the end", writer.wait_closed()).await);
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::Truncated)
            );
        }
    });
}

fn client_with(name: &str) -> TlsClientContext {
    TlsClientContext::builder()
        .root_file(cert("ca.pem"))
        .client_cert(cert(&format!("{name}.pem")), cert(&format!("{name}.key")))
        .build()
        .unwrap()
}

/// Lets in only those whom our authority has signed.
const STRICT: [&str; 4] = ["-Verify", "1", "-verify_return_error", "-CAfile"];

#[test]
fn our_clients_certificate_is_shown_to_s_server() {
    if !has_openssl() {
        return;
    }
    run(async {
        let roots = path("ca.pem");
        for version in VERSIONS {
            let mut args = STRICT.to_vec();
            args.extend([&roots, "-naccept", "1"]);
            let (mut server, address) = s_server(&version, &args).await;
            let (mut reader, writer) = connect(address, &client_with("client")).await.unwrap();
            server.see("subject=CN = client\n").await;
            converse(&mut reader, &writer, &mut server).await;
            part(&writer).await;
        }
    });
}

/// On TLS 1.3 a client is done before the server has seen its certificate, so it hears of the
/// refusal with its first read.
#[test]
fn a_refusal_of_our_clients_certificate_is_an_alert_of_the_handshake_or_of_the_first_read() {
    if !has_openssl() {
        return;
    }
    run(async {
        let roots = path("ca.pem");
        for version in VERSIONS {
            for (context, expected) in [
                (client_context(), None),
                (client_with("stranger"), Some(AlertDescription::UnknownCA)),
            ] {
                // What openssl says for want of a certificate depends on the version.
                let expected = expected.unwrap_or(if version.half_close {
                    AlertDescription::CertificateRequired
                } else {
                    AlertDescription::HandshakeFailure
                });
                let mut args = STRICT.to_vec();
                args.extend([&roots, "-naccept", "1"]);
                let (_server, address) = s_server(&version, &args).await;
                let outcome = connect(address, &context).await;
                let error = if version.half_close {
                    let (mut reader, writer) = outcome.unwrap();
                    let error = within("the refusal", reader.read(1)).await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                    writer.close();
                    let end = within("the end", writer.wait_closed()).await.unwrap_err();
                    assert_eq!(alert(&end), expected);
                    error
                } else {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                    error
                };
                assert_eq!(alert(&error), expected);
                assert_eq!(CloseReason::of(&error), Some(CloseReason::TlsFailed));
            }
        }
    });
}

#[test]
fn our_server_lets_in_whom_its_authority_has_signed_and_tells_others_why_not() {
    if !has_openssl() {
        return;
    }
    run(async {
        let context = TlsServerContext::builder(cert("server.pem"), cert("server.key"))
            .client_ca(cert("ca.pem"))
            .build()
            .unwrap();
        let (server, mut connections) = serve(context).await;
        let files = |name: &str| (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        for version in VERSIONS {
            let (cert, key) = files("client");
            let mut client = s_client(&server, &version, &["-cert", &cert, "-key", &key]);
            let (mut reader, writer) = next(&mut connections).await;
            let session = writer.get_extra_info(TlsSession).unwrap();
            assert_eq!(session.peer_certificates[0], certificate("client.pem"));
            converse(&mut reader, &writer, &mut client).await;
            part(&writer).await;

            let (cert, key) = files("stranger");
            let client = s_client(&server, &version, &["-cert", &cert, "-key", &key]);
            let (code, transcript) = client.end().await;
            assert_eq!(code, Some(1), "{transcript}");
            assert!(transcript.contains("alert unknown ca"), "{transcript}");

            let client = s_client(&server, &version, &[]);
            let (code, transcript) = client.end().await;
            assert_eq!(code, Some(1), "{transcript}");
            // "Certificate required".
            assert!(transcript.contains("SSL alert number 116"), "{transcript}");
        }
        end(&server).await;
        assert!(connections.try_recv().is_err(), "nobody else was let in");
    });
}

#[test]
fn our_client_goes_on_with_an_earlier_session_of_s_server() {
    if !has_openssl() {
        return;
    }
    run(async {
        for version in VERSIONS {
            let (mut server, address) = s_server(&version, &["-naccept", "3"]).await;
            let context = client_context();
            for (expected, context) in [
                (false, &context),
                (true, &context),
                // Another context has sessions of its own.
                (false, &client_context()),
            ] {
                let (mut reader, writer) = connect(address, context).await.unwrap();
                let session = writer.get_extra_info(TlsSession).unwrap();
                assert_eq!(session.resumed, expected);
                assert_eq!(session.version, version.version);
                assert_eq!(session.peer_certificates, [certificate("server.pem")]);
                converse(&mut reader, &writer, &mut server).await;
                part(&writer).await;
            }
            let (_, transcript) = server.end().await;
            let reused = transcript.matches("Reused session-id").count();
            assert_eq!(reused, 1, "{transcript}");
        }
    });
}

#[test]
fn s_client_goes_on_with_an_earlier_session_of_our_server() {
    if !has_openssl() {
        return;
    }
    run(async {
        let folder = Folder::new();
        let (server, mut connections) = serve(server_context("server")).await;
        for version in VERSIONS {
            let file = folder.path(version.flag);
            let file = file.to_str().unwrap();
            for (flag, said, resumed) in [
                ("-sess_out", "New, ", false),
                ("-sess_in", "Reused, ", true),
            ] {
                let mut client = s_client(&server, &version, &[flag, file]);
                let (mut reader, writer) = next(&mut connections).await;
                let session = writer.get_extra_info(TlsSession).unwrap();
                assert_eq!(session.resumed, resumed);
                assert_eq!(session.version, version.version);
                client.see(said).await;
                // Behind this it has its tickets.
                converse(&mut reader, &writer, &mut client).await;
                client.hang_up();
                assert_eq!(within("the end", reader.read(1)).await.unwrap(), b"");
                part(&writer).await;
                let (code, transcript) = client.end().await;
                assert_eq!(code, Some(0), "{transcript}");
            }
            assert!(Path::new(file).is_file());
        }
        end(&server).await;
    });
}

#[test]
fn new_keys_from_an_idle_peer_change_nothing() {
    if !has_openssl() {
        return;
    }
    run(async {
        let (server, mut connections) = serve(server_context("server")).await;
        let mut client = s_client(&server, &TLS_1_3, &["-msg"]);
        let (mut reader, writer) = next(&mut connections).await;
        converse(&mut reader, &writer, &mut client).await;
        for wanted in ["K", "k", "K", "K"] {
            // With the wish that we change ours as well, and without.
            client.say(wanted);
            client.see("KEYUPDATE\n").await;
        }
        converse(&mut reader, &writer, &mut client).await;
        client.say("K");
        client.see("KEYUPDATE\n").await;
        client.say("behind the new keys");
        let line = within("a line", reader.readline()).await.unwrap();
        assert_eq!(line, b"behind the new keys\n");
        part(&writer).await;
        let (code, transcript) = client.end().await;
        assert_eq!(code, Some(0), "{transcript}");
        let changed = |direction: &str| {
            let lines = transcript.lines();
            let lines = lines.filter(|line| line.starts_with(direction));
            lines.filter(|line| line.ends_with("KeyUpdate")).count()
        };
        assert_eq!(changed(">>>"), 5, "{transcript}");
        assert!(changed("<<<") >= 1, "{transcript}");
        end(&server).await;

        let (mut server, address) = s_server(&TLS_1_3, &["-naccept", "1"]).await;
        let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
        converse(&mut reader, &writer, &mut server).await;
        for wanted in ["K", "k", "K"] {
            server.say(wanted);
            server.see("SSL_do_handshake -> 1\n").await;
        }
        converse(&mut reader, &writer, &mut server).await;
        part(&writer).await;
    });
}

/// A client guesses which group of the key exchange it will be. Where it is another one, the
/// handshake takes a round more.
#[test]
fn the_first_guess_of_a_key_exchange_may_be_wrong() {
    if !has_openssl() {
        return;
    }
    run(async {
        let (mut server, address) = s_server(&TLS_1_3, &["-groups", "P-384"]).await;
        let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
        let session = writer.get_extra_info(TlsSession).unwrap();
        assert_eq!(session.key_exchange, Some(NamedGroup::secp384r1));
        converse(&mut reader, &writer, &mut server).await;
        part(&writer).await;

        let (server, mut connections) = serve(server_context("server")).await;
        let mut client = s_client(&server, &TLS_1_3, &["-groups", "P-521:P-384"]);
        let (mut reader, writer) = next(&mut connections).await;
        let session = writer.get_extra_info(TlsSession).unwrap();
        assert_eq!(session.key_exchange, Some(NamedGroup::secp384r1));
        converse(&mut reader, &writer, &mut client).await;
        part(&writer).await;
        end(&server).await;
    });
}

#[test]
fn a_peer_that_knows_older_versions_only_is_refused_and_told_why() {
    if !has_openssl() {
        return;
    }
    run(async {
        let old = Version {
            flag: "-tls1_1",
            ..TLS_1_2
        };
        // openssl itself has to be talked into it.
        let lax = ["-cipher", "ALL:@SECLEVEL=0"];
        let (_server, address) = s_server(&old, &lax).await;
        let error = connect(address, &client_context()).await.unwrap_err();
        assert_eq!(alert(&error), AlertDescription::ProtocolVersion);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

        let (server, mut connections) = serve(server_context("server")).await;
        let (code, transcript) = s_client(&server, &old, &lax).end().await;
        assert_eq!(code, Some(1), "{transcript}");
        assert!(transcript.contains("SSL alert number"), "{transcript}");
        end(&server).await;
        assert!(connections.try_recv().is_err(), "nobody was let in");
    });
}

/// What TLS 1.2 calls a renegotiation has been a way to attack it, and rustls knows none.
#[test]
fn a_renegotiation_is_refused_and_nobody_waits_for_it() {
    if !has_openssl() {
        return;
    }
    run(async {
        let (server, mut connections) = serve(server_context("server")).await;
        let mut client = s_client(&server, &TLS_1_2, &["-msg"]);
        let (mut reader, writer) = next(&mut connections).await;
        converse(&mut reader, &writer, &mut client).await;
        client.say("R");
        let (code, transcript) = client.end().await;
        assert_eq!(code, Some(1), "{transcript}");
        assert!(transcript.contains("no renegotiation"), "{transcript}");
        let error = within("the end", reader.read(1)).await.unwrap_err();
        assert_eq!(alert(&error), AlertDescription::HandshakeFailure);
        writer.close();
        within("the end", writer.wait_closed()).await.unwrap_err();
        end(&server).await;
    });
}
