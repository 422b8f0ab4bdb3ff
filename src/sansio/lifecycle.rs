//! The states of a stream transport: its life, and each of its two halves.
//!
//! Owns: three small state machines and nothing else; whoever holds a state replaces it by what
//! a method returns. Why: what a transport may do hangs on these three answers, and one enum
//! with a table for each leaves no pair of flags that could contradict. Invariants: all
//! transitions stand in the three functions named `next`; they are total, and a cell that the
//! table leaves empty changes nothing; no state ever leads back towards the beginning, except
//! by pausing and resuming. asyncio's counterpart: `_closing`, `_conn_lost`, `_eof`, `_paused`
//! and the registered interests of the socket transport.

/// How far a transport is on its way from made to lost.
///
/// ```text
///             close, sent   close, unsent   flushed   lose     deliver
///  Open       Ending        Flushing                  Ending
///  Flushing                                 Ending    Ending
///  Ending                                                      Gone
///  Gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// In use.
    Open,
    /// `close()` was called, and bytes are still unsent.
    Flushing,
    /// `connection_lost` is queued.
    Ending,
    /// `connection_lost` was delivered.
    Gone,
}

impl Life {
    /// `close()` was called, with or without unsent bytes.
    pub(crate) fn close(self, unsent: bool) -> Self {
        self.next(LifeEvent::Close { unsent })
    }

    /// No byte is unsent any more.
    pub(crate) fn flushed(self) -> Self {
        self.next(LifeEvent::Flushed)
    }

    /// The connection broke, or `abort()` was called.
    pub(crate) fn lose(self) -> Self {
        self.next(LifeEvent::Lose)
    }

    /// `connection_lost` is delivered now.
    pub(crate) fn deliver(self) -> Self {
        self.next(LifeEvent::Deliver)
    }

    /// What asyncio's `is_closing()` says.
    pub(crate) fn is_closing(self) -> bool {
        self != Self::Open
    }

    /// Whether writes are in vain and events are to be ignored.
    pub(crate) fn is_lost(self) -> bool {
        matches!(self, Self::Ending | Self::Gone)
    }

    fn next(self, event: LifeEvent) -> Self {
        use LifeEvent::{Close, Deliver, Flushed, Lose};
        match (self, event) {
            (Self::Open, Close { unsent: true }) => Self::Flushing,
            (Self::Open, Close { unsent: false } | Lose) => Self::Ending,
            (Self::Flushing, Flushed | Lose) => Self::Ending,
            (Self::Ending, Deliver) => Self::Gone,
            (Self::Open, Flushed | Deliver)
            | (Self::Flushing, Close { .. } | Deliver)
            | (Self::Ending, Close { .. } | Flushed | Lose)
            | (Self::Gone, _) => self,
        }
    }
}

/// Whether bytes are read for the protocol.
///
/// ```text
///                   begin     pause           resume         end
///  Waiting          Flowing   WaitingPaused                  Ended
///  WaitingPaused    Paused                    Waiting        Ended, paused
///  Flowing                    Paused                         Ended
///  Paused                                     Flowing        Ended, paused
///  Ended                      Ended, paused
///  Ended, paused                              Ended
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadSide {
    /// `connection_made` is not delivered yet: nothing is read.
    Waiting,
    /// The same, and the user paused already, inside `connection_made` or before it.
    WaitingPaused,
    /// Bytes are read as they come.
    Flowing,
    /// The user paused: bytes stay where they are.
    Paused,
    /// The end was seen. Nothing is read again, since an end is delivered once; pausing and
    /// resuming change only what `is_reading()` says.
    Ended { paused: bool },
}

impl ReadSide {
    /// `connection_made` has returned.
    pub(crate) fn begin(self) -> Self {
        self.next(ReadEvent::Begin)
    }

    /// `pause_reading()` was called.
    pub(crate) fn pause(self) -> Self {
        self.next(ReadEvent::Pause)
    }

    /// `resume_reading()` was called.
    pub(crate) fn resume(self) -> Self {
        self.next(ReadEvent::Resume)
    }

    /// The peer sends no more.
    pub(crate) fn end(self) -> Self {
        self.next(ReadEvent::End)
    }

    /// Whether to read at all.
    pub(crate) fn wants_bytes(self) -> bool {
        self == Self::Flowing
    }

    /// Whether the user paused, and has not resumed since.
    pub(crate) fn is_paused(self) -> bool {
        matches!(
            self,
            Self::WaitingPaused | Self::Paused | Self::Ended { paused: true }
        )
    }

    fn next(self, event: ReadEvent) -> Self {
        use ReadEvent::{Begin, End, Pause, Resume};
        match (self, event) {
            (Self::Waiting, Begin) => Self::Flowing,
            (Self::Waiting, Pause) => Self::WaitingPaused,
            (Self::WaitingPaused, Begin) => Self::Paused,
            (Self::WaitingPaused, Resume) => Self::Waiting,
            (Self::Flowing, Pause) => Self::Paused,
            (Self::Paused, Resume) => Self::Flowing,
            (Self::Waiting | Self::Flowing, End) => Self::Ended { paused: false },
            (Self::WaitingPaused | Self::Paused, End) => Self::Ended { paused: true },
            (Self::Ended { .. }, Pause) => Self::Ended { paused: true },
            (Self::Ended { .. }, Resume) => Self::Ended { paused: false },
            (Self::Waiting, Resume)
            | (Self::WaitingPaused, Pause)
            | (Self::Flowing, Begin | Resume)
            | (Self::Paused, Begin | Pause)
            | (Self::Ended { .. }, Begin | End) => self,
        }
    }
}

/// Whether more bytes may be written.
///
/// ```text
///             finish, sent   finish, unsent   sent_all   lend   give_back
///  Open       Finished       Finishing                   Lent
///  Lent                                                         Open
///  Finishing                                  Finished
///  Finished
/// ```
///
/// Whoever sees the step to `Finished` ends the socket's sending direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteSide {
    /// In use.
    Open,
    /// A file is being sent, and nobody else may write meanwhile.
    Lent,
    /// `write_eof()` was called, and bytes are still unsent.
    Finishing,
    /// `write_eof()` was called, and everything is sent.
    Finished,
}

impl WriteSide {
    /// `write_eof()` was called, with or without unsent bytes.
    pub(crate) fn finish(self, unsent: bool) -> Self {
        self.next(WriteEvent::Finish { unsent })
    }

    /// No byte is unsent any more.
    pub(crate) fn sent_all(self) -> Self {
        self.next(WriteEvent::SentAll)
    }

    /// The sending of a file begins.
    pub(crate) fn lend(self) -> Self {
        self.next(WriteEvent::Lend)
    }

    /// The sending of a file is over.
    pub(crate) fn give_back(self) -> Self {
        self.next(WriteEvent::GiveBack)
    }

    /// Whether `write_eof()` was called.
    pub(crate) fn eof_asked(self) -> bool {
        matches!(self, Self::Finishing | Self::Finished)
    }

    fn next(self, event: WriteEvent) -> Self {
        use WriteEvent::{Finish, GiveBack, Lend, SentAll};
        match (self, event) {
            (Self::Open, Finish { unsent: true }) => Self::Finishing,
            (Self::Open, Finish { unsent: false }) | (Self::Finishing, SentAll) => Self::Finished,
            (Self::Open, Lend) => Self::Lent,
            (Self::Lent, GiveBack) => Self::Open,
            (Self::Open, SentAll | GiveBack)
            | (Self::Lent, Finish { .. } | SentAll | Lend)
            | (Self::Finishing, Finish { .. } | Lend | GiveBack)
            | (Self::Finished, _) => self,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum LifeEvent {
    Close { unsent: bool },
    Flushed,
    Lose,
    Deliver,
}

#[derive(Debug, Clone, Copy)]
enum ReadEvent {
    Begin,
    Pause,
    Resume,
    End,
}

#[derive(Debug, Clone, Copy)]
enum WriteEvent {
    Finish { unsent: bool },
    SentAll,
    Lend,
    GiveBack,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks a table: for each row its state, and the state after each of the events. Every
    /// cell is written out, so one that is forbidden shows its own row's state.
    #[track_caller]
    fn walk<S: Copy + PartialEq + std::fmt::Debug, const EVENTS: usize>(
        events: [fn(S) -> S; EVENTS],
        rows: &[(S, [S; EVENTS])],
    ) {
        for (before, expected) in rows {
            let after = events.map(|event| event(*before));
            assert_eq!(after, *expected, "from {before:?}");
        }
    }

    #[test]
    fn every_cell_of_life() {
        use Life::{Ending, Flushing, Gone, Open};
        walk(
            [
                |life: Life| life.close(false),
                |life: Life| life.close(true),
                Life::flushed,
                Life::lose,
                Life::deliver,
            ],
            &[
                (Open, [Ending, Flushing, Open, Ending, Open]),
                (Flushing, [Flushing, Flushing, Ending, Ending, Flushing]),
                (Ending, [Ending, Ending, Ending, Ending, Gone]),
                (Gone, [Gone, Gone, Gone, Gone, Gone]),
            ],
        );
        let answers =
            [Open, Flushing, Ending, Gone].map(|life| (life.is_closing(), life.is_lost()));
        let expected = [(false, false), (true, false), (true, true), (true, true)];
        assert_eq!(answers, expected);
    }

    #[test]
    fn every_cell_of_the_read_side() {
        use ReadSide::{Ended, Flowing, Paused, Waiting, WaitingPaused};
        const ENDED: ReadSide = Ended { paused: false };
        const ENDED_PAUSED: ReadSide = Ended { paused: true };
        walk(
            [
                ReadSide::begin,
                ReadSide::pause,
                ReadSide::resume,
                ReadSide::end,
            ],
            &[
                (Waiting, [Flowing, WaitingPaused, Waiting, ENDED]),
                (
                    WaitingPaused,
                    [Paused, WaitingPaused, Waiting, ENDED_PAUSED],
                ),
                (Flowing, [Flowing, Paused, Flowing, ENDED]),
                (Paused, [Paused, Paused, Flowing, ENDED_PAUSED]),
                (ENDED, [ENDED, ENDED_PAUSED, ENDED, ENDED]),
                (
                    ENDED_PAUSED,
                    [ENDED_PAUSED, ENDED_PAUSED, ENDED, ENDED_PAUSED],
                ),
            ],
        );
        let answers = [Waiting, WaitingPaused, Flowing, Paused, ENDED, ENDED_PAUSED]
            .map(|side| (side.wants_bytes(), side.is_paused()));
        let expected = [
            (false, false),
            (false, true),
            (true, false),
            (false, true),
            (false, false),
            (false, true),
        ];
        assert_eq!(answers, expected);
    }

    #[test]
    fn every_cell_of_the_write_side() {
        use WriteSide::{Finished, Finishing, Lent, Open};
        walk(
            [
                |side: WriteSide| side.finish(false),
                |side: WriteSide| side.finish(true),
                WriteSide::sent_all,
                WriteSide::lend,
                WriteSide::give_back,
            ],
            &[
                (Open, [Finished, Finishing, Open, Lent, Open]),
                (Lent, [Lent, Lent, Lent, Lent, Open]),
                (
                    Finishing,
                    [Finishing, Finishing, Finished, Finishing, Finishing],
                ),
                (Finished, [Finished, Finished, Finished, Finished, Finished]),
            ],
        );
        let answers = [Open, Lent, Finishing, Finished].map(WriteSide::eof_asked);
        assert_eq!(answers, [false, false, true, true]);
    }
}
