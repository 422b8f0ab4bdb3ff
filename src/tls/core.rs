//! TLS between two transports: the handshake, what is said, and the end.
//!
//! Owns: [`TlsCore`], which both share: the engine, the bytes on their way to it, and the phase.
//! Why: the transport above is one like any other, with a stream that is no socket; so flow
//! control, half-close and the order of callbacks are written once. Invariants: it owns neither
//! protocol; the engine is lent while it works, so user code behind it (a verifier) finds an empty
//! slot and no borrow; nothing is read ahead that nobody wants; what the engine has to say goes
//! out with what is sent next, and at once where nothing else is. asyncio's counterpart: the half
//! of `SSLProtocol` below `_SSLProtocolTransport`.

use std::cell::Cell;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::event_loop::TimerHandle;
use crate::event_loop::cells::{Shared, Slot};
use crate::sansio::byte_queue::ByteQueue;
use crate::tls::details::TlsDetails;
use crate::tls::engine::Engine;
use crate::tls::error::TlsError;
use crate::tls::phase::{Phase, Step};
use crate::transports::Transport;

pub(super) struct TlsCore {
    me: Weak<Self>,
    /// The transport below.
    lower: Transport,
    /// Empty while it is lent, and when the connection is over.
    pub(super) engine: Slot<Box<Engine>>,
    /// Received below and not fed to the engine yet.
    incoming: Shared<ByteQueue>,
    /// How much the receive that is going on may take from the system still.
    pub(super) allowance: Cell<usize>,
    /// The transport below has seen the end.
    pub(super) eof: Cell<bool>,
    phase: Cell<Phase>,
    /// How much was encrypted since something was sent.
    pub(super) encrypted: Cell<usize>,
    /// For the handshake, and for the end.
    timer: Slot<TimerHandle>,
    shutdown_timeout: Duration,
    pub(super) details: Slot<Rc<TlsDetails>>,
    /// What the engine found wrong, behind bytes that were in order.
    pub(super) broken: Slot<TlsError>,
    /// Why it failed.
    failure: Slot<Arc<io::Error>>,
}

impl TlsCore {
    pub(super) fn new(lower: Transport, engine: Engine, shutdown_timeout: Duration) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            lower,
            engine: Slot::new(Some(Box::new(engine))),
            incoming: Shared::default(),
            allowance: Cell::new(0),
            eof: Cell::new(false),
            phase: Cell::new(Phase::Handshaking),
            encrypted: Cell::new(0),
            timer: Slot::default(),
            shutdown_timeout,
            details: Slot::default(),
            broken: Slot::default(),
            failure: Slot::default(),
        })
    }

    pub(super) fn lower(&self) -> &Transport {
        &self.lower
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn failure(&self) -> Option<Arc<io::Error>> {
        self.failure.get()
    }

    pub(super) fn step(&self, step: Step) {
        self.phase.set(self.phase.get().next(step));
        if self.phase.get() != Phase::Open {
            self.lower.core().receive_again();
        }
    }

    // Bytes from below.

    /// Puts bytes aside for the engine.
    pub(super) fn take_in(&self, data: &[u8]) {
        self.incoming.with(|incoming| {
            if !incoming.has_storage() {
                incoming.adopt(self.lower.agenda().spares().take(data.len()));
            }
            incoming.extend(data);
        });
    }

    /// The same for bytes that come with their storage.
    pub(super) fn take_over(&self, data: Vec<u8>) {
        if self.incoming.with(|incoming| incoming.is_empty()) {
            let spare = self.incoming.with(|incoming| {
                let spare = incoming.reclaim();
                incoming.adopt(data);
                spare
            });
            self.lower.agenda().spares().give(spare);
        } else {
            self.take_in(&data);
            self.lower.agenda().spares().give(data);
        }
    }

    pub(super) fn note_eof(&self) {
        self.eof.set(true);
    }

    /// Feeds the engine, as far as it takes it. False if it cannot be had. What is behind an error
    /// nobody will read.
    pub(super) fn feed(&self) -> Result<bool, TlsError> {
        let mut queue = self.incoming.with(std::mem::take);
        let mut rest = queue.as_slice();
        let size = rest.len();
        let fed = self.engine.lend(|engine| engine.feed(&mut rest));
        let left = match &fed {
            Some(Err(_)) => 0,
            _ => rest.len(),
        };
        queue.discard(size - left);
        let spare = if left == 0 {
            queue.reclaim()
        } else {
            Vec::new()
        };
        self.incoming.with(|incoming| *incoming = queue);
        self.lower.agenda().spares().give(spare);
        fed.map_or(Ok(false), |fed| fed.map(|()| true))
    }

    /// TLS has failed, or is over: nobody reads any more.
    pub(super) fn forget_incoming(&self) {
        drop(self.incoming.with(std::mem::take));
    }

    pub(super) fn has_incoming(&self) -> bool {
        self.incoming.with(|incoming| !incoming.is_empty())
    }

    /// How many bytes wait for the engine.
    pub(super) fn backlog(&self) -> usize {
        self.incoming.with(|incoming| incoming.len())
    }

    /// Whether the peer has said that it sends no more, and there is nothing more to read.
    pub(super) fn has_ended(&self) -> bool {
        self.engine.lend(|engine| engine.has_ended()) == Some(true)
    }

    // The handshake.

    /// Goes on with the handshake. True when it is done.
    pub(super) fn shake_hands(&self) -> Result<bool, TlsError> {
        // It takes as long as a turn of reading, so a crowd that comes at once is spread over turns,
        // and whoever waits to answer comes in between.
        self.lower.agenda().take_in_no_more();
        let outcome = self.feed();
        if outcome.is_err() || !self.may_wait() {
            // Also the alert, if it failed.
            self.send_records();
        }
        outcome?;
        if self.engine.lend(|engine| engine.is_handshaking()) != Some(false) {
            return Ok(false);
        }
        let details = self.engine.lend(|engine| engine.details()).flatten();
        if let Some(details) = details {
            drop(self.details.put(Rc::new(details)));
        }
        self.cancel_timer();
        self.step(Step::Agreed);
        Ok(true)
    }

    /// TLS itself has failed. The peer is told, and has some time to hear it: were the connection
    /// closed with something unread, the system would reset it, and the alert be lost.
    pub(super) fn fail(&self, error: io::Error) {
        let lower = self.lower.core();
        match lower.real_peer() {
            Some(client) => log::debug!("{client}: {error}"),
            None => log::debug!("{}: {error}", lower.peer_name()),
        }
        drop(self.failure.put(Arc::new(error)));
        self.step(Step::Fail);
        self.send_records();
        self.cancel_timer();
        if self.phase.get() == Phase::Failing && !self.eof.get() {
            let _ = self.lower.end_writing();
            self.lower.resume_reading();
            self.set_timer(self.shutdown_timeout);
        } else {
            self.step(Step::Lose);
            self.lower.close();
        }
    }

    // Bytes to below.

    /// Whether what the engine has to say by itself may wait for what is written next.
    pub(super) fn may_wait(&self) -> bool {
        self.engine.lend(|engine| engine.may_wait()) == Some(true)
    }

    /// Has the transport below send what the engine has to say.
    pub(super) fn send_records(&self) {
        if self.put_records() {
            self.lower.core().send();
        }
    }

    /// Gives what the engine has to say to the system, and what that does not take to the transport
    /// below. False if there was nothing.
    pub(super) fn put_records(&self) -> bool {
        self.encrypted.set(0);
        let lower = self.lower.core();
        let records = self.engine.lend(|engine| {
            if !engine.has_records() {
                return None;
            }
            let mut left = 0;
            while left == 0 && engine.has_records() {
                engine.offer_records(|pieces| {
                    let sent = lower.send_pieces(pieces);
                    left = pieces.iter().map(|piece| piece.len()).sum::<usize>() - sent;
                    sent
                });
            }
            // It may have to wait for long, so it gets no more room than it needs.
            let mut records = Vec::with_capacity(left);
            engine.take_records(&mut records);
            Some(records)
        });
        match records.flatten() {
            Some(records) if records.is_empty() => true,
            Some(records) => {
                lower.put(records);
                true
            }
            None => false,
        }
    }

    // The end.

    /// The peer has ended its side, or the connection, or had its time: there is nothing to wait
    /// for any more.
    pub(super) fn part(&self) {
        self.cancel_timer();
        // Who is parting keeps that: what is below may be TLS too, whose end may fail.
        if self.phase.get() != Phase::Parting {
            self.step(Step::Lose);
        }
        self.lower.close();
    }

    /// What comes while we are closing is thrown away, but for the end: whether that has come.
    pub(super) fn throw_away(&self) -> bool {
        let mut storage = self.lower.agenda().spares().take(RECORD);
        // What was decrypted already would stop the feeding.
        while self
            .engine
            .lend(|engine| engine.read(&mut storage))
            .unwrap_or(0)
            > 0
        {
            storage.clear();
        }
        let over = loop {
            match self.feed() {
                Ok(true) => {}
                Ok(false) | Err(_) => break true,
            }
            storage.clear();
            let read = self.engine.lend(|engine| engine.read(&mut storage));
            if read.unwrap_or(0) == 0 && !self.has_incoming() {
                break self.eof.get() || self.has_ended();
            }
        };
        self.lower.agenda().spares().give(storage);
        self.send_records();
        if over && self.phase.get() == Phase::Parting {
            self.part();
        }
        over
    }

    /// The system may have taken everything that we had to say.
    pub(super) fn look_whether_sent(&self) {
        if self.phase.get() == Phase::Closing && self.lower.core().unsent() == 0 {
            self.step(Step::Sent);
            if !self.throw_away() {
                self.set_timer(self.shutdown_timeout);
            }
        }
    }

    /// The transport below is lost.
    pub(super) fn lose(&self) {
        self.cancel_timer();
        self.step(Step::Lose);
    }

    // Time.

    pub(super) fn set_timer(&self, delay: Duration) {
        let Some(handle) = self.lower.core().handle().upgrade() else {
            return;
        };
        let me = self.me.clone();
        let timer = handle.call_later(delay, move || {
            if let Some(me) = me.upgrade() {
                me.time_is_up(delay);
            }
        });
        if let Some(earlier) = self.timer.put(timer) {
            earlier.cancel();
        }
    }

    pub(super) fn cancel_timer(&self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }

    fn time_is_up(&self, delay: Duration) {
        match self.phase.get() {
            Phase::Handshaking => {
                let error = TlsError::HandshakeTimeout(delay).into_io(true);
                drop(self.failure.put(Arc::new(error)));
                self.step(Step::Lose);
                self.lower.abort();
            }
            Phase::Parting => self.part(),
            Phase::Failing => {
                self.step(Step::Lose);
                self.lower.abort();
            }
            Phase::Open | Phase::Closing | Phase::Over => {}
        }
    }
}

/// How much is encrypted before the system is asked to take it, in bytes: two records of the largest
/// size. One costs a call each, and more are out of the fastest cache by the time they are sent.
pub(super) const AT_ONCE: usize = 32 * 1024;
/// Room for a record of the largest size.
pub(super) const RECORD: usize = 17 * 1024;
