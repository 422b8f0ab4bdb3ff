//! TLS by every way to make a connection: on TCP and on unix sockets, with protocols and streams, on
//! sockets of somebody else's.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;

use evloop::{
    CloseReason, ClosedBecause, PeerName, Server, StreamReader, StreamWriter, TlsClientContext,
    TlsError, TlsSession, Transport, connect_accepted_socket, create_connection, create_server,
    create_unix_connection, create_unix_server, open_connection, open_unix_connection,
    start_unix_server,
};
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::common::folder::Folder;
use crate::common::trace::Trace;
use crate::common::{own_process, run, within};
use crate::probe::{Call, Probe};
use crate::support::{cert, client_context, server_context};

/// Where a server is.
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A server that shows this certificate, on TCP or in this folder.
async fn serve(cert: &str, folder: Option<&Folder>, trace: &Trace) -> (Server, Place) {
    let context = server_context(cert);
    let trace = trace.clone();
    let echoing = move || {
        Probe::new(&trace)
            .named("server ")
            .doing(|call, transport| {
                if let Call::Data(data) = call {
                    transport.write(data);
                }
            })
    };
    match folder {
        None => {
            let server = create_server(echoing, ("127.0.0.1", 0)).ssl(context);
            let server = server.await.unwrap();
            let address = server.sockets()[0].as_inet().unwrap();
            (server, Place::Tcp(address))
        }
        Some(folder) => {
            let path = folder.path("tls");
            let server = create_unix_server(echoing, &path).ssl(context);
            (server.await.unwrap(), Place::Unix(path))
        }
    }
}

type Joined = io::Result<(Transport, Rc<RefCell<Probe>>)>;

async fn join(place: &Place, probe: Probe, context: TlsClientContext) -> Joined {
    let connected = async move {
        match place {
            Place::Tcp(address) => {
                let connection = create_connection(move || probe, *address).ssl(context);
                connection.server_hostname("localhost").await
            }
            Place::Unix(path) => {
                let connection = create_unix_connection(move || probe, path).ssl(context);
                connection.server_hostname("localhost").await
            }
        }
    };
    within("a TLS connection", connected).await
}

async fn end(server: Server) {
    server.close();
    within("the server's end", server.wait_closed())
        .await
        .unwrap();
}

/// A certificate as it is sent.
fn der(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(cert(name)).unwrap()
}

#[track_caller]
fn refused_certificate(outcome: Joined) -> CertificateError {
    let error = outcome.err().expect("a certificate that is refused");
    match TlsError::of(&error) {
        Some(TlsError::Certificate(reason)) => reason.clone(),
        other => panic!("{other:?} in {error:?}"),
    }
}

#[test]
fn protocols_talk_over_tls_on_tcp_and_on_a_path() {
    let folder = Folder::new();
    for folder in [None, Some(&folder)] {
        run(async {
            let (ours, theirs) = (Trace::default(), Trace::default());
            let (server, place) = serve("server", folder, &theirs).await;
            let joined = join(&place, Probe::new(&ours), client_context());
            let (transport, protocol) = joined.await.unwrap();
            assert!(ours == ["made"], "it is made when it can be used: {ours:?}");
            let same = transport.get_protocol().unwrap();
            assert!(std::ptr::addr_eq(Rc::as_ptr(&same), Rc::as_ptr(&protocol)));

            let session = transport.get_extra_info(TlsSession).unwrap();
            assert_eq!(session.version, rustls::ProtocolVersion::TLSv1_3);
            assert_eq!(session.peer_certificates, [der("server.pem")]);
            assert_eq!(session.server_name.as_deref(), Some("localhost"));
            assert!(transport.get_extra_info(PeerName).is_some());

            transport.write(b"abc");
            ours.until("data abc").await;
            transport.close();
            ours.until("lost").await;
            theirs.until("server lost").await;
            assert!(ours == ["made", "data abc", "lost"], "{ours:?}");
            let all = [
                "server made",
                "server data abc",
                "server eof",
                "server lost",
            ];
            assert!(theirs == all, "{theirs:?}");
            let reason = transport.get_extra_info(ClosedBecause);
            assert_eq!(reason, Some(CloseReason::Closed));
            end(server).await;
        });
    }
}

#[test]
fn a_certificate_that_nobody_trusts_ends_it_before_anybody_is_told() {
    let folder = Folder::new();
    for folder in [None, Some(&folder)] {
        run(async {
            let (ours, theirs) = (Trace::default(), Trace::default());
            theirs.catch_reports();
            let (server, place) = serve("untrusted", folder, &theirs).await;
            let outcome = join(&place, Probe::new(&ours), client_context()).await;
            assert_eq!(
                refused_certificate(outcome),
                CertificateError::UnknownIssuer
            );
            end(server).await;
            assert!(ours == [], "{ours:?}");
            assert!(theirs == [], "no protocol, no report: {theirs:?}");
        });
    }
}

#[test]
fn a_certificate_for_another_name_ends_it_before_anybody_is_told() {
    let folder = Folder::new();
    for folder in [None, Some(&folder)] {
        run(async {
            let (ours, theirs) = (Trace::default(), Trace::default());
            theirs.catch_reports();
            let (server, place) = serve("elsewhere", folder, &theirs).await;
            let outcome = join(&place, Probe::new(&ours), client_context()).await;
            let error = refused_certificate(outcome).to_string();
            assert!(error.contains("localhost"), "{error}");
            end(server).await;
            assert!(ours == [] && theirs == [], "{ours:?}, {theirs:?}");
        });
    }
}

#[test]
fn the_name_to_verify_is_the_host_unless_another_is_said() {
    run(async {
        let trace = Trace::default();
        let (server, place) = serve("server", None, &trace).await;
        let Place::Tcp(address) = place else {
            unreachable!("it is on TCP")
        };
        for (host, name) in [
            ("localhost", None),
            ("127.0.0.1", None),
            ("127.0.0.1", Some("localhost")),
        ] {
            let mut connection = open_connection((host, address.port())).ssl(client_context());
            if let Some(name) = name {
                connection = connection.server_hostname(name);
            }
            let (_, writer) = connection.await.unwrap();
            let session = writer.get_extra_info(TlsSession).unwrap();
            assert_eq!(session.server_name.as_deref(), Some(name.unwrap_or(host)));
        }
        end(server).await;
    });
}

/// `ssl=True`: whom the system trusts, which is whom `SSL_CERT_FILE` names.
#[test]
fn the_usual_context_trusts_whom_the_system_trusts() {
    let name = "endpoints::the_usual_context_trusts_whom_the_system_trusts";
    let ca = cert("ca.pem");
    if !own_process::enter_with_variable(name, "SSL_CERT_FILE", ca.to_str().unwrap()) {
        return;
    }
    run(async {
        let trace = Trace::default();
        for (cert, trusted) in [("server", true), ("untrusted", false)] {
            let (server, place) = serve(cert, None, &trace).await;
            let Place::Tcp(address) = place else {
                unreachable!("it is on TCP")
            };
            let quiet = Probe::new(&Trace::default());
            let connection = create_connection(move || quiet, ("localhost", address.port()));
            let outcome = connection.ssl(true).await;
            if trusted {
                outcome.unwrap().0.close();
            } else {
                assert_eq!(
                    refused_certificate(outcome),
                    CertificateError::UnknownIssuer
                );
            }
            end(server).await;
        }
    });
}

#[test]
fn an_accepted_socket_is_the_server_s_side() {
    run(async {
        let trace = Trace::default();
        let (socket, peer) = UnixStream::pair().unwrap();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Data(data) = call {
                transport.write(data);
            }
        });
        let serving = connect_accepted_socket(move || probe, socket).ssl(server_context("server"));
        let served = evloop::get_running_loop().unwrap().create_task(async move {
            let (transport, _) = serving.await?;
            io::Result::Ok(transport.get_extra_info(TlsSession).is_some())
        });
        let connection = open_connection(peer).ssl(client_context());
        let (mut reader, writer) = connection.server_hostname("localhost").await.unwrap();
        assert!(served.await.unwrap().unwrap(), "it is encrypted");
        writer.write(b"hello");
        assert_eq!(reader.readexactly(5).await.unwrap(), b"hello");
        writer.close();
        within("the end", writer.wait_closed()).await.unwrap();
        trace.until("lost").await;
        assert!(trace == ["made", "data hello", "eof", "lost"], "{trace:?}");
    });
}

#[test]
fn streams_on_a_path() {
    async fn shout(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
        let line = reader.readline().await?;
        writer.write(line.to_ascii_uppercase());
        writer.drain().await
    }
    let folder = Folder::new();
    run(async {
        let path = folder.path("tls");
        let server = start_unix_server(shout, &path).ssl(server_context("server"));
        let server = server.await.unwrap();
        let connection = open_unix_connection(&path).ssl(client_context());
        let (mut reader, writer) = connection.server_hostname("localhost").await.unwrap();
        writer.write(b"hello\n");
        let answer = within("an answer", reader.read_to_end(None)).await;
        assert_eq!(answer.unwrap(), b"HELLO\n");
        drop(writer);
        end(server).await;
    });
}
