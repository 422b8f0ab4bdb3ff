//! Decisions that a seed makes.

use evloop::testing;

/// Those of one client: the same seed decides the same way for ever.
pub(crate) struct Random(testing::Random);

impl Random {
    pub(crate) fn seeded(seed: u64, stream: u64) -> Self {
        let stream = testing::Random::new(stream).next_u64();
        Self(testing::Random::new(seed ^ stream))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound as usize) as u64
    }

    /// A size: most are small, some are large.
    pub(crate) fn size(&mut self, most: u64) -> usize {
        let bound = [16, 200, 2000, most][self.0.below(4)];
        self.0.within(1..=bound.min(most) as usize)
    }

    /// Bytes of which no two runs are alike.
    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        self.0.bytes(n)
    }
}
