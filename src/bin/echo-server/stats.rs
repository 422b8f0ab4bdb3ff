//! What is counted, and the lines about it.
//!
//! The words in a line are for a person, and their order stays, for a program.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use evloop::{CloseReason, LeftUnsent, LoopHandle, ServerMetrics, Transport};

use crate::lines::Lines;

/// The numbers of one worker, but for those that its servers have. Its thread alone changes them,
/// and others read them meanwhile.
// Two processors never want the same part of the cache.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(crate) struct Tally {
    received: AtomicU64,
    sent: AtomicU64,
    errors: AtomicU64,
    pace: Mutex<Pace>,
}

/// How a loop gets on.
#[derive(Debug, Default)]
struct Pace {
    /// Its longest turn since this was read.
    late: Duration,
    /// When it came here the last time; `None` before it begins and after its end.
    looked: Option<Instant>,
}

impl Tally {
    pub(crate) fn add_error(&self) {
        add(&self.errors, 1);
    }

    /// Notes how late the loop was since the last time. It is to come once in each interval.
    pub(crate) fn look_at(&self, handle: &LoopHandle) {
        let turn = handle.take_metrics().longest_turn;
        let mut pace = self.pace();
        pace.late = pace.late.max(turn);
        pace.looked = Some(Instant::now());
    }

    /// The same, and it does not come again.
    pub(crate) fn look_last_at(&self, handle: &LoopHandle) {
        self.look_at(handle);
        self.pace().looked = None;
    }

    /// All but the lateness is left as it is; that is begun anew. A loop that has not come for
    /// longer than the interval is in a turn that is not over.
    fn add_to(&self, numbers: &mut Numbers, interval: Duration) {
        numbers.received += self.received.load(Relaxed);
        numbers.sent += self.sent.load(Relaxed);
        numbers.errors += self.errors.load(Relaxed);
        let mut pace = self.pace();
        let silent = pace.looked.map_or(Duration::ZERO, |it| it.elapsed());
        let late = std::mem::take(&mut pace.late).max(silent.saturating_sub(interval));
        numbers.late = numbers.late.max(late);
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        // It is whole at each moment.
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread writes, so nothing comes between the two.
fn add(count: &AtomicU64, number: u64) {
    count.store(count.load(Relaxed) + number, Relaxed);
}

/// The bytes of one connection.
#[derive(Debug)]
pub(crate) struct Counted {
    tally: Arc<Tally>,
    received: u64,
    sent: u64,
}

impl Counted {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self {
            tally,
            received: 0,
            sent: 0,
        }
    }

    /// So many bytes came and were written. Sent is what does not wait any more.
    pub(crate) fn echoed(&mut self, bytes: usize, transport: &Transport) {
        self.received += bytes as u64;
        add(&self.tally.received, bytes as u64);
        self.look_at(transport);
    }

    /// Something that waited was sent.
    pub(crate) fn look_at(&mut self, transport: &Transport) {
        let unsent = transport.get_write_buffer_size() as u64;
        self.sent_up_to(self.received.saturating_sub(unsent));
    }

    /// The connection is over: all was sent but for what was left.
    pub(crate) fn closed(&mut self, transport: &Transport) {
        if let Some(left) = transport.get_extra_info(LeftUnsent) {
            self.sent_up_to(self.received.saturating_sub(left as u64));
        }
    }

    /// With TLS more may wait than was written, so it can seem to go back.
    fn sent_up_to(&mut self, sent: u64) {
        add(&self.tally.sent, sent.saturating_sub(self.sent));
        self.sent = self.sent.max(sent);
    }
}

/// The numbers of all workers, now and as they were told the last time.
#[derive(Debug)]
pub(crate) struct Report {
    now: Numbers,
    told: Numbers,
    latest: Duration,
    interval: Duration,
    lines: Lines,
}

impl Report {
    /// There will be a line after each interval.
    pub(crate) fn new(interval: Duration) -> io::Result<Self> {
        Ok(Self {
            now: Numbers::default(),
            told: Numbers::default(),
            latest: Duration::ZERO,
            interval,
            lines: Lines::new()?,
        })
    }

    /// What happened since the last line. If that one is not out yet, the next one has it.
    pub(crate) fn tell_interval(&mut self, tallies: &[Arc<Tally>], servers: &[ServerMetrics]) {
        if self.lines.is_stuck() {
            return;
        }
        self.read(tallies, servers);
        let line = format!("stats: {}", self.now.since(&self.told));
        self.lines.tell(line);
        self.told = self.now.clone();
    }

    /// What happened since the start.
    pub(crate) fn tell_total(&mut self, tallies: &[Arc<Tally>], servers: &[ServerMetrics]) {
        self.read(tallies, servers);
        self.now.late = self.latest;
        let line = format!("stats in all: {}", self.now.since(&Numbers::default()));
        self.lines.tell_last(line);
    }

    fn read(&mut self, tallies: &[Arc<Tally>], servers: &[ServerMetrics]) {
        self.now = Numbers::default();
        for tally in tallies {
            tally.add_to(&mut self.now, self.interval);
        }
        servers.iter().for_each(|it| self.now.add_server(it));
        self.latest = self.latest.max(self.now.late);
    }
}

#[derive(Clone, Debug, Default)]
struct Numbers {
    accepted: u64,
    received: u64,
    sent: u64,
    errors: u64,
    /// By reason, in the order of [`REASONS`], and at the end those with none of them.
    closed: [u64; KINDS],
    late: Duration,
}

impl Numbers {
    fn add_server(&mut self, server: &ServerMetrics) {
        // First, since its thread may go on meanwhile.
        let mut others = server.closed();
        for (sum, (reason, _)) in self.closed.iter_mut().zip(REASONS) {
            let number = server.closed_because(reason);
            *sum += number;
            others = others.saturating_sub(number);
        }
        self.closed[REASONS.len()] += others;
        self.accepted += server.accepted();
    }

    fn since(&self, before: &Self) -> Line {
        Line {
            // Another thread may have gone on while it was read.
            open: self.accepted.saturating_sub(self.closed.iter().sum()),
            during: Self {
                accepted: self.accepted - before.accepted,
                received: self.received - before.received,
                sent: self.sent - before.sent,
                errors: self.errors - before.errors,
                // The last ones, of no reason, were worked out, and may have been too many.
                closed: std::array::from_fn(|kind| {
                    self.closed[kind].saturating_sub(before.closed[kind])
                }),
                late: self.late,
            },
        }
    }
}

/// What happened during a time, and what was open at its end.
struct Line {
    open: u64,
    during: Numbers,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let during = &self.during;
        let closed: u64 = during.closed.iter().sum();
        let mut reasons = String::new();
        let names = REASONS.iter().map(|(_, name)| *name).chain(["other"]);
        for (number, name) in during.closed.iter().zip(names).filter(|(n, _)| **n > 0) {
            let separator = if reasons.is_empty() { " (" } else { ", " };
            write!(reasons, "{separator}{number} {name}")?;
        }
        if !reasons.is_empty() {
            reasons.push(')');
        }
        write!(
            f,
            "{} open, {} accepted, {closed} closed{reasons}, {} bytes in, {} bytes out, {} errors, \
             late by {:.3} ms",
            self.open,
            during.accepted,
            during.received,
            during.sent,
            during.errors,
            during.late.as_secs_f64() * 1000.0,
        )
    }
}

const REASONS: [(CloseReason, &str); 11] = [
    (CloseReason::PeerEof, "by the peer"),
    (CloseReason::Closed, "by us"),
    (CloseReason::Reset, "broken"),
    (CloseReason::IdleTimeout, "idle"),
    (CloseReason::WriteTimeout, "stuck"),
    (CloseReason::WriteBufferFull, "overfull"),
    (CloseReason::Truncated, "truncated"),
    (CloseReason::TlsFailed, "TLS failed"),
    (CloseReason::Aborted, "aborted"),
    (CloseReason::Detached, "detached"),
    (CloseReason::HandlerFailed, "handler failed"),
];
const KINDS: usize = REASONS.len() + 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread may end connections between the looks at its numbers.
    #[test]
    fn those_that_end_for_no_known_reason_may_seem_to_become_fewer() {
        let mut before = Numbers::default();
        before.closed[REASONS.len()] = 2;
        let mut now = Numbers::default();
        now.closed[REASONS.len()] = 1;
        assert_eq!(now.since(&before).during.closed, [0; KINDS]);
    }
}
