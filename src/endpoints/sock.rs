//! Operations on sockets that belong to the caller: `sock_recv` and its neighbours.
//!
//! Owns: the wait for a lent socket. Why: whoever has a socket of the standard library can use it
//! with `await`, without a transport. Invariants: the operation is tried first, and the socket is
//! watched only while it would block; what waits for one direction of a socket is one at a time,
//! and the newest wins; a wait that is dropped is watched no more. asyncio's counterpart: the
//! `sock_*` coroutines of `selector_events`.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::task::Poll;

use crate::endpoints::destination::{Destination, Target};
use crate::endpoints::error::EndpointError;
use crate::endpoints::resolve::{Hints, resolve};
use crate::event_loop::{Direction, LoopHandle, running};
use crate::sys::{self, Acceptor, Started};
use crate::tasks::Waiter;

impl LoopHandle {
    /// Receives at most `nbytes` from a socket of the caller's; nothing means its end. Mirrors
    /// `loop.sock_recv`.
    ///
    /// The socket is anything that is read through a shared reference and has a descriptor: the
    /// standard library's `TcpStream` and `UnixStream`, a pipe. It has to be non-blocking, and
    /// the loop must be the running one.
    ///
    /// While it waits it is the socket's reader in the sense of
    /// [`add_reader`](Self::add_reader), of which there is one at a time. A later one takes its
    /// place, and then this ends with an error (in asyncio it would wait for ever).
    ///
    /// Cancellation safe: bytes are received in the poll that returns them. A new operation on the
    /// same socket may begin before a cancelled one is gone.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the socket is blocking; what the receive says; those of
    /// [`add_reader`](Self::add_reader); `ResourceBusy` if another reader takes the place.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    ///
    /// fn main() -> std::io::Result<()> {
    ///     let (ours, theirs) = UnixStream::pair()?;
    ///     ours.set_nonblocking(true)?;
    ///     theirs.set_nonblocking(true)?;
    ///     evloop::run(async {
    ///         let handle = evloop::get_running_loop()?;
    ///         handle.sock_sendall(&theirs, b"hello").await?;
    ///         assert_eq!(handle.sock_recv(&ours, 100).await?, b"hello");
    ///         Ok(())
    ///     })?
    /// }
    /// ```
    pub async fn sock_recv<S>(&self, sock: &S, nbytes: usize) -> io::Result<Vec<u8>>
    where
        S: AsFd,
        for<'a> &'a S: Read,
    {
        let mut data = vec![0; nbytes];
        let received = self.sock_recv_into(sock, &mut data).await?;
        data.truncate(received);
        Ok(data)
    }

    /// Receives into `buf`, and says how many bytes: 0 means the end. For the rest it is as
    /// [`sock_recv`](Self::sock_recv). Mirrors `loop.sock_recv_into`.
    ///
    /// # Errors
    ///
    /// Those of [`sock_recv`](Self::sock_recv).
    pub async fn sock_recv_into<S>(&self, sock: &S, buf: &mut [u8]) -> io::Result<usize>
    where
        S: AsFd,
        for<'a> &'a S: Read,
    {
        let fd = nonblocking(sock)?;
        let receive = || {
            let mut sock = sock;
            sock.read(buf)
        };
        self.attempt(fd, Direction::Read, receive).await
    }

    /// Sends all of `data`. Mirrors `loop.sock_sendall`.
    ///
    /// Of the socket and of other writers it says what [`sock_recv`](Self::sock_recv) says of
    /// readers. Not cancellation safe: when it is dropped, a part may have been sent, and nobody
    /// knows how much.
    ///
    /// # Errors
    ///
    /// Those of [`sock_recv`](Self::sock_recv), of the send.
    pub async fn sock_sendall<S>(&self, sock: &S, data: &[u8]) -> io::Result<()>
    where
        S: AsFd,
        for<'a> &'a S: Write,
    {
        let fd = nonblocking(sock)?;
        let mut unsent = data;
        while !unsent.is_empty() {
            let send = || {
                let mut sock = sock;
                sock.write(unsent)
            };
            match self.attempt(fd, Direction::Write, send).await? {
                0 => return Err(ErrorKind::WriteZero.into()),
                sent => unsent = &unsent[sent..],
            }
        }
        Ok(())
    }

    /// Takes a connection from a listening socket of the caller's, non-blocking, and its peer's
    /// address. Mirrors `loop.sock_accept`.
    ///
    /// Of the socket and of other readers it says what [`sock_recv`](Self::sock_recv) says.
    /// Cancellation safe: a connection is taken in the poll that returns it.
    ///
    /// # Errors
    ///
    /// Those of [`sock_recv`](Self::sock_recv), of the accept.
    pub async fn sock_accept<L: Acceptor>(&self, sock: &L) -> io::Result<(L::Socket, L::Address)> {
        let fd = nonblocking(sock)?;
        self.attempt(fd, Direction::Read, || sock.accept_nonblocking())
            .await
    }

    /// Connects a socket of the caller's, made by a crate such as `socket2`: the standard library
    /// has no socket that is not connected yet. Mirrors `loop.sock_connect`.
    ///
    /// A host is looked up as [`getaddrinfo`](Self::getaddrinfo) does it, for the socket's family
    /// and kind, and the first address is the one: there is no second socket to try the others.
    ///
    /// Of the socket and of other writers it says what [`sock_recv`](Self::sock_recv) says of
    /// readers. When it is dropped the system goes on connecting, and calling it again waits for
    /// that attempt.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Resolve`] if the host has no address for this socket;
    /// [`EndpointError::Connect`] with the system's error; `InvalidInput` if the socket is
    /// blocking; those of [`add_writer`](Self::add_writer); `ResourceBusy` if another writer takes
    /// the place.
    pub async fn sock_connect(
        &self,
        sock: &impl AsFd,
        address: impl Into<Destination>,
    ) -> io::Result<()> {
        let fd = nonblocking(sock)?;
        let address = match address.into().0 {
            Target::Address(address) => address,
            Target::Host(host, port) => {
                let (family, kind) = sys::family_and_type(fd)?;
                let hints = Hints {
                    family,
                    ..Hints::default()
                };
                // There is at least one.
                resolve(self, (&host, port), kind, hints).await?[0].into()
            }
        };
        let outcome = match sys::start_to_connect(fd, &address) {
            Ok(Started::UnderWay) => loop {
                self.wait_until_ready(fd, Direction::Write).await?;
                match sys::is_connected(fd) {
                    // An event is a hint.
                    Ok(false) => {}
                    outcome => break outcome.map(drop),
                }
            },
            outcome => outcome.map(drop),
        };
        Ok(outcome.map_err(|source| EndpointError::Connect { address, source })?)
    }

    /// Repeats `operation` until it does not block.
    pub(super) async fn attempt<T>(
        &self,
        fd: BorrowedFd<'_>,
        direction: Direction,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            // A leaf, so that a socket that never blocks does not keep the loop for itself.
            let outcome = poll_fn(|cx| {
                let waits_for = || "a socket of one's own".to_owned();
                running::poll_leaf(self.number(), cx, waits_for, |_| Poll::Ready(operation()))
            });
            match outcome.await? {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait_until_ready(fd, direction).await?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    async fn wait_until_ready(&self, fd: BorrowedFd<'_>, direction: Direction) -> io::Result<()> {
        let ready = self.create_future();
        let signal = Signal {
            ready: ready.clone(),
            gone: Rc::default(),
        };
        let gone = Rc::clone(&signal.gone);
        self.watch(fd.as_raw_fd(), direction, Box::new(move || signal.give()))?;
        let place = Place {
            handle: self,
            fd,
            direction,
            gone,
        };
        let outcome = ready.await;
        drop(place);
        outcome.map_err(|_| io::Error::new(ErrorKind::ResourceBusy, REPLACED))
    }
}

/// What the callback of a wait owns. When it is dropped, somebody else has the place.
struct Signal {
    ready: Waiter<()>,
    gone: Rc<Cell<bool>>,
}

impl Signal {
    fn give(&self) {
        // It is called again if the one who waits does not come soon.
        let _ = self.ready.set_result(());
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        self.gone.set(true);
        self.ready.cancel();
    }
}

/// The place of one who waits, which is given up in the end if nobody else has it.
struct Place<'a> {
    handle: &'a LoopHandle,
    fd: BorrowedFd<'a>,
    direction: Direction,
    gone: Rc<Cell<bool>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.gone.get() {
            return;
        }
        self.handle.unwatch(self.fd.as_raw_fd(), self.direction);
    }
}

/// The descriptor of a socket that does not block, as asyncio demands it in debug mode.
pub(super) fn nonblocking(sock: &impl AsFd) -> io::Result<BorrowedFd<'_>> {
    let fd = sock.as_fd();
    if sys::is_nonblocking(fd)? {
        Ok(fd)
    } else {
        let message = "the socket must be non-blocking";
        Err(sys::invalid_input(message))
    }
}

const REPLACED: &str = "another operation waits for the file descriptor in this one's place";
