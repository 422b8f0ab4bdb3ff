//! A connected socket on its way to a transport.
//!
//! Owns: [`Connected`]. Why: whatever kind of socket it is, and whoever connected it, from here on
//! it is the same. Invariants: dropped at any point, nothing is left; the protocol is made after
//! the connection is there; `connection_made` comes before the caller goes on. asyncio's
//! counterpart: `_create_connection_transport`.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use crate::endpoints::reserved::Reserved;
use crate::event_loop::LoopHandle;
use crate::sys::{Address, Readiness, Stream};
use crate::tls::{Prepared, stack};
use crate::transports::{CloseOnDrop, Connection, Parts, Policies, Protocol, Transport, again};

/// A connected socket with its place in the loop's table.
pub(crate) struct Connected {
    pub(crate) place: Reserved,
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) peer: Address,
    pub(crate) ready: Readiness,
}

impl Connected {
    /// Takes a socket that somebody else has connected.
    pub(crate) fn adopt(handle: &LoopHandle, socket: OwnedFd) -> io::Result<Self> {
        let mut place = Reserved::new(handle);
        place.has_socket();
        handle.take_over(socket.as_raw_fd());
        let stream = handle.driver(|driver| driver.adopt_stream(place.id(), socket))?;
        let peer = stream
            .finish_connect()?
            .ok_or(io::ErrorKind::NotConnected)?;
        Ok(Self {
            place,
            stream,
            peer,
            // What it is ready for, an event will tell. To try to write does no harm.
            ready: Readiness::WRITE,
        })
    }

    /// Makes the protocol and the transport, and waits for `connection_made`, before it for a
    /// handshake if there is to be one.
    pub(crate) async fn introduce<P: Protocol>(
        self,
        handle: &LoopHandle,
        tls: Option<Prepared>,
        factory: impl FnOnce() -> P,
    ) -> io::Result<(Transport, Rc<RefCell<P>>)> {
        let protocol = Rc::new(RefCell::new(factory()));
        let made = handle.create_future();
        let (parts, erased) = (self.into_parts(), Rc::clone(&protocol) as _);
        let transport = match tls {
            Some(tls) => stack(handle, parts, tls, erased, Some(made.clone()), None),
            None => {
                let transport = Connection::start(handle, parts, erased);
                // What was queued for the connection comes first; what it queues comes first, too.
                let setter = made.clone();
                drop(handle.call_soon(move || {
                    // Nobody else sets it.
                    let _ = setter.set_result(Ok(()));
                }));
                transport
            }
        };
        let guard = CloseOnDrop::new(&transport);
        made.await?.map_err(|error| again(&error))?;
        guard.disarm();
        Ok((transport, protocol))
    }

    fn into_parts(self) -> Parts {
        Parts {
            id: self.place.keep(),
            stream: self.stream,
            peer: self.peer,
            known: None,
            ready: self.ready,
            owner: None,
            policies: Policies::default(),
        }
    }
}
