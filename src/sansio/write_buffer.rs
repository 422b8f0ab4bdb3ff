//! Bytes that the user wrote and the peer's socket has not taken yet.
//!
//! Owns: those bytes, contiguous and in order. Why: a send takes any number of them, and what a
//! slow peer leaves must cost neither quadratic time nor memory for what is gone; the storage below
//! sees to both. Invariants: bytes leave only when a send took them, or all at once when the
//! connection is lost; the storage of an empty buffer is reclaimed. asyncio's counterpart:
//! `_buffer` of the socket transport.

use crate::sansio::byte_queue::ByteQueue;

#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    unsent: ByteQueue,
}

impl WriteBuffer {
    pub(crate) fn len(&self) -> usize {
        self.unsent.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unsent.is_empty()
    }

    pub(crate) fn extend(&mut self, data: &[u8]) {
        self.unsent.extend(data);
    }

    pub(crate) fn has_storage(&self) -> bool {
        self.unsent.has_storage()
    }

    /// [`ByteQueue::adopt`].
    pub(crate) fn adopt(&mut self, storage: Vec<u8>) {
        self.unsent.adopt(storage);
    }

    /// [`ByteQueue::reclaim`].
    pub(crate) fn reclaim(&mut self) -> Vec<u8> {
        self.unsent.reclaim()
    }

    /// What the next send offers.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.unsent.as_slice()
    }

    /// A send took the first `n` bytes.
    ///
    /// # Panics
    ///
    /// When it claims more than it was offered: the order of the stream is lost then, and to go
    /// on would hide it.
    pub(crate) fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "{n} bytes sent of {}", self.len());
        self.unsent.discard(n);
    }

    /// Nobody will take the rest.
    pub(crate) fn clear(&mut self) {
        self.unsent.discard(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_stays_in_order() {
        let mut buffer = WriteBuffer::default();
        buffer.extend(b"hello ");
        buffer.extend(b"world");
        buffer.advance(4);
        buffer.advance(0);
        buffer.extend(b"!");
        assert_eq!(buffer.as_slice(), b"o world!");
        assert_eq!(buffer.len(), 8);
        buffer.advance(8);
        assert!(buffer.is_empty());
        assert_eq!(buffer.as_slice(), b"");
    }

    #[test]
    fn one_byte_sends_deliver_the_same_as_one_large_send() {
        let written: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
        let mut buffer = WriteBuffer::default();
        buffer.extend(&written);
        let mut sent = Vec::new();
        while !buffer.is_empty() {
            sent.push(buffer.as_slice()[0]);
            buffer.advance(1);
        }
        assert_eq!(sent, written);
    }

    #[test]
    fn clear_forgets_the_unsent() {
        let mut buffer = WriteBuffer::default();
        buffer.extend(b"hello");
        buffer.advance(2);
        buffer.clear();
        assert!(buffer.is_empty());
        buffer.extend(b"again");
        assert_eq!(buffer.as_slice(), b"again");
    }

    #[test]
    #[should_panic(expected = "3 bytes sent of 2")]
    fn a_send_cannot_take_more_than_it_was_offered() {
        let mut buffer = WriteBuffer::default();
        buffer.extend(b"ab");
        buffer.advance(3);
    }
}
