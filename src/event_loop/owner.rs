//! The owner of a loop: who may run it, and what happens when it ends.
//!
//! Owns: [`EventLoop`]. Why: running and closing need exclusive access, which Rust can check.
//! Invariants: one loop at a time runs on a thread; the root future is pinned on the caller's
//! stack, so it may borrow locals; when the loop ends, everything it holds is taken out and
//! dropped with nothing borrowed. asyncio's counterpart: `run_forever`, `run_until_complete` and
//! `close`.

use std::any::Any;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::mem;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::event_loop::ready::TaskId;
use crate::event_loop::running;
use crate::event_loop::state::{self, LoopHandle, LoopInner};
use crate::event_loop::waker::OwnWaker;
use crate::sansio::timer_queue::TimerQueue;
use crate::sys::{Driver, MioDriver, SourceId};

/// An event loop. Mirrors asyncio's event loop object, of which it is the part that runs and
/// closes; the rest are the methods of [`LoopHandle`], to which it dereferences.
///
/// Dropping it closes it.
///
/// ```
/// use std::time::Duration;
///
/// use evloop::{EventLoop, sleep};
///
/// let mut event_loop = EventLoop::new()?;
/// let answer = event_loop.run_until_complete(async {
///     sleep(Duration::from_millis(1)).await.unwrap();
///     42
/// });
/// assert_eq!(answer, 42);
/// event_loop.close();
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Running takes the loop for itself, so to run it once more from inside does not compile:
///
/// ```compile_fail,E0499
/// # fn again(mut event_loop: evloop::EventLoop) {
/// event_loop.run_until_complete(async { event_loop.run_forever() });
/// # }
/// ```
pub struct EventLoop {
    handle: LoopHandle,
}

impl EventLoop {
    /// Makes a loop on the system's poller. Mirrors `asyncio.new_event_loop`.
    ///
    /// # Errors
    ///
    /// The system's, when it has no descriptor to give.
    pub fn new() -> io::Result<Self> {
        Ok(Self::with_driver(Box::new(MioDriver::new()?)))
    }

    pub(crate) fn with_driver(driver: Box<dyn Driver>) -> Self {
        Self {
            handle: LoopHandle {
                inner: Rc::new(LoopInner::new(driver)),
            },
        }
    }

    /// A handle on this loop.
    pub fn handle(&self) -> LoopHandle {
        self.handle.clone()
    }

    /// Runs until `future` (a future, one of our builders, or a [`Task`](crate::Task)) is
    /// complete, and gives its output. The future may borrow from the caller.
    ///
    /// Mirrors `loop.run_until_complete`.
    ///
    /// # Panics
    ///
    /// If a loop is running on this thread, and if [`stop`](LoopHandle::stop) is called before
    /// the future is complete: [`try_run_until_complete`](Self::try_run_until_complete) returns
    /// the latter as an error. A panic of the future passes through, and the loop stays usable.
    #[track_caller]
    pub fn run_until_complete<F: IntoFuture>(&mut self, future: F) -> F::Output {
        match self.try_run_until_complete(future) {
            Ok(output) => output,
            Err(stopped) => panic!("{stopped}"),
        }
    }

    /// [`run_until_complete`](Self::run_until_complete) for those who call
    /// [`stop`](LoopHandle::stop) as well.
    ///
    /// # Errors
    ///
    /// [`LoopStopped`] if the loop was stopped before the future was complete. The future is
    /// dropped.
    ///
    /// # Panics
    ///
    /// If a loop is running on this thread. A panic of the future passes through, and the loop
    /// stays usable.
    #[track_caller]
    pub fn try_run_until_complete<F: IntoFuture>(
        &mut self,
        future: F,
    ) -> Result<F::Output, LoopStopped> {
        self.complete(future, LoopHandle::run_turns)
    }

    /// Runs with `run`, which has turns made, each with what it is given, until the loop is stopped.
    #[track_caller]
    pub(crate) fn complete<F: IntoFuture>(
        &mut self,
        future: F,
        run: impl FnOnce(&LoopHandle, &mut dyn FnMut()),
    ) -> Result<F::Output, LoopStopped> {
        assert_nothing_runs();
        let _running = state::enter(&self.handle);
        let mut outcome: Option<Result<F::Output, Box<dyn Any + Send>>> = None;
        let dropped = {
            let handle = &self.handle;
            let mut future = pin!(Some(future.into_future()));
            let own = OwnWaker::new(TaskId::ROOT, &handle.inner.remote);
            let mut root = || {
                if outcome.is_some() {
                    return;
                }
                own.flags.clear();
                let mut cx = Context::from_waker(&own.waker);
                let Some(future) = future.as_mut().as_pin_mut() else {
                    return;
                };
                match handle.enter(|| future.poll(&mut cx)) {
                    Ok(Poll::Pending) => return,
                    Ok(Poll::Ready(output)) => outcome = Some(Ok(output)),
                    Err(payload) => outcome = Some(Err(payload)),
                }
                handle.stop();
            };
            handle.push_task(TaskId::ROOT);
            run(handle, &mut root);
            // Its destructor is user code as well.
            handle.enter(|| future.set(None))
        };
        match (outcome, dropped) {
            (Some(Err(payload)), _) | (_, Err(payload)) => resume_unwind(payload),
            (Some(Ok(output)), Ok(())) => Ok(output),
            (None, Ok(())) => Err(LoopStopped),
        }
    }

    /// Runs until [`stop`](LoopHandle::stop) is called. Mirrors `loop.run_forever`.
    ///
    /// # Panics
    ///
    /// If a loop is running on this thread.
    #[track_caller]
    pub fn run_forever(&mut self) {
        assert_nothing_runs();
        let _running = state::enter(&self.handle);
        self.handle.run_turns(&mut || {});
    }

    /// Ends the loop: tasks, callbacks, timers and connections are dropped, after one attempt to
    /// send what was written and not yet sent; no callback runs any more. Signals have their
    /// previous disposition again. What
    /// [`run_in_executor`](LoopHandle::run_in_executor) has not begun is dropped, and what runs is
    /// not waited for. Dropping the loop does the same. Mirrors `loop.close`.
    pub fn close(self) {
        drop(self);
    }
}

/// The owner can do all that a handle can.
impl Deref for EventLoop {
    type Target = LoopHandle;

    fn deref(&self) -> &LoopHandle {
        &self.handle
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        let _running = state::enter(&self.handle);
        self.handle.end();
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventLoop").field(&self.handle).finish()
    }
}

impl LoopHandle {
    fn run_turns(&self, root: &mut dyn FnMut()) {
        // Short runs, one after the other, look at the world as well.
        self.inner.since_poll.set(usize::MAX);
        loop {
            self.run_once(root);
            if self.inner.stopping.replace(false) {
                return;
            }
        }
    }

    /// Takes everything out and drops it, until nothing is left: a destructor may still close a
    /// connection, but it can spawn and schedule nothing.
    fn end(&self) {
        let inner = &*self.inner;
        if inner.agenda.closed.replace(true) {
            return;
        }
        self.discard_each(inner.remote.close());
        // Tasks first: a writer that is dropped here still closes its transport in good order.
        for id in inner.tasks.keys() {
            self.discard(inner.tasks.remove(id));
        }
        self.discard_each(inner.agenda.ready.take_all());
        self.discard_each(inner.timers.with(TimerQueue::take_all));
        // The table of sources has them as well, and drops their callbacks.
        drop(inner.watched.with(mem::take));
        for id in inner.sources.keys() {
            if let Some(source) = self.remove(SourceId(id)) {
                self.enter_quietly(|| Rc::clone(&source).abandon());
                self.discard(source);
            }
        }
        self.discard_each(inner.signals.with(mem::take));
        // Functions that no thread has begun are the user's, and are dropped like all of it.
        let jobs = inner
            .driver
            .with(|driver| driver.as_mut().map(|driver| driver.end_blocking()));
        self.discard_each(jobs.into_iter().flatten());
        self.discard(inner.exception_handler.take());
        self.discard(inner.services.executor.take());
        self.discard(inner.services.resolver.take());
        while inner.agenda.next_note().is_some() {}
        while inner.agenda.next_visit().is_some() {}
        inner.agenda.spares.clear();
        inner.starved.with(BTreeSet::clear);
        inner.agenda.received.free();
        inner.wakers.with(Vec::clear);
        drop(inner.driver.with(Option::take));
    }

    /// One by one: a second panic while a collection is dropped would end the process.
    fn discard_each<T>(&self, values: impl IntoIterator<Item = T>) {
        for value in values {
            self.discard(value);
        }
    }

    fn discard<T>(&self, value: T) {
        self.enter_quietly(|| drop(value));
    }
}

/// [`stop`](LoopHandle::stop) came before the future was complete. Mirrors asyncio's
/// `RuntimeError` with the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopStopped;

impl fmt::Display for LoopStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event loop stopped before Future completed.")
    }
}

impl Error for LoopStopped {}

impl From<LoopStopped> for io::Error {
    fn from(error: LoopStopped) -> Self {
        Self::other(error)
    }
}

#[track_caller]
fn assert_nothing_runs() {
    assert!(
        !running::is_any(),
        "Cannot run the event loop while another loop is running"
    );
}
