//! A connection to somewhere.
//!
//! Owns: [`create_connection`] and the source that waits for a connect to end. Why: until the
//! system says how it ended there is no transport, but there is a descriptor to look after.
//! Invariants: dropped at any point, nothing is left; the protocol is made after the connect has
//! succeeded; `connection_made` comes before the caller goes on. asyncio's counterpart:
//! `create_connection`, `_sock_connect`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::endpoints::connected::Connected;
use crate::endpoints::endpoint::{Endpoint, Host};
use crate::endpoints::error::EndpointError;
use crate::endpoints::reserved::Reserved;
use crate::endpoints::resolve::resolve;
use crate::event_loop::cells::Slot;
use crate::event_loop::{
    Entry, LoopHandle, NoRunningLoop, Progress, Source, get_running_loop, running,
};
use crate::sys::{Address, Readiness};
use crate::transports::{Protocol, Transport};

/// Connects to `endpoint` and gives the transport and the protocol that `factory` makes once the
/// connection is there. Mirrors `loop.create_connection`; it runs on the loop that polls it.
///
/// The addresses of a name, and of several hosts, are tried one after the other. Dropping the
/// future gives the attempt up and leaves nothing behind. A socket that is connected already
/// (asyncio's `sock=`) is taken as it is: see [`Endpoint`].
///
/// # Errors
///
/// An [`EndpointError`], as `io::Error`: the name has no address, or none of them answered.
/// `InvalidInput` when there is no host, or a socket that is not connected. [`NoRunningLoop`]
/// outside a loop.
///
/// ```
/// use evloop::{Protocol, Transport, create_connection};
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
/// # let address = listener.local_addr()?;
/// evloop::run(async move {
///     let (transport, _protocol) = create_connection(|| Greeter, address).await?;
///     assert!(transport.is_closing());
///     Ok::<(), std::io::Error>(())
/// })?
/// # ; Ok::<(), std::io::Error>(())
/// ```
pub fn create_connection<P, F>(factory: F, endpoint: impl Into<Endpoint>) -> CreateConnection<F>
where
    P: Protocol,
    F: FnOnce() -> P,
{
    CreateConnection {
        factory,
        endpoint: endpoint.into(),
        loop_number: 0,
    }
}

/// Gives a transport and a protocol for a connection that somebody else accepted, from a listener
/// of the program's own or by another process. Mirrors `loop.connect_accepted_socket`; with
/// streams the same is [`open_connection`](crate::open_connection) on that socket.
///
/// # Errors
///
/// Those of [`create_connection`].
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
pub fn connect_accepted_socket<P, F>(factory: F, socket: impl Into<OwnedFd>) -> CreateConnection<F>
where
    P: Protocol,
    F: FnOnce() -> P,
{
    create_connection(factory, socket.into())
}

impl LoopHandle {
    /// [`connect_accepted_socket`] for this loop: awaited on another one it is [`NoRunningLoop`].
    pub fn connect_accepted_socket<P, F>(
        &self,
        factory: F,
        socket: impl Into<OwnedFd>,
    ) -> CreateConnection<F>
    where
        P: Protocol,
        F: FnOnce() -> P,
    {
        self.create_connection(factory, socket.into())
    }

    /// [`create_connection`] for this loop: awaited on another one it is [`NoRunningLoop`].
    pub fn create_connection<P, F>(
        &self,
        factory: F,
        endpoint: impl Into<Endpoint>,
    ) -> CreateConnection<F>
    where
        P: Protocol,
        F: FnOnce() -> P,
    {
        CreateConnection {
            loop_number: self.number(),
            ..create_connection(factory, endpoint)
        }
    }
}

/// A connection to be made: awaiting it makes it. Made by [`create_connection`].
#[must_use = "nothing happens until it is awaited"]
pub struct CreateConnection<F> {
    factory: F,
    endpoint: Endpoint,
    loop_number: u64,
}

impl<F, P> IntoFuture for CreateConnection<F>
where
    P: Protocol,
    F: FnOnce() -> P + 'static,
{
    type Output = io::Result<(Transport, Rc<RefCell<P>>)>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let handle = loop_of(self.loop_number)?;
            let socket = match self.endpoint.into_socket() {
                Ok(socket) => Connected::adopt(&handle, socket.take()?)?,
                Err(endpoint) => connect(&handle, &endpoint).await?,
            };
            socket.introduce(&handle, self.factory).await
        })
    }
}

impl<F> fmt::Debug for CreateConnection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateConnection")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The running loop, which has to be the one of this number (0: any).
pub(crate) fn loop_of(number: u64) -> Result<LoopHandle, NoRunningLoop> {
    running::at_home(number)?;
    get_running_loop()
}

/// Tries the addresses of all hosts, one after the other.
async fn connect(handle: &LoopHandle, endpoint: &Endpoint) -> io::Result<Connected> {
    let hosts = endpoint.hosts();
    if hosts.is_empty() || hosts.contains(&Host::Any) {
        let message = format!("no host to connect to: {endpoint:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut errors = Vec::new();
    for host in hosts {
        let found = match host {
            Host::Literal(address) => Ok(vec![*address]),
            Host::Name(name) => resolve(handle, name, endpoint.port()).await?,
            Host::Any => continue,
        };
        let addresses = found.unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        });
        for address in addresses {
            let address = Address::from(address);
            match connect_one(handle, &address).await {
                Ok(socket) => return Ok(socket),
                Err(source) => errors.push(EndpointError::Connect { address, source }),
            }
        }
    }
    Err(EndpointError::of(errors).into())
}

/// Tries one address.
pub(crate) async fn connect_one(handle: &LoopHandle, address: &Address) -> io::Result<Connected> {
    let place = Reserved::new(handle);
    let id = place.id();
    let stream = handle.driver(|driver| driver.connect(id, address))?;
    let connecting = Rc::new(Connecting::default());
    handle.insert(id, Rc::clone(&connecting) as Rc<dyn Source>);
    let peer = poll_fn(|cx| {
        running::poll_leaf(handle.number(), cx, |cx| {
            if connecting.ready.get().says(Readiness::WRITE) {
                match stream.finish_connect() {
                    Ok(None) => connecting.forget_write(),
                    Ok(Some(peer)) => return Poll::Ready(Ok(peer)),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            drop(connecting.waker.put(cx.waker().clone()));
            Poll::Pending
        })
    })
    .await??;
    Ok(Connected {
        place,
        stream,
        peer,
        ready: connecting.ready.get(),
    })
}

/// Stands in the loop's table while the system connects.
#[derive(Default)]
struct Connecting {
    ready: Cell<Readiness>,
    waker: Slot<Waker>,
}

impl Connecting {
    fn forget_write(&self) {
        let ready = self.ready.get();
        self.ready.set(ready.without(Readiness::WRITE));
    }
}

impl Source for Connecting {
    fn serve(self: Rc<Self>, handle: &LoopHandle, event: Option<Readiness>) -> Progress {
        self.ready.set(self.ready.get() | event.unwrap_or_default());
        if let Some(waker) = self.waker.take() {
            handle.enter_reporting("Exception in a waker", || waker.wake());
        }
        Progress::Done
    }

    fn run(self: Rc<Self>, _: &LoopHandle, _: Entry) {}

    fn settle(self: Rc<Self>, _: &LoopHandle) {}

    fn abandon(self: Rc<Self>) {}
}
