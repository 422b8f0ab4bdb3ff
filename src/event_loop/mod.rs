//! The event loop: one thread, one queue, one place where callbacks run.
//!
//! Owns: the ready queue, the timers, the table of I/O sources, the tasks' futures, the driver.
//! Why: everything above is written as callbacks that never nest, and this is what calls them.
//! Invariants: user code is entered here only, at the top of the stack, with nothing borrowed; what
//! a turn schedules runs in the next one, so nothing starves I/O; a turn reads the clock when its
//! poll has returned, before a sleep only if a timer may end it, and without a poll only if a timer
//! is armed or much has run. asyncio's counterpart: `base_events.BaseEventLoop` and the loop half
//! of `selector_events`.
//!
//! The floors above use the loop through the methods of `port.rs`; users through `LoopHandle`
//! and `EventLoop`.

mod agenda;
pub(crate) mod cells;
mod descriptors;
pub(crate) mod door;
mod handle;
mod loop_handle;
mod metrics;
mod owner;
mod port;
mod ready;
mod remote;
pub(crate) mod running;
pub(crate) mod services;
mod slow;
pub(crate) mod spares;
mod state;
mod sync;
mod threadsafe;
mod timer_handle;
mod turns;
#[cfg(test)]
mod wake_path;
mod waker;
mod watched;

use std::any::Any;
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
pub use self::descriptors::DescriptorError;
pub use self::door::{ExceptionContext, PanicError};
pub use self::handle::Handle;
pub use self::metrics::LoopMetrics;
pub use self::owner::{EventLoop, LoopStopped};
pub(crate) use self::ready::{Entry, TaskId};
pub use self::running::NoRunningLoop;
pub use self::services::Executor;
pub use self::state::{LoopHandle, get_running_loop};
pub(crate) use self::state::{Progress, Source, TaskFuture, WeakHandle, loop_of};
pub use self::threadsafe::{LoopClosed, ThreadsafeHandle};
pub use self::timer_handle::TimerHandle;
pub(crate) use self::watched::Direction;

impl LoopHandle {
    /// One turn of the loop. Read it from top to bottom: this is all there is.
    // Called at one place, once for each turn: a call could be seen in what an echo costs.
    #[inline(always)]
    fn run_once(&self, root: &mut dyn FnMut()) {
        let inner = &*self.inner;
        let ready = &inner.agenda.ready;

        // Sleep until something happens, or just look whether something has, if there is work
        // already. I/O is served at once: a reader that is woken here runs below, in the same turn.
        inner.events.lend(|events| {
            if self.poll_is_due(events) {
                self.poll(events);
            } else {
                inner.counters.add_turn_without_poll();
            }
            self.serve_all(events);
        });

        // Timers that are due, in the order of their deadlines, then what other threads sent.
        while let Some(timer) = inner
            .timers
            .with(|timers| timers.pop_due(inner.agenda.now.get()))
        {
            match timer {
                Timer::Call(callback) => ready.push(Ready::Call(callback)),
                Timer::Entry(id, entry) => ready.push(Ready::Source(id, entry)),
                Timer::Wake(waker) => self.enter_reporting("Exception in a waker", || waker.wake()),
            }
        }
        if inner.remote.has_messages() {
            self.queue_messages();
        }

        // Exactly the entries that are ready now: what they schedule is for the next turn.
        let entries = ready.len();
        inner.since_poll.set(inner.since_poll.get() + entries);
        inner.counters.add_entries(entries);
        for _ in 0..entries {
            if inner.stopwatch.is_on.get() {
                self.note_entry();
            }
            match ready.pop() {
                Some(Ready::Task(TaskId::ROOT)) => root(),
                Some(Ready::Task(id)) => self.poll_task(id),
                Some(Ready::Call(callback)) => self.run_callback(callback),
                Some(Ready::Remote(callback)) => self.run_remote(callback),
                Some(Ready::Source(id, entry)) => self.run_entry(id, entry),
                None => break,
            }
        }
        if inner.stopwatch.limit.get().is_some() {
            self.look_back();
        }
    }

    /// A look at the world costs a system call, so where work waits it is made once for much of
    /// it: I/O may then wait for so many entries, or for so long, and for no more than that.
    fn poll_is_due(&self, events: &[Event]) -> bool {
        let (inner, agenda) = (&*self.inner, &*self.inner.agenda);
        let visits = agenda.has_visits();
        let idle = events.is_empty() && (visits || agenda.ready.is_empty());
        let entries = inner.since_poll.get();
        if idle || entries >= ENTRIES_PER_POLL || inner.stopping.get() {
            return true;
        }
        // A reading of the clock costs as much as a short entry, so it is made now and then; where
        // a timer is armed in each turn, since timers keep their place among callbacks.
        let timers = inner.timers.with(|timers| !timers.is_empty());
        if timers || entries >= inner.next_look.get() {
            inner
                .next_look
                .set(entries + entries.clamp(1, ENTRIES_PER_LOOK));
            inner.agenda.now.set(self.time());
        }
        agenda
            .now
            .get()
            .saturating_duration_since(inner.polled.get())
            >= TIME_PER_POLL
    }

    /// Serves the sources with events, then those that are owed a visit. When streams have taken in
    /// much, their readers come first: the rest of either waits for the next turn.
    fn serve_all(&self, events: &mut Vec<Event>) {
        let agenda = &*self.inner.agenda;
        let visits = agenda.visits();
        let mut served = 0;
        agenda.taken_in.set(0);
        while served < events.len() && agenda.taken_in.get() < TAKEN_IN_PER_TURN {
            match events[served] {
                Event::Ready(id, readiness) => self.serve(id, Some(readiness)),
                Event::Signal(number) => self.queue_signal(number),
            }
            served += 1;
        }
        events.drain(..served);
        agenda.taken_in.set(0);
        for _ in 0..visits {
            if agenda.taken_in.get() >= TAKEN_IN_PER_TURN {
                return;
            }
            if let Some((id, told)) = agenda.next_visit() {
                self.serve(id, told);
            }
        }
    }

    fn poll(&self, events: &mut Vec<Event>) {
        let inner = &*self.inner;
        let agenda = &*inner.agenda;
        inner.since_poll.set(0);
        inner.next_look.set(1);
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
            inner.agenda.now.set(driver.now());
            inner.polled.set(inner.agenda.now.get());
            inner.counters.add_poll(events.len());
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

    #[inline]
    fn serve(&self, id: SourceId, event: Option<Readiness>) {
        if self.inner.stopwatch.is_on.get() {
            self.note_source(id);
        }
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
        let over = StepGuard(self);
        running::refill_budget();
        let outcome = catch(f);
        self.settle_all();
        drop(over);
        outcome
    }

    /// Has everybody who left a note send and tell, until nobody leaves one any more.
    fn settle_all(&self) {
        while let Some(id) = self.inner.agenda.next_note() {
            if let Some(source) = self.inner.sources.get(id.0) {
                source.settle(self);
            }
        }
    }
}

/// Says that the step is over. When a logger has panicked while it settled, the others that have
/// left a note settle all the same: what they have to send may stand in a buffer that is lent.
struct StepGuard<'a>(&'a LoopHandle);

impl StepGuard<'_> {
    #[cold]
    fn settle_the_others(&self) {
        while self.0.inner.agenda.has_notes() {
            // One panic is on its way already.
            drop(catch(|| self.0.settle_all()));
        }
    }
}

impl Drop for StepGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let agenda = &*self.0.inner.agenda;
        if agenda.has_notes() {
            self.settle_the_others();
        }
        agenda.stepping.set(false);
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

/// A turn looks at the world when so many callbacks and task steps have run since the last look.
const ENTRIES_PER_POLL: usize = 64;
/// It looks when so much time has passed as well, as far as is known: the clock is read after 1, 2,
/// 4 and 8 entries and then after as many each.
const TIME_PER_POLL: Duration = Duration::from_micros(200);
const ENTRIES_PER_LOOK: usize = 8;
/// So many bytes are taken in for readers before these run: as much as stays in a cache.
const TAKEN_IN_PER_TURN: usize = 256 * 1024;
/// Room for so many messages from other threads is kept.
const MESSAGES_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::{OwnedFd, RawFd};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{
        ENTRIES_PER_POLL, Entry, EventLoop, LoopHandle, Progress, Source, TIME_PER_POLL,
        poll_timeout,
    };
    use crate::sys::{
        Address, ConnectFailure, Driver, Event, Job, ListenOptions, Listener, MioDriver, Readiness,
        Refused, SourceId, Stream, Wakeup, Watch,
    };

    /// Counts how often the real driver is asked.
    pub(super) struct Counting(pub(super) MioDriver, pub(super) Rc<Cell<usize>>);

    impl Driver for Counting {
        fn now(&self) -> Instant {
            self.0.now()
        }

        fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
            self.1.set(self.1.get() + 1);
            self.0.poll(events, timeout)
        }

        fn waker(&self) -> Arc<dyn Wakeup> {
            self.0.waker()
        }

        fn connect(&mut self, id: SourceId, to: &Address) -> io::Result<Box<dyn Stream>> {
            self.0.connect(id, to)
        }

        fn connect_from(
            &mut self,
            id: SourceId,
            from: SocketAddr,
            to: SocketAddr,
        ) -> Result<Box<dyn Stream>, ConnectFailure> {
            self.0.connect_from(id, from, to)
        }

        fn bind(
            &mut self,
            id: SourceId,
            at: &Address,
            how: &ListenOptions,
        ) -> io::Result<Box<dyn Listener>> {
            self.0.bind(id, at, how)
        }

        fn adopt_stream(&mut self, id: SourceId, socket: OwnedFd) -> io::Result<Box<dyn Stream>> {
            self.0.adopt_stream(id, socket)
        }

        fn release(&mut self, stream: Box<dyn Stream>) -> io::Result<OwnedFd> {
            self.0.release(stream)
        }

        fn adopt_listener(
            &mut self,
            id: SourceId,
            socket: OwnedFd,
            backlog: u32,
        ) -> io::Result<Box<dyn Listener>> {
            self.0.adopt_listener(id, socket, backlog)
        }

        fn watch(
            &mut self,
            id: SourceId,
            fd: RawFd,
            wanted: Readiness,
        ) -> io::Result<Box<dyn Watch>> {
            self.0.watch(id, fd, wanted)
        }

        fn signal(&mut self, number: i32) -> io::Result<()> {
            self.0.signal(number)
        }

        fn forget_signal(&mut self, number: i32) {
            self.0.forget_signal(number);
        }

        fn blocking(&mut self, job: Job) -> Result<(), Refused> {
            self.0.blocking(job)
        }

        fn end_blocking(&mut self) -> VecDeque<Job> {
            self.0.end_blocking()
        }
    }

    fn chain(handle: &LoopHandle, left: usize) {
        if left == 0 {
            handle.stop();
            return;
        }
        let next = handle.clone();
        drop(handle.call_soon(move || chain(&next, left - 1)));
    }

    /// One callback a turn: were the poller asked in each of them, it would be so a thousand times.
    #[test]
    fn the_poller_is_asked_once_for_64_entries() {
        let polls = Rc::new(Cell::new(0));
        let driver = Counting(MioDriver::new().unwrap(), Rc::clone(&polls));
        let mut event_loop = EventLoop::with_driver(Box::new(driver));
        let callbacks = 1000;
        chain(&event_loop, callbacks);
        event_loop.run_forever();
        // A machine that has no time for us adds a few, since time counts as well.
        let (expected, asked) = (callbacks / ENTRIES_PER_POLL, polls.get());
        assert!((expected..callbacks / 4).contains(&asked), "{asked} polls");
    }

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

    #[test]
    fn each_run_asks_the_poller_however_short_it_is() {
        let polls = Rc::new(Cell::new(0));
        let driver = Counting(MioDriver::new().unwrap(), Rc::clone(&polls));
        let mut event_loop = EventLoop::with_driver(Box::new(driver));
        for run in 1..=10 {
            event_loop.run_until_complete(async {});
            assert_eq!(polls.get(), run);
        }
    }

    /// A callback that computes for long keeps nobody waiting for 63 others of its kind.
    #[test]
    fn the_poller_is_asked_again_when_an_entry_took_long() {
        let polls = Rc::new(Cell::new(0));
        let driver = Counting(MioDriver::new().unwrap(), Rc::clone(&polls));
        let mut event_loop = EventLoop::with_driver(Box::new(driver));
        let callbacks = 10;
        compute_in_turns(&event_loop, callbacks);
        event_loop.run_forever();
        let asked = polls.get();
        assert!(asked >= callbacks, "{asked} polls");
    }

    /// Callbacks of a turn each, every one as long as the poller may be left alone.
    fn compute_in_turns(handle: &LoopHandle, left: usize) {
        let began = handle.time();
        while handle.time() - began < TIME_PER_POLL {}
        if left == 0 {
            handle.stop();
            return;
        }
        let next = handle.clone();
        drop(handle.call_soon(move || compute_in_turns(&next, left - 1)));
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
