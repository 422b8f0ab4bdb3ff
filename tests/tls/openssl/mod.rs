//! `openssl s_server` and `openssl s_client` at the other end, with both versions of TLS.

mod agreed;
mod certificates;
mod ends;
mod sessions;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evloop::rustls::pki_types::CertificateDer;
use evloop::rustls::pki_types::pem::PemObject;
use evloop::rustls::{AlertDescription, CipherSuite, ProtocolVersion};
use evloop::{
    OpenConnection, Server, StreamReader, StreamWriter, TlsClientContext, TlsError,
    TlsServerContext, open_connection, start_server,
};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};

use crate::common::peers::require;
use crate::common::within;
use crate::support::cert;
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
