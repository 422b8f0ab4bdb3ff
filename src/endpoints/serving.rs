//! What every server is told, however it is made.
//!
//! Owns: [`Serving`], and the setters of it, which [`serving_setters`] writes. Why: four builders,
//! with protocols or with streams, on TCP or on unix sockets, have these arguments in common; here
//! they are kept, documented and heeded once. Invariants: each of the four has each of the setters.
//! asyncio's counterpart: the arguments that `create_server` and `create_unix_server` share.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::endpoints::bound::Bound;
use crate::endpoints::server::{ProtocolFactory, Server};
use crate::endpoints::terms::Terms;
use crate::event_loop::{LoopHandle, loop_of};
use crate::sys::ListenOptions;
use crate::transports::Protocol;

/// A server that is to be made, but for where.
pub(crate) struct Serving {
    factory: ProtocolFactory,
    /// Each kind of socket heeds those that it knows.
    pub(crate) options: ListenOptions,
    pub(crate) start_serving: bool,
    pub(crate) terms: Terms,
    /// The loop that it is for; 0 is any.
    pub(crate) loop_number: u64,
}

impl Serving {
    /// asyncio's defaults.
    pub(crate) fn new<P: Protocol>(mut factory: impl FnMut() -> P + 'static) -> Self {
        Self {
            factory: Box::new(move || Rc::new(RefCell::new(factory()))),
            options: ListenOptions {
                backlog: 100,
                reuse_address: true,
                reuse_port: false,
                keep_alive: false,
                cleanup_socket: true,
            },
            start_serving: true,
            terms: Terms::default(),
            loop_number: 0,
        }
    }

    /// The loop to serve on. Refuses, before anything is bound, what nobody could be served by.
    pub(crate) fn begin(&self) -> io::Result<LoopHandle> {
        let handle = loop_of(self.loop_number)?;
        self.terms.check()?;
        Ok(handle)
    }

    /// Makes the server, with these sockets.
    pub(crate) fn serve(self, handle: &LoopHandle, bound: Vec<Bound>) -> io::Result<Server> {
        let server = Server::new(handle, self.factory, self.terms)?;
        for bound in bound {
            server.add(bound.into_listening(handle));
        }
        if self.start_serving {
            server.listen()?;
        }
        Ok(server)
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("options", &self.options)
            .field("start_serving", &self.start_serving)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

/// Writes the setters of a [`Serving`] into a builder's `impl`: `serving_setters!(serving)` where
/// that is the builder's field, `serving_setters!(server.serving)` where it is further inside.
///
/// A macro, since each builder has to have them for its own: a trait would have to be imported by
/// whoever calls them. One that is added here is one of all builders. The words are seen on pages
/// of other modules, so links are whole, or by way of `Self`.
macro_rules! serving_setters {
    ($($serving:ident).+) => {
        /// How many connections may wait in the kernel to be accepted; 100 by default. The system
        /// has a bound of its own.
        pub fn backlog(mut self, backlog: u32) -> Self {
            self.$($serving).+.options.backlog = backlog;
            self
        }

        /// Whether to accept at once, or only from
        /// [`Server::start_serving`](crate::Server::start_serving) on; `true` by default.
        pub fn start_serving(mut self, start_serving: bool) -> Self {
            self.$($serving).+.start_serving = start_serving;
            self
        }

        /// How many connections there may be at a time; no limit by default. asyncio has none.
        ///
        /// Further ones wait in the kernel, as many as the [`backlog`](Self::backlog) says: their
        /// peers are connected and unanswered. Each connection that is over lets the next one in.
        /// Counted is from the accept until `connection_lost` was called, so one that is being
        /// closed counts. A number is this server's own;
        /// a [`ConnectionLimit`](crate::ConnectionLimit) may be that of several, on any loops.
        pub fn max_connections(
            mut self,
            max_connections: impl Into<crate::endpoints::limit::ConnectionLimit>,
        ) -> Self {
            self.$($serving).+.terms.max_connections = Some(max_connections.into());
            self
        }

        /// How long a connection may go without a byte in either direction before it is ended,
        /// with [`CloseReason::IdleTimeout`](crate::CloseReason); for ever by default. Time in
        /// which reading is paused does not count: when it is resumed, the time begins anew. Time
        /// in which we compute, or wait for something else, before we answer does count: pause
        /// reading meanwhile, or give more than the slowest answer takes. The peer's end is no
        /// byte, and once we close, what the peer sends is none, either. A protocol is told a
        /// `TimedOut` error in `connection_lost`, a stream's reads and drains report it. Zero is
        /// `InvalidInput` when it is awaited. Ours alone: asyncio has no such argument.
        pub fn idle_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($serving).+.terms.policies.idle_timeout = Some(timeout);
            self
        }

        /// How long the system may take nothing of what waits to be sent, since the peer does not,
        /// before the connection is ended, with
        /// [`CloseReason::WriteTimeout`](crate::CloseReason); for ever by default. Also while the
        /// connection is closing. Zero is `InvalidInput` when it is awaited. Ours alone.
        pub fn write_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($serving).+.terms.policies.write_timeout = Some(timeout);
            self
        }

        /// How many bytes may wait to be sent, when the system takes no more, before the connection
        /// is ended, with [`CloseReason::WriteBufferFull`](crate::CloseReason); any number by
        /// default. Whoever awaits `drain` before each write has at most the high mark (64 KiB
        /// unless set) and that write waiting, whoever heeds `pause_writing` the high mark and what
        /// one step writes: give more than that, and only those who heed nothing come to the end of
        /// it. Ours alone.
        pub fn max_write_buffer(mut self, bytes: usize) -> Self {
            self.$($serving).+.terms.policies.max_write_buffer = Some(bytes);
            self
        }

        /// Demands that each connection begins with a header of the PROXY protocol, version 1 or
        /// 2, as HAProxy and other balancers put in front, and that it is complete after
        /// `timeout`: then [`RealPeer`](crate::RealPeer) is whom the proxy speaks for. With `ssl`
        /// the header is in front of the handshake. To be demanded only where nobody else gets
        /// through: whoever connects says who they are.
        ///
        /// `connection_made`, and the callback of a stream server, are called behind the header.
        /// A connection whose header is malformed, too long (107 bytes in version 1, 4,112 in
        /// version 2), cut off or too late is aborted, and the exception handler is told of a
        /// [`ProxyError`](crate::ProxyError); nobody is told, but the log (`debug`), of one that
        /// ends without a byte, as the checks of balancers do. A proxy is given 3 seconds at
        /// least, as the specification says, so that a packet may be lost. `None`, the default,
        /// demands nothing; zero is `InvalidInput`. Ours alone: asyncio has no such argument.
        ///
        /// ```
        /// use std::time::Duration;
        ///
        /// use evloop::{RealPeer, StreamReader, StreamWriter, open_connection, start_server};
        ///
        /// async fn greet(_reader: StreamReader, writer: StreamWriter) {
        ///     let client = writer.get_extra_info(RealPeer).unwrap();
        ///     writer.write(format!("hello {client}"));
        /// }
        ///
        /// evloop::run(async {
        ///     let server = start_server(greet, ("127.0.0.1", 0))
        ///         .proxy_protocol(Duration::from_secs(5))
        ///         .await?;
        ///     let port = server.sockets()[0].port().unwrap();
        ///
        ///     // As a proxy does it.
        ///     let (mut reader, writer) = open_connection(("127.0.0.1", port)).await?;
        ///     writer.write(b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n");
        ///     assert_eq!(reader.read_to_end(100).await?, b"hello 192.0.2.7:50000");
        ///     server.close();
        ///     server.wait_closed().await
        /// })?
        /// # ; Ok::<(), std::io::Error>(())
        /// ```
        #[cfg(feature = "proxy")]
        pub fn proxy_protocol(
            mut self,
            timeout: impl Into<Option<std::time::Duration>>,
        ) -> Self {
            self.$($serving).+.terms.proxy = timeout.into().map(crate::proxy::Demand::within);
            self
        }

        /// Whether connections are encrypted, and with what: a
        /// [`TlsServerContext`](crate::TlsServerContext), an `Arc` of rustls's `ServerConfig`, or
        /// `false`, the default, for not at all. `connection_made`, and the callback of a stream
        /// server, are called when the handshake is done; of one that fails nobody is told but the
        /// log (`debug`). `true` is `InvalidInput`: there is no certificate that goes without
        /// saying. See [`Ssl`](crate::Ssl).
        #[cfg(feature = "tls")]
        pub fn ssl(mut self, ssl: impl Into<crate::tls::Ssl<crate::tls::TlsServerContext>>) -> Self {
            self.$($serving).+.terms.tls.ssl = ssl.into();
            self
        }

        /// How long the handshake of a connection may take before it is aborted; 60 seconds by
        /// default. `InvalidInput` if it is zero, and without [`ssl`](Self::ssl).
        #[cfg(feature = "tls")]
        pub fn ssl_handshake_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($serving).+.terms.tls.times.handshake = Some(timeout);
            self
        }

        /// How long a close waits for the peer's answer once everything is sent; 2 seconds by
        /// default, where asyncio has 30: a peer that speaks TLS 1.3 need not answer.
        /// `InvalidInput` if it is zero, and without [`ssl`](Self::ssl).
        #[cfg(feature = "tls")]
        pub fn ssl_shutdown_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($serving).+.terms.tls.times.shutdown = Some(timeout);
            self
        }

        /// How many handshakes may be on their way at a time; 1,000 by default. Further connections
        /// wait in the kernel, as with [`max_connections`](Self::max_connections). Who says nothing
        /// keeps a place for as long as
        /// [`ssl_handshake_timeout`](Self::ssl_handshake_timeout) lets it, and, where the header of
        /// a proxy comes first, while that is awaited. Of those of `start_tls` there may be as many as
        /// connections. Zero, and any without [`ssl`](Self::ssl), is `InvalidInput`. asyncio has no
        /// bound.
        #[cfg(feature = "tls")]
        pub fn max_handshakes(mut self, max_handshakes: usize) -> Self {
            self.$($serving).+.terms.max_handshakes = Some(max_handshakes);
            self
        }
    };
}

pub(crate) use serving_setters;
