//! The first protocol of a connection that comes from a proxy.
//!
//! Owns: [`Demand`] and [`Front`]. Why: what a server's protocol, or its handshake, is made for
//! begins behind the header. Invariants: it brings its own buffer, which has room for no byte that
//! is not the header's; the protocol behind it hears nothing of a connection whose header is not in
//! order; a refusal is reported once, in one line. asyncio's counterpart: none.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::event_loop::{ExceptionContext, LoopHandle, TimerHandle};
use crate::proxy::error::ProxyError;
use crate::proxy::header::{Extent, ProxyHeader};
use crate::transports::{BufferedProtocol, CloseReason, Connection, Parts, Transport, again};

/// That connections begin with a header, and how soon it has to be there.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    timeout: Duration,
}

impl Demand {
    pub(crate) fn within(timeout: Duration) -> Self {
        Self { timeout }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Begins a connection with its header. `next` goes on behind it: it gives the transport another
/// protocol.
pub(crate) fn stand_in_front(
    handle: &LoopHandle,
    parts: Parts,
    demand: &Demand,
    next: impl FnOnce(&LoopHandle, &Transport) + 'static,
) {
    let front = Front {
        timeout: demand.timeout,
        received: Vec::new(),
        size: 0,
        awaited: None,
        next: Some(Box::new(next)),
    };
    Connection::start(handle, parts, Rc::new(RefCell::new(front)));
}

struct Front {
    timeout: Duration,
    /// What has come, and room for what is missing.
    received: Vec<u8>,
    /// How much has come.
    size: usize,
    /// Until there is a header, or a refusal: the connection, and its time.
    awaited: Option<(Transport, TimerHandle)>,
    next: Option<Box<Next>>,
}

/// What follows the header.
type Next = dyn FnOnce(&LoopHandle, &Transport);

impl Front {
    fn look(&mut self) -> Result<(), ProxyError> {
        match Extent::of(&self.received[..self.size])? {
            Extent::Missing(more) => self.received.resize(self.size + more, 0),
            Extent::Whole(size) => {
                let header = ProxyHeader::take_apart(&self.received[..size])?;
                self.agreed(header);
            }
        }
        Ok(())
    }

    fn agreed(&mut self, header: ProxyHeader) {
        let (Some((transport, timer)), Some(next)) = (self.awaited.take(), self.next.take()) else {
            return;
        };
        timer.cancel();
        if let Some(source) = header.source {
            transport.set_real_peer(source);
        }
        if let Some(handle) = transport.core().handle().upgrade() {
            next(&handle, &transport);
        }
    }

    fn refuse(&mut self, error: ProxyError) {
        if let Some((transport, timer)) = self.awaited.take() {
            timer.cancel();
            refuse(&transport, error);
        }
    }
}

impl BufferedProtocol for Front {
    fn connection_made(&mut self, transport: Transport) {
        let Some(handle) = transport.core().handle().upgrade() else {
            return;
        };
        let (late, timeout) = (transport.clone(), self.timeout);
        let timer = handle.call_later(timeout, move || {
            refuse(&late, ProxyError::TimedOut(timeout));
        });
        self.awaited = Some((transport, timer));
    }

    fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
        if self.received.is_empty() {
            // Nothing has come, so nothing can be wrong with it.
            let _ = self.look();
        }
        &mut self.received[self.size..]
    }

    fn buffer_updated(&mut self, nbytes: usize) {
        self.size += nbytes;
        if let Err(error) = self.look() {
            self.refuse(error);
        }
    }

    fn eof_received(&mut self) -> bool {
        let received = self.size;
        // Who never said a word only wanted to know whether somebody listens, and gets an answer:
        // our end.
        if received > 0 {
            self.refuse(ProxyError::CutOff { received });
        }
        false
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        if let Some((transport, timer)) = self.awaited.take() {
            timer.cancel();
            let peer = transport.core().peer_name();
            let is_idle = transport.core().reason() == Some(CloseReason::IdleTimeout);
            match exc {
                // As good as a refusal, only that another of our limits was shorter.
                Some(error) if is_idle && self.size > 0 => {
                    report(&transport, again(&error).into());
                }
                Some(error) => log::debug!("{peer}: no PROXY header: {error}"),
                None => log::debug!("{peer}: no PROXY header"),
            }
        }
    }
}

/// Ends the connection at once: whoever sends something else may be told nothing that it
/// understands.
fn refuse(transport: &Transport, error: ProxyError) {
    transport.abort();
    report(transport, error);
}

fn report(transport: &Transport, error: ProxyError) {
    let context = ExceptionContext::new("PROXY protocol").error(error);
    let context = context.subject(transport.core().peer_name().clone());
    transport.core().handle().report_soon(context);
}
