//! TLS between two transports: what the one below receives, and the one above reads and writes.
//!
//! Owns: [`TlsCore`], which both share: the engine, the bytes on their way to it, and the phase.
//! Why: the transport above is one like any other, with a stream that is no socket; so flow
//! control, half-close and the order of callbacks are written once. Invariants: it owns neither
//! protocol; the engine is lent while it works, so user code behind it (a verifier) finds an empty
//! slot and no borrow; nothing is read ahead that nobody wants; what the engine has to say goes
//! out with what is sent next, and at once where nothing else is. asyncio's counterpart: the half
//! of `SSLProtocol` below `_SSLProtocolTransport`.

use std::any::Any;
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::event_loop::TimerHandle;
use crate::event_loop::cells::{Shared, Slot};
use crate::sansio::byte_queue::ByteQueue;
use crate::sys::{Address, Credentials, Layer, Stream};
use crate::tls::details::TlsDetails;
use crate::tls::engine::Engine;
use crate::tls::error::TlsError;
use crate::tls::phase::{Phase, Step};
use crate::transports::{PeerCredentials, Received, SockName, Transport};

pub(super) struct TlsCore {
    me: Weak<Self>,
    /// The transport below.
    lower: Transport,
    /// Empty while it is lent, and when the connection is over.
    engine: Slot<Box<Engine>>,
    /// Received below and not fed to the engine yet.
    incoming: Shared<ByteQueue>,
    /// The transport below has seen the end.
    eof: Cell<bool>,
    phase: Cell<Phase>,
    /// How much was encrypted since something was sent.
    encrypted: Cell<usize>,
    /// For the handshake, and for the end.
    timer: Slot<TimerHandle>,
    shutdown_timeout: Duration,
    details: Slot<Rc<TlsDetails>>,
    /// What the engine found wrong, behind bytes that were in order.
    broken: Slot<TlsError>,
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

    fn step(&self, step: Step) {
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
    fn feed(&self) -> Result<bool, TlsError> {
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

    /// Has the engine take what the system has, as far as there is something to read then. False
    /// if there was nothing.
    fn pull(&self) -> Result<bool, TlsError> {
        let pulled = self
            .engine
            .lend(|engine| engine.feed_from(&mut Below(self)));
        pulled.unwrap_or(Ok(false))
    }

    /// TLS has failed, or is over: nobody reads any more.
    pub(super) fn forget_incoming(&self) {
        drop(self.incoming.with(std::mem::take));
    }

    fn has_incoming(&self) -> bool {
        self.incoming.with(|incoming| !incoming.is_empty())
    }

    /// How many bytes wait for the engine.
    pub(super) fn backlog(&self) -> usize {
        self.incoming.with(|incoming| incoming.len())
    }

    /// Whether the peer has said that it sends no more, and there is nothing more to read.
    fn has_ended(&self) -> bool {
        self.engine.lend(|engine| engine.has_ended()) == Some(true)
    }

    // The handshake.

    /// Goes on with the handshake. True when it is done.
    pub(super) fn shake_hands(&self) -> Result<bool, TlsError> {
        // It takes as long as much reading does, so a crowd that comes at once is spread over turns.
        self.lower.agenda().take_in(STEP_OF_HANDSHAKE);
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
        log::debug!("{}: {error}", self.lower.core().peer_name());
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
    fn may_wait(&self) -> bool {
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
    fn put_records(&self) -> bool {
        self.encrypted.set(0);
        let lower = self.lower.core();
        let records = self.engine.lend(|engine| {
            if !engine.has_records() {
                return None;
            }
            engine.offer_records(|pieces| lower.send_pieces(pieces));
            let mut records = Vec::new();
            if engine.has_records() {
                records = self.lower.agenda().spares().take(RECORDS);
                engine.take_records(&mut records);
            }
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
        let mut storage = self.lower.agenda().spares().take(RECORDS);
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

impl Layer for TlsCore {
    fn receive(&self, storage: &mut Vec<u8>) -> io::Result<usize> {
        if self.phase.get() != Phase::Open {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = storage.len();
        loop {
            self.engine.lend(|engine| engine.read(storage));
            if storage.len() == storage.capacity() || self.broken.is_some() {
                break;
            }
            let fed = if self.has_incoming() {
                self.feed()
            } else {
                self.pull()
            };
            match fed {
                Ok(true) => {}
                Ok(false) => break,
                // It is told behind what came in good order.
                Err(error) => drop(self.broken.put(error)),
            }
        }
        // An answer to what came, for which nobody above has a write.
        if !self.may_wait() {
            self.send_records();
        }
        if !self.has_incoming() && !self.lower.is_reading() {
            self.lower.resume_reading();
        }
        if storage.len() > before {
            return Ok(storage.len() - before);
        }
        let error = match self.broken.take() {
            Some(error) => error,
            None if self.has_ended() => {
                self.lower.core().carry_to_the_end();
                self.lower.core().look_for_reset();
                return Ok(0);
            }
            None if self.eof.get() => TlsError::Truncated,
            None => return Err(io::ErrorKind::WouldBlock.into()),
        };
        self.fail(error.clone().into());
        Err(error.into())
    }

    fn is_drained(&self) -> bool {
        let more = self.has_incoming() || self.lower.core().may_receive_for();
        // An end is told in a receive of its own.
        !(more || self.eof.get() || self.broken.is_some() || self.has_ended())
    }

    fn flush(&self) -> bool {
        if self.encrypted.get() > 0 || !self.may_wait() {
            self.put_records();
        }
        self.lower.core().send();
        self.lower.core().may_send()
    }

    fn wait_no_longer(&self) {
        self.send_records();
    }

    fn unsent(&self) -> usize {
        self.lower.core().send();
        self.lower.core().waiting() + self.encrypted.get()
    }

    fn set_reading(&self, reading: bool) {
        if reading {
            self.lower.resume_reading();
        } else if self.phase.get() == Phase::Open {
            self.lower.pause_reading();
        }
    }

    fn hear_no_more(&self) {
        self.lower.core().hear_no_more();
    }

    fn can_write_eof(&self) -> bool {
        let details = self.details.get();
        details.is_some_and(|details| details.version == rustls::ProtocolVersion::TLSv1_3)
    }

    fn shut_down_write(&self) {
        self.engine.lend(|engine| engine.close_notify());
        // Sent, since the one below may be unable to end its half, and does nothing then.
        self.send_records();
        let _ = self.lower.end_writing();
    }

    fn say_goodbye(&self) -> bool {
        match self.phase.get() {
            Phase::Open => {
                self.step(Step::Close);
                self.shut_down_write();
                self.lower.resume_reading();
                self.look_whether_sent();
            }
            Phase::Handshaking => {
                self.cancel_timer();
                self.step(Step::Close);
                self.lower.abort();
            }
            Phase::Closing | Phase::Parting | Phase::Failing | Phase::Over => {}
        }
        false
    }

    fn end(&self) {
        // What was to be said the peer may still hear.
        if self.phase.get() != Phase::Failing {
            self.cancel_timer();
            self.step(Step::Lose);
            self.lower.abort();
        }
        self.forget_incoming();
        drop(self.engine.take());
    }

    fn survivor(&self) -> Option<Rc<dyn Any>> {
        let lives_on = self.phase.get() == Phase::Failing;
        lives_on.then(|| Rc::new(self.lower.clone()) as Rc<dyn Any>)
    }

    fn details(&self) -> Option<Rc<dyn Any>> {
        Some(self.details.get()?)
    }
}

/// What comes from the system, as the engine wants to have it.
struct Below<'a>(&'a TlsCore);

impl Read for Below<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let lower = self.0.lower.core();
        match lower.receive_for(buffer) {
            Received::Bytes(size) => return Ok(size),
            // To the engine only a `close_notify` is an end.
            Received::Eof => self.0.note_eof(),
            Received::Blocked => {}
            Received::Failed(error) => lower.fail(error),
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// The stream of the transport above.
pub(super) struct TlsStream(pub(super) Rc<TlsCore>);

impl Stream for TlsStream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut storage = Vec::with_capacity(buffer.len());
        let size = self.0.receive(&mut storage)?;
        buffer[..size].copy_from_slice(&storage);
        Ok(size)
    }

    fn read_behind(&self, storage: &mut Vec<u8>) -> io::Result<usize> {
        self.0.receive(storage)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let core = &self.0;
        match core.phase.get() {
            Phase::Open if core.lower.core().may_send() => {}
            Phase::Open | Phase::Handshaking => return Err(io::ErrorKind::WouldBlock.into()),
            // Behind a `close_notify` nothing is said. Were it kept, it would be tried for ever.
            Phase::Closing | Phase::Parting | Phase::Failing | Phase::Over => {
                return Ok(bytes.len());
            }
        }
        let bytes = &bytes[..bytes.len().min(AT_ONCE)];
        core.engine.lend(|engine| engine.write(bytes));
        core.encrypted.set(core.encrypted.get() + bytes.len());
        if core.encrypted.get() >= AT_ONCE {
            core.put_records();
        }
        Ok(bytes.len())
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.0.shut_down_write();
        Ok(())
    }

    fn finish_connect(&self) -> io::Result<Option<Address>> {
        Ok(Some(self.0.lower.core().peer_name().clone()))
    }

    fn take_error(&self) -> io::Result<()> {
        Ok(())
    }

    fn local_address(&self) -> io::Result<Address> {
        let name = self.0.lower.get_extra_info(SockName);
        name.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn short_read_drains(&self) -> bool {
        self.0.is_drained()
    }

    fn peer_credentials(&self) -> Option<Credentials> {
        self.0.lower.get_extra_info(PeerCredentials)
    }

    fn layer(&self) -> Option<Rc<dyn Layer>> {
        Some(Rc::clone(&self.0) as Rc<dyn Layer>)
    }
}

/// How much is encrypted before the system is asked to take it, in bytes: a record of the largest
/// size. It is in the fastest cache still when it is sent, which is worth more than fewer calls.
const AT_ONCE: usize = 16 * 1024;
/// How many received bytes a step of a handshake stands for, by the time that it takes: as many as a
/// turn takes in, so whoever waits to answer comes in between.
const STEP_OF_HANDSHAKE: usize = 256 * 1024;
/// Room for the records of so much.
const RECORDS: usize = AT_ONCE + 1024;
