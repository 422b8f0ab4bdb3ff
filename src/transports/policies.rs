//! What a server demands of its connections, and what is remembered of one to judge it.
//!
//! Owns: [`Policies`] and [`Vigil`]. Why: a peer that says nothing, or takes nothing, costs memory
//! and a descriptor for as long as it likes, unless somebody looks at the clock. Invariants: time is
//! a parameter here; a connection without policies has no vigil and costs nothing. asyncio's
//! counterpart: none; its users wrap their reads in `wait_for`.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::sansio::timer_queue::TimerKey;
use crate::transports::close_reason::CloseReason;

/// What a server demands; by default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policies {
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) max_write_buffer: Option<usize>,
}

impl Policies {
    /// What the transport above another one has to see to: what is left is for the one below.
    #[cfg(feature = "tls")]
    pub(crate) fn split(&mut self) -> Self {
        Self {
            max_write_buffer: self.max_write_buffer.take(),
            ..Self::default()
        }
    }

    /// The vigil over a connection that begins `now`, if there is anything to watch for.
    pub(super) fn vigil(self, now: Instant) -> Option<Box<Vigil>> {
        let wanted = self.idle_timeout.is_some()
            || self.write_timeout.is_some()
            || self.max_write_buffer.is_some();
        wanted.then(|| {
            Box::new(Vigil {
                policies: self,
                active: Cell::new(now),
                deaf: Cell::new(false),
                stalled: Cell::new(None),
                timer: Cell::new(None),
            })
        })
    }
}

/// The watch over one connection.
pub(super) struct Vigil {
    policies: Policies,
    /// When bytes last came or went, or reading was found paused.
    active: Cell<Instant>,
    /// Whatever comes is thrown away, so it keeps nothing alive.
    deaf: Cell<bool>,
    /// Since when the system has taken nothing of what waits to be sent.
    stalled: Cell<Option<Instant>>,
    /// When it is looked at next: in time for everything that may be due, and perhaps too early.
    pub(super) timer: Cell<Option<TimerKey>>,
}

impl Vigil {
    #[cfg(feature = "tls")]
    pub(super) fn policies(&self) -> Policies {
        self.policies
    }

    /// Bytes have come, or it would be unfair to expect any.
    pub(super) fn note_active(&self, now: Instant) {
        if !self.deaf.get() {
            self.active.set(now);
        }
    }

    /// From now on only what goes counts.
    pub(super) fn note_deaf(&self) {
        self.deaf.set(true);
    }

    /// Some bytes were offered, and `sent` of them taken.
    pub(super) fn note_sent(&self, now: Instant, sent: usize, all: bool) {
        if sent > 0 {
            self.active.set(now);
            self.stalled.set(None);
        }
        if !all && self.stalled.get().is_none() {
            self.stalled.set(Some(now));
        }
    }

    /// There is room, or nothing waits for it any more.
    pub(super) fn note_room(&self) {
        self.stalled.set(None);
    }

    /// Why the connection has to end, if it has.
    pub(super) fn judge(&self, now: Instant) -> Option<CloseReason> {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_over(self.write_deadline()) {
            return Some(CloseReason::WriteTimeout);
        }
        is_over(self.idle_deadline()).then_some(CloseReason::IdleTimeout)
    }

    /// Whether so many unsent bytes are too many.
    pub(super) fn is_too_much(&self, unsent: usize) -> bool {
        let most = self.policies.max_write_buffer;
        most.is_some_and(|most| unsent > most)
    }

    /// How many unsent bytes are not too many, if there is a limit.
    pub(super) fn most_unsent(&self) -> Option<usize> {
        self.policies.max_write_buffer
    }

    /// When to judge next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.write_deadline(), self.idle_deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn write_deadline(&self) -> Option<Instant> {
        // A time that the clock cannot tell never comes.
        self.stalled
            .get()?
            .checked_add(self.policies.write_timeout?)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        self.active.get().checked_add(self.policies.idle_timeout?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_policies_there_is_nothing_to_watch() {
        assert!(Policies::default().vigil(Instant::now()).is_none());
    }

    #[test]
    fn idle_is_a_connection_on_which_nothing_comes_and_nothing_goes() {
        let start = Instant::now();
        let policies = Policies {
            idle_timeout: Some(3 * SECOND),
            ..Policies::default()
        };
        let vigil = policies.vigil(start).unwrap();
        assert_eq!(vigil.deadline(), Some(start + 3 * SECOND));
        vigil.note_active(start + SECOND);
        assert_eq!(vigil.judge(start + 3 * SECOND), None);
        vigil.note_sent(start + 2 * SECOND, 1, false);
        assert_eq!(vigil.deadline(), Some(start + 5 * SECOND));
        vigil.note_sent(start + 4 * SECOND, 0, false);
        let over = vigil.judge(start + 5 * SECOND);
        assert_eq!(over, Some(CloseReason::IdleTimeout));
    }

    #[test]
    fn what_comes_to_somebody_deaf_is_no_activity_and_what_goes_is() {
        let start = Instant::now();
        let policies = Policies {
            idle_timeout: Some(3 * SECOND),
            ..Policies::default()
        };
        let vigil = policies.vigil(start).unwrap();
        vigil.note_deaf();
        vigil.note_active(start + SECOND);
        assert_eq!(vigil.deadline(), Some(start + 3 * SECOND));
        vigil.note_sent(start + SECOND, 1, true);
        assert_eq!(vigil.deadline(), Some(start + 4 * SECOND));
    }

    #[test]
    fn a_stall_begins_when_the_system_takes_no_more_and_ends_when_it_takes_something() {
        let start = Instant::now();
        let policies = Policies {
            write_timeout: Some(2 * SECOND),
            ..Policies::default()
        };
        let vigil = policies.vigil(start).unwrap();
        assert_eq!(vigil.deadline(), None);
        vigil.note_sent(start, 10, true);
        assert_eq!(vigil.deadline(), None);
        vigil.note_sent(start + SECOND, 0, false);
        vigil.note_sent(start + 2 * SECOND, 0, false);
        assert_eq!(vigil.deadline(), Some(start + 3 * SECOND));
        vigil.note_sent(start + 2 * SECOND, 5, false);
        assert_eq!(vigil.judge(start + 3 * SECOND), None);
        let over = vigil.judge(start + 4 * SECOND);
        assert_eq!(over, Some(CloseReason::WriteTimeout));
        vigil.note_sent(start + 4 * SECOND, 5, true);
        assert_eq!(vigil.deadline(), None);
    }

    #[test]
    fn what_waits_is_bounded_by_the_last_byte() {
        let policies = Policies {
            max_write_buffer: Some(10),
            ..Policies::default()
        };
        let vigil = policies.vigil(Instant::now()).unwrap();
        assert!(!vigil.is_too_much(10));
        assert!(vigil.is_too_much(11));
    }
}
