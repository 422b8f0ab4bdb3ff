//! Numbers that look random and are the same on every machine.
//!
//! Owns: [`Random`]. Why: a seed has to mean the same run for ever, so the generator is written out
//! here and not taken from a library that may choose a better one. Invariants: no floating-point
//! operation but exact ones; nothing is read from the system. asyncio's counterpart: none.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A source of numbers that follow from a seed (SplitMix64), or from bytes.
///
/// ```
/// use evloop::testing::Random;
///
/// let (mut one, mut other) = (Random::new(7), Random::new(7));
/// assert_eq!(one.below(1000), other.below(1000));
/// ```
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    /// What is used up first.
    bytes: VecDeque<u8>,
}

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            bytes: VecDeque::new(),
        }
    }

    /// Numbers that are made of these bytes, one of each, and when they are used up those of the
    /// seed 0. For a fuzzer, which has bytes, and finds out what each of them does.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            state: 0,
            bytes: bytes.iter().copied().collect(),
        }
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        if let Some(byte) = self.bytes.pop_front() {
            // Each byte once in each byte of the number: from 0, the least, to the greatest.
            return u64::from_ne_bytes([byte; 8]);
        }
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        // The upper half of the product: as even as a test needs it.
        ((u128::from(self.next_u64()) * end as u128) >> 64) as usize
    }

    /// A number of this range; its start if it is empty.
    pub fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        let (start, end) = range.into_inner();
        start + self.below(end.saturating_sub(start).saturating_add(1))
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        // Without a question nothing is drawn: a fault that is off changes no seed's run.
        probability > 0.0 && (self.next_u64() >> 11) as f64 / ((1_u64 << 53) as f64) < probability
    }

    /// A span of time of this range, in whole nanoseconds.
    pub fn duration(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let (start, end) = range.into_inner();
        let nanos = end.saturating_sub(start).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let drawn = (u128::from(self.next_u64()) * (u128::from(nanos) + 1)) >> 64;
        start.saturating_add(Duration::from_nanos(drawn as u64))
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next_u64() as u8).collect()
    }

    /// Another source, whose numbers follow from this one's next.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published first outputs of SplitMix64 for the seed 1234567.
    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        let first: [u64; 3] = std::array::from_fn(|_| random.next_u64());
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut random = Random::new(1);
        let drawn: Vec<usize> = (0..1000).map(|_| random.within(3..=5)).collect();
        assert!(drawn.iter().all(|n| (3..=5).contains(n)));
        assert!((3..=5).all(|n| drawn.contains(&n)));
        assert_eq!((random.below(0), random.below(1)), (0, 0));
        let times = (0..1000).filter(|_| random.chance(0.25)).count();
        assert!((150..350).contains(&times), "{times}");
    }

    #[test]
    fn bytes_are_used_up_before_the_seed() {
        let mut random = Random::from_bytes(&[0, 0x80, 0xff]);
        assert_eq!([0; 3].map(|_| random.below(100)), [0, 50, 99]);
        assert_eq!(random.next_u64(), Random::new(0).next_u64());
    }

    #[test]
    fn what_cannot_happen_draws_nothing() {
        let (mut one, mut other) = (Random::new(9), Random::new(9));
        assert!(!one.chance(0.0));
        assert_eq!(one.next_u64(), other.next_u64());
    }

    #[test]
    fn a_shuffle_keeps_everything() {
        let mut items: Vec<u32> = (0..50).collect();
        Random::new(3).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
