//! How far a TLS connection is.
//!
//! Owns: [`Phase`], a state machine. Why: what may be sent, what is to be done with what comes and
//! what the clock means hangs on this one answer. Invariants: all transitions stand in the table
//! and in the function below it; it is total, and a cell that the table leaves empty changes
//! nothing; each way ends in `Over`. asyncio's counterpart: `SSLProtocolState`.

/// How far a TLS connection is.
///
/// ```text
///               agreed   close     sent      fail      lose
///  Handshaking  Open     Over                Failing   Over
///  Open                  Closing             Failing   Over
///  Closing                         Parting   Over      Over
///  Parting                                   Over      Over
///  Failing                                             Over
///  Over
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of the application's is sent or received. It has a limited time.
    Handshaking,
    /// In use.
    Open,
    /// Everything was written, `close_notify` too, and the system has not taken all of it.
    Closing,
    /// Everything was sent. The peer may have its say, of which nobody hears, for a limited time.
    Parting,
    /// An alert was sent, and may reach the peer before it hears of the end of the connection. It
    /// has a limited time.
    Failing,
    /// The transport below is closing, or closed.
    Over,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The handshake is done.
    Agreed,
    /// The application closes.
    Close,
    /// The system has taken everything.
    Sent,
    /// TLS itself failed.
    Fail,
    /// The transport below is lost, or to be given up.
    Lose,
}

impl Phase {
    /// The phase after this step.
    pub(super) fn next(self, step: Step) -> Self {
        use Step::{Agreed, Close, Fail, Lose, Sent};
        match (self, step) {
            (Self::Handshaking, Agreed) => Self::Open,
            (Self::Open, Close) => Self::Closing,
            (Self::Closing, Sent) => Self::Parting,
            (Self::Handshaking | Self::Open, Fail) => Self::Failing,
            (Self::Handshaking, Close) | (Self::Closing | Self::Parting, Fail) | (_, Lose) => {
                Self::Over
            }
            (Self::Open | Self::Closing | Self::Parting | Self::Failing, Agreed)
            | (Self::Closing | Self::Parting | Self::Failing, Close)
            | (Self::Handshaking | Self::Open | Self::Parting | Self::Failing, Sent)
            | (Self::Failing, Fail)
            | (Self::Over, _) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Phase::{Closing, Failing, Handshaking, Open, Over, Parting};
    use super::Step::{Agreed, Close, Fail, Lose, Sent};

    /// The table above, cell by cell.
    #[test]
    fn the_table_is_what_it_says() {
        let steps = [Agreed, Close, Sent, Fail, Lose];
        let table = [
            (Handshaking, [Open, Over, Handshaking, Failing, Over]),
            (Open, [Open, Closing, Open, Failing, Over]),
            (Closing, [Closing, Closing, Parting, Over, Over]),
            (Parting, [Parting, Parting, Parting, Over, Over]),
            (Failing, [Failing, Failing, Failing, Failing, Over]),
            (Over, [Over; 5]),
        ];
        for (phase, after) in table {
            for (step, expected) in steps.into_iter().zip(after) {
                assert_eq!(phase.next(step), expected, "{phase:?}, {step:?}");
            }
        }
    }
}
