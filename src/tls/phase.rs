//! How far a TLS connection is.
//!
//! Owns: [`Phase`], a state machine, and the table that it follows. Why: what may be sent, what is to
//! be done with what comes and what the clock means hangs on this one answer. Invariants: a phase
//! changes as the table says and in no other way; each way ends in `Over`. `docs/states.md` shows the
//! table. asyncio's counterpart: `SSLProtocolState`.

use crate::sansio::table::Next::{Never, Stays, To};
use crate::sansio::table::{StateMachine, Table};

/// How far a TLS connection is. The table below says what each phase means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Handshaking,
    Open,
    Closing,
    Parting,
    Failing,
    Over,
}

/// What happens to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Agreed,
    Close,
    Sent,
    Fail,
    Lose,
}

#[rustfmt::skip]
static PHASE: Table<Phase, Step, 6, 5> = {
    use Phase::{Closing, Failing, Handshaking, Open, Over, Parting};
    use Step::{Agreed, Close, Fail, Lose, Sent};
    Table {
        name: "Phase",
        about: "How far a TLS connection is.",
        events: [
            (Agreed, "The handshake is done."),
            (Close, "The application closes."),
            (Sent, "The system has taken everything."),
            (Fail, "TLS itself failed."),
            (Lose, "The transport below is lost, or to be given up."),
        ],
        states: [
            //            Agreed    Close        Sent         Fail         Lose
            (Handshaking, [To(Open), To(Over),    Never,       To(Failing), To(Over)],
                "Nothing of the application's is sent or received. It has a limited time."),
            (Open,        [Never,    To(Closing), Never,       To(Failing), To(Over)],
                "In use."),
            (Closing,     [Never,    Never,       To(Parting), To(Over),    To(Over)],
                "Everything was written, `close_notify` too, and the system has not taken all of it."),
            (Parting,     [Never,    Never,       Never,       To(Over),    To(Over)],
                "Everything was sent. The peer may have its say, of which nobody hears, for a \
                 limited time."),
            (Failing,     [Never,    Never,       Never,       Stays,       To(Over)],
                "An alert was sent, and may reach the peer before it hears of the end of the \
                 connection. It has a limited time."),
            // A verifier of the user's may have closed the connection whose handshake it was.
            (Over,        [Stays,    Never,       Never,       Stays,       Stays],
                "The transport below is closing, or closed."),
        ],
    }
};

impl Phase {
    /// The phase after this step.
    pub(super) fn next(self, step: Step) -> Self {
        PHASE.next(self as usize, step as usize)
    }
}

/// The table, for whoever draws it or tests by it.
pub(crate) fn machine() -> Option<StateMachine> {
    Some(PHASE.machine())
}
