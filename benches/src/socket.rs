//! A server as its clients see it, the load generator and the tests: where it is, and a socket to
//! it, over TCP or a unix socket alike.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags,
    SocketType, sockopt,
};

/// What a server announced: a port, or the path of a unix socket.
pub fn address(announced: &str) -> io::Result<SocketAddrAny> {
    if let Ok(port) = announced.parse() {
        return Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into());
    }
    if announced.starts_with('/') {
        return Ok(SocketAddrUnix::new(announced)?.into());
    }
    Err(io::Error::other("what it said is no port and no path"))
}

/// A stream socket that closes when it is dropped.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// One to be connected to `server`; over TCP it has TCP_NODELAY.
    pub fn new(server: &SocketAddrAny) -> io::Result<Self> {
        let family = server.address_family();
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        if family == AddressFamily::INET {
            sockopt::set_tcp_nodelay(&socket, true)?;
        }
        Ok(Self(socket))
    }

    /// Ends the sending half.
    pub fn finish(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(count)
    }
}

impl Write for &Socket {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, data, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_at_a_port_or_a_path() {
        let family = |announced| address(announced).map(|address| address.address_family());
        assert_eq!(family("4242").unwrap(), AddressFamily::INET);
        assert_eq!(family("/tmp/serve-1").unwrap(), AddressFamily::UNIX);
        for announced in ["", "hello", "65536", "tmp/serve-1"] {
            let refused = family(announced).unwrap_err().to_string();
            assert_eq!(refused, "what it said is no port and no path");
        }
    }
}
