//! The pure floor: what a connection remembers and decides, without the connection.
//!
//! Owns: the buffers, the water marks, the states of a transport and of a server with the tables that
//! they follow, the queue of timers, and the race of connects. Why: decisions that see no socket,
//! no clock and no user code can be tested by walking their tables, and the floors above keep only
//! the effects. Invariants: no socket, clock, `Rc`, `RefCell` or log in here; time comes in as a
//! parameter; nothing here runs user code. asyncio's counterpart: the flags and byte arrays
//! scattered over `selector_events.py` and `streams.py`, and the heap of `base_events.py`.

pub(crate) mod byte_queue;
pub(crate) mod happy_eyeballs;
pub(crate) mod lifecycle;
pub(crate) mod read_buffer;
pub(crate) mod server_life;
pub(crate) mod table;
pub(crate) mod timer_queue;
pub(crate) mod water_marks;
pub(crate) mod write_buffer;

/// How often a test does something: Miri interprets, which is some hundred times slower.
#[cfg(test)]
const fn times(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(500) } else { n }
}

/// Seeded randomness for the tests of this floor: the same seed walks the same path for ever.
#[cfg(test)]
mod xorshift {
    pub(super) struct Xorshift(u64);

    impl Xorshift {
        pub(super) fn seeded(seed: u64) -> Self {
            // Zero is the one state that xorshift never leaves.
            Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
        }

        /// A number below `bound`, which is not zero.
        pub(super) fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % bound
        }
    }
}
