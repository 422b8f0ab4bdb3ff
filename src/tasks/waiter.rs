//! A result that somebody else sets.
//!
//! Owns: [`Waiter`]. Why: callbacks need a way to end somebody's wait. Invariants: a result is
//! set once; every one who waits gets a copy, any number of times. asyncio's counterpart:
//! `asyncio.Future`, under another name, since it differs from Rust's `Future`.

use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::event_loop::cells::Shared;
use crate::event_loop::running;
use crate::tasks::error::TaskError;
use crate::tasks::wakers::{Place, WakerSet};

/// A result to wait for, made by [`LoopHandle::create_future`](crate::LoopHandle::create_future).
///
/// Clones are handles on the same result: one sets it, the others await it, as often as they
/// like. Awaiting is cancellation-safe. Mirrors `asyncio.Future`.
///
/// ```
/// use evloop::EventLoop;
///
/// let mut event_loop = EventLoop::new()?;
/// let waiter = event_loop.create_future();
/// let setter = waiter.clone();
/// event_loop.call_soon(move || setter.set_result(42).unwrap());
/// assert_eq!(event_loop.run_until_complete(waiter), Ok(42));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Waiter<T> {
    loop_number: u64,
    shared: Rc<WaiterShared<T>>,
    place: Place,
}

struct WaiterShared<T> {
    state: Shared<State<T>>,
    wakers: WakerSet,
}

enum State<T> {
    Pending,
    Set(Rc<T>),
    Cancelled,
}

impl<T> Waiter<T> {
    pub(crate) fn new(loop_number: u64) -> Self {
        Self {
            loop_number,
            shared: Rc::new(WaiterShared {
                state: Shared::new(State::Pending),
                wakers: WakerSet::default(),
            }),
            place: Place::default(),
        }
    }

    /// Sets the result and wakes everybody who waits. Mirrors `Future.set_result`; for
    /// `set_exception`, make `T` a `Result`.
    ///
    /// # Errors
    ///
    /// [`InvalidStateError`] if it was set or cancelled before; it holds the value.
    pub fn set_result(&self, value: T) -> Result<(), InvalidStateError<T>> {
        if self.done() {
            return Err(InvalidStateError(value));
        }
        self.shared
            .state
            .with(|state| *state = State::Set(Rc::new(value)));
        self.shared.wakers.wake_all();
        Ok(())
    }

    /// Ends the wait with [`TaskError::Cancelled`]. False if it is over already. Mirrors
    /// `Future.cancel`.
    pub fn cancel(&self) -> bool {
        if self.done() {
            return false;
        }
        self.shared.state.with(|state| *state = State::Cancelled);
        self.shared.wakers.wake_all();
        true
    }

    /// Whether the result is set or the wait was cancelled. Mirrors `Future.done`.
    pub fn done(&self) -> bool {
        self.shared
            .state
            .with(|state| !matches!(state, State::Pending))
    }

    /// Whether the wait was cancelled. Mirrors `Future.cancelled`.
    pub fn cancelled(&self) -> bool {
        self.shared
            .state
            .with(|state| matches!(state, State::Cancelled))
    }
}

impl<T: Clone> Future for Waiter<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let waits_for = || format!("a Waiter<{}>", type_name::<T>());
        let polled = running::poll_leaf(this.loop_number, cx, waits_for, |cx| {
            let outcome = this.shared.state.with(|state| match state {
                State::Pending => None,
                State::Cancelled => Some(Err(TaskError::Cancelled)),
                State::Set(value) => Some(Ok(Rc::clone(value))),
            });
            match outcome {
                None => {
                    this.shared.wakers.register(&mut this.place, cx.waker());
                    Poll::Pending
                }
                // `clone` is the user's code: nothing is borrowed while it runs.
                Some(outcome) => Poll::Ready(outcome.map(|value| T::clone(&value))),
            }
        });
        polled.map(|polled| polled?)
    }
}

impl<T> Clone for Waiter<T> {
    fn clone(&self) -> Self {
        Self {
            loop_number: self.loop_number,
            shared: Rc::clone(&self.shared),
            place: Place::default(),
        }
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        self.shared.wakers.leave(&mut self.place);
    }
}

impl<T> fmt::Debug for Waiter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("done", &self.done())
            .finish_non_exhaustive()
    }
}

/// The result was set or cancelled before. Holds the value that came too late. Mirrors
/// `asyncio.InvalidStateError`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InvalidStateError<T>(pub T);

impl<T> fmt::Debug for InvalidStateError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InvalidStateError").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for InvalidStateError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the result was set or cancelled before")
    }
}

impl<T> Error for InvalidStateError<T> {}

impl<T> From<InvalidStateError<T>> for io::Error {
    fn from(_: InvalidStateError<T>) -> Self {
        Self::other("the result was set or cancelled before")
    }
}
