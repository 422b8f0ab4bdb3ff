//! Real sockets, at their worst.
//!
//! Owns: [`ChaosStream`], [`ChaosListener`] and [`ChaosWatch`], around those of the real driver. Why:
//! loopback takes and gives everything at once, and hides who relies on it. Invariants: whoever is told
//! less than the system would have told is owed an event, since no edge of the poller's will come; a
//! descriptor of somebody else's is never said to be ready when it is not, since they may block on it.
//! asyncio's counterpart: none.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use crate::event_loop::cells::Shared;
use crate::sys::{Address, Credentials, Listener, Readiness, SourceId, Stream, Watch};
use crate::testing::mischief::{Fate, Luck, Mischief};

pub(super) struct ChaosStream {
    real: Box<dyn Stream>,
    luck: Luck,
    /// Nobody has been told yet that it is connected.
    connecting: Cell<bool>,
    /// Whether the last read, if it was short, has left nothing that no event will tell of.
    drained: Cell<bool>,
}

impl ChaosStream {
    pub(super) fn connecting(
        id: SourceId,
        real: Box<dyn Stream>,
        mischief: &Rc<Shared<Mischief>>,
    ) -> Self {
        let stream = Self::connected(id, real, mischief);
        stream.connecting.set(true);
        stream
    }

    pub(super) fn connected(
        id: SourceId,
        real: Box<dyn Stream>,
        mischief: &Rc<Shared<Mischief>>,
    ) -> Self {
        Self {
            real,
            luck: Luck::new(id, mischief),
            connecting: Cell::new(false),
            drained: Cell::new(true),
        }
    }

    /// Has `read` get at most so many bytes, or fewer.
    fn receive(
        &self,
        size: usize,
        read: impl FnOnce(Option<usize>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let part = match self.luck.of_read(size) {
            Fate::Whole => None,
            Fate::Part(part) => Some(part),
            Fate::Interrupted => return Err(io::ErrorKind::Interrupted.into()),
            Fate::Blocked => {
                // An end may stand there, too, of which the poller has told before.
                self.luck.announce(Readiness::READ | Readiness::BEYOND);
                return Err(io::ErrorKind::WouldBlock.into());
            }
        };
        let count = read(part)?;
        self.drained.set(if part == Some(count) {
            // As if the rest had come a moment later; or as where a short read shows nothing.
            let later = self.luck.toss();
            if later {
                self.luck.announce(Readiness::READ);
            }
            later
        } else {
            self.real.short_read_drains()
        });
        Ok(count)
    }

    /// Has `write` take at most so many bytes, or fewer.
    fn send(
        &self,
        size: usize,
        fate: Fate,
        write: impl FnOnce(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let most = match fate {
            Fate::Whole => size,
            Fate::Part(part) => part,
            Fate::Interrupted => return Err(io::ErrorKind::Interrupted.into()),
            Fate::Blocked => {
                self.luck.announce(Readiness::WRITE);
                return Err(io::ErrorKind::WouldBlock.into());
            }
        };
        let count = write(most)?;
        if most < size && count == most {
            // As if there had been room for that much only, and now there is more.
            self.luck.announce(Readiness::WRITE);
        }
        Ok(count)
    }
}

impl Stream for ChaosStream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer.len(), |part| match part {
            Some(part) => self.real.read(&mut buffer[..part]),
            None => self.real.read(buffer),
        })
    }

    fn read_behind(&self, storage: &mut Vec<u8>) -> io::Result<usize> {
        let room = storage.capacity() - storage.len();
        self.receive(room, |part| match part {
            Some(part) => {
                let mut bytes = vec![0; part];
                let count = self.real.read(&mut bytes)?;
                storage.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            None => self.real.read_behind(storage),
        })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let fate = self.luck.of_write(bytes.len());
        self.send(bytes.len(), fate, |most| self.real.write(&bytes[..most]))
    }

    fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let size = pieces.iter().map(|piece| piece.len()).sum();
        let fate = self.luck.of_write(size);
        self.send(size, fate, |most| {
            self.real.write_vectored(&first(pieces, most))
        })
    }

    fn send_file(&self, file: BorrowedFd<'_>, offset: u64, count: usize) -> io::Result<usize> {
        let fate = match self.luck.of_write(count) {
            // The real one goes on by itself.
            Fate::Interrupted => Fate::Whole,
            fate => fate,
        };
        self.send(count, fate, |most| self.real.send_file(file, offset, most))
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.real.shutdown_write()
    }

    fn finish_connect(&self) -> io::Result<Option<Address>> {
        if self.connecting.get() && matches!(self.luck.of_call(), Fate::Blocked) {
            self.luck.announce(Readiness::WRITE);
            return Ok(None);
        }
        let peer = self.real.finish_connect()?;
        self.connecting.set(peer.is_none());
        Ok(peer)
    }

    fn take_error(&self) -> io::Result<()> {
        self.real.take_error()
    }

    fn local_address(&self) -> io::Result<Address> {
        self.real.local_address()
    }

    fn short_read_drains(&self) -> bool {
        self.drained.get()
    }

    fn peer_credentials(&self) -> Option<Credentials> {
        self.real.peer_credentials()
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.real.descriptor()
    }

    fn into_descriptor(self: Box<Self>) -> Option<OwnedFd> {
        self.real.into_descriptor()
    }
}

pub(super) struct ChaosListener {
    real: Box<dyn Listener>,
    luck: Luck,
    mischief: Rc<Shared<Mischief>>,
}

impl ChaosListener {
    pub(super) fn new(
        id: SourceId,
        real: Box<dyn Listener>,
        mischief: &Rc<Shared<Mischief>>,
    ) -> Self {
        Self {
            real,
            luck: Luck::new(id, mischief),
            mischief: Rc::clone(mischief),
        }
    }
}

impl Listener for ChaosListener {
    fn listen(&self) -> io::Result<()> {
        self.real.listen()
    }

    fn accept(&self, id: SourceId) -> io::Result<(Box<dyn Stream>, Address)> {
        match self.luck.of_call() {
            Fate::Whole | Fate::Part(_) => {}
            Fate::Interrupted => return Err(io::ErrorKind::Interrupted.into()),
            Fate::Blocked => {
                self.luck.announce(Readiness::READ);
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let (stream, peer) = self.real.accept(id)?;
        let stream = ChaosStream::connected(id, stream, &self.mischief);
        Ok((Box::new(stream), peer))
    }

    fn local_address(&self) -> io::Result<Address> {
        self.real.local_address()
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.real.descriptor()
    }
}

/// Somebody else's descriptor: its events come late, and are true when they do.
pub(super) struct ChaosWatch {
    id: SourceId,
    real: Box<dyn Watch>,
    mischief: Rc<Shared<Mischief>>,
}

impl ChaosWatch {
    pub(super) fn new(id: SourceId, real: Box<dyn Watch>, mischief: &Rc<Shared<Mischief>>) -> Self {
        Self {
            id,
            real,
            mischief: Rc::clone(mischief),
        }
    }
}

impl Watch for ChaosWatch {
    fn rearm(&self, wanted: Readiness) -> io::Result<()> {
        // What was to be told may be over; the poller tells of what still is.
        self.mischief.with(|mischief| mischief.forget(self.id));
        self.real.rearm(wanted)
    }

    fn end(&self) {
        self.mischief.with(|mischief| mischief.forget(self.id));
        self.real.end();
    }
}

/// So many bytes of these pieces.
fn first<'a>(pieces: &'a [IoSlice<'_>], most: usize) -> Vec<IoSlice<'a>> {
    let mut left = most;
    let cut = pieces.iter().map(|piece| {
        let now = left.min(piece.len());
        left -= now;
        IoSlice::new(&piece[..now])
    });
    cut.filter(|piece| !piece.is_empty()).collect()
}
