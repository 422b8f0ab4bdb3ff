//! Connections of ours with a scripted peer at the other end.

use std::future::IntoFuture;
use std::net::{SocketAddr, TcpListener, TcpStream};

use evloop::{Server, Transport, connect_accepted_socket, create_connection, create_server};
use futures::future::join;
use rustls::SupportedProtocolVersion;

use crate::common::trace::Trace;
use crate::common::{PATIENCE, listener};
use crate::probe::Probe;
use crate::scripted::{self, Scripted, TLS12, TLS13};
use crate::support::{client_context, server_context};

/// Which side we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    Client,
    Server,
}

/// Each side of every version.
pub(crate) const KINDS: [(Ours, &SupportedProtocolVersion); 4] = [
    (Ours::Client, TLS12),
    (Ours::Client, TLS13),
    (Ours::Server, TLS12),
    (Ours::Server, TLS13),
];

/// A connection of a probe behind its handshake, and the peer, which has read everything that came.
pub(crate) async fn pair(
    ours: Ours,
    version: &'static SupportedProtocolVersion,
    probe: Probe,
) -> (Transport, Scripted) {
    let (mut peer, socket) = scripted(ours, version);
    let (transport, shaken) = join(ours.connect(socket, probe), peer.shake_hands()).await;
    shaken.unwrap();
    // The tickets.
    assert_eq!(peer.hear_what_is_there().await, b"");
    (transport.unwrap(), peer)
}

/// A peer to whom nothing was said, and our socket.
pub(crate) fn scripted(
    ours: Ours,
    version: &'static SupportedProtocolVersion,
) -> (Scripted, TcpStream) {
    let (socket, theirs) = sockets();
    let peer = match ours {
        Ours::Client => Scripted::server(theirs, scripted::server_config(version, "server")),
        Ours::Server => Scripted::client(theirs, scripted::client_config(version)),
    };
    (peer, socket)
}

impl Ours {
    /// Has a probe take over a socket, on which it is to be this side. Its end has more time than
    /// usual, since the machine may be slow.
    pub(crate) async fn connect(
        self,
        socket: TcpStream,
        probe: Probe,
    ) -> std::io::Result<Transport> {
        let (transport, _) = match self {
            Self::Client => {
                create_connection(move || probe, socket)
                    .ssl(client_context())
                    .server_hostname("localhost")
                    .ssl_shutdown_timeout(PATIENCE)
                    .into_future()
                    .await?
            }
            Self::Server => {
                connect_accepted_socket(move || probe, socket)
                    .ssl(server_context("server"))
                    .ssl_shutdown_timeout(PATIENCE)
                    .into_future()
                    .await?
            }
        };
        Ok(transport)
    }
}

/// Two ends of a connection.
pub(crate) fn sockets() -> (TcpStream, TcpStream) {
    let (listener, address) = listener();
    let one = TcpStream::connect(address).unwrap();
    (one, accept(&listener))
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().unwrap().0
}

/// A server of probes that write into this trace.
pub(crate) async fn server_of_probes(trace: &Trace) -> (Server, SocketAddr) {
    let trace = trace.clone();
    let server = create_server(move || Probe::new(&trace), ("127.0.0.1", 0))
        .ssl(server_context("server"))
        .await
        .unwrap();
    let address = address_of(&server);
    (server, address)
}

pub(crate) fn address_of(server: &Server) -> SocketAddr {
    server.sockets()[0].as_inet().unwrap()
}
