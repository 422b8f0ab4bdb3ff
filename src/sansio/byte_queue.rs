//! The storage under both buffers: bytes come in at the tail and leave at the head.
//!
//! Owns: one growable array and the length of its dead head. Why: everything alive is one slice,
//! ready for a send or a search, and removing a few bytes moves none. Invariants: whoever empties a
//! queue reclaims its storage; what lives is moved to the front, into an array that fits, when the
//! dead head is long beside it: [`MANY`] times as long, or [`SOME`] if the array is [`LARGE`]. So a
//! byte is moved only on account of others that left: O(1) for each byte, in whatever portions it
//! leaves. asyncio's counterpart: `bytearray`, which does the same inside CPython.

use std::fmt;
use std::mem;

#[derive(Default)]
pub(crate) struct ByteQueue {
    bytes: Vec<u8>,
    /// How many bytes at the front of `bytes` have left already.
    head: usize,
}

impl ByteQueue {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.head
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    pub(crate) fn extend(&mut self, data: &[u8]) {
        if self.head > 0 && self.is_empty() {
            self.bytes.clear();
            self.head = 0;
        }
        self.bytes.extend_from_slice(data);
    }

    pub(crate) fn has_storage(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Has an empty queue keep its bytes in `storage` from now on, behind those that it holds.
    pub(crate) fn adopt(&mut self, storage: Vec<u8>) {
        debug_assert!(self.is_empty());
        self.bytes = storage;
        self.head = 0;
    }

    /// Takes the storage of an empty queue, to be used elsewhere, with whatever was in it; nothing
    /// while bytes live in it.
    pub(crate) fn reclaim(&mut self) -> Vec<u8> {
        if self.is_empty() {
            mem::take(self).bytes
        } else {
            Vec::new()
        }
    }

    /// Removes the first `n` bytes, or all if there are fewer.
    pub(crate) fn discard(&mut self, n: usize) {
        if n >= self.len() {
            // What is in the array stays, so that whoever reclaims it need not fill it again.
            self.head = self.bytes.len();
            return;
        }
        self.head += n;
        let dead = self.head / self.len();
        if dead >= MANY || (dead >= SOME && self.bytes.capacity() > LARGE) {
            self.compact();
        }
    }

    /// Removes the first `n` bytes, or all if there are fewer, and returns them.
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        if n >= self.len() && self.fits_its_storage() {
            return mem::take(self).bytes;
        }
        let n = n.min(self.len());
        let taken = self.as_slice()[..n].to_vec();
        self.discard(n);
        taken
    }

    /// Whether the array can be handed out as it is: the receiver may keep it for long, so it
    /// gets neither a dead head nor a large spare tail.
    fn fits_its_storage(&self) -> bool {
        self.head == 0 && fits(self.bytes.len(), self.bytes.capacity())
    }

    fn compact(&mut self) {
        if self.head < COMPACT_FROM {
            return;
        }
        self.bytes = self.as_slice().to_vec();
        self.head = 0;
    }
}

/// Whether so many bytes may be handed out in an array with so much room.
pub(crate) fn fits(bytes: usize, room: usize) -> bool {
    bytes >= room / 4
}

/// The size, not the bytes: they are the user's and may be many.
impl fmt::Debug for ByteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// A shorter dead head is not worth a move.
const COMPACT_FROM: usize = 4096;
/// A dead head so many times as long as what lives is always worth one.
const MANY: usize = 8;
/// In a large array this is enough. With one third of what was written moved it is a balance: as soon
/// as half is dead everything would be moved once on its way.
const SOME: usize = 3;
/// An array above this size is not kept for the sake of a few bytes.
const LARGE: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sansio::times;
    use crate::sansio::xorshift::Xorshift;

    fn filled(n: usize) -> ByteQueue {
        let mut queue = ByteQueue::default();
        queue.extend(&vec![b'x'; n]);
        queue
    }

    #[test]
    fn a_new_queue_holds_no_memory() {
        assert_eq!(ByteQueue::default().bytes.capacity(), 0);
    }

    #[test]
    fn an_emptied_queue_gives_its_storage_back_and_another_goes_on_in_it() {
        let mut discarded = filled(10_000);
        discarded.discard(10_000);
        let mut taken = filled(10_000);
        taken.discard(1);
        assert_eq!(taken.take(usize::MAX).len(), 9_999);
        for mut queue in [discarded, taken] {
            let storage = queue.reclaim();
            assert_eq!(storage, [b'x'; 10_000]);
            assert!(!queue.has_storage());
            let mut other = ByteQueue::default();
            other.adopt(storage);
            other.discard(10_000);
            other.extend(b"other");
            assert_eq!(other.as_slice(), b"other");
            assert!(other.bytes.capacity() >= 10_000);
        }
    }

    #[test]
    fn the_storage_of_what_lives_is_not_reclaimed() {
        let mut queue = filled(2);
        queue.discard(1);
        assert_eq!(queue.reclaim().capacity(), 0);
        assert_eq!(queue.as_slice(), b"x");
    }

    #[test]
    fn bytes_may_come_with_their_storage() {
        let mut queue = ByteQueue::default();
        queue.adopt(b"hello".to_vec());
        queue.extend(b" world");
        assert_eq!(queue.take(usize::MAX), b"hello world");
    }

    #[test]
    fn taking_everything_hands_the_storage_over() {
        let mut queue = filled(10_000);
        let address = queue.as_slice().as_ptr();
        let taken = queue.take(10_000);
        assert_eq!(taken.as_ptr(), address);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_few_bytes_are_not_handed_over_in_a_large_storage() {
        let mut queue = ByteQueue {
            bytes: Vec::with_capacity(64 * 1024),
            head: 0,
        };
        queue.extend(b"few");
        let taken = queue.take(3);
        assert_eq!(taken, b"few");
        assert!(taken.capacity() < 100);
        assert!(queue.reclaim().capacity() >= 64 * 1024);
    }

    #[test]
    fn taking_more_than_there_is_takes_all() {
        let mut queue = filled(3);
        assert_eq!(queue.take(9), b"xxx");
        assert_eq!(queue.take(9), b"");
        queue.discard(9);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_backlog_drained_little_by_little_keeps_memory_near_the_living() {
        let mut queue = filled(1 << 20);
        let mut moves = 0;
        while !queue.is_empty() {
            let head_before = queue.head;
            queue.discard(100);
            if queue.head < head_before {
                moves += 1;
            }
            let few = (SOME + 1) * queue.len() + COMPACT_FROM;
            assert!(queue.bytes.capacity() <= LARGE.max(few) + 100);
            assert!(queue.bytes.capacity() <= (MANY + 1) * queue.len() + COMPACT_FROM + 100);
        }
        assert!(
            moves <= 10,
            "each move quarters the rest, and {moves} were made"
        );
    }

    #[test]
    fn a_steady_backlog_is_moved_rarely() {
        let mut queue = filled(100_000);
        let mut moved = 0;
        for _ in 0..times(100_000) {
            queue.extend(b"0123456789");
            let head_before = queue.head;
            queue.discard(10);
            if queue.head < head_before {
                moved += queue.len();
            }
        }
        assert!(
            moved <= 1_000_000,
            "a million bytes left, and {moved} were moved"
        );
    }

    #[test]
    fn agrees_with_a_naive_queue() {
        for seed in 0..times(40) as u64 {
            let mut random = Xorshift::seeded(seed);
            let mut queue = ByteQueue::default();
            let mut model: Vec<u8> = Vec::new();
            // Small portions meet the edges, large ones the compaction.
            let portion = if seed % 2 == 0 { 8 } else { 6000 };
            for _ in 0..400 {
                let n = random.below(portion);
                match random.below(8) {
                    0..4 => {
                        let data: Vec<u8> = (0..n).map(|_| random.below(256) as u8).collect();
                        queue.extend(&data);
                        model.extend(&data);
                    }
                    4..6 => {
                        queue.discard(n);
                        model.drain(..n.min(model.len()));
                    }
                    _ => {
                        let n = n * random.below(4);
                        let expected: Vec<u8> = model.drain(..n.min(model.len())).collect();
                        assert_eq!(queue.take(n), expected, "seed {seed}");
                    }
                }
                assert_eq!(queue.as_slice(), model, "seed {seed}");
                assert_eq!(queue.len(), model.len(), "seed {seed}");
                let dead = queue.head >= COMPACT_FROM && queue.head >= MANY * queue.len();
                assert!(!dead || queue.is_empty());
            }
        }
    }

    #[test]
    fn debug_tells_the_size_and_not_the_bytes() {
        assert_eq!(format!("{:?}", filled(3)), "3 bytes");
    }
}
