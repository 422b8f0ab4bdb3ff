//! The signals that end it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use evloop::LoopHandle;
use evloop::signals::{SIGINT, SIGTERM};

/// How many of SIGINT and SIGTERM came, as all loops know it: one of them listens.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    came: u32,
    waiting: Vec<Waker>,
}

impl Signals {
    /// Has this loop listen, and `changed` called with each new number.
    pub(crate) fn listen(
        self: &Arc<Self>,
        handle: &LoopHandle,
        changed: impl Fn(u32) + Clone + 'static,
    ) -> io::Result<()> {
        for number in [SIGINT, SIGTERM] {
            let (all, changed) = (Arc::clone(self), changed.clone());
            handle.add_signal_handler(number, move || changed(all.raise()))?;
        }
        Ok(())
    }

    /// Waits for so many of them.
    pub(crate) async fn reached(&self, number: u32) {
        poll_fn(|cx| self.poll_reached(number, cx)).await;
    }

    /// The output of `future`, unless the first of them comes sooner: then it is dropped.
    pub(crate) async fn or_output<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.poll_reached(1, cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => future.as_mut().poll(cx).map(Some),
        })
        .await
    }

    fn poll_reached(&self, number: u32, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.came >= number {
            return Poll::Ready(());
        }
        let waker = cx.waker();
        if !state.waiting.iter().any(|known| known.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
        Poll::Pending
    }

    /// One more came: how many those are.
    fn raise(&self) -> u32 {
        let (came, waiting) = {
            let mut state = self.lock();
            state.came = state.came.saturating_add(1);
            (state.came, std::mem::take(&mut state.waiting))
        };
        waiting.iter().for_each(Waker::wake_by_ref);
        came
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use evloop::get_running_loop;

    use super::*;

    #[test]
    fn what_takes_long_is_given_up_at_the_first_signal() {
        let signals = Arc::<Signals>::default();
        let came = Arc::clone(&signals);
        let given_up = evloop::run(async move {
            assert_eq!(signals.or_output(ready(7)).await, Some(7));
            let handle = get_running_loop().unwrap();
            handle.call_soon(move || assert_eq!(came.raise(), 1));
            let given_up = signals.or_output(pending::<()>()).await.is_none();
            // And so is what would begin only now.
            given_up && signals.or_output(ready(7)).await.is_none()
        });
        assert!(given_up.unwrap());
    }
}
