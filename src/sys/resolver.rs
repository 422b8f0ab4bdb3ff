//! Names and addresses: what is asked, what is answered, and the system's own answer.
//!
//! Owns: [`Query`], [`AddrInfo`], the trait [`Resolver`], and the two calls into the system. Why:
//! whoever has a better resolver than the system's puts it in its place, so both speak this page.
//! Invariants: the two calls block, and are made by whoever may; answers come in the system's
//! order, each once; an error is in the system's words. asyncio's counterpart:
//! `socket.getaddrinfo`, `socket.getnameinfo`.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind};

use crate::sys::error::invalid_input;

/// Looks names up in place of the system, for one loop: see
/// [`LoopHandle::set_resolver`](crate::LoopHandle::set_resolver).
///
/// Its methods are called on the loop's thread and may not block; the futures they give are
/// awaited there. A future that is dropped was given up. One that has to block uses
/// [`run_in_executor`](crate::LoopHandle::run_in_executor).
///
/// ```
/// use std::{io, net::SocketAddr};
///
/// use evloop::{AddrInfo, LoopHandle, Query, Resolver, ResolverFuture, get_running_loop};
///
/// struct Fixed(SocketAddr);
///
/// impl Resolver for Fixed {
///     fn getaddrinfo(&self, query: Query) -> ResolverFuture<Vec<AddrInfo>> {
///         let answer = AddrInfo::from(self.0);
///         Box::pin(async move {
///             match query.host.as_deref() {
///                 Some("printer.example") => Ok(vec![answer]),
///                 _ => Err(io::ErrorKind::NotFound.into()),
///             }
///         })
///     }
/// }
///
/// evloop::run(async {
///     let handle = get_running_loop()?;
///     handle.set_resolver(Fixed(([127, 0, 0, 1], 9100).into()));
///     let found = handle.getaddrinfo("printer.example", 9100).await?;
///     assert_eq!(found[0].address.port(), 9100);
///     Ok::<(), io::Error>(())
/// })?
/// # ; Ok::<(), io::Error>(())
/// ```
pub trait Resolver {
    /// The addresses of a host and a service. Whoever wants to connect or serve takes none at all
    /// for an error.
    fn getaddrinfo(&self, query: Query) -> ResolverFuture<Vec<AddrInfo>>;

    /// The host and the service of an address. By default there is no answer
    /// (`io::ErrorKind::Unsupported`). `flags` are the `NI_…` of [`netdb`].
    fn getnameinfo(&self, address: SocketAddr, flags: i32) -> ResolverFuture<(String, String)> {
        let _ = (address, flags);
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

/// What a [`Resolver`] gives.
pub type ResolverFuture<T> = Pin<Box<dyn Future<Output = io::Result<T>>>>;

/// What is looked up: the arguments of `getaddrinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// A host name or a literal address; `None` is this machine.
    pub host: Option<String>,
    /// The port or service that the addresses shall carry.
    pub port: Service,
    /// The family wanted.
    pub family: Family,
    /// The kind of socket wanted.
    pub socket_type: SocketType,
    /// The protocol wanted.
    pub proto: Proto,
    /// The `AI_…` of [`netdb`].
    pub flags: i32,
}

impl Query {
    pub(crate) fn new(host: Option<String>, port: Service) -> Self {
        Self {
            host,
            port,
            family: Family::Unspec,
            socket_type: SocketType::Any,
            proto: Proto::Any,
            flags: 0,
        }
    }

    /// The answer, if the host is a literal and the port a number: nobody has to be asked. An
    /// error if the literal is of another family and no flag may have it mapped. Mirrors asyncio's
    /// `_ipaddr_info`.
    pub(crate) fn literal(&self) -> Option<io::Result<AddrInfo>> {
        let ip: IpAddr = self.host.as_deref()?.parse().ok()?;
        let Service::Port(port) = self.port else {
            return None;
        };
        if self.socket_type == SocketType::Any || self.flags & netdb::AI_CANONNAME != 0 {
            return None;
        }
        let address = SocketAddr::new(ip, port);
        if !self.family.includes(&address) {
            return (!may_be_mapped(self.flags)).then(|| Err(family_refused()));
        }
        let proto = match self.socket_type {
            SocketType::Datagram => Proto::Udp,
            _ => Proto::Tcp,
        };
        Some(Ok(AddrInfo {
            socket_type: self.socket_type,
            proto,
            ..AddrInfo::from(address)
        }))
    }
}

/// Whether these flags may make a literal one of the other family: one flag does, and which others
/// do is the resolver's affair. `AI_PASSIVE` speaks of no host at all.
pub(crate) fn may_be_mapped(flags: i32) -> bool {
    flags & !netdb::AI_PASSIVE != 0
}

/// The address is a literal of the other family.
pub(crate) fn family_refused() -> io::Error {
    let message = "family: Address family for hostname not supported";
    invalid_input(message)
}

/// A port, or the name of a service that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Service {
    /// By its number.
    Port(u16),
    /// By a name such as `http`, which the system knows.
    Name(String),
}

impl From<u16> for Service {
    fn from(port: u16) -> Self {
        Self::Port(port)
    }
}

impl From<&str> for Service {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A family of addresses: asyncio's `family=`, `socket.AF_…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Any of them (`AF_UNSPEC`).
    #[default]
    Unspec,
    /// IPv4 (`AF_INET`).
    Inet,
    /// IPv6 (`AF_INET6`).
    Inet6,
}

impl Family {
    /// The family of an address.
    pub(crate) fn of(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::Inet,
            SocketAddr::V6(_) => Self::Inet6,
        }
    }

    /// Whether the address may be used where this family is asked for.
    pub(crate) fn includes(self, address: &SocketAddr) -> bool {
        self == Self::Unspec || self == Self::of(address)
    }

    fn number(self) -> i32 {
        match self {
            Self::Unspec => libc::AF_UNSPEC,
            Self::Inet => libc::AF_INET,
            Self::Inet6 => libc::AF_INET6,
        }
    }
}

/// As the system calls it: `AF_INET`.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspec => "AF_UNSPEC",
            Self::Inet => "AF_INET",
            Self::Inet6 => "AF_INET6",
        })
    }
}

/// A kind of socket: asyncio's `type=`, `socket.SOCK_…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketType {
    /// Any of them: an address is then answered once for each.
    #[default]
    Any,
    /// A stream of bytes (`SOCK_STREAM`).
    Stream,
    /// Datagrams (`SOCK_DGRAM`).
    Datagram,
}

/// A protocol: asyncio's `proto=`, `socket.IPPROTO_…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Proto {
    /// Whatever suits the kind of socket.
    #[default]
    Any,
    /// TCP, a stream.
    Tcp,
    /// UDP, datagrams.
    Udp,
}

/// One answer to a [`Query`]: asyncio's tuple of five.
///
/// ```
/// use std::net::SocketAddr;
///
/// use evloop::{AddrInfo, Family, SocketType};
///
/// let info = AddrInfo::from(SocketAddr::from(([127, 0, 0, 1], 80)));
/// assert_eq!((info.family(), info.socket_type), (Family::Inet, SocketType::Stream));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AddrInfo {
    /// The kind of socket.
    pub socket_type: SocketType,
    /// The protocol.
    pub proto: Proto,
    /// The host's canonical name, with the first answer, if `AI_CANONNAME` asked for it.
    pub canonname: Option<String>,
    /// The address, with the port.
    pub address: SocketAddr,
}

impl AddrInfo {
    /// The family of the address.
    pub fn family(&self) -> Family {
        Family::of(&self.address)
    }
}

/// A TCP stream to this address.
impl From<SocketAddr> for AddrInfo {
    fn from(address: SocketAddr) -> Self {
        Self {
            socket_type: SocketType::Stream,
            proto: Proto::Tcp,
            canonname: None,
            address,
        }
    }
}

/// Flags of `getaddrinfo` and `getnameinfo`, as Python has them in its module `socket`. Several are
/// joined by `|`.
pub mod netdb {
    /// For an address to bind: no host is all interfaces.
    pub const AI_PASSIVE: i32 = libc::AI_PASSIVE;
    /// Ask for the canonical name as well.
    pub const AI_CANONNAME: i32 = libc::AI_CANONNAME;
    /// The host is a literal: look nothing up.
    pub const AI_NUMERICHOST: i32 = libc::AI_NUMERICHOST;
    /// The service is a number.
    pub const AI_NUMERICSERV: i32 = libc::AI_NUMERICSERV;
    /// Only families for which this machine has an address.
    pub const AI_ADDRCONFIG: i32 = libc::AI_ADDRCONFIG;
    /// The host as a number.
    pub const NI_NUMERICHOST: i32 = libc::NI_NUMERICHOST;
    /// The service as a number.
    pub const NI_NUMERICSERV: i32 = libc::NI_NUMERICSERV;
    /// An error if the host has no name.
    pub const NI_NAMEREQD: i32 = libc::NI_NAMEREQD;
    /// The service of a datagram.
    pub const NI_DGRAM: i32 = libc::NI_DGRAM;
}

/// Asks the system, and waits for it.
pub(crate) fn getaddrinfo(query: &Query) -> io::Result<Vec<AddrInfo>> {
    let hints = AddrInfoHints {
        flags: query.flags,
        address: query.family.number(),
        socktype: match query.socket_type {
            SocketType::Any => 0,
            SocketType::Stream => libc::SOCK_STREAM,
            SocketType::Datagram => libc::SOCK_DGRAM,
        },
        protocol: match query.proto {
            Proto::Any => 0,
            Proto::Tcp => libc::IPPROTO_TCP,
            Proto::Udp => libc::IPPROTO_UDP,
        },
    };
    let port = query.port.to_string();
    let found = dns_lookup::getaddrinfo(query.host.as_deref(), Some(&port), Some(hints))
        .map_err(in_the_systems_words)?;
    answers_of(found)
}

fn answers_of(
    mut found: impl Iterator<Item = io::Result<dns_lookup::AddrInfo>>,
) -> io::Result<Vec<AddrInfo>> {
    let mut seen = HashSet::new();
    let mut answers = Vec::new();
    // dns-lookup panics at a canonical name that is not UTF-8, and whoever answers chooses it.
    // What is left in `found` is not looked at again.
    while let Some(info) = catch_unwind(AssertUnwindSafe(|| found.next())).map_err(|_| no_text())? {
        // Its only error is an address of a family that nobody can use here.
        let Ok(info) = info else {
            continue;
        };
        let answer = AddrInfo {
            socket_type: match info.socktype {
                libc::SOCK_STREAM => SocketType::Stream,
                libc::SOCK_DGRAM => SocketType::Datagram,
                _ => SocketType::Any,
            },
            proto: match info.protocol {
                libc::IPPROTO_TCP => Proto::Tcp,
                libc::IPPROTO_UDP => Proto::Udp,
                _ => Proto::Any,
            },
            canonname: info.canonname,
            address: info.sockaddr,
        };
        // Some systems list an address once for each line of the hosts file that has it.
        if seen.insert(answer.clone()) {
            answers.push(answer);
        }
    }
    Ok(answers)
}

fn no_text() -> io::Error {
    let message = "the canonical name is not UTF-8";
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Asks the system, and waits for it.
pub(crate) fn getnameinfo(address: SocketAddr, flags: i32) -> io::Result<(String, String)> {
    dns_lookup::getnameinfo(&address, flags).map_err(in_the_systems_words)
}

/// Which name it was, the floor that asked adds.
fn in_the_systems_words(error: LookupError) -> io::Error {
    let kind = match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => io::ErrorKind::NotFound,
        LookupErrorKind::Badflags
        | LookupErrorKind::Family
        | LookupErrorKind::Socktype
        | LookupErrorKind::Service => io::ErrorKind::InvalidInput,
        _ => return error.into(),
    };
    io::Error::new(kind, io::Error::from(error))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn query(host: &str) -> Query {
        Query {
            socket_type: SocketType::Stream,
            ..Query::new(Some(host.to_owned()), Service::Port(80))
        }
    }

    #[test]
    fn a_literal_is_its_own_answer() {
        let literals: [(&str, IpAddr); 2] = [
            ("127.0.0.1", Ipv4Addr::LOCALHOST.into()),
            ("::1", Ipv6Addr::LOCALHOST.into()),
        ];
        for (host, ip) in literals {
            let expected = AddrInfo::from(SocketAddr::from((ip, 80)));
            assert_eq!(query(host).literal().unwrap().unwrap(), expected);
            // The system says the same.
            assert_eq!(getaddrinfo(&query(host)).unwrap(), [expected]);
        }
    }

    #[test]
    fn what_is_not_quite_a_literal_is_left_to_the_resolver() {
        for host in ["localhost", "127.1", "fe80::1%lo", "", " 127.0.0.1"] {
            assert!(query(host).literal().is_none(), "{host}");
        }
        let service = Query {
            port: Service::from("http"),
            ..query("127.0.0.1")
        };
        assert!(service.literal().is_none());
        let with_name = Query {
            flags: netdb::AI_CANONNAME,
            ..query("127.0.0.1")
        };
        assert!(with_name.literal().is_none());
    }

    #[test]
    fn a_literal_of_another_family_is_an_error() {
        for (host, family) in [("127.0.0.1", Family::Inet6), ("::1", Family::Inet)] {
            let query = Query {
                family,
                ..query(host)
            };
            for flags in [0, netdb::AI_PASSIVE] {
                let query = Query {
                    flags,
                    ..query.clone()
                };
                let error = query.literal().unwrap().unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                assert!(getaddrinfo(&query).is_err());
            }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_flag_may_have_a_literal_mapped() {
        let mapped = Query {
            family: Family::Inet6,
            flags: libc::AI_V4MAPPED,
            ..query("127.0.0.1")
        };
        assert!(mapped.literal().is_none());
        let expected = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 80));
        assert_eq!(getaddrinfo(&mapped).unwrap(), [expected.into()]);
    }

    #[test]
    fn answers_that_nobody_can_use_are_skipped_and_names_that_are_no_text_an_error() {
        let info = dns_lookup::AddrInfo {
            flags: 0,
            address: libc::AF_INET,
            socktype: libc::SOCK_STREAM,
            protocol: libc::IPPROTO_TCP,
            sockaddr: SocketAddr::from((Ipv4Addr::LOCALHOST, 80)),
            canonname: None,
        };
        let expected = AddrInfo::from(info.sockaddr);
        let unknown = || Err(io::Error::other("Found unknown address family: 40"));
        let found = [unknown(), Ok(info.clone()), unknown(), Ok(info)];
        assert_eq!(answers_of(found.into_iter()).unwrap(), [expected]);
        // As the crate does it, but for the message.
        let no_text = std::iter::from_fn(|| std::panic::resume_unwind(Box::new("no UTF-8")));
        let error = answers_of(no_text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn localhost_gives_loopback_addresses_each_once() {
        let answers = getaddrinfo(&query("localhost")).unwrap();
        assert!(!answers.is_empty());
        let mut seen = HashSet::new();
        for answer in &answers {
            assert!(answer.address.ip().is_loopback() && answer.address.port() == 80);
            assert_eq!(answer.socket_type, SocketType::Stream);
            assert!(seen.insert(answer));
        }
    }

    #[test]
    fn an_impossible_name_is_an_error_in_the_systems_words() {
        for host in ["", "no such name", "nul\0inside"] {
            let error = getaddrinfo(&query(host)).unwrap_err().to_string();
            assert!(!error.contains("cannot resolve"), "{error}");
        }
    }

    #[test]
    fn contradictory_hints_are_invalid_input() {
        let contradictory = Query {
            proto: Proto::Udp,
            ..query("localhost")
        };
        let error = getaddrinfo(&contradictory).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }

    #[test]
    fn an_address_has_a_name_and_a_number() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let numeric = netdb::NI_NUMERICHOST | netdb::NI_NUMERICSERV;
        let expected = ("127.0.0.1".to_owned(), "80".to_owned());
        assert_eq!(getnameinfo(address, numeric).unwrap(), expected);
        // The name is the machine's own affair, but there is one or the number.
        assert!(!getnameinfo(address, 0).unwrap().0.is_empty());
    }
}
