//! How a server on a unix socket comes about.
//!
//! Owns: [`create_unix_server`] and its options. Why: a path is a file, which outlives a server
//! that crashed and may belong to another one. Invariants: nothing is unlinked that is not a
//! socket on which nobody listens, or the one that we made. asyncio's counterpart:
//! `create_unix_server`.

use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;

use crate::endpoints::bound::Bound;
use crate::endpoints::error::EndpointError;
use crate::endpoints::server::Server;
use crate::endpoints::serving::{Serving, serving_setters};
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
    factory: impl FnMut() -> P + 'static,
    endpoint: impl Into<UnixEndpoint>,
) -> CreateUnixServer {
    CreateUnixServer {
        endpoint: endpoint.into(),
        serving: Serving::new(factory),
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
        let mut server = create_unix_server(factory, endpoint);
        server.serving.loop_number = self.number();
        server
    }
}

/// A server to be made: awaiting it makes it. Made by [`create_unix_server`], whose keyword
/// arguments are the setters here.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct CreateUnixServer {
    endpoint: UnixEndpoint,
    pub(crate) serving: Serving,
}

impl CreateUnixServer {
    /// Whether the path is removed when the server is closed; `true` by default. It never is for
    /// an existing socket.
    pub fn cleanup_socket(mut self, cleanup_socket: bool) -> Self {
        self.serving.options.cleanup_socket = cleanup_socket;
        self
    }

    serving_setters!(serving);
}

impl IntoFuture for CreateUnixServer {
    type Output = io::Result<Server>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let handle = self.serving.begin()?;
            let bound = bind(&handle, self.endpoint, &self.serving.options)?;
            self.serving.serve(&handle, vec![bound])
        })
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
