//! Sockets that belong to the caller, who lends them for one operation.
//!
//! Owns: what `sock_connect` and `sock_accept` ask of the system, and [`Acceptor`]. Why: reading and
//! writing have a trait in the standard library, connecting and accepting have none. Invariants:
//! nothing here blocks, if the socket does not; a lent socket is never closed. asyncio's
//! counterpart: the methods of `socket.socket` that `sock_connect` and `sock_accept` call.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};

use rustix::net::send;
use socket2::{SockRef, Type};

use crate::sys::address::Address;
use crate::sys::mio::tcp::SEND_FLAGS;
use crate::sys::mio::unix::name_of;
use crate::sys::resolver::{Family, SocketType};

/// A listening socket from which [`sock_accept`](crate::LoopHandle::sock_accept) takes connections:
/// those of the standard library, and yours.
pub trait Acceptor: AsFd {
    /// A connection.
    type Socket;
    /// Where its peer is.
    type Address;

    /// Takes a connection and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if none waits.
    fn accept_nonblocking(&self) -> io::Result<(Self::Socket, Self::Address)>;
}

impl Acceptor for TcpListener {
    type Socket = TcpStream;
    type Address = SocketAddr;

    fn accept_nonblocking(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = self.accept()?;
        socket.set_nonblocking(true)?;
        Ok((socket, peer))
    }
}

impl Acceptor for UnixListener {
    type Socket = UnixStream;
    type Address = UnixAddr;

    fn accept_nonblocking(&self) -> io::Result<(UnixStream, UnixAddr)> {
        let (socket, peer) = self.accept()?;
        socket.set_nonblocking(true)?;
        Ok((socket, peer))
    }
}

/// How far a connect got at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    Connected,
    /// Readiness for writing says when to look at [`is_connected`].
    UnderWay,
}

pub(crate) fn is_nonblocking(socket: BorrowedFd<'_>) -> io::Result<bool> {
    SockRef::from(&socket).nonblocking()
}

/// Sends what fits.
pub(crate) fn send_to(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SEND_FLAGS)?)
}

/// What an address has to be for this socket.
pub(crate) fn family_and_type(socket: BorrowedFd<'_>) -> io::Result<(Family, SocketType)> {
    let socket = SockRef::from(&socket);
    let bound = socket.local_addr()?.as_socket();
    let family = bound.map_or(Family::Unspec, |address| Family::of(&address));
    let socket_type = match socket.r#type()? {
        Type::STREAM => SocketType::Stream,
        Type::DGRAM => SocketType::Datagram,
        _ => SocketType::Any,
    };
    Ok((family, socket_type))
}

/// Connects, or asks how an earlier attempt goes.
pub(crate) fn start_to_connect(socket: BorrowedFd<'_>, to: &Address) -> io::Result<Started> {
    let to = match to {
        Address::Inet(to) => (*to).into(),
        Address::Unix(to) => name_of(to)?,
    };
    match SockRef::from(&socket).connect(&to) {
        Ok(()) => Ok(Started::Connected),
        Err(error) if is_under_way(&error) => Ok(Started::UnderWay),
        Err(error) => Err(error),
    }
}

/// Whether a connect that was under way has ended, and well. Its error is told once.
pub(crate) fn is_connected(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let socket = SockRef::from(&socket);
    socket.take_error()?.map_or(Ok(()), Err)?;
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected || is_under_way(&error) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether the connect goes on by itself; an earlier one does, whose wait was dropped.
fn is_under_way(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::Interrupted
        || code == Some(libc::EINPROGRESS)
        || code == Some(libc::EALREADY)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::{Domain, Socket};

    use super::*;

    #[test]
    fn a_socket_is_connected_when_it_has_a_peer() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(!is_connected(socket.as_fd()).unwrap(), "no error, no peer");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        socket.connect(&to.into()).unwrap();
        assert!(is_connected(socket.as_fd()).unwrap());
    }
}
