//! A loop without a system: its sockets are vectors, and its events are what a script says.
//!
//! Owns: [`Stage`], the loop, and [`Wire`], the far side of one of its streams. Why: whatever a
//! system might do, take half of a send, say "ready" too late, break off, a script can have done.
//! Invariants: the loop is the real one, turn by turn; its clock stands still; whatever it reports
//! to the exception handler is a failure, since nothing here is the user's. asyncio's counterpart:
//! the `TestLoop` of its own tests.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::event_loop::EventLoop;
use crate::sys::{Address, Event, Readiness, Scripted, SourceId, Stream, Wakeup};
use crate::transports::{Parts, Policies};

pub(super) struct Stage {
    pub(super) event_loop: EventLoop,
    events: Rc<RefCell<Vec<Event>>>,
    reports: Rc<RefCell<Vec<String>>>,
    reports_are_fine: bool,
}

impl Stage {
    pub(super) fn new() -> Self {
        let events: Rc<RefCell<Vec<Event>>> = Rc::default();
        let next = Rc::clone(&events);
        let poll = move |events: &mut Vec<Event>, _: Option<Duration>| {
            events.append(&mut next.borrow_mut());
            Ok(())
        };
        let event_loop = EventLoop::with_driver(Box::new(Scripted::new(poll, Arc::new(Nobody))));
        let reports: Rc<RefCell<Vec<String>>> = Rc::default();
        let seen = Rc::clone(&reports);
        event_loop.set_exception_handler(move |_, context| {
            seen.borrow_mut().push(format!("{context:?}"));
        });
        Self {
            event_loop,
            events,
            reports,
            reports_are_fine: false,
        }
    }

    /// A stream that is connected, for a connection, and its far side.
    pub(super) fn wire(&self) -> (Parts, Rc<Wire>) {
        let wire = Rc::new(Wire {
            id: self.event_loop.reserve(),
            events: Rc::clone(&self.events),
            incoming: RefCell::default(),
            taken: Cell::new(0),
            piece: Cell::new(usize::MAX),
            ended: Cell::new(false),
            outgoing: RefCell::default(),
            room: Cell::new(usize::MAX),
            shut: Cell::new(false),
            broken: Cell::new(false),
            closed: Cell::new(false),
        });
        let parts = Parts {
            id: wire.id,
            stream: Box::new(WireEnd(Rc::clone(&wire))),
            peer: SocketAddr::from(([192, 0, 2, 1], 9)).into(),
            known: None,
            ready: Readiness::WRITE,
            owner: None,
            policies: Policies::default(),
        };
        (parts, wire)
    }

    /// What a peer does wrong may be reported.
    pub(super) fn reports_are_fine(&mut self) {
        self.reports_are_fine = true;
    }

    pub(super) fn turn(&mut self) {
        self.event_loop.stop();
        self.event_loop.run_forever();
        let reports = self.reports.borrow();
        let fine = reports.is_empty() || self.reports_are_fine;
        assert!(fine, "the loop reports {reports:?}");
    }

    pub(super) fn turns(&mut self, n: usize) {
        for _ in 0..n {
            self.turn();
        }
    }
}

/// There is no other thread.
struct Nobody;

impl Wakeup for Nobody {
    fn wake(&self) {}
}

/// The far side of a stream.
pub(super) struct Wire {
    id: SourceId,
    events: Rc<RefCell<Vec<Event>>>,
    incoming: RefCell<VecDeque<u8>>,
    taken: Cell<usize>,
    piece: Cell<usize>,
    ended: Cell<bool>,
    outgoing: RefCell<Vec<u8>>,
    room: Cell<usize>,
    shut: Cell<bool>,
    broken: Cell<bool>,
    closed: Cell<bool>,
}

impl Wire {
    /// Bytes come in.
    pub(super) fn bring(&self, bytes: &[u8]) {
        if !bytes.is_empty() && !self.ended.get() {
            self.incoming.borrow_mut().extend(bytes);
            self.tell(Readiness::READ);
        }
    }

    /// No more bytes come in.
    pub(super) fn end(&self) {
        if !self.ended.replace(true) {
            self.tell(Readiness::READ | Readiness::BEYOND);
        }
    }

    /// A read brings so many bytes at most, however many there are.
    pub(super) fn cut_reads(&self, piece: usize) {
        self.piece.set(piece.max(1));
    }

    /// So many bytes can go out.
    pub(super) fn give_room(&self, room: usize) {
        let before = self.room.replace(room);
        if before == 0 && room > 0 {
            self.tell(Readiness::WRITE);
        }
    }

    /// The connection is reset.
    pub(super) fn break_off(&self) {
        self.broken.set(true);
        let everything = Readiness::READ | Readiness::WRITE;
        self.tell(everything | Readiness::BEYOND | Readiness::ERROR);
    }

    /// An event that says what is true anyway.
    pub(super) fn nudge(&self) {
        self.tell(Readiness::READ | Readiness::WRITE);
    }

    fn tell(&self, readiness: Readiness) {
        if !self.closed.get() {
            let mut events = self.events.borrow_mut();
            events.push(Event::Ready(self.id, readiness));
        }
    }

    /// What went out since this was asked before.
    pub(super) fn take_outgoing(&self) -> Vec<u8> {
        self.outgoing.take()
    }

    /// How many bytes of what came in were taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut.get()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn check(&self) -> io::Result<()> {
        if self.broken.get() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

struct WireEnd(Rc<Wire>);

impl Stream for WireEnd {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let wire = &*self.0;
        wire.check()?;
        let mut incoming = wire.incoming.borrow_mut();
        if incoming.is_empty() {
            return match wire.ended.get() {
                true => Ok(0),
                false => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let size = buffer.len().min(wire.piece.get()).min(incoming.len());
        for (to, from) in buffer.iter_mut().zip(incoming.drain(..size)) {
            *to = from;
        }
        wire.taken.set(wire.taken.get() + size);
        Ok(size)
    }

    fn read_behind(&self, storage: &mut Vec<u8>) -> io::Result<usize> {
        let mut buffer = vec![0; storage.capacity() - storage.len()];
        let size = self.read(&mut buffer)?;
        storage.extend_from_slice(&buffer[..size]);
        Ok(size)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let wire = &*self.0;
        wire.check()?;
        assert!(!wire.shut.get(), "a write behind the end of writing");
        assert!(!bytes.is_empty(), "a write of nothing");
        let size = bytes.len().min(wire.room.get());
        if size == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.outgoing.borrow_mut().extend_from_slice(&bytes[..size]);
        if wire.room.get() != usize::MAX {
            wire.room.set(wire.room.get() - size);
        }
        Ok(size)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        assert!(!self.0.shut.replace(true), "writing is ended twice");
        Ok(())
    }

    fn finish_connect(&self) -> io::Result<Option<Address>> {
        self.local_address().map(Some)
    }

    fn take_error(&self) -> io::Result<()> {
        self.0.check()
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(SocketAddr::from(([192, 0, 2, 2], 9)).into())
    }

    /// As of TCP, but for a read that was cut.
    fn short_read_drains(&self) -> bool {
        self.0.piece.get() == usize::MAX
    }
}

impl Drop for WireEnd {
    fn drop(&mut self) {
        self.0.closed.set(true);
    }
}
