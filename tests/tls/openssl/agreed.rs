//! What was said, and what was agreed upon before: versions, ciphers, names, protocols, groups.

use std::io::ErrorKind;

use evloop::rustls::{AlertDescription, NamedGroup};
use evloop::{TlsClientContext, TlsServerContext, TlsSession, get_running_loop, open_connection};

use super::{
    TLS_1_2, TLS_1_3, VERSIONS, Version, alert, certificate, connect, converse, end, has_openssl,
    next, part, path, s_client, s_server, serve,
};
use crate::common::{in_thread, within};
use crate::quiet::run_quietly;
use crate::support::{cert, client_context, server_context};

#[test]
fn our_client_and_s_server_hear_each_other_and_we_know_what_was_agreed() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
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
    run_quietly(async {
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
    run_quietly(async {
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
    run_quietly(async {
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
    run_quietly(async {
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

/// A client guesses which group of the key exchange it will be. Where it is another one, the
/// handshake takes a round more.
#[test]
fn the_first_guess_of_a_key_exchange_may_be_wrong() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
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
    run_quietly(async {
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

/// The smallest records that there are.
const SMALL: [&str; 2] = ["-max_send_frag", "512"];

#[test]
fn what_comes_in_small_records_comes_whole() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
        // s_server shows what is where the tests are run.
        let file = "Cargo.lock";
        let expected = std::fs::read(file).unwrap();
        for version in VERSIONS {
            let mut args = SMALL.to_vec();
            args.extend(["-naccept", "1", "-WWW"]);
            let (_server, address) = s_server(&version, &args).await;
            let connecting = connect(address, &client_context()).limit(1000);
            let (mut reader, writer) = connecting.await.unwrap();
            writer.write(format!("GET /{file} HTTP/1.0\r\n\r\n").as_bytes());
            while within("a header", reader.readline()).await.unwrap() != b"\r\n" {}
            let body = within("the end", reader.read_to_end(1 << 24)).await;
            assert!(body.unwrap() == expected);
            part(&writer).await;
        }

        let (server, mut connections) = serve(server_context("server")).await;
        for version in VERSIONS {
            let mut client = s_client(&server, &version, &SMALL);
            let (mut reader, writer) = next(&mut connections).await;
            // No digit is a command.
            let line = "0123456789".repeat(100_000);
            let saying = in_thread(move || {
                client.say(&line);
                client
            });
            let saying = get_running_loop().unwrap().create_task(saying);
            let line = within("a line", reader.readexactly(1_000_001))
                .await
                .unwrap();
            assert!(line[..1_000_000].chunks(10).all(|ten| ten == b"0123456789"));
            let client = saying.await.unwrap();
            part(&writer).await;
            let (code, transcript) = client.end().await;
            assert_eq!(code, Some(0), "{transcript}");
        }
        end(&server).await;
    });
}
