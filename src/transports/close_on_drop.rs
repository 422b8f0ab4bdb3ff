//! Whoever gives up while a connection is on its way.
//!
//! Owns: [`CloseOnDrop`]. Why: a future that is dropped has no transport to close, and nobody else
//! has it yet. Invariants: dropped, it closes; disarmed, it does nothing. asyncio's counterpart:
//! the `except: transport.close(); raise` around the wait for a new connection.

use crate::transports::contract::Transport;

/// Closes the transport, unless it is disarmed.
pub(crate) struct CloseOnDrop<'a>(Option<&'a Transport>);

impl<'a> CloseOnDrop<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self(Some(transport))
    }

    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(transport) = self.0 {
            transport.close();
        }
    }
}
