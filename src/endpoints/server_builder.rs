//! How a server comes about.
//!
//! Owns: [`create_server`] and its options. Why: keyword arguments become chained setters of the
//! same name, and awaiting starts it. Invariants: either all addresses are bound or none is; with
//! port 0 all of them have the same port. asyncio's counterpart: `create_server`.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use crate::endpoints::bound::Bound;
use crate::endpoints::endpoint::{Endpoint, Host};
use crate::endpoints::error::EndpointError;
use crate::endpoints::port::{Failure, PickedPort, with_another_port};
use crate::endpoints::resolve::{Hints, resolve_each};
use crate::endpoints::server::Server;
use crate::endpoints::serving::{Serving, serving_setters};
use crate::event_loop::LoopHandle;
use crate::sys::netdb::AI_PASSIVE;
use crate::sys::{Address, Family, ListenOptions, invalid_input};
use crate::transports::Protocol;

/// Serves `endpoint` with a protocol from `factory` for each connection. Mirrors
/// `loop.create_server`; it runs on the loop that polls it.
///
/// Either all addresses are bound or none. Dropping the future before it is complete leaves nothing
/// behind. A socket that is bound already (asyncio's `sock=`) is taken as it is: see [`Endpoint`].
///
/// # Errors
///
/// An [`EndpointError`], as `io::Error`: an address is taken or not ours, a name has no address.
/// `InvalidInput` where there is no host, no connection is allowed, a literal is not of the
/// [`family`](CreateServer::family), or an existing socket is connected or not bound.
/// [`NoRunningLoop`](crate::NoRunningLoop) outside a loop.
///
/// ```
/// use evloop::{Protocol, Transport, create_server};
///
/// #[derive(Default)]
/// struct Echo(Option<Transport>);
///
/// impl Protocol for Echo {
///     fn connection_made(&mut self, transport: Transport) {
///         self.0 = Some(transport);
///     }
///
///     fn data_received(&mut self, data: &[u8]) {
///         if let Some(transport) = &self.0 {
///             transport.write(data);
///         }
///     }
/// }
///
/// evloop::run(async {
///     let server = create_server(Echo::default, ("127.0.0.1", 0)).backlog(1024).await?;
///     println!("Serving on {:?}", server.sockets()[0]);
///     server.close();
///     server.wait_closed().await
/// })?
/// # ; Ok::<(), std::io::Error>(())
/// ```
pub fn create_server<P: Protocol>(
    factory: impl FnMut() -> P + 'static,
    endpoint: impl Into<Endpoint>,
) -> CreateServer {
    CreateServer {
        endpoint: endpoint.into(),
        hints: Hints {
            flags: AI_PASSIVE,
            ..Hints::default()
        },
        serving: Serving::new(factory),
    }
}

impl LoopHandle {
    /// [`create_server`] for this loop: awaited on another one it is
    /// [`NoRunningLoop`](crate::NoRunningLoop).
    pub fn create_server<P: Protocol>(
        &self,
        factory: impl FnMut() -> P + 'static,
        endpoint: impl Into<Endpoint>,
    ) -> CreateServer {
        let mut server = create_server(factory, endpoint);
        server.serving.loop_number = self.number();
        server
    }
}

/// A server to be made: awaiting it makes it. Made by [`create_server`], whose keyword arguments
/// are the setters here.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct CreateServer {
    endpoint: Endpoint,
    hints: Hints,
    pub(crate) serving: Serving,
}

impl CreateServer {
    /// Only addresses of this family. A literal of another one is an error.
    ///
    /// With [`flags`](Self::flags) other than `AI_PASSIVE` it is the resolver that is asked, since
    /// flags may have the literal mapped. The system's refuses it all the same, or makes an
    /// address such as `::ffff:127.0.0.1` of it, which then cannot be bound: what is served on IPv6
    /// is IPv6 only, as in asyncio. A [`Resolver`](crate::Resolver) of yours may give any other.
    pub fn family(mut self, family: Family) -> Self {
        self.hints.family = family;
        self
    }

    /// What else the resolver is told of names: the `AI_…` of [`netdb`](crate::netdb), joined by
    /// `|`; `AI_PASSIVE` by default.
    pub fn flags(mut self, flags: i32) -> Self {
        self.hints.flags = flags;
        self
    }

    /// Whether an address may be served though connections of an earlier server linger on it
    /// (`SO_REUSEADDR`); `true` by default.
    pub fn reuse_address(mut self, reuse_address: bool) -> Self {
        self.serving.options.reuse_address = reuse_address;
        self
    }

    /// Whether several sockets may serve the same address (`SO_REUSEPORT`); `false` by default.
    pub fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.serving.options.reuse_port = reuse_port;
        self
    }

    /// Whether the system asks now and then whether the peers of quiet connections are still there
    /// (`SO_KEEPALIVE`); `false` by default. How often is a matter of the system: on Linux after
    /// two hours.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.serving.options.keep_alive = keep_alive;
        self
    }

    serving_setters!(serving);
}

impl IntoFuture for CreateServer {
    type Output = io::Result<Server>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let handle = self.serving.begin()?;
            let options = &self.serving.options;
            let bound = match self.endpoint.into_socket() {
                Ok(socket) => vec![Bound::adopt(&handle, socket.take()?, options)?],
                Err(endpoint) => {
                    let addresses = addresses(&handle, &endpoint, self.hints).await?;
                    bind_all(&handle, &addresses, options, self.serving.start_serving)?
                }
            };
            self.serving.serve(&handle, bound)
        })
    }
}

/// An address to bind, and whether the server can do without it.
struct Wanted {
    address: SocketAddr,
    /// One of "all interfaces", or one of a name's: a machine may lack a family.
    optional: bool,
}

/// The addresses of all hosts, each once, in the order in which they were asked for.
async fn addresses(
    handle: &LoopHandle,
    endpoint: &Endpoint,
    hints: Hints,
) -> io::Result<Vec<Wanted>> {
    if endpoint.hosts().is_empty() {
        let message = "Neither host/port nor sock were specified";
        return Err(invalid_input(message));
    }
    let answers = resolve_each(handle, endpoint, hints).await;
    let mut wanted: Vec<Wanted> = Vec::new();
    for (host, found) in endpoint.hosts().iter().zip(answers) {
        let optional = !matches!(host, Host::Literal(_));
        for address in found? {
            if wanted.iter().all(|wanted| wanted.address != address) {
                wanted.push(Wanted { address, optional });
            }
        }
    }
    Ok(wanted)
}

/// Binds all or none, and has them listen if they are to serve.
fn bind_all(
    handle: &LoopHandle,
    wanted: &[Wanted],
    options: &ListenOptions,
    serve: bool,
) -> io::Result<Vec<Bound>> {
    let (bound, missing) = with_another_port(|| bind_once(handle, wanted, options, serve))?;
    if !missing.is_empty() {
        log::warn!("not served: {}", EndpointError::of(missing));
    }
    Ok(bound)
}

/// One attempt, but for what the machine lacks, which is told beside it.
fn bind_once(
    handle: &LoopHandle,
    wanted: &[Wanted],
    options: &ListenOptions,
    serve: bool,
) -> Result<(Vec<Bound>, Vec<EndpointError>), Failure> {
    let mut bound: Vec<Bound> = Vec::new();
    let mut port = PickedPort::default();
    let picks = wanted.iter().any(|wanted| wanted.address.port() == 0);
    let mut missing = Vec::new();
    for Wanted { address, optional } in wanted {
        let (address, follows) = port.apply(*address);
        let address = Address::from(address);
        match Bound::new(handle, &address, options) {
            Ok(socket) => {
                port.learn(socket.address().port());
                bound.push(socket);
            }
            Err(source) if *optional && is_missing_family(&source) => {
                missing.push(EndpointError::Bind { address, source });
            }
            Err(source) => {
                let retry = follows && source.kind() == io::ErrorKind::AddrInUse;
                return Err((EndpointError::Bind { address, source }, retry));
            }
        }
    }
    if bound.is_empty() {
        return Err((EndpointError::of(missing), false));
    }
    if serve {
        // Who shares the address (`SO_REUSEADDR`) and was the first to listen is seen only now.
        for bound in &mut bound {
            bound.listen().map_err(|source| {
                let retry = picks && source.kind() == io::ErrorKind::AddrInUse;
                let address = bound.address().clone();
                (EndpointError::Bind { address, source }, retry)
            })?;
        }
    }
    Ok((bound, missing))
}

fn is_missing_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use super::{Wanted, addresses, bind_all, bind_once};
    use crate::endpoints::endpoint::Endpoint;
    use crate::endpoints::resolve::Hints;
    use crate::event_loop::{EventLoop, get_running_loop};
    use crate::sys::ListenOptions;

    const OPTIONS: ListenOptions = ListenOptions {
        backlog: 8,
        reuse_address: true,
        reuse_port: false,
        keep_alive: false,
        cleanup_socket: true,
    };

    /// Set aside for documentation (RFC 5737), so it is nobody's: stands for the address of a
    /// family that the machine lacks.
    const NOT_OURS: ([u8; 4], u16) = ([192, 0, 2, 1], 0);

    fn wanted(address: impl Into<SocketAddr>, optional: bool) -> Wanted {
        Wanted {
            address: address.into(),
            optional,
        }
    }

    #[test]
    fn a_server_can_do_without_one_address_of_a_name_but_not_without_a_literal_one() {
        let mut event_loop = EventLoop::new().unwrap();
        event_loop.run_until_complete(async {
            let handle = get_running_loop().unwrap();
            let hints = Hints::default();
            let of_name = addresses(&handle, &Endpoint::from(("localhost", 0)), hints).await;
            assert!(of_name.unwrap().iter().all(|wanted| wanted.optional));
            let literal = addresses(&handle, &Endpoint::from(("127.0.0.1", 0)), hints).await;
            assert!(literal.unwrap().iter().all(|wanted| !wanted.optional));

            let ours = || wanted(([127, 0, 0, 1], 0), true);
            let bound = bind_all(&handle, &[wanted(NOT_OURS, true), ours()], &OPTIONS, true);
            assert_eq!(bound.unwrap().len(), 1);
            let bound = bind_all(&handle, &[wanted(NOT_OURS, false), ours()], &OPTIONS, true);
            assert!(bound.is_err());
            let bound = bind_all(&handle, &[wanted(NOT_OURS, true)], &OPTIONS, true);
            assert!(bound.is_err());
        });
    }

    /// Two sockets can be bound to one address before either listens; the second one then cannot.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_port_that_the_system_picked_is_given_up_if_it_cannot_be_listened_on() {
        let event_loop = EventLoop::new().unwrap();
        let twice = |port| [(); 2].map(|()| wanted(([127, 0, 0, 1], port), false));
        let attempt = |wanted: &[Wanted], serve| bind_once(&event_loop, wanted, &OPTIONS, serve);

        let (bound, _) = attempt(&twice(0), false).expect("both are bound");
        let port = bound[0].address().port().unwrap();
        assert_eq!(bound[1].address().port(), Some(port));
        drop(bound);

        for (port, another_may_do) in [(0, true), (port, false)] {
            let (error, retry) = attempt(&twice(port), true).err().expect("one listens");
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
            assert_eq!(retry, another_may_do);
        }
    }
}
