//! On which terms a server takes connections.
//!
//! Owns: [`Terms`]. Why: servers of every kind have the same ones, and they are checked in one
//! place. Invariants: by default nothing is demanded. asyncio's counterpart: none.

use std::io;
use std::time::Duration;

use crate::sys::invalid_input;
use crate::transports::Policies;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// More wait in the kernel.
    pub(crate) max_connections: usize,
    /// What is demanded of each connection.
    pub(crate) policies: Policies,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            max_connections: usize::MAX,
            policies: Policies::default(),
        }
    }
}

impl Terms {
    /// Refuses those under which nobody could be served.
    pub(crate) fn check(&self) -> io::Result<()> {
        let is_zero = |timeout: Option<Duration>| timeout == Some(Duration::ZERO);
        let wrong = if self.max_connections == 0 {
            "max_connections must be positive"
        } else if is_zero(self.policies.idle_timeout) {
            "idle_timeout must be longer than zero"
        } else if is_zero(self.policies.write_timeout) {
            "write_timeout must be longer than zero"
        } else {
            return Ok(());
        };
        Err(invalid_input(wrong))
    }
}
