//! Sockets that somebody else made.
//!
//! Owns: [`adopt_stream`] and [`adopt_listener`]. Why: a descriptor says nothing of what it is, so
//! the system is asked. Invariants: its description may be shared, with a duplicate or another
//! process, so its registration is taken back before it is closed; it does not block from here on,
//! for whoever shares it as well; a short read says nothing. asyncio's counterpart: the argument
//! `sock`.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use mio::Registry;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::unix::SourceFd;
use socket2::{SockAddr, Socket, Type};

use crate::sys::address::Address;
use crate::sys::credentials::Credentials;
use crate::sys::driver::{Listener, SourceId, Stream};
use crate::sys::error::invalid_input;
use crate::sys::mio::registration::{STREAM_INTEREST, token_of};
use crate::sys::mio::tcp::{TcpAcceptor, TcpConnection};
use crate::sys::mio::unix::{UnixAcceptor, UnixConnection};

/// Takes a connected stream socket, and registers it for both directions.
pub(crate) fn adopt_stream(
    registry: &Rc<Registry>,
    id: SourceId,
    socket: OwnedFd,
) -> io::Result<Box<dyn Stream>> {
    let socket = Socket::from(socket);
    let kind = Kind::of(&socket)?;
    if !is_connected(&socket)? {
        // It may have been, and then the system knows how that ended.
        socket.take_error()?.map_or(Ok(()), Err)?;
        return Err(invalid_input("A connected Stream Socket was expected"));
    }
    socket.set_nonblocking(true)?;
    let fd = socket.as_raw_fd();
    // Before it is somebody's who would take the registration back: if this fails, it is not ours.
    registry.register(&mut SourceFd(&fd), token_of(id), STREAM_INTEREST)?;
    Ok(match kind {
        Kind::Tcp => {
            // Refused only where it is no TCP after all.
            let _ = socket.set_tcp_nodelay(true);
            let stream = TcpStream::from_std(socket.into());
            Box::new(Adopted::new(registry, fd, TcpConnection::from(stream)))
        }
        Kind::Unix => {
            let stream = UnixStream::from_std(socket.into());
            Box::new(Adopted::new(registry, fd, UnixConnection::from(stream)))
        }
    })
}

/// Takes a stream socket that listens, or is bound to do so.
pub(crate) fn adopt_listener(
    registry: &Rc<Registry>,
    id: SourceId,
    socket: OwnedFd,
    backlog: u32,
) -> io::Result<Box<dyn Listener>> {
    let socket = Socket::from(socket);
    let kind = Kind::of(&socket)?;
    if is_connected(&socket)? {
        return Err(invalid_input(
            "A listening Stream Socket was expected, got a connected one",
        ));
    }
    // The system would bind it when it listens, and nobody would know where beforehand.
    if !is_bound(&socket.local_addr()?) {
        return Err(invalid_input("A bound Stream Socket was expected"));
    }
    socket.set_nonblocking(true)?;
    let fd = socket.as_raw_fd();
    Ok(match kind {
        Kind::Tcp => {
            // Some systems hand it on to every socket that is accepted.
            let _ = socket.set_tcp_nodelay(true);
            let listener = TcpListener::from_std(socket.into());
            let acceptor = TcpAcceptor::around(registry, id, listener, backlog);
            Box::new(Adopted::new(registry, fd, acceptor))
        }
        Kind::Unix => {
            let listener = UnixListener::from_std(socket.into());
            let acceptor = UnixAcceptor::around(registry, id, listener, backlog);
            Box::new(Adopted::new(registry, fd, acceptor))
        }
    })
}

/// A socket whose registration would outlive it, if somebody else has it open as well.
struct Adopted<S> {
    /// First, so that it goes before the socket is closed.
    registration: Registration,
    socket: S,
}

struct Registration {
    fd: RawFd,
    registry: Rc<Registry>,
}

impl<S> Adopted<S> {
    fn new(registry: &Rc<Registry>, fd: RawFd, socket: S) -> Self {
        let registry = Rc::clone(registry);
        Self {
            registration: Registration { fd, registry },
            socket,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // It was perhaps not registered yet.
        let _ = self.registry.deregister(&mut SourceFd(&self.fd));
    }
}

impl<S: Stream> Stream for Adopted<S> {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.registration.fd)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }

    fn read_behind(&self, storage: &mut Vec<u8>) -> io::Result<usize> {
        self.socket.read_behind(storage)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.write_vectored(pieces)
    }

    fn send_file(&self, file: BorrowedFd<'_>, offset: u64, count: usize) -> io::Result<usize> {
        self.socket.send_file(file, offset, count)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.socket.shutdown_write()
    }

    fn finish_connect(&self) -> io::Result<Option<Address>> {
        self.socket.finish_connect()
    }

    fn take_error(&self) -> io::Result<()> {
        self.socket.take_error()
    }

    fn local_address(&self) -> io::Result<Address> {
        self.socket.local_address()
    }

    fn short_read_drains(&self) -> bool {
        false
    }

    fn peer_credentials(&self) -> Option<Credentials> {
        self.socket.peer_credentials()
    }

    fn into_descriptor(self: Box<Self>) -> Option<OwnedFd> {
        let Self {
            registration,
            socket,
        } = *self;
        drop(registration);
        Box::new(socket).into_descriptor()
    }
}

impl<S: Listener> Listener for Adopted<S> {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.registration.fd)
    }

    fn listen(&self) -> io::Result<()> {
        self.socket.listen()
    }

    fn accept(&self, id: SourceId) -> io::Result<(Box<dyn Stream>, Address)> {
        self.socket.accept(id)
    }

    fn local_address(&self) -> io::Result<Address> {
        self.socket.local_address()
    }
}

/// The kinds of stream sockets that we know.
enum Kind {
    Tcp,
    Unix,
}

impl Kind {
    fn of(socket: &Socket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let is_stream = socket.r#type()? == Type::STREAM;
        match (is_stream, is_internet(&address), address.is_unix()) {
            (true, true, _) => Ok(Self::Tcp),
            (true, _, true) => Ok(Self::Unix),
            (true, ..) => Err(invalid_input(
                "A TCP or UNIX Domain Stream Socket was expected",
            )),
            (false, ..) => Err(invalid_input("A Stream Socket was expected")),
        }
    }
}

fn is_internet(address: &SockAddr) -> bool {
    address.is_ipv4() || address.is_ipv6()
}

fn is_connected(socket: &Socket) -> io::Result<bool> {
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_bound(address: &SockAddr) -> bool {
    match address.as_socket() {
        Some(address) => address.port() != 0,
        None => !address.is_unnamed(),
    }
}
