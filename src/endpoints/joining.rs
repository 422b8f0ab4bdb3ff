//! What every connection that is to be made has in common, wherever it goes.
//!
//! Owns: [`Joining`], and the setters of it, which [`joining_setters`] writes. Why: builders of
//! connections, on TCP or on unix sockets, differ in how a socket comes about, and in nothing before
//! and after that. Invariants: what cannot be meant is refused before anything is connected; the
//! protocol is made after the socket is connected. asyncio's counterpart: the arguments that
//! `create_connection` and `create_unix_connection` share.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::endpoints::connected::Connected;
use crate::event_loop::{LoopHandle, loop_of};
use crate::tls::{ClientOptions, Prepared};
use crate::transports::{Protocol, Transport};

/// A connection that is to be made, but for where to.
pub(crate) struct Joining<F> {
    factory: F,
    pub(crate) tls: ClientOptions,
    /// The loop that it is for; 0 is any.
    pub(crate) loop_number: u64,
}

impl<F> Joining<F> {
    pub(crate) fn new(factory: F) -> Self {
        Self {
            factory,
            tls: ClientOptions::default(),
            loop_number: 0,
        }
    }

    /// The loop to connect on.
    pub(crate) fn begin(&self) -> io::Result<LoopHandle> {
        Ok(loop_of(self.loop_number)?)
    }

    /// What it needs to be encrypted, if that is wanted, where this is the host, or where there is
    /// none and this is to be said about it.
    pub(crate) async fn prepare(
        &mut self,
        handle: &LoopHandle,
        host: Result<String, &'static str>,
    ) -> io::Result<Option<Prepared>> {
        match std::mem::take(&mut self.tls).side(host)? {
            Some(side) => side.prepare(handle).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes the protocol and the transport.
    pub(crate) async fn introduce<P>(
        self,
        handle: &LoopHandle,
        socket: Connected,
        tls: Option<Prepared>,
    ) -> io::Result<(Transport, Rc<RefCell<P>>)>
    where
        P: Protocol,
        F: FnOnce() -> P,
    {
        socket.introduce(handle, tls, self.factory).await
    }
}

impl<F> fmt::Debug for Joining<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Writes the setters of a [`Joining`] into a builder's `impl`, as
/// [`serving_setters`](crate::endpoints::serving_setters) does for servers.
macro_rules! joining_setters {
    ($($joining:ident).+) => {
        /// Whether the connection is encrypted, and with what: `true` for a client as most are,
        /// that trusts whom the system trusts; a [`TlsClientContext`](crate::TlsClientContext) or
        /// an `Arc` of rustls's `ClientConfig` for another one; `false`, the default, for none.
        /// The connection is there when the handshake is done. See [`Ssl`](crate::Ssl).
        ///
        /// Errors are [`TlsError`](crate::TlsError)s, as `io::Error`. The system's certificates are
        /// read once, off the loop's thread.
        #[cfg(feature = "tls")]
        pub fn ssl(mut self, ssl: impl Into<crate::tls::Ssl<crate::tls::TlsClientContext>>) -> Self {
            self.$($joining).+.tls.ssl = ssl.into();
            self
        }

        /// The name, or the IP address, that the server's certificate has to be for: by default the
        /// host that is connected to. Where there is none (a socket, a path), or several, it has to be
        /// said.
        /// `InvalidInput` without [`ssl`](Self::ssl), and for what is no name.
        #[cfg(feature = "tls")]
        pub fn server_hostname(mut self, server_hostname: impl Into<String>) -> Self {
            self.$($joining).+.tls.server_hostname = Some(server_hostname.into());
            self
        }

        /// How long the handshake may take; 60 seconds by default.
        /// [`TlsError::HandshakeTimeout`](crate::TlsError::HandshakeTimeout) after that.
        /// `InvalidInput` if it is zero, and without [`ssl`](Self::ssl).
        #[cfg(feature = "tls")]
        pub fn ssl_handshake_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($joining).+.tls.times.handshake = Some(timeout);
            self
        }

        /// How long a close waits for the peer's answer once everything is sent; 2 seconds by
        /// default, where asyncio has 30: a peer that speaks TLS 1.3 need not answer.
        /// `InvalidInput` if it is zero, and without [`ssl`](Self::ssl).
        #[cfg(feature = "tls")]
        pub fn ssl_shutdown_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($joining).+.tls.times.shutdown = Some(timeout);
            self
        }
    };
}

pub(crate) use joining_setters;
