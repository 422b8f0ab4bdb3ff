//! On which terms a server takes connections.
//!
//! Owns: [`Terms`]. Why: servers of every kind have the same ones, and they are checked in one
//! place. Invariants: by default nothing is demanded. asyncio's counterpart: none.

use std::io;
use std::time::Duration;

use crate::endpoints::limit::ConnectionLimit;
use crate::proxy::Demand;
use crate::sys::invalid_input;
use crate::tls::ServerOptions;
use crate::transports::Policies;

#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// More wait in the kernel. None is no limit.
    pub(crate) max_connections: Option<ConnectionLimit>,
    /// What is demanded of each connection.
    pub(crate) policies: Policies,
    /// Whether it begins with a proxy's header.
    pub(crate) proxy: Option<Demand>,
    /// More handshakes than that are not begun at a time.
    pub(crate) max_handshakes: Option<usize>,
    /// Whether connections are encrypted, and with what.
    pub(crate) tls: ServerOptions,
}

impl Terms {
    /// How many handshakes may be on their way.
    pub(crate) fn max_handshakes(&self) -> usize {
        self.max_handshakes.unwrap_or(DEFAULT_HANDSHAKES)
    }

    /// Refuses those under which nobody could be served.
    pub(crate) fn check(&self) -> io::Result<()> {
        let is_zero = |timeout: Option<Duration>| timeout == Some(Duration::ZERO);
        let wrong = if self.max_connections.as_ref().map(ConnectionLimit::max) == Some(0) {
            "max_connections must be positive"
        } else if is_zero(self.policies.idle_timeout) {
            "idle_timeout must be longer than zero"
        } else if is_zero(self.policies.write_timeout) {
            "write_timeout must be longer than zero"
        } else if is_zero(self.proxy.as_ref().map(Demand::timeout)) {
            "the timeout of proxy_protocol must be longer than zero"
        } else if self.max_handshakes == Some(0) {
            "max_handshakes must be positive"
        } else if self.tls.side()?.is_none() && self.max_handshakes.is_some() {
            "max_handshakes is only meaningful with ssl"
        } else {
            return Ok(());
        };
        Err(invalid_input(wrong))
    }
}

/// Enough for any crowd that is served in a second, and not enough to take all descriptors.
const DEFAULT_HANDSHAKES: usize = 1000;
