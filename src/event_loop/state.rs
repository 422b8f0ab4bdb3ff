//! What a loop is made of, and the two kinds of arrow that point at it.
//!
//! Owns: the loop's fields, [`LoopHandle`], its weak twin, and the [`Source`] through which the
//! loop reaches the floors above without knowing them. Why: these types name one another, so they
//! share a file; what they do stands in the files around it. Invariants: fields are private to
//! this folder; only a `LoopHandle` is a strong arrow, the floors above hold weak ones; the loop's
//! end empties every field. asyncio's counterpart: `BaseEventLoop.__init__`, and the running
//! loop's thread-local.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Instant;

use crate::event_loop::agenda::Agenda;
use crate::event_loop::cells::{Shared, Slot, Table};
use crate::event_loop::door::ExceptionContext;
use crate::event_loop::handle::Callback;
use crate::event_loop::metrics::{Counters, Stopwatch};
use crate::event_loop::ready::Entry;
use crate::event_loop::remote::{Message, Remote};
use crate::event_loop::running::{self, NoRunningLoop, Running};
use crate::event_loop::services::Services;
use crate::event_loop::waker::OwnWaker;
use crate::event_loop::watched::Watched;
use crate::sansio::timer_queue::TimerQueue;
use crate::sys::{Driver, Event, Readiness, SourceId};

/// A handle on an event loop, for use on the loop's own thread. Mirrors asyncio's event loop
/// object, but for running and closing, which are [`EventLoop`](crate::EventLoop)'s.
///
/// Cheap to clone. Neither `Send` nor `Sync`: another thread uses a
/// [`ThreadsafeHandle`](crate::ThreadsafeHandle).
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<evloop::LoopHandle>();
/// ```
///
/// ```compile_fail
/// fn sync<T: Sync>() {}
/// sync::<evloop::LoopHandle>();
/// ```
#[derive(Clone)]
pub struct LoopHandle {
    pub(super) inner: Rc<LoopInner>,
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopHandle")
            .field("running", &self.is_running())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// A handle that does not keep the loop's inside alive, only its agenda: what the floors above
/// hold.
#[derive(Clone)]
pub(crate) struct WeakHandle {
    inner: Weak<LoopInner>,
    agenda: Rc<Agenda>,
}

impl WeakHandle {
    pub(super) fn of(handle: &LoopHandle) -> Self {
        Self {
            inner: Rc::downgrade(&handle.inner),
            agenda: Rc::clone(&handle.inner.agenda),
        }
    }

    /// The handle, unless the loop has ended.
    pub(crate) fn upgrade(&self) -> Option<LoopHandle> {
        let handle = LoopHandle {
            inner: self.inner.upgrade()?,
        };
        (!handle.is_closed()).then_some(handle)
    }

    pub(crate) fn number(&self) -> u64 {
        self.agenda.number
    }

    pub(crate) fn agenda(&self) -> &Agenda {
        &self.agenda
    }
}

impl fmt::Debug for WeakHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakHandle").finish_non_exhaustive()
    }
}

/// The loop that runs this thread's current callback or task.
///
/// Mirrors `asyncio.get_running_loop()`, and asyncio's `loop=` arguments: a future or builder of
/// ours belongs to the loop that polls it first.
///
/// # Errors
///
/// [`NoRunningLoop`] outside a callback or task.
///
/// ```
/// assert!(evloop::get_running_loop().is_err());
/// evloop::run(async {
///     assert!(evloop::get_running_loop().is_ok());
/// })
/// .unwrap();
/// ```
pub fn get_running_loop() -> Result<LoopHandle, NoRunningLoop> {
    let current = CURRENT.try_with(Slot::get);
    current.ok().flatten().ok_or(NoRunningLoop)
}

/// The running loop, which has to be the one of this number (0: any).
pub(crate) fn loop_of(number: u64) -> Result<LoopHandle, NoRunningLoop> {
    running::at_home(number)?;
    get_running_loop()
}

/// Makes `handle` the running loop of this thread until the guard goes. A loop that is kept in a
/// thread-local may be dropped after ours is gone: then it ends without being the running one.
pub(super) fn enter(handle: &LoopHandle) -> Current {
    let outer = CURRENT.try_with(|current| current.put(handle.clone()));
    Current {
        _running: running::enter(&handle.inner.agenda),
        outer: outer.ok().flatten(),
    }
}

/// Restores what ran before.
pub(super) struct Current {
    _running: Running,
    outer: Option<LoopHandle>,
}

impl Drop for Current {
    fn drop(&mut self) {
        // Without the thread-local there is nothing to restore.
        let _ = CURRENT.try_with(|current| match self.outer.take() {
            Some(outer) => drop(current.put(outer)),
            None => drop(current.take()),
        });
    }
}

/// Something with an entry in the loop's table of sources.
pub(crate) trait Source {
    /// Notes what an event said (`None`: visited again, or a retry), then serves at once: read
    /// side before write side, and a bounded amount of each.
    fn serve(self: Rc<Self>, handle: &LoopHandle, event: Option<Readiness>) -> Progress;

    /// Its own entry in the ready queue has its turn.
    fn run(self: Rc<Self>, handle: &LoopHandle, entry: Entry);

    /// The step that left a note has ended: what it wrote is sent, what it caused is told.
    fn settle(self: Rc<Self>, handle: &LoopHandle);

    /// The descriptor that is its own: nobody else may watch it.
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    /// Who it is, for whoever tries.
    fn describe(&self) -> String {
        "the event loop".to_owned()
    }

    /// The loop goes: one attempt at what is unsent, and what is the user's is dropped. No
    /// callback.
    fn abandon(self: Rc<Self>);
}

/// How far a source got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The system said that it would block, or there is nothing to do: the next event tells.
    Done,
    /// It stopped early, for fairness. No event will say so: it is visited in the next turn.
    Again,
}

/// Everything of a loop. Shared by its owner and its handles; the loop's end empties it.
pub(crate) struct LoopInner {
    pub(super) agenda: Rc<Agenda>,
    /// `None` once the loop is closed.
    pub(super) driver: Shared<Option<Box<dyn Driver>>>,
    pub(super) timers: Shared<TimerQueue<Timer>>,
    pub(super) sources: Table<Rc<dyn Source>>,
    /// What `add_reader` and `add_writer` watch: the one table whose key is a descriptor.
    pub(super) watched: Shared<BTreeMap<RawFd, Rc<Watched>>>,
    /// At each number the source that had the descriptor last; it is asked whether it still has.
    pub(super) holders: Shared<Vec<SourceId>>,
    pub(super) has_holders: Cell<bool>,
    /// Listeners that wait for a descriptor.
    pub(super) starved: Shared<BTreeSet<SourceId>>,
    pub(super) tasks: Table<Job>,
    /// Wakers of tasks that are over, for those to come.
    pub(super) wakers: Shared<Vec<OwnWaker>>,
    pub(super) remote: Arc<Remote>,
    pub(super) signals: Shared<BTreeMap<i32, Rc<SignalHandler>>>,
    pub(super) exception_handler: Slot<Rc<ExceptionHandler>>,
    pub(super) services: Services,
    /// Kept, as is the next one, so that a turn does not allocate.
    pub(super) events: Slot<Vec<Event>>,
    pub(super) messages: Slot<Vec<Message>>,
    /// How many entries of the ready queue have run since the last poll.
    pub(super) since_poll: Cell<usize>,
    /// When that was, and after how many entries the clock is to be read again.
    pub(super) polled: Cell<Instant>,
    pub(super) next_look: Cell<usize>,
    pub(super) counters: Counters,
    pub(super) stopwatch: Stopwatch,
    pub(super) stopping: Cell<bool>,
}

pub(crate) type ExceptionHandler = dyn Fn(&LoopHandle, &ExceptionContext);
pub(crate) type SignalHandler = Slot<Box<dyn FnMut()>>;

pub(crate) enum Timer {
    Call(Rc<dyn Callback>),
    Wake(Waker),
    /// An entry of a source.
    Entry(SourceId, Entry),
}

/// What a task does, and what it is called when it is slow.
pub(crate) trait TaskFuture: Future<Output = ()> {
    /// The type of the user's future.
    fn name(&self) -> &'static str;
}

/// A task's future with the waker that it keeps for life.
pub(crate) struct Job {
    pub(super) future: Pin<Box<dyn TaskFuture>>,
    pub(super) own: OwnWaker,
}

impl LoopInner {
    pub(super) fn new(driver: Box<dyn Driver>) -> Self {
        let now = driver.now();
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let remote = Arc::new(Remote::new(number, driver.waker()));
        Self {
            agenda: Rc::new(Agenda::new(number, now)),
            driver: Shared::new(Some(driver)),
            timers: Shared::new(TimerQueue::default()),
            sources: Table::new(),
            watched: Shared::default(),
            holders: Shared::default(),
            has_holders: Cell::new(false),
            starved: Shared::default(),
            tasks: Table::new(),
            wakers: Shared::default(),
            remote,
            signals: Shared::default(),
            exception_handler: Slot::new(None),
            services: Services::default(),
            events: Slot::new(Some(Vec::new())),
            messages: Slot::new(None),
            since_poll: Cell::new(0),
            polled: Cell::new(now),
            next_look: Cell::new(1),
            counters: Counters::default(),
            stopwatch: Stopwatch::new(now),
            stopping: Cell::new(false),
        }
    }
}

/// 0 means that no loop runs.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

// A loop in a thread-local of the user's may end after this one is gone: hence `try_with`.
thread_local! {
    static CURRENT: Slot<LoopHandle> = const { Slot::new(None) };
}
