//! What the wake path is made of: atomics, a lock and thread-locals.
//!
//! Owns: these names, and what stands behind them. Why: they are std's, and in the tests of a build
//! with `--cfg loom` they are loom's, which walks through every order in which threads may meet, so
//! that the code which is checked is the code that runs. Invariants: whatever of the loop another
//! thread may touch comes from here. asyncio's counterpart: none, the interpreter's lock.

#[cfg(not(all(test, loom)))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, fence};
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::{Mutex, MutexGuard};
#[cfg(not(all(test, loom)))]
pub(super) use std::thread_local;

#[cfg(all(test, loom))]
pub(super) use self::checked::{AtomicBool, thread_local};
#[cfg(all(test, loom))]
pub(super) use loom::sync::atomic::{AtomicU64, fence};
#[cfg(all(test, loom))]
pub(super) use loom::sync::{Mutex, MutexGuard};

#[cfg(all(test, loom))]
pub(super) mod checked {
    use std::cell::Cell;
    use std::panic::Location;
    use std::sync::atomic::Ordering;

    /// A fault that is built in on purpose: a check that finds none of them checks nothing.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::event_loop) enum Fault {
        /// A flag is taken back by a load and a store, in the file of this name.
        TakenBackByStore(&'static str),
        /// A flag changes without publishing or acquiring anything, in the file of this name.
        Unordered(&'static str),
    }

    // std's, and not loom's: all threads of a model are coroutines of one.
    std::thread_local! {
        static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// All swaps of this thread's models have this fault from now on.
    pub(in crate::event_loop) fn build_in(fault: Fault) {
        FAULT.set(Some(fault));
    }

    /// loom's flag, with a fault if there is to be one.
    #[derive(Debug)]
    pub(in crate::event_loop) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(in crate::event_loop) fn new(value: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(value))
        }

        pub(in crate::event_loop) fn load(&self, ordering: Ordering) -> bool {
            self.0.load(ordering)
        }

        pub(in crate::event_loop) fn store(&self, value: bool, ordering: Ordering) {
            self.0.store(value, ordering);
        }

        #[track_caller]
        pub(in crate::event_loop) fn swap(&self, value: bool, ordering: Ordering) -> bool {
            let file = Location::caller().file();
            match FAULT.get() {
                Some(Fault::TakenBackByStore(name)) if !value && file.ends_with(name) => {
                    let old = self.0.load(Ordering::Acquire);
                    self.0.store(value, Ordering::Release);
                    old
                }
                Some(Fault::Unordered(name)) if file.ends_with(name) => {
                    self.0.swap(value, Ordering::Relaxed)
                }
                _ => self.0.swap(value, ordering),
            }
        }
    }

    /// loom's, which knows no constants.
    macro_rules! per_thread {
        ($($(#[$doc:meta])* static $name:ident: $type:ty = const { $value:expr };)*) => {
            $(loom::thread_local! { $(#[$doc])* static $name: $type = $value; })*
        };
    }
    pub(in crate::event_loop) use per_thread as thread_local;
}
