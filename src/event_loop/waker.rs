//! Wakers: a task's way back into the ready queue.
//!
//! Owns: [`TaskWaker`], the data behind each task's `std::task::Waker`. Why: a waker must be Send
//! and Sync though the loop is neither, so it carries only an id; the future stays in the loop's
//! table. Invariants: on the loop's own thread a wake is one load, one store and one push; a wake
//! from elsewhere publishes what was written before it, and none is ever lost; a waker may
//! outlive its task and its loop. asyncio's counterpart: `Task.__wakeup`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use crate::event_loop::ready::{Ready, TaskId};
use crate::event_loop::remote::{Message, Remote};
use crate::event_loop::running;

pub(crate) struct TaskWaker {
    id: TaskId,
    loop_number: u64,
    /// The task is in a queue and has not been polled since.
    queued: AtomicBool,
    remote: Arc<Remote>,
}

impl TaskWaker {
    pub(crate) fn new(id: TaskId, loop_number: u64, remote: &Arc<Remote>) -> Arc<Self> {
        Arc::new(Self {
            id,
            loop_number,
            queued: AtomicBool::new(true),
            remote: Arc::clone(remote),
        })
    }

    /// The task is about to be polled. A read-modify-write on purpose: it acquires what the wake
    /// that found the flag set has written, which a plain store would miss.
    pub(crate) fn clear(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if running::is_current(self.loop_number) {
            // A remote wake may set the flag between these two; it has then sent a message of
            // its own, and the worst that follows is one poll too many.
            if !self.queued.load(Ordering::Relaxed) {
                self.queued.store(true, Ordering::Relaxed);
                running::push(Ready::Task(self.id));
            }
        } else if !self.queued.swap(true, Ordering::AcqRel) {
            // A closed loop has no tasks left to wake.
            let _ = self.remote.push(Message::Wake(self.id));
        }
    }
}
