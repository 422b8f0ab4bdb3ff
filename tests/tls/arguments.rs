//! The keywords of TLS on every builder: what cannot be meant is refused, in asyncio's words, before
//! anything is connected or bound.

use std::future::IntoFuture;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use evloop::{
    StreamReader, StreamWriter, connect_accepted_socket, create_connection, create_server,
    create_unix_connection, create_unix_server, get_running_loop, open_connection,
    open_unix_connection, start_server, start_unix_server,
};

use crate::common::folder::Folder;
use crate::common::trace::Trace;
use crate::common::{listener, run};
use crate::probe::{Probe, connected};
use crate::support::{client_context, server_context};

const SECOND: Duration = Duration::from_secs(1);
const ADDRESS: (&str, u16) = ("127.0.0.1", 0);

fn quiet() -> Probe {
    Probe::new(&Trace::default())
}

async fn nobody(_: StreamReader, _: StreamWriter) -> io::Result<()> {
    Ok(())
}

/// Refused as it cannot be meant, in these words.
async fn refused<T>(outcome: impl IntoFuture<Output = io::Result<T>>, words: &str) {
    let error = outcome.await.err().expect(words);
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::InvalidInput, words)
    );
}

/// A listener that nobody may come to.
fn untouched() -> (TcpListener, std::net::SocketAddr) {
    let (listener, address) = listener();
    listener.set_nonblocking(true).unwrap();
    (listener, address)
}

fn nobody_came(listener: &TcpListener) {
    let error = listener.accept().expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn without_ssl_its_keywords_have_no_meaning() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("socket");
        let (listener, to) = untouched();
        let words = "server_hostname is only meaningful with ssl";
        refused(create_connection(quiet, to).server_hostname("a"), words).await;
        refused(open_connection(to).server_hostname("a"), words).await;
        let unix = create_unix_connection(quiet, &path).server_hostname("a");
        refused(unix, words).await;
        let unix = open_unix_connection(&path).server_hostname("a");
        refused(unix, words).await;

        let words = "ssl_handshake_timeout is only meaningful with ssl";
        let client = create_connection(quiet, to).ssl_handshake_timeout(SECOND);
        refused(client, words).await;
        refused(open_connection(to).ssl_handshake_timeout(SECOND), words).await;
        let unix = create_unix_connection(quiet, &path).ssl_handshake_timeout(SECOND);
        refused(unix, words).await;
        let server = create_server(quiet, ADDRESS).ssl_handshake_timeout(SECOND);
        refused(server, words).await;
        let server = start_server(nobody, ADDRESS).ssl_handshake_timeout(SECOND);
        refused(server, words).await;
        let server = create_unix_server(quiet, &path).ssl_handshake_timeout(SECOND);
        refused(server, words).await;
        let server = start_unix_server(nobody, &path).ssl_handshake_timeout(SECOND);
        refused(server, words).await;
        let (socket, _peer) = UnixStream::pair().unwrap();
        let accepted = connect_accepted_socket(quiet, socket).ssl_handshake_timeout(SECOND);
        refused(accepted, words).await;

        let words = "ssl_shutdown_timeout is only meaningful with ssl";
        let client = create_connection(quiet, to).ssl_shutdown_timeout(SECOND);
        refused(client, words).await;
        let unix = open_unix_connection(&path).ssl_shutdown_timeout(SECOND);
        refused(unix, words).await;
        let server = create_server(quiet, ADDRESS).ssl_shutdown_timeout(SECOND);
        refused(server, words).await;
        let server = create_unix_server(quiet, &path).ssl_shutdown_timeout(SECOND);
        refused(server, words).await;
        let (socket, _peer) = UnixStream::pair().unwrap();
        let accepted = connect_accepted_socket(quiet, socket).ssl_shutdown_timeout(SECOND);
        refused(accepted, words).await;

        nobody_came(&listener);
        assert!(folder.names().is_empty(), "nothing was bound");
    });
}

#[test]
fn a_timeout_of_nothing_is_refused_everywhere() {
    let none = Duration::ZERO;
    run(async {
        let folder = Folder::new();
        let path = folder.path("socket");
        let (listener, to) = untouched();
        let words = "ssl_handshake_timeout should be a positive number, got 0";
        let client = || create_connection(quiet, to).ssl(client_context());
        refused(client().ssl_handshake_timeout(none), words).await;
        let unix = create_unix_connection(quiet, &path).ssl(client_context());
        let unix = unix.server_hostname("localhost");
        refused(unix.ssl_handshake_timeout(none), words).await;
        let server = || create_server(quiet, ADDRESS).ssl(server_context("server"));
        refused(server().ssl_handshake_timeout(none), words).await;
        let unix = || create_unix_server(quiet, &path).ssl(server_context("server"));
        refused(unix().ssl_handshake_timeout(none), words).await;
        let accepted = || {
            let (socket, _peer) = UnixStream::pair().unwrap();
            connect_accepted_socket(quiet, socket).ssl(server_context("server"))
        };
        refused(accepted().ssl_handshake_timeout(none), words).await;

        let words = "ssl_shutdown_timeout should be a positive number, got 0";
        refused(client().ssl_shutdown_timeout(none), words).await;
        refused(server().ssl_shutdown_timeout(none), words).await;
        refused(unix().ssl_shutdown_timeout(none), words).await;
        refused(accepted().ssl_shutdown_timeout(none), words).await;

        nobody_came(&listener);
        assert!(folder.names().is_empty(), "nothing was bound");
    });
}

#[test]
fn a_client_needs_a_name_to_verify() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("socket");
        let words = "you have to pass server_hostname when using ssl";
        let unix = create_unix_connection(quiet, &path).ssl(client_context());
        refused(unix, words).await;
        let unix = open_unix_connection(&path).ssl(client_context());
        refused(unix, words).await;
        let (socket, _peer) = UnixStream::pair().unwrap();
        let by_socket = create_unix_connection(quiet, socket).ssl(client_context());
        refused(by_socket, words).await;
        let words = "You must set server_hostname when using ssl without a host";
        let (socket, _peer) = UnixStream::pair().unwrap();
        refused(open_connection(socket).ssl(client_context()), words).await;

        // asyncio takes an empty one for "verify no name".
        let (listener, to) = untouched();
        let words = "server_hostname: \"\" is no name of a host";
        let client = create_connection(quiet, to).ssl(client_context());
        refused(client.server_hostname(""), words).await;
        let words = "server_hostname: \"no name\" is no name of a host";
        let client = open_connection(to).ssl(client_context());
        refused(client.server_hostname("no name"), words).await;
        nobody_came(&listener);
    });
}

#[test]
fn a_server_needs_a_context() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("socket");
        let words = "ssl argument must be an SSLContext or None";
        refused(create_server(quiet, ADDRESS).ssl(true), words).await;
        refused(start_server(nobody, ADDRESS).ssl(true), words).await;
        refused(create_unix_server(quiet, &path).ssl(true), words).await;
        refused(start_unix_server(nobody, &path).ssl(true), words).await;
        let (socket, _peer) = UnixStream::pair().unwrap();
        refused(connect_accepted_socket(quiet, socket).ssl(true), words).await;
        assert!(folder.names().is_empty(), "nothing was bound");

        // No TLS is what no word means as well.
        let server = create_server(quiet, ADDRESS).ssl(false).await.unwrap();
        let to = server.sockets()[0].as_inet().unwrap();
        let plain = create_connection(quiet, to).ssl(false).await;
        plain.unwrap().0.close();
        server.close();
    });
}

#[test]
fn no_handshake_at_a_time_serves_nobody() {
    run(async {
        let server = create_server(quiet, ADDRESS).ssl(server_context("server"));
        refused(server.max_handshakes(0), "max_handshakes must be positive").await;
    });
}

#[test]
fn start_tls_is_refused_and_the_connection_goes_on() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        let handle = get_running_loop().unwrap();
        let start = |server: bool| {
            let protocol = transport.get_protocol().unwrap();
            if server {
                handle.start_tls(&transport, protocol, server_context("server"))
            } else {
                handle.start_tls(&transport, protocol, client_context())
            }
        };
        let words = "check_hostname requires server_hostname";
        refused(start(false), words).await;
        let words = "server_hostname is only meaningful for a client";
        refused(start(true).server_hostname("localhost"), words).await;
        let words = "ssl_handshake_timeout should be a positive number, got 0";
        refused(start(true).ssl_handshake_timeout(Duration::ZERO), words).await;
        let words = "ssl_shutdown_timeout should be a positive number, got 0";
        let client = start(false).server_hostname("localhost");
        refused(client.ssl_shutdown_timeout(Duration::ZERO), words).await;

        peer.send(b"still plain");
        trace.until("data still plain").await;
        transport.close();
        trace.until("lost").await;
    });
}

#[test]
fn start_tls_on_a_transport_that_is_closing_is_an_error() {
    run(async {
        let (transport, peer) = connected(quiet()).await;
        let handle = get_running_loop().unwrap();
        let protocol = transport.get_protocol().unwrap();
        transport.write_eof().unwrap();
        let half = handle.start_tls(&transport, protocol.clone(), server_context("server"));
        assert_eq!(half.await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        transport.close();
        let late = handle.start_tls(&transport, protocol, server_context("server"));
        assert_eq!(late.await.unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(peer.receive_all(), b"");
    });
}
