//! Sessions that are gone on with, and what may change in the midst of one.

use std::path::Path;

use evloop::rustls::AlertDescription;
use evloop::{TlsServerContext, TlsSession};

use super::{
    TLS_1_2, TLS_1_3, VERSIONS, alert, certificate, connect, converse, end, has_openssl, next,
    part, path, s_client, s_server, serve,
};
use crate::common::folder::Folder;
use crate::common::within;
use crate::quiet::run_quietly;
use crate::support::{cert, client_context, server_context};

#[test]
fn our_client_goes_on_with_an_earlier_session_of_s_server() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
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
    run_quietly(async {
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
    run_quietly(async {
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

/// What TLS 1.2 calls a renegotiation has been a way to attack it, and rustls knows none.
#[test]
fn a_renegotiation_is_refused_and_nobody_waits_for_it() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
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

#[test]
fn a_clients_certificate_is_known_in_a_session_that_is_gone_on_with() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
        let folder = Folder::new();
        let context = TlsServerContext::builder(cert("server.pem"), cert("server.key"))
            .client_ca(cert("ca.pem"))
            .build()
            .unwrap();
        let (server, mut connections) = serve(context).await;
        let (client_cert, client_key) = (path("client.pem"), path("client.key"));
        for version in VERSIONS {
            let file = folder.path(version.flag);
            let file = file.to_str().unwrap();
            for flag in ["-sess_out", "-sess_in"] {
                let args = ["-cert", &client_cert, "-key", &client_key, flag, file];
                let mut client = s_client(&server, &version, &args);
                let (mut reader, writer) = next(&mut connections).await;
                let session = writer.get_extra_info(TlsSession).unwrap();
                assert_eq!(session.resumed, flag == "-sess_in");
                assert_eq!(session.peer_certificates[0], certificate("client.pem"));
                converse(&mut reader, &writer, &mut client).await;
                client.hang_up();
                part(&writer).await;
                let (code, transcript) = client.end().await;
                assert_eq!(code, Some(0), "{transcript}");
            }
        }
        end(&server).await;
    });
}
