//! The read half of a connection: what the system has, as long as somebody wants it.
//!
//! Owns: how a [`Core`] receives. Why: an event is a hint and the system call the truth, so both
//! have to be kept together. Invariants: the read readiness goes when the system would block, or
//! when a short read has emptied the socket; an end is seen once; nothing is received while reading
//! is paused, or once the connection is closing. asyncio's counterpart: the read half of
//! `_SelectorSocketTransport`.

use std::io;
use std::num::NonZeroU32;

use crate::event_loop::spares::LARGE;
use crate::sys::{Readiness, Stream};
use crate::transports::core::Core;

/// What one receive brought.
pub(crate) enum Received {
    Bytes(usize),
    Eof,
    Blocked,
    Failed(io::Error),
}

impl Core {
    /// Another protocol is to begin: as before `connection_made`.
    pub(super) fn wait_to_read(&self) {
        self.read.set(self.read.get().hand_on());
    }

    pub(crate) fn begin_reading(&self) {
        self.read.set(self.read.get().begin());
        if !self.is_layered() {
            self.visit_if_readable();
        }
    }

    pub(crate) fn pause_reading(&self) {
        if !self.is_closing() {
            self.read.set(self.read.get().pause());
            self.tell_layer(false);
        }
    }

    pub(crate) fn resume_reading(&self) {
        if !self.is_closing() {
            if self.read.get().is_paused() {
                self.watch_active();
            }
            self.read.set(self.read.get().resume());
            self.tell_layer(true);
        }
        self.visit_if_readable();
    }

    /// No event will tell of bytes that an earlier one told of.
    pub(crate) fn visit_if_readable(&self) {
        if self.wants_to_read() {
            self.handle.agenda().visit(self.id);
        }
    }

    pub(crate) fn is_reading(&self) -> bool {
        !self.is_closing() && !self.read.get().is_paused()
    }

    pub(crate) fn wants_to_read(&self) -> bool {
        let readable = self.ready.get().says(Readiness::READ);
        readable && self.read.get().wants_bytes() && !self.is_closing()
    }

    pub(crate) fn buffered(&self) -> Option<bool> {
        self.buffered.get()
    }

    pub(crate) fn set_buffered(&self, buffered: Option<bool>) {
        self.buffered.set(buffered);
    }

    /// What one receive brings at most, in bytes.
    pub(crate) fn receive_size(&self) -> u32 {
        self.wanted.get().map_or(RECEIVE_SIZE, NonZeroU32::get)
    }

    /// The size of storage to receive into that the protocol may keep, if it is likely to fill it:
    /// what comes usually is worth it, and leaves some room, which shows that there is no more.
    pub(crate) fn size_to_keep(&self) -> Option<usize> {
        let usual = self.usual.get();
        let wanted = self.wanted.get().filter(|_| usual >= LARGE)?;
        Some((usual + 1).next_power_of_two().min(wanted.get()) as usize)
    }

    /// The protocol keeps what comes, and would like about so many bytes at once. `None`: it makes
    /// do with a look at what is received.
    pub(crate) fn set_wanted(&self, size: Option<usize>) {
        self.wanted.set(size.and_then(|size| {
            let size = u32::try_from(size).unwrap_or(RECEIVE_SIZE);
            NonZeroU32::new(size.clamp(LEAST_RECEIVE, RECEIVE_SIZE))
        }));
    }

    /// The protocol would like another number of bytes now, if it is still the one that keeps them.
    pub(crate) fn want(&self, size: usize) {
        if self.wanted.get().is_some() {
            self.set_wanted(Some(size));
        }
    }

    pub(crate) fn note_readiness(&self, event: Readiness) {
        self.ready.set(self.ready.get() | event);
    }

    pub(super) fn forget(&self, readiness: Readiness) {
        self.ready.set(self.ready.get().without(readiness));
    }

    /// Receives once, by `read`, which has room for so many bytes.
    #[inline]
    pub(crate) fn receive(
        &self,
        room: usize,
        mut read: impl FnMut(&dyn Stream) -> io::Result<usize>,
    ) -> Received {
        self.socket.with(|socket| {
            let Some(stream) = &socket.stream else {
                return Received::Blocked;
            };
            loop {
                match read(&**stream) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => {
                        return self.received(outcome, room, || stream.short_read_drains());
                    }
                }
            }
        })
    }

    /// What follows from the outcome of a receive that had room for so many bytes.
    #[inline]
    pub(super) fn received(
        &self,
        outcome: io::Result<usize>,
        room: usize,
        short_read_drains: impl FnOnce() -> bool,
    ) -> Received {
        match outcome {
            Ok(0) => {
                self.forget(Readiness::READ);
                self.read.set(self.read.get().end());
                Received::Eof
            }
            Ok(n) => {
                self.note_usual(n, n == room);
                self.watch_active();
                let short = n < room && short_read_drains();
                if short && !self.ready.get().says(Readiness::BEYOND) {
                    self.forget(Readiness::READ);
                }
                Received::Bytes(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.forget(Readiness::READ | Readiness::BEYOND);
                Received::Blocked
            }
            Err(error) => Received::Failed(error),
        }
    }

    /// So many bytes have come. Where they fill the buffer there may be twice as many.
    fn note_usual(&self, size: usize, full: bool) {
        let size = (size as u32).saturating_mul(1 + u32::from(full));
        let usual = self.usual.get();
        self.usual.set(size.max(usual - usual / 8));
    }

    /// Whether the end of what the peer sends was seen.
    pub(crate) fn has_ended(&self) -> bool {
        self.read.get().has_ended()
    }

    /// After that end nothing is read any more, and reading would only say "end" again: a reset
    /// that follows has to be asked for.
    pub(crate) fn look_for_reset(&self) {
        let outcome = self.socket.with(|socket| match &socket.stream {
            Some(stream) => stream.take_error(),
            None => Ok(()),
        });
        if let Err(error) = outcome {
            self.fail(error);
        }
    }
}

/// What one receive may bring at most, as asyncio's transports have it.
pub(crate) const RECEIVE_SIZE: u32 = 256 * 1024;
/// Less is not worth a system call.
const LEAST_RECEIVE: u32 = 4096;
