//! The half of a connection that a transport handle keeps: state, buffer, socket.
//!
//! Owns: [`Core`] and the write path. Why: a `Transport` may outlive its connection, and must not
//! keep the protocol alive. Invariants: a send is attempted only while the write readiness is
//! set; a short write counts as blocked; the marks are compared when a send has blocked; nothing
//! here calls user code, it changes state and leaves a note. asyncio's counterpart: the fields
//! and the write half of `_SelectorSocketTransport`.

use std::cell::Cell;
use std::io;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use crate::event_loop::cells::{Part, Shared, Slot};
use crate::event_loop::spares::{LARGE, Spares};
use crate::event_loop::{Entry, WeakHandle};
use crate::sansio::lifecycle::{Life, ReadSide, WriteSide};
use crate::sansio::water_marks::{Flow, WaterMarks};
use crate::sansio::write_buffer::WriteBuffer;
use crate::sys::{Address, Credentials, Readiness, SourceId, Stream};

pub(crate) struct Core {
    handle: WeakHandle,
    id: SourceId,
    peer: Address,
    life: Cell<Life>,
    read: Cell<ReadSide>,
    write: Cell<WriteSide>,
    /// Sticky: set by events, cleared when the system would block.
    ready: Cell<Readiness>,
    /// Whether the protocol brings its own buffer; `None` until it was asked.
    buffered: Cell<Option<bool>>,
    /// Written, not yet sent, and still where it was received: it is sent from there when the step
    /// ends. Whoever writes on what came needs no copy of it. Nothing is unsent before it.
    passed_on: Cell<Part>,
    /// How many bytes the protocol would keep, if it keeps what comes.
    wanted: Cell<Option<NonZeroU32>>,
    /// About what the largest of the last receives brought, in bytes.
    usual: Cell<u32>,
    /// In the loop's list of notes.
    noted: Cell<bool>,
    /// What the protocol has to be told about writing, in order.
    notices: Cell<[Option<Flow>; 2]>,
    /// Writes since the end of the connection.
    lost_writes: Cell<u32>,
    marks: Cell<WaterMarks>,
    socket: Shared<Socket>,
    /// Why the connection ended, and the error if there was one; the first cause stays.
    cause: Cell<Option<Cause>>,
    error: Slot<Arc<io::Error>>,
}

/// The two ends of sending, which are borrowed together.
struct Socket {
    /// `None` once the connection is over.
    stream: Option<Box<dyn Stream>>,
    /// Written and not yet sent.
    unsent: WriteBuffer,
    sock_name: Option<Rc<Address>>,
}

/// How a connection came to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// We closed it, or the peer did and we followed.
    Closed,
    /// `abort()`.
    Aborted,
    /// The system, or a protocol that panicked.
    Failed,
}

/// What one receive brought.
pub(crate) enum Received {
    Bytes(usize),
    Eof,
    Blocked,
    Failed(io::Error),
}

impl Core {
    pub(crate) fn new(
        handle: WeakHandle,
        id: SourceId,
        stream: Box<dyn Stream>,
        addresses: (Address, Option<Rc<Address>>),
        ready: Readiness,
    ) -> Self {
        let (peer, sock_name) = addresses;
        Self {
            handle,
            id,
            peer,
            life: Cell::new(Life::Open),
            read: Cell::new(ReadSide::Waiting),
            write: Cell::new(WriteSide::Open),
            ready: Cell::new(ready),
            buffered: Cell::new(None),
            passed_on: Cell::new(Part::NONE),
            wanted: Cell::new(None),
            usual: Cell::new(0),
            noted: Cell::new(false),
            notices: Cell::new([None; 2]),
            lost_writes: Cell::new(0),
            marks: Cell::new(WaterMarks::default()),
            socket: Shared::new(Socket {
                stream: Some(stream),
                unsent: WriteBuffer::default(),
                sock_name,
            }),
            cause: Cell::new(None),
            error: Slot::default(),
        }
    }

    // Writing.

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
            pieces.iter().try_for_each(|piece| self.append(piece))
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
            if data.len() > SEND_AT_ONCE {
                self.socket.with(|socket| self.send_or_keep(socket, data))?;
                self.compare(self.unsent());
                return Ok(());
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
        self.life.set(life.flushed());
        if self.write.get() != write {
            self.shut_down_write();
        }
        if self.life.get() != life {
            self.queue_lost(Cause::Closed, None);
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
        let left = self.socket.with(|socket| {
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
            io::Result::Ok(socket.unsent.len())
        })?;
        self.compare(left);
        Ok(())
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

    fn may_send(&self) -> bool {
        self.ready.get().says(Readiness::WRITE)
    }

    /// Sends what the system takes. Less than everything means that it would block.
    #[inline]
    fn offer(&self, stream: Option<&dyn Stream>, bytes: &[u8]) -> io::Result<usize> {
        let sent = match stream.map_or(Ok(0), |stream| stream.write(bytes)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            outcome => outcome?,
        };
        if sent < bytes.len() {
            self.forget(Readiness::WRITE);
        }
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

    // The end.

    pub(crate) fn close(&self) {
        self.send();
        let life = self.life.get();
        self.life.set(life.close(self.unsent() > 0));
        if life == Life::Open && self.is_lost() {
            self.queue_lost(Cause::Closed, None);
        }
    }

    pub(crate) fn abort(&self) {
        // One attempt; whether it works does not matter any more.
        let _ = self.try_send();
        self.lose(Cause::Aborted, None);
    }

    /// The system says that the connection is broken. Not worth a report: it happens.
    pub(crate) fn fail(&self, error: io::Error) {
        log::debug!("{}: {error}", self.peer);
        self.lose(Cause::Failed, Some(Arc::new(error)));
    }

    /// Ends the connection at once; what is unsent is dropped. The first cause wins.
    pub(crate) fn lose(&self, cause: Cause, error: Option<Arc<io::Error>>) {
        let life = self.life.get();
        self.life.set(life.lose());
        if self.life.get() != life {
            self.queue_lost(cause, error);
        }
    }

    /// The life has just become `Ending`: `connection_lost` is an entry of its own in the queue.
    fn queue_lost(&self, cause: Cause, error: Option<Arc<io::Error>>) {
        self.notices.set([None; 2]);
        self.passed_on.set(Part::NONE);
        self.cause.set(Some(cause));
        if let Some(error) = error {
            drop(self.error.put(error));
        }
        let unsent = self.socket.with(|socket| {
            socket.unsent.clear();
            socket.unsent.reclaim()
        });
        self.spares().give(unsent);
        self.enqueue(Entry::Lost);
    }

    /// Takes the step to `Gone`: true for the one caller who delivers `connection_lost`.
    pub(crate) fn deliver_loss(&self) -> bool {
        let life = self.life.get();
        self.life.set(life.deliver());
        self.life.get() != life
    }

    /// Gives up the socket. The caller drops it.
    pub(crate) fn take_stream(&self) -> Option<Box<dyn Stream>> {
        self.socket.with(|socket| socket.stream.take())
    }

    /// How the connection came to be over, if it is.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.cause.get()
    }

    /// The error that ended it, which `connection_lost` is told.
    pub(crate) fn error(&self) -> Option<Arc<io::Error>> {
        self.error.get()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.life.get().is_closing()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.life.get().is_lost()
    }

    // Flow control.

    pub(crate) fn set_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        self.send();
        let mut marks = self.marks.get();
        marks
            .set_limits(high, low)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let flow = if self.is_lost() {
            None
        } else {
            marks.reevaluate(self.unsent())
        };
        self.marks.set(marks);
        self.tell(flow);
        if flow.is_some() {
            self.queue_notice();
        }
        Ok(())
    }

    pub(crate) fn limits(&self) -> (usize, usize) {
        self.marks.get().limits()
    }

    pub(crate) fn unsent(&self) -> usize {
        self.passed_on.get().len() + self.socket.with(|socket| socket.unsent.len())
    }

    /// Whether `drain` has nothing to look at: open, not paused, and not above the high mark.
    pub(crate) fn is_calm(&self) -> bool {
        let marks = self.marks.get();
        !self.is_closing() && !marks.is_paused() && self.unsent() <= marks.high()
    }

    /// Whether `drain` has to look closer: above the high mark, or paused.
    pub(crate) fn is_congested(&self) -> bool {
        let marks = self.marks.get();
        marks.is_paused() || self.unsent() > marks.high()
    }

    pub(crate) fn is_write_paused(&self) -> bool {
        self.marks.get().is_paused()
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
        if !self.is_lost() {
            let mut marks = self.marks.get();
            let flow = marks.drained(self.unsent());
            self.marks.set(marks);
            self.tell(flow);
        }
    }

    /// Compares with the high mark, if the system has said that it would block.
    fn compare(&self, size: usize) {
        if !self.may_send() {
            let mut marks = self.marks.get();
            let flow = marks.filled(size);
            self.marks.set(marks);
            self.tell(flow);
        }
    }

    /// Leaves a notice for the protocol. A resume that was not told yet and the pause after it
    /// cancel out. A pause and the resume after it are both told: a `drain` may have begun to
    /// wait in between, and the resume is what wakes it.
    fn tell(&self, flow: Option<Flow>) {
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

    // Reading.

    pub(crate) fn begin_reading(&self) {
        self.read.set(self.read.get().begin());
        self.visit_if_readable();
    }

    pub(crate) fn pause_reading(&self) {
        if !self.is_closing() {
            self.read.set(self.read.get().pause());
        }
    }

    pub(crate) fn resume_reading(&self) {
        if !self.is_closing() {
            self.read.set(self.read.get().resume());
        }
        self.visit_if_readable();
    }

    /// No event will tell of bytes that an earlier one told of.
    fn visit_if_readable(&self) {
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

    fn forget(&self, readiness: Readiness) {
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
                    Ok(0) => {
                        self.forget(Readiness::READ);
                        self.read.set(self.read.get().end());
                        return Received::Eof;
                    }
                    Ok(n) => {
                        self.note_usual(n, n == room);
                        let short = n < room && stream.short_read_drains();
                        if short && !self.ready.get().says(Readiness::BEYOND) {
                            self.forget(Readiness::READ);
                        }
                        return Received::Bytes(n);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.forget(Readiness::READ | Readiness::BEYOND);
                        return Received::Blocked;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Received::Failed(error),
                }
            }
        })
    }

    /// So many bytes have come. Where they fill the buffer there may be twice as many.
    fn note_usual(&self, size: usize, full: bool) {
        let size = (size as u32).saturating_mul(1 + u32::from(full));
        let usual = self.usual.get();
        self.usual.set(size.max(usual - usual / 8));
    }

    /// Whether the end of what the peer sends was seen.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.read.get(), ReadSide::Ended { .. })
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

    // What is known.

    pub(crate) fn peer_name(&self) -> &Address {
        &self.peer
    }

    pub(crate) fn sock_name(&self) -> Option<Address> {
        self.socket.with(|socket| {
            if socket.sock_name.is_none() {
                socket.sock_name = socket.stream.as_ref()?.local_address().ok().map(Rc::new);
            }
            socket.sock_name.as_deref().cloned()
        })
    }

    pub(crate) fn peer_credentials(&self) -> Option<Credentials> {
        self.socket
            .with(|socket| socket.stream.as_ref()?.peer_credentials())
    }

    pub(crate) fn handle(&self) -> &WeakHandle {
        &self.handle
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    fn spares(&self) -> &Spares {
        self.handle.agenda().spares()
    }

    fn enqueue(&self, entry: Entry) {
        self.handle.agenda().enqueue(self.id, entry);
    }
}

impl Socket {
    /// Copies bytes behind what is unsent.
    fn keep(&mut self, bytes: &[u8], spares: &Spares) {
        if !self.unsent.has_storage() {
            self.unsent.adopt(spares.take(bytes.len().max(COLLECTED)));
        }
        self.unsent.extend(bytes);
    }
}

/// What one receive may bring at most, as asyncio's transports have it.
pub(crate) const RECEIVE_SIZE: u32 = 256 * 1024;
/// Less is not worth a system call.
const LEAST_RECEIVE: u32 = 4096;
/// A step's writes are collected up to this many bytes before they are sent, and a single write
/// of more on an empty buffer goes out without a copy.
const SEND_AT_ONCE: usize = 64 * 1024;
/// Room for the small writes of a step, so that it need not grow with each of them.
const COLLECTED: usize = 2 * 1024;
/// From this many bytes on, a vector that is given away is sent as it is; less is copied behind
/// what else the step may write.
const KEPT_WHOLE: usize = 512;
/// asyncio's `LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
const LOST_WRITES_BEFORE_WARNING: u32 = 5;
