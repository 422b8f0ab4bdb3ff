//! Wakers: a task's way back into the ready queue.
//!
//! Owns: [`TaskWaker`], the data behind each task's `std::task::Waker`, and [`OwnWaker`], the pair
//! of them that a task keeps. Why: a waker must be Send and Sync though the loop is neither, so it
//! carries only an id; the future stays in the loop's table. Invariants: on the loop's own thread a
//! wake is one load, one store and one push, and that thread's flag is its own; a wake from
//! elsewhere publishes what was written before it, and none is ever lost, since the flag between
//! threads is changed by read-modify-writes alone; a waker may outlive its task and its loop, and
//! only one that nobody else holds serves another task. asyncio's counterpart: `Task.__wakeup`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};

use crate::event_loop::ready::{Ready, TaskId};
use crate::event_loop::remote::{Message, Remote};
use crate::event_loop::running;
use crate::event_loop::sync::{AtomicBool, AtomicU64, fence};

pub(crate) struct TaskWaker {
    /// Changes only while nobody but the loop holds this.
    id: AtomicU64,
    /// The task is in the loop's queue and has not been polled since. Only the loop's own thread
    /// looks at it.
    queued: AtomicBool,
    /// A message says that it is to be polled, or was about to when it was.
    called: AtomicBool,
    remote: Arc<Remote>,
}

impl TaskWaker {
    fn new(id: TaskId, remote: &Arc<Remote>) -> Arc<Self> {
        Arc::new(Self {
            id: AtomicU64::new(id.0),
            queued: AtomicBool::new(true),
            called: AtomicBool::new(false),
            remote: Arc::clone(remote),
        })
    }

    /// The task is about to be polled.
    ///
    /// A call that is not seen here has its message still to come. One that is seen is taken back
    /// by a read-modify-write: it acquires what all those have written who found the flag set and
    /// sent no message of their own, which a plain store would miss.
    pub(crate) fn clear(&self) {
        self.queued.store(false, Ordering::Relaxed);
        if self.called.load(Ordering::Relaxed) {
            self.called.swap(false, Ordering::AcqRel);
        }
    }

    fn id(&self) -> TaskId {
        TaskId(self.id.load(Ordering::Relaxed))
    }
}

/// What a task keeps for life: its waker, and the data behind it.
pub(crate) struct OwnWaker {
    pub(crate) waker: Waker,
    pub(crate) flags: Arc<TaskWaker>,
}

impl OwnWaker {
    pub(crate) fn new(id: TaskId, remote: &Arc<Remote>) -> Self {
        let flags = TaskWaker::new(id, remote);
        let waker = Waker::from(Arc::clone(&flags));
        Self { waker, flags }
    }

    /// Whether nobody else has a clone, so that it may serve another task: spawning is cheaper by
    /// an allocation then.
    pub(crate) fn is_free(&self) -> bool {
        let free = Arc::strong_count(&self.flags) == 2;
        // Whatever another thread did with its clone was before it let go of it.
        fence(Ordering::Acquire);
        free
    }

    /// Serves another task from now on, which is in the queue already.
    pub(crate) fn serve(&self, id: TaskId) {
        self.flags.id.store(id.0, Ordering::Relaxed);
        self.flags.queued.store(true, Ordering::Relaxed);
        self.flags.called.store(false, Ordering::Relaxed);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if running::is_current(self.remote.loop_number()) {
            if !self.queued.load(Ordering::Relaxed) {
                self.queued.store(true, Ordering::Relaxed);
                running::push(Ready::Task(self.id()));
            }
        } else if !self.called.swap(true, Ordering::AcqRel) {
            // A closed loop has no tasks left to wake.
            let _ = self.remote.push(Message::Wake(self.id()));
        }
    }
}
