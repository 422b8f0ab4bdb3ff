//! The protocol of the transport below: it hands what comes to TLS, as long as that does not take it
//! from the socket itself, and tells the one above of everything else.
//!
//! Owns: [`TlsProtocol`]. Why: to the transport below TLS is a protocol like any other, so TLS can
//! stand on any transport, on another TLS too. Invariants: the protocol above hears of nothing
//! before the handshake is done; of the end it hears after everything that came before it.
//! asyncio's counterpart: the half of `SSLProtocol` that is a `BufferedProtocol`.

use std::any::Any;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::sys::Readiness;
use crate::tasks::Waiter;
use crate::tls::core::TlsCore;
use crate::tls::error::TlsError;
use crate::tls::phase::Phase;
use crate::transports::{CloseReason, Connection, Protocol, Transport};

pub(super) struct TlsProtocol {
    core: Rc<TlsCore>,
    /// The transport above.
    upper: Transport,
    handshake: Option<Handshake>,
}

/// What ends with the handshake.
pub(super) struct Handshake {
    pub(super) timeout: Duration,
    /// Whether the protocol above is told that it has a connection: after `start_tls` it has one.
    pub(super) begins: bool,
    /// Who waits for it.
    pub(super) waiter: Option<HandshakeWaiter>,
    /// Its place among those that a server allows at a time, which is given up by letting go of it.
    pub(super) place: Option<Box<dyn Any>>,
}

/// Learns how a handshake went.
pub(crate) type HandshakeWaiter = Waiter<Result<(), Arc<io::Error>>>;

impl TlsProtocol {
    pub(super) fn new(core: Rc<TlsCore>, upper: Transport, handshake: Handshake) -> Self {
        Self {
            core,
            upper,
            handshake: Some(handshake),
        }
    }

    /// Something has come, or the end.
    fn go_on(&mut self) {
        match self.core.phase() {
            Phase::Handshaking => match self.core.shake_hands() {
                Ok(false) => {}
                Ok(true) => self.agreed(),
                Err(error) => self.failed(error),
            },
            Phase::Open => {
                if self.upper.core().has_ended() {
                    // Nobody reads it any more; unread it would stand in front of the end.
                    self.core.forget_incoming();
                    return;
                }
                if self.core.backlog() > MOST_READ_AHEAD {
                    self.core.lower().pause_reading();
                }
                self.upper.core().arouse();
            }
            Phase::Closing | Phase::Parting => {
                self.core.throw_away();
            }
            Phase::Failing | Phase::Over => self.core.forget_incoming(),
        }
    }

    /// The handshake came to nothing. Whoever waits for it need not wait until the peer has heard.
    fn failed(&mut self, error: TlsError) {
        self.core.fail(error.into_io(true));
        let handshake = self.handshake.as_mut();
        // Nor does anybody else who wants to shake hands.
        let (waiter, place) =
            handshake.map_or((None, None), |it| (it.waiter.take(), it.place.take()));
        drop(place);
        if let (Some(waiter), Some(error)) = (waiter, self.core.failure()) {
            let _ = waiter.set_result(Err(error));
        }
    }

    /// Whether what comes is of any use still.
    fn listens(&self) -> bool {
        !matches!(self.core.phase(), Phase::Failing | Phase::Over)
    }

    /// The handshake is done.
    fn agreed(&mut self) {
        let Some(handshake) = self.handshake.take() else {
            return;
        };
        let upper = self.upper.core();
        self.core.lower().core().let_receive(upper);
        // What was glued to its last record, or its end, no event will tell of.
        upper.note_readiness(Readiness::READ);
        if let Some(handle) = upper.handle().upgrade() {
            if handshake.begins {
                Connection::begin(&handle, &self.upper);
            } else {
                Connection::go_on(&handle, &self.upper);
            }
            if let Some(waiter) = handshake.waiter {
                // Behind what was just queued.
                drop(handle.call_soon(move || drop(waiter.set_result(Ok(())))));
            }
        }
    }
}

impl Protocol for TlsProtocol {
    fn connection_made(&mut self, _: Transport) {
        let Some(handshake) = &self.handshake else {
            return;
        };
        self.core.set_timer(handshake.timeout);
        // The one below is asked to say when everything is sent.
        let lower = self.core.lower();
        let _ = lower.set_write_buffer_limits(0, 0);
        lower.core().set_wanted(Some(MOST_READ_AHEAD));
        // After `start_tls` the end may have come before.
        if lower.core().has_ended() {
            self.eof_received();
            return;
        }
        lower.resume_reading();
        self.go_on();
    }

    fn data_received(&mut self, data: &[u8]) {
        if self.listens() {
            self.core.take_in(data);
            self.go_on();
        }
    }

    fn data_handed_over(&mut self, data: Vec<u8>) {
        if self.listens() {
            self.core.take_over(data);
            self.go_on();
        }
    }

    fn eof_received(&mut self) -> bool {
        self.core.note_eof();
        match self.core.phase() {
            Phase::Handshaking => self.failed(TlsError::HandshakeCutOff),
            Phase::Failing => self.core.part(),
            _ => self.go_on(),
        }
        true
    }

    fn resume_writing(&mut self) {
        self.core.look_whether_sent();
        self.upper.core().note_room();
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        let waiter = self.handshake.take().and_then(|handshake| handshake.waiter);
        let parting = self.core.phase() == Phase::Parting;
        self.core.lose();
        let error = self.core.failure().or(exc);
        let upper = self.upper.core();
        match (&error, self.core.lower().core().reason()) {
            // It was said and sent, so what became of it afterwards does not matter.
            _ if parting => upper.goodbye_said(),
            (Some(error), reason) => {
                let reason = CloseReason::of(error).or(reason);
                upper.lose(
                    reason.unwrap_or(CloseReason::Reset),
                    Some(Arc::clone(error)),
                );
            }
            (None, _) if upper.is_closing() => upper.goodbye_said(),
            (None, reason) => upper.lose(reason.unwrap_or(CloseReason::Closed), None),
        }
        if let Some(waiter) = waiter {
            let error = error.unwrap_or_else(|| Arc::new(TlsError::HandshakeCutOff.into_io(true)));
            let _ = waiter.set_result(Err(error));
        }
    }
}

/// So many bytes at most wait for a reader that takes its time, and what one receive brings.
const MOST_READ_AHEAD: usize = 64 * 1024;
