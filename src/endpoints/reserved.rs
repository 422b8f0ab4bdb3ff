//! A place in the loop's table that is not kept yet.
//!
//! Owns: [`Reserved`]. Why: an id is made before its socket, and the attempt may fail or be
//! dropped. Invariants: a place that nobody keeps is given back; whoever waits for a descriptor is told
//! only if there was one. asyncio's counterpart: none, its
//! key is the descriptor.

use crate::event_loop::{LoopHandle, WeakHandle};
use crate::sys::SourceId;

pub(crate) struct Reserved {
    handle: WeakHandle,
    id: SourceId,
    kept: bool,
    has_socket: bool,
}

impl Reserved {
    pub(crate) fn new(handle: &LoopHandle) -> Self {
        Self {
            handle: handle.downgrade(),
            id: handle.reserve(),
            kept: false,
            has_socket: false,
        }
    }

    /// A socket belongs to it from now on, which is closed if nobody keeps the place.
    pub(crate) fn has_socket(&mut self) {
        self.has_socket = true;
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
            if self.has_socket {
                handle.descriptor_freed();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::event_loop::{Entry, EventLoop, Progress, Source};
    use crate::sys::Readiness;

    /// Counts its visits.
    #[derive(Default)]
    struct Starving(Cell<usize>);

    impl Source for Starving {
        fn serve(self: Rc<Self>, _: &LoopHandle, _: Option<Readiness>) -> Progress {
            self.0.set(self.0.get() + 1);
            Progress::Done
        }

        fn run(self: Rc<Self>, _: &LoopHandle, _: Entry) {}

        fn settle(self: Rc<Self>, _: &LoopHandle) {}

        fn abandon(self: Rc<Self>) {}
    }

    #[test]
    fn who_waits_for_a_descriptor_is_visited_when_one_was_closed_and_not_before() {
        let mut event_loop = EventLoop::new().unwrap();
        let (id, starving) = (event_loop.reserve(), Rc::new(Starving::default()));
        event_loop.insert(id, Rc::clone(&starving) as Rc<dyn Source>);
        event_loop.starve(id);
        for (has_socket, visits) in [(false, 0), (true, 1)] {
            let mut place = Reserved::new(&event_loop);
            if has_socket {
                place.has_socket();
            }
            drop(place);
            event_loop.stop();
            event_loop.run_forever();
            assert_eq!(starving.0.get(), visits);
        }
    }
}
