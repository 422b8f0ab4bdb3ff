//! The only place where something of the loop is borrowed.
//!
//! Owns: the five cells that hold all state of the loop and of what stands on it. Why: user code
//! may call back into anything, so nothing may be borrowed while it runs; a guard that cannot
//! leave this file cannot be held across a call by mistake. Invariants: every method takes or
//! gives a value, or runs one of our own short closures, and ends the borrow first, but for the
//! reading of received bytes, which are lent (see [`Scratch`]); what is replaced or removed is
//! handed to the caller, who drops it unborrowed. asyncio's counterpart:
//! none, Python objects are shared freely.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::num::NonZeroU64;

use slab::Slab;

/// A first-in, first-out queue.
#[derive(Debug)]
pub(crate) struct Queue<T>(RefCell<VecDeque<T>>);

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(VecDeque::new()))
    }

    pub(crate) fn push(&self, value: T) {
        self.0.borrow_mut().push_back(value);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.borrow_mut().pop_front()
    }

    /// Runs one of our own short closures on the value that is next.
    pub(crate) fn first<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.borrow().front().map(f)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Empties the queue and gives what was in it.
    pub(crate) fn take_all(&self) -> VecDeque<T> {
        self.0.take()
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Room for one value that is taken out to be used.
pub(crate) struct Slot<T>(Cell<Option<T>>);

impl<T> Slot<T> {
    pub(crate) const fn new(value: Option<T>) -> Self {
        Self(Cell::new(value))
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.take()
    }

    /// Puts a value in and gives back the one that was there.
    #[must_use = "what was there may be the user's: drop it where nothing is borrowed"]
    pub(crate) fn put(&self, value: T) -> Option<T> {
        self.0.replace(Some(value))
    }

    /// Whether there is a value. One that is lent is not there.
    pub(crate) fn is_some(&self) -> bool {
        self.lend(|_| ()).is_some()
    }

    /// Runs `f` on the value while the slot is empty, and puts the value back afterwards, also
    /// when `f` panics. `None` if there was nothing to lend. A value that was put in meanwhile
    /// stays, and the old one is dropped.
    pub(crate) fn lend<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        struct Return<'a, T>(&'a Slot<T>, Option<T>);
        impl<T> Drop for Return<'_, T> {
            fn drop(&mut self) {
                let newer = self.0.take();
                self.0.0.set(newer.or_else(|| self.1.take()));
            }
        }
        let mut lent = Return(self, Some(self.take()?));
        lent.1.as_mut().map(f)
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new(None)
    }
}

impl<T: Clone> Slot<T> {
    /// A copy of the value. `T::clone` must be ours (an `Rc`), and cannot panic: it runs while the
    /// slot is empty.
    pub(crate) fn get(&self) -> Option<T> {
        let value = self.take();
        let copy = value.clone();
        self.0.set(value);
        copy
    }
}

/// A record that our own code changes in short closures. The closure must not call user code,
/// and that includes dropping what belongs to the user.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(RefCell<T>);

impl<T> Shared<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}

/// A part of a [`Scratch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    start: u32,
    length: u32,
}

impl Part {
    /// Nothing of it.
    pub(crate) const NONE: Self = Self {
        start: 0,
        length: 0,
    };

    /// The first `length` bytes.
    pub(crate) fn first(length: usize) -> Self {
        Self {
            start: 0,
            length: length as u32,
        }
    }

    pub(crate) fn len(self) -> usize {
        self.length as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.length == 0
    }
}

/// One large buffer that our own closures fill, and that is lent for reading.
///
/// The one borrow that may stand while user code runs: it is a shared one, and filling, which
/// would disturb it, is done by the loop alone, between two steps.
#[derive(Debug)]
pub(crate) struct Scratch(RefCell<Box<[u8]>>);

impl Scratch {
    /// A buffer that has no memory yet.
    pub(crate) fn new() -> Self {
        Self(RefCell::default())
    }

    /// Runs `f` on the whole buffer, which is made first if there is none, `size` bytes long.
    pub(crate) fn fill<R>(&self, size: u32, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut buffer = self.0.borrow_mut();
        if buffer.is_empty() {
            *buffer = vec![0; size as usize].into_boxed_slice();
        }
        f(&mut buffer)
    }

    /// Lends a part of what was filled in.
    pub(crate) fn lend<R>(&self, part: Part, f: impl FnOnce(&[u8]) -> R) -> R {
        f(&self.0.borrow()[part.start as usize..][..part.len()])
    }

    /// Which part of the buffer these bytes are, if they are one. Then it is lent now, and stays
    /// as it is until that ends.
    pub(crate) fn locate(&self, bytes: &[u8]) -> Option<Part> {
        let buffer = self.0.borrow();
        let start = bytes.as_ptr().addr().wrapping_sub(buffer.as_ptr().addr());
        let last = buffer.len().checked_sub(bytes.len())?;
        (start <= last && !bytes.is_empty()).then_some(Part {
            start: start as u32,
            length: bytes.len() as u32,
        })
    }

    /// Gives the memory back.
    pub(crate) fn free(&self) {
        drop(self.0.take());
    }
}

/// Values under keys that are never given twice.
///
/// A key is an index and a generation from one counter that never goes back, so a key that
/// outlived its value finds no match.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: RefCell<Slab<Entry<T>>>,
    generation: Cell<NonZeroU64>,
}

#[derive(Debug)]
struct Entry<T> {
    /// Not zero: slab marks its empty places there, and an entry is smaller for it.
    generation: NonZeroU64,
    value: Option<T>,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: RefCell::new(Slab::new()),
            generation: Cell::new(NonZeroU64::MIN),
        }
    }

    /// Makes a key that has no value yet.
    pub(crate) fn reserve(&self) -> u64 {
        let generation = self.generation.get();
        self.generation.set(next(generation));
        let index = self.entries.borrow_mut().insert(Entry {
            generation,
            value: None,
        });
        debug_assert!(index < 1 << INDEX_BITS);
        generation.get() << INDEX_BITS | index as u64
    }

    /// Puts a value under a reserved key and gives back what was there, or the value itself if
    /// the key is gone.
    #[must_use = "what was there may be the user's: drop it where nothing is borrowed"]
    pub(crate) fn put(&self, key: u64, value: T) -> Option<T> {
        match self.entries.borrow_mut().get_mut(index(key)) {
            Some(entry) if entry.generation.get() == generation(key) => entry.value.replace(value),
            _ => Some(value),
        }
    }

    /// Takes the value out; the key stays reserved.
    pub(crate) fn take(&self, key: u64) -> Option<T> {
        match self.entries.borrow_mut().get_mut(index(key)) {
            Some(entry) if entry.generation.get() == generation(key) => entry.value.take(),
            _ => None,
        }
    }

    /// Ends the key and gives back its value.
    pub(crate) fn remove(&self, key: u64) -> Option<T> {
        let mut entries = self.entries.borrow_mut();
        match entries.get(index(key)) {
            Some(entry) if entry.generation.get() == generation(key) => {
                entries.remove(index(key)).value
            }
            _ => None,
        }
    }

    /// All keys there are now, in the order of their making.
    pub(crate) fn keys(&self) -> Vec<u64> {
        let mut keys: Vec<u64> = self
            .entries
            .borrow()
            .iter()
            .map(|(index, entry)| entry.generation.get() << INDEX_BITS | index as u64)
            .collect();
        keys.sort_unstable();
        keys
    }
}

impl<T: Clone> Table<T> {
    /// A copy of the value. `T::clone` must be ours (an `Rc`): it runs under the borrow.
    pub(crate) fn get(&self, key: u64) -> Option<T> {
        match self.entries.borrow().get(index(key)) {
            Some(entry) if entry.generation.get() == generation(key) => entry.value.clone(),
            _ => None,
        }
    }
}

fn index(key: u64) -> usize {
    (key & ((1 << INDEX_BITS) - 1)) as usize
}

fn generation(key: u64) -> u64 {
    key >> INDEX_BITS
}

/// The generation after this one; after the last one the first.
fn next(generation: NonZeroU64) -> NonZeroU64 {
    NonZeroU64::new((generation.get() + 1) & GENERATION_MASK).unwrap_or(NonZeroU64::MIN)
}

/// 64 million values at a time, and at a million new ones a second the counter lasts for a day and
/// a half before a key could come again: by then a stale one means no more than a spurious wake.
const INDEX_BITS: u32 = 26;
/// One bit less than there is room for, so that no key is near the driver's own tokens.
const GENERATION_MASK: u64 = (1 << (63 - INDEX_BITS)) - 1;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::{Part, Scratch, Slot, Table};

    #[test]
    fn a_stale_key_finds_nothing() {
        let table = Table::new();
        let first = table.reserve();
        assert!(table.put(first, "first").is_none());
        assert_eq!(table.remove(first), Some("first"));
        let second = table.reserve();
        assert!(table.put(second, "second").is_none());
        assert_eq!(super::index(first), super::index(second));
        assert_eq!(table.get(first), None);
        assert_eq!(table.take(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.put(first, "late"), Some("late"));
        assert_eq!(table.get(second), Some("second"));
    }

    #[test]
    fn a_taken_value_leaves_its_key() {
        let table = Table::new();
        let key = table.reserve();
        assert_eq!(table.get(key), None::<u8>);
        assert!(table.put(key, 1).is_none());
        assert_eq!(table.take(key), Some(1));
        assert!(table.put(key, 2).is_none());
        assert_eq!(table.remove(key), Some(2));
        assert!(table.keys().is_empty());
    }

    #[test]
    fn a_lent_value_comes_back_after_a_panic() {
        let slot = Slot::new(Some(1));
        let outcome = catch_unwind(AssertUnwindSafe(|| slot.lend(|_| panic!("expected"))));
        assert!(outcome.is_err());
        assert_eq!(slot.take(), Some(1));
    }

    #[test]
    fn only_bytes_of_the_buffer_are_located() {
        let scratch = Scratch::new();
        assert_eq!(scratch.locate(b"other"), None);
        scratch.fill(8, |buffer| buffer.copy_from_slice(b"received"));
        scratch.lend(Part::first(8), |all| {
            assert_eq!(scratch.locate(all), Some(Part::first(8)));
            let part = scratch.locate(&all[2..5]).unwrap();
            scratch.lend(part, |part| assert_eq!(part, b"cei"));
            assert_eq!(scratch.locate(&all[8..]), None);
        });
        assert_eq!(scratch.locate(b"received"), None);
        assert_eq!(scratch.locate(&[0; 20]), None);
    }

    #[test]
    fn a_newer_value_wins_over_a_lent_one() {
        let slot = Slot::new(Some(1));
        slot.lend(|_| assert_eq!(slot.put(2), None));
        assert_eq!(slot.take(), Some(2));
        assert_eq!(slot.lend(|_| ()), None);
    }
}
