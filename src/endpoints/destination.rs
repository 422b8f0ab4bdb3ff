//! An address to which a socket of the caller's is connected.
//!
//! Owns: [`Destination`]. Why: a name is no address yet, and an [`Endpoint`](crate::Endpoint) may be
//! several, or a socket itself. Invariants: a name is one host with one port. asyncio's
//! counterpart: the argument `address` of `sock_connect`.

use crate::sys::Address;

/// Where [`sock_connect`](crate::LoopHandle::sock_connect) connects a socket to.
///
/// Made from a `SocketAddr`, a [`UnixAddress`](crate::UnixAddress) or an [`Address`], and from a
/// host and a port: `("localhost", 8888)`.
#[derive(Clone, Debug)]
pub struct Destination(pub(crate) Target);

/// What a [`Destination`] is.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Address(Address),
    Host(String, u16),
}

impl<A: Into<Address>> From<A> for Destination {
    fn from(address: A) -> Self {
        Self(Target::Address(address.into()))
    }
}

impl From<(&str, u16)> for Destination {
    fn from((host, port): (&str, u16)) -> Self {
        (host.to_owned(), port).into()
    }
}

impl From<(String, u16)> for Destination {
    fn from((host, port): (String, u16)) -> Self {
        Self(Target::Host(host, port))
    }
}
