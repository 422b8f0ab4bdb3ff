//! Waiting for time to pass.
//!
//! Owns: [`Sleep`]. Why: the one leaf future that stands on a timer. Invariants: the timer exists
//! only while somebody waits for it. asyncio's counterpart: `asyncio.sleep`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::event_loop::{NoRunningLoop, WeakHandle, get_running_loop, running};
use crate::sansio::timer_queue::TimerKey;

/// Waits until `delay` has passed, counted from the first poll. Mirrors `asyncio.sleep`.
///
/// A zero delay gives way once: the task goes on in the loop's next turn. Dropping the future
/// takes the timer back.
///
/// # Errors
///
/// [`NoRunningLoop`] when it is polled outside a loop.
pub fn sleep(delay: Duration) -> Sleep {
    Sleep {
        until: Until::Delay(delay),
        timer: None,
        waited: false,
    }
}

/// Waits until `when`, on the clock of [`LoopHandle::time`](crate::LoopHandle::time).
///
/// # Errors
///
/// [`NoRunningLoop`] when it is polled outside a loop.
pub fn sleep_until(when: Instant) -> Sleep {
    Sleep {
        until: Until::Instant(when),
        timer: None,
        waited: false,
    }
}

/// The future of [`sleep`] and [`sleep_until`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    until: Until,
    timer: Option<(TimerKey, WeakHandle)>,
    /// It has given way at least once, so it may end whatever its step has completed: beside a
    /// future that is always ready the time still runs out.
    waited: bool,
}

#[derive(Debug)]
enum Until {
    Delay(Duration),
    Instant(Instant),
}

impl Future for Sleep {
    type Output = Result<(), NoRunningLoop>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let number = this.timer.as_ref().map_or(0, |(_, handle)| handle.number());
        if let Err(error) = running::at_home(number) {
            return Poll::Ready(Err(error));
        }
        let waited = std::mem::replace(&mut this.waited, true);
        if let Until::Delay(Duration::ZERO) = this.until {
            if waited {
                return Poll::Ready(Ok(()));
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = this.poll_timer(cx);
        if waited || polled.is_pending() {
            return polled;
        }
        running::poll_leaf(number, cx, || "a time".to_owned(), |_| polled).map(|polled| polled?)
    }
}

impl Sleep {
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoRunningLoop>> {
        let handle = match get_running_loop() {
            Ok(handle) => handle,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let when = match self.until {
            Until::Instant(when) if handle.is_due(when) => {
                // The timer has gone off, so there is none to take back.
                self.timer = None;
                return Poll::Ready(Ok(()));
            }
            Until::Instant(when) if handle.time() >= when => return Poll::Ready(Ok(())),
            Until::Instant(when) => when,
            Until::Delay(delay) => {
                let when = handle.deadline(delay);
                self.until = Until::Instant(when);
                when
            }
        };
        let armed = match &self.timer {
            Some((key, _)) => handle.rearm(*key, cx.waker()),
            None => false,
        };
        if !armed {
            let key = handle.arm(when, cx.waker().clone());
            self.timer = Some((key, handle.downgrade()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((key, handle)) = self.timer.take() {
            if let Some(handle) = handle.upgrade() {
                handle.disarm(key);
            }
        }
    }
}
