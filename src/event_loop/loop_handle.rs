//! The loop as callbacks and tasks see it.
//!
//! Owns: [`LoopHandle`], asyncio's event loop methods that schedule and report. Why: only the
//! owner may run or close a loop, everybody else holds a handle, so "the loop is already
//! running" cannot be written. Invariants: nothing here runs user code but the exception handler;
//! after the loop's end what is scheduled is dropped. asyncio's counterpart:
//! `asyncio.AbstractEventLoop`.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::event_loop::cells::Slot;
use crate::event_loop::door::ExceptionContext;
use crate::event_loop::handle::{Handle, Scheduled};
use crate::event_loop::ready::Ready;
use crate::event_loop::running;
use crate::event_loop::state::{LoopHandle, Timer};
use crate::event_loop::threadsafe::{LoopClosed, ThreadsafeHandle};
use crate::event_loop::timer_handle::TimerHandle;

impl LoopHandle {
    /// Runs `callback` in the next turn of the loop, after the callbacks that wait already.
    ///
    /// After the loop's end the callback is dropped and never runs. Mirrors `loop.call_soon`.
    pub fn call_soon(&self, callback: impl FnOnce() + 'static) -> Handle {
        let callback = Scheduled::callback(callback);
        if self.is_closed() {
            callback.cancel();
        } else {
            self.inner
                .agenda
                .ready
                .push(Ready::Call(Rc::clone(&callback)));
        }
        Handle::new(callback)
    }

    /// Runs `callback` once `delay` has passed, and not earlier.
    ///
    /// Callbacks due at the same instant run in the order in which they were scheduled. A delay
    /// too long for the clock is as long as the clock can tell. Mirrors `loop.call_later`.
    pub fn call_later(&self, delay: Duration, callback: impl FnOnce() + 'static) -> TimerHandle {
        self.call_at(self.deadline(delay), callback)
    }

    /// Runs `callback` at `when`, on the clock of [`time`](Self::time), and not earlier.
    ///
    /// Mirrors `loop.call_at`.
    pub fn call_at(&self, when: Instant, callback: impl FnOnce() + 'static) -> TimerHandle {
        let callback = Scheduled::callback(callback);
        let timer = Timer::Call(Rc::clone(&callback));
        let key = self.inner.timers.with(|timers| timers.insert(when, timer));
        if self.is_closed() {
            self.disarm(key);
            callback.cancel();
        }
        TimerHandle::new(callback, key, self.downgrade())
    }

    /// [`call_soon`](Self::call_soon) under the name that asyncio gives to its thread-safe form.
    ///
    /// A `LoopHandle` cannot leave its thread; what another thread calls is
    /// [`ThreadsafeHandle::call_soon_threadsafe`], from [`threadsafe`](Self::threadsafe).
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] after the loop's end.
    pub fn call_soon_threadsafe(
        &self,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<(), LoopClosed> {
        if self.is_closed() {
            return Err(LoopClosed);
        }
        drop(self.call_soon(callback));
        Ok(())
    }

    /// A handle that other threads may use.
    pub fn threadsafe(&self) -> ThreadsafeHandle {
        ThreadsafeHandle::new(&self.inner.remote)
    }

    /// The loop's monotonic clock, now. Mirrors `loop.time`.
    ///
    /// After the loop's end the clock stands still.
    pub fn time(&self) -> Instant {
        self.inner
            .driver
            .with(|driver| driver.as_ref().map(|driver| driver.now()))
            .unwrap_or_else(|| self.inner.agenda.now.get())
    }

    /// Ends the run after the turn that is going on.
    ///
    /// What that turn still schedules waits for the next run. Before a run: that run does exactly
    /// one turn. Mirrors `loop.stop`; [`run_until_complete`](crate::EventLoop::run_until_complete)
    /// says what it makes of it.
    pub fn stop(&self) {
        self.inner.stopping.set(true);
    }

    /// Whether the loop is running now. Mirrors `loop.is_running`.
    pub fn is_running(&self) -> bool {
        running::is_current(self.inner.agenda.number)
    }

    /// Whether the loop has ended. Mirrors `loop.is_closed`.
    pub fn is_closed(&self) -> bool {
        self.inner.agenda.closed.get()
    }

    /// Makes `handler` the one that is told about failures nobody else can be told about: panics
    /// in callbacks and protocols, errors and panics of connection handlers and of tasks that
    /// nobody awaits, and an accept that fails.
    ///
    /// A handler that panics is reported to the default handler. Mirrors
    /// `loop.set_exception_handler(handler)`.
    pub fn set_exception_handler(&self, handler: impl Fn(&Self, &ExceptionContext) + 'static) {
        if !self.is_closed() {
            drop(self.inner.exception_handler.put(Rc::new(handler)));
        }
    }

    /// Goes back to the default handler. Mirrors `loop.set_exception_handler(None)`.
    pub fn clear_exception_handler(&self) {
        drop(self.inner.exception_handler.take());
    }

    /// Reports a failure to the exception handler. Mirrors `loop.call_exception_handler`.
    pub fn call_exception_handler(&self, context: &ExceptionContext) {
        let Some(handler) = self.inner.exception_handler.get() else {
            self.default_exception_handler(context);
            return;
        };
        if let Err(payload) = self.step(|| handler(self, context)) {
            self.default_exception_handler(context);
            self.default_exception_handler(&ExceptionContext::panic(
                "Unhandled error in exception handler",
                &*payload,
            ));
        }
        // Perhaps the last one, when the handler replaced itself.
        self.enter_quietly(|| drop(handler));
    }

    /// Logs the report as an error; where nothing is logged, it goes to stderr, as Python's
    /// logging does it. Mirrors `loop.default_exception_handler`.
    pub fn default_exception_handler(&self, context: &ExceptionContext) {
        context.log();
    }

    /// Calls `callback` whenever the signal `number` arrives, from the loop, as any callback; one
    /// call for each delivery that the system did not merge. It replaces an earlier callback.
    ///
    /// Other loops, and libraries that use the same signal through signal-hook, keep receiving
    /// it. Numbers are in [`signals`](crate::signals). Mirrors `loop.add_signal_handler`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the number is no signal, or one that cannot be caught; the system's
    /// error if it refuses; [`LoopClosed`] after the loop's end.
    pub fn add_signal_handler(
        &self,
        number: i32,
        callback: impl FnMut() + 'static,
    ) -> io::Result<()> {
        self.driver(|driver| driver.signal(number))?;
        let handler = Rc::new(Slot::new(Some(Box::new(callback) as Box<dyn FnMut()>)));
        let replaced = self.inner.signals.with(|map| map.insert(number, handler));
        drop(replaced);
        Ok(())
    }

    /// Stops handling a signal; false if it was not handled. The disposition from before the
    /// first handler is back when no loop handles it any more. Mirrors
    /// `loop.remove_signal_handler`.
    pub fn remove_signal_handler(&self, number: i32) -> bool {
        let removed = self.inner.signals.with(|map| map.remove(&number));
        if removed.is_some() {
            // A closed loop has forgotten its signals already.
            let _ = self.driver(|driver| {
                driver.forget_signal(number);
                Ok(())
            });
        }
        removed.is_some()
    }

    pub(super) fn queue_signal(&self, number: i32) {
        let handle = self.downgrade();
        // Looked up when it runs: a handler removed meanwhile is not called.
        drop(self.call_soon(move || {
            let handler = handle
                .upgrade()
                .and_then(|handle| handle.inner.signals.with(|map| map.get(&number).cloned()));
            if let Some(handler) = handler {
                handler.lend(|callback| callback());
            }
        }));
    }
}
