//! What the loop is to do next, for those who have something for it to do.
//!
//! Owns: [`Agenda`]: the ready queue, the lists of sources to settle and to visit, the spare
//! storage, the buffer for all reads. Why: sources and wakers put their entries here without
//! reaching into the loop: it is plain data, so it may be held by whoever outlives the loop.
//! Invariants: closed means that nothing comes in any more, and the loop's end takes out what was
//! in it. asyncio's counterpart: `BaseEventLoop._ready`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry as MapEntry};
use std::task::Waker;
use std::time::Instant;

use crate::event_loop::cells::{Queue, Scratch, Shared};
use crate::event_loop::ready::{Entry, Ready};
use crate::event_loop::spares::Spares;
use crate::sys::{Readiness, SourceId};

pub(crate) struct Agenda {
    /// Tells this loop from every other of the process.
    pub(super) number: u64,
    pub(super) closed: Cell<bool>,
    /// The clock as it stood when this turn's poll returned.
    pub(super) now: Cell<Instant>,
    /// A step (callback, protocol method, poll of a task) is on the stack.
    pub(super) stepping: Cell<bool>,
    pub(super) ready: Queue<Ready>,
    /// Sources that the running step has written to. Most steps write to one.
    first_note: Cell<Option<SourceId>>,
    more_notes: Queue<SourceId>,
    /// Sources that stopped early, or whose reading was resumed; each once, however often it
    /// asked, so that one that asks often gets no more than the others.
    visits: Shared<Visits>,
    /// Who sends a file through which source, and waits for room. So few do that no source has a
    /// place of its own for it.
    file_senders: Shared<BTreeMap<SourceId, Waker>>,
    pub(super) spares: Spares,
    /// How many bytes streams have put aside in this turn, for readers that have not run yet.
    pub(super) taken_in: Cell<usize>,
    /// One large buffer for all reads: an idle connection holds none.
    pub(super) received: Scratch,
}

#[derive(Default)]
struct Visits {
    order: VecDeque<SourceId>,
    /// With what they are told, if they are told something.
    members: BTreeMap<SourceId, Option<Readiness>>,
}

impl Agenda {
    pub(super) fn new(number: u64, now: Instant) -> Self {
        Self {
            number,
            now: Cell::new(now),
            closed: Cell::new(false),
            stepping: Cell::new(false),
            ready: Queue::new(),
            first_note: Cell::new(None),
            more_notes: Queue::new(),
            visits: Shared::default(),
            file_senders: Shared::default(),
            spares: Spares::new(),
            taken_in: Cell::new(0),
            received: Scratch::new(),
        }
    }

    /// Appends an entry of a source to the ready queue.
    pub(crate) fn enqueue(&self, id: SourceId, entry: Entry) {
        if !self.closed.get() {
            self.ready.push(Ready::Source(id, entry));
        }
    }

    /// Has the source served in the next turn though no event may come.
    pub(crate) fn visit(&self, id: SourceId) {
        self.add_visit(id, None);
    }

    /// The same for a source that no poller knows, with what an event would say.
    pub(crate) fn tell(&self, id: SourceId, readiness: Readiness) {
        self.add_visit(id, Some(readiness));
    }

    fn add_visit(&self, id: SourceId, told: Option<Readiness>) {
        if self.closed.get() {
            return;
        }
        self.visits.with(|visits| match visits.members.entry(id) {
            MapEntry::Vacant(place) => {
                place.insert(told);
                visits.order.push_back(id);
            }
            MapEntry::Occupied(mut place) => {
                if let Some(told) = told {
                    let before = place.get().unwrap_or_default();
                    place.insert(Some(before | told));
                }
            }
        });
    }

    /// Whether the source is to be visited.
    pub(crate) fn is_to_be_visited(&self, id: SourceId) -> bool {
        self.visits.with(|visits| visits.members.contains_key(&id))
    }

    pub(super) fn has_visits(&self) -> bool {
        self.visits() > 0
    }

    /// How many are to be visited.
    pub(super) fn visits(&self) -> usize {
        self.visits.with(|visits| visits.order.len())
    }

    /// Who has waited longest for a visit, and what it is told.
    pub(super) fn next_visit(&self) -> Option<(SourceId, Option<Readiness>)> {
        self.visits.with(|visits| {
            let id = visits.order.pop_front()?;
            let told = visits.members.remove(&id).flatten();
            Some((id, told))
        })
    }

    /// Has `waker` woken when there may be room to send a file through this source.
    pub(crate) fn await_room(&self, id: SourceId, waker: &Waker) {
        let waker = waker.clone();
        drop(self.file_senders.with(|senders| senders.insert(id, waker)));
    }

    /// Wakes who waits for room there.
    pub(crate) fn tell_of_room(&self, id: SourceId) {
        if let Some(waker) = self.file_senders.with(|senders| senders.remove(&id)) {
            waker.wake();
        }
    }

    /// Nobody waits for room there any more.
    pub(crate) fn forget_room(&self, id: SourceId) {
        drop(self.file_senders.with(|senders| senders.remove(&id)));
    }

    /// Has the source settle when the running step ends.
    #[inline]
    pub(super) fn note(&self, id: SourceId) {
        if self.first_note.get().is_none() && self.more_notes.is_empty() {
            self.first_note.set(Some(id));
        } else {
            self.more_notes.push(id);
        }
    }

    pub(super) fn has_notes(&self) -> bool {
        self.first_note.get().is_some() || !self.more_notes.is_empty()
    }

    /// The source that is to settle next.
    #[inline]
    pub(super) fn next_note(&self) -> Option<SourceId> {
        self.first_note.take().or_else(|| self.more_notes.pop())
    }

    /// Whether the loop has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The clock as it stood when this turn's poll returned.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Storage for bytes between two uses.
    pub(crate) fn spares(&self) -> &Spares {
        &self.spares
    }

    /// A stream has put so many bytes aside.
    pub(crate) fn take_in(&self, bytes: usize) {
        self.taken_in.set(self.taken_in.get().saturating_add(bytes));
    }

    /// Something has taken as long as a turn of taking in.
    #[cfg_attr(
        not(feature = "tls"),
        allow(dead_code, reason = "only a handshake takes long")
    )]
    pub(crate) fn take_in_no_more(&self) {
        self.taken_in.set(usize::MAX);
    }

    /// What the running step was told of, if it is a receive.
    pub(crate) fn received(&self) -> &Scratch {
        &self.received
    }
}
