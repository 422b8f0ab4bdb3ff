//! Storage for bytes between two uses.
//!
//! Owns: [`Spares`]. Why: a stream holds no buffer while it is idle, and giving each message an
//! allocation of its own would cost more than moving it. Invariants: what is spare is bounded, in
//! one piece and in all; pieces of one size do not stand in the way of others. asyncio's
//! counterpart: none, Python's allocator does it.

use std::hint::black_box;

use crate::event_loop::cells::Shared;

/// Byte vectors that have room, and whatever was in them last.
#[derive(Debug, Default)]
pub(crate) struct Spares(Shared<Stock>);

#[derive(Debug, Default)]
struct Stock {
    /// By size, a shelf for each power of two: what is taken for so many bytes has room for less
    /// than four times as many, and may be handed out with them in it.
    shelves: [Vec<Vec<u8>>; SHELVES],
    /// What all of them can hold.
    bytes: usize,
}

impl Spares {
    /// None yet.
    ///
    /// glibc gives what is freed back to the system at once if it is more than a threshold, and a
    /// reader that drops large pieces would have each of them mapped, filled with zeros and unmapped
    /// by the kernel. The threshold follows the largest block that was ever freed: so one is.
    pub(crate) fn new() -> Self {
        drop(black_box(Vec::<u8>::with_capacity(LARGEST_BLOCK)));
        Self::default()
    }

    /// An empty one with room for `size` bytes: the one of about that size that was given last, so
    /// that its memory is still in the cache.
    pub(crate) fn take(&self, size: usize) -> Vec<u8> {
        match self.0.with(|stock| stock.pop(size)) {
            Some(mut storage) => {
                storage.clear();
                storage
            }
            None => Vec::with_capacity(room_for(size)),
        }
    }

    /// Keeps storage whose content is of no use any more. When that is too much, the fullest shelf
    /// gives way: what is not taken any more must not keep out what is.
    pub(crate) fn give(&self, storage: Vec<u8>) {
        let room = storage.capacity();
        if !(LEAST..=LARGEST).contains(&room) {
            return;
        }
        self.0.with(|stock| {
            stock.bytes += room;
            stock.shelves[shelf_of(room)].push(storage);
            while stock.bytes > MOST {
                stock.give_way();
            }
        });
    }

    /// Frees all of it.
    pub(crate) fn clear(&self) {
        drop(self.0.with(std::mem::take));
    }
}

impl Stock {
    fn pop(&mut self, size: usize) -> Option<Vec<u8>> {
        if size > LARGEST {
            return None;
        }
        let storage = self.shelves[shelf_of(room_for(size))].pop()?;
        self.bytes -= storage.capacity();
        Some(storage)
    }

    /// Frees one from the shelf that holds most.
    #[cold]
    fn give_way(&mut self) {
        let shelves = self.shelves.iter_mut().enumerate();
        let fullest = shelves.max_by_key(|(size, shelf)| shelf.len() << size);
        // There is one, since more than nothing is kept.
        let freed = fullest.and_then(|(_, shelf)| shelf.pop());
        self.bytes -= freed.map_or(self.bytes, |storage| storage.capacity());
    }
}

/// The power of two that holds `size` bytes; what will not be kept has no more room than it needs.
fn room_for(size: usize) -> usize {
    if size > LARGEST {
        return size;
    }
    size.next_power_of_two().max(LEAST)
}

/// Where storage of this capacity stands: what is between two powers of two is good for the lower
/// one.
fn shelf_of(room: usize) -> usize {
    (room.max(LEAST) / LEAST).ilog2() as usize
}

/// From so many bytes on, what is received is not copied but handed on in its storage.
pub(crate) const LARGE: u32 = 16 * 1024;
/// Smaller ones are not told apart.
const LEAST: usize = 64;
/// A larger one is not worth keeping: what comes and goes in such pieces is not about allocations.
const LARGEST: usize = 256 * 1024;
/// More than what is received in one piece.
const LARGEST_BLOCK: usize = 1024 * 1024;
const SHELVES: usize = (LARGEST / LEAST).ilog2() as usize + 1;
/// All of them together.
const MOST: usize = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::{LARGEST, LEAST, MOST, Spares};

    #[test]
    fn what_was_given_is_taken_again_for_its_size() {
        let spares = Spares::default();
        let given = [100, 1000, 1024, 5000].map(|room| {
            let storage = vec![1; room];
            let address = storage.as_ptr();
            spares.give(storage);
            address
        });
        let taken = [64, 600, 512, 4096].map(|size| spares.take(size));
        assert!(taken.iter().all(Vec::is_empty));
        let taken = taken.each_ref().map(Vec::as_ptr);
        // What has room for 1000 is good for 512 only.
        assert_eq!(taken, [given[0], given[2], given[1], given[3]]);
    }

    #[test]
    fn whatever_is_taken_has_room_and_not_too_much() {
        let spares = Spares::default();
        for size in (LEAST..2 * LARGEST).step_by(777) {
            for _ in 0..2 {
                let mut storage = spares.take(size);
                assert!((size..2 * size).contains(&storage.capacity()), "{size}");
                storage.resize(size, 0);
                spares.give(storage);
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded_in_one_piece_and_in_all() {
        let spares = Spares::default();
        spares.give(Vec::with_capacity(LARGEST + 1));
        spares.give(Vec::new());
        for _ in 0..2 * MOST / LARGEST {
            spares.give(Vec::with_capacity(LARGEST));
        }
        let kept = spares.0.with(|stock| {
            let pieces: usize = stock.shelves.iter().map(Vec::len).sum();
            (pieces, stock.bytes)
        });
        assert_eq!(kept, (MOST / LARGEST, MOST));
        // What is not taken any more gives way to what is.
        let storage = vec![1; LARGEST / 2];
        let address = storage.as_ptr().addr();
        spares.give(storage);
        assert_eq!(spares.0.with(|stock| stock.bytes), MOST - LARGEST / 2);
        let taken = spares.take(LARGEST / 2);
        assert_eq!(taken.as_ptr().addr(), address);
        spares.clear();
        assert_eq!(spares.0.with(|stock| stock.bytes), 0);
    }
}
