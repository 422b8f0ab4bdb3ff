//! Storage for bytes between two uses.
//!
//! Owns: [`Spares`]. Why: a stream holds no buffer while it is idle, and giving each message an
//! allocation of its own would cost more than moving it. Invariants: what is spare is empty and
//! bounded, in one piece and in all. asyncio's counterpart: none, Python's allocator does it.

use crate::event_loop::cells::Shared;

/// Empty byte vectors that have room.
#[derive(Debug, Default)]
pub(crate) struct Spares(Shared<Stock>);

#[derive(Debug, Default)]
struct Stock {
    spare: Vec<Vec<u8>>,
    /// What all of them could hold.
    bytes: usize,
}

impl Spares {
    /// The one that was given last, so that its memory is still in the cache; a vector without
    /// room if there is none.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.with(|stock| {
            let storage = stock.spare.pop().unwrap_or_default();
            stock.bytes -= storage.capacity();
            storage
        })
    }

    /// Keeps storage whose content has gone, unless that is too much.
    pub(crate) fn give(&self, mut storage: Vec<u8>) {
        storage.clear();
        let room = storage.capacity();
        let refused = self.0.with(|stock| {
            if room == 0 || room > LARGEST || stock.bytes + room > MOST {
                return Some(storage);
            }
            stock.bytes += room;
            stock.spare.push(storage);
            None
        });
        drop(refused);
    }

    /// Frees all of it.
    pub(crate) fn clear(&self) {
        drop(self.0.with(std::mem::take));
    }
}

/// A larger one is not worth keeping: what comes and goes in such pieces is not about allocations.
const LARGEST: usize = 256 * 1024;
const MOST: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::{LARGEST, MOST, Spares};

    #[test]
    fn what_was_given_is_taken_again_and_is_empty() {
        let spares = Spares::default();
        assert_eq!(spares.take().capacity(), 0);
        let given = b"used".to_vec();
        let address = given.as_ptr();
        spares.give(given);
        let taken = spares.take();
        assert!(taken.is_empty());
        assert_eq!(taken.as_ptr(), address);
        assert_eq!(spares.take().capacity(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded_in_one_piece_and_in_all() {
        let spares = Spares::default();
        spares.give(Vec::with_capacity(LARGEST + 1));
        assert_eq!(spares.take().capacity(), 0);
        for _ in 0..2 * MOST / LARGEST {
            spares.give(Vec::with_capacity(LARGEST));
        }
        let kept = std::iter::from_fn(|| Some(spares.take().capacity()).filter(|&room| room > 0));
        assert_eq!(kept.sum::<usize>(), MOST);
    }
}
