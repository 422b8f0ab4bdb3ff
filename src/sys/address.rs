//! The address of one end of a socket.
//!
//! Owns: [`Address`], the one type in which the crate speaks of where a socket is. Why: a socket
//! need not be an internet socket, and a type of our own leaves room for more kinds without
//! breaking those who match on it. Invariants: it prints exactly as the address inside it does;
//! two addresses are equal when they name the same place. asyncio's counterpart: the tuple that
//! `get_extra_info('peername')` returns.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::sys::unix_address::UnixAddress;

/// Where one end of a connection, or a listening socket, is. asyncio has a tuple for it, or
/// a string.
///
/// ```
/// use std::net::SocketAddr;
///
/// use evloop::Address;
///
/// let address = Address::from(SocketAddr::from(([127, 0, 0, 1], 8888)));
/// assert_eq!(address.to_string(), "127.0.0.1:8888");
/// assert_eq!(address.port(), Some(8888));
/// ```
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IPv4 or IPv6 address with its port.
    Inet(SocketAddr),
    /// A path, an abstract name, or the lack of both.
    Unix(UnixAddress),
}

impl Address {
    /// The IP address, if this is an internet address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.as_inet().map(|address| address.ip())
    }

    /// The port, if this is an internet address.
    pub fn port(&self) -> Option<u16> {
        self.as_inet().map(|address| address.port())
    }

    /// The internet address, if this is one.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The unix address, if this is one.
    pub fn as_unix(&self) -> Option<&UnixAddress> {
        match self {
            Self::Inet(_) => None,
            Self::Unix(address) => Some(address),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl From<UnixAddress> for Address {
    fn from(address: UnixAddress) -> Self {
        Self::Unix(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => fmt::Display::fmt(address, f),
            Self::Unix(address) => fmt::Display::fmt(address, f),
        }
    }
}

/// The same text as `Display`: in a log line the address matters, not the variant around it.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn prints_as_a_socket_address_does() {
        let v4 = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 8888)));
        let v6 = Address::from(SocketAddr::from((Ipv6Addr::LOCALHOST, 8888)));
        assert_eq!(format!("{v4} {v4:?}"), "127.0.0.1:8888 127.0.0.1:8888");
        assert_eq!(format!("{v6} {v6:?}"), "[::1]:8888 [::1]:8888");
        assert_eq!(format!("{v4:>16}|"), "  127.0.0.1:8888|");
    }

    #[test]
    fn gives_its_parts() {
        let inner = SocketAddr::from((Ipv6Addr::LOCALHOST, 80));
        let address = Address::from(inner);
        assert_eq!(address.ip(), Some(inner.ip()));
        assert_eq!(address.port(), Some(80));
        assert_eq!(address.as_inet(), Some(inner));
        assert_eq!(address.as_unix(), None);
        let path = UnixAddress::from("/a");
        let address = Address::from(path.clone());
        assert_eq!((address.ip(), address.port()), (None, None));
        assert_eq!(address.as_unix(), Some(&path));
    }
}
