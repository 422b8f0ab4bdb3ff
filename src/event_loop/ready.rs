//! What waits to run.
//!
//! Owns: the entries of the ready queue and the name of a task. Why: plain data at the bottom of
//! this floor, so that wakers, callbacks and sources can queue themselves without knowing the
//! loop. Invariants: an id that is stale when its turn comes finds nothing. asyncio's
//! counterpart: `BaseEventLoop._ready`.

use std::rc::Rc;

use crate::event_loop::handle::Callback;
use crate::sys::SourceId;

pub(crate) enum Ready {
    /// A task was woken.
    Task(TaskId),
    /// A callback was scheduled.
    Call(Rc<dyn Callback>),
    /// A callback came from another thread.
    Remote(Box<dyn FnOnce() + Send>),
    /// A source queued something of its own.
    Source(SourceId, Entry),
}

/// What a source may queue, for its protocol or callback to be told at the top of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is there: `connection_made`.
    Made,
    /// It may receive from now on.
    Begin,
    /// Its write buffer crossed a mark: `pause_writing` or `resume_writing`.
    Flow,
    /// It is over: `connection_lost`.
    Lost,
    /// Its timer has fired.
    Deadline,
    /// A watched descriptor may be read, or written: its callback.
    Readable,
    Writable,
}

/// Names a task in its loop's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId(pub(crate) u64);

impl TaskId {
    /// The future that `run_until_complete` drives, which is in no table.
    pub(crate) const ROOT: Self = Self(u64::MAX);
}
