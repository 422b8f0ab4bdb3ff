//! The writing side of a connection in the hands of one who sends a file.
//!
//! Owns: [`Loan`]. Why: a file goes from the system to the socket, so nothing may be written between
//! its pieces, and whoever sends it has to know when there is room. Invariants: one loan at a time;
//! while it lasts nobody else writes, reading is paused unless somebody resumes it, and the protocol
//! is told nothing about flow: what is true of that in the end it is told then; a connection that
//! closes ends it. asyncio's counterpart: `_make_empty_waiter` and `_reset_empty_waiter`.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use crate::event_loop::running;
use crate::sansio::lifecycle::WriteSide;
use crate::sys::Readiness;
use crate::transports::close_reason::again;
use crate::transports::contract::Transport;
use crate::transports::core::Core;

/// The writing side, until it is dropped.
pub(crate) struct Loan {
    transport: Transport,
    was_reading: bool,
}

impl Loan {
    /// Takes the writing side of an open connection; what was written before goes first.
    pub(crate) fn take(transport: &Transport) -> io::Result<Self> {
        let core = transport.core();
        running::at_home(core.handle().number())?;
        core.lend()?;
        let was_reading = transport.is_reading();
        // What is received would be answered, as a rule, and it may not be.
        transport.pause_reading();
        Ok(Self {
            transport: transport.clone(),
            was_reading,
        })
    }

    /// Sends a piece of a file when there is room: how many bytes the system has taken, and 0 at
    /// the file's end. `Unsupported` if it cannot; the connection is as good as before then.
    pub(crate) async fn send_file(
        &self,
        file: &File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        self.leaf(|core, cx| core.poll_send_file(cx, file, offset, count))
            .await
    }

    /// Waits until the system has taken everything that was written.
    pub(crate) async fn all_sent(&self) -> io::Result<()> {
        self.leaf(Core::poll_all_sent).await
    }

    /// How many bytes at a time may be [written](Self::write) at most, of `wanted`.
    pub(crate) fn most_at_once(&self, wanted: usize) -> usize {
        let vigil = self.transport.core().vigil.as_ref();
        let most = vigil.and_then(|vigil| vigil.most_unsent());
        most.map_or(wanted, |most| wanted.min(most.max(1)))
    }

    /// Writes, as nobody else may.
    pub(crate) fn write(&self, data: Vec<u8>) {
        self.transport.core().write_owned(data);
    }

    async fn leaf<T>(
        &self,
        mut poll: impl FnMut(&Core, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        let core = self.transport.core();
        let number = core.handle().number();
        poll_fn(|cx| {
            let waits_for = || format!("room to send a file to {}", core.peer_name());
            running::poll_leaf(number, cx, waits_for, |cx| poll(core, cx))
        })
        .await?
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.transport.core().take_back();
        if self.was_reading {
            self.transport.resume_reading();
        }
    }
}

impl Core {
    fn lend(&self) -> io::Result<()> {
        if self.is_closing() {
            return Err(io::Error::new(
                ErrorKind::NotConnected,
                "Transport is closing",
            ));
        }
        if !self.takes_bytes() {
            return Err(self.refusal("sendfile"));
        }
        self.write.set(self.write.get().lend());
        Ok(())
    }

    fn take_back(&self) {
        self.handle.agenda().forget_room(self.id);
        // Asked before the marks are compared, as ever.
        self.send();
        if self.unsent() == 0 {
            self.watch_room();
        }
        self.write.set(self.write.get().give_back());
        self.reevaluate();
    }

    /// The connection closes, and who has borrowed its writing side shall notice.
    pub(super) fn end_loan(&self) {
        if self.is_lent() {
            self.write.set(self.write.get().give_back());
            self.handle.agenda().tell_of_room(self.id);
        }
    }

    /// There is room, so the peer has taken something.
    pub(super) fn tell_borrower(&self) {
        if self.is_lent() {
            self.watch_room();
            self.handle.agenda().tell_of_room(self.id);
        }
    }

    pub(super) fn is_lent(&self) -> bool {
        self.write.get() == WriteSide::Lent
    }

    /// Whether anybody may write.
    #[inline]
    pub(crate) fn takes_bytes(&self) -> bool {
        self.write.get() == WriteSide::Open && !self.carries()
    }

    /// Why nobody may, in asyncio's words where it has some.
    #[cold]
    pub(crate) fn refusal(&self, method: &str) -> io::Error {
        if self.carries() {
            let message = format!("Cannot call {method}() after start_tls()");
            return io::Error::new(ErrorKind::BrokenPipe, message);
        }
        if self.is_lent() {
            let message = "unable to write; sendfile is in progress";
            return io::Error::new(ErrorKind::ResourceBusy, message);
        }
        let message = format!("Cannot call {method}() after write_eof()");
        io::Error::new(ErrorKind::BrokenPipe, message)
    }

    fn poll_all_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send();
        if self.is_closing() {
            return Poll::Ready(Err(self.end()));
        }
        if self.waiting() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.handle.agenda().await_room(self.id, cx.waker());
        Poll::Pending
    }

    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &File,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_all_sent(cx))?;
        if self.may_send() {
            let outcome = self.socket.with(|socket| match &socket.stream {
                Some(stream) => stream.send_file(file.as_fd(), offset, count),
                None => Err(ErrorKind::Unsupported.into()),
            });
            match outcome {
                Ok(sent) => {
                    self.watch_sent(sent, true);
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.forget(Readiness::WRITE);
                    self.watch_sent(0, false);
                }
                Err(error) if is_of_the_connection(&error) => {
                    self.fail(error);
                    return Poll::Ready(Err(self.end()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.handle.agenda().await_room(self.id, cx.waker());
        Poll::Pending
    }

    /// Why a connection that closes takes no more.
    fn end(&self) -> io::Error {
        match (self.error(), self.given_reason()) {
            (Some(error), _) => again(&error),
            (None, Some(reason)) => reason.into_error(),
            (None, None) => ErrorKind::NotConnected.into(),
        }
    }
}

/// Whether it is the connection that is broken. Else it is the file, and the connection goes on.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}
