//! The half of a connection that a transport handle keeps: state, buffer, socket.
//!
//! Owns: [`Core`] and the write path. Why: a `Transport` may outlive its connection, and must not
//! keep the protocol alive. Invariants: a send is attempted only while the write readiness is
//! set; a short write counts as blocked; the marks are compared when a send has blocked; nothing
//! here calls user code, it changes state and leaves a note. asyncio's counterpart: the fields
//! and the write half of `_SelectorSocketTransport`.

use std::io;
use std::sync::Arc;

use crate::event_loop::cells::Shared;
use crate::event_loop::{Entry, WeakHandle};
use crate::sansio::lifecycle::{Life, ReadSide, WriteSide};
use crate::sansio::water_marks::{Flow, WaterMarks};
use crate::sansio::write_buffer::WriteBuffer;
use crate::sys::{Address, Readiness, SourceId, Stream};

pub(crate) struct Core {
    handle: WeakHandle,
    id: SourceId,
    peer: Address,
    state: Shared<State>,
}

struct State {
    /// `None` once the connection is over.
    stream: Option<Box<dyn Stream>>,
    sock_name: Option<Address>,
    life: Life,
    read: ReadSide,
    write: WriteSide,
    marks: WaterMarks,
    /// Written and not yet sent.
    unsent: WriteBuffer,
    /// Whether the protocol brings its own buffer; `None` until it was asked.
    buffered: Option<bool>,
    /// Sticky: set by events, cleared when the system would block.
    ready: Readiness,
    /// In the loop's list of notes.
    noted: bool,
    /// What the protocol has to be told about writing, in order.
    notices: [Option<Flow>; 2],
    /// Why the connection ended; the first cause stays.
    loss: Option<Loss>,
    /// Writes since the end of the connection.
    lost_writes: u32,
}

/// Why a connection is over.
#[derive(Clone, Debug)]
pub(crate) enum Loss {
    /// We closed it, or the peer did and we followed.
    Closed,
    /// `abort()`.
    Aborted,
    /// The system, or a protocol that panicked.
    Failed(Arc<io::Error>),
}

impl Loss {
    /// What `connection_lost` is told.
    pub(crate) fn error(&self) -> Option<Arc<io::Error>> {
        match self {
            Self::Closed | Self::Aborted => None,
            Self::Failed(error) => Some(Arc::clone(error)),
        }
    }
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
        addresses: (Address, Option<Address>),
        ready: Readiness,
    ) -> Self {
        let (peer, sock_name) = addresses;
        Self {
            handle,
            id,
            peer,
            state: Shared::new(State {
                stream: Some(stream),
                sock_name,
                life: Life::Open,
                read: ReadSide::Waiting,
                write: WriteSide::Open,
                marks: WaterMarks::default(),
                unsent: WriteBuffer::default(),
                buffered: None,
                ready,
                noted: false,
                notices: [None; 2],
                loss: None,
                lost_writes: 0,
            }),
        }
    }

    // Writing.

    /// Accepts bytes. `chunks` leave together, in order.
    pub(crate) fn write<'a>(&self, chunks: impl IntoIterator<Item = &'a [u8]>) {
        let chunks = chunks.into_iter().filter(|chunk| !chunk.is_empty());
        let mut chunks = chunks.peekable();
        if chunks.peek().is_none() {
            return;
        }
        if self.is_lost() {
            self.count_lost_write();
            return;
        }
        let was_noted = self.state.with(|state| {
            chunks.try_for_each(|chunk| state.append(chunk))?;
            Ok(std::mem::replace(&mut state.noted, true))
        });
        match was_noted {
            Ok(true) => {}
            Ok(false) => {
                if let Some(handle) = self.handle.upgrade() {
                    handle.note(self.id);
                }
            }
            Err(error) => self.fail(error),
        }
    }

    fn count_lost_write(&self) {
        let count = self.state.with(|state| {
            state.lost_writes = state.lost_writes.saturating_add(1);
            state.lost_writes
        });
        if count >= LOST_WRITES_BEFORE_WARNING {
            log::warn!("a write to a lost connection was ignored, the {count}th");
        }
    }

    /// Tries to send what is unsent, and does what follows from it: the end of writing, the end
    /// of the connection, a notice to the protocol.
    pub(crate) fn send(&self) {
        self.flush();
        let (finished, flushed) = self.state.with(|state| {
            let (write, life) = (state.write, state.life);
            if state.unsent.is_empty() && !life.is_lost() {
                state.write = write.sent_all();
                state.life = life.flushed();
            }
            (state.write != write, state.life != life)
        });
        if finished {
            self.shut_down_write();
        }
        if flushed {
            self.queue_lost(Loss::Closed);
        }
    }

    /// Tries to send what is unsent. Nothing follows from it but a loss.
    pub(crate) fn flush(&self) {
        if let Err(error) = self.state.with(State::send) {
            self.fail(error);
        }
    }

    pub(crate) fn write_eof(&self) {
        self.send();
        let finished = self.state.with(|state| {
            if state.life.is_closing() || state.write.eof_asked() {
                return false;
            }
            state.write = state.write.finish(!state.unsent.is_empty());
            state.write == WriteSide::Finished
        });
        if finished {
            self.shut_down_write();
        }
    }

    fn shut_down_write(&self) {
        let outcome = self.state.with(|state| match &state.stream {
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
        let ended = self.state.with(|state| {
            let life = state.life;
            state.life = life.close(!state.unsent.is_empty());
            life == Life::Open && state.life.is_lost()
        });
        if ended {
            self.queue_lost(Loss::Closed);
        }
    }

    pub(crate) fn abort(&self) {
        // One attempt; whether it works does not matter any more.
        let _ = self.state.with(State::send);
        self.lose(Loss::Aborted);
    }

    /// The system says that the connection is broken. Not worth a report: it happens.
    pub(crate) fn fail(&self, error: io::Error) {
        log::debug!("{}: {error}", self.peer);
        self.lose(Loss::Failed(Arc::new(error)));
    }

    /// Ends the connection at once; what is unsent is dropped. The first cause wins.
    pub(crate) fn lose(&self, loss: Loss) {
        let ended = self.state.with(|state| {
            let life = state.life;
            state.life = life.lose();
            life != state.life
        });
        if ended {
            self.queue_lost(loss);
        }
    }

    /// The life has just become `Ending`: `connection_lost` is an entry of its own in the queue.
    fn queue_lost(&self, loss: Loss) {
        self.state.with(|state| {
            state.unsent.clear();
            state.notices = [None; 2];
            state.loss = Some(loss);
        });
        self.enqueue(Entry::Lost);
    }

    /// Takes the step to `Gone`: true for the one caller who delivers `connection_lost`.
    pub(crate) fn deliver_loss(&self) -> bool {
        self.state.with(|state| {
            let life = state.life;
            state.life = life.deliver();
            life != state.life
        })
    }

    /// Gives up the socket. The caller drops it.
    pub(crate) fn take_stream(&self) -> Option<Box<dyn Stream>> {
        self.state.with(|state| state.stream.take())
    }

    /// Why the connection ended, if it has.
    pub(crate) fn loss(&self) -> Option<Loss> {
        self.state.with(|state| state.loss.clone())
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state.with(|state| state.life.is_closing())
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state.with(|state| state.life.is_lost())
    }

    // Flow control.

    pub(crate) fn set_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        self.send();
        let changed: io::Result<bool> = self.state.with(|state| {
            state
                .marks
                .set_limits(high, low)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            if state.life.is_lost() {
                return Ok(false);
            }
            let flow = state.marks.reevaluate(state.unsent.len());
            state.tell(flow);
            Ok(flow.is_some())
        });
        if changed? {
            self.queue_notice();
        }
        Ok(())
    }

    pub(crate) fn limits(&self) -> (usize, usize) {
        self.state.with(|state| state.marks.limits())
    }

    pub(crate) fn unsent(&self) -> usize {
        self.state.with(|state| state.unsent.len())
    }

    /// Whether `drain` has to look closer: above the high mark, or paused.
    pub(crate) fn is_congested(&self) -> bool {
        self.state
            .with(|state| state.marks.is_paused() || state.unsent.len() > state.marks.high())
    }

    pub(crate) fn is_write_paused(&self) -> bool {
        self.state.with(|state| state.marks.is_paused())
    }

    pub(crate) fn eof_asked(&self) -> bool {
        self.state.with(|state| state.write.eof_asked())
    }

    /// Whether a writable event changes anything: bytes wait, or a protocol that has paused.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.state.with(|state| {
            let waits = !state.unsent.is_empty() || state.marks.is_paused();
            waits && !state.life.is_lost()
        })
    }

    /// After a send that a writable event caused: have the waiting bytes fallen far enough?
    pub(crate) fn note_drained(&self) {
        self.state.with(|state| {
            if !state.life.is_lost() {
                let flow = state.marks.drained(state.unsent.len());
                state.tell(flow);
            }
        });
    }

    /// What the protocol has to be told next.
    pub(crate) fn take_notice(&self) -> Option<Flow> {
        self.state.with(|state| {
            let [next, then] = state.notices;
            state.notices = [then, None];
            next
        })
    }

    /// Has a notice told from the queue.
    pub(crate) fn queue_notice(&self) {
        self.enqueue(Entry::Flow);
    }

    /// The note is being dealt with; a new write leaves a new one.
    pub(crate) fn clear_note(&self) {
        self.state.with(|state| state.noted = false);
    }

    // Reading.

    pub(crate) fn begin_reading(&self) {
        self.state.with(|state| state.read = state.read.begin());
        self.visit_if_readable();
    }

    pub(crate) fn pause_reading(&self) {
        self.state.with(|state| {
            if !state.life.is_closing() {
                state.read = state.read.pause();
            }
        });
    }

    pub(crate) fn resume_reading(&self) {
        self.state.with(|state| {
            if !state.life.is_closing() {
                state.read = state.read.resume();
            }
        });
        self.visit_if_readable();
    }

    /// No event will tell of bytes that an earlier one told of.
    fn visit_if_readable(&self) {
        if self.wants_to_read() {
            if let Some(handle) = self.handle.upgrade() {
                handle.visit(self.id);
            }
        }
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.state
            .with(|state| !state.life.is_closing() && !state.read.is_paused())
    }

    pub(crate) fn wants_to_read(&self) -> bool {
        self.state.with(|state| state.wants_to_read())
    }

    pub(crate) fn buffered(&self) -> Option<bool> {
        self.state.with(|state| state.buffered)
    }

    pub(crate) fn set_buffered(&self, buffered: Option<bool>) {
        self.state.with(|state| state.buffered = buffered);
    }

    pub(crate) fn note_readiness(&self, event: Readiness) {
        self.state.with(|state| state.ready = state.ready | event);
    }

    /// Receives once.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Received {
        self.state.with(|state| {
            let Some(stream) = &state.stream else {
                return Received::Blocked;
            };
            loop {
                match stream.read(buffer) {
                    Ok(0) => {
                        state.ready.read = false;
                        state.read = state.read.end();
                        return Received::Eof;
                    }
                    Ok(n) => {
                        let short = n < buffer.len() && stream.short_read_drains();
                        if short && !state.ready.beyond {
                            state.ready.read = false;
                        }
                        return Received::Bytes(n);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        state.ready.read = false;
                        state.ready.beyond = false;
                        return Received::Blocked;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Received::Failed(error),
                }
            }
        })
    }

    /// Whether the end of what the peer sends was seen.
    pub(crate) fn has_ended(&self) -> bool {
        self.state
            .with(|state| matches!(state.read, ReadSide::Ended { .. }))
    }

    /// After that end nothing is read any more, and reading would only say "end" again: a reset
    /// that follows has to be asked for.
    pub(crate) fn look_for_reset(&self) {
        let outcome = self.state.with(|state| match &state.stream {
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
        self.state.with(|state| {
            if state.sock_name.is_none() {
                state.sock_name = state.stream.as_ref()?.local_address().ok();
            }
            state.sock_name.clone()
        })
    }

    pub(crate) fn handle(&self) -> &WeakHandle {
        &self.handle
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    fn enqueue(&self, entry: Entry) {
        if let Some(handle) = self.handle.upgrade() {
            handle.enqueue(self.id, entry);
        }
    }
}

impl State {
    fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut rest = chunk;
        if self.unsent.is_empty() && chunk.len() > SEND_AT_ONCE && self.ready.write {
            let sent = offer(self.stream.as_deref(), &mut self.ready, chunk)?;
            rest = &chunk[sent..];
        }
        self.unsent.extend(rest);
        if self.ready.write && self.unsent.len() > self.marks.high().min(SEND_AT_ONCE) {
            self.send()
        } else {
            self.compare();
            Ok(())
        }
    }

    /// Does nothing once the connection is lost: then nothing is unsent.
    fn send(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() && self.ready.write {
            let bytes = self.unsent.as_slice();
            let sent = offer(self.stream.as_deref(), &mut self.ready, bytes)?;
            self.unsent.advance(sent);
        }
        self.compare();
        Ok(())
    }

    /// Compares with the high mark, if the system has said that it would block.
    fn compare(&mut self) {
        if !self.ready.write {
            let flow = self.marks.filled(self.unsent.len());
            self.tell(flow);
        }
    }

    /// Leaves a notice for the protocol. A resume that was not told yet and the pause after it
    /// cancel out. A pause and the resume after it are both told: a `drain` may have begun to
    /// wait in between, and the resume is what wakes it.
    fn tell(&mut self, flow: Option<Flow>) {
        self.notices = match (self.notices, flow) {
            (notices, None) => notices,
            ([Some(Flow::Resume), None], Some(Flow::Pause)) => [None, None],
            ([first, Some(Flow::Resume)], Some(Flow::Pause)) => [first, None],
            ([None, _], flow) => [flow, None],
            ([first, _], flow) => [first, flow],
        };
    }

    fn wants_to_read(&self) -> bool {
        self.ready.read && self.read.wants_bytes() && !self.life.is_closing()
    }
}

/// Sends what the system takes. Less than everything means that it would block.
fn offer(stream: Option<&dyn Stream>, ready: &mut Readiness, bytes: &[u8]) -> io::Result<usize> {
    let sent = match stream.map_or(Ok(0), |stream| stream.write(bytes)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        outcome => outcome?,
    };
    if sent < bytes.len() {
        ready.write = false;
    }
    Ok(sent)
}

/// A step's writes are collected up to this many bytes before they are sent, and a single write
/// of more on an empty buffer goes out without a copy.
const SEND_AT_ONCE: usize = 64 * 1024;
/// asyncio's `LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
const LOST_WRITES_BEFORE_WARNING: u32 = 5;
