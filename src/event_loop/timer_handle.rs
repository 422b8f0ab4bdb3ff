//! The handle that cancels a timer.
//!
//! Owns: [`TimerHandle`]. Why: it has to find the timer in its loop, of which a plain handle knows
//! nothing. Invariants: cancelling frees the timer and the closure at once. asyncio's counterpart:
//! `asyncio.TimerHandle`.

use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use crate::event_loop::handle::Callback;
use crate::event_loop::state::WeakHandle;
use crate::sansio::timer_queue::TimerKey;

/// A callback scheduled with [`call_later`](crate::LoopHandle::call_later) or
/// [`call_at`](crate::LoopHandle::call_at).
///
/// Dropping the handle changes nothing; the callback runs all the same. Mirrors
/// `asyncio.TimerHandle`.
pub struct TimerHandle {
    callback: Rc<dyn Callback>,
    key: TimerKey,
    handle: WeakHandle,
}

impl TimerHandle {
    pub(crate) fn new(callback: Rc<dyn Callback>, key: TimerKey, handle: WeakHandle) -> Self {
        Self {
            callback,
            key,
            handle,
        }
    }

    /// Takes the callback back and drops it; its timer is gone at once. One that has run already
    /// has run.
    pub fn cancel(&self) {
        if let Some(handle) = self.handle.upgrade() {
            handle.disarm(self.key);
        }
        self.callback.cancel();
    }

    /// Whether [`cancel`](Self::cancel) was called, before the callback ran or after.
    pub fn cancelled(&self) -> bool {
        self.callback.cancelled()
    }

    /// When the callback is due, on the clock of [`time`](crate::LoopHandle::time).
    pub fn when(&self) -> Instant {
        self.key.when()
    }
}

impl fmt::Debug for TimerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerHandle")
            .field("when", &self.when())
            .field("cancelled", &self.cancelled())
            .finish_non_exhaustive()
    }
}
