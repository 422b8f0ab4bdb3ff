//! What is to happen at a later time, in the order in which it will.
//!
//! Owns: the entries of all armed timers, and the numbers that keep equal deadlines apart. Why:
//! an ordered map, where asyncio has a heap that keeps what was cancelled until its time comes:
//! here cancelling gives the entry back at once, so that whatever it holds is freed by the
//! caller. Invariants: entries leave in the order of (deadline, insertion); a key is never used
//! twice, so one that is stale finds nothing; the clock is not read here. asyncio's counterpart:
//! `_scheduled` of `base_events.py`.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::time::Instant;

/// Names one timer, and says when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TimerKey {
    // The order of the fields is the order of the queue.
    when: Instant,
    sequence: u64,
}

pub(crate) struct TimerQueue<T> {
    entries: BTreeMap<TimerKey, T>,
    next_sequence: u64,
}

impl TimerKey {
    pub(crate) fn when(&self) -> Instant {
        self.when
    }
}

impl<T> TimerQueue<T> {
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            next_sequence: 0,
        }
    }

    pub(crate) fn insert(&mut self, when: Instant, entry: T) -> TimerKey {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let key = TimerKey { when, sequence };
        self.entries.insert(key, entry);
        key
    }

    /// Cancels a timer. `None`: it was due already, or cancelled.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        self.entries.remove(&key)
    }

    /// The entry of a timer that is not due yet.
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        self.entries.get_mut(&key)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(key, _)| key.when)
    }

    /// The first entry, if its deadline is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let first = self.entries.first_entry()?;
        if first.key().when > now {
            return None;
        }
        Some(first.remove())
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Cancels all timers, and gives their entries back in order.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        mem::take(&mut self.entries).into_values().collect()
    }
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// By hand, since entries are closures as a rule.
impl<T> fmt::Debug for TimerQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerQueue")
            .field("len", &self.len())
            .field("next_deadline", &self.next_deadline())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::sansio::xorshift::Xorshift;

    fn at(base: Instant, millis: usize) -> Instant {
        base + Duration::from_millis(millis as u64)
    }

    #[test]
    fn entries_are_due_by_deadline_and_then_by_insertion() {
        let base = Instant::now();
        let mut timers = TimerQueue::new();
        for (millis, name) in [(20, "d"), (10, "a"), (10, "b"), (30, "e"), (10, "c")] {
            let key = timers.insert(at(base, millis), name);
            assert_eq!(key.when(), at(base, millis));
        }
        assert_eq!(timers.next_deadline(), Some(at(base, 10)));
        assert_eq!(timers.pop_due(at(base, 9)), None);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(base, 20))).collect();
        assert_eq!(due, ["a", "b", "c", "d"]);
        assert_eq!(timers.next_deadline(), Some(at(base, 30)));
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn an_empty_queue_has_no_deadline() {
        let base = Instant::now();
        let mut timers: TimerQueue<()> = TimerQueue::default();
        assert_eq!(timers.len(), 0);
        assert_eq!(timers.next_deadline(), None);
        assert_eq!(timers.pop_due(base), None);
        assert!(timers.take_all().is_empty());
    }

    #[test]
    fn cancelling_gives_the_entry_back_at_once_and_only_once() {
        let base = Instant::now();
        let mut timers = TimerQueue::new();
        let held = Rc::new(());
        let key = timers.insert(base, Rc::clone(&held));
        drop(timers.remove(key));
        assert_eq!(Rc::strong_count(&held), 1);
        assert!(timers.remove(key).is_none());
        assert!(timers.get_mut(key).is_none());
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn a_stale_key_does_not_meet_a_later_timer() {
        let base = Instant::now();
        let mut timers = TimerQueue::new();
        let first = timers.insert(base, 1);
        assert_eq!(timers.pop_due(base), Some(1));
        let second = timers.insert(base, 2);
        assert_ne!(first, second);
        assert_eq!(timers.remove(first), None);
        assert_eq!(timers.take_all(), [2]);
        let third = timers.insert(base, 3);
        assert_eq!(timers.remove(second), None);
        assert_eq!(timers.remove(third), Some(3));
    }

    #[test]
    fn an_entry_can_be_changed_in_its_place() {
        let base = Instant::now();
        let mut timers = TimerQueue::new();
        let key = timers.insert(base, 1);
        *timers.get_mut(key).unwrap() += 1;
        assert_eq!(timers.pop_due(base), Some(2));
    }

    #[test]
    fn take_all_keeps_the_order() {
        let base = Instant::now();
        let mut timers = TimerQueue::new();
        for millis in [3, 1, 2] {
            timers.insert(at(base, millis), millis);
        }
        assert_eq!(timers.take_all(), [1, 2, 3]);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn debug_asks_nothing_of_the_entries() {
        struct Opaque;
        let mut timers = TimerQueue::new();
        timers.insert(Instant::now(), Opaque);
        assert!(format!("{timers:?}").starts_with("TimerQueue { len: 1, next_deadline: Some("));
    }

    #[test]
    fn agrees_with_a_sorted_list() {
        let base = Instant::now();
        for seed in 0..50 {
            let mut random = Xorshift::seeded(seed);
            let mut timers = TimerQueue::new();
            let mut model: Vec<(TimerKey, usize)> = Vec::new();
            let mut now = 0;
            for name in 0..400 {
                match random.below(4) {
                    0 | 1 => {
                        let when = at(base, now + random.below(20));
                        model.push((timers.insert(when, name), name));
                        // Stable: equal deadlines stay in the order of insertion.
                        model.sort_by_key(|(key, _)| key.when());
                    }
                    2 if !model.is_empty() => {
                        let (key, name) = model.remove(random.below(model.len()));
                        assert_eq!(timers.remove(key), Some(name), "seed {seed}");
                        assert_eq!(timers.remove(key), None, "seed {seed}");
                    }
                    _ => {
                        now += random.below(5);
                        while let Some(name) = timers.pop_due(at(base, now)) {
                            let (key, expected) = model.remove(0);
                            assert!(key.when() <= at(base, now), "seed {seed}");
                            assert_eq!(name, expected, "seed {seed}");
                        }
                        assert!(model.iter().all(|(key, _)| key.when() > at(base, now)));
                    }
                }
                assert_eq!(timers.len(), model.len(), "seed {seed}");
                let next = model.first().map(|(key, _)| key.when());
                assert_eq!(timers.next_deadline(), next, "seed {seed}");
            }
        }
    }
}
