//! What every connection that is to be made has in common, wherever it goes.
//!
//! Owns: [`Joining`]. Why: builders of connections, on TCP or on unix sockets, differ in how a socket
//! comes about, and in nothing before and after that. Invariants: the protocol is made after the
//! socket is connected. asyncio's counterpart: the arguments that `create_connection` and
//! `create_unix_connection` share.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::endpoints::connected::Connected;
use crate::event_loop::{LoopHandle, loop_of};
use crate::transports::{Protocol, Transport};

/// A connection that is to be made, but for where to.
pub(crate) struct Joining<F> {
    factory: F,
    /// The loop that it is for; 0 is any.
    pub(crate) loop_number: u64,
}

impl<F> Joining<F> {
    pub(crate) fn new(factory: F) -> Self {
        Self {
            factory,
            loop_number: 0,
        }
    }

    /// The loop to connect on.
    pub(crate) fn begin(&self) -> io::Result<LoopHandle> {
        Ok(loop_of(self.loop_number)?)
    }

    /// Makes the protocol and the transport.
    pub(crate) async fn introduce<P>(
        self,
        handle: &LoopHandle,
        socket: Connected,
    ) -> io::Result<(Transport, Rc<RefCell<P>>)>
    where
        P: Protocol,
        F: FnOnce() -> P,
    {
        socket.introduce(handle, self.factory).await
    }
}

impl<F> fmt::Debug for Joining<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").finish_non_exhaustive()
    }
}
