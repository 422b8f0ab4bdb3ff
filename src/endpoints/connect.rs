//! A connection to somewhere.
//!
//! Owns: [`create_connection`] and its options. Why: keyword arguments become chained setters of the
//! same name, and awaiting starts it. Invariants: dropped at any point, nothing is left; the
//! protocol is made after the connect has succeeded; `connection_made` comes before the caller goes
//! on. asyncio's counterpart: `create_connection`.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::endpoints::connected::Connected;
use crate::endpoints::endpoint::{Endpoint, Host};
use crate::endpoints::error::EndpointError;
use crate::endpoints::joining::{Joining, joining_setters};
use crate::endpoints::race::race;
use crate::endpoints::resolve::{Hints, Resolved, resolve_all};
use crate::event_loop::LoopHandle;
use crate::sansio::happy_eyeballs::interleave;
use crate::sys::{Address, Family, Proto, invalid_input};
use crate::transports::{Protocol, Transport};

/// Connects to `endpoint` and gives the transport and the protocol that `factory` makes once the
/// connection is there. Mirrors `loop.create_connection`; it runs on the loop that polls it.
///
/// Names are looked up first, side by side. Their addresses are then tried in order: one after the
/// other, or with [`happy_eyeballs_delay`](CreateConnection::happy_eyeballs_delay) several at a
/// time; the first that answers is taken, all others are closed. An attempt has no limit of its own:
/// put a [`timeout`](crate::timeout) around it. Dropping the future at any point gives everything
/// up and leaves nothing behind. A socket that is connected already (asyncio's `sock=`) is taken as
/// it is, whatever the other arguments say: see [`Endpoint`].
///
/// # Errors
///
/// An [`EndpointError`], as `io::Error`: a name has no address, or no address answered. Of several
/// errors with the same text the first is given, else all of them as [`EndpointError::Several`].
/// `InvalidInput` when there is no host, an argument contradicts another, or a socket is not
/// connected. [`NoRunningLoop`](crate::NoRunningLoop) outside a loop.
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
        endpoint: endpoint.into(),
        options: ConnectOptions::default(),
        joining: Joining::new(factory),
    }
}

impl LoopHandle {
    /// [`create_connection`] for this loop: awaited on another one it is
    /// [`NoRunningLoop`](crate::NoRunningLoop).
    pub fn create_connection<P, F>(
        &self,
        factory: F,
        endpoint: impl Into<Endpoint>,
    ) -> CreateConnection<F>
    where
        P: Protocol,
        F: FnOnce() -> P,
    {
        let mut connection = create_connection(factory, endpoint);
        connection.joining.loop_number = self.number();
        connection
    }
}

/// A connection to be made: awaiting it makes it. Made by [`create_connection`], whose keyword
/// arguments are the setters here.
#[must_use = "nothing happens until it is awaited"]
pub struct CreateConnection<F> {
    endpoint: Endpoint,
    options: ConnectOptions,
    pub(crate) joining: Joining<F>,
}

impl<F> CreateConnection<F> {
    /// Only addresses of this family. A literal of another one is an error.
    pub fn family(mut self, family: Family) -> Self {
        self.options.hints.family = family;
        self
    }

    /// The protocol that the resolver is asked for. Only TCP has connections.
    pub fn proto(mut self, proto: Proto) -> Self {
        self.options.hints.proto = proto;
        self
    }

    /// What else the resolver is told: the `AI_…` of [`netdb`](crate::netdb), joined by `|`.
    pub fn flags(mut self, flags: i32) -> Self {
        self.options.hints.flags = flags;
        self
    }

    /// The address to connect from, `("127.0.0.1", 0)` for example, where port 0 lets the system
    /// pick one. Of several addresses, and of those of a name, the first of the family that is
    /// connected to and that can be had is used.
    ///
    /// ```
    /// use evloop::{SockName, open_connection};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// evloop::run(async move {
    ///     let (_reader, writer) = open_connection(address).local_addr(("127.0.0.2", 0)).await?;
    ///     let from = writer.get_extra_info(SockName).unwrap();
    ///     assert_eq!(from.ip().unwrap().to_string(), "127.0.0.2");
    ///     Ok::<(), std::io::Error>(())
    /// })?
    /// # ; Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(mut self, local_addr: impl Into<Endpoint>) -> Self {
        self.options.local_addr = Some(local_addr.into());
        self
    }

    /// How long one address is waited for before the next one is tried beside it: happy eyeballs
    /// (RFC 8305), which proposes 250 milliseconds. The next one begins at once when the attempt
    /// that began last fails; the failure of an earlier one hastens nothing. `None`, the default:
    /// one after the other, each for as long as the system tries.
    pub fn happy_eyeballs_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.options.happy_eyeballs_delay = delay.into();
        self
    }

    /// Whether the families of addresses take turns: so many of the first family, then one of
    /// each. With 0 the order stays as the resolver has it. By default 1 with a
    /// [`happy_eyeballs_delay`](Self::happy_eyeballs_delay), else 0.
    pub fn interleave(mut self, first_of_a_family: usize) -> Self {
        self.options.interleave = Some(first_of_a_family);
        self
    }

    /// Whether a failure is always [`EndpointError::Several`] with the error of each attempt, also
    /// where there is one, or all say the same. asyncio raises an `ExceptionGroup` then. `false`
    /// by default.
    pub fn all_errors(mut self, all_errors: bool) -> Self {
        self.options.all_errors = all_errors;
        self
    }

    joining_setters!(joining);
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
            let Self {
                endpoint,
                options,
                mut joining,
            } = self;
            let handle = joining.begin()?;
            let host = endpoint.host();
            let tls = joining.prepare(&handle, host).await?;
            let socket = match endpoint.into_socket() {
                Ok(socket) => Connected::adopt(&handle, socket.take()?)?,
                Err(endpoint) => connect(&handle, &endpoint, &options).await?,
            };
            joining.introduce(&handle, socket, tls).await
        })
    }
}

impl<F> fmt::Debug for CreateConnection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateConnection")
            .field("endpoint", &self.endpoint)
            .field("options", &self.options)
            .field("joining", &self.joining)
            .finish()
    }
}

/// One socket, connected to one of the endpoint's addresses.
async fn connect(
    handle: &LoopHandle,
    endpoint: &Endpoint,
    options: &ConnectOptions,
) -> io::Result<Connected> {
    options.check(endpoint)?;
    let Resolved { addresses, errors } = resolve_all(handle, endpoint, options.hints).await;
    let locals = match &options.local_addr {
        Some(local) if !addresses.is_empty() => Some(options.locals(handle, local).await?),
        _ => None,
    };
    let addresses: Vec<Address> = interleave(addresses, options.first_of_a_family(), Family::of)
        .into_iter()
        .map(Address::from)
        .collect();
    let delay = options.happy_eyeballs_delay;
    let failed = match race(handle, &addresses, locals.as_deref(), delay).await? {
        Ok(socket) => return Ok(socket),
        Err(failed) => failed,
    };
    let errors = errors.into_iter().chain(failed).collect();
    let error = match options.all_errors {
        true => EndpointError::Several(errors),
        false => EndpointError::of(errors),
    };
    Err(error.into())
}

/// The keyword arguments of [`create_connection`].
#[derive(Clone, Debug, Default)]
struct ConnectOptions {
    hints: Hints,
    local_addr: Option<Endpoint>,
    happy_eyeballs_delay: Option<Duration>,
    interleave: Option<usize>,
    all_errors: bool,
}

impl ConnectOptions {
    /// What cannot be meant, before anything is done.
    fn check(&self, endpoint: &Endpoint) -> io::Result<()> {
        let message = if endpoint.hosts().is_empty() || endpoint.hosts().contains(&Host::Any) {
            "host and port was not specified and no sock specified"
        } else if self.hints.proto == Proto::Udp {
            "proto: a connection is a stream, and UDP has none"
        } else if self
            .local_addr
            .as_ref()
            .is_some_and(|local| local.hosts().is_empty())
        {
            "local_addr: no address"
        } else {
            return Ok(());
        };
        Err(invalid_input(message))
    }

    async fn locals(&self, handle: &LoopHandle, local: &Endpoint) -> io::Result<Vec<SocketAddr>> {
        let resolved = resolve_all(handle, local, self.hints).await;
        if resolved.addresses.is_empty() {
            return Err(EndpointError::of(resolved.errors).into());
        }
        Ok(resolved.addresses)
    }

    /// As asyncio has it: in turns if several are tried at a time, else in the given order.
    fn first_of_a_family(&self) -> usize {
        let usual = usize::from(self.happy_eyeballs_delay.is_some());
        self.interleave.unwrap_or(usual)
    }
}
