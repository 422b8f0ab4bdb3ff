//! Flow control of the write side: sizes in, pause and resume out.
//!
//! Owns: the two marks. Why: they are compared in one place, so that a pause and its resume always
//! alternate, whoever asks; what was said last, the asker knows. Invariants: `low <= high`; a pause
//! is said only above the high mark and a resume only at or below the low one, so the two together
//! never swing on one byte unless the marks are equal. asyncio's counterpart: `_FlowControlMixin`
//! of `transports.py`.

use std::error::Error;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaterMarks {
    low: usize,
    high: usize,
}

/// What the protocol must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Pause,
    Resume,
}

/// The low mark would be above the high one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitsError {
    pub(crate) high: usize,
    pub(crate) low: usize,
}

impl WaterMarks {
    /// Sets both marks; one that is `None` follows from the other, or from the default. What that
    /// means for the protocol, [`reevaluate`](Self::reevaluate) says; marks that are refused change
    /// nothing.
    pub(crate) fn set_limits(
        &mut self,
        high: Option<usize>,
        low: Option<usize>,
    ) -> Result<(), LimitsError> {
        let high = match (high, low) {
            (Some(high), _) => high,
            (None, Some(low)) => low.saturating_mul(LOW_TO_HIGH),
            (None, None) => DEFAULT_HIGH,
        };
        let low = low.unwrap_or(high / LOW_TO_HIGH);
        if low > high {
            return Err(LimitsError { high, low });
        }
        self.low = low;
        self.high = high;
        Ok(())
    }

    /// `(low, high)`, in asyncio's order.
    pub(crate) fn limits(&self) -> (usize, usize) {
        (self.low, self.high)
    }

    pub(crate) fn high(&self) -> usize {
        self.high
    }

    /// `size` bytes stayed behind a send.
    pub(crate) fn filled(self, paused: bool, size: usize) -> Option<Flow> {
        (!paused && size > self.high).then_some(Flow::Pause)
    }

    /// A send went through and left `size` bytes.
    pub(crate) fn drained(self, paused: bool, size: usize) -> Option<Flow> {
        (paused && size <= self.low).then_some(Flow::Resume)
    }

    /// The marks have moved while `size` bytes were waiting.
    pub(crate) fn reevaluate(self, paused: bool, size: usize) -> Option<Flow> {
        // At most one of the two applies: no size is above the high mark and at the low one.
        let flow = self.filled(paused, size);
        flow.or_else(|| self.drained(paused, size))
    }
}

impl Default for WaterMarks {
    fn default() -> Self {
        Self {
            low: DEFAULT_HIGH / LOW_TO_HIGH,
            high: DEFAULT_HIGH,
        }
    }
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "high ({}) must be >= low ({})", self.high, self.low)
    }
}

impl Error for LimitsError {}

const DEFAULT_HIGH: usize = 64 * 1024;

/// How many times the high mark is the low one, when only one of them is given.
const LOW_TO_HIGH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(low: usize, high: usize) -> WaterMarks {
        let mut marks = WaterMarks::default();
        marks.set_limits(Some(high), Some(low)).unwrap();
        marks
    }

    #[test]
    fn the_defaults_are_64_and_16_kib() {
        let mut marks = WaterMarks::default();
        assert_eq!(marks.limits(), (16 * 1024, 64 * 1024));
        assert_eq!(marks.high(), 64 * 1024);
        marks.set_limits(None, None).unwrap();
        assert_eq!(marks, WaterMarks::default());
    }

    #[test]
    fn one_mark_follows_from_the_other() {
        let cases = [
            (Some(100), None, (25, 100)),
            (Some(3), None, (0, 3)),
            (Some(0), None, (0, 0)),
            (None, Some(100), (100, 400)),
            (None, Some(0), (0, 0)),
            (None, Some(usize::MAX), (usize::MAX, usize::MAX)),
            (Some(7), Some(7), (7, 7)),
            (Some(7), Some(0), (0, 7)),
        ];
        for (high, low, expected) in cases {
            let mut marks = WaterMarks::default();
            marks.set_limits(high, low).unwrap();
            assert_eq!(marks.limits(), expected, "{high:?}, {low:?}");
        }
    }

    #[test]
    fn a_low_mark_above_the_high_one_is_refused_and_changes_nothing() {
        let mut marks = marks(1, 2);
        let error = marks.set_limits(Some(5), Some(6)).unwrap_err();
        assert_eq!(error, LimitsError { high: 5, low: 6 });
        assert_eq!(error.to_string(), "high (5) must be >= low (6)");
        assert_eq!(marks.limits(), (1, 2));
    }

    #[test]
    fn every_cell_of_size_against_state() {
        // size, and the answers of filled, drained and reevaluate: first while flowing, then
        // while paused.
        let cases = [
            (
                0,
                [None, None, None],
                [None, Some(Flow::Resume), Some(Flow::Resume)],
            ),
            (
                10,
                [None, None, None],
                [None, Some(Flow::Resume), Some(Flow::Resume)],
            ),
            (11, [None, None, None], [None, None, None]),
            (40, [None, None, None], [None, None, None]),
            (
                41,
                [Some(Flow::Pause), None, Some(Flow::Pause)],
                [None, None, None],
            ),
        ];
        let events = [
            WaterMarks::filled,
            WaterMarks::drained,
            WaterMarks::reevaluate,
        ];
        let marks = marks(10, 40);
        for (size, when_flowing, when_paused) in cases {
            for (paused, expected) in [(false, when_flowing), (true, when_paused)] {
                for (event, expected) in events.iter().zip(expected) {
                    assert_eq!(event(marks, paused, size), expected, "{paused}, {size}");
                }
            }
        }
    }

    #[test]
    fn with_a_high_mark_of_zero_anything_pauses_and_only_nothing_resumes() {
        let marks = marks(0, 0);
        assert_eq!(marks.filled(false, 0), None);
        assert_eq!(marks.filled(false, 1), Some(Flow::Pause));
        assert_eq!(marks.drained(true, 1), None);
        assert_eq!(marks.drained(true, 0), Some(Flow::Resume));
    }

    #[test]
    fn moved_marks_speak_when_they_are_reevaluated() {
        let mut marks = marks(10, 40);
        marks.set_limits(Some(20), None).unwrap();
        assert_eq!(marks.reevaluate(false, 30), Some(Flow::Pause));
        assert_eq!(marks.reevaluate(true, 30), None);
        marks.set_limits(Some(200), None).unwrap();
        assert_eq!(marks.reevaluate(true, 30), Some(Flow::Resume));
        assert_eq!(marks.reevaluate(false, 30), None);
    }
}
