//! TCP sockets: made, bound, accepted, read and written.
//!
//! Owns: [`TcpConnection`] and [`TcpAcceptor`]. Why: what is particular to TCP (urgent data,
//! TCP_NODELAY, one socket for each family) stands in one place. Invariants: a socket is
//! non-blocking and closed on exec from its creation; a stream is registered once, for every
//! direction, after its connect was started (an unconnected socket reports a hang-up), and never
//! again; a socket belongs to nobody else, so closing it is what removes its registration, and an
//! event that was under way then carries an id that nobody has any more. asyncio's counterpart:
//! the `socket` module.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::sys::address::Address;
use crate::sys::driver::{ConnectFailure, ListenOptions, Listener, SourceId, Stream};
use crate::sys::mio::file::send_file;
use crate::sys::mio::registration::{STREAM_INTEREST, token_of};

/// A TCP connection, registered for both directions.
pub(crate) struct TcpConnection(TcpStream);

impl From<TcpStream> for TcpConnection {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl Stream for TcpConnection {
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
            // The system need not copy a list first.
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
        match self.0.peer_addr() {
            Ok(peer) => Ok(Some(Address::Inet(peer))),
            Err(error) if error.kind() == io::ErrorKind::NotConnected || is_under_way(&error) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn take_error(&self) -> io::Result<()> {
        self.0.take_error()?.map_or(Ok(()), Err)
    }

    fn local_address(&self) -> io::Result<Address> {
        self.0.local_addr().map(Address::Inet)
    }

    fn short_read_drains(&self) -> bool {
        URGENT_DATA_IS_REPORTED
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }

    fn into_descriptor(self: Box<Self>) -> Option<OwnedFd> {
        Some(self.0.into())
    }
}

/// A TCP socket that listens, or will.
pub(crate) struct TcpAcceptor {
    id: SourceId,
    listener: TcpListener,
    backlog: i32,
    registry: Rc<Registry>,
}

impl TcpAcceptor {
    pub(crate) fn bind(
        registry: &Rc<Registry>,
        id: SourceId,
        at: SocketAddr,
        how: &ListenOptions,
    ) -> io::Result<Self> {
        Ok(Self::around(registry, id, bind(at, how)?, how.backlog))
    }

    pub(crate) fn around(
        registry: &Rc<Registry>,
        id: SourceId,
        listener: TcpListener,
        backlog: u32,
    ) -> Self {
        Self {
            id,
            listener,
            backlog: i32::try_from(backlog).unwrap_or(i32::MAX),
            registry: Rc::clone(registry),
        }
    }
}

impl Listener for TcpAcceptor {
    fn listen(&self) -> io::Result<()> {
        SockRef::from(&self.listener).listen(self.backlog)?;
        // Not before: a socket that does not listen yet would report that it is closed.
        let fd = self.listener.as_raw_fd();
        self.registry
            .register(&mut SourceFd(&fd), token_of(self.id), Interest::READABLE)
    }

    fn accept(&self, id: SourceId) -> io::Result<(Box<dyn Stream>, Address)> {
        let (stream, peer) = accept_from(&self.listener, &self.registry, id)?;
        Ok((Box::new(stream), Address::Inet(peer)))
    }

    fn local_address(&self) -> io::Result<Address> {
        self.listener.local_addr().map(Address::Inet)
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.listener.as_raw_fd())
    }
}

/// Starts a connection to `to`, from a socket of its own.
pub(crate) fn start_connect(
    registry: &Registry,
    id: SourceId,
    to: SocketAddr,
) -> io::Result<TcpConnection> {
    finish_start(registry, id, tcp_socket(Domain::for_address(to))?, to)
}

/// [`start_connect`] from an address of ours; port 0 lets the system pick one.
pub(crate) fn start_connect_from(
    registry: &Registry,
    id: SourceId,
    from: SocketAddr,
    to: SocketAddr,
) -> Result<TcpConnection, ConnectFailure> {
    let socket = tcp_socket(Domain::for_address(to)).map_err(ConnectFailure::Connect)?;
    socket.bind(&from.into()).map_err(ConnectFailure::Bind)?;
    finish_start(registry, id, socket, to).map_err(ConnectFailure::Connect)
}

fn finish_start(
    registry: &Registry,
    id: SourceId,
    socket: Socket,
    to: SocketAddr,
) -> io::Result<TcpConnection> {
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if is_under_way(&error) => {}
        Err(error) => return Err(error),
    }
    let mut stream = TcpStream::from_std(socket.into());
    registry.register(&mut stream, token_of(id), STREAM_INTEREST)?;
    Ok(TcpConnection(stream))
}

/// A socket that belongs to no loop yet, and where it is bound.
pub(crate) fn bind_tcp(at: SocketAddr, how: &ListenOptions) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = bind(at, how)?;
    let address = socket.local_addr()?;
    Ok((socket.into(), address))
}

fn bind(at: SocketAddr, how: &ListenOptions) -> io::Result<TcpListener> {
    let socket = tcp_socket(Domain::for_address(at))?;
    if how.reuse_address {
        socket.set_reuse_address(true)?;
    }
    if how.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if how.keep_alive {
        // Every system hands it down to what is accepted, so no accept needs a call for it.
        socket.set_keepalive(true)?;
    }
    if at.is_ipv6() {
        // Systems differ in their default, and a socket for both families would collide with the
        // one for IPv4 that a server on all interfaces opens beside it.
        socket.set_only_v6(true)?;
    }
    if NODELAY_IS_INHERITED {
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(&at.into())?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Takes one connection; where registering it fails it is closed by being dropped.
pub(crate) fn accept_from(
    listener: &TcpListener,
    registry: &Registry,
    id: SourceId,
) -> io::Result<(TcpConnection, SocketAddr)> {
    let (mut stream, peer) = listener.accept()?;
    prepare_accepted(&stream);
    registry.register(&mut stream, token_of(id), STREAM_INTEREST)?;
    Ok((TcpConnection(stream), peer))
}

/// Whether a non-blocking connect goes on by itself. That is so after an interruption, too, but
/// not after `WouldBlock`: of an internet socket that means the system lacks something.
fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS) || error.kind() == io::ErrorKind::Interrupted
}

/// A TCP socket that does not block.
#[cfg(not(target_vendor = "apple"))]
fn tcp_socket(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

/// A TCP socket that does not block; Apple's systems need a second call for that.
#[cfg(target_vendor = "apple")]
fn tcp_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Nothing is left to do: an accepted socket has its listener's options.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn prepare_accepted(_accepted: &TcpStream) {}

/// Sets what is not surely inherited. Errors do not matter: the peer may be gone already, and
/// then the first read tells.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn prepare_accepted(accepted: &TcpStream) {
    let _ = accepted.set_nodelay(true);
}

/// Sets what is not surely inherited, as above; and Apple's systems have no flag on each send that
/// holds SIGPIPE back, only an option of the socket.
#[cfg(target_vendor = "apple")]
fn prepare_accepted(accepted: &TcpStream) {
    let _ = accepted.set_nodelay(true);
    let _ = SockRef::from(accepted).set_nosigpipe(true);
}

/// Where it has none, a short read may have stopped at urgent data, and says nothing.
const URGENT_DATA_IS_REPORTED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Writing to a peer that is gone is an error and no signal; where there is no flag for it, the
/// socket has an option.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::empty();

/// Whether an accepted socket has its listener's TCP_NODELAY.
const NODELAY_IS_INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use mio::Poll;

    use super::*;

    fn bind_and_listen(at: SocketAddr, how: &ListenOptions) -> io::Result<TcpListener> {
        let listener = bind(at, how)?;
        SockRef::from(&listener).listen(8)?;
        Ok(listener)
    }

    const CLIENT: SourceId = SourceId(2);
    const ACCEPTED: SourceId = SourceId(3);

    const OPTIONS: ListenOptions = ListenOptions {
        backlog: 16,
        reuse_address: true,
        reuse_port: false,
        keep_alive: false,
        cleanup_socket: true,
    };

    #[test]
    fn sockets_are_made_as_promised() {
        let poll = Poll::new().unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // A backlog beyond what the system call can be told is cut, not an error.
        let listener = bind_and_listen(
            at,
            &ListenOptions {
                backlog: u32::MAX,
                ..OPTIONS
            },
        )
        .unwrap();
        let to = listener.local_addr().unwrap();
        let client = start_connect(poll.registry(), CLIENT, to).unwrap();
        // On loopback a connection is in the listener's queue when `connect` returns; mio's
        // accept would say otherwise.
        let (accepted, _) = accept_from(&listener, poll.registry(), ACCEPTED).unwrap();
        for stream in [&client, &accepted] {
            let socket = SockRef::from(&stream.0);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.nonblocking().unwrap());
        }
        let socket = SockRef::from(&listener);
        assert!(socket.nonblocking().unwrap());
        assert!(socket.reuse_address().unwrap() && !socket.reuse_port().unwrap());
        assert_eq!(accepted.short_read_drains(), URGENT_DATA_IS_REPORTED);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn sockets_do_not_survive_an_exec() {
        let poll = Poll::new().unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = bind_and_listen(at, &OPTIONS).unwrap();
        let client =
            start_connect(poll.registry(), CLIENT, listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = accept_from(&listener, poll.registry(), ACCEPTED).unwrap();
        for fd in [
            listener.as_raw_fd(),
            client.0.as_raw_fd(),
            accepted.0.as_raw_fd(),
        ] {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
            let flags = info
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            assert_ne!(flags & libc::O_CLOEXEC, 0);
        }
    }

    #[test]
    fn a_port_is_shared_by_those_who_ask_for_it() {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let shared = ListenOptions {
            reuse_port: true,
            ..OPTIONS
        };
        let first = bind_and_listen(at, &shared).unwrap();
        let taken = first.local_addr().unwrap();
        bind_and_listen(taken, &shared).unwrap();
        assert_eq!(
            bind_and_listen(taken, &OPTIONS).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }

    #[test]
    fn an_accepted_socket_is_kept_alive_if_its_listener_was_told_so() {
        let poll = Poll::new().unwrap();
        for keep_alive in [false, true] {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let how = ListenOptions {
                keep_alive,
                ..OPTIONS
            };
            let listener = bind_and_listen(at, &how).unwrap();
            let _client =
                start_connect(poll.registry(), CLIENT, listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = accept_from(&listener, poll.registry(), ACCEPTED).unwrap();
            let socket = SockRef::from(&accepted.0);
            assert_eq!(socket.keepalive().unwrap(), keep_alive);
        }
    }

    #[test]
    fn a_listener_on_ipv6_leaves_ipv4_alone() {
        let Ok(v6) = bind_and_listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), &OPTIONS) else {
            // Nothing to see on a machine without IPv6.
            return;
        };
        assert!(SockRef::from(&v6).only_v6().unwrap());
        let to = SocketAddr::from((Ipv6Addr::LOCALHOST, v6.local_addr().unwrap().port()));
        std::net::TcpStream::connect(to).unwrap();
    }
}
