//! Unix sockets: made, bound, accepted, read and written.
//!
//! Owns: [`UnixConnection`] and [`UnixAcceptor`]. Why: what is particular to them (paths, abstract
//! names, credentials, passed descriptors) stands in one place. Invariants: those of
//! [`tcp`](super::tcp); a short read says nothing, since it also ends before a passed descriptor
//! (which is closed unseen). asyncio's counterpart: the `socket` module.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use mio::net::{UnixListener, UnixStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendAncillaryBuffer, recv, send, sendmsg};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::sys::address::Address;
use crate::sys::credentials::Credentials;
use crate::sys::driver::{ListenOptions, Listener, SourceId, Stream};
use crate::sys::error::invalid_input;
use crate::sys::mio::file::send_file;
use crate::sys::mio::registration::{STREAM_INTEREST, token_of};
use crate::sys::mio::socket_file::{SocketFile, make_room};
use crate::sys::mio::tcp::SEND_FLAGS;
use crate::sys::unix_address::UnixAddress;

/// A connected unix stream socket, registered for both directions.
pub(crate) struct UnixConnection(UnixStream);

impl From<UnixStream> for UnixConnection {
    fn from(stream: UnixStream) -> Self {
        Self(stream)
    }
}

impl Stream for UnixConnection {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (n, _) = recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(n)
    }

    fn read_behind(&self, storage: &mut Vec<u8>) -> io::Result<usize> {
        let (n, _) = recv(&self.0, spare_capacity(storage), RecvFlags::empty())?;
        Ok(n)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SEND_FLAGS)?)
    }

    fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if let [piece] = pieces {
            return self.write(piece);
        }
        let mut nothing_else = SendAncillaryBuffer::default();
        Ok(sendmsg(&self.0, pieces, &mut nothing_else, SEND_FLAGS)?)
    }

    fn send_file(&self, file: BorrowedFd<'_>, offset: u64, count: usize) -> io::Result<usize> {
        send_file(self.0.as_fd(), file, offset, count)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn finish_connect(&self) -> io::Result<Option<Address>> {
        self.take_error()?;
        Ok(Some(address_of(&self.0.peer_addr()?)))
    }

    fn take_error(&self) -> io::Result<()> {
        self.0.take_error()?.map_or(Ok(()), Err)
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(address_of(&self.0.local_addr()?))
    }

    fn short_read_drains(&self) -> bool {
        false
    }

    fn peer_credentials(&self) -> Option<Credentials> {
        credentials(&self.0)
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }

    fn into_descriptor(self: Box<Self>) -> Option<OwnedFd> {
        Some(self.0.into())
    }
}

/// A unix socket that listens, or will.
pub(crate) struct UnixAcceptor {
    /// First, so that it is dropped first: while the socket is open nobody else has its inode.
    _file: Option<SocketFile>,
    id: SourceId,
    listener: UnixListener,
    backlog: i32,
    registry: Rc<Registry>,
}

impl UnixAcceptor {
    pub(crate) fn bind(
        registry: &Rc<Registry>,
        id: SourceId,
        at: &UnixAddress,
        how: &ListenOptions,
    ) -> io::Result<Self> {
        let name = name_of(at)?;
        let socket = unix_socket()?;
        match (socket.bind(&name), at) {
            (Err(error), UnixAddress::Path(path)) if error.kind() == io::ErrorKind::AddrInUse => {
                make_room(path, || is_deaf(&name))?;
                socket.bind(&name)?;
            }
            (outcome, _) => outcome?,
        }
        let file = match at {
            UnixAddress::Path(path) if how.cleanup_socket => SocketFile::at(path),
            _ => None,
        };
        let listener = UnixListener::from_std(socket.into());
        Ok(Self {
            _file: file,
            ..Self::around(registry, id, listener, how.backlog)
        })
    }

    /// Takes a listener that was bound elsewhere, the path of which is not ours.
    pub(crate) fn around(
        registry: &Rc<Registry>,
        id: SourceId,
        listener: UnixListener,
        backlog: u32,
    ) -> Self {
        Self {
            _file: None,
            id,
            listener,
            backlog: i32::try_from(backlog).unwrap_or(i32::MAX),
            registry: Rc::clone(registry),
        }
    }
}

impl Listener for UnixAcceptor {
    fn listen(&self) -> io::Result<()> {
        SockRef::from(&self.listener).listen(self.backlog)?;
        let fd = self.listener.as_raw_fd();
        self.registry
            .register(&mut SourceFd(&fd), token_of(self.id), Interest::READABLE)
    }

    fn accept(&self, id: SourceId) -> io::Result<(Box<dyn Stream>, Address)> {
        let mut stream = UnixStream::from_std(accept_from(&self.listener)?);
        prepare_accepted(&stream);
        // Asked for apart: mio's own accept loses abstract names, and panics at a name that fills
        // the system's structure. Who is gone already may have none, which is no reason to refuse
        // the bytes that he left.
        let peer = stream.peer_addr();
        let peer = peer.map_or(Address::Unix(UnixAddress::Unnamed), |peer| {
            address_of(&peer)
        });
        self.registry
            .register(&mut stream, token_of(id), STREAM_INTEREST)?;
        Ok((Box::new(UnixConnection(stream)), peer))
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.listener.as_raw_fd())
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(address_of(&self.listener.local_addr()?))
    }
}

/// Connects, which a unix socket does at once or not at all: `WouldBlock` says that the queue of
/// the other side is full.
pub(crate) fn connect(
    registry: &Registry,
    id: SourceId,
    to: &UnixAddress,
) -> io::Result<UnixConnection> {
    let socket = unix_socket()?;
    socket.connect(&name_of(to)?)?;
    let mut stream = UnixStream::from_std(socket.into());
    registry.register(&mut stream, token_of(id), STREAM_INTEREST)?;
    Ok(UnixConnection(stream))
}

/// Takes a connection, non-blocking and closed on exec.
#[cfg(target_os = "linux")]
fn accept_from(listener: &UnixListener) -> io::Result<std::os::unix::net::UnixStream> {
    use rustix::net::{SocketFlags, accept_with};

    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(accept_with(listener, flags)?.into())
}

#[cfg(not(target_os = "linux"))]
fn accept_from(listener: &UnixListener) -> io::Result<std::os::unix::net::UnixStream> {
    let (socket, _) = SockRef::from(listener).accept()?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether no socket takes connections there. Asking costs whoever does one connection that ends
/// at once.
fn is_deaf(name: &SockAddr) -> bool {
    let outcome = unix_socket().and_then(|socket| socket.connect(name));
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The address as the system takes it.
pub(crate) fn name_of(address: &UnixAddress) -> io::Result<SockAddr> {
    let bytes = address.to_bytes();
    match address {
        UnixAddress::Unnamed => return Err(invalid_input("no path was specified")),
        UnixAddress::Path(_) if bytes.contains(&0) => {
            return Err(invalid_input("embedded null byte"));
        }
        UnixAddress::Abstract(_) if !HAS_ABSTRACT_NAMES => {
            let message = "this system has no abstract names";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        _ => {}
    }
    // It has no other error.
    SockAddr::unix(OsStr::from_bytes(&bytes)).map_err(|_| invalid_input("AF_UNIX path too long"))
}

fn address_of(address: &std::os::unix::net::SocketAddr) -> Address {
    Address::Unix(UnixAddress::from(address))
}

/// A unix stream socket that does not block.
fn unix_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn credentials(socket: &impl AsFd) -> Option<Credentials> {
    use nix::sys::socket::{getsockopt, sockopt};

    let peer = getsockopt(socket, sockopt::PeerCredentials).ok()?;
    Some(Credentials {
        pid: Some(peer.pid()).filter(|pid| *pid != 0),
        uid: peer.uid(),
        gid: peer.gid(),
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn credentials(_: &impl AsFd) -> Option<Credentials> {
    None
}

#[cfg(not(target_vendor = "apple"))]
fn prepare_accepted(_: &UnixStream) {}

/// These systems have an option of the socket in place of a flag on each send.
#[cfg(target_vendor = "apple")]
fn prepare_accepted(accepted: &UnixStream) {
    let _ = SockRef::from(accepted).set_nosigpipe(true);
}

/// Names that are no paths.
const HAS_ABSTRACT_NAMES: bool = cfg!(any(target_os = "linux", target_os = "android"));
