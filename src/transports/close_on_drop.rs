//! Whoever gives up while a connection is on its way.
//!
//! Owns: [`CloseOnDrop`]. Why: a future that is dropped has no transport to close, and nobody else
//! has it yet. Invariants: dropped, it ends the connection; disarmed, it does nothing. asyncio's
//! counterpart: the `except: transport.close(); raise` around the wait for a new connection.

use crate::transports::contract::Transport;

/// Ends the connection, unless it is disarmed.
pub(crate) struct CloseOnDrop<'a> {
    transport: Option<&'a Transport>,
    end: fn(&Transport),
}

impl<'a> CloseOnDrop<'a> {
    /// By closing it.
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self {
            transport: Some(transport),
            end: Transport::close,
        }
    }

    /// At once: where a close might wait for somebody who takes nothing.
    #[cfg(feature = "tls")]
    pub(crate) fn aborting(transport: &'a Transport) -> Self {
        Self {
            transport: Some(transport),
            end: Transport::abort,
        }
    }

    pub(crate) fn disarm(mut self) {
        self.transport = None;
    }
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(transport) = self.transport {
            (self.end)(transport);
        }
    }
}
