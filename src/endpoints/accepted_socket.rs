//! A connection that somebody else accepted.
//!
//! Owns: [`connect_accepted_socket`]. Why: an acceptor may be another thread, another process, or a
//! listener that knows more than ours; what it accepts is served here. Invariants: those of
//! `create_connection`; encrypted, we are the server. asyncio's counterpart:
//! `loop.connect_accepted_socket`.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;

use crate::endpoints::connected::Connected;
use crate::event_loop::{LoopHandle, loop_of};
use crate::tls::ServerOptions;
use crate::transports::{Protocol, Transport};

/// Gives a transport and a protocol for a connection that somebody else accepted, from a listener
/// of the program's own or by another process. Mirrors `loop.connect_accepted_socket`; with
/// streams the same is [`open_connection`](crate::open_connection) on that socket.
///
/// # Errors
///
/// The system's, if the socket is not connected, or is no stream. Those of TLS, if it is to be
/// encrypted. [`NoRunningLoop`](crate::NoRunningLoop) outside a loop.
///
/// ```
/// use evloop::{Protocol, Transport, connect_accepted_socket};
///
/// struct Greeter;
///
/// impl Protocol for Greeter {
///     fn connection_made(&mut self, transport: Transport) {
///         transport.write(b"hello");
///         transport.close();
///     }
/// }
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let peer = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let (socket, _) = listener.accept()?;
/// evloop::run(async move {
///     connect_accepted_socket(|| Greeter, socket).await.map(drop)
/// })??;
/// # assert_eq!(std::io::read_to_string(peer)?, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect_accepted_socket<P, F>(
    factory: F,
    socket: impl Into<OwnedFd>,
) -> ConnectAcceptedSocket<F>
where
    P: Protocol,
    F: FnOnce() -> P,
{
    ConnectAcceptedSocket {
        factory,
        socket: socket.into(),
        loop_number: 0,
        tls: ServerOptions::default(),
    }
}

impl LoopHandle {
    /// [`connect_accepted_socket`] for this loop: awaited on another one it is
    /// [`NoRunningLoop`](crate::NoRunningLoop).
    pub fn connect_accepted_socket<P, F>(
        &self,
        factory: F,
        socket: impl Into<OwnedFd>,
    ) -> ConnectAcceptedSocket<F>
    where
        P: Protocol,
        F: FnOnce() -> P,
    {
        ConnectAcceptedSocket {
            loop_number: self.number(),
            ..connect_accepted_socket(factory, socket)
        }
    }
}

/// A connection to be taken over: awaiting it does so. Made by [`connect_accepted_socket`].
#[must_use = "nothing happens until it is awaited"]
pub struct ConnectAcceptedSocket<F> {
    factory: F,
    socket: OwnedFd,
    loop_number: u64,
    tls: ServerOptions,
}

#[cfg(feature = "tls")]
impl<F> ConnectAcceptedSocket<F> {
    /// Whether the connection is encrypted, and with what; we are its server. See
    /// [`CreateServer::ssl`](crate::CreateServer::ssl).
    pub fn ssl(mut self, ssl: impl Into<crate::tls::Ssl<crate::tls::TlsServerContext>>) -> Self {
        self.tls.ssl = ssl.into();
        self
    }

    /// How long the handshake may take; 60 seconds by default. `InvalidInput` if it is zero, and
    /// without [`ssl`](Self::ssl).
    pub fn ssl_handshake_timeout(mut self, timeout: std::time::Duration) -> Self {
        self.tls.times.handshake = Some(timeout);
        self
    }

    /// How long a close waits for the peer's answer once everything is sent; 2 seconds by default.
    /// `InvalidInput` if it is zero, and without [`ssl`](Self::ssl).
    pub fn ssl_shutdown_timeout(mut self, timeout: std::time::Duration) -> Self {
        self.tls.times.shutdown = Some(timeout);
        self
    }
}

impl<F, P> IntoFuture for ConnectAcceptedSocket<F>
where
    P: Protocol,
    F: FnOnce() -> P + 'static,
{
    type Output = io::Result<(Transport, Rc<RefCell<P>>)>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let handle = loop_of(self.loop_number)?;
            let tls = match self.tls.side()? {
                Some(side) => Some(side.prepare()?),
                None => None,
            };
            let socket = Connected::adopt(&handle, self.socket)?;
            socket.introduce(&handle, tls, self.factory).await
        })
    }
}

impl<F> fmt::Debug for ConnectAcceptedSocket<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectAcceptedSocket")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
