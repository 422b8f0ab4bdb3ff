//! Bytes that arrived and that the user has not read yet, and how far they were searched.
//!
//! Owns: the received bytes and the memory of the last fruitless search. Why: a line that comes in
//! many pieces is asked for after each of them, and must cost its own length once, not once for
//! each piece. Invariants: no match of what was sought starts before `scanned`; bytes leave only by a call
//! that consumes, never by a search, so whoever gives up waiting loses nothing; the storage of an
//! empty buffer is reclaimed. asyncio's counterpart: `StreamReader._buffer`, and the loop inside
//! `readuntil` with its local `offset`.

use std::ops::Range;
use std::slice;

use crate::sansio::byte_queue::ByteQueue;

#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    arrived: ByteQueue,
    /// The last fruitless search. Apart, since most streams wait with nothing to search.
    scan: Option<Box<Scan>>,
}

#[derive(Debug)]
struct Scan {
    /// How many bytes at the front cannot start a match, however much more arrives.
    scanned: usize,
    /// The separators that this is about, each behind its length.
    sought: Vec<u8>,
}

/// What a search for a separator found out.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Search {
    /// The first match to end does so before `end`: that many bytes are the line, separator
    /// included.
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

    pub(crate) fn has_storage(&self) -> bool {
        self.arrived.has_storage()
    }

    /// [`ByteQueue::adopt`].
    pub(crate) fn adopt(&mut self, storage: Vec<u8>) {
        self.arrived.adopt(storage);
    }

    /// [`ByteQueue::reclaim`].
    pub(crate) fn reclaim(&mut self) -> Vec<u8> {
        self.arrived.reclaim()
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

    /// Looks for the separator that ends first, and of those that end together for the shortest;
    /// at most `limit` bytes may stand before it.
    ///
    /// The limit is about the payload, so a line of exactly `limit` bytes and its separator is
    /// fine. Without a match, a possible beginning of one at the tail is not counted yet.
    ///
    /// # Panics
    ///
    /// When there is no separator, or an empty one, which the floor above refuses with a proper
    /// error.
    pub(crate) fn search(&mut self, separators: &[&[u8]], limit: usize) -> Search {
        assert!(
            !separators.is_empty() && !separators.contains(&&b""[..]),
            "an empty separator is everywhere"
        );
        let from = match &self.scan {
            Some(scan) if scan.is_for(separators) => scan.scanned,
            _ => 0,
        };
        if let Some(found) = find(self.as_slice(), separators, from) {
            // Not remembered: a line that is found is consumed next, as a rule.
            return if found.start > limit {
                Search::Overrun {
                    consumed: found.start,
                    found: true,
                }
            } else {
                Search::Found { end: found.end }
            };
        }
        let lengths = separators.iter().map(|separator| separator.len());
        let longest = lengths.max().unwrap_or(0);
        let scanned = (self.len() + 1).saturating_sub(longest);
        self.remember(separators, scanned);
        if scanned > limit {
            Search::Overrun {
                consumed: scanned,
                found: false,
            }
        } else {
            Search::Missing
        }
    }

    fn remember(&mut self, separators: &[&[u8]], scanned: usize) {
        match &mut self.scan {
            // A reader that waits on an empty buffer must not cost an allocation.
            scan if scanned == 0 => *scan = None,
            Some(scan) if scan.is_for(separators) => scan.scanned = scanned,
            scan => *scan = Some(Box::new(Scan::of(separators, scanned))),
        }
    }

    /// The first `n` bytes are about to leave. What is known of the others stays true.
    fn forget_scanned(&mut self, n: usize) {
        if let Some(scan) = &mut self.scan {
            scan.scanned = scan.scanned.saturating_sub(n);
            if n >= self.arrived.len() {
                self.scan = None;
            }
        }
    }
}

impl Scan {
    fn of(separators: &[&[u8]], scanned: usize) -> Self {
        let mut sought = Vec::new();
        for separator in separators {
            sought.extend(separator.len().to_ne_bytes());
            sought.extend_from_slice(separator);
        }
        Self { scanned, sought }
    }

    /// Whether it was for these, in this order.
    fn is_for(&self, separators: &[&[u8]]) -> bool {
        let mut rest = &*self.sought;
        for separator in separators {
            let length = rest.strip_prefix(&separator.len().to_ne_bytes());
            match length.and_then(|rest| rest.strip_prefix(*separator)) {
                Some(next) => rest = next,
                None => return false,
            }
        }
        rest.is_empty()
    }
}

/// Where the separator is that ends first, if it does not start before `from`; of those that end
/// together the shortest. One way through the bytes, whatever is found or not.
fn find(bytes: &[u8], separators: &[&[u8]], from: usize) -> Option<Range<usize>> {
    if let [separator] = separators {
        let start = find_one(bytes, separator, from)?;
        return Some(start..start + separator.len());
    }
    find_of_several(bytes, separators, from)
}

fn find_one(bytes: &[u8], separator: &[u8], mut from: usize) -> Option<usize> {
    let last_start = bytes.len().checked_sub(separator.len())?;
    while from <= last_start {
        let candidates = &bytes[from..=last_start];
        let start = from + find_where(candidates, |block| has(block, separator[0]))?;
        if bytes[start..].starts_with(separator) {
            return Some(start);
        }
        from = start + 1;
    }
    None
}

fn find_of_several(bytes: &[u8], separators: &[&[u8]], mut from: usize) -> Option<Range<usize>> {
    let shortest = separators.iter().map(|separator| separator.len()).min()?;
    let begins = |block: &[u8]| separators.iter().any(|separator| has(block, separator[0]));
    let mut best: Option<Range<usize>> = None;
    loop {
        // What starts behind these would end behind the best.
        let end = best.as_ref().map_or(bytes.len(), |best| best.end);
        let candidates = bytes.get(from..(end + 1).saturating_sub(shortest));
        let Some(start) = candidates.and_then(|bytes| find_where(bytes, begins)) else {
            return best;
        };
        let start = from + start;
        for separator in separators {
            let end = start + separator.len();
            let better = best.as_ref().is_none_or(|best| end <= best.end);
            if better && bytes[start..].starts_with(separator) {
                best = Some(start..end);
            }
        }
        from = start + 1;
    }
}

/// The offset of the first byte of which `wanted` says so, which it can also say of a block.
///
/// Whole blocks are passed over first: without an early exit inside a block, the compiler
/// compares all its bytes at once.
fn find_where(bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let passed = bytes
        .chunks_exact(BLOCK)
        .take_while(|block| !wanted(block))
        .count()
        * BLOCK;
    let mut rest = bytes[passed..].iter();
    Some(passed + rest.position(|byte| wanted(slice::from_ref(byte)))?)
}

/// Without an early exit: see above.
fn has(block: &[u8], wanted: u8) -> bool {
    block
        .iter()
        .fold(false, |hit, &byte| hit | (byte == wanted))
}

/// Two vector registers of the smallest machine we care for.
const BLOCK: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sansio::times;
    use crate::sansio::xorshift::Xorshift;

    fn scanned(buffer: &ReadBuffer) -> usize {
        buffer.scan.as_ref().map_or(0, |scan| scan.scanned)
    }

    fn has_sought(buffer: &ReadBuffer, separators: &[&[u8]]) -> bool {
        let scan = buffer.scan.as_ref();
        scan.is_some_and(|scan| scan.is_for(separators))
    }

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
    fn naive(data: &[u8], separators: &[&[u8]], limit: usize) -> Search {
        let matches = separators.iter().flat_map(|separator| {
            let windows = data.windows(separator.len()).enumerate();
            let starts = windows.filter(move |(_, window)| window == separator);
            starts.map(|(start, _)| (start + separator.len(), separator.len()))
        });
        let longest = separators.iter().map(|s| s.len()).max().unwrap();
        match matches.min() {
            Some((end, length)) if end - length > limit => found_too_late(end - length),
            Some((end, _)) => Search::Found { end },
            None if data.len() + 1 > limit + longest => not_found(data.len() + 1 - longest),
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
            assert_eq!(buffer.search(&[separator], 3), expected, "{data:?}");
            assert_eq!(buffer.search(&[separator], 3), expected, "{data:?} again");
            assert_eq!(buffer.as_slice(), data, "a search consumes nothing");
            assert_eq!(
                naive(data, &[separator], 3),
                expected,
                "the model, {data:?}"
            );
        }
    }

    #[test]
    fn of_several_separators_the_one_that_ends_first_wins() {
        type Case = (&'static [u8], &'static [&'static [u8]], Search);
        let found = |end| Search::Found { end };
        let cases: &[Case] = &[
            // The first in the stream, whatever the order they are given in.
            (b"a;b,", &[b",", b";"], found(2)),
            (b"a;b,", &[b";", b","], found(2)),
            // Where the other one starts before, but ends behind.
            (b"abcd", &[b"abcd", b"bc"], found(3)),
            (b"abcd", &[b"bc", b"abcd"], found(3)),
            (b"xabcd", &[b"abcd", b"bcd"], found(5)),
            // One that is the beginning, or the end, of another.
            (b"a\r\n", &[b"\r\n", b"\r"], found(2)),
            (b"a\r\n", &[b"\r\n", b"\n"], found(3)),
            // What stands before the shorter one is judged.
            (b"abcd\r\n", &[b"\r\n", b"\n"], found_too_late(5)),
            (b"abc\r\n", &[b"\r\n", b"\n"], found_too_late(4)),
            (b"abc\r\n", &[b"\r\n", b"\r"], found(4)),
            // Nothing is over while the longest may still have begun within the limit.
            (b"abcde", &[b"\n", b"---"], Search::Missing),
            (b"abcdef", &[b"\n", b"---"], not_found(4)),
            (b"", &[b"\n", b"---"], Search::Missing),
            // The same one twice.
            (b"ab\n", &[b"\n", b"\n"], found(3)),
        ];
        for &(data, separators, expected) in cases {
            let mut buffer = holding(data);
            for _ in 0..2 {
                let search = buffer.search(separators, 3);
                assert_eq!(search, expected, "{data:?} {separators:?}");
            }
            assert_eq!(buffer.as_slice(), data, "a search consumes nothing");
            assert_eq!(naive(data, separators, 3), expected, "the model, {data:?}");
        }
    }

    #[test]
    fn a_buffer_shorter_than_the_longest_separator_is_searched_from_its_start() {
        let separators: [&[u8]; 2] = [b"\n", b"a long separator"];
        let mut buffer = ReadBuffer::default();
        for byte in b"a long" {
            buffer.extend(&[*byte]);
            assert_eq!(buffer.search(&separators, 100), Search::Missing);
            assert_eq!(scanned(&buffer), 0);
        }
        buffer.extend(b" separator");
        assert_eq!(buffer.search(&separators, 100), Search::Found { end: 16 });
    }

    #[test]
    fn another_set_of_separators_is_searched_from_the_start() {
        let mut buffer = holding(b"ab,cd;ef");
        // Told apart also where their bytes are the same.
        let sets: [&[&[u8]]; 4] = [&[b"!", b"?"], &[b"!?"], &[b"!"], &[b"!", b"?", b"!"]];
        for separators in sets {
            assert_eq!(buffer.search(separators, 10), Search::Missing);
            assert!(has_sought(&buffer, separators));
            let others = sets.iter().filter(|others| **others != separators);
            assert_eq!(
                others.filter(|others| has_sought(&buffer, others)).count(),
                0
            );
        }
        assert_eq!(buffer.search(&[b";", b","], 10), Search::Found { end: 3 });
    }

    #[test]
    #[should_panic(expected = "an empty separator")]
    fn an_empty_separator_among_others_is_refused() {
        holding(b"abc").search(&[b"a", b""], 3);
    }

    #[test]
    #[should_panic(expected = "an empty separator")]
    fn no_separators_are_refused() {
        holding(b"abc").search(&[], 3);
    }

    #[test]
    fn a_limit_of_zero_allows_only_the_empty_line() {
        assert_eq!(holding(b"\n").search(&[b"\n"], 0), Search::Found { end: 1 });
        assert_eq!(holding(b"").search(&[b"\n"], 0), Search::Missing);
        assert_eq!(holding(b"a").search(&[b"\n"], 0), not_found(1));
    }

    #[test]
    fn the_largest_limit_does_not_overflow() {
        let mut buffer = holding(b"abc");
        assert_eq!(buffer.search(&[b"\n"], usize::MAX), Search::Missing);
    }

    #[test]
    #[should_panic(expected = "an empty separator")]
    fn an_empty_separator_is_refused() {
        holding(b"abc").search(&[b""], 3);
    }

    #[test]
    fn byte_by_byte_finds_what_the_whole_input_has() {
        let input = b"one\r\ntwo\r\r\n\r\n\n\r\nthe last one has no end\r";
        let separators: [&[&[u8]]; 8] = [
            &[b"\n"],
            &[b"\r\n"],
            &[b"\r\n\r\n"],
            &[b"o"],
            &[b"\n", b"\r\n"],
            &[b"\r\n\r\n", b"\r\r", b"e"],
            &[b"the last", b"\r\n", b"ast"],
            &[b"one has no end and never comes", b"\n\r"],
        ];
        for separators in separators {
            let mut whole = holding(input);
            let mut lines = Vec::new();
            while let Search::Found { end } = whole.search(separators, 100) {
                lines.push(whole.take(end));
            }

            let mut piecewise = ReadBuffer::default();
            let mut lines_piecewise = Vec::new();
            for byte in input.chunks(1) {
                piecewise.extend(byte);
                if let Search::Found { end } = piecewise.search(separators, 100) {
                    lines_piecewise.push(piecewise.take(end));
                }
            }
            assert_eq!(lines_piecewise, lines);
            assert_eq!(piecewise.as_slice(), whole.as_slice());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too much of the same to be interpreted")]
    fn a_search_resumes_where_the_last_one_ended() {
        let mut buffer = ReadBuffer::default();
        for n in 1..=1000 {
            buffer.extend(b"x");
            assert_eq!(buffer.search(&[b"\r\n"], 2000), Search::Missing);
            assert_eq!(scanned(&buffer), n - 1);
        }
        buffer.discard(400);
        assert_eq!(scanned(&buffer), 599);
        assert_eq!(buffer.take(599).len(), 599);
        assert_eq!(scanned(&buffer), 0);
    }

    #[test]
    fn another_separator_is_searched_from_the_start() {
        let mut buffer = holding(b"a,b");
        assert_eq!(buffer.search(&[b"\n"], 10), Search::Missing);
        assert_eq!(buffer.search(&[b","], 10), Search::Found { end: 2 });
        assert_eq!(buffer.search(&[b"b"], 10), Search::Found { end: 3 });
        assert_eq!(buffer.search(&[b"\n"], 10), Search::Missing);
    }

    #[test]
    fn a_separator_too_long_for_the_buffer_keeps_no_false_memory() {
        let mut buffer = holding(b"a,b");
        assert_eq!(buffer.search(&[b"\n"], 10), Search::Missing);
        assert_eq!(buffer.search(&[b"b----"], 10), Search::Missing);
        assert_eq!(buffer.search(&[b"\n"], 10), Search::Missing);
        buffer.extend(b"----");
        assert_eq!(buffer.search(&[b"b----"], 10), Search::Found { end: 7 });
    }

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let mut buffer = ReadBuffer::default();
        assert_eq!(buffer.search(&[b"\n"], 10), Search::Missing);
        assert!(buffer.scan.is_none());
        buffer.extend(b"abc");
        assert_eq!(buffer.search(&[b"\n"], 10), Search::Missing);
        assert_eq!(buffer.take(3), b"abc");
        assert!(buffer.scan.is_none());
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
        assert_eq!(buffer.search(&[b"\n"], 10), Search::Missing);
        buffer.discard(6);
        buffer.extend(b"\n");
        assert_eq!(buffer.search(&[b"\n"], 10), Search::Found { end: 1 });
    }

    /// All lengths, where there is time.
    const STEP: usize = if cfg!(miri) { 31 } else { 1 };

    #[test]
    fn a_byte_is_found_at_every_place_of_a_block() {
        for len in (0..3 * BLOCK).step_by(STEP) {
            let mut bytes = vec![b'x'; len];
            assert_eq!(find_where(&bytes, |block| has(block, b'\n')), None);
            for at in (0..len).rev() {
                bytes[at] = b'\n';
                assert_eq!(find_where(&bytes, |block| has(block, b'\n')), Some(at));
            }
        }
    }

    #[test]
    fn agrees_with_a_search_without_memory() {
        let known: [&[u8]; 8] = [b"a", b"b", b"ab", b"aa", b"aab", b"abab", b"c", b"bcab"];
        for seed in 0..times(200) as u64 {
            let mut random = Xorshift::seeded(seed);
            let mut buffer = ReadBuffer::default();
            let mut model: Vec<u8> = Vec::new();
            // Two or three letters make near misses the rule.
            let letters = 2 + random.below(2);
            let limit = random.below(30);
            // Few sets, so that one is often asked for again.
            let sets: Vec<Vec<&[u8]>> = (0..4)
                .map(|_| {
                    let n = 1 + random.below(3);
                    (0..n).map(|_| known[random.below(known.len())]).collect()
                })
                .collect();
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
                        let separators = &sets[random.below(sets.len())];
                        let search = buffer.search(separators, limit);
                        assert_eq!(search, naive(&model, separators, limit), "seed {seed}");
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
