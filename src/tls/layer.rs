//! What the transport above TLS finds below it.
//!
//! Owns: [`TlsStream`], and how a [`TlsCore`] is a [`Layer`]. Why: the transport above is one like
//! any other, which reads, writes and ends; here is what these words mean to TLS. Invariants: what
//! comes is taken from the system when somebody reads, and not before; what was in good order is
//! read before an error is told; behind a `close_notify` nothing is written. asyncio's counterpart:
//! `SSLProtocol._do_read`, `_do_write` and `_do_shutdown`.

use std::any::Any;
use std::io::{self, Read};
use std::rc::Rc;

use crate::sys::{Address, Credentials, Layer, Stream};
use crate::tls::core::{AT_ONCE, RECORD, TlsCore};
use crate::tls::error::TlsError;
use crate::tls::phase::{Phase, Step};
use crate::transports::{PeerCredentials, Received, SockName};

impl Layer for TlsCore {
    fn receive(&self, storage: &mut Vec<u8>) -> io::Result<usize> {
        if self.phase() != Phase::Open {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = storage.len();
        self.allowance.set(storage.capacity() - before + SURPLUS);
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
        if !self.has_incoming() && !self.lower().is_reading() {
            self.lower().resume_reading();
        }
        if self.allowance.get() == 0 {
            // Much has come for little. The rest waits for the next turn, as if it came then.
            self.lower().core().visit_if_readable();
        }
        if storage.len() > before {
            return Ok(storage.len() - before);
        }
        let error = match self.broken.take() {
            Some(error) => error,
            None if self.has_ended() => {
                self.lower().core().carry_to_the_end();
                self.lower().core().look_for_reset();
                return Ok(0);
            }
            None if self.eof.get() => TlsError::Truncated,
            None => return Err(io::ErrorKind::WouldBlock.into()),
        };
        self.fail(error.clone().into());
        Err(error.into())
    }

    fn is_drained(&self) -> bool {
        let below = self.allowance.get() > 0 && self.lower().core().may_receive_for();
        let more = self.has_incoming() || below;
        // An end is told in a receive of its own.
        !(more || self.eof.get() || self.broken.is_some() || self.has_ended())
    }

    fn flush(&self) -> bool {
        if self.encrypted.get() > 0 || !self.may_wait() {
            self.put_records();
        }
        self.lower().core().send();
        // Before there are keys it takes nothing, whatever the system does.
        self.phase() != Phase::Handshaking && self.lower().core().may_send()
    }

    fn wait_no_longer(&self) {
        self.send_records();
    }

    fn unsent(&self) -> usize {
        self.lower().core().send();
        self.lower().core().waiting() + self.encrypted.get()
    }

    fn set_reading(&self, reading: bool) {
        if reading {
            self.lower().resume_reading();
        } else if self.phase() == Phase::Open {
            self.lower().pause_reading();
        }
    }

    fn hear_no_more(&self) {
        self.lower().core().hear_no_more();
    }

    fn can_write_eof(&self) -> bool {
        let details = self.details.get();
        details.is_some_and(|details| details.version == rustls::ProtocolVersion::TLSv1_3)
    }

    fn shut_down_write(&self) {
        self.engine.lend(|engine| engine.close_notify());
        // Sent, since the one below may be unable to end its half, and does nothing then.
        self.send_records();
        let _ = self.lower().end_writing();
    }

    fn say_goodbye(&self) -> bool {
        match self.phase() {
            Phase::Open => {
                self.step(Step::Close);
                self.shut_down_write();
                self.lower().resume_reading();
                self.look_whether_sent();
            }
            Phase::Handshaking => {
                self.cancel_timer();
                self.step(Step::Close);
                self.lower().abort();
            }
            Phase::Closing | Phase::Parting | Phase::Failing | Phase::Over => {}
        }
        false
    }

    fn end(&self) {
        // What was to be said the peer may still hear.
        if self.phase() != Phase::Failing {
            self.cancel_timer();
            self.step(Step::Lose);
            self.lower().abort();
        }
        self.forget_incoming();
        drop(self.engine.take());
    }

    fn survivor(&self) -> Option<Rc<dyn Any>> {
        let lives_on = self.phase() == Phase::Failing;
        lives_on.then(|| Rc::new(self.lower().clone()) as Rc<dyn Any>)
    }

    fn details(&self) -> Option<Rc<dyn Any>> {
        Some(self.details.get()?)
    }
}

impl TlsCore {
    /// Has the engine take what the system has, as far as there is something to read then. False
    /// if there was nothing.
    fn pull(&self) -> Result<bool, TlsError> {
        let pulled = self
            .engine
            .lend(|engine| engine.feed_from(&mut Below(self)));
        pulled.unwrap_or(Ok(false))
    }
}

/// What comes from the system, as the engine wants to have it, and no more than is allowed at a
/// time: records need not have anything in them for whoever reads.
struct Below<'a>(&'a TlsCore);

impl Read for Below<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let lower = self.0.lower().core();
        let allowance = self.0.allowance.get();
        let size = buffer.len().min(allowance);
        if size == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match lower.receive_for(&mut buffer[..size]) {
            Received::Bytes(size) => {
                self.0.allowance.set(allowance - size);
                return Ok(size);
            }
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
        match core.phase() {
            Phase::Open if core.lower().core().may_send() => {}
            Phase::Open | Phase::Handshaking => return Err(io::ErrorKind::WouldBlock.into()),
            // Behind a `close_notify` nothing is said. Were it kept, it would be tried for ever.
            Phase::Closing | Phase::Parting | Phase::Failing | Phase::Over => {
                return Ok(bytes.len());
            }
        }
        // Less than that is encrypted and not sent.
        let bytes = &bytes[..bytes.len().min(AT_ONCE - core.encrypted.get())];
        match core.engine.lend(|engine| engine.write(bytes)) {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                // What was taken before is good.
                core.put_records();
                return Err(error.into());
            }
            None => return Err(io::Error::other("written by what TLS has called")),
        }
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
        Ok(Some(self.0.lower().core().peer_name().clone()))
    }

    fn take_error(&self) -> io::Result<()> {
        Ok(())
    }

    fn local_address(&self) -> io::Result<Address> {
        let name = self.0.lower().get_extra_info(SockName);
        name.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn short_read_drains(&self) -> bool {
        self.0.is_drained()
    }

    fn peer_credentials(&self) -> Option<Credentials> {
        self.0.lower().get_extra_info(PeerCredentials)
    }

    fn layer(&self) -> Option<Rc<dyn Layer>> {
        Some(Rc::clone(&self.0) as Rc<dyn Layer>)
    }
}

/// What one receive may take from the system beyond what it has room for, in bytes: two records, for
/// the one that is begun and for what surrounds the others.
const SURPLUS: usize = 2 * RECORD;
