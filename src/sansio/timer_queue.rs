//! What is to happen at a later time, in the order in which it will.
//!
//! Owns: the entries of all armed timers, and the numbers that keep equal deadlines apart. Why:
//! most timers are cancelled, so that has to be cheap, and to give back at once whatever the entry
//! holds. A heap keeps the order and a table the entries: cancelling takes the entry out of the
//! table and leaves its key in the heap, to be thrown away when it gets to the front, or when such
//! keys are in the majority. Invariants: entries leave in the order of (deadline, insertion); a
//! key is never used twice, so one that is stale finds nothing; the key at the heap's front has an
//! entry; the clock is not read here. asyncio's counterpart: `_scheduled` of `base_events.py`,
//! also a heap that is swept of what was cancelled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::mem;
use std::time::Instant;

use slab::Slab;

/// Names one timer, and says when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TimerKey {
    // The order of the fields is the order of the queue.
    when: Instant,
    sequence: u64,
    slot: usize,
}

pub(crate) struct TimerQueue<T> {
    order: BinaryHeap<Reverse<TimerKey>>,
    entries: Slab<(u64, T)>,
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
            order: BinaryHeap::new(),
            entries: Slab::new(),
            next_sequence: 0,
        }
    }

    pub(crate) fn insert(&mut self, when: Instant, entry: T) -> TimerKey {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let slot = self.entries.insert((sequence, entry));
        let key = TimerKey {
            when,
            sequence,
            slot,
        };
        self.order.push(Reverse(key));
        key
    }

    /// Cancels a timer. `None`: it was due already, or cancelled.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        self.get_mut(key)?;
        let (_, entry) = self.entries.remove(key.slot);
        let stale = self.order.len() - self.entries.len();
        if stale > STALE_ALLOWED.max(self.entries.len()) {
            let entries = &self.entries;
            self.order.retain(|Reverse(key)| is_armed(entries, *key));
        }
        self.clear_front();
        self.free_if_empty();
        Some(entry)
    }

    /// The entry of a timer that is not due yet.
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let (sequence, entry) = self.entries.get_mut(key.slot)?;
        (*sequence == key.sequence).then_some(entry)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.order.peek().map(|Reverse(key)| key.when)
    }

    /// The first entry, if its deadline is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse(key) = self.order.pop()?;
        let (_, entry) = self.entries.remove(key.slot);
        self.clear_front();
        self.free_if_empty();
        Some(entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Cancels all timers, and gives their entries back in order.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        let mut order = mem::take(&mut self.order).into_vec();
        order.sort_unstable_by_key(|Reverse(key)| *key);
        let mut entries = mem::take(&mut self.entries);
        let armed = order.into_iter().filter_map(|Reverse(key)| {
            let armed = is_armed(&entries, key);
            armed.then(|| entries.remove(key.slot).1)
        });
        armed.collect()
    }

    /// Throws away the keys of cancelled timers until one that is armed stands first.
    fn clear_front(&mut self) {
        while let Some(front) = self.order.peek() {
            if is_armed(&self.entries, front.0) {
                return;
            }
            self.order.pop();
        }
    }

    /// Room for many timers is given back when the last of them is gone.
    fn free_if_empty(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > ROOM_KEPT {
            self.entries = Slab::new();
            self.order = BinaryHeap::new();
        }
    }
}

fn is_armed<T>(entries: &Slab<(u64, T)>, key: TimerKey) -> bool {
    let entry = entries.get(key.slot);
    entry.is_some_and(|(sequence, _)| *sequence == key.sequence)
}

/// So many keys of cancelled timers are not worth a sweep.
const STALE_ALLOWED: usize = 64;
/// Room for so many timers is kept.
const ROOM_KEPT: usize = 1024;

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
    use crate::sansio::times;
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
    fn what_was_cancelled_is_swept() {
        let base = Instant::now();
        let mut timers = TimerQueue::new();
        for millis in 0..100 {
            timers.insert(at(base, millis), ());
        }
        for _ in 0..times(100_000) {
            let key = timers.insert(at(base, 1_000), ());
            timers.remove(key);
            assert!(timers.order.len() <= 2 * timers.len() + STALE_ALLOWED);
        }
        assert_eq!(timers.len(), 100);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too much of the same to be interpreted")]
    fn room_for_many_is_given_back_when_the_last_is_gone() {
        let base = Instant::now();
        let mut timers = TimerQueue::new();
        let keys: Vec<_> = (0..2 * ROOM_KEPT)
            .map(|i| timers.insert(at(base, i), i))
            .collect();
        for key in keys {
            assert!(timers.remove(key).is_some());
        }
        assert_eq!((timers.entries.capacity(), timers.order.capacity()), (0, 0));
        timers.insert(base, 7);
        assert_eq!(timers.pop_due(base), Some(7));
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
        for seed in 0..times(50) as u64 {
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
