//! A limit on how long something may take.
//!
//! Owns: [`timeout`]. Why: every wait of ours can be dropped without losing anything, so a limit
//! is a drop. Invariants: a value that is ready in the poll in which the time is over is
//! returned. asyncio's counterpart: `asyncio.wait_for`, `asyncio.timeout`.

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::event_loop::NoRunningLoop;
use crate::tasks::sleep::sleep;

/// Waits for `future`, but not longer than `limit`, and then drops it.
///
/// The future is polled at least once, also when the limit is zero. As safe to cancel as the
/// future itself. Mirrors `asyncio.wait_for` and `asyncio.timeout`.
///
/// # Errors
///
/// [`TimeoutError::Elapsed`] when the time is over first; [`TimeoutError::NoRunningLoop`] outside
/// a loop.
///
/// ```
/// use std::{future::pending, time::Duration};
///
/// use evloop::{TimeoutError, timeout};
///
/// evloop::run(async {
///     let limit = Duration::from_millis(1);
///     assert_eq!(timeout(limit, async { 42 }).await, Ok(42));
///     assert_eq!(timeout(limit, pending::<()>()).await, Err(TimeoutError::Elapsed));
/// })
/// .unwrap();
/// ```
pub async fn timeout<F: IntoFuture>(limit: Duration, future: F) -> Result<F::Output, TimeoutError> {
    let mut future = pin!(future.into_future());
    let mut sleep = pin!(sleep(limit));
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        sleep.as_mut().poll(cx).map(|slept| {
            Err(match slept {
                Ok(()) => TimeoutError::Elapsed,
                Err(NoRunningLoop) => TimeoutError::NoRunningLoop,
            })
        })
    })
    .await
}

/// Why [`timeout`] gave no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutError {
    /// The time was over first. Mirrors `TimeoutError`; as an `io::Error` it is `TimedOut`.
    Elapsed,
    /// No event loop runs here that could tell the time.
    NoRunningLoop,
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elapsed => f.write_str("the time was over"),
            Self::NoRunningLoop => NoRunningLoop.fmt(f),
        }
    }
}

impl Error for TimeoutError {}

impl From<TimeoutError> for io::Error {
    fn from(error: TimeoutError) -> Self {
        let kind = match error {
            TimeoutError::Elapsed => io::ErrorKind::TimedOut,
            TimeoutError::NoRunningLoop => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
