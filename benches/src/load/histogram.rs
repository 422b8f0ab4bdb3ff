//! Round-trip times, counted in buckets that are three per cent wide at most.

use std::time::Duration;

use crate::results::Latency;

/// Buckets for each power of two.
const STEPS: u64 = 32;

/// Times in nanoseconds, each in the bucket of its own magnitude.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub fn record(&mut self, time: Duration) {
        let index = bucket(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += 1;
        self.total += 1;
    }

    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.total = 0;
    }

    /// `None` before the first time is recorded.
    pub fn latency(&self) -> Option<Latency> {
        (self.total > 0).then(|| Latency {
            p50: self.microseconds_at(0.5),
            p99: self.microseconds_at(0.99),
            p999: self.microseconds_at(0.999),
        })
    }

    /// The time that this share of all times does not exceed.
    fn microseconds_at(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(index) / 1_000.0;
            }
        }
        0.0
    }
}

fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < STEPS {
        return nanoseconds as usize;
    }
    let shift = nanoseconds.ilog2() - STEPS.ilog2();
    // The highest bits of the time, from STEPS to 2 * STEPS - 1.
    let leading = nanoseconds >> shift;
    (u64::from(shift) * STEPS + leading) as usize
}

/// The middle of a bucket, in nanoseconds.
fn middle(index: usize) -> f64 {
    let index = index as u64;
    if index < 2 * STEPS {
        return index as f64;
    }
    let shift = index / STEPS - 1;
    let leading = index % STEPS + STEPS;
    (leading as f64 + 0.5) * (1_u64 << shift) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_near_its_times() {
        for nanoseconds in (0..100_000).chain([1 << 30, (1 << 40) - 1]) {
            let found = middle(bucket(nanoseconds));
            let off = (found - nanoseconds as f64).abs();
            assert!(off <= nanoseconds as f64 * 0.032, "{nanoseconds} {found}");
        }
    }

    #[test]
    fn shares_are_found() {
        let mut histogram = Histogram::default();
        assert!(histogram.latency().is_none());
        for microseconds in 1..=1_000 {
            histogram.record(Duration::from_micros(microseconds));
        }
        let latency = histogram.latency().unwrap();
        assert!((latency.p50 - 500.0).abs() < 20.0, "{latency:?}");
        assert!((latency.p99 - 990.0).abs() < 35.0, "{latency:?}");
    }
}
