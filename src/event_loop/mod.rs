//! The event loop: one thread, one queue, one place where callbacks run.
//!
//! Owns: the ready queue, the timers, the table of I/O sources, the tasks' futures, the driver.
//! Why: everything above is written as callbacks that never nest, and this is what calls them.
//! Invariants: user code is entered here only, at the top of the stack, with nothing borrowed;
//! what a turn schedules runs in the next one, so nothing starves I/O; a turn reads the clock when
//! its poll has returned, and before a sleep only if a timer may end it. asyncio's counterpart:
//! `base_events.BaseEventLoop` and the loop half of `selector_events`.
//!
//! The floors above use the loop through the methods of `port.rs`; users through `LoopHandle`
//! and `EventLoop`.

mod agenda;
pub(crate) mod cells;
pub(crate) mod door;
mod handle;
mod loop_handle;
mod owner;
mod port;
mod ready;
mod remote;
pub(crate) mod running;
pub(crate) mod spares;
mod state;
mod threadsafe;
mod timer_handle;
mod waker;

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use self::door::catch;
use self::handle::Callback;
use self::ready::Ready;
use self::remote::Message;
use self::state::{Job, Timer};
use crate::sys::{Event, Readiness, SourceId};

pub(crate) use self::agenda::Agenda;
pub use self::door::{ExceptionContext, PanicError};
pub use self::handle::Handle;
pub use self::owner::{EventLoop, LoopStopped};
pub(crate) use self::ready::{Entry, TaskId};
pub use self::running::NoRunningLoop;
pub use self::state::{LoopHandle, get_running_loop};
pub(crate) use self::state::{Progress, Source, WeakHandle};
pub use self::threadsafe::{LoopClosed, ThreadsafeHandle};
pub use self::timer_handle::TimerHandle;

impl LoopHandle {
    /// One turn of the loop. Read it from top to bottom: this is all there is.
    fn run_once(&self, root: &mut dyn FnMut()) {
        let inner = &*self.inner;
        let ready = &inner.agenda.ready;

        // Sleep until something happens, or just look whether something has, if there is work
        // already. I/O is served at once: a reader that is woken here runs below, in the same turn.
        let mut events = inner.events.take().unwrap_or_default();
        if self.poll_is_due(&events) {
            self.poll(&mut events);
        } else if inner.timers.with(|timers| !timers.is_empty()) {
            inner.now.set(self.time());
        }
        self.serve_all(&mut events);
        drop(inner.events.put(events));

        // Timers that are due, in the order of their deadlines, then what other threads sent.
        while let Some(timer) = inner.timers.with(|timers| timers.pop_due(inner.now.get())) {
            match timer {
                Timer::Call(callback) => ready.push(Ready::Call(callback)),
                Timer::Wake(waker) => self.enter_reporting("Exception in a waker", || waker.wake()),
            }
        }
        if inner.remote.has_messages() {
            self.queue_messages();
        }

        // Exactly the entries that are ready now: what they schedule is for the next turn.
        let entries = ready.len();
        inner.since_poll.set(inner.since_poll.get() + entries);
        for _ in 0..entries {
            match ready.pop() {
                Some(Ready::Task(TaskId::ROOT)) => root(),
                Some(Ready::Task(id)) => self.poll_task(id),
                Some(Ready::Call(callback)) => self.run_callback(callback),
                Some(Ready::Remote(callback)) => self.run_remote(callback),
                Some(Ready::Source(id, entry)) => self.run_entry(id, entry),
                None => break,
            }
        }
    }

    /// A look at the world costs a system call, so where work waits it is made once for much of
    /// it: I/O may then wait for as many entries, and no longer.
    fn poll_is_due(&self, events: &[Event]) -> bool {
        let (inner, agenda) = (&*self.inner, &*self.inner.agenda);
        (agenda.ready.is_empty() && events.is_empty())
            || inner.since_poll.get() >= ENTRIES_PER_POLL
            || inner.stopping.get()
            || agenda.has_visits()
    }

    /// Serves the sources with events, and those that stopped early in the turn before. When
    /// streams have taken in much, their readers come first: what is left waits for the next turn.
    fn serve_all(&self, events: &mut Vec<Event>) {
        let agenda = &*self.inner.agenda;
        let visits = agenda.take_visits();
        agenda.taken_in.set(0);
        let mut served = 0;
        while served < events.len() && agenda.taken_in.get() < TAKEN_IN_PER_TURN {
            match events[served] {
                Event::Ready(id, readiness) => self.serve(id, Some(readiness)),
                Event::Signal(number) => self.queue_signal(number),
            }
            served += 1;
        }
        events.drain(..served);
        for id in visits {
            self.serve(id, None);
        }
    }

    fn poll(&self, events: &mut Vec<Event>) {
        let inner = &*self.inner;
        let agenda = &*inner.agenda;
        inner.since_poll.set(0);
        let busy = !agenda.ready.is_empty()
            || !events.is_empty()
            || agenda.has_visits()
            || inner.stopping.get();
        let deadline = inner.timers.with(|timers| timers.next_deadline());
        let outcome = inner.driver.with(|driver| {
            let Some(driver) = driver else {
                return Ok(());
            };
            let outcome = loop {
                let mut timeout = poll_timeout(busy, deadline, || driver.now());
                let sleeps = timeout != Some(Duration::ZERO);
                if sleeps && !inner.remote.prepare_sleep() {
                    timeout = Some(Duration::ZERO);
                }
                let outcome = driver.poll(events, timeout);
                if sleeps {
                    inner.remote.end_sleep();
                }
                match outcome {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => break outcome,
                }
            };
            inner.now.set(driver.now());
            outcome
        });
        if let Err(error) = outcome {
            // Only a descriptor of ours that somebody else has closed leads here, and a loop
            // that cannot poll could only spin.
            panic!("the event loop cannot poll: {error}");
        }
    }

    fn queue_messages(&self) {
        let mut messages = self.inner.messages.take().unwrap_or_default();
        self.inner.remote.take_into(&mut messages);
        for message in messages.drain(..) {
            self.inner.agenda.ready.push(match message {
                Message::Wake(id) => Ready::Task(id),
                Message::Call(callback) => Ready::Remote(callback),
            });
        }
        // Room for the next burst, but not for the largest that ever was.
        messages.shrink_to(MESSAGES_KEPT);
        drop(self.inner.messages.put(messages));
    }

    fn serve(&self, id: SourceId, event: Option<Readiness>) {
        if let Some(source) = self.inner.sources.get(id.0) {
            if source.serve(self, event) == Progress::Again {
                self.visit(id);
            }
        }
    }

    fn run_entry(&self, id: SourceId, entry: Entry) {
        if let Some(source) = self.inner.sources.get(id.0) {
            source.run(self, entry);
        }
    }

    fn run_callback(&self, callback: Rc<dyn Callback>) {
        self.enter_reporting("Exception in callback", || {
            callback.call();
            drop(callback);
        });
    }

    fn run_remote(&self, callback: Box<dyn FnOnce() + Send>) {
        self.enter_reporting("Exception in callback", callback);
    }

    fn poll_task(&self, id: TaskId) {
        // A stale wake, of a task that is over, finds nothing.
        let Some(mut job) = self.inner.tasks.take(id.0) else {
            return;
        };
        job.own.flags.clear();
        let polled = self.enter(|| {
            let mut cx = Context::from_waker(&job.own.waker);
            job.future.as_mut().poll(&mut cx)
        });
        match polled {
            Ok(Poll::Pending) => {
                // The key is ours until the job is over, so nothing comes back.
                drop(self.inner.tasks.put(id.0, job));
                return;
            }
            Ok(Poll::Ready(())) => {}
            Err(payload) => {
                self.report(&ExceptionContext::panic(
                    "Exception in a task's destructor",
                    &*payload,
                ));
            }
        }
        drop(self.inner.tasks.remove(id.0));
        let Job { future, own } = job;
        self.enter_reporting("Exception in a task's destructor", || drop(future));
        self.give_waker_back(own);
    }

    /// Enters user code: a step. What it wrote is sent, and what that caused is told, when it has
    /// returned and before anything else runs. A step within a step is a part of it.
    fn step<R>(&self, f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
        let agenda = &*self.inner.agenda;
        if agenda.stepping.replace(true) {
            return catch(f);
        }
        let _over = StepGuard(&agenda.stepping);
        running::refill_budget();
        let outcome = catch(f);
        while let Some(id) = agenda.next_note() {
            if let Some(source) = self.inner.sources.get(id.0) {
                source.settle(self);
            }
        }
        outcome
    }
}

/// Says that the step is over, also when a logger panics while it settles.
struct StepGuard<'a>(&'a Cell<bool>);

impl Drop for StepGuard<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// How long a poll may sleep. `now` is asked only where a deadline has to be compared with it.
fn poll_timeout(
    busy: bool,
    deadline: Option<Instant>,
    now: impl FnOnce() -> Instant,
) -> Option<Duration> {
    if busy {
        return Some(Duration::ZERO);
    }
    deadline.map(|deadline| deadline.saturating_duration_since(now()))
}

/// So many callbacks and task steps may run between two looks at the world.
const ENTRIES_PER_POLL: usize = 64;
/// So many bytes are taken in for readers before these run: as much as stays in a cache.
const TAKEN_IN_PER_TURN: usize = 256 * 1024;
/// Room for so many messages from other threads is kept.
const MESSAGES_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use super::{Entry, EventLoop, LoopHandle, Progress, Source, poll_timeout};
    use crate::sys::Readiness;

    /// A source that has always more to do, and counts how often it is served.
    #[derive(Default)]
    struct Greedy(Cell<usize>);

    impl Source for Greedy {
        fn serve(self: Rc<Self>, _: &LoopHandle, _: Option<Readiness>) -> Progress {
            self.0.set(self.0.get() + 1);
            Progress::Again
        }

        fn run(self: Rc<Self>, _: &LoopHandle, _: Entry) {}

        fn settle(self: Rc<Self>, _: &LoopHandle) {}

        fn abandon(self: Rc<Self>) {}
    }

    /// Each event and each `resume_reading` asks for a visit, and each visit for the next one:
    /// were they counted, a busy source would be served ever more often.
    #[test]
    fn a_source_is_visited_once_a_turn_however_often_it_asked() {
        let mut event_loop = EventLoop::new().unwrap();
        let greedy = Rc::new(Greedy::default());
        let id = event_loop.reserve();
        event_loop.insert(id, Rc::clone(&greedy) as Rc<dyn Source>);
        for turn in 1..=3 {
            event_loop.visit(id);
            event_loop.visit(id);
            event_loop.stop();
            event_loop.run_forever();
            assert_eq!(greedy.0.get(), turn);
        }
    }

    #[test]
    fn the_timeout_is_zero_when_something_waits_else_the_next_deadline_else_none() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let clock = || now;
        assert_eq!(poll_timeout(true, None, clock), Some(Duration::ZERO));
        assert_eq!(
            poll_timeout(true, Some(now + second), clock),
            Some(Duration::ZERO)
        );
        assert_eq!(poll_timeout(false, Some(now + second), clock), Some(second));
        assert_eq!(
            poll_timeout(false, Some(now - second), clock),
            Some(Duration::ZERO)
        );
        assert_eq!(poll_timeout(false, None, clock), None);
    }
}
