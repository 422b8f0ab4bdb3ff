//! The states of a server.
//!
//! Owns: [`ServerLife`] and its table. Why: whether somebody may connect is asked by whoever closes,
//! awaits or looks at a server, and has one answer. Invariants: never back. asyncio's counterpart:
//! `_serving`, and `_sockets` being `None`, of `base_events.Server`.

use crate::sansio::table::Next::{Never, Stays, To};
use crate::sansio::table::Table;

/// Whether a server accepts. The table below says what each state means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerLife {
    Bound,
    Serving,
    Closed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerEvent {
    Listen,
    Close,
}

#[rustfmt::skip]
pub(crate) static SERVER_LIFE: Table<ServerLife, ServerEvent, 3, 2> = {
    use ServerEvent::{Close, Listen};
    use ServerLife::{Bound, Closed, Serving};
    Table {
        name: "ServerLife",
        about: "Whether a server accepts.",
        events: [
            (Listen, "All of its sockets listen."),
            (Close, "`close()` was called, a socket refused to listen, or nobody holds the server."),
        ],
        states: [
            //        Listen       Close
            (Bound,   [To(Serving), To(Closed)], "It has its addresses, and nobody can connect."),
            (Serving, [Never,       To(Closed)], "Connections are accepted."),
            (Closed,  [Never,       Stays],      "The addresses are given back. Connections go on."),
        ],
    }
};

impl ServerLife {
    /// All of its sockets listen.
    pub(crate) fn listen(self) -> Self {
        self.next(ServerEvent::Listen)
    }

    /// It is over.
    pub(crate) fn close(self) -> Self {
        self.next(ServerEvent::Close)
    }

    fn next(self, event: ServerEvent) -> Self {
        SERVER_LIFE.next(self as usize, event as usize)
    }
}
