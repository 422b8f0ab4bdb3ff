//! Callbacks that wait to run, and the handle that cancels one.
//!
//! Owns: [`Handle`]. Why: whoever schedules a callback must be able to take it back. Invariants:
//! a callback runs at most once; cancelling frees the closure at once. asyncio's counterpart:
//! `asyncio.Handle`.

use std::any::type_name;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::event_loop::cells::Slot;

/// A callback scheduled with [`call_soon`](crate::LoopHandle::call_soon).
///
/// Dropping the handle changes nothing; the callback runs all the same. Mirrors
/// `asyncio.Handle`.
pub struct Handle {
    callback: Rc<dyn Callback>,
}

impl Handle {
    pub(crate) fn new(callback: Rc<dyn Callback>) -> Self {
        Self { callback }
    }

    /// Takes the callback back and drops it; one that has run already has run.
    pub fn cancel(&self) {
        self.callback.cancel();
    }

    /// Whether [`cancel`](Self::cancel) was called, before the callback ran or after.
    pub fn cancelled(&self) -> bool {
        self.callback.cancelled()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("cancelled", &self.cancelled())
            .finish_non_exhaustive()
    }
}

/// A closure in the ready queue, of whatever type.
pub(crate) trait Callback {
    /// Runs the closure if it is still there. User code: through the door only.
    fn call(&self);
    fn cancel(&self);
    fn cancelled(&self) -> bool;
    /// The type of the closure: what it is called when it is slow.
    fn name(&self) -> &'static str;
}

/// The one allocation behind a scheduled closure and its handle.
pub(crate) struct Scheduled<F> {
    closure: Slot<F>,
    cancelled: Cell<bool>,
}

impl<F: FnOnce() + 'static> Scheduled<F> {
    pub(crate) fn callback(closure: F) -> Rc<dyn Callback> {
        Rc::new(Self {
            closure: Slot::new(Some(closure)),
            cancelled: Cell::new(false),
        })
    }
}

impl<F: FnOnce()> Callback for Scheduled<F> {
    fn call(&self) {
        if let Some(closure) = self.closure.take() {
            closure();
        }
    }

    fn cancel(&self) {
        self.cancelled.set(true);
        drop(self.closure.take());
    }

    fn cancelled(&self) -> bool {
        self.cancelled.get()
    }

    fn name(&self) -> &'static str {
        type_name::<F>()
    }
}
