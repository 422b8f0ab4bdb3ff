//! Writing.
//!
//! Owns: [`StreamWriter`]. Why: a transport never waits, a writer does: for room, and for the
//! end. Invariants: `drain` asks the transport, not a flag of the protocol; a lost connection is
//! reported by every `drain` and every `wait_closed`, with the first cause. asyncio's
//! counterpart: `asyncio.StreamWriter`.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::event_loop::running;
use crate::streams::reader::StreamReader;
use crate::streams::state::StreamState;
use crate::sys::invalid_input;
use crate::tasks::Waiting;
use crate::transports::{CloseReason, Data, Detached, ExtraInfo, Transport, again};

/// The writing side of a stream. Mirrors `asyncio.StreamWriter`.
///
/// All methods take `&self`, so several tasks may share a writer in an `Rc`:
///
/// ```
/// use std::rc::Rc;
///
/// use evloop::{StreamWriter, get_running_loop};
///
/// async fn broadcast(writers: &[Rc<StreamWriter>], message: &'static [u8]) {
///     for writer in writers {
///         writer.write(message);
///     }
///     for writer in writers {
///         let writer = Rc::clone(writer);
///         let handle = get_running_loop().unwrap();
///         drop(handle.create_task(async move { writer.drain().await }));
///     }
/// }
/// ```
///
/// Dropping it (the last `Rc`) closes the connection after what was written is sent.
///
/// Neither `Send` nor `Sync`:
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<evloop::StreamWriter>();
/// ```
///
/// ```compile_fail
/// fn sync<T: Sync>() {}
/// sync::<evloop::StreamWriter>();
/// ```
pub struct StreamWriter {
    transport: Transport,
    state: Rc<StreamState>,
}

impl StreamWriter {
    pub(crate) fn on(transport: Transport, state: Rc<StreamState>) -> Self {
        Self { transport, state }
    }

    /// The transport. Mirrors `StreamWriter.transport`.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// [`Transport::write`]: never blocks, never fails. A `Vec<u8>` that is given away, as a read
    /// returns it, is sent without a copy. Mirrors `StreamWriter.write`.
    ///
    /// # Panics
    ///
    /// After [`write_eof`](Self::write_eof), and during a [`sendfile`](crate::sendfile).
    #[track_caller]
    pub fn write(&self, data: impl Data) {
        self.transport.write(data);
    }

    /// [`Transport::writelines`]. Mirrors `StreamWriter.writelines`.
    ///
    /// # Panics
    ///
    /// After [`write_eof`](Self::write_eof), and during a [`sendfile`](crate::sendfile).
    #[track_caller]
    pub fn writelines<I>(&self, lines: I)
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.transport.writelines(lines);
    }

    /// Waits until there is room to write: below the high-water mark it returns at once, above
    /// it when the waiting bytes have fallen to the low-water mark. Several tasks may wait.
    /// Cancellation-safe. Mirrors `StreamWriter.drain`.
    ///
    /// Below the mark it sends nothing: what this step wrote leaves when the step ends.
    ///
    /// # Errors
    ///
    /// What broke the connection, every time; `ConnectionReset` after a close of ours,
    /// `ConnectionAborted` after an abort. [`NoRunningLoop`](crate::NoRunningLoop) outside its
    /// loop.
    pub fn drain(&self) -> impl Future<Output = io::Result<()>> {
        let mut waiting = None;
        let mut yielded = false;
        poll_fn(move |cx| {
            let polled = running::poll_leaf(
                self.loop_number(),
                cx,
                || self.waits_for("room for bytes to"),
                |cx| {
                    if self.transport.core().is_calm() && !self.state.has_exception() {
                        return Poll::Ready(Ok(()));
                    }
                    let waiting = waiting.get_or_insert_with(|| Waiting::on(self.state.drains()));
                    self.poll_drain(cx, waiting, &mut yielded)
                },
            );
            polled.map(|polled| polled?)
        })
    }

    /// Ends the writing side after what was written is sent; reading goes on. Mirrors
    /// `StreamWriter.write_eof`.
    ///
    /// # Errors
    ///
    /// `Unsupported` where [`can_write_eof`](Self::can_write_eof) is false.
    pub fn write_eof(&self) -> io::Result<()> {
        self.transport.write_eof()
    }

    /// Whether the writing side can be ended alone: always, but under TLS 1.2. Mirrors
    /// `StreamWriter.can_write_eof`.
    pub fn can_write_eof(&self) -> bool {
        self.transport.can_write_eof()
    }

    /// Closes the connection after what was written is sent. Reads see the end of the stream.
    /// Mirrors `StreamWriter.close`.
    pub fn close(&self) {
        self.transport.close();
    }

    /// Whether the connection is closing or closed. Mirrors `StreamWriter.is_closing`.
    pub fn is_closing(&self) -> bool {
        self.transport.is_closing()
    }

    /// Waits until the connection is over. Any number of tasks may wait, any number of times;
    /// call [`close`](Self::close) first. Cancellation-safe. Mirrors `StreamWriter.wait_closed`.
    ///
    /// A peer that takes nothing of what was written is waited for without a limit, as in asyncio. A
    /// server may have a `write_timeout`; elsewhere, put this into a [`timeout`](crate::timeout()), and
    /// call `transport().abort()` when the time is up.
    ///
    /// # Errors
    ///
    /// What broke the connection, every time; none after a close or an abort of ours.
    /// [`NoRunningLoop`](crate::NoRunningLoop) outside its loop.
    pub async fn wait_closed(&self) -> io::Result<()> {
        let mut waiting = Waiting::on(self.state.closes());
        poll_fn(|cx| {
            let waits_for = || self.waits_for("the end of the connection to");
            running::poll_leaf(self.loop_number(), cx, waits_for, |cx| {
                match self.state.closed() {
                    Some(Ok(())) => Poll::Ready(Ok(())),
                    Some(Err(error)) => Poll::Ready(Err(again(&error))),
                    None => waiting.wait(cx),
                }
            })
        })
        .await?
    }

    /// [`Transport::get_extra_info`]. Mirrors `StreamWriter.get_extra_info`.
    pub fn get_extra_info<K: ExtraInfo>(&self, key: K) -> Option<K::Value> {
        self.transport.get_extra_info(key)
    }

    /// Takes the socket out of the loop, with what was received and not read, and with what was
    /// written and not taken by the system: for another loop, another thread or another library.
    ///
    /// Both halves of the stream are given up for it; a feeder that is kept sees the end. The
    /// socket stays non-blocking. asyncio has no such method.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// std::io::Write::write_all(&mut &theirs, b"hello world")?;
    /// let detached = evloop::run(async {
    ///     let (mut reader, writer) = evloop::open_unix_connection(ours).await?;
    ///     assert_eq!(reader.readexactly(6).await?, b"hello ");
    ///     writer.detach(reader)
    /// })??;
    /// assert_eq!(detached.unread, b"world");
    /// let ours = UnixStream::from(detached.socket);
    /// ours.set_nonblocking(false)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Transport::detach`], and `InvalidInput` if the two are not halves of one stream.
    /// Both are dropped then, as ever: the connection is closed.
    pub fn detach(self, reader: StreamReader) -> io::Result<Detached> {
        if !Rc::ptr_eq(&self.state, reader.state()) {
            let message = "the reader belongs to another stream";
            return Err(invalid_input(message));
        }
        let mut detached = self.transport.detach()?;
        detached.unread = self.state.take_unread();
        Ok(detached)
    }

    #[cold]
    fn poll_drain(
        &self,
        cx: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
        yielded: &mut bool,
    ) -> Poll<io::Result<()>> {
        let core = self.transport.core();
        if core.is_congested() {
            core.send();
        }
        if let Some(error) = self.state.exception() {
            return Poll::Ready(Err(again(&error)));
        }
        if let Some(error) = core.error() {
            return Poll::Ready(Err(again(&error)));
        }
        match core.reason() {
            Some(reason @ (CloseReason::Aborted | CloseReason::LoopClosed)) => {
                return Poll::Ready(Err(reason.into_error()));
            }
            // It waited for room, and a close has sent everything meanwhile.
            Some(CloseReason::Closed | CloseReason::PeerEof | CloseReason::HandlerFailed)
                if waiting.has_begun() =>
            {
                return Poll::Ready(Ok(()));
            }
            Some(_) => return Poll::Ready(Err(connection_lost())),
            None => {}
        }
        if core.is_closing() && !*yielded {
            // Once, so that a loop of writes and drains on a closing transport lets it close.
            *yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if core.is_write_paused() {
            return waiting.wait(cx);
        }
        Poll::Ready(Ok(()))
    }

    #[cfg(any(feature = "proxy", feature = "tls"))]
    pub(crate) fn state(&self) -> &Rc<StreamState> {
        &self.state
    }

    /// Both halves go on with another transport.
    #[cfg(feature = "tls")]
    pub(crate) fn change_transport(&mut self, transport: Transport) {
        self.state.change_transport(transport.clone());
        self.transport = transport;
    }

    fn waits_for(&self, what: &str) -> String {
        format!("{what} {}", self.transport.core().peer_name())
    }

    fn loop_number(&self) -> u64 {
        self.transport.core().handle().number()
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.transport.close();
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamWriter")
            .field(&self.transport)
            .finish()
    }
}

fn connection_lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "Connection lost")
}
