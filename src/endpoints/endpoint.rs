//! An address as a user writes it.
//!
//! Owns: [`Endpoint`]. Why: one argument where asyncio has `host`, `port` and `sock`, so that
//! contradictions cannot be written. Invariants: a port is a `u16`, so none is out of range; a
//! socket that was given is closed with the endpoint. asyncio's counterpart: the first arguments
//! of `create_connection` and `create_server`.

use std::fmt;
use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

/// Where to connect to, or what to serve.
///
/// Made from `("localhost", 8888)`, from an IP address and a port, from a `SocketAddr`, and from
/// several hosts, `(["127.0.0.1", "::1"], 8888)`: a server serves all of them, a client takes the
/// first that answers. For a server also from all interfaces, `("", 8888)` or `(None, 8888)`.
/// Port 0 lets the system pick one for a server: the same for all its hosts.
///
/// # An existing socket
///
/// asyncio's `sock=`: a connected `TcpStream` or `UnixStream` for a client, a `TcpListener` or
/// `UnixListener` for a server, or either as an `OwnedFd`, such as a service manager hands over.
/// The system is asked what it is, and the wrong kind is `InvalidInput`. It belongs to the
/// endpoint: it is closed with the connection or the server, or when that fails. Keep a duplicate
/// (`try_clone`), or a clone of the endpoint, to have it afterwards; mind that both are made
/// non-blocking, since this is a property of what they share. A path on which a listener was bound
/// elsewhere is never removed.
///
/// ```
/// use evloop::Endpoint;
///
/// assert_eq!(Endpoint::from(("localhost", 80)).to_string(), "localhost:80");
/// assert_eq!(Endpoint::from((["127.0.0.1", "::1"], 80)).to_string(), "127.0.0.1:80, [::1]:80");
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint(Place);

#[derive(Clone, Debug)]
enum Place {
    Hosts { hosts: Vec<Host>, port: u16 },
    Socket(Existing),
}

/// A socket that somebody else made.
#[derive(Clone, Debug)]
pub(crate) struct Existing(Arc<OwnedFd>);

impl Existing {
    /// The socket itself, or a duplicate while a clone of the endpoint has it.
    pub(crate) fn take(self) -> io::Result<OwnedFd> {
        Arc::try_unwrap(self.0).or_else(|shared| shared.try_clone())
    }
}

impl From<OwnedFd> for Existing {
    fn from(socket: OwnedFd) -> Self {
        Self(Arc::new(socket))
    }
}

impl fmt::Display for Existing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the socket {}", self.0.as_raw_fd())
    }
}

/// One host of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// Nothing to look up. The whole address, with the scope of IPv6.
    Literal(SocketAddr),
    /// All interfaces; no host at all for a client.
    Any,
    Name(String),
}

impl Endpoint {
    fn new<'a>(hosts: impl IntoIterator<Item = &'a str>, port: u16) -> Self {
        let host = |host: &str| match host.parse::<IpAddr>() {
            Ok(ip) => Host::Literal(SocketAddr::new(ip, port)),
            Err(_) if host.is_empty() => Host::Any,
            Err(_) => Host::Name(host.to_owned()),
        };
        Self(Place::Hosts {
            hosts: hosts.into_iter().map(host).collect(),
            port,
        })
    }

    /// The port of all hosts; 0 if there are none.
    pub(crate) fn port(&self) -> u16 {
        match self.0 {
            Place::Hosts { port, .. } => port,
            Place::Socket(_) => 0,
        }
    }

    /// None for an existing socket.
    pub(crate) fn hosts(&self) -> &[Host] {
        match &self.0 {
            Place::Hosts { hosts, .. } => hosts,
            Place::Socket(_) => &[],
        }
    }

    /// What a certificate for it has to name: the host, as it was said. Where there is not one, what
    /// to say to whoever wants to be encrypted: asyncio's words, as far as it has them.
    pub(crate) fn host(&self) -> Result<String, &'static str> {
        match self.hosts() {
            [Host::Literal(address)] => Ok(address.ip().to_string()),
            [Host::Name(name)] => Ok(name.clone()),
            [] | [Host::Any] => Err("You must set server_hostname when using ssl without a host"),
            [_, ..] => Err("You must set server_hostname when using ssl with several hosts"),
        }
    }

    /// The existing socket, or the endpoint back if it is none.
    pub(crate) fn into_socket(self) -> Result<Existing, Self> {
        match self.0 {
            Place::Socket(socket) => Ok(socket),
            Place::Hosts { .. } => Err(self),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hosts, port) = match &self.0 {
            Place::Hosts { hosts, port } => (hosts, port),
            Place::Socket(socket) => return fmt::Display::fmt(socket, f),
        };
        for (i, host) in hosts.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match host {
                Host::Literal(address) => write!(f, "{address}"),
                Host::Any => write!(f, ":{port}"),
                // An IPv6 address whose scope is a name has to be looked up.
                Host::Name(name) if name.contains(':') => write!(f, "[{name}]:{port}"),
                Host::Name(name) => write!(f, "{name}:{port}"),
            }?;
        }
        Ok(())
    }
}

impl From<(&str, u16)> for Endpoint {
    fn from((host, port): (&str, u16)) -> Self {
        Self::new([host], port)
    }
}

impl From<(String, u16)> for Endpoint {
    fn from((host, port): (String, u16)) -> Self {
        Self::new([host.as_str()], port)
    }
}

impl From<(&String, u16)> for Endpoint {
    fn from((host, port): (&String, u16)) -> Self {
        Self::new([host.as_str()], port)
    }
}

/// `None` is all interfaces.
impl From<(Option<&str>, u16)> for Endpoint {
    fn from((host, port): (Option<&str>, u16)) -> Self {
        Self::new([host.unwrap_or("")], port)
    }
}

impl From<(IpAddr, u16)> for Endpoint {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(Ipv4Addr, u16)> for Endpoint {
    fn from(address: (Ipv4Addr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(Ipv6Addr, u16)> for Endpoint {
    fn from(address: (Ipv6Addr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(&[&str], u16)> for Endpoint {
    fn from((hosts, port): (&[&str], u16)) -> Self {
        Self::new(hosts.iter().copied(), port)
    }
}

impl<const N: usize> From<([&str; N], u16)> for Endpoint {
    fn from((hosts, port): ([&str; N], u16)) -> Self {
        Self::new(hosts, port)
    }
}

impl From<(Vec<String>, u16)> for Endpoint {
    fn from((hosts, port): (Vec<String>, u16)) -> Self {
        Self::new(hosts.iter().map(String::as_str), port)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self(Place::Hosts {
            hosts: vec![Host::Literal(address)],
            port: address.port(),
        })
    }
}

impl From<SocketAddrV4> for Endpoint {
    fn from(address: SocketAddrV4) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<SocketAddrV6> for Endpoint {
    fn from(address: SocketAddrV6) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<OwnedFd> for Endpoint {
    fn from(socket: OwnedFd) -> Self {
        Self(Place::Socket(socket.into()))
    }
}

impl From<TcpStream> for Endpoint {
    fn from(socket: TcpStream) -> Self {
        OwnedFd::from(socket).into()
    }
}

impl From<TcpListener> for Endpoint {
    fn from(socket: TcpListener) -> Self {
        OwnedFd::from(socket).into()
    }
}

impl From<UnixStream> for Endpoint {
    fn from(socket: UnixStream) -> Self {
        OwnedFd::from(socket).into()
    }
}

impl From<UnixListener> for Endpoint {
    fn from(socket: UnixListener) -> Self {
        OwnedFd::from(socket).into()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::{Endpoint, Host};

    #[test]
    fn the_same_place_is_the_same_endpoint_however_it_is_written() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        for endpoint in [
            Endpoint::from(address),
            Endpoint::from(("127.0.0.1", 80)),
            Endpoint::from((Ipv4Addr::LOCALHOST, 80)),
            Endpoint::from((vec!["127.0.0.1".to_owned()], 80)),
        ] {
            assert_eq!(endpoint.hosts(), [Host::Literal(address)]);
            assert_eq!(endpoint.port(), 80);
            assert!(endpoint.into_socket().is_err());
        }
        for endpoint in [Endpoint::from(("", 80)), Endpoint::from((None, 80))] {
            assert_eq!(endpoint.hosts(), [Host::Any]);
        }
    }

    #[test]
    fn prints_every_host_with_the_port() {
        let endpoint = Endpoint::from((["127.0.0.1", "::1", "", "localhost", "fe80::1%eth0"], 80));
        assert_eq!(
            endpoint.to_string(),
            "127.0.0.1:80, [::1]:80, :80, localhost:80, [fe80::1%eth0]:80"
        );
    }
}
