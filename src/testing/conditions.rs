//! How good a simulated network is, and how bad.
//!
//! Owns: [`Conditions`]. Why: what a test wants to see go wrong is said once, in units, and checked
//! before it is believed. Invariants: what is in force makes sense. asyncio's counterpart: none.

use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::sys::invalid_input;

/// The weather of a simulated network: how long things take, and how often they go wrong.
///
/// [`Conditions::new`] is a good day: every byte arrives, in between 50 µs and 500 µs.
/// [`Conditions::storm`] has a little of everything. A probability is from 0 (never) to 1 (always).
///
/// ```
/// use std::time::Duration;
///
/// use evloop::testing::Conditions;
///
/// let slow = Conditions::new()
///     .latency(Duration::from_millis(200)..=Duration::from_millis(300))
///     .bandwidth(10_000)
///     .short_writes(0.5);
/// # let _ = slow;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "conditions are in force once they are set"]
pub struct Conditions {
    pub(super) latency: RangeInclusive<Duration>,
    pub(super) bandwidth: Option<u64>,
    pub(super) buffer: usize,
    pub(super) splits: f64,
    pub(super) short_reads: f64,
    pub(super) short_writes: f64,
    pub(super) spurious_events: f64,
    pub(super) resets: f64,
    pub(super) half_closes: f64,
    pub(super) silences: f64,
    pub(super) refusals: f64,
    pub(super) black_holes: f64,
    pub(super) partitions: f64,
    pub(super) accept_failures: f64,
    pub(super) lookup_failures: f64,
    pub(super) clock_jumps: f64,
    pub(super) longest_jump: Duration,
}

impl Conditions {
    /// A good day.
    pub fn new() -> Self {
        Self {
            latency: Duration::from_micros(50)..=Duration::from_micros(500),
            bandwidth: None,
            buffer: 64 * 1024,
            splits: 0.0,
            short_reads: 0.0,
            short_writes: 0.0,
            spurious_events: 0.0,
            resets: 0.0,
            half_closes: 0.0,
            silences: 0.0,
            refusals: 0.0,
            black_holes: 0.0,
            partitions: 0.0,
            accept_failures: 0.0,
            lookup_failures: 0.0,
            clock_jumps: 0.0,
            longest_jump: Duration::from_secs(5),
        }
    }

    /// Nothing is lost, but everything is slow, cut into pieces and in an odd order: what a correct
    /// program does not notice.
    pub fn rough() -> Self {
        Self::new()
            .latency(Duration::ZERO..=Duration::from_millis(50))
            .buffer(4096)
            .splits(0.5)
            .short_reads(0.3)
            .short_writes(0.3)
            .spurious_events(0.1)
    }

    /// [`rough`](Self::rough), and much goes wrong besides.
    pub fn storm() -> Self {
        Self::rough()
            .resets(0.1)
            .half_closes(0.05)
            .silences(0.02)
            .refusals(0.05)
            .black_holes(0.02)
            .partitions(0.05)
            .accept_failures(0.1)
            .lookup_failures(0.05)
            .clock_jumps(0.001)
    }

    /// How long a packet takes. Those of one connection do not overtake one another. Between the ends
    /// of a unix socket there are none: what one writes the other has.
    pub fn latency(mut self, range: RangeInclusive<Duration>) -> Self {
        self.latency = range;
        self
    }

    /// How many bytes a second one direction of a connection carries; `None`: any number.
    pub fn bandwidth(mut self, bytes_per_second: impl Into<Option<u64>>) -> Self {
        self.bandwidth = bytes_per_second.into();
        self
    }

    /// How many bytes the systems at both ends keep together, for one direction of a connection.
    /// In force for connections that are made from then on.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    /// How often what was written arrives in several pieces.
    pub fn splits(mut self, probability: f64) -> Self {
        self.splits = probability;
        self
    }

    /// How often a read gets only a part of what is there.
    pub fn short_reads(mut self, probability: f64) -> Self {
        self.short_reads = probability;
        self
    }

    /// How often a write takes only a part of what there is room for.
    pub fn short_writes(mut self, probability: f64) -> Self {
        self.short_writes = probability;
        self
    }

    /// How often a poll of the loop tells of something that has not happened, or is interrupted.
    pub fn spurious_events(mut self, probability: f64) -> Self {
        self.spurious_events = probability;
        self
    }

    /// How many connections are reset within their first two seconds.
    pub fn resets(mut self, probability: f64) -> Self {
        self.resets = probability;
        self
    }

    /// In how many connections one direction ends within the first two seconds, though nobody ended
    /// it. What is written there afterwards resets the connection.
    pub fn half_closes(mut self, probability: f64) -> Self {
        self.half_closes = probability;
        self
    }

    /// How many connections stop carrying anything within their first two seconds, without a word.
    /// Whoever writes learns after 15 minutes that nobody hears.
    pub fn silences(mut self, probability: f64) -> Self {
        self.silences = probability;
        self
    }

    /// How many connects are refused though somebody listens.
    pub fn refusals(mut self, probability: f64) -> Self {
        self.refusals = probability;
        self
    }

    /// How many connects get no answer at all: they time out after 127 seconds.
    pub fn black_holes(mut self, probability: f64) -> Self {
        self.black_holes = probability;
        self
    }

    /// With how many connections the two hosts are parted within two seconds, for up to ten. What is
    /// under way arrives when they are together again.
    pub fn partitions(mut self, probability: f64) -> Self {
        self.partitions = probability;
        self
    }

    /// How many accepts fail for want of a descriptor (EMFILE), or because the connection is gone
    /// already (ECONNABORTED).
    pub fn accept_failures(mut self, probability: f64) -> Self {
        self.accept_failures = probability;
        self
    }

    /// How many lookups of names fail.
    pub fn lookup_failures(mut self, probability: f64) -> Self {
        self.lookup_failures = probability;
        self
    }

    /// How often, when time passes, a host's clock jumps ahead of the others', as that of a machine
    /// that was suspended; by at most [`longest_jump`](Self::longest_jump).
    pub fn clock_jumps(mut self, probability: f64) -> Self {
        self.clock_jumps = probability;
        self
    }

    /// How far a clock jumps at most.
    pub fn longest_jump(mut self, time: Duration) -> Self {
        self.longest_jump = time;
        self
    }

    /// An error that says what makes no sense.
    pub(super) fn check(&self) -> io::Result<()> {
        let probabilities = [
            ("splits", self.splits),
            ("short_reads", self.short_reads),
            ("short_writes", self.short_writes),
            ("spurious_events", self.spurious_events),
            ("resets", self.resets),
            ("half_closes", self.half_closes),
            ("silences", self.silences),
            ("refusals", self.refusals),
            ("black_holes", self.black_holes),
            ("partitions", self.partitions),
            ("accept_failures", self.accept_failures),
            ("lookup_failures", self.lookup_failures),
            ("clock_jumps", self.clock_jumps),
        ];
        check_probabilities(&probabilities)?;
        if self.latency.is_empty() {
            let (start, end) = (self.latency.start(), self.latency.end());
            let why = format!("latency({start:?}..={end:?}): the range is empty");
            return Err(invalid_input(why));
        }
        if *self.latency.end() > LONGEST_LATENCY {
            let why = format!("latency({:?}): more than a day", self.latency);
            return Err(invalid_input(why));
        }
        if self.bandwidth == Some(0) {
            let why = "bandwidth(0): nothing would ever arrive; a partition is what parts hosts";
            return Err(invalid_input(why));
        }
        if self.buffer == 0 {
            return Err(invalid_input("buffer(0): nothing could ever be written"));
        }
        if self.spurious_events == 1.0 || self.accept_failures == 1.0 {
            let why = "spurious_events and accept_failures have to be less than 1, or nothing else would ever happen";
            return Err(invalid_input(why));
        }
        Ok(())
    }
}

/// What takes longer than a day takes for ever.
const LONGEST_LATENCY: Duration = Duration::from_secs(24 * 3600);

impl Default for Conditions {
    fn default() -> Self {
        Self::new()
    }
}

/// An error that names the first of these that is none.
pub(super) fn check_probabilities(probabilities: &[(&str, f64)]) -> io::Result<()> {
    let sensible = 0.0..=1.0;
    let wrong = |(_, probability): &&(&str, f64)| !sensible.contains(probability);
    match probabilities.iter().find(wrong) {
        None => Ok(()),
        Some((name, probability)) => {
            let why = format!("{name}({probability}): a probability is from 0 to 1");
            Err(invalid_input(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let (second, day) = (Duration::from_secs(1), Conditions::new());
        let refused = [
            (day.clone().resets(1.5), "resets(1.5)"),
            (day.clone().splits(-0.1), "splits(-0.1)"),
            (day.clone().refusals(f64::NAN), "refusals(NaN)"),
            (
                day.clone().latency(second..=Duration::ZERO),
                "latency(1s..=0ns)",
            ),
            (
                day.clone().latency(second..=Duration::MAX),
                "more than a day",
            ),
            (day.clone().bandwidth(0), "bandwidth(0)"),
            (day.clone().buffer(0), "buffer(0)"),
            (day.clone().spurious_events(1.0), "spurious_events"),
        ];
        for (conditions, word) in refused {
            let error = conditions.check().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(word), "{error}");
        }
        for fine in [day, Conditions::rough(), Conditions::storm()] {
            fine.check().unwrap();
        }
    }
}
