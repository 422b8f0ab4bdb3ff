//! What a loop asks for beside events: somebody who does what blocks, and somebody who knows names.
//!
//! Owns: [`Executor`], and the place where a loop keeps its own ones. Why: both can be replaced for
//! one loop, from the floors above, and only the loop lives long enough to keep them. Invariants:
//! what is kept here is called with nothing borrowed; the loop's end drops it. asyncio's
//! counterpart: `BaseEventLoop._default_executor`.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::event_loop::cells::Slot;
use crate::sys::Resolver;

/// Does what would block the loop's thread: see
/// [`LoopHandle::set_default_executor`](crate::LoopHandle::set_default_executor). Mirrors
/// `concurrent.futures.Executor`.
///
/// ```
/// use evloop::{Executor, get_running_loop};
///
/// /// A thread for each job.
/// struct Threads;
///
/// impl Executor for Threads {
///     fn execute(&self, job: Box<dyn FnOnce() + Send>) {
///         std::thread::spawn(job);
///     }
/// }
///
/// evloop::run(async {
///     let handle = get_running_loop().unwrap();
///     handle.set_default_executor(Threads);
///     assert_eq!(handle.run_in_executor(|| 6 * 7).await.unwrap(), 42);
/// })
/// .unwrap();
/// ```
pub trait Executor {
    /// Has `job` run, soon and on another thread. It is called on the loop's thread and must not
    /// block. A job does not panic; one that is dropped is reported to whoever waits for it.
    fn execute(&self, job: Box<dyn FnOnce() + Send>);
}

/// What stands in for the driver's own threads and for the system's resolver.
#[derive(Default)]
pub(crate) struct Services {
    pub(crate) executor: Slot<Rc<dyn Executor>>,
    pub(crate) resolver: Slot<Rc<dyn Resolver>>,
    /// `shutdown_default_executor` was called.
    pub(crate) shut_down: Cell<bool>,
    pub(crate) jobs: Arc<Jobs>,
}

/// How many jobs of a loop are on their way, for whoever waits for the last of them.
#[derive(Default)]
pub(crate) struct Jobs(Mutex<Count>);

#[derive(Default)]
struct Count {
    under_way: usize,
    /// Of those who wait, each once, until the last job is done.
    waiting: Vec<Waker>,
}

impl Jobs {
    /// One more, until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Begun {
        self.lock().under_way += 1;
        Begun(Arc::clone(self))
    }

    pub(crate) fn under_way(&self) -> usize {
        self.lock().under_way
    }

    /// Ready when none is on its way.
    pub(crate) fn poll_done(&self, waker: &Waker) -> Poll<()> {
        // A clone is the user's code: not under the lock.
        let waker = waker.clone();
        let mut count = self.lock();
        if count.under_way == 0 {
            return Poll::Ready(());
        }
        if !count.waiting.iter().any(|known| known.will_wake(&waker)) {
            count.waiting.push(waker);
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that is on its way.
pub(crate) struct Begun(Arc<Jobs>);

impl Drop for Begun {
    fn drop(&mut self) {
        let waiting = {
            let mut count = self.0.lock();
            count.under_way -= 1;
            match count.under_way {
                0 => std::mem::take(&mut count.waiting),
                _ => Vec::new(),
            }
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
