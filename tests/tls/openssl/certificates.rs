//! Certificates of clients: shown, missing, by a stranger.

use std::io::ErrorKind;

use evloop::rustls::AlertDescription;
use evloop::{CloseReason, TlsClientContext, TlsServerContext, TlsSession};

use super::{
    VERSIONS, alert, certificate, connect, converse, end, has_openssl, next, part, path, s_client,
    s_server, serve,
};
use crate::common::within;
use crate::quiet::run_quietly;
use crate::support::{cert, client_context};

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
    run_quietly(async {
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
    run_quietly(async {
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
    run_quietly(async {
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
