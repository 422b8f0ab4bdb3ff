//! What a simulation has seen.
//!
//! Owns: [`Tally`]. Why: a storm that nobody noticed has tested nothing, so what went wrong is
//! counted. Invariants: what counts as a fault, one side was told of.
//! asyncio's counterpart: none.

use std::ops::AddAssign;

/// What has happened in a [`Simulation`](crate::testing::Simulation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Connections that were made.
    pub connections: u64,
    /// Bytes that a read has given.
    pub bytes: u64,
    /// Events that polls gave.
    pub events: u64,
    /// Reads that got less than there was.
    pub short_reads: u64,
    /// Writes that took less than there was room for.
    pub short_writes: u64,
    /// Events without a reason.
    pub spurious_events: u64,
    /// Calls that reported a reset.
    pub resets: u64,
    /// Reads that found an end that nobody had sent.
    pub early_ends: u64,
    /// Calls that reported a refused connect.
    pub refusals: u64,
    /// Calls that reported that nobody has answered for too long.
    pub timeouts: u64,
    /// Packets that were held up by a partition.
    pub held_packets: u64,
    /// Accepts, connects and binds that failed for want of a descriptor, and accepted connections
    /// that were gone.
    pub accept_failures: u64,
    /// Lookups that failed.
    pub lookup_failures: u64,
    /// Clocks that have jumped.
    pub clock_jumps: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.bytes += other.bytes;
        self.events += other.events;
        self.short_reads += other.short_reads;
        self.short_writes += other.short_writes;
        self.spurious_events += other.spurious_events;
        self.resets += other.resets;
        self.early_ends += other.early_ends;
        self.refusals += other.refusals;
        self.timeouts += other.timeouts;
        self.held_packets += other.held_packets;
        self.accept_failures += other.accept_failures;
        self.lookup_failures += other.lookup_failures;
        self.clock_jumps += other.clock_jumps;
    }
}

impl Tally {
    /// The faults whose effect a call has reported to one side, or a lookup.
    pub fn faults(&self) -> u64 {
        self.short_reads
            + self.short_writes
            + self.resets
            + self.early_ends
            + self.refusals
            + self.timeouts
            + self.accept_failures
            + self.lookup_failures
    }
}
