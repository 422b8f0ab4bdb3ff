//! What takes too long, by name.
//!
//! Owns: the loop's methods that time what a turn runs, and tell what was slow. Why: on one thread
//! everybody waits for a callback that computes, and as long for a turn of many short ones, and
//! nobody sees who it was. Invariants: without a limit a turn does not come here; each span of time
//! is told once, as a slow callback or within a slow turn; the logger is called as user code is,
//! with nothing borrowed. asyncio's counterpart: `loop.slow_callback_duration`, and the timing in
//! `BaseEventLoop._run_once`.

use std::time::Duration;

use crate::event_loop::metrics::{LoopMetrics, Who};
use crate::event_loop::ready::{Entry, Ready, TaskId};
use crate::event_loop::state::LoopHandle;
use crate::sys::SourceId;

impl LoopHandle {
    /// Logs from the next turn on whatever takes `limit` or longer, as a warning of the crate
    /// `log`; `None` ends that at once. Mirrors `loop.slow_callback_duration`.
    ///
    /// Told by name is a slow callback (by the function that its closure stands in), a slow step of
    /// a task (by the function of its future), and a slow event or method of a protocol (by the
    /// connection and its peer):
    ///
    /// ```text
    /// Executing task shop::checkout took 0.214 seconds
    /// ```
    ///
    /// And a slow turn: one in which nothing was slow by itself, but all of it together, for whoever
    /// is ready next has waited as long. It is told with the number of things that ran in it and
    /// the name of the longest.
    ///
    /// asyncio does the first in debug mode, for 0.1 seconds unless told otherwise, and knows
    /// nothing of turns. Here there is no debug mode, so this is meant for production; but it is
    /// off at first: it looks at the clock after each callback, which a callback of nothing would
    /// notice, and how long is slow, only the program can know. No more than one line comes for
    /// each `limit` of time. [`metrics`](Self::metrics) has the numbers.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use evloop::{get_running_loop, sleep};
    ///
    /// evloop::run(async {
    ///     let handle = get_running_loop().unwrap();
    ///     handle.set_slow_callback_duration(Duration::from_millis(5));
    ///     handle.call_soon(|| std::thread::sleep(Duration::from_millis(20)));
    ///     sleep(Duration::from_millis(1)).await.unwrap();
    ///     assert!(handle.metrics().slow_callbacks >= 1);
    /// })
    /// .unwrap();
    /// ```
    pub fn set_slow_callback_duration(&self, limit: impl Into<Option<Duration>>) {
        let (stopwatch, limit) = (&self.inner.stopwatch, limit.into());
        stopwatch.set(limit);
        // Of a turn that goes on, nobody has seen the beginning: it begins with the next one.
        if limit.is_some() && !self.is_running() {
            stopwatch.begin(self.time());
        }
    }

    /// What takes so long is logged; `None`: nothing is.
    ///
    /// Mirrors `loop.slow_callback_duration`.
    pub fn slow_callback_duration(&self) -> Option<Duration> {
        self.inner.stopwatch.limit.get()
    }

    /// What the loop has done since it was made, or since the last
    /// [`take_metrics`](Self::take_metrics).
    ///
    /// ```
    /// evloop::run(async {
    ///     let handle = evloop::get_running_loop().unwrap();
    ///     let metrics = handle.metrics();
    ///     assert_eq!((metrics.turns, metrics.polls), (1, 1));
    /// })
    /// .unwrap();
    /// ```
    pub fn metrics(&self) -> LoopMetrics {
        self.inner.counters.read()
    }

    /// [`metrics`](Self::metrics), which begin anew: for one who asks at intervals, and for one
    /// only, as others miss what it takes.
    pub fn take_metrics(&self) -> LoopMetrics {
        self.inner.counters.take()
    }

    /// The first entry of the ready queue comes next.
    #[cold]
    pub(super) fn note_entry(&self) {
        // Names and descriptions are ours: nothing of the user's runs here.
        let who = self.inner.agenda.ready.first(|entry| match entry {
            Ready::Task(TaskId::ROOT) => Who::Root,
            Ready::Task(id) => Who::Task(self.name_of(*id)),
            Ready::Call(callback) => Who::Callback(callback.name()),
            Ready::Remote(_) => Who::Remote,
            Ready::Source(id, Entry::Lost) => Who::Ending(self.describe(*id)),
            Ready::Source(id, _) => Who::Source(*id),
        });
        if let Some(who) = who {
            self.note_next(who);
        }
    }

    /// A source is served next.
    #[cold]
    pub(super) fn note_source(&self, id: SourceId) {
        self.note_next(Who::Source(id));
    }

    /// Something comes next, and what came before it is over.
    fn note_next(&self, who: Who) {
        self.look_at_the_clock();
        drop(self.inner.stopwatch.runs.put(who));
    }

    /// The turn is over: was it slow, beside what was slow in it?
    #[cold]
    pub(super) fn look_back(&self) {
        self.look_at_the_clock();
        let stopwatch = &self.inner.stopwatch;
        let Some(limit) = stopwatch.limit.get() else {
            return;
        };
        if !stopwatch.is_on.get() {
            stopwatch.begin(self.time());
            return;
        }
        let ended = stopwatch.mark.get();
        let began = stopwatch.turn_ended.get().max(self.inner.polled.get());
        let (count, sum) = stopwatch.small.take();
        let is_slow = count > 0 && sum >= limit;
        self.inner
            .counters
            .add_length(ended.saturating_duration_since(began), is_slow);
        let longest = stopwatch.longest.take();
        if let Some((took, who)) = longest.filter(|_| is_slow) {
            let (sum, took) = (sum.as_secs_f64(), took.as_secs_f64());
            let name = self.name(who);
            self.warn(format_args!(
                "Executing {count} callbacks in one turn took {sum:.3} seconds; \
                 the longest, {name}, took {took:.3}"
            ));
        }
        stopwatch.turn_ended.set(stopwatch.mark.get());
    }

    /// How long did the last thing take, since the one before it, or since the poll?
    fn look_at_the_clock(&self) {
        let stopwatch = &self.inner.stopwatch;
        let (Some(limit), Some(who)) = (stopwatch.limit.get(), stopwatch.runs.take()) else {
            return;
        };
        let now = self.time();
        let began = stopwatch.mark.replace(now).max(self.inner.polled.get());
        let took = now.saturating_duration_since(began);
        if took < limit {
            stopwatch.add_small(took, who);
            return;
        }
        self.inner.counters.add_slow_callback();
        let (name, took) = (self.name(who), took.as_secs_f64());
        self.warn(format_args!("Executing {name} took {took:.3} seconds"));
    }

    /// A logger is not ours, and its time is nobody's.
    fn warn(&self, line: std::fmt::Arguments<'_>) {
        self.enter_reporting("Exception in a logger", || log::warn!("{line}"));
        let now = self.time();
        self.inner.stopwatch.mark.set(now);
    }

    fn name(&self, who: Who) -> String {
        match who {
            Who::Root => "the future of run_until_complete".to_owned(),
            Who::Task(name) => format!("task {}", function(name)),
            Who::Callback(name) => format!("callback {}", function(name)),
            Who::Remote => "a callback of call_soon_threadsafe".to_owned(),
            Who::Source(id) => self.describe(id),
            Who::Ending(description) => description,
        }
    }

    pub(super) fn name_of(&self, id: TaskId) -> &'static str {
        let tasks = &self.inner.tasks;
        let Some(job) = tasks.take(id.0) else {
            return "that is over";
        };
        let name = job.future.name();
        // The key was there a moment ago, so nothing comes back.
        drop(tasks.put(id.0, job));
        name
    }

    fn describe(&self, id: SourceId) -> String {
        match self.inner.sources.get(id.0) {
            Some(source) => source.describe(),
            None => "a source of events that is gone".to_owned(),
        }
    }
}

/// The function that a closure or an async block stands in.
pub(super) fn function(type_name: &str) -> &str {
    type_name.trim_end_matches("::{{closure}}")
}
