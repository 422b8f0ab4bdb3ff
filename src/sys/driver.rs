//! The traits through which the loop reaches the world, and the plain data they speak.
//!
//! Owns: [`Driver`], [`Stream`], [`Listener`], [`Watch`], [`Wakeup`], and what they take and give.
//! Why: a real driver and a simulated one stand behind the same page. Invariants: no socket, no poller.
//! asyncio's counterpart: the interface of `selectors.BaseSelector`.

use std::any::Any;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sys::address::Address;
use crate::sys::credentials::Credentials;
use crate::sys::pool::{Job, Refused};
use crate::sys::readiness::Readiness;

/// Names one registered object: an index and a generation of the loop's table, packed so that
/// the driver can carry it as its own token. A stale one finds no match in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SourceId(pub(crate) u64);

/// What the driver learnt during one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A registered object became ready.
    Ready(SourceId, Readiness),
    /// A signal that [`Driver::signal`] asked for arrived, once for each delivery seen.
    Signal(i32),
}

/// Everything the loop needs from the world.
pub(crate) trait Driver {
    /// The monotonic clock.
    fn now(&self) -> Instant;
    /// Sleeps until something happens or `timeout` is over (`None`: for ever), and appends what
    /// happened to `events`. `Interrupted` is returned, not retried.
    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()>;
    /// The handle by which other threads end a sleep.
    fn waker(&self) -> Arc<dyn Wakeup>;
    /// Starts a connection. Readiness for writing under `id` says when to look at
    /// [`Stream::finish_connect`].
    fn connect(&mut self, id: SourceId, to: &Address) -> io::Result<Box<dyn Stream>>;
    /// [`connect`](Self::connect) from an address of our own.
    fn connect_from(
        &mut self,
        id: SourceId,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Box<dyn Stream>, ConnectFailure>;
    /// Binds; when the address has port 0 the system picks one. Connections are taken from
    /// [`Listener::listen`] on.
    fn bind(
        &mut self,
        id: SourceId,
        at: &Address,
        how: &ListenOptions,
    ) -> io::Result<Box<dyn Listener>>;
    /// Takes a connected stream socket that somebody else made; it does not block from then on.
    fn adopt_stream(&mut self, id: SourceId, socket: OwnedFd) -> io::Result<Box<dyn Stream>>;
    /// Lets go of a stream: its socket is open still, and nobody here hears of it any more.
    fn release(&mut self, stream: Box<dyn Stream>) -> io::Result<OwnedFd>;
    /// Takes a socket that was bound elsewhere. Its path, if it has one, is never removed.
    fn adopt_listener(
        &mut self,
        id: SourceId,
        socket: OwnedFd,
        backlog: u32,
    ) -> io::Result<Box<dyn Listener>>;
    /// Watches somebody else's descriptor, for `READ`, `WRITE` or both.
    fn watch(&mut self, id: SourceId, fd: RawFd, wanted: Readiness) -> io::Result<Box<dyn Watch>>;
    /// Asks for `Event::Signal(number)` from now on; asking twice is the same as once.
    fn signal(&mut self, number: i32) -> io::Result<()>;
    /// Takes that back; the disposition from before is in force again if nobody else asks.
    fn forget_signal(&mut self, number: i32);
    /// Runs something that blocks, off this thread. A job that is dropped was not run.
    fn blocking(&mut self, job: Job) -> Result<(), Refused>;
    /// Runs no more jobs, and gives back those that have not begun.
    fn end_blocking(&mut self) -> VecDeque<Job>;
}

/// Ends a sleep of the driver from any thread.
pub(crate) trait Wakeup: Send + Sync {
    /// Makes the current or the next `poll` return.
    fn wake(&self);
}

/// A connected (or connecting) byte stream. Dropping it deregisters and closes it.
pub(crate) trait Stream {
    /// Receives at most `buffer.len()` bytes; 0 is the end.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Receives behind what `storage` holds, into the room that it has; 0 is the end.
    fn read_behind(&self, storage: &mut Vec<u8>) -> io::Result<usize>;
    /// Sends what fits.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Sends what fits of several pieces, in order.
    #[cfg_attr(
        not(feature = "tls"),
        allow(dead_code, reason = "only TLS has several")
    )]
    fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut sent = 0;
        for piece in pieces {
            match self.write(piece) {
                Ok(size) if size == piece.len() => sent += size,
                Ok(size) => return Ok(sent + size),
                // It comes again with the next attempt.
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
    /// Sends what fits of the `count` bytes of `file` from `offset` on, which need not pass through
    /// our memory; 0 is the file's end. `Unsupported` if this stream, or the system with this file,
    /// cannot.
    fn send_file(&self, file: BorrowedFd<'_>, offset: u64, count: usize) -> io::Result<usize> {
        let _ = (file, offset, count);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Ends the sending direction.
    fn shutdown_write(&self) -> io::Result<()>;
    /// `Ok(Some(peer))`: connected. `Ok(None)`: not yet, wait for another event.
    fn finish_connect(&self) -> io::Result<Option<Address>>;
    /// The error that the system keeps for this connection, once.
    fn take_error(&self) -> io::Result<()>;
    /// The address of our end.
    fn local_address(&self) -> io::Result<Address>;
    /// Whether a read that got less than it asked for has emptied the socket (true of TCP,
    /// unless the event spoke of something [`BEYOND`](Readiness::BEYOND)).
    fn short_read_drains(&self) -> bool;
    /// Who is at the other end, where the system keeps a record of it.
    fn peer_credentials(&self) -> Option<Credentials> {
        None
    }
    /// Its descriptor, where it has one.
    fn descriptor(&self) -> Option<RawFd> {
        None
    }
    /// Gives the descriptor away, if it has one; [`Driver::release`] ends its registration.
    fn into_descriptor(self: Box<Self>) -> Option<OwnedFd> {
        None
    }
    /// What is between it and the system, if it is no socket.
    fn layer(&self) -> Option<Rc<dyn Layer>> {
        None
    }
}

/// What stands between a stream and the system: it keeps bytes of its own, and has more to say at
/// the end than a socket. It is not called while the stream is borrowed, since it may run code of
/// the user's.
pub(crate) trait Layer {
    /// Puts what has come behind what `storage` holds, as far as there is room; 0 is the end.
    fn receive(&self, storage: &mut Vec<u8>) -> io::Result<usize>;
    /// Whether there is no more to receive until an event comes.
    fn is_drained(&self) -> bool;
    /// Has what it took sent. False if the system would block.
    fn flush(&self) -> bool;
    /// Has sent what it has to say by itself, and has kept for what is written next.
    fn wait_no_longer(&self);
    /// How many bytes it took that the system does not have yet.
    fn unsent(&self) -> usize;
    /// Whether somebody wants to receive.
    fn set_reading(&self, reading: bool);
    /// The stream is closing: what comes from now on nobody will receive.
    fn hear_no_more(&self);
    /// Whether the sending direction can be ended alone.
    fn can_write_eof(&self) -> bool;
    /// Ends the sending direction.
    fn shut_down_write(&self);
    /// Everything was written: says goodbye. True if there is nothing to wait for; asked again, it
    /// does nothing.
    fn say_goodbye(&self) -> bool;
    /// The stream is over, in good order or not.
    fn end(&self);
    /// The transport below, if that lives on for a while behind the end of the stream.
    fn survivor(&self) -> Option<Rc<dyn Any>>;
    /// What it knows about itself, also afterwards.
    #[cfg_attr(
        not(feature = "tls"),
        allow(dead_code, reason = "only TLS knows something")
    )]
    fn details(&self) -> Option<Rc<dyn Any>>;
}

/// A listening socket. Dropping it deregisters and closes it.
pub(crate) trait Listener {
    /// Begins to take connections. Called once.
    fn listen(&self) -> io::Result<()>;
    /// Takes one connection and registers it under `id`.
    fn accept(&self, id: SourceId) -> io::Result<(Box<dyn Stream>, Address)>;
    /// The address it is bound to.
    fn local_address(&self) -> io::Result<Address>;
    /// Its descriptor, where it has one.
    fn descriptor(&self) -> Option<RawFd> {
        None
    }
}

/// The registration of a descriptor that belongs to somebody else. It is known by its number only,
/// and that may be another file's by now: so dropping this does nothing, and whoever ends it has
/// to know better.
pub(crate) trait Watch {
    /// Asks anew: an event comes for what of `wanted` is ready already, and for what will be.
    fn rearm(&self, wanted: Readiness) -> io::Result<()>;
    /// Ends it. A descriptor that was closed has left by itself.
    fn end(&self);
}

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenOptions {
    /// Length of the kernel's queue of connections that wait for an accept.
    pub(crate) backlog: u32,
    /// `SO_REUSEADDR`.
    pub(crate) reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub(crate) reuse_port: bool,
    /// `SO_KEEPALIVE`, of the connections that are accepted.
    pub(crate) keep_alive: bool,
    /// Whether a path in the file system is removed when the socket is closed.
    pub(crate) cleanup_socket: bool,
}

/// Why a connection from an address of our own could not be started.
pub(crate) enum ConnectFailure {
    /// The address cannot be had; another one may.
    Bind(io::Error),
    /// It was bound, but there is no way to the other end.
    Connect(io::Error),
}
