//! A client that blocks, no call of which lasts for ever.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use evloop_benches::contract::Transport;
use evloop_benches::socket::Socket;
use evloop_benches::tls::{self, Link};
use rustix::net::sockopt::{self, Timeout};

use crate::server::Server;

/// How long to wait for what does come: only a broken server uses it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client(Link);

impl Client {
    /// With the handshake done, where there is one.
    pub(crate) fn connect(server: &Server) -> Self {
        let client = Self::connect_only(server);
        client.0.shake_hands().expect("a handshake");
        client
    }

    /// For a server that may not have accepted it yet.
    pub(crate) fn connect_only(server: &Server) -> Self {
        let socket = Socket::new(&server.address).expect("a socket");
        for timeout in [Timeout::Recv, Timeout::Send] {
            sockopt::set_socket_timeout(&socket, timeout, Some(PATIENCE)).expect("a timeout");
        }
        rustix::net::connect(&socket, &server.address).expect("to connect");
        let link = match server.listen {
            Transport::Tls => tls::client_config(false).and_then(|tls| Link::secure(socket, tls)),
            Transport::Tcp | Transport::Unix => Ok(Link::plain(socket)),
        };
        Self(link.expect("a client"))
    }

    pub(crate) fn send(&self, data: &[u8]) {
        (&self.0).write_all(data).expect("the server to receive");
    }

    /// Exactly `size` bytes.
    pub(crate) fn receive(&self, size: usize) -> Vec<u8> {
        let mut data = vec![0; size];
        (&self.0).read_exact(&mut data).expect("an answer");
        data
    }

    /// Everything until the server closes.
    pub(crate) fn receive_all(&self) -> Vec<u8> {
        let mut data = Vec::new();
        (&self.0).read_to_end(&mut data).expect("the whole answer");
        data
    }

    /// How much comes until the server closes.
    pub(crate) fn count_all(&self) -> u64 {
        std::io::copy(&mut &self.0, &mut std::io::sink()).expect("the whole answer")
    }

    /// Ends the sending half.
    pub(crate) fn finish(&self) {
        self.0.finish().expect("to shut down");
    }

    /// Closes with a reset; a unix socket, which has none, with whatever is unread.
    pub(crate) fn reset(self) {
        sockopt::set_socket_linger(&self.0, Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Sends `data` until the server takes no more for a while, and says how much went.
    pub(crate) fn fill(&self, data: &[u8]) -> usize {
        let soon = Duration::from_millis(300);
        sockopt::set_socket_timeout(&self.0, Timeout::Send, Some(soon)).expect("a timeout");
        let mut sent = 0;
        while sent < data.len() {
            match (&self.0).write(&data[sent..]) {
                Ok(size) => sent += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the server did not hold back but end: {error}"),
            }
        }
        sent
    }

    /// Sends something small and tells whether it came back, for a server that may still refuse.
    pub(crate) fn is_echoed(&self) -> bool {
        let mut answer = [0; 4];
        (&self.0).write_all(b"ping").is_ok()
            && (&self.0).read_exact(&mut answer).is_ok()
            && answer == *b"ping"
    }
}
