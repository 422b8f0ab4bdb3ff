//! The states of a stream transport: its life, and each of its two halves.
//!
//! Owns: three state machines, each an enum and the table that it follows; whoever holds a state
//! replaces it by what a method returns. Why: what a transport may do hangs on these three answers,
//! and one enum for each leaves no pair of flags that could contradict. Invariants: a state changes as
//! its table says and in no other way; nothing leads back towards the beginning, but for pausing and
//! resuming, for a loan that ends, and for another protocol that begins. `docs/states.md` shows the
//! tables. asyncio's counterpart: `_closing`, `_conn_lost`, `_eof`, `_paused` and the registered
//! interests of the socket transport.

use crate::sansio::table::Next::{Never, Stays, To};
use crate::sansio::table::Table;

/// How far a transport is on its way from made to lost. The table below says what each state means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Open,
    Flushing,
    Ending,
    Gone,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum LifeEvent {
    Close,
    CloseUnsent,
    Flushed,
    Lose,
    Deliver,
}

#[rustfmt::skip]
pub(crate) static LIFE: Table<Life, LifeEvent, 4, 5> = {
    use Life::{Ending, Flushing, Gone, Open};
    use LifeEvent::{Close, CloseUnsent, Deliver, Flushed, Lose};
    Table {
        name: "Life",
        about: "How far a transport is on its way from made to lost.",
        events: [
            (Close, "`close()` was called, and nothing has to be waited for."),
            (CloseUnsent, "`close()` was called, and bytes are unsent."),
            (Flushed, "No byte is unsent any more."),
            (Lose, "The connection broke, or `abort()` was called."),
            (Deliver, "`connection_lost` is delivered now."),
        ],
        states: [
            //         Close       CloseUnsent   Flushed     Lose        Deliver
            (Open,     [To(Ending), To(Flushing), Stays,      To(Ending), Never],
                "In use."),
            (Flushing, [Stays,      Stays,        To(Ending), To(Ending), Never],
                "`close()` was called, and bytes are still unsent. Nothing is read any more."),
            (Ending,   [Stays,      Stays,        Stays,      Stays,      To(Gone)],
                "`connection_lost` is queued. Writes are in vain, and events are ignored."),
            (Gone,     [Stays,      Stays,        Never,      Stays,      Never],
                "`connection_lost` was delivered: the transport is a husk."),
        ],
    }
};

impl Life {
    /// `close()` was called, with or without unsent bytes.
    pub(crate) fn close(self, unsent: bool) -> Self {
        self.next(if unsent {
            LifeEvent::CloseUnsent
        } else {
            LifeEvent::Close
        })
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
        LIFE.next(self as usize, event as usize)
    }
}

/// Whether bytes are read for the protocol. The table below says what each state means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadSide {
    Waiting,
    WaitingPaused,
    Flowing,
    Paused,
    Ended,
    EndedPaused,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ReadEvent {
    Begin,
    Pause,
    Resume,
    End,
    HandOn,
}

#[rustfmt::skip]
pub(crate) static READ_SIDE: Table<ReadSide, ReadEvent, 6, 5> = {
    use ReadEvent::{Begin, End, HandOn, Pause, Resume};
    use ReadSide::{Ended, EndedPaused, Flowing, Paused, Waiting, WaitingPaused};
    Table {
        name: "ReadSide",
        about: "Whether bytes are read for the protocol.",
        events: [
            (Begin, "`connection_made` has returned; in use it has been when TLS is put on it."),
            (Pause, "`pause_reading()` was called."),
            (Resume, "`resume_reading()` was called."),
            (End, "The peer sends no more."),
            (HandOn, "The header of a proxy was read, and the server's protocol is to begin."),
        ],
        states: [
            //              Begin        Pause              Resume       End              HandOn
            (Waiting,       [To(Flowing), To(WaitingPaused), Stays,       Never,           Never],
                "`connection_made` is not delivered yet: nothing is read."),
            (WaitingPaused, [To(Paused),  Stays,             To(Waiting), Never,           Never],
                "The same, and the user paused already, inside `connection_made` or before it."),
            (Flowing,       [Stays,       To(Paused),        Stays,       To(Ended),       To(Waiting)],
                "Bytes are read as they come."),
            (Paused,        [Stays,       Stays,             To(Flowing), To(EndedPaused), Never],
                "The user paused: bytes stay where they are. An end can still come of a receive \
                 in which the user paused."),
            (Ended,         [Stays,       To(EndedPaused),   Stays,       Never,           Never],
                "The end was seen. Nothing is read again, since an end is delivered once; pausing \
                 and resuming change only what `is_reading()` says."),
            (EndedPaused,   [Stays,       Stays,             To(Ended),   Never,           Never],
                "The same, paused."),
        ],
    }
};

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

    /// Another protocol is to begin.
    pub(crate) fn hand_on(self) -> Self {
        self.next(ReadEvent::HandOn)
    }

    /// Whether to read at all.
    pub(crate) fn wants_bytes(self) -> bool {
        self == Self::Flowing
    }

    /// Whether the user paused, and has not resumed since.
    pub(crate) fn is_paused(self) -> bool {
        matches!(self, Self::WaitingPaused | Self::Paused | Self::EndedPaused)
    }

    /// Whether the end was seen.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self, Self::Ended | Self::EndedPaused)
    }

    fn next(self, event: ReadEvent) -> Self {
        READ_SIDE.next(self as usize, event as usize)
    }
}

/// Whether more bytes may be written. The table below says what each state means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteSide {
    Open,
    Lent,
    Finishing,
    Finished,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum WriteEvent {
    Finish,
    FinishUnsent,
    SentAll,
    Lend,
    GiveBack,
}

#[rustfmt::skip]
pub(crate) static WRITE_SIDE: Table<WriteSide, WriteEvent, 4, 5> = {
    use WriteEvent::{Finish, FinishUnsent, GiveBack, Lend, SentAll};
    use WriteSide::{Finished, Finishing, Lent, Open};
    Table {
        name: "WriteSide",
        about: "Whether more bytes may be written. Whoever sees the step to `Finished` ends the \
                socket's sending direction.",
        events: [
            (Finish, "`write_eof()` was called, and nothing is unsent."),
            (FinishUnsent, "`write_eof()` was called, and bytes are unsent."),
            (SentAll, "No byte is unsent any more."),
            (Lend, "The sending of a file begins."),
            (GiveBack, "The sending of a file is over, or the connection closes."),
        ],
        states: [
            //          Finish        FinishUnsent   SentAll       Lend      GiveBack
            (Open,      [To(Finished), To(Finishing), Stays,        To(Lent), Stays],
                "In use."),
            (Lent,      [Never,        Never,         Stays,        Never,    To(Open)],
                "A file is being sent, and nobody else may write meanwhile."),
            (Finishing, [Never,        Never,         To(Finished), Never,    Never],
                "`write_eof()` was called, and bytes are still unsent."),
            (Finished,  [Never,        Never,         Stays,        Never,    Never],
                "`write_eof()` was called, and everything is sent."),
        ],
    }
};

impl WriteSide {
    /// `write_eof()` was called, with or without unsent bytes.
    pub(crate) fn finish(self, unsent: bool) -> Self {
        self.next(if unsent {
            WriteEvent::FinishUnsent
        } else {
            WriteEvent::Finish
        })
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
        WRITE_SIDE.next(self as usize, event as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_life() {
        use Life::{Ending, Flushing, Gone, Open};
        let answers =
            [Open, Flushing, Ending, Gone].map(|life| (life.is_closing(), life.is_lost()));
        let expected = [(false, false), (true, false), (true, true), (true, true)];
        assert_eq!(answers, expected);
    }

    #[test]
    fn what_is_asked_of_a_read_side() {
        let sides = READ_SIDE.states.map(|(side, ..)| side);
        let those = |is: fn(ReadSide) -> bool| sides.map(|side| u8::from(is(side)));
        assert_eq!(those(ReadSide::wants_bytes), [0, 0, 1, 0, 0, 0]);
        assert_eq!(those(ReadSide::is_paused), [0, 1, 0, 1, 0, 1]);
        assert_eq!(those(ReadSide::has_ended), [0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn what_is_asked_of_a_write_side() {
        use WriteSide::{Finished, Finishing, Lent, Open};
        let answers = [Open, Lent, Finishing, Finished].map(WriteSide::eof_asked);
        assert_eq!(answers, [false, false, true, true]);
    }
}
