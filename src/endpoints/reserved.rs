//! A place in the loop's table that is not kept yet.
//!
//! Owns: [`Reserved`]. Why: an id is made before its socket, and the attempt may fail or be
//! dropped. Invariants: a place that nobody keeps is given back. asyncio's counterpart: none, its
//! key is the descriptor.

use crate::event_loop::{LoopHandle, WeakHandle};
use crate::sys::SourceId;

pub(crate) struct Reserved {
    handle: WeakHandle,
    id: SourceId,
    kept: bool,
}

impl Reserved {
    pub(crate) fn new(handle: &LoopHandle) -> Self {
        Self {
            handle: handle.downgrade(),
            id: handle.reserve(),
            kept: false,
        }
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    /// The place goes over to whoever is put into it.
    pub(crate) fn keep(mut self) -> SourceId {
        self.kept = true;
        self.id
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(handle) = self.handle.upgrade() {
            drop(handle.remove(self.id));
            handle.descriptor_freed();
        }
    }
}
