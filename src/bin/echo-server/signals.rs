//! The signals that end it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use evloop::LoopHandle;
use evloop::signals::{SIGINT, SIGTERM};

/// How many of SIGINT and SIGTERM came, as all workers know it.
///
/// Each of them sees the signals by itself, but for one: that which comes while some of them do not
/// listen yet. So they tell each other.
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
    /// Has this loop listen, and `changed` called with each new number, by one of all loops.
    pub(crate) fn listen(
        self: &Arc<Self>,
        handle: &LoopHandle,
        changed: impl Fn(u32) + Clone + 'static,
    ) -> io::Result<()> {
        let seen = Rc::new(Cell::new(0));
        for number in [SIGINT, SIGTERM] {
            let (all, seen, changed) = (Arc::clone(self), Rc::clone(&seen), changed.clone());
            handle.add_signal_handler(number, move || {
                seen.set(seen.get() + 1);
                if all.raise_to(seen.get()) {
                    changed(seen.get());
                }
            })?;
        }
        Ok(())
    }

    /// Waits for so many of them.
    pub(crate) async fn reached(&self, number: u32) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.came >= number {
                return Poll::Ready(());
            }
            state.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether nobody knew.
    fn raise_to(&self, number: u32) -> bool {
        let waiting = {
            let mut state = self.lock();
            if state.came >= number {
                return false;
            }
            state.came = number;
            std::mem::take(&mut state.waiting)
        };
        waiting.iter().for_each(Waker::wake_by_ref);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
