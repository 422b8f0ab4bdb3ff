//! A future that the loop drives, with a result to wait for.
//!
//! Owns: [`Task`] and the wrapper in the loop's table that stores its result. Why: a task's end,
//! its panic included, is a value for whoever waits. Invariants: exactly one result is stored,
//! also when the loop ends first; the future is dropped before the result can be seen; a panic
//! that nobody can see any more is reported. asyncio's counterpart: `asyncio.Task`.

use std::any::{Any, type_name};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::event_loop::cells::Shared;
use crate::event_loop::door::catch;
use crate::event_loop::{
    ExceptionContext, LoopHandle, PanicError, TaskFuture, TaskId, WeakHandle, running,
};
use crate::tasks::error::TaskError;
use crate::tasks::waiter::Waiter;
use crate::tasks::wakers::{Place, WakerSet};

impl LoopHandle {
    /// Starts a task: `future` is polled from the loop's next turn on, until it is complete.
    ///
    /// The loop owns the future, so it need not be Send and cannot vanish; dropping the [`Task`]
    /// detaches it. After the loop's end the task is cancelled at once. Mirrors
    /// `loop.create_task`.
    pub fn create_task<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let shared = Rc::new(TaskShared::default());
        let done = Done {
            handle: self.downgrade(),
            shared: Rc::clone(&shared),
        };
        let spawned = self.spawn(Body::Running {
            future,
            done: Some(done),
        });
        Task {
            handle: self.downgrade(),
            id: spawned.ok(),
            shared,
            place: Place::default(),
        }
    }

    /// A future becomes a task, a task stays itself. Mirrors `asyncio.ensure_future`.
    ///
    /// Since a task is a future as well, the type says which is meant where it is not clear:
    ///
    /// ```
    /// use evloop::{EventLoop, Task};
    ///
    /// let mut event_loop = EventLoop::new()?;
    /// let task = event_loop.ensure_future(async { 1 });
    /// let same: Task<i32> = event_loop.ensure_future(task);
    /// assert_eq!(event_loop.run_until_complete(same), Ok(1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ensure_future<T>(&self, future: impl IntoTask<T>) -> Task<T> {
        future.into_task(self)
    }

    /// Makes a result to wait for that somebody sets later. Mirrors `loop.create_future`.
    pub fn create_future<T>(&self) -> Waiter<T> {
        Waiter::new(self.number())
    }
}

/// What [`LoopHandle::ensure_future`] takes: a [`Task`], or any future.
pub trait IntoTask<T> {
    /// Makes the task, or is it already.
    fn into_task(self, handle: &LoopHandle) -> Task<T>;
}

impl<T> IntoTask<T> for Task<T> {
    fn into_task(self, _: &LoopHandle) -> Self {
        self
    }
}

impl<T: 'static, F: Future<Output = T> + 'static> IntoTask<T> for F {
    fn into_task(self, handle: &LoopHandle) -> Task<T> {
        handle.create_task(self)
    }
}

/// A running task, and a future of its result. Mirrors `asyncio.Task`.
///
/// Dropping it detaches the task, which goes on; a panic that nobody can see any more is then
/// reported to the exception handler. Awaiting it is cancellation-safe: a dropped
/// await leaves the task and its result where they are (await `&mut task` to keep it).
#[must_use = "a task runs without being awaited, but then nobody sees its result: `drop` it to say so"]
pub struct Task<T> {
    handle: WeakHandle,
    /// `None` if the loop had ended already.
    id: Option<TaskId>,
    shared: Rc<TaskShared<T>>,
    place: Place,
}

impl<T> Task<T> {
    /// Asks the task to end. Its future is dropped in the loop's next turn, and the task's result
    /// is [`TaskError::Cancelled`]. False if it is over already. Mirrors `Task.cancel`.
    ///
    /// Unlike asyncio's, a future of Rust cannot refuse: it is dropped at the await where it
    /// stands.
    pub fn cancel(&self) -> bool {
        if self.done() {
            return false;
        }
        let (Some(handle), Some(id)) = (self.handle.upgrade(), self.id) else {
            return false;
        };
        self.shared.cancel.set(true);
        handle.push_task(id);
        true
    }

    /// Whether the task is over: complete, panicked or cancelled. Mirrors `Task.done`.
    pub fn done(&self) -> bool {
        self.shared
            .outcome
            .with(|outcome| !matches!(outcome, Outcome::Pending))
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    /// # Panics
    ///
    /// If polled again after it gave its result.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let waits_for = || "another task".to_owned();
        let polled = running::poll_leaf(this.handle.number(), cx, waits_for, |cx| {
            let outcome = this.shared.outcome.with(|outcome| match outcome {
                Outcome::Pending => None,
                _ => Some(std::mem::replace(outcome, Outcome::Taken)),
            });
            match outcome {
                None => {
                    this.shared.wakers.register(&mut this.place, cx.waker());
                    Poll::Pending
                }
                Some(Outcome::Done(result)) => Poll::Ready(result),
                Some(_) => panic!("a task was awaited again after it gave its result"),
            }
        });
        polled.map(|polled| polled?)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.shared.wakers.leave(&mut self.place);
        self.shared.detached.set(true);
        let unseen = self.shared.outcome.with(|outcome| match outcome {
            Outcome::Done(Err(TaskError::Panicked(error))) => Some(error.clone()),
            _ => None,
        });
        if let Some(error) = unseen {
            report_unseen(&self.handle, error);
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("done", &self.done())
            .finish_non_exhaustive()
    }
}

/// What a task and its future in the loop's table share.
struct TaskShared<T> {
    outcome: Shared<Outcome<T>>,
    wakers: WakerSet,
    cancel: Cell<bool>,
    detached: Cell<bool>,
}

impl<T> Default for TaskShared<T> {
    fn default() -> Self {
        Self {
            outcome: Shared::new(Outcome::Pending),
            wakers: WakerSet::default(),
            cancel: Cell::new(false),
            detached: Cell::new(false),
        }
    }
}

enum Outcome<T> {
    Pending,
    Done(Result<T, TaskError>),
    Taken,
}

/// Stores the result, once. Dropped without one (the loop ended, or the future's destructor
/// panicked), it says that the task was cancelled.
struct Done<T> {
    handle: WeakHandle,
    shared: Rc<TaskShared<T>>,
}

impl<T> Done<T> {
    fn store(&self, result: Result<T, TaskError>) {
        let pending = self
            .shared
            .outcome
            .with(|outcome| matches!(outcome, Outcome::Pending));
        if !pending {
            return;
        }
        if self.shared.detached.get() {
            if let Err(TaskError::Panicked(error)) = &result {
                report_unseen(&self.handle, error.clone());
            }
        }
        // What was there is `Pending`: nothing of the user's is dropped under the borrow.
        self.shared
            .outcome
            .with(|outcome| *outcome = Outcome::Done(result));
        self.shared.wakers.wake_all();
    }
}

impl<T> Drop for Done<T> {
    fn drop(&mut self) {
        self.store(Err(TaskError::Cancelled));
    }
}

/// Reported from the queue: a destructor is no place to call the user's handler.
fn report_unseen(handle: &WeakHandle, error: PanicError) {
    let context = ExceptionContext::new("Task exception was never retrieved");
    handle.report_soon(context.error(error));
}

pin_project! {
    /// The future in the loop's table.
    #[project = BodyProjection]
    enum Body<F, T> {
        Running { #[pin] future: F, done: Option<Done<T>> },
        Over,
    }
}

impl<F, T> Future for Body<F, T>
where
    F: Future<Output = T>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (polled, done) = match self.as_mut().project() {
            BodyProjection::Over => return Poll::Ready(()),
            BodyProjection::Running { future, done } => {
                let cancelled = done.as_ref().is_some_and(|done| done.shared.cancel.get());
                let polled = if cancelled {
                    Ok(Poll::Ready(Err(TaskError::Cancelled)))
                } else {
                    catch(|| future.poll(cx).map(Ok))
                };
                (polled, done)
            }
        };
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(payload) => Err(panicked(&*payload)),
        };
        let done = done.take();
        // The future goes first, then the result can be seen.
        let dropped = catch(|| self.set(Self::Over));
        if let Some(done) = done {
            done.store(match dropped {
                Ok(()) => result,
                Err(payload) => Err(panicked(&*payload)),
            });
        }
        Poll::Ready(())
    }
}

impl<F, T> TaskFuture for Body<F, T>
where
    F: Future<Output = T>,
{
    fn name(&self) -> &'static str {
        type_name::<F>()
    }
}

fn panicked(payload: &(dyn Any + Send)) -> TaskError {
    TaskError::Panicked(PanicError::new(payload))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{Future, pending, poll_fn};
    use std::io;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Waker};
    use std::thread::{self, JoinHandle, Thread};
    use std::time::{Duration, Instant};

    use crate::event_loop::EventLoop;
    use crate::sys::{Scripted, Wakeup};
    use crate::tasks::{Task, TaskError};

    /// A thread that sleeps where a loop would poll.
    struct Sleeper(Thread);

    impl Wakeup for Sleeper {
        fn wake(&self) {
            self.0.unpark();
        }
    }

    /// A loop without a system, so that an interpreter can run it. It fails where nobody wakes it.
    fn event_loop() -> EventLoop {
        let poll = |_: &mut Vec<_>, timeout: Option<Duration>| {
            let began = Instant::now();
            if timeout.is_none() {
                thread::park_timeout(LONGEST_SLEEP);
            }
            if began.elapsed() >= LONGEST_SLEEP {
                return Err(io::Error::other("a wake was lost"));
            }
            Ok(())
        };
        let sleeper = Arc::new(Sleeper(thread::current()));
        EventLoop::with_driver(Box::new(Scripted::new(poll, sleeper)))
    }

    /// Another thread says something, without order, and wakes the task behind it.
    fn say(said: &Arc<AtomicBool>, waker: Waker) -> JoinHandle<()> {
        let said = Arc::clone(said);
        thread::spawn(move || {
            said.store(true, Ordering::Relaxed);
            waker.wake();
        })
    }

    /// Waits for what another thread says, and gives that thread and where the waker stands.
    fn hears() -> impl Future<Output = (JoinHandle<()>, usize)> {
        let said = Arc::new(AtomicBool::new(false));
        let mut speaker = None;
        poll_fn(move |cx| {
            let speaker = &mut speaker;
            if speaker.is_none() {
                *speaker = Some(say(&said, cx.waker().clone()));
            }
            if !said.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            speaker
                .take()
                .map_or(Poll::Pending, |it| Poll::Ready((it, place_of(cx))))
        })
    }

    fn place_of(cx: &Context<'_>) -> usize {
        cx.waker().data().addr()
    }

    /// Where the waker of a task stands that is over at once.
    fn place(event_loop: &mut EventLoop) -> usize {
        let task = event_loop.create_task(poll_fn(|cx| Poll::Ready(place_of(cx))));
        event_loop.run_until_complete(task).unwrap()
    }

    /// A task that waits for ever, as soon as it has been polled, and its waker.
    fn waits(event_loop: &mut EventLoop, kept: Dropped) -> (Task<()>, Waker) {
        let (give, taken) = (Rc::new(Cell::new(None)), event_loop.create_future());
        let (given, take) = (Rc::clone(&give), taken.clone());
        let task = event_loop.create_task(async move {
            let _kept = kept;
            given.set(Some(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await));
            take.set_result(()).unwrap();
            pending::<()>().await;
        });
        event_loop.run_until_complete(taken).unwrap();
        (task, give.take().unwrap())
    }

    /// Counts how often one like it was dropped.
    struct Dropped(Rc<Cell<usize>>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn tasks_that_other_threads_wake_give_their_results() {
        let mut event_loop = event_loop();
        let tasks = [(); 3].map(|()| event_loop.create_task(hears()));
        let speakers = event_loop.run_until_complete(async {
            let mut speakers = Vec::new();
            for task in tasks {
                speakers.push(task.await.unwrap().0);
            }
            speakers
        });
        for speaker in speakers {
            speaker.join().unwrap();
        }
    }

    #[test]
    fn a_cancelled_task_drops_its_future_once_polled_or_not() {
        let mut event_loop = event_loop();
        let drops = Rc::new(Cell::new(0));
        let (polled, waker) = waits(&mut event_loop, Dropped(Rc::clone(&drops)));
        let kept = Dropped(Rc::clone(&drops));
        let unpolled = event_loop.create_task(async move {
            drop(kept);
            unreachable!("it is cancelled before");
        });
        for task in [&polled, &unpolled] {
            assert!(task.cancel());
            assert!(!task.done());
        }
        for task in [polled, unpolled] {
            let outcome = event_loop.run_until_complete(task);
            assert_eq!(outcome, Err(TaskError::Cancelled));
        }
        assert_eq!(drops.get(), 2);
        waker.wake();
    }

    #[test]
    fn whoever_joins_a_task_that_panics_is_told_why() {
        let mut event_loop = event_loop();
        let joined = event_loop.create_task(async { panic!("no") });
        let outer = event_loop.create_task(async move {
            let outcome: Result<(), _> = joined.await;
            outcome
        });
        let outcome = event_loop.run_until_complete(outer).unwrap();
        assert!(matches!(outcome, Err(TaskError::Panicked(error)) if error.message() == "no"));
        // The loop goes on, and so does the waker.
        assert_eq!(place(&mut event_loop), place(&mut event_loop));
    }

    /// The thread has let go of its clone, so that the waker serves the next task, whose wakes are
    /// not lost for what the thread has left in it.
    #[test]
    fn a_waker_that_another_thread_let_go_of_serves_the_next_task() {
        let mut event_loop = event_loop();
        let first = place(&mut event_loop);
        for _ in 0..ROUNDS {
            // It is over when it is woken.
            let woken_late = event_loop.create_task(poll_fn(|cx| {
                let waker = cx.waker().clone();
                say(&Arc::default(), waker).join().unwrap();
                Poll::Ready(place_of(cx))
            }));
            assert_eq!(event_loop.run_until_complete(woken_late), Ok(first));
            let task = event_loop.create_task(async {
                let (speaker, place) = hears().await;
                speaker.join().unwrap();
                place
            });
            assert_eq!(event_loop.run_until_complete(task), Ok(first));
        }
    }

    /// The thread may still be about to let go of it when the task is over.
    #[test]
    fn a_waker_that_another_thread_may_have_still_is_in_nobody_s_way() {
        let mut event_loop = event_loop();
        let speakers = [(); ROUNDS].map(|()| {
            let task = event_loop.create_task(hears());
            event_loop.run_until_complete(task).unwrap().0
        });
        for speaker in speakers {
            speaker.join().unwrap();
        }
    }

    #[test]
    fn a_waker_that_outlives_its_task_serves_and_wakes_nobody_else() {
        let mut event_loop = event_loop();
        let drops = Rc::new(Cell::new(0));
        let (task, late) = waits(&mut event_loop, Dropped(Rc::clone(&drops)));
        assert!(task.cancel());
        let cancelled = event_loop.run_until_complete(task);
        assert_eq!(cancelled, Err(TaskError::Cancelled));
        // The next one has its place in the table, and another waker.
        let polls = Rc::new(Cell::new(0));
        let count = Rc::clone(&polls);
        let own = late.data().addr();
        let next = event_loop.create_task(poll_fn(move |cx| {
            assert_ne!(place_of(cx), own);
            count.set(count.get() + 1);
            Poll::<()>::Pending
        }));
        let (loud, silent) = (late.clone(), late);
        let threads = [
            thread::spawn(move || loud.wake()),
            thread::spawn(move || drop(silent)),
        ];
        event_loop.run_until_complete(async { drop(hears().await) });
        for thread in threads {
            thread.join().unwrap();
        }
        event_loop.run_until_complete(async { drop(hears().await) });
        assert_eq!(polls.get(), 1);
        drop(next);
    }

    #[test]
    fn a_waker_may_be_woken_and_dropped_elsewhere_when_the_loop_is_gone() {
        let mut event_loop = event_loop();
        let drops = Rc::new(Cell::new(0));
        let (task, waker) = waits(&mut event_loop, Dropped(Rc::clone(&drops)));
        event_loop.close();
        assert!(task.done());
        assert_eq!(drops.get(), 1);
        thread::spawn(move || waker.wake()).join().unwrap();
    }

    const LONGEST_SLEEP: Duration = Duration::from_secs(60);
    const ROUNDS: usize = if cfg!(miri) { 5 } else { 200 };
}
