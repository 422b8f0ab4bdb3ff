//! TLS on a connection that is in use.
//!
//! Owns: [`StartTls`]. Why: protocols of mail, directories and databases begin in the clear.
//! Invariants: what was written before leaves before; what was received before is not lost, but
//! goes into the handshake; the protocol is not told twice that it has a connection, and hears of
//! its end in any case. asyncio's counterpart: `loop.start_tls`.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use crate::event_loop::{LoopHandle, loop_of};
use crate::sys::invalid_input;
use crate::tls::options::{ClientSide, Prepared, ServerSide, Times, TlsContext};
use crate::tls::protocol::HandshakeWaiter;
use crate::tls::stack::{Plan, put_on};
use crate::transports::{CloseOnDrop, Connection, Protocol, Transport, again};

impl LoopHandle {
    /// Encrypts a connection that is in use: gives a new transport, on which `protocol` goes on
    /// when the handshake is done. Mirrors `loop.start_tls`;
    /// [`StreamWriter::start_tls`](crate::StreamWriter::start_tls) is the same for streams.
    ///
    /// The context says which side we are. What was written to `transport` leaves first, and what
    /// comes belongs to the handshake from now on. Call it as soon as the protocol has read the
    /// peer's agreement, in the same callback as a rule.
    ///
    /// `transport` is not to be used any more, but to be closed: it refuses what would come between
    /// TLS and the peer ([`write`](Transport::write) and [`set_protocol`](Transport::set_protocol)
    /// panic, as after `write_eof`), and another `start_tls`.
    ///
    /// `connection_made` is not called again; of an end, also of a handshake that fails,
    /// `connection_lost` tells.
    ///
    /// What came in the clear, behind the peer's agreement and in one piece with it, the protocol
    /// has been told already: throw it away, since anybody may have put it in.
    ///
    /// Dropping the future closes the connection.
    ///
    /// ```
    /// use std::io;
    ///
    /// use evloop::{TlsClientContext, Transport, get_running_loop};
    ///
    /// async fn encrypt(transport: Transport, context: TlsClientContext) -> io::Result<Transport> {
    ///     let protocol = transport.get_protocol().ok_or(io::ErrorKind::NotConnected)?;
    ///     get_running_loop()?
    ///         .start_tls(&transport, protocol, context)
    ///         .server_hostname("mail.example")
    ///         .await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TlsError`](crate::TlsError)s, as `io::Error`: then the connection is closed.
    /// `InvalidInput` for a client without [`server_hostname`](StartTls::server_hostname);
    /// `NotConnected` if the transport is closing, `BrokenPipe` if its writing side was ended, or if
    /// it has had its `start_tls`.
    pub fn start_tls(
        &self,
        transport: &Transport,
        protocol: Rc<RefCell<dyn Protocol>>,
        context: impl Into<TlsContext>,
    ) -> StartTls {
        StartTls {
            transport: transport.clone(),
            protocol,
            upgrade: Upgrade::new(context.into()),
        }
    }
}

/// An encryption to be begun: awaiting it begins it. Made by [`LoopHandle::start_tls`].
#[must_use = "nothing happens until it is awaited"]
pub struct StartTls {
    transport: Transport,
    protocol: Rc<RefCell<dyn Protocol>>,
    upgrade: Upgrade,
}

/// What `start_tls` is told, on transports and on streams.
#[derive(Debug)]
pub(crate) struct Upgrade {
    context: TlsContext,
    pub(crate) server_hostname: Option<String>,
    pub(crate) times: Times,
}

impl Upgrade {
    pub(crate) fn new(context: TlsContext) -> Self {
        Self {
            context,
            server_hostname: None,
            times: Times::default(),
        }
    }

    pub(crate) fn is_client(&self) -> bool {
        matches!(self.context, TlsContext::Client(_))
    }

    pub(crate) async fn prepare(self, handle: &LoopHandle) -> io::Result<Prepared> {
        match self.context {
            TlsContext::Client(context) => {
                let name = self.server_hostname.ok_or(NO_NAME);
                let side = ClientSide::new(Some(context), name, self.times)?;
                side.prepare(handle).await
            }
            TlsContext::Server(_) if self.server_hostname.is_some() => Err(invalid_input(
                "server_hostname is only meaningful for a client",
            )),
            TlsContext::Server(context) => ServerSide::new(context, self.times)?.prepare(),
        }
    }
}

/// Writes the setters of an [`Upgrade`] into a builder's `impl`.
macro_rules! upgrade_setters {
    () => {
        /// The name, or the IP address, that the server's certificate has to be for. A client has
        /// to say it, a server must not.
        pub fn server_hostname(mut self, server_hostname: impl Into<String>) -> Self {
            self.upgrade.server_hostname = Some(server_hostname.into());
            self
        }

        /// How long the handshake may take; 60 seconds by default. `InvalidInput` if it is zero.
        pub fn ssl_handshake_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.upgrade.times.handshake = Some(timeout);
            self
        }

        /// How long a close waits for the peer's answer once everything is sent; 2 seconds by
        /// default. `InvalidInput` if it is zero.
        pub fn ssl_shutdown_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.upgrade.times.shutdown = Some(timeout);
            self
        }
    };
}

pub(crate) use upgrade_setters;

impl StartTls {
    upgrade_setters!();

    async fn run(self) -> io::Result<Transport> {
        let handle = loop_of(self.transport.core().handle().number())?;
        let prepared = self.upgrade.prepare(&handle).await?;
        check_open(&self.transport)?;
        let starting = begin(
            &handle,
            &self.transport,
            prepared,
            self.protocol,
            Vec::new(),
        );
        starting.finish().await
    }
}

/// Whether TLS can be begun on it.
pub(crate) fn check_open(transport: &Transport) -> io::Result<()> {
    if transport.is_closing() {
        let message = "start_tls: the transport is closing";
        return Err(io::Error::new(io::ErrorKind::NotConnected, message));
    }
    // Also of one on which there is TLS, or is about to be.
    if !transport.core().takes_bytes() {
        return Err(transport.core().refusal("start_tls"));
    }
    Ok(())
}

/// Begins TLS on a transport, with bytes that were received already.
pub(crate) fn begin(
    handle: &LoopHandle,
    lower: &Transport,
    prepared: Prepared,
    protocol: Rc<RefCell<dyn Protocol>>,
    received: Vec<u8>,
) -> Starting {
    lower.core().send();
    let waiter = handle.create_future();
    let plan = Plan {
        prepared,
        begins: false,
        received,
        waiter: Some(waiter.clone()),
        place: None,
        owner: None,
        policies: lower.core().policies().split(),
    };
    let (upper, below) = put_on(handle, lower, plan, protocol);
    Connection::hand_on(lower, &upper);
    lower.change_protocol(below);
    Connection::begin_anew(handle, lower);
    Starting { upper, waiter }
}

/// A handshake on a connection that was in use.
pub(crate) struct Starting {
    pub(crate) upper: Transport,
    waiter: HandshakeWaiter,
}

impl Starting {
    /// Waits until it is done. Dropping the future closes the connection.
    pub(crate) async fn finish(self) -> io::Result<Transport> {
        let given_up = CloseOnDrop::new(&self.upper);
        self.waiter.await?.map_err(|error| again(&error))?;
        given_up.disarm();
        Ok(self.upper)
    }
}

impl IntoFuture for StartTls {
    type Output = io::Result<Transport>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for StartTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartTls")
            .field("transport", &self.transport)
            .field("upgrade", &self.upgrade)
            .finish_non_exhaustive()
    }
}

/// The words of Python's `ssl`.
const NO_NAME: &str = "check_hostname requires server_hostname";
