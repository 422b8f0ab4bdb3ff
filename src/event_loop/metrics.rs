//! What the loop counts of itself.
//!
//! Owns: [`LoopMetrics`], and the [`Counters`] and the [`Stopwatch`] behind it. Why: a server has
//! to say how its loop fares without a debug mode, and what is counted all the time may cost next
//! to nothing. Invariants: plain data, which the loop's own turn changes and nobody else; without a
//! limit no clock is read for it. asyncio's counterpart: none but `loop.slow_callback_duration`.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::event_loop::cells::{Shared, Slot};
use crate::sys::SourceId;

/// What a loop has done: see [`LoopHandle::metrics`](crate::LoopHandle::metrics).
///
/// The first four are always counted. The others need the clock, and are counted while the loop
/// has a [`slow_callback_duration`](crate::LoopHandle::set_slow_callback_duration). asyncio has
/// nothing of the kind.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoopMetrics {
    /// Turns of the loop.
    pub turns: u64,
    /// How often the system was asked what has happened; no more than once in a turn.
    pub polls: u64,
    /// What it said: sockets and descriptors with news, and signals.
    pub events: u64,
    /// Callbacks, steps of tasks and what is told to protocols from the queue, such as
    /// `connection_lost`.
    pub entries: u64,
    /// Single callbacks, events or steps that were slow.
    pub slow_callbacks: u64,
    /// Turns that were slow by the sum of what was not.
    pub slow_turns: u64,
    /// How long the longest turn took, without the sleep in it. Nothing that became ready
    /// meanwhile was looked at, so this is how late the loop has been.
    pub longest_turn: Duration,
    turn_lengths: [u64; LENGTHS],
}

impl LoopMetrics {
    /// How many turns took how long: each item counts those that were shorter than its duration
    /// and not shorter than that of the item before. The durations are the powers of two from a
    /// microsecond on; the last, which counts all longer turns, is [`Duration::MAX`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// /// How long nearly every turn took, at the most.
    /// fn percentile_99(metrics: &evloop::LoopMetrics) -> Duration {
    ///     let mut left = metrics.turn_lengths().map(|(_, turns)| turns).sum::<u64>() * 99 / 100;
    ///     let mut lengths = metrics.turn_lengths();
    ///     let found = lengths.find(|&(_, turns)| {
    ///         let here = turns >= left;
    ///         left = left.saturating_sub(turns);
    ///         here
    ///     });
    ///     found.map_or(Duration::ZERO, |(shorter_than, _)| shorter_than)
    /// }
    /// ```
    pub fn turn_lengths(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.turn_lengths
            .into_iter()
            .zip(0..)
            .map(|(turns, power)| {
                let is_last = power == LENGTHS as u32 - 1;
                let shorter_than = Duration::from_micros(1 << power);
                (if is_last { Duration::MAX } else { shorter_than }, turns)
            })
    }

    /// A turn took so long.
    fn add_turn(&mut self, length: Duration) {
        self.longest_turn = self.longest_turn.max(length);
        let bits = u128::BITS - length.as_micros().leading_zeros();
        self.turn_lengths[(bits as usize).min(LENGTHS - 1)] += 1;
    }
}

/// The same while it grows. What is always counted stands in cells of its own: an addition each.
#[derive(Default)]
pub(super) struct Counters {
    polls: Cell<u64>,
    /// Turns without a poll. The others are counted with it.
    unpolled: Cell<u64>,
    events: Cell<u64>,
    entries: Cell<u64>,
    timed: Shared<LoopMetrics>,
}

impl Counters {
    pub(super) fn add_poll(&self, events: usize) {
        self.polls.set(self.polls.get() + 1);
        self.events.set(self.events.get() + events as u64);
    }

    pub(super) fn add_turn_without_poll(&self) {
        self.unpolled.set(self.unpolled.get() + 1);
    }

    pub(super) fn add_entries(&self, entries: usize) {
        self.entries.set(self.entries.get() + entries as u64);
    }

    pub(super) fn add_slow_callback(&self) {
        self.timed.with(|timed| timed.slow_callbacks += 1);
    }

    /// The time of a turn that was counted before.
    pub(super) fn add_length(&self, length: Duration, is_slow: bool) {
        self.timed.with(|timed| {
            timed.add_turn(length);
            timed.slow_turns += u64::from(is_slow);
        });
    }

    pub(super) fn read(&self) -> LoopMetrics {
        LoopMetrics {
            turns: self.polls.get() + self.unpolled.get(),
            polls: self.polls.get(),
            events: self.events.get(),
            entries: self.entries.get(),
            ..self.timed.with(|timed| timed.clone())
        }
    }

    /// Begins anew.
    pub(super) fn take(&self) -> LoopMetrics {
        LoopMetrics {
            turns: self.polls.get() + self.unpolled.take(),
            polls: self.polls.take(),
            events: self.events.take(),
            entries: self.entries.take(),
            ..self.timed.with(std::mem::take)
        }
    }
}

/// The loop's eye on the clock, while somebody wants to know what is slow.
pub(super) struct Stopwatch {
    pub(super) limit: Cell<Option<Duration>>,
    /// There is a limit, and the turn that goes on is watched from its beginning.
    pub(super) is_on: Cell<bool>,
    /// What runs, of the things that are timed.
    pub(super) runs: Slot<Who>,
    /// When the last of them has ended, and when the last turn has.
    pub(super) mark: Cell<Instant>,
    pub(super) turn_ended: Cell<Instant>,
    /// Of this turn: how many things were not slow, how long they took together, and the longest.
    pub(super) small: Cell<(u32, Duration)>,
    pub(super) longest: Slot<(Duration, Who)>,
}

impl Stopwatch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            limit: Cell::new(None),
            is_on: Cell::new(false),
            runs: Slot::default(),
            mark: Cell::new(now),
            turn_ended: Cell::new(now),
            small: Cell::default(),
            longest: Slot::default(),
        }
    }

    /// What has begun is timed no more if there is no limit any more.
    pub(super) fn set(&self, limit: Option<Duration>) {
        self.limit.set(limit);
        if limit.is_none() {
            self.is_on.set(false);
            drop(self.runs.take());
        }
    }

    /// Begins anew, between two turns.
    pub(super) fn begin(&self, now: Instant) {
        self.is_on.set(true);
        drop(self.runs.take());
        self.mark.set(now);
        self.turn_ended.set(now);
        self.small.take();
        drop(self.longest.take());
    }

    /// Something of this turn was not slow.
    pub(super) fn add_small(&self, took: Duration, who: Who) {
        let (count, sum) = self.small.get();
        self.small.set((count + 1, sum + took));
        let longest = self.longest.lend(|(longest, _)| *longest);
        if longest.is_none_or(|longest| longest < took) {
            drop(self.longest.put((took, who)));
        }
    }
}

/// What a turn runs, in few words: it has to be known before it runs, since it may be gone then.
pub(super) enum Who {
    /// The future of `run_until_complete`.
    Root,
    /// By the name of its future's type.
    Task(&'static str),
    /// By the name of its closure's type.
    Callback(&'static str),
    /// Of another thread.
    Remote,
    /// Described when it turns out to be slow, if it is still there.
    Source(SourceId),
    /// Described already, since this is its end.
    Ending(String),
}

/// How many powers of two are told apart.
const LENGTHS: usize = 24;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LENGTHS, LoopMetrics};

    #[test]
    fn each_turn_is_counted_below_its_power_of_two() {
        let mut metrics = LoopMetrics::default();
        for nanos in [0, 999, 1_000, 1_999, 2_000, 3_999, 1_024_000] {
            metrics.add_turn(Duration::from_nanos(nanos));
        }
        metrics.add_turn(Duration::from_secs(5));
        metrics.add_turn(Duration::MAX);
        let told: Vec<_> = metrics
            .turn_lengths()
            .filter(|&(_, turns)| turns > 0)
            .collect();
        let micros = Duration::from_micros;
        assert_eq!(
            told,
            [
                (micros(1), 2),
                (micros(2), 2),
                (micros(4), 2),
                (micros(2048), 1),
                (Duration::MAX, 2),
            ]
        );
        assert_eq!(metrics.turn_lengths().count(), LENGTHS);
        assert_eq!(metrics.longest_turn, Duration::MAX);
    }
}
