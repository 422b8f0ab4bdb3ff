//! A connection to a unix socket.
//!
//! Owns: [`create_unix_connection`]. Why: there is one address to try and nothing to resolve.
//! Invariants: those of `create_connection`. asyncio's counterpart: `create_unix_connection`.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use crate::endpoints::connected::Connected;
use crate::endpoints::error::EndpointError;
use crate::endpoints::joining::{Joining, joining_setters};
use crate::endpoints::race::race;
use crate::endpoints::unix_endpoint::{UnixEndpoint, UnixPlace, expect_unix};
use crate::event_loop::LoopHandle;
use crate::sys::Address;
use crate::transports::{Protocol, Transport};

/// Connects to the unix socket `endpoint` and gives the transport and the protocol that `factory`
/// makes once the connection is there. Mirrors `loop.create_unix_connection`; it runs on the loop
/// that polls it.
///
/// Dropping the future gives the attempt up and leaves nothing behind.
///
/// # Errors
///
/// An [`EndpointError`], as `io::Error`: `NotFound` if there is no such path, `ConnectionRefused`
/// if nobody listens there any more, `WouldBlock` if too many wait to be accepted (the system does
/// not queue us then, so try again later). `InvalidInput` for an empty or too long path and for an
/// existing socket that is no connected unix socket.
/// [`NoRunningLoop`](crate::NoRunningLoop) outside a loop.
///
/// ```
/// use evloop::{Protocol, Transport, UnixAddress, create_unix_connection, create_unix_server};
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
/// # let folder = std::env::temp_dir().join(format!("evloop-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("greeter.sock");
/// evloop::run(async {
///     let server = create_unix_server(|| Greeter, &path).await?;
///     let (transport, _protocol) = create_unix_connection(|| Greeter, &path).await?;
///     assert!(transport.is_closing());
///     server.close();
///     server.wait_closed().await
/// })??;
/// # std::fs::remove_dir(&folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn create_unix_connection<P, F>(
    factory: F,
    endpoint: impl Into<UnixEndpoint>,
) -> CreateUnixConnection<F>
where
    P: Protocol,
    F: FnOnce() -> P,
{
    CreateUnixConnection {
        endpoint: endpoint.into(),
        joining: Joining::new(factory),
    }
}

impl LoopHandle {
    /// [`create_unix_connection`] for this loop: awaited on another one it is
    /// [`NoRunningLoop`](crate::NoRunningLoop).
    pub fn create_unix_connection<P, F>(
        &self,
        factory: F,
        endpoint: impl Into<UnixEndpoint>,
    ) -> CreateUnixConnection<F>
    where
        P: Protocol,
        F: FnOnce() -> P,
    {
        let mut connection = create_unix_connection(factory, endpoint);
        connection.joining.loop_number = self.number();
        connection
    }
}

/// A connection to be made: awaiting it makes it. Made by [`create_unix_connection`], whose
/// keyword arguments are the setters here.
#[must_use = "nothing happens until it is awaited"]
pub struct CreateUnixConnection<F> {
    endpoint: UnixEndpoint,
    pub(crate) joining: Joining<F>,
}

impl<F> CreateUnixConnection<F> {
    joining_setters!(joining);
}

impl<F, P> IntoFuture for CreateUnixConnection<F>
where
    P: Protocol,
    F: FnOnce() -> P + 'static,
{
    type Output = io::Result<(Transport, Rc<RefCell<P>>)>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                endpoint,
                mut joining,
            } = self;
            let handle = joining.begin()?;
            let tls = joining.prepare(&handle, Err(NO_NAME)).await?;
            let socket = connect(&handle, endpoint).await?;
            joining.introduce(&handle, socket, tls).await
        })
    }
}

impl<F> fmt::Debug for CreateUnixConnection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateUnixConnection")
            .field("endpoint", &self.endpoint)
            .field("joining", &self.joining)
            .finish()
    }
}

async fn connect(handle: &LoopHandle, endpoint: UnixEndpoint) -> io::Result<Connected> {
    match endpoint.0 {
        UnixPlace::Socket(socket) => {
            let socket = Connected::adopt(handle, socket.take()?)?;
            expect_unix(&socket.peer)?;
            Ok(socket)
        }
        UnixPlace::Address(address) => {
            let address = [Address::from(address)];
            let connected = race(handle, &address, None, None).await?;
            connected.map_err(|errors| EndpointError::of(errors).into())
        }
    }
}

/// asyncio's words.
const NO_NAME: &str = "you have to pass server_hostname when using ssl";
