//! The order in which participants are measured: drawn anew for each round, so that nobody stands
//! behind the same neighbour every time, and from a seed, so that a run can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// A source of orders.
pub struct Shuffle(u64);

impl Shuffle {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that no run before had; short enough to be typed.
    pub fn fresh_seed() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |time| time.as_micros() as u64 % 1_000_000)
    }

    /// Brings the items into an order of its own; all orders are as likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }

    /// Steele, Lea and Flood's SplitMix64: any seed is a good one.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(seed: u64) -> Vec<Vec<u32>> {
        let mut shuffle = Shuffle::new(seed);
        let mut items: Vec<u32> = (0..13).collect();
        let order = |_| {
            shuffle.shuffle(&mut items);
            items.clone()
        };
        (0..5).map(order).collect()
    }

    #[test]
    fn a_seed_says_the_orders_and_each_is_another_one_of_the_same() {
        assert_eq!(orders(7), orders(7));
        assert_ne!(orders(7), orders(8));
        let mut found = orders(7);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 5);
        for mut order in found {
            order.sort_unstable();
            assert_eq!(order, (0..13).collect::<Vec<_>>());
        }
    }

    #[test]
    fn everybody_is_first_and_last_at_some_time() {
        let mut shuffle = Shuffle::new(1);
        let mut items = [0, 1, 2, 3];
        let (mut first, mut last) = ([0; 4], [0; 4]);
        for _ in 0..400 {
            shuffle.shuffle(&mut items);
            first[items[0]] += 1;
            last[items[3]] += 1;
        }
        assert!(
            first.iter().chain(&last).all(|times| *times > 60),
            "{first:?} {last:?}"
        );
    }
}
