//! The loop as other threads see it.
//!
//! Owns: [`ThreadsafeHandle`]. Why: a thread that has news for the loop may do one thing only,
//! hand it a callback. Invariants: callbacks from one thread keep their order; after the loop's
//! end they are refused and dropped outside the lock. asyncio's counterpart:
//! `loop.call_soon_threadsafe`.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::event_loop::remote::{Message, Remote};
use crate::event_loop::running;
use crate::event_loop::state::get_running_loop;

/// A handle on an event loop that may be cloned, sent and shared between threads. It keeps nothing
/// of the loop alive.
///
/// ```
/// use std::thread;
///
/// use evloop::{EventLoop, get_running_loop};
///
/// let mut event_loop = EventLoop::new()?;
/// let handle = event_loop.threadsafe();
/// let worker = thread::spawn(move || {
///     handle.call_soon_threadsafe(|| get_running_loop().unwrap().stop())
/// });
/// event_loop.run_forever();
/// worker.join().unwrap().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ThreadsafeHandle {
    remote: Arc<Remote>,
}

impl ThreadsafeHandle {
    pub(super) fn new(remote: &Arc<Remote>) -> Self {
        Self {
            remote: Arc::clone(remote),
        }
    }

    /// Runs `callback` in the loop's next turn and wakes the loop if it sleeps.
    ///
    /// The callback finds its loop with [`get_running_loop`]. Mirrors `loop.call_soon_threadsafe`.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] after the loop's end; the callback is dropped.
    pub fn call_soon_threadsafe(
        &self,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<(), LoopClosed> {
        if running::is_current(self.remote.loop_number()) {
            // At home: the same queue as `call_soon`, so that the two keep their order.
            let handle = get_running_loop().map_err(|_| LoopClosed)?;
            return handle.call_soon_threadsafe(callback);
        }
        self.remote
            .push(Message::Call(Box::new(callback)))
            .map_err(|_| LoopClosed)
    }

    /// Whether the loop has ended.
    pub fn is_closed(&self) -> bool {
        self.remote.is_closed()
    }
}

/// The event loop has ended. Mirrors asyncio's `RuntimeError("Event loop is closed")`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopClosed;

impl fmt::Display for LoopClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event loop is closed")
    }
}

impl Error for LoopClosed {}

impl From<LoopClosed> for io::Error {
    fn from(error: LoopClosed) -> Self {
        Self::new(io::ErrorKind::NotConnected, error)
    }
}
