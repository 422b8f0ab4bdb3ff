//! Storage for bytes between two uses.
//!
//! Owns: [`Spares`]. Why: a stream holds no buffer while it is idle, and giving each message an
//! allocation of its own would cost more than moving it. Invariants: what is spare is
//! bounded, in one piece and in all; small and large pieces do not stand in each other's way. asyncio's counterpart: none, Python's allocator does it.

use crate::event_loop::cells::Shared;

/// Byte vectors that have room, and whatever was in them last.
#[derive(Debug, Default)]
pub(crate) struct Spares(Shared<Stock>);

#[derive(Debug, Default)]
struct Stock {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    /// What all of them can hold.
    bytes: usize,
}

impl Spares {
    /// An empty one for about `size` bytes: the one that was given last, so that its memory is
    /// still in the cache, or one without room if there is none.
    pub(crate) fn take(&self, size: usize) -> Vec<u8> {
        let mut storage = self.0.with(|stock| stock.pop(size));
        storage.clear();
        storage
    }

    /// One that is filled to `size` bytes, with anything.
    pub(crate) fn take_filled(&self, size: usize) -> Vec<u8> {
        let mut storage = self.0.with(|stock| stock.pop(size));
        if storage.capacity() < size {
            return vec![0; size];
        }
        storage.resize(size, 0);
        storage
    }

    /// Keeps storage whose content is of no use any more, unless that is too much.
    pub(crate) fn give(&self, storage: Vec<u8>) {
        let room = storage.capacity();
        if room == 0 || room > LARGEST {
            return;
        }
        let refused = self.0.with(|stock| {
            if stock.bytes + room > MOST {
                return Some(storage);
            }
            stock.bytes += room;
            stock.shelf(room).push(storage);
            None
        });
        drop(refused);
    }

    /// Frees all of it.
    pub(crate) fn clear(&self) {
        drop(self.0.with(std::mem::take));
    }
}

impl Stock {
    fn pop(&mut self, size: usize) -> Vec<u8> {
        let storage = self.shelf(size).pop().unwrap_or_default();
        self.bytes -= storage.capacity();
        storage
    }

    fn shelf(&mut self, size: usize) -> &mut Vec<Vec<u8>> {
        if size < LARGE {
            &mut self.small
        } else {
            &mut self.large
        }
    }
}

/// From so many bytes on, what is received is not copied but handed on in its storage.
pub(crate) const LARGE: usize = 16 * 1024;
/// A larger one is not worth keeping: what comes and goes in such pieces is not about allocations.
const LARGEST: usize = 256 * 1024;
const MOST: usize = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::{LARGE, LARGEST, MOST, Spares};

    #[test]
    fn what_was_given_is_taken_again() {
        let spares = Spares::default();
        assert_eq!(spares.take(1).capacity(), 0);
        let given = b"used".to_vec();
        let address = given.as_ptr();
        spares.give(given);
        let taken = spares.take(1);
        assert!(taken.is_empty());
        assert_eq!(taken.as_ptr(), address);
        assert_eq!(spares.take(1).capacity(), 0);
    }

    #[test]
    fn a_filled_one_has_the_size_that_is_asked_for() {
        let spares = Spares::default();
        spares.give(vec![1; 4]);
        for given in [0, LARGE, 2 * LARGE] {
            spares.give(vec![1; given]);
            let taken = spares.take_filled(LARGE + 1);
            assert_eq!(taken.len(), LARGE + 1);
        }
        assert_eq!(spares.take(1).capacity(), 4);
    }

    #[test]
    fn what_is_kept_is_bounded_in_one_piece_and_in_all() {
        let spares = Spares::default();
        spares.give(Vec::with_capacity(LARGEST + 1));
        spares.give(Vec::new());
        for _ in 0..2 * MOST / LARGEST {
            spares.give(Vec::with_capacity(LARGEST));
        }
        spares.give(Vec::with_capacity(1));
        let kept = spares
            .0
            .with(|stock| (stock.small.len(), stock.large.len(), stock.bytes));
        assert_eq!(kept, (0, MOST / LARGEST, MOST));
    }
}
