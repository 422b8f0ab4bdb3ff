//! The write half of a connection: bytes from the user to the socket, and when to stop for a while.
//!
//! Owns: how a [`Core`] sends. Why: what a step wrote leaves together, and much follows from how
//! far the system takes it. Invariants: a send is attempted only while the write readiness is set; a
//! short write counts as blocked; the marks are compared when a send has blocked; nothing here
//! calls user code, it changes state and leaves a note. asyncio's counterpart: the write half of
//! `_SelectorSocketTransport`, and `_FlowControlMixin`.

use std::io;

use crate::event_loop::Entry;
use crate::event_loop::cells::Part;
use crate::event_loop::spares::Spares;
use crate::sansio::lifecycle::{Life, WriteSide};
use crate::sansio::water_marks::Flow;
use crate::sys::{Readiness, Stream};
use crate::transports::close_reason::CloseReason;
use crate::transports::core::{Core, Socket};

impl Core {
    /// Accepts bytes.
    #[inline]
    pub(crate) fn write(&self, data: &[u8]) {
        self.accept(data.len(), || self.append(data));
    }

    /// Accepts bytes with their storage.
    pub(crate) fn write_owned(&self, data: Vec<u8>) {
        self.accept(data.len(), || self.append_owned(data));
    }

    /// Accepts pieces, which leave together, in order. They count as one write.
    pub(crate) fn writelines(&self, pieces: &[&[u8]]) {
        let size = pieces.iter().map(|piece| piece.len()).sum();
        self.accept(size, || {
            let mut pieces = pieces.iter().filter(|piece| !piece.is_empty());
            // One of them may be one too many.
            pieces.try_for_each(|piece| {
                if self.is_lost() {
                    return Ok(());
                }
                self.append(piece)
            })
        });
    }

    #[inline]
    fn accept(&self, size: usize, append: impl FnOnce() -> io::Result<()>) {
        if size == 0 {
            return;
        }
        if self.is_lost() {
            self.count_lost_write();
            return;
        }
        match append() {
            Ok(()) if self.noted.replace(true) => {}
            Ok(()) => self.handle.note(self.id),
            Err(error) => self.fail(error),
        }
    }

    #[inline]
    fn append(&self, data: &[u8]) -> io::Result<()> {
        if self.may_send() && self.unsent() == 0 {
            if data.len() > SEND_AT_ONCE || self.is_layered() && data.len() >= RECORD {
                return self.send_at_once(data);
            }
            if let Some(part) = self.handle.agenda().received().locate(data) {
                self.passed_on.set(part);
                return self.appended(part.len());
            }
        }
        let size = self.socket.with(|socket| {
            self.keep_passed_on(socket);
            socket.keep(data, self.spares());
            socket.unsent.len()
        });
        self.appended(size)
    }

    /// Sends from where the bytes are, as far as the system takes them.
    fn send_at_once(&self, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        while !rest.is_empty() && self.may_send() {
            let offered = |socket: &mut Socket| self.offer(socket.stream.as_deref(), rest);
            rest = &rest[self.socket.with(offered)?..];
            if !rest.is_empty() {
                self.flush_layer();
            }
        }
        if !rest.is_empty() {
            self.socket.with(|socket| socket.keep(rest, self.spares()));
        }
        self.compare(self.unsent());
        Ok(())
    }

    /// Takes the bytes over as they are, if nothing waits before them.
    fn append_owned(&self, data: Vec<u8>) -> io::Result<()> {
        let size = data.len();
        if size < KEPT_WHOLE || self.unsent() > 0 {
            return self.append(&data);
        }
        self.socket.with(|socket| socket.unsent.adopt(data));
        self.appended(size)
    }

    /// `size` bytes are unsent now: that may be too many to wait for the step's end.
    #[inline]
    fn appended(&self, size: usize) -> io::Result<()> {
        if self.may_send() && size > self.marks.get().high().min(SEND_AT_ONCE) {
            self.try_send()
        } else {
            self.compare(size);
            Ok(())
        }
    }

    fn count_lost_write(&self) {
        let count = self.lost_writes.get().saturating_add(1);
        self.lost_writes.set(count);
        if count >= LOST_WRITES_BEFORE_WARNING {
            log::warn!("a write to a lost connection was ignored, the {count}th");
        }
    }

    /// Tries to send what is unsent, and does what follows from it: the end of writing, the end
    /// of the connection, a notice to the protocol.
    #[inline]
    pub(crate) fn send(&self) {
        self.flush();
        let (write, life) = (self.write.get(), self.life.get());
        if (write, life) == (WriteSide::Open, Life::Open) || life.is_lost() || self.unsent() > 0 {
            return;
        }
        self.write.set(write.sent_all());
        if self.write.get() != write {
            self.shut_down_write();
        }
        if self.life.get() == Life::Flushing && !self.say_goodbye() {
            return;
        }
        // Asked anew: what was done may have failed, which is an end of its own.
        let life = self.life.get();
        self.life.set(life.flushed());
        if self.life.get() != life {
            self.queue_lost(self.reason.get().unwrap_or(CloseReason::Closed), None);
        }
    }

    /// Tries to send what is unsent. Nothing follows from it but a loss.
    #[inline]
    pub(crate) fn flush(&self) {
        if let Err(error) = self.try_send() {
            self.fail(error);
        }
    }

    /// Does nothing once the connection is lost: then nothing is unsent.
    #[inline]
    fn try_send(&self) -> io::Result<()> {
        let mut left = self.send_some()?;
        while self.flush_layer() && left > 0 {
            left = self.send_some()?;
        }
        self.compare(left);
        Ok(())
    }

    /// One attempt. How many bytes are left.
    #[inline]
    pub(super) fn send_some(&self) -> io::Result<usize> {
        self.socket.with(|socket| {
            let part = self.passed_on.replace(Part::NONE);
            if !part.is_empty() {
                let received = self.handle.agenda().received();
                received.lend(part, |bytes| self.send_or_keep(socket, bytes))?;
            }
            if socket.unsent.is_empty() {
                return Ok(0);
            }
            while !socket.unsent.is_empty() && self.may_send() {
                let sent = self.offer(socket.stream.as_deref(), socket.unsent.as_slice())?;
                socket.unsent.advance(sent);
            }
            self.spares().give(socket.unsent.reclaim());
            Ok(socket.unsent.len())
        })
    }

    /// Sends from where the bytes are; they are copied only if the system does not take them.
    #[inline]
    fn send_or_keep(&self, socket: &mut Socket, bytes: &[u8]) -> io::Result<()> {
        let sent = self.offer(socket.stream.as_deref(), bytes)?;
        if sent < bytes.len() {
            socket.keep(&bytes[sent..], self.spares());
        }
        Ok(())
    }

    /// Copies what was passed on, before something that comes behind it.
    fn keep_passed_on(&self, socket: &mut Socket) {
        let part = self.passed_on.replace(Part::NONE);
        if !part.is_empty() {
            let received = self.handle.agenda().received();
            received.lend(part, |bytes| socket.keep(bytes, self.spares()));
        }
    }

    /// Whether the system would take bytes, as far as is known.
    pub(crate) fn may_send(&self) -> bool {
        self.ready.get().says(Readiness::WRITE)
    }

    /// Sends what the system takes. Less than everything means that it would block.
    #[inline]
    fn offer(&self, stream: Option<&dyn Stream>, bytes: &[u8]) -> io::Result<usize> {
        let outcome = stream.map_or(Ok(0), |stream| stream.write(bytes));
        self.offered(bytes.len(), outcome)
    }

    /// What follows from the outcome of an attempt to send so many bytes.
    #[inline]
    pub(super) fn offered(&self, size: usize, outcome: io::Result<usize>) -> io::Result<usize> {
        let sent = match outcome {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            outcome => outcome?,
        };
        if sent < size {
            self.forget(Readiness::WRITE);
        }
        self.watch_sent(sent, sent == size);
        Ok(sent)
    }

    pub(crate) fn write_eof(&self) {
        self.send();
        if self.is_closing() || self.eof_asked() {
            return;
        }
        self.write.set(self.write.get().finish(self.unsent() > 0));
        if self.write.get() == WriteSide::Finished {
            self.shut_down_write();
        }
    }

    fn shut_down_write(&self) {
        if let Some(layer) = self.layer() {
            return layer.shut_down_write();
        }
        let outcome = self.socket.with(|socket| match &socket.stream {
            Some(stream) => stream.shutdown_write(),
            None => Ok(()),
        });
        match outcome {
            // The peer is gone already; the read side will say how.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => self.fail(error),
            Ok(()) => {}
        }
    }

    // Flow control.

    pub(crate) fn set_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        self.send();
        let mut marks = self.marks.get();
        marks
            .set_limits(high, low)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.marks.set(marks);
        self.reevaluate();
        Ok(())
    }

    /// After a send: has the protocol to be told something that it was not told yet?
    pub(super) fn reevaluate(&self) {
        if !self.tells_of_flow() {
            return;
        }
        let marks = self.marks.get();
        let flow = marks.reevaluate(self.is_write_paused(), self.waiting());
        self.tell(flow);
        if flow.is_some() {
            self.queue_notice();
        }
    }

    /// While a file is sent the protocol may not write, so it is told nothing of it.
    fn tells_of_flow(&self) -> bool {
        !self.is_lost() && !self.is_lent()
    }

    pub(crate) fn limits(&self) -> (usize, usize) {
        self.marks.get().limits()
    }

    /// How many bytes wait to be sent, here and below.
    pub(crate) fn waiting(&self) -> usize {
        self.unsent() + self.unsent_below()
    }

    /// How many bytes wait here.
    pub(crate) fn unsent(&self) -> usize {
        self.passed_on.get().len() + self.socket.with(|socket| socket.unsent.len())
    }

    /// Whether `drain` has nothing to look at: open, not paused, and not above the high mark.
    pub(crate) fn is_calm(&self) -> bool {
        !self.is_closing() && !self.is_congested()
    }

    /// Whether `drain` has to look closer: above the high mark, or paused.
    pub(crate) fn is_congested(&self) -> bool {
        self.is_write_paused() || self.waiting() > self.marks.get().high()
    }

    pub(crate) fn is_write_paused(&self) -> bool {
        self.write_paused.get()
    }

    pub(crate) fn eof_asked(&self) -> bool {
        self.write.get().eof_asked()
    }

    /// Whether a writable event changes anything: bytes wait, or a protocol that has paused.
    pub(crate) fn waits_for_room(&self) -> bool {
        (self.is_write_paused() || self.unsent() > 0) && !self.is_lost()
    }

    /// After a send that a writable event caused: have the waiting bytes fallen far enough?
    pub(crate) fn note_drained(&self) {
        if self.tells_of_flow() {
            let marks = self.marks.get();
            self.tell(marks.drained(self.is_write_paused(), self.waiting()));
        }
    }

    /// Compares with the high mark, if the system has said that it would block.
    fn compare(&self, size: usize) {
        if !self.may_send() {
            let size = size + self.unsent_below();
            self.watch_unsent(size);
            if !self.tells_of_flow() {
                return;
            }
            let marks = self.marks.get();
            self.tell(marks.filled(self.is_write_paused(), size));
        }
    }

    /// Leaves a notice for the protocol. A resume that was not told yet and the pause after it
    /// cancel out. A pause and the resume after it are both told: a `drain` may have begun to
    /// wait in between, and the resume is what wakes it.
    fn tell(&self, flow: Option<Flow>) {
        if let Some(flow) = flow {
            self.write_paused.set(flow == Flow::Pause);
        }
        self.notices.set(match (self.notices.get(), flow) {
            (notices, None) => notices,
            ([Some(Flow::Resume), None], Some(Flow::Pause)) => [None, None],
            ([first, Some(Flow::Resume)], Some(Flow::Pause)) => [first, None],
            ([None, _], flow) => [flow, None],
            ([first, _], flow) => [first, flow],
        });
    }

    /// Whether the protocol has to be told something.
    pub(crate) fn has_notice(&self) -> bool {
        self.notices.get()[0].is_some()
    }

    /// What the protocol has to be told next.
    pub(crate) fn take_notice(&self) -> Option<Flow> {
        let [next, then] = self.notices.get();
        self.notices.set([then, None]);
        next
    }

    /// Has a notice told from the queue.
    pub(crate) fn queue_notice(&self) {
        self.enqueue(Entry::Flow);
    }

    /// The note is being dealt with; a new write leaves a new one.
    pub(crate) fn clear_note(&self) {
        self.noted.set(false);
    }
}

impl Socket {
    /// Copies bytes behind what is unsent.
    pub(super) fn keep(&mut self, bytes: &[u8], spares: &Spares) {
        if !self.unsent.has_storage() {
            self.unsent.adopt(spares.take(bytes.len().max(COLLECTED)));
        }
        self.unsent.extend(bytes);
    }
}

/// A step's writes are collected up to this many bytes before they are sent, and a single write
/// of more on an empty buffer goes out without a copy.
const SEND_AT_ONCE: usize = 64 * 1024;
/// From this many bytes on a write need not wait for others to be encrypted with: it fills a record.
const RECORD: usize = 16 * 1024;
/// Room for the small writes of a step, so that it need not grow with each of them.
const COLLECTED: usize = 2 * 1024;
/// From this many bytes on, a vector that is given away is sent as it is; less is copied behind
/// what else the step may write.
const KEPT_WHOLE: usize = 512;
/// asyncio's `LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
const LOST_WRITES_BEFORE_WARNING: u16 = 5;
