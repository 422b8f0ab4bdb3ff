//! A transport that stands on another one.
//!
//! Owns: how a [`Core`] gets along with a [`Layer`] below it, and what a transport that is stood on
//! does for it. Why: TLS is between two transports, and to the users of either nothing is special
//! about it. Invariants: a transport on a socket pays one test of a flag; no layer is called while
//! something of ours is borrowed, but for the encrypting of what is sent; blocked is whoever stands
//! on somebody who is blocked. asyncio's counterpart: what `_SSLProtocolTransport` and the transport
//! below it know of each other.

use std::any::Any;
use std::cell::RefCell;
use std::io::IoSlice;
use std::rc::Rc;

use crate::event_loop::{Entry, LoopHandle};
use crate::sys::{Layer, Readiness, SourceId};
use crate::transports::close_reason::CloseReason;
use crate::transports::connection::Connection;
use crate::transports::contract::{Protocol, Transport};
use crate::transports::core::{Carries, Core};
#[cfg(feature = "tls")]
use crate::transports::policies::Policies;
use crate::transports::receiving::Received;

/// The transport above.
impl Core {
    pub(crate) fn is_layered(&self) -> bool {
        self.layered
    }

    /// What is between the stream and the system, if anything is.
    pub(super) fn layer(&self) -> Option<Rc<dyn Layer>> {
        if !self.layered {
            return None;
        }
        self.socket.with(|socket| socket.stream.as_ref()?.layer())
    }

    /// Everything was written: whether nothing has to be waited for.
    pub(super) fn say_goodbye(&self) -> bool {
        self.layer().is_none_or(|layer| layer.say_goodbye())
    }

    /// Whether the sending direction can be ended alone.
    pub(crate) fn can_write_eof(&self) -> bool {
        self.layer().is_none_or(|layer| layer.can_write_eof())
    }

    /// What the layer below knows about itself.
    pub(crate) fn details(&self) -> Option<Rc<dyn Any>> {
        self.layer()?.details()
    }

    /// A layer below reads ahead only if somebody wants to receive.
    pub(super) fn tell_layer(&self, reading: bool) {
        if let Some(layer) = self.layer() {
            layer.set_reading(reading);
        }
    }

    /// Receives once from the layer below, which is not borrowed meanwhile.
    pub(crate) fn receive_from_layer(&self, storage: &mut Vec<u8>) -> Received {
        let Some(layer) = self.layer() else {
            return Received::Blocked;
        };
        let room = storage.capacity();
        let outcome = layer.receive(storage);
        self.received(outcome, room, || layer.is_drained())
    }

    /// What the layer below has taken goes on to the system. It takes a bounded amount at a time:
    /// whether it would take more.
    #[inline]
    pub(super) fn flush_layer(&self) -> bool {
        let Some(layer) = self.layer() else {
            return false;
        };
        let takes_more = layer.flush();
        if takes_more {
            self.note_readiness(Readiness::WRITE);
        } else {
            self.forget(Readiness::WRITE);
        }
        takes_more
    }

    /// What the layer below has taken, and the system does not have.
    pub(super) fn unsent_below(&self) -> usize {
        self.layer().map_or(0, |layer| layer.unsent())
    }
}

/// What the layer tells the transport above.
impl Core {
    /// Something is there to be received, of which no event of our own tells.
    pub(crate) fn arouse(&self) {
        if !self.ready.get().says(Readiness::READ) {
            self.note_readiness(Readiness::READ);
            self.enqueue(Entry::Readable);
        }
    }

    /// There is room below, of which no event of our own tells.
    pub(crate) fn note_room(&self) {
        self.note_readiness(Readiness::WRITE);
        self.enqueue(Entry::Writable);
    }

    /// The layer below has said goodbye, and the other end has answered, or had its time to.
    pub(crate) fn goodbye_said(&self) {
        self.lose(self.reason.get().unwrap_or(CloseReason::Closed), None);
    }

    /// What was the state of `lower`'s protocol becomes ours: it goes on here.
    pub(crate) fn go_on_from(&self, lower: &Self) {
        self.set_made();
        self.marks.set(lower.marks.get());
        self.write_paused.set(lower.write_paused.get());
        self.notices.set(lower.notices.take());
        if self.has_notice() {
            self.queue_notice();
        }
        if !lower.may_send() {
            self.forget(Readiness::WRITE);
        }
    }
}

/// The transport below.
impl Core {
    /// Another transport stands on this one, and nobody else writes from now on. A reset behind the
    /// end is its business, too: it looks for one when everything in front of that was read.
    #[cfg(feature = "tls")]
    pub(crate) fn carry(&self) {
        self.carries.set(Carries::Reader);
    }

    /// From now on the one above receives by itself, as it has use for it, with
    /// [`receive_for`](Self::receive_for): so nothing is kept in between. Not from a layer, which
    /// may run code of the user's.
    #[cfg(feature = "tls")]
    pub(crate) fn let_receive(&self, upper: &Self) {
        if !self.is_layered() {
            self.carries.set(Carries::Receiver(upper.id));
        }
    }

    /// What comes is received here again.
    #[cfg(feature = "tls")]
    pub(crate) fn receive_again(&self) {
        if self.receiver().is_some() {
            self.carries.set(Carries::Reader);
            self.visit_if_readable();
        }
    }

    /// The one above has read everything.
    #[cfg(feature = "tls")]
    pub(crate) fn carry_to_the_end(&self) {
        self.carries.set(Carries::Ended);
        self.visit_if_readable();
    }

    /// Who receives what comes, if that is not we.
    pub(super) fn receiver(&self) -> Option<SourceId> {
        match self.carries.get() {
            Carries::Receiver(upper) => Some(upper),
            Carries::Nothing | Carries::Reader | Carries::Ended => None,
        }
    }

    /// Whether the one above may find something to [`receive`](Self::receive_for).
    #[cfg(feature = "tls")]
    pub(crate) fn may_receive_for(&self) -> bool {
        self.receiver().is_some() && self.wants_to_read()
    }

    /// Receives once for the one above.
    #[cfg(feature = "tls")]
    pub(crate) fn receive_for(&self, buffer: &mut [u8]) -> Received {
        if !self.may_receive_for() {
            return Received::Blocked;
        }
        self.receive(buffer.len(), |stream| stream.read(buffer))
    }

    /// Sends pieces from where they are, as far as the system takes them; none of them if
    /// something waits before them. Nothing follows from it but a loss.
    pub(crate) fn send_pieces(&self, pieces: &[IoSlice<'_>]) -> usize {
        if self.unsent() > 0 || !self.may_send() || self.is_lost() {
            return 0;
        }
        let size = pieces.iter().map(|piece| piece.len()).sum();
        let sent = self.socket.with(|socket| {
            let stream = socket.stream.as_deref();
            let outcome = stream.map_or(Ok(0), |stream| stream.write_vectored(pieces));
            self.offered(size, outcome)
        });
        sent.unwrap_or_else(|error| {
            self.fail(error);
            0
        })
    }

    pub(crate) fn carries(&self) -> bool {
        self.carries.get() != Carries::Nothing
    }

    /// Accepts bytes for a [`flush`](Self::flush) that is to follow. Nothing else follows from it,
    /// so that a stream may stand on this one.
    pub(crate) fn put(&self, data: Vec<u8>) {
        if !self.is_lost() {
            self.socket.with(|socket| {
                if socket.unsent.is_empty() {
                    self.spares().give(socket.unsent.reclaim());
                    socket.unsent.adopt(data);
                } else {
                    socket.keep(&data, self.spares());
                    self.spares().give(data);
                }
            });
        }
    }

    /// What the server demands.
    #[cfg(feature = "tls")]
    pub(crate) fn policies(&self) -> Policies {
        self.vigil
            .as_ref()
            .map_or_else(Policies::default, |vigil| vigil.policies())
    }
}

impl Connection {
    /// The protocol had a connection before, and goes on with this one.
    pub(crate) fn go_on(handle: &LoopHandle, transport: &Transport) {
        handle.enqueue(transport.core().id(), Entry::Begin);
    }

    /// A connection that is in use gets a protocol that begins with it.
    pub(crate) fn begin_anew(handle: &LoopHandle, transport: &Transport) {
        handle.enqueue(transport.core().id(), Entry::Made);
    }

    /// The protocol that the connection was made for begins, behind one of ours that came first.
    pub(crate) fn hand_to(
        handle: &LoopHandle,
        transport: &Transport,
        protocol: Rc<RefCell<dyn Protocol>>,
    ) {
        // Nothing is received before it has begun.
        transport.core().wait_to_read();
        transport.change_protocol(protocol);
        Self::begin_anew(handle, transport);
    }

    /// What belonged to `lower` belongs to `upper` from now on: its owner, and the state of its
    /// protocol. Nothing is received until the new protocol has begun.
    #[cfg(feature = "tls")]
    pub(crate) fn hand_on(lower: &Transport, upper: &Transport) {
        lower.pause_reading();
        upper.core().go_on_from(lower.core());
        Self::hand_owner_on(lower, upper);
    }

    /// `upper` is over. If what is below lives on, it is its owner's business: it has a descriptor.
    pub(super) fn hand_owner_back(upper: &Transport) {
        let survivor = upper.core().layer().and_then(|layer| layer.survivor());
        if let Some(lower) = survivor.and_then(|survivor| survivor.downcast::<Transport>().ok()) {
            Self::hand_owner_on(upper, &lower);
        }
    }

    /// Whoever owned one transport owns the other one.
    pub(crate) fn hand_owner_on(from: &Transport, to: &Transport) {
        let (Some(from_side), Some(to_side)) = (from.side(), to.side()) else {
            return;
        };
        if let Some(owner) = from_side.take_owner() {
            owner.replace(from, to);
            to_side.set_owner(owner);
        }
    }
}
