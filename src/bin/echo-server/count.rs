//! A number that all loops know, and that only rises: whoever wants to can wait until it has.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How often something has happened.
#[derive(Debug, Default)]
pub(crate) struct Count {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    came: u64,
    waiting: Vec<Waker>,
}

impl Count {
    /// It happened once more: how often that makes.
    pub(crate) fn raise(&self) -> u64 {
        let (came, waiting) = {
            let mut state = self.lock();
            state.came += 1;
            (state.came, std::mem::take(&mut state.waiting))
        };
        waiting.iter().for_each(Waker::wake_by_ref);
        came
    }

    /// Waits until it has happened so often, and says how often it has.
    pub(crate) async fn reached(&self, number: u64) -> u64 {
        poll_fn(|cx| self.poll_reached(number, cx)).await
    }

    /// The output of `future`, unless it has happened once before that: then it is dropped.
    pub(crate) async fn or_output<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.poll_reached(1, cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => future.as_mut().poll(cx).map(Some),
        })
        .await
    }

    fn poll_reached(&self, number: u64, cx: &Context<'_>) -> Poll<u64> {
        let mut state = self.lock();
        if state.came >= number {
            return Poll::Ready(state.came);
        }
        let waker = cx.waker();
        if !state.waiting.iter().any(|known| known.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;

    use evloop::get_running_loop;

    use super::*;

    #[test]
    fn what_takes_long_is_given_up_at_the_first_signal() {
        let signals = Arc::<Count>::default();
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
