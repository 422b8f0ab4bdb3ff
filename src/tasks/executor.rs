//! What blocks, done elsewhere and awaited here.
//!
//! Owns: [`RunInExecutor`], the future of a function that runs on another thread, and the end of
//! the executor. Why: a function that blocks would stop everything that its loop does. Invariants:
//! the future gets exactly one outcome, also when the executor drops the function, and when it
//! panics; dropping the future before the function has begun means that it never does. asyncio's
//! counterpart: `run_in_executor`, `wrap_future`, `shutdown_default_executor`.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::event_loop::door::catch;
use crate::event_loop::services::{Begun, Executor};
use crate::event_loop::{LoopClosed, LoopHandle, NoRunningLoop, PanicError, running};
use crate::sys::Job;
use crate::tasks::timeout::{TimeoutError, timeout};

impl LoopHandle {
    /// Runs `f` on another thread, and gives a future of what it returns. Mirrors
    /// `loop.run_in_executor(None, f)`.
    ///
    /// `f` is handed over at once, whether or not the future is awaited. Dropping the future
    /// before `f` has begun means that it never does; once it runs it cannot be stopped, and its
    /// result is dropped on its thread.
    ///
    /// By default a pool of the loop's own runs it: as many threads as the machine has cores and
    /// four more, 32 at most, started on demand and ended when they have been idle for ten
    /// seconds. Names are looked up there, too. The loop's end does not wait for it: functions
    /// that have not begun are dropped, and one that runs is left to itself, or to the end of the
    /// process. Whoever wants to wait awaits
    /// [`shutdown_default_executor`](Self::shutdown_default_executor) first.
    ///
    /// # Errors
    ///
    /// The future's: an [`ExecutorError`].
    ///
    /// ```
    /// use evloop::{ExecutorError, get_running_loop};
    ///
    /// evloop::run(async {
    ///     let handle = get_running_loop().unwrap();
    ///     let sum = handle.run_in_executor(|| (1..=1000_u64).sum::<u64>());
    ///     assert_eq!(sum.await.unwrap(), 500_500);
    ///
    ///     let outcome = handle.run_in_executor(|| -> u8 { panic!("no") }).await;
    ///     assert!(matches!(outcome, Err(ExecutorError::Panicked(error)) if error.message() == "no"));
    /// })
    /// .unwrap();
    /// ```
    pub fn run_in_executor<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> RunInExecutor<T> {
        let reply = Arc::new(Reply::new());
        let future = RunInExecutor {
            loop_number: self.number(),
            reply: Arc::clone(&reply),
        };
        let services = self.services();
        if self.is_closed() {
            reply.answer(Err(ExecutorError::LoopClosed));
            return future;
        }
        if services.shut_down.get() {
            reply.answer(Err(ExecutorError::Shutdown));
            return future;
        }
        let errand = Errand {
            reply: Arc::clone(&reply),
            _begun: services.jobs.begin(),
        };
        // A result that nobody wants is dropped there, which may panic as well.
        let job: Job = Box::new(move || drop(catch(|| errand.run(f))));
        match services.executor.get() {
            Some(executor) => executor.execute(job),
            None => self.execute_by_driver(job, &reply),
        }
        future
    }

    /// Has `executor` run from now on what [`run_in_executor`](Self::run_in_executor) is given,
    /// and what the loop itself looks up. Mirrors `loop.set_default_executor`.
    pub fn set_default_executor(&self, executor: impl Executor + 'static) {
        if !self.is_closed() {
            drop(self.services().executor.put(Rc::new(executor)));
        }
    }

    /// Goes back to the loop's own pool. What was handed to the other executor stays with it.
    pub fn clear_default_executor(&self) {
        drop(self.services().executor.take());
    }

    /// Refuses [`run_in_executor`](Self::run_in_executor) from now on, and waits until everything
    /// that was handed over is done, but not longer than `timeout` (`None`: without a limit).
    /// Mirrors `loop.shutdown_default_executor`.
    ///
    /// Dropping the future ends the wait; the refusal stays.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::StillBusy`] when the time is over first, with the number of functions that
    /// are not done. They are waited for no more.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use evloop::{ExecutorError, get_running_loop};
    ///
    /// evloop::run(async {
    ///     let handle = get_running_loop().unwrap();
    ///     let last = handle.run_in_executor(|| "saved");
    ///     handle.shutdown_default_executor(Some(Duration::from_secs(10))).await.unwrap();
    ///     assert_eq!(last.await.unwrap(), "saved");
    ///     let late = handle.run_in_executor(|| ()).await;
    ///     assert!(matches!(late, Err(ExecutorError::Shutdown)));
    /// })
    /// .unwrap();
    /// ```
    pub async fn shutdown_default_executor(
        &self,
        timeout_: Option<Duration>,
    ) -> Result<(), ExecutorError> {
        let services = self.services();
        services.shut_down.set(true);
        let number = self.number();
        let done = poll_fn(|cx| {
            let waits_for = || "the last job of the executor".to_owned();
            running::poll_leaf(number, cx, waits_for, |cx| {
                services.jobs.poll_done(cx.waker())
            })
        });
        let Some(limit) = timeout_ else {
            return Ok(done.await?);
        };
        match timeout(limit, done).await {
            Ok(outcome) => Ok(outcome?),
            Err(TimeoutError::NoRunningLoop) => Err(ExecutorError::NoRunningLoop),
            Err(TimeoutError::Elapsed) => Err(ExecutorError::StillBusy {
                jobs: services.jobs.under_way(),
            }),
        }
    }

    fn execute_by_driver<T>(&self, job: Job, reply: &Reply<T>) {
        // Whatever comes back is dropped when the driver is no longer borrowed.
        let mut job = Some(job);
        let outcome = self.driver(|driver| Ok(job.take().map(|job| driver.blocking(job))));
        match outcome {
            Ok(Some(Err(refused))) => {
                reply.answer(Err(ExecutorError::NoThread(refused.error)));
                drop(refused.job);
            }
            Ok(_) => {}
            Err(_) => reply.answer(Err(ExecutorError::LoopClosed)),
        }
    }
}

/// What a function on another thread will return. Made by
/// [`LoopHandle::run_in_executor`].
#[must_use = "dropping it takes the function back if it has not begun"]
pub struct RunInExecutor<T> {
    loop_number: u64,
    reply: Arc<Reply<T>>,
}

impl<T> Future for RunInExecutor<T> {
    type Output = Result<T, ExecutorError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = running::poll_leaf(
            self.loop_number,
            cx,
            || "a job of the executor".to_owned(),
            |cx| self.reply.poll(cx.waker()),
        );
        polled.map(|polled| polled?)
    }
}

impl<T> Drop for RunInExecutor<T> {
    fn drop(&mut self) {
        self.reply.give_up();
    }
}

impl<T> fmt::Debug for RunInExecutor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunInExecutor").finish_non_exhaustive()
    }
}

/// Why a function gave no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecutorError {
    /// It panicked.
    Panicked(PanicError),
    /// The executor dropped it before it had begun.
    Dropped,
    /// After [`shutdown_default_executor`](crate::LoopHandle::shutdown_default_executor).
    Shutdown,
    /// The time is over, and so many functions are not done.
    StillBusy {
        /// How many.
        jobs: usize,
    },
    /// There is no thread to run it, and the system has none to give.
    NoThread(io::Error),
    /// The loop has ended.
    LoopClosed,
    /// It was awaited outside its loop.
    NoRunningLoop,
}

impl fmt::Display for ExecutorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(error) => write!(f, "the function {error}"),
            Self::Dropped => f.write_str("the executor dropped the function"),
            Self::Shutdown => f.write_str("Executor shutdown has been called"),
            Self::StillBusy { jobs } => {
                write!(f, "the executor did not finish in time: {jobs} still to do")
            }
            Self::NoThread(error) => write!(f, "no thread for the function: {error}"),
            Self::LoopClosed => LoopClosed.fmt(f),
            Self::NoRunningLoop => NoRunningLoop.fmt(f),
        }
    }
}

impl Error for ExecutorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Panicked(error) => Some(error),
            Self::NoThread(error) => Some(error),
            _ => None,
        }
    }
}

impl From<NoRunningLoop> for ExecutorError {
    fn from(_: NoRunningLoop) -> Self {
        Self::NoRunningLoop
    }
}

impl From<ExecutorError> for io::Error {
    fn from(error: ExecutorError) -> Self {
        let kind = match &error {
            ExecutorError::NoThread(error) => error.kind(),
            ExecutorError::StillBusy { .. } => io::ErrorKind::TimedOut,
            ExecutorError::LoopClosed => io::ErrorKind::NotConnected,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Brings the outcome home, whatever becomes of the job that holds it.
struct Errand<T> {
    reply: Arc<Reply<T>>,
    _begun: Begun,
}

impl<T> Errand<T> {
    fn run(self, f: impl FnOnce() -> T) {
        if !self.reply.is_wanted() {
            return;
        }
        let outcome = catch(f);
        let panicked = |payload: Box<dyn std::any::Any + Send>| {
            ExecutorError::Panicked(PanicError::new(&*payload))
        };
        self.reply.answer(outcome.map_err(panicked));
    }
}

impl<T> Drop for Errand<T> {
    fn drop(&mut self) {
        // Nothing if there was another answer.
        self.reply.answer(Err(ExecutorError::Dropped));
    }
}

/// The place where the two threads meet.
struct Reply<T>(Mutex<State<T>>);

enum State<T> {
    Pending(Option<Waker>),
    Answered(Result<T, ExecutorError>),
    /// Taken, or nobody waits any more.
    Over,
}

impl<T> Reply<T> {
    fn new() -> Self {
        Self(Mutex::new(State::Pending(None)))
    }

    /// The first answer counts.
    fn answer(&self, outcome: Result<T, ExecutorError>) {
        let mut state = self.lock();
        let State::Pending(waker) = &mut *state else {
            // What is not wanted is the user's: it is dropped after the lock.
            drop(state);
            return;
        };
        let waker = waker.take();
        *state = State::Answered(outcome);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<T, ExecutorError>> {
        let waker = waker.clone();
        let mut state = self.lock();
        if let State::Pending(kept) = &mut *state {
            let old = kept.replace(waker);
            drop(state);
            drop(old);
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Over) {
            State::Answered(outcome) => Poll::Ready(outcome),
            // Polled after its end.
            State::Pending(_) | State::Over => Poll::Ready(Err(ExecutorError::Dropped)),
        }
    }

    fn give_up(&self) {
        let left = std::mem::replace(&mut *self.lock(), State::Over);
        drop(left);
    }

    fn is_wanted(&self) -> bool {
        matches!(*self.lock(), State::Pending(_))
    }

    /// Nothing of the user's runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
