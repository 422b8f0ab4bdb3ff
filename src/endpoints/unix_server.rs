//! How a server on a unix socket comes about.
//!
//! Owns: [`create_unix_server`] and its options. Why: a path is a file, which outlives a server
//! that crashed and may belong to another one. Invariants: nothing is unlinked that is not a
//! socket on which nobody listens, or the one that we made. asyncio's counterpart:
//! `create_unix_server`.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::endpoints::connect::loop_of;
use crate::endpoints::error::EndpointError;
use crate::endpoints::server::{ProtocolFactory, Server};
use crate::endpoints::server_builder::{Bound, DEFAULT_BACKLOG, serve};
use crate::endpoints::terms::Terms;
use crate::endpoints::unix_endpoint::{UnixEndpoint, UnixPlace, expect_unix};
use crate::event_loop::LoopHandle;
use crate::sys::{Address, ListenOptions};
use crate::transports::Protocol;

/// Serves the unix socket `endpoint` with a protocol from `factory` for each connection. Mirrors
/// `loop.create_unix_server`; it runs on the loop that polls it.
///
/// What a server that crashed left at the path is replaced. To find out, we connect to it: a
/// server that lives sees a connection that ends at once, and keeps its path. (A socket that is
/// bound and does not listen yet looks like one that nobody has any more, so a path should not be
/// shared with a server that is made with `start_serving(false)`; and of two that start in the
/// same instant the later one may take the path from the earlier one, which notices nothing.
/// Whoever cannot rule that out holds a lock while starting.) When the server is closed, the
/// path is removed if it still is the socket that was made here; that of an existing socket is
/// never removed.
///
/// # Errors
///
/// An [`EndpointError`], as `io::Error`: `AddrInUse` if a live server has the path, or anything
/// that is no socket; `InvalidInput` for an empty or too long one (about a hundred bytes, whatever
/// the system's limit is), for an existing socket that is no unix socket, is connected or is not
/// bound, and where no connection is allowed.
/// [`NoRunningLoop`](crate::NoRunningLoop) outside a loop.
///
/// ```
/// use evloop::{Protocol, UnixAddress, create_unix_server};
///
/// #[derive(Default)]
/// struct Idle;
///
/// impl Protocol for Idle {}
///
/// # let path = std::env::temp_dir().join(format!("evloop-idle-{}", std::process::id()));
/// evloop::run(async {
///     let server = create_unix_server(Idle::default, &path).await?;
///     assert_eq!(server.sockets()[0].as_unix(), Some(&UnixAddress::from(&path)));
///     server.close();
///     assert!(!path.exists());
///     server.wait_closed().await
/// })??;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn create_unix_server<P: Protocol>(
    mut factory: impl FnMut() -> P + 'static,
    endpoint: impl Into<UnixEndpoint>,
) -> CreateUnixServer {
    CreateUnixServer {
        factory: Box::new(move || Rc::new(RefCell::new(factory()))),
        endpoint: endpoint.into(),
        options: ListenOptions {
            backlog: DEFAULT_BACKLOG,
            reuse_address: false,
            reuse_port: false,
            keep_alive: false,
            cleanup_socket: true,
        },
        start_serving: true,
        terms: Terms::default(),
        loop_number: 0,
    }
}

impl LoopHandle {
    /// [`create_unix_server`] for this loop: awaited on another one it is
    /// [`NoRunningLoop`](crate::NoRunningLoop).
    pub fn create_unix_server<P: Protocol>(
        &self,
        factory: impl FnMut() -> P + 'static,
        endpoint: impl Into<UnixEndpoint>,
    ) -> CreateUnixServer {
        CreateUnixServer {
            loop_number: self.number(),
            ..create_unix_server(factory, endpoint)
        }
    }
}

/// A server to be made: awaiting it makes it. Made by [`create_unix_server`], whose keyword
/// arguments are the setters here.
#[must_use = "nothing happens until it is awaited"]
pub struct CreateUnixServer {
    factory: ProtocolFactory,
    endpoint: UnixEndpoint,
    options: ListenOptions,
    start_serving: bool,
    terms: Terms,
    loop_number: u64,
}

impl CreateUnixServer {
    /// How many connections may wait in the kernel to be accepted; 100 by default. The system has
    /// a bound of its own.
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.options.backlog = backlog;
        self
    }

    /// Whether to accept at once, or only from [`Server::start_serving`] on; `true` by default.
    pub fn start_serving(mut self, start_serving: bool) -> Self {
        self.start_serving = start_serving;
        self
    }

    /// [`CreateServer::max_connections`](crate::CreateServer::max_connections).
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.terms.max_connections = max_connections;
        self
    }

    /// [`CreateServer::idle_timeout`](crate::CreateServer::idle_timeout).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.terms.policies.idle_timeout = Some(timeout);
        self
    }

    /// [`CreateServer::write_timeout`](crate::CreateServer::write_timeout).
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.terms.policies.write_timeout = Some(timeout);
        self
    }

    /// [`CreateServer::max_write_buffer`](crate::CreateServer::max_write_buffer).
    pub fn max_write_buffer(mut self, bytes: usize) -> Self {
        self.terms.policies.max_write_buffer = Some(bytes);
        self
    }

    /// Whether the path is removed when the server is closed; `true` by default. It never is for
    /// an existing socket.
    pub fn cleanup_socket(mut self, cleanup_socket: bool) -> Self {
        self.options.cleanup_socket = cleanup_socket;
        self
    }
}

impl IntoFuture for CreateUnixServer {
    type Output = io::Result<Server>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let handle = loop_of(self.loop_number)?;
            self.terms.check()?;
            let bound = bind(&handle, self.endpoint, &self.options)?;
            let server = Server::new(&handle, self.factory, self.terms);
            serve(&handle, server, vec![bound], self.start_serving)
        })
    }
}

impl fmt::Debug for CreateUnixServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateUnixServer")
            .field("endpoint", &self.endpoint)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn bind(handle: &LoopHandle, endpoint: UnixEndpoint, how: &ListenOptions) -> io::Result<Bound> {
    match endpoint.0 {
        UnixPlace::Socket(socket) => {
            let bound = Bound::adopt(handle, socket.take()?, how)?;
            expect_unix(bound.address())?;
            Ok(bound)
        }
        UnixPlace::Address(address) => {
            let address = Address::from(address);
            Bound::new(handle, &address, how)
                .map_err(|source| EndpointError::Bind { address, source }.into())
        }
    }
}
