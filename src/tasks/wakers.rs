//! Wakers that wait for one thing.
//!
//! Owns: [`WakerSet`]. Why: several tasks may wait for the same event, and one that stops waiting
//! must leave no trace. Invariants: a waker is cloned, woken and dropped with nothing borrowed;
//! a place is never given twice, so whoever was woken cannot take another's by leaving late; a
//! set that nobody waits in holds no memory. asyncio's counterpart: the list of waiter futures
//! in `FlowControlMixin`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use crate::event_loop::cells::Shared;

/// The wakers of all who wait for one event, in the order in which they came.
///
/// Every connection and every task has some of these. Hardly ever does anybody wait, and then it
/// is one as a rule.
#[derive(Debug, Default)]
pub(crate) struct WakerSet(Shared<Waiters>);

#[derive(Debug, Default)]
enum Waiters {
    #[default]
    Nobody,
    One(u64, Waker),
    Several(BTreeMap<u64, Waker>),
}

/// A place in a [`WakerSet`], kept by the one who waits.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<u64>);

impl WakerSet {
    /// Remembers a waker under `place`, anew if it had none or was woken.
    pub(crate) fn register(&self, place: &mut Place, waker: &Waker) {
        let known = place.0.is_some_and(|key| {
            let known = |old: &Waker| old.will_wake(waker);
            self.0.with(|set| set.get(key).is_some_and(known))
        });
        if known {
            return;
        }
        let waker = waker.clone();
        let key = *place.0.get_or_insert_with(new_key);
        let old = self.0.with(|set| set.insert(key, waker));
        drop(old);
    }

    /// Forgets a waker.
    #[inline]
    pub(crate) fn leave(&self, place: &mut Place) {
        if let Some(key) = place.0.take() {
            let waker = self.0.with(|set| set.remove(key));
            drop(waker);
        }
    }

    /// Wakes all. They keep their places until they leave.
    pub(crate) fn wake_all(&self) {
        match self.0.with(std::mem::take) {
            Waiters::Nobody => {}
            Waiters::One(_, waker) => waker.wake(),
            Waiters::Several(wakers) => wakers.into_values().for_each(Waker::wake),
        }
    }
}

impl Waiters {
    fn get(&self, key: u64) -> Option<&Waker> {
        match self {
            Self::One(only, waker) if *only == key => Some(waker),
            Self::Nobody | Self::One(..) => None,
            Self::Several(wakers) => wakers.get(&key),
        }
    }

    fn insert(&mut self, key: u64, waker: Waker) -> Option<Waker> {
        match std::mem::take(self) {
            Self::Nobody => {
                *self = Self::One(key, waker);
                None
            }
            Self::One(only, old) if only == key => {
                *self = Self::One(key, waker);
                Some(old)
            }
            Self::One(first, other) => {
                let wakers = BTreeMap::from([(first, other), (key, waker)]);
                *self = Self::Several(wakers);
                None
            }
            Self::Several(mut wakers) => {
                let old = wakers.insert(key, waker);
                *self = Self::Several(wakers);
                old
            }
        }
    }

    fn remove(&mut self, key: u64) -> Option<Waker> {
        match std::mem::take(self) {
            Self::One(only, waker) if only == key => Some(waker),
            Self::Several(mut wakers) => {
                let waker = wakers.remove(&key);
                if !wakers.is_empty() {
                    *self = Self::Several(wakers);
                }
                waker
            }
            others => {
                *self = others;
                None
            }
        }
    }
}

fn new_key() -> u64 {
    let key = NEXT_KEY.get();
    NEXT_KEY.set(key + 1);
    key
}

thread_local! {
    static NEXT_KEY: Cell<u64> = const { Cell::new(0) };
}

/// A wait of one future for one event: its place is left when the wait ends.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    set: &'a WakerSet,
    place: Place,
}

impl<'a> Waiting<'a> {
    pub(crate) fn on(set: &'a WakerSet) -> Self {
        Self {
            set,
            place: Place::default(),
        }
    }

    /// Whether there was something to wait for.
    pub(crate) fn has_begun(&self) -> bool {
        self.place.0.is_some()
    }

    /// Waits for the next wake.
    pub(crate) fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        self.set.register(&mut self.place, cx.waker());
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.set.leave(&mut self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::{Place, WakerSet};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Somebody who waits, and how often they were woken.
    #[derive(Default)]
    struct Waits {
        count: Arc<Count>,
        place: Place,
    }

    impl Waits {
        fn wait(&mut self, set: &WakerSet) {
            let waker = Waker::from(Arc::clone(&self.count));
            set.register(&mut self.place, &waker);
        }

        fn woken(&self) -> usize {
            self.count.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn whoever_waits_is_woken_once_and_whoever_left_is_not() {
        let set = WakerSet::default();
        let [mut stays, mut leaves] = <[Waits; 2]>::default();
        stays.wait(&set);
        stays.wait(&set);
        leaves.wait(&set);
        set.leave(&mut leaves.place);
        set.wake_all();
        set.wake_all();
        assert_eq!((stays.woken(), leaves.woken()), (1, 0));
    }

    #[test]
    fn one_who_was_woken_takes_nobodys_place_by_leaving_or_waiting_again() {
        let set = WakerSet::default();
        let mut early = <[Waits; 2]>::default();
        let mut late = <[Waits; 2]>::default();
        for waits in &mut early {
            waits.wait(&set);
        }
        set.wake_all();
        for waits in &mut late {
            waits.wait(&set);
        }
        set.leave(&mut early[0].place);
        early[1].wait(&set);
        set.wake_all();
        assert_eq!(late.each_ref().map(Waits::woken), [1, 1]);
        assert_eq!(early.each_ref().map(Waits::woken), [1, 2]);
    }
}
