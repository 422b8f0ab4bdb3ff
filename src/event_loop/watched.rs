//! A descriptor of the user's, with the callbacks that wait for it.
//!
//! Owns: [`Watched`] and [`Direction`]. Why: the loop's table of descriptors names this type, and
//! what is done with it needs the loop, so it stands below both. Invariants: a direction is due
//! only while it has a callback; one that was replaced or removed is due no more. asyncio's
//! counterpart: a selector's key, with its pair of handles as data.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::event_loop::cells::Slot;
use crate::event_loop::ready::Entry;
use crate::sys::{Readiness, SourceId, Watch};

/// A callback that is called again and again; the slot is empty while it runs.
pub(super) type Repeated = Slot<Box<dyn FnMut()>>;

pub(crate) struct Watched {
    pub(super) id: SourceId,
    pub(super) fd: RawFd,
    pub(super) watch: Box<dyn Watch>,
    reader: Slot<Rc<Repeated>>,
    writer: Slot<Rc<Repeated>>,
    /// The directions whose callbacks are in the ready queue.
    due: Cell<Readiness>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    pub(super) fn readiness(self) -> Readiness {
        match self {
            Self::Read => Readiness::READ,
            Self::Write => Readiness::WRITE,
        }
    }

    /// What is queued for it.
    pub(super) fn entry(self) -> Entry {
        match self {
            Self::Read => Entry::Readable,
            Self::Write => Entry::Writable,
        }
    }

    pub(super) fn of(entry: Entry) -> Option<Self> {
        [Self::Read, Self::Write]
            .into_iter()
            .find(|direction| direction.entry() == entry)
    }
}

impl Watched {
    pub(super) fn new(id: SourceId, fd: RawFd, watch: Box<dyn Watch>) -> Self {
        Self {
            id,
            fd,
            watch,
            reader: Slot::default(),
            writer: Slot::default(),
            due: Cell::default(),
        }
    }

    /// The directions that have a callback.
    pub(super) fn wanted(&self) -> Readiness {
        Readiness::READ.when(self.reader.is_some()) | Readiness::WRITE.when(self.writer.is_some())
    }

    /// Gives the direction a callback and gives back the one that it had.
    #[must_use = "what was there is the user's: drop it where nothing is borrowed"]
    pub(super) fn put(&self, direction: Direction, callback: Rc<Repeated>) -> Option<Rc<Repeated>> {
        self.is_due_no_more(direction);
        self.slot(direction).put(callback)
    }

    /// Takes a direction's callback away.
    pub(super) fn take(&self, direction: Direction) -> Option<Rc<Repeated>> {
        self.is_due_no_more(direction);
        self.slot(direction).take()
    }

    /// The callback, if the direction was due. It is so no more.
    pub(super) fn next(&self, direction: Direction) -> Option<Rc<Repeated>> {
        self.is_due_no_more(direction)
            .then(|| self.slot(direction).get())
            .flatten()
    }

    /// Makes a direction due. False if nobody waits for it, or if it is due already.
    pub(super) fn make_due(&self, direction: Direction) -> bool {
        let (due, this) = (self.due.get(), direction.readiness());
        let news = self.slot(direction).is_some() && !due.says(this);
        self.due.set(due | this.when(news));
        news
    }

    /// Whether a callback of it is in the ready queue.
    pub(super) fn is_due(&self) -> bool {
        !self.due.get().is_empty()
    }

    /// Whether it was.
    fn is_due_no_more(&self, direction: Direction) -> bool {
        let due = self.due.get();
        self.due.set(due.without(direction.readiness()));
        due.says(direction.readiness())
    }

    fn slot(&self, direction: Direction) -> &Slot<Rc<Repeated>> {
        match direction {
            Direction::Read => &self.reader,
            Direction::Write => &self.writer,
        }
    }
}
