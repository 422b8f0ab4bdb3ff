//! The sockets of simulated hosts.
//!
//! Owns: [`Socket`] and [`Listening`], and what an event says about the former. Why: everything that
//! a system keeps for a socket stands on one page. Invariants: bytes come before the error or the
//! end that follows them; an error is told once. asyncio's counterpart: none.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::sys::{Address, Readiness, SourceId};
use crate::testing::ids::{HostId, SocketId};

/// One end of a connection.
pub(super) struct Socket {
    pub(super) host: HostId,
    /// Who hears of it; nobody while it waits to be accepted.
    pub(super) source: Option<SourceId>,
    pub(super) local: Address,
    pub(super) remote: Address,
    pub(super) peer: Option<SocketId>,
    /// The host of the other end.
    pub(super) far: HostId,
    pub(super) life: Life,
    // Receiving.
    pub(super) received: VecDeque<u8>,
    /// The other end sends no more.
    pub(super) ended: bool,
    /// Nobody has ended it, and nobody has seen it yet.
    pub(super) ended_early: bool,
    /// Not told yet.
    pub(super) error: Option<i32>,
    // Sending.
    pub(super) room: usize,
    /// A write has found no room.
    pub(super) blocked: bool,
    /// We send no more.
    pub(super) finished: bool,
    /// When the last packet from here arrives.
    pub(super) last_arrival: Duration,
    /// How many of its packets nobody will hear of, or not soon.
    pub(super) unheard: u64,
    /// Since when it has waited for an answer to what it sent, or asked, and nobody hears.
    pub(super) waits_since: Option<Duration>,
    /// What is sent from here or to here is lost.
    pub(super) silent: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Connecting,
    Open,
    /// Reset, or given up.
    Broken,
    /// Its owner has closed it; what comes is answered with a reset.
    Closed,
}

impl Socket {
    pub(super) fn new(
        host: HostId,
        source: Option<SourceId>,
        local: Address,
        remote: Address,
    ) -> Self {
        Self {
            host,
            source,
            local,
            remote,
            peer: None,
            far: host,
            life: Life::Connecting,
            received: VecDeque::new(),
            ended: false,
            ended_early: false,
            error: None,
            room: 0,
            blocked: false,
            finished: false,
            last_arrival: Duration::ZERO,
            unheard: 0,
            waits_since: None,
            silent: false,
        }
    }

    /// What an event says of it now, as a system's poller would.
    pub(super) fn readiness(&self) -> Readiness {
        if self.life == Life::Connecting {
            return Readiness::default();
        }
        let broken = self.life == Life::Broken;
        let over = self.ended || broken;
        Readiness::READ.when(over || !self.received.is_empty())
            | Readiness::WRITE.when(broken || self.room > 0)
            | Readiness::BEYOND.when(over)
            | Readiness::ERROR.when(self.error.is_some())
    }

    /// The error that waits to be told, once.
    pub(super) fn take_error(&mut self) -> io::Result<()> {
        match self.error.take() {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Ok(()),
        }
    }

    pub(super) fn is_unix(&self) -> bool {
        self.remote.as_unix().is_some()
    }
}

/// Where connections are taken.
pub(super) struct Listening {
    pub(super) host: HostId,
    pub(super) source: SourceId,
    pub(super) address: Address,
    pub(super) backlog: usize,
    pub(super) listens: bool,
    pub(super) reuse_address: bool,
    pub(super) reuse_port: bool,
    pub(super) cleanup: bool,
    /// Connections that wait to be taken.
    pub(super) queue: VecDeque<SocketId>,
}
