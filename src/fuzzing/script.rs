//! Bytes as a list of decisions.
//!
//! Owns: [`Script`]. Why: a fuzzer gives bytes, a target wants choices, sizes and data. Invariants:
//! any bytes are a script; one that is at its end gives zeros. asyncio's counterpart: none.

pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// A size between nothing and 256 KiB: small ones one by one, large ones by their exponents and
    /// a little more or less.
    pub(super) fn size(&mut self) -> usize {
        match self.byte() {
            small @ 0..128 => usize::from(small),
            large => {
                let exponent = 7 + usize::from(large) % EXPONENTS;
                let near = [0, 1, usize::MAX, 100][usize::from(large >> 4) % 4];
                (1_usize << exponent).wrapping_add(near)
            }
        }
    }

    /// The next `n` bytes, or those that are left.
    pub(super) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// From 128 bytes to 256 KiB; what interprets every byte of them has enough of 1 KiB.
const EXPONENTS: usize = if cfg!(miri) { 4 } else { 12 };
