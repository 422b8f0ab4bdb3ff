//! How badly a loop on real sockets behaves.
//!
//! Owns: [`Chaos`]. Why: as with [`Conditions`](crate::testing::Conditions), what a test wants to see go
//! wrong is said once, and checked before it is believed. Invariants: what is in force makes sense; a
//! correct program does not notice. asyncio's counterpart: none.

use std::io;
use std::time::Duration;

use crate::sys::invalid_input;
use crate::testing::conditions::check_probabilities;
use crate::testing::random::Random;

/// How a loop on real sockets treats a program under test. A probability is from 0 (never) to 1
/// (always).
///
/// Nothing happens that a system might not do: a read gets a part of what is there, a write takes a
/// part of what there is room for, either would block though the poller said that it would not, a
/// system call is interrupted, a sleep ends for nothing, events come late and in another order. No byte
/// is lost or changed and no connection is broken, so a program under it has to do what it does
/// elsewhere. It concerns whatever stands on transports and servers; the operations on sockets of the
/// caller's own (`add_reader`, `sock_recv` and their neighbours) hear of them later than elsewhere, and
/// read and write as ever.
///
/// One trouble may hide another, as an event without a reason stands in for one that was lost. So some
/// kinds stay away with each seed: any, unless it is there always, with one seed in three.
///
/// The choices follow from the seed, and each socket has its own: the same seed cuts its third write at
/// the same place. What the system does in between, and how long it takes, does not follow from it, so a
/// run is not replayed byte for byte. Where that matters, a [`Simulation`](crate::testing::Simulation)
/// does.
///
/// ```
/// use evloop::testing::Chaos;
///
/// let everything_is_cut = Chaos::new().short_reads(1.0).short_writes(1.0);
/// let event_loop = everything_is_cut.event_loop(42)?;
/// # drop(event_loop);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "nothing happens before there is a loop of it"]
pub struct Chaos {
    pub(super) short_reads: f64,
    pub(super) short_writes: f64,
    pub(super) false_blocks: f64,
    pub(super) interruptions: f64,
    pub(super) spurious_events: f64,
    pub(super) delays: f64,
    pub(super) longest_delay: u32,
    pub(super) time_limit: Duration,
}

impl Chaos {
    /// Something of everything.
    pub fn new() -> Self {
        Self {
            short_reads: 0.8,
            short_writes: 0.8,
            false_blocks: 0.1,
            interruptions: 0.1,
            spurious_events: 0.2,
            delays: 0.5,
            longest_delay: 4,
            time_limit: Duration::from_secs(60),
        }
    }

    /// How often a read gets only a part of what it would.
    pub fn short_reads(mut self, probability: f64) -> Self {
        self.short_reads = probability;
        self
    }

    /// How often a write takes only a part of what it would, and so does a piece of a file.
    pub fn short_writes(mut self, probability: f64) -> Self {
        self.short_writes = probability;
        self
    }

    /// How often a read, a write, an accept or the end of a connect has to be waited for though an
    /// event has told of it.
    pub fn false_blocks(mut self, probability: f64) -> Self {
        self.false_blocks = probability;
        self
    }

    /// How often a poll, a read, a write or an accept is interrupted, as by a signal.
    pub fn interruptions(mut self, probability: f64) -> Self {
        self.interruptions = probability;
        self
    }

    /// How often a poll returns at once, with nothing or with an event that has no reason.
    pub fn spurious_events(mut self, probability: f64) -> Self {
        self.spurious_events = probability;
        self
    }

    /// How often an event, or a signal, is withheld for some polls. Those that come with the same poll
    /// are shuffled.
    pub fn delays(mut self, probability: f64) -> Self {
        self.delays = probability;
        self
    }

    /// For how many polls an event is withheld at most. None of them sleeps.
    pub fn longest_delay(mut self, polls: u32) -> Self {
        self.longest_delay = polls;
        self
    }

    /// How long a run of [`explore`](Self::explore) may take: a minute, unless told otherwise. What
    /// takes longer hangs.
    pub fn time_limit(mut self, time: Duration) -> Self {
        self.time_limit = time;
        self
    }

    /// What of it is in force with this seed.
    pub(super) fn of_seed(&self, seed: u64) -> Self {
        let mut chaos = self.clone();
        let mut random = Random::new(seed);
        for probability in [
            &mut chaos.short_reads,
            &mut chaos.short_writes,
            &mut chaos.false_blocks,
            &mut chaos.interruptions,
            &mut chaos.spurious_events,
            &mut chaos.delays,
        ] {
            if random.below(3) == 0 && *probability < 1.0 {
                *probability = 0.0;
            }
        }
        chaos
    }

    /// An error that says what makes no sense.
    pub(super) fn check(&self) -> io::Result<()> {
        check_probabilities(&[
            ("short_reads", self.short_reads),
            ("short_writes", self.short_writes),
            ("false_blocks", self.false_blocks),
            ("interruptions", self.interruptions),
            ("spurious_events", self.spurious_events),
            ("delays", self.delays),
        ])?;
        let always = [self.false_blocks, self.interruptions, self.spurious_events];
        if always.contains(&1.0) {
            let why = "false_blocks, interruptions and spurious_events have to be less than 1, or nothing else would ever happen";
            return Err(invalid_input(why));
        }
        if self.longest_delay == 0 {
            let why = "longest_delay(0): what is withheld comes one poll later at least; delays(0.0) withholds nothing";
            return Err(invalid_input(why));
        }
        if self.time_limit.is_zero() {
            return Err(invalid_input("time_limit(0ns): nothing could ever end"));
        }
        Ok(())
    }
}

impl Default for Chaos {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let refused = [
            (Chaos::new().short_reads(1.5), "short_reads(1.5)"),
            (Chaos::new().short_writes(-0.1), "short_writes(-0.1)"),
            (Chaos::new().delays(f64::NAN), "delays(NaN)"),
            (Chaos::new().false_blocks(1.0), "false_blocks"),
            (Chaos::new().interruptions(1.0), "interruptions"),
            (Chaos::new().spurious_events(1.0), "spurious_events"),
            (Chaos::new().longest_delay(0), "longest_delay(0)"),
            (Chaos::new().time_limit(Duration::ZERO), "time_limit(0ns)"),
        ];
        for (chaos, word) in refused {
            let error = chaos.check().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(word), "{error}");
        }
        let extreme = Chaos::new().short_reads(1.0).short_writes(1.0).delays(1.0);
        for fine in [Chaos::new(), extreme] {
            fine.check().unwrap();
        }
    }
    #[test]
    fn each_kind_is_left_out_now_and_then_unless_it_is_there_always() {
        let chaos = Chaos::new().short_writes(1.0);
        let seeds: Vec<Chaos> = (0..300).map(|seed| chaos.of_seed(seed)).collect();
        let without =
            |kind: fn(&Chaos) -> f64| seeds.iter().filter(|seed| kind(seed) == 0.0).count();
        for kind in [
            |chaos: &Chaos| chaos.short_reads,
            |chaos: &Chaos| chaos.false_blocks,
            |chaos: &Chaos| chaos.interruptions,
            |chaos: &Chaos| chaos.spurious_events,
            |chaos: &Chaos| chaos.delays,
        ] {
            assert!((70..130).contains(&without(kind)), "{}", without(kind));
        }
        assert_eq!(without(|chaos| chaos.short_writes), 0);
    }
}
