//! Decisions that a seed makes.

/// xorshift: the same seed decides the same way for ever.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64, stream: u64) -> Self {
        let mixed =
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
        // Zero is the one state that it never leaves.
        let mut random = Self(mixed | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// A size: most are small, some are large.
    pub(crate) fn size(&mut self, most: u64) -> usize {
        let bound = [16, 200, 2000, most][self.below(4) as usize];
        1 + self.below(bound.min(most)) as usize
    }

    /// Bytes of which no two runs are alike.
    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        let words = (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(n).collect()
    }
}
