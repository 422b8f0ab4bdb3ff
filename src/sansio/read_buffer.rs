//! Bytes that arrived and that the user has not read yet, and how far they were searched.
//!
//! Owns: the received bytes and the memory of the last fruitless search. Why: a line that comes
//! in many pieces is asked for after each of them, and must cost its own length once, not once
//! for each piece. Invariants: no match of `separator` starts before `scanned`; bytes leave only
//! by a call that consumes, never by a search, so whoever gives up waiting loses nothing; an
//! empty buffer holds no memory. asyncio's counterpart: `StreamReader._buffer`, and the loop
//! inside `readuntil` with its local `offset`.

use crate::sansio::byte_queue::ByteQueue;

#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    arrived: ByteQueue,
    /// The separator that `scanned` speaks of.
    separator: Vec<u8>,
    /// How many bytes at the front cannot start a match, however much more arrives.
    scanned: usize,
}

/// What a search for a separator found out.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Search {
    /// The first match ends before `end`: that many bytes are the line, separator included.
    Found { end: usize },
    /// What precedes the separator is over the limit: `consumed` bytes certainly do, and if the
    /// separator was `found`, it stands right behind them.
    Overrun { consumed: usize, found: bool },
    /// Not here yet, and still within the limit.
    Missing,
}

impl ReadBuffer {
    pub(crate) fn len(&self) -> usize {
        self.arrived.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.arrived.as_slice()
    }

    pub(crate) fn extend(&mut self, data: &[u8]) {
        self.arrived.extend(data);
    }

    /// Removes the first `n` bytes, or all if there are fewer, and returns them. All of them,
    /// untouched since they came, are handed over without a copy.
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        self.forget_scanned(n);
        self.arrived.take(n)
    }

    /// Moves as many bytes as there are, or as fit, to the front of `out`; returns how many.
    pub(crate) fn copy_into(&mut self, out: &mut [u8]) -> usize {
        let n = self.len().min(out.len());
        out[..n].copy_from_slice(&self.as_slice()[..n]);
        self.discard(n);
        n
    }

    /// Removes the first `n` bytes, or all if there are fewer.
    pub(crate) fn discard(&mut self, n: usize) {
        self.forget_scanned(n);
        self.arrived.discard(n);
    }

    /// Looks for the first `separator`; at most `limit` bytes may stand before it.
    ///
    /// The limit is about the payload, so a line of exactly `limit` bytes and its separator is
    /// fine. Without a match, a possible beginning of one at the tail is not counted yet.
    ///
    /// # Panics
    ///
    /// When the separator is empty, which the floor above refuses with a proper error.
    pub(crate) fn search(&mut self, separator: &[u8], limit: usize) -> Search {
        assert!(!separator.is_empty(), "an empty separator is everywhere");
        let from = if self.separator == separator {
            self.scanned
        } else {
            0
        };
        if let Some(start) = find(self.as_slice(), separator, from) {
            // Not remembered: a line that is found is consumed next, as a rule.
            return if start > limit {
                Search::Overrun {
                    consumed: start,
                    found: true,
                }
            } else {
                Search::Found {
                    end: start + separator.len(),
                }
            };
        }
        let scanned = (self.len() + 1).saturating_sub(separator.len());
        self.remember(separator, scanned);
        if scanned > limit {
            Search::Overrun {
                consumed: scanned,
                found: false,
            }
        } else {
            Search::Missing
        }
    }

    fn remember(&mut self, separator: &[u8], scanned: usize) {
        self.scanned = scanned;
        // Nothing scanned is true of every separator; a reader that waits on an empty buffer
        // must not cost an allocation.
        if scanned > 0 && self.separator != separator {
            self.separator = separator.to_vec();
        }
    }

    /// The first `n` bytes are about to leave. What is known of the others stays true.
    fn forget_scanned(&mut self, n: usize) {
        self.scanned = self.scanned.saturating_sub(n);
        if n >= self.len() {
            self.separator = Vec::new();
        }
    }
}

/// The offset of the first `separator` in `bytes` that does not start before `from`.
fn find(bytes: &[u8], separator: &[u8], mut from: usize) -> Option<usize> {
    let last_start = bytes.len().checked_sub(separator.len())?;
    while from <= last_start {
        let start = from + find_byte(&bytes[from..=last_start], separator[0])?;
        if bytes[start..].starts_with(separator) {
            return Some(start);
        }
        from = start + 1;
    }
    None
}

/// Whole blocks are passed over first: without an early exit inside a block, the compiler
/// compares all its bytes at once.
fn find_byte(bytes: &[u8], wanted: u8) -> Option<usize> {
    let passed = bytes
        .chunks_exact(BLOCK)
        .take_while(|block| {
            !block
                .iter()
                .fold(false, |hit, &byte| hit | (byte == wanted))
        })
        .count()
        * BLOCK;
    let rest = bytes[passed..].iter().position(|&byte| byte == wanted)?;
    Some(passed + rest)
}

/// Two vector registers of the smallest machine we care for.
const BLOCK: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sansio::xorshift::Xorshift;

    fn holding(data: &[u8]) -> ReadBuffer {
        let mut buffer = ReadBuffer::default();
        buffer.extend(data);
        buffer
    }

    fn not_found(consumed: usize) -> Search {
        Search::Overrun {
            consumed,
            found: false,
        }
    }

    fn found_too_late(consumed: usize) -> Search {
        Search::Overrun {
            consumed,
            found: true,
        }
    }

    /// What a search must say, without any memory.
    fn naive(data: &[u8], separator: &[u8], limit: usize) -> Search {
        let matched = data
            .windows(separator.len())
            .position(|window| window == separator);
        match matched {
            Some(start) if start > limit => found_too_late(start),
            Some(start) => Search::Found {
                end: start + separator.len(),
            },
            None if data.len() + 1 > limit + separator.len() => {
                not_found(data.len() + 1 - separator.len())
            }
            None => Search::Missing,
        }
    }

    #[test]
    fn the_limit_counts_what_precedes_the_separator() {
        let cases: &[(&[u8], &[u8], Search)] = &[
            (b"", b"\n", Search::Missing),
            (b"\n", b"\n", Search::Found { end: 1 }),
            (b"abc", b"\n", Search::Missing),
            (b"abc\n", b"\n", Search::Found { end: 4 }),
            (b"abc\nrest", b"\n", Search::Found { end: 4 }),
            (b"abcd", b"\n", not_found(4)),
            (b"abcd\n", b"\n", found_too_late(4)),
            (b"abc\r", b"\r\n", Search::Missing),
            (b"abc\r\n", b"\r\n", Search::Found { end: 5 }),
            (b"abcd\r", b"\r\n", not_found(4)),
            (b"abcde\r", b"\r\n", not_found(5)),
            (b"some dataAA", b"AAA", not_found(9)),
            (b"some dataAAA", b"AAA", found_too_late(9)),
            (b"AA", b"AAA", Search::Missing),
            (b"AAAA", b"AAA", Search::Found { end: 3 }),
        ];
        for &(data, separator, expected) in cases {
            let mut buffer = holding(data);
            assert_eq!(buffer.search(separator, 3), expected, "{data:?}");
            assert_eq!(buffer.search(separator, 3), expected, "{data:?} again");
            assert_eq!(buffer.as_slice(), data, "a search consumes nothing");
            assert_eq!(naive(data, separator, 3), expected, "the model, {data:?}");
        }
    }

    #[test]
    fn a_limit_of_zero_allows_only_the_empty_line() {
        assert_eq!(holding(b"\n").search(b"\n", 0), Search::Found { end: 1 });
        assert_eq!(holding(b"").search(b"\n", 0), Search::Missing);
        assert_eq!(holding(b"a").search(b"\n", 0), not_found(1));
    }

    #[test]
    fn the_largest_limit_does_not_overflow() {
        let mut buffer = holding(b"abc");
        assert_eq!(buffer.search(b"\n", usize::MAX), Search::Missing);
    }

    #[test]
    #[should_panic(expected = "an empty separator")]
    fn an_empty_separator_is_refused() {
        holding(b"abc").search(b"", 3);
    }

    #[test]
    fn byte_by_byte_finds_what_the_whole_input_has() {
        let input = b"one\r\ntwo\r\r\n\r\n\n\r\nthe last one has no end\r";
        let separators: [&[u8]; 4] = [b"\n", b"\r\n", b"\r\n\r\n", b"o"];
        for separator in separators {
            let mut whole = holding(input);
            let mut lines = Vec::new();
            while let Search::Found { end } = whole.search(separator, 100) {
                lines.push(whole.take(end));
            }

            let mut piecewise = ReadBuffer::default();
            let mut lines_piecewise = Vec::new();
            for byte in input.chunks(1) {
                piecewise.extend(byte);
                if let Search::Found { end } = piecewise.search(separator, 100) {
                    lines_piecewise.push(piecewise.take(end));
                }
            }
            assert_eq!(lines_piecewise, lines);
            assert_eq!(piecewise.as_slice(), whole.as_slice());
        }
    }

    #[test]
    fn a_search_resumes_where_the_last_one_ended() {
        let mut buffer = ReadBuffer::default();
        for n in 1..=1000 {
            buffer.extend(b"x");
            assert_eq!(buffer.search(b"\r\n", 2000), Search::Missing);
            assert_eq!(buffer.scanned, n - 1);
        }
        buffer.discard(400);
        assert_eq!(buffer.scanned, 599);
        assert_eq!(buffer.take(599).len(), 599);
        assert_eq!(buffer.scanned, 0);
    }

    #[test]
    fn another_separator_is_searched_from_the_start() {
        let mut buffer = holding(b"a,b");
        assert_eq!(buffer.search(b"\n", 10), Search::Missing);
        assert_eq!(buffer.search(b",", 10), Search::Found { end: 2 });
        assert_eq!(buffer.search(b"b", 10), Search::Found { end: 3 });
        assert_eq!(buffer.search(b"\n", 10), Search::Missing);
    }

    #[test]
    fn a_separator_too_long_for_the_buffer_keeps_no_false_memory() {
        let mut buffer = holding(b"a,b");
        assert_eq!(buffer.search(b"\n", 10), Search::Missing);
        assert_eq!(buffer.search(b"b----", 10), Search::Missing);
        assert_eq!(buffer.search(b"\n", 10), Search::Missing);
        buffer.extend(b"----");
        assert_eq!(buffer.search(b"b----", 10), Search::Found { end: 7 });
    }

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let mut buffer = ReadBuffer::default();
        assert_eq!(buffer.search(b"\n", 10), Search::Missing);
        assert_eq!(buffer.separator.capacity(), 0);
        buffer.extend(b"abc");
        assert_eq!(buffer.search(b"\n", 10), Search::Missing);
        assert_eq!(buffer.take(3), b"abc");
        assert_eq!(buffer.separator.capacity(), 0);
    }

    #[test]
    fn copy_into_moves_what_fits() {
        let mut buffer = holding(b"abcdef");
        let mut out = [0; 4];
        assert_eq!(buffer.copy_into(&mut out), 4);
        assert_eq!(&out, b"abcd");
        assert_eq!(buffer.copy_into(&mut []), 0);
        assert_eq!(buffer.copy_into(&mut out), 2);
        assert_eq!(&out, b"efcd");
        assert_eq!(buffer.copy_into(&mut out), 0);
        assert!(buffer.is_empty());
    }

    #[test]
    fn taking_everything_forgets_the_search_too() {
        let mut buffer = holding(b"abcdef");
        assert_eq!(buffer.search(b"\n", 10), Search::Missing);
        buffer.discard(6);
        buffer.extend(b"\n");
        assert_eq!(buffer.search(b"\n", 10), Search::Found { end: 1 });
    }

    #[test]
    fn a_byte_is_found_at_every_place_of_a_block() {
        for len in 0..3 * BLOCK {
            let mut bytes = vec![b'x'; len];
            assert_eq!(find_byte(&bytes, b'\n'), None);
            for at in (0..len).rev() {
                bytes[at] = b'\n';
                assert_eq!(find_byte(&bytes, b'\n'), Some(at));
            }
        }
    }

    #[test]
    fn agrees_with_a_search_without_memory() {
        let separators: [&[u8]; 6] = [b"a", b"b", b"ab", b"aa", b"aab", b"abab"];
        for seed in 0..200 {
            let mut random = Xorshift::seeded(seed);
            let mut buffer = ReadBuffer::default();
            let mut model: Vec<u8> = Vec::new();
            // Two or three letters make near misses the rule.
            let letters = 2 + random.below(2);
            let limit = random.below(30);
            for _ in 0..300 {
                match random.below(8) {
                    0..3 => {
                        let n = random.below(6);
                        let data: Vec<u8> =
                            (0..n).map(|_| b'a' + random.below(letters) as u8).collect();
                        buffer.extend(&data);
                        model.extend(&data);
                    }
                    3..6 => {
                        let separator = separators[random.below(separators.len())];
                        let search = buffer.search(separator, limit);
                        assert_eq!(search, naive(&model, separator, limit), "seed {seed}");
                        if let Search::Found { end } = search {
                            let line: Vec<u8> = model.drain(..end).collect();
                            assert_eq!(buffer.take(end), line, "seed {seed}");
                        }
                    }
                    6 => {
                        let n = random.below(4);
                        buffer.discard(n);
                        model.drain(..n.min(model.len()));
                    }
                    _ => {
                        let mut out = vec![0; random.below(4)];
                        let n = buffer.copy_into(&mut out);
                        let expected: Vec<u8> = model.drain(..out.len().min(model.len())).collect();
                        assert_eq!(out[..n], expected, "seed {seed}");
                    }
                }
                assert_eq!(buffer.as_slice(), model, "seed {seed}");
            }
        }
    }
}
