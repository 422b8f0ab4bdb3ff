//! A socket that is bound, before it is a server's.
//!
//! Owns: [`Bound`]. Why: a server has all of its sockets or none, so each is made first and handed
//! over when the last one is there. Invariants: one that is dropped leaves nothing behind. asyncio's
//! counterpart: the list of sockets in `create_server`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use crate::endpoints::listening::Listening;
use crate::endpoints::reserved::Reserved;
use crate::event_loop::{LoopHandle, Source};
use crate::sys::{Address, ListenOptions, Listener};

/// A bound socket with its place in the loop's table.
pub(crate) struct Bound {
    place: Reserved,
    listener: Box<dyn Listener>,
    address: Address,
    listens: bool,
}

impl Bound {
    pub(crate) fn new(
        handle: &LoopHandle,
        address: &Address,
        options: &ListenOptions,
    ) -> io::Result<Self> {
        let mut place = Reserved::new(handle);
        let listener = handle.driver(|driver| driver.bind(place.id(), address, options))?;
        place.has_socket();
        Self::at(place, listener)
    }

    /// Takes a socket that was bound elsewhere.
    pub(crate) fn adopt(
        handle: &LoopHandle,
        socket: OwnedFd,
        options: &ListenOptions,
    ) -> io::Result<Self> {
        let (mut place, backlog) = (Reserved::new(handle), options.backlog);
        place.has_socket();
        handle.take_over(socket.as_raw_fd());
        let listener =
            handle.driver(|driver| driver.adopt_listener(place.id(), socket, backlog))?;
        Self::at(place, listener)
    }

    fn at(place: Reserved, listener: Box<dyn Listener>) -> io::Result<Self> {
        Ok(Self {
            address: listener.local_address()?,
            place,
            listener,
            listens: false,
        })
    }

    /// Has it listen before it is a server's: who connects waits in the kernel until it is.
    pub(crate) fn listen(&mut self) -> io::Result<()> {
        self.listener.listen()?;
        self.listens = true;
        Ok(())
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Gives it its place.
    pub(crate) fn into_listening(self, handle: &LoopHandle) -> Rc<Listening> {
        let id = self.place.keep();
        let listening = Listening::new(id, self.listener, self.address, self.listens);
        handle.insert(id, Rc::clone(&listening) as Rc<dyn Source>);
        listening
    }
}
