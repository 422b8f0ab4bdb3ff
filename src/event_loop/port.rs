//! What the floors above may do with the loop: this page and nothing else.
//!
//! Owns: nothing; it opens the loop's fields to the crate, a method at a time. Why: the loop must
//! not know what stands on it, and what stands on it must not see its inside. Invariants: user code
//! is run by the methods under that heading, and, while no step is on the stack, by
//! [`note`](WeakHandle::note); by no other. asyncio's counterpart: the underscored methods of
//! `BaseEventLoop` that transports call.

use std::any::Any;
use std::io;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::event_loop::agenda::Agenda;
use crate::event_loop::door::ExceptionContext;
use crate::event_loop::ready::{Entry, Ready, TaskId};
use crate::event_loop::services::Services;
use crate::event_loop::state::{Job, LoopHandle, Source, TaskFuture, Timer, WeakHandle};
use crate::event_loop::threadsafe::LoopClosed;
use crate::event_loop::waker::OwnWaker;
use crate::sansio::timer_queue::TimerKey;
use crate::sys::{Driver, Readiness, SourceId};

impl LoopHandle {
    // The arrow that keeps nothing alive, and what is left when it leads nowhere.

    pub(crate) fn downgrade(&self) -> WeakHandle {
        WeakHandle::of(self)
    }

    /// Tells this loop from every other; 0 is none.
    pub(crate) fn number(&self) -> u64 {
        self.inner.agenda.number
    }

    /// What the loop is to do next.
    pub(crate) fn agenda(&self) -> &Agenda {
        &self.inner.agenda
    }

    // Sources.

    /// Makes an id. It is given back with [`remove`](Self::remove).
    pub(crate) fn reserve(&self) -> SourceId {
        SourceId(self.inner.sources.reserve())
    }

    /// Puts a source under its id; an earlier one is replaced.
    pub(crate) fn insert(&self, id: SourceId, source: Rc<dyn Source>) {
        self.note_holder(&*source, id);
        drop(self.inner.sources.put(id.0, source));
    }

    /// Ends an id. The caller drops the source where nothing is borrowed.
    pub(crate) fn remove(&self, id: SourceId) -> Option<Rc<dyn Source>> {
        self.inner.sources.remove(id.0)
    }

    /// Has the source served in the next turn though no event may come.
    pub(crate) fn visit(&self, id: SourceId) {
        self.inner.agenda.visit(id);
    }

    /// Serves the source where it is, as after such an event of its own.
    pub(crate) fn serve_source(&self, id: SourceId, event: Readiness) {
        self.serve(id, Some(event));
    }

    /// Has the listener visited as soon as a descriptor of ours is closed.
    pub(crate) fn starve(&self, id: SourceId) {
        self.inner.starved.with(|starved| starved.insert(id));
    }

    /// The listener waits for no descriptor any more.
    pub(crate) fn feed(&self, id: SourceId) {
        self.inner.starved.with(|starved| starved.remove(&id));
    }

    /// A descriptor of ours was closed.
    pub(crate) fn descriptor_freed(&self) {
        for id in self.inner.starved.with(std::mem::take) {
            self.visit(id);
        }
    }

    // Time and the queue.

    /// Appends an entry of a source to the ready queue.
    pub(crate) fn enqueue(&self, id: SourceId, entry: Entry) {
        self.inner.agenda.enqueue(id, entry);
    }

    /// Appends a woken task to the ready queue.
    pub(crate) fn push_task(&self, id: TaskId) {
        self.inner.agenda.ready.push(Ready::Task(id));
    }

    /// Whether this turn's clock has reached `when`: then all timers of that deadline are gone.
    pub(crate) fn is_due(&self, when: Instant) -> bool {
        self.inner.agenda.now.get() >= when
    }

    /// When `delay` will have passed.
    pub(crate) fn deadline(&self, delay: Duration) -> Instant {
        let now = self.time();
        now.checked_add(delay)
            .or_else(|| now.checked_add(LONGEST_DELAY))
            .unwrap_or(now)
    }

    /// Wakes `waker` at `when`.
    pub(crate) fn arm(&self, when: Instant, waker: Waker) -> TimerKey {
        self.inner
            .timers
            .with(|timers| timers.insert(when, Timer::Wake(waker)))
    }

    /// Has a source run its entry at `when`.
    pub(crate) fn arm_entry(&self, when: Instant, id: SourceId, entry: Entry) -> TimerKey {
        self.inner
            .timers
            .with(|timers| timers.insert(when, Timer::Entry(id, entry)))
    }

    /// Has a timer wake another waker. False if there is no such timer any more.
    pub(crate) fn rearm(&self, key: TimerKey, waker: &Waker) -> bool {
        let known = self.inner.timers.with(|timers| match timers.get_mut(key) {
            Some(Timer::Wake(old)) => Some(old.will_wake(waker)),
            _ => None,
        });
        if known == Some(false) {
            let timer = Timer::Wake(waker.clone());
            // What is left over, the old one as a rule, is dropped unborrowed.
            let left = self.inner.timers.with(|timers| match timers.get_mut(key) {
                Some(entry) => std::mem::replace(entry, timer),
                None => timer,
            });
            drop(left);
        }
        known.is_some()
    }

    /// Takes a timer back.
    pub(crate) fn disarm(&self, key: TimerKey) {
        let timer = self.inner.timers.with(|timers| timers.remove(key));
        drop(timer);
    }

    // User code.

    /// Runs user code as a step of its own, behind the door. What it wrote has been sent when
    /// this returns.
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
        self.step(f)
    }

    /// [`enter`](Self::enter), with a panic reported under `message`.
    pub(crate) fn enter_reporting(&self, message: &'static str, f: impl FnOnce()) {
        if let Err(payload) = self.step(f) {
            self.report(&ExceptionContext::panic(message, &*payload));
        }
    }

    /// A step of user code that nobody waits for any more: a panic is logged.
    pub(crate) fn enter_quietly(&self, f: impl FnOnce()) {
        if let Err(payload) = self.step(f) {
            let context = ExceptionContext::panic("Exception in a destructor", &*payload);
            self.default_exception_handler(&context);
        }
    }

    /// Tells the exception handler.
    pub(crate) fn report(&self, context: &ExceptionContext) {
        self.call_exception_handler(context);
    }

    // Tasks.

    /// Takes a future into the loop's table and queues its first poll. A closed loop drops it.
    pub(crate) fn spawn(&self, future: impl TaskFuture + 'static) -> Result<TaskId, LoopClosed> {
        if self.is_closed() {
            return Err(LoopClosed);
        }
        let id = TaskId(self.inner.tasks.reserve());
        let job = Job {
            future: Box::pin(future),
            own: self.own_waker(id),
        };
        // The key was reserved just now, so nothing comes back.
        drop(self.inner.tasks.put(id.0, job));
        self.inner.agenda.ready.push(Ready::Task(id));
        Ok(id)
    }

    fn own_waker(&self, id: TaskId) -> OwnWaker {
        match self.inner.wakers.with(Vec::pop) {
            Some(own) => {
                own.serve(id);
                own
            }
            None => OwnWaker::new(id, &self.inner.remote),
        }
    }

    /// A task is over.
    pub(super) fn give_waker_back(&self, own: OwnWaker) {
        let refused = self.inner.wakers.with(|wakers| {
            if wakers.len() < WAKERS_KEPT && own.is_free() {
                wakers.push(own);
                None
            } else {
                Some(own)
            }
        });
        drop(refused);
    }

    // The world.

    /// What stands in for the system's own services.
    pub(crate) fn services(&self) -> &Services {
        &self.inner.services
    }

    /// Runs one of our own closures on the driver.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] after the loop's end, else what the closure returns.
    pub(crate) fn driver<R>(
        &self,
        f: impl FnOnce(&mut dyn Driver) -> io::Result<R>,
    ) -> io::Result<R> {
        self.inner.driver.with(|driver| match driver {
            // While the loop ends it is still there, but nobody takes out what is made now.
            Some(driver) if !self.is_closed() => f(&mut **driver),
            _ => Err(LoopClosed.into()),
        })
    }
}

impl WeakHandle {
    /// Has the source settle when the running step ends; at once if there is none.
    #[inline]
    pub(crate) fn note(&self, id: SourceId) {
        let agenda = self.agenda();
        if agenda.closed.get() {
            return;
        }
        agenda.note(id);
        if !agenda.stepping.get() {
            self.settle_now();
        }
    }

    /// A step of nothing, at the end of which notes are settled.
    #[cold]
    fn settle_now(&self) {
        if let Some(handle) = self.upgrade() {
            drop(handle.step(|| ()));
        }
    }

    /// Tells the exception handler from the queue, for those who are inside the user's step or a
    /// destructor. If the loop ends first, the report is logged: it is never lost.
    pub(crate) fn report_soon(&self, context: ExceptionContext) {
        let report = Report {
            handle: self.clone(),
            context: Some(context),
        };
        if let Some(handle) = self.upgrade() {
            drop(handle.call_soon(move || report.deliver()));
        }
    }
}

/// A report on its way to the exception handler.
struct Report {
    handle: WeakHandle,
    context: Option<ExceptionContext>,
}

impl Report {
    fn deliver(mut self) {
        if let Some(handle) = self.handle.upgrade() {
            if let Some(context) = self.context.take() {
                handle.report(&context);
            }
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(context) = &self.context {
            context.log();
        }
    }
}

/// So many tasks may be over, one after the other or at once, whose wakers are kept.
const WAKERS_KEPT: usize = 1024;
/// What stands for ever where the clock cannot tell a delay: a century.
const LONGEST_DELAY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
