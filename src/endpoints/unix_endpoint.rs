//! A unix address as a user writes it.
//!
//! Owns: [`UnixEndpoint`]. Why: one argument where asyncio has `path` and `sock`, so that both or
//! neither cannot be written. Invariants: a socket that was given is closed with the endpoint.
//! asyncio's counterpart: the first arguments of `create_unix_connection` and
//! `create_unix_server`.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::endpoints::endpoint::Existing;
use crate::sys::{Address, UnixAddress, invalid_input};

/// Where to connect to, or what to serve, among unix sockets.
///
/// Made from a path (`&str`, `String`, `&Path`, `PathBuf`, `&OsStr`), where a leading NUL byte
/// makes an abstract name as in Python, from a [`UnixAddress`], and from a socket that exists
/// (asyncio's `sock=`): a `UnixStream`, a `UnixListener`, or either as an `OwnedFd`, with the rules
/// of [`Endpoint`](crate::Endpoint).
///
/// ```
/// use evloop::{UnixAddress, UnixEndpoint};
///
/// assert_eq!(UnixEndpoint::from("/run/echo.sock").to_string(), "/run/echo.sock");
/// assert_eq!(UnixEndpoint::from(UnixAddress::abstract_name("echo")).to_string(), "@echo");
/// ```
#[derive(Clone, Debug)]
pub struct UnixEndpoint(pub(crate) UnixPlace);

/// What a [`UnixEndpoint`] is.
#[derive(Clone, Debug)]
pub(crate) enum UnixPlace {
    Address(UnixAddress),
    Socket(Existing),
}

/// Refuses an existing socket of another kind.
pub(crate) fn expect_unix(address: &Address) -> io::Result<()> {
    match address {
        Address::Unix(_) => Ok(()),
        _ => {
            let message = format!("A UNIX Domain Stream Socket was expected, got {address}");
            Err(invalid_input(message))
        }
    }
}

impl fmt::Display for UnixEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            UnixPlace::Address(address) => fmt::Display::fmt(address, f),
            UnixPlace::Socket(socket) => fmt::Display::fmt(socket, f),
        }
    }
}

impl From<UnixAddress> for UnixEndpoint {
    fn from(address: UnixAddress) -> Self {
        Self(UnixPlace::Address(address))
    }
}

impl From<&UnixAddress> for UnixEndpoint {
    fn from(address: &UnixAddress) -> Self {
        address.clone().into()
    }
}

impl From<&str> for UnixEndpoint {
    fn from(path: &str) -> Self {
        UnixAddress::from(path).into()
    }
}

impl From<String> for UnixEndpoint {
    fn from(path: String) -> Self {
        UnixAddress::from(path).into()
    }
}

impl From<&String> for UnixEndpoint {
    fn from(path: &String) -> Self {
        UnixAddress::from(path).into()
    }
}

impl From<&Path> for UnixEndpoint {
    fn from(path: &Path) -> Self {
        UnixAddress::from(path).into()
    }
}

impl From<PathBuf> for UnixEndpoint {
    fn from(path: PathBuf) -> Self {
        UnixAddress::from(path).into()
    }
}

impl From<&PathBuf> for UnixEndpoint {
    fn from(path: &PathBuf) -> Self {
        UnixAddress::from(path).into()
    }
}

impl From<&OsStr> for UnixEndpoint {
    fn from(path: &OsStr) -> Self {
        UnixAddress::from(path).into()
    }
}

impl From<OwnedFd> for UnixEndpoint {
    fn from(socket: OwnedFd) -> Self {
        Self(UnixPlace::Socket(socket.into()))
    }
}

impl From<UnixStream> for UnixEndpoint {
    fn from(socket: UnixStream) -> Self {
        OwnedFd::from(socket).into()
    }
}

impl From<UnixListener> for UnixEndpoint {
    fn from(socket: UnixListener) -> Self {
        OwnedFd::from(socket).into()
    }
}
