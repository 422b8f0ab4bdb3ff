//! A connection in memory: two streams without a system between them.
//!
//! Owns: [`wire`]. Why: a unit test wants a peer, and neither a port nor a world. Invariants: what a
//! socket does, an end does: it takes as many bytes as there is room for, gives them before the end or
//! the error that follows them, and tells an error once; whoever may get on is told so by the loop, as
//! by an edge-triggered poller; an end knows the other one by its id only, so neither keeps the other.
//! asyncio's counterpart: `socket.socketpair`, which its tests use.

use std::io;
use std::mem;
use std::rc::Rc;

use crate::event_loop::cells::Shared;
use crate::event_loop::{LoopHandle, WeakHandle};
use crate::sansio::byte_queue::ByteQueue;
use crate::sys::{Address, Readiness, SourceId, Stream, UnixAddress};

/// Two streams: what is written to one is read from the other, of which so many bytes at most are
/// under way. The sources of these ids are told when they may get on.
pub(super) fn wire(handle: &LoopHandle, ids: [SourceId; 2], buffer: usize) -> [Box<dyn Stream>; 2] {
    let wire = Rc::new(Wire {
        handle: handle.downgrade(),
        buffer,
        ends: Shared::new(ids.map(End::new)),
    });
    [0, 1].map(|here| {
        let wire = Rc::clone(&wire);
        Box::new(WireStream { wire, here }) as Box<dyn Stream>
    })
}

struct Wire {
    handle: WeakHandle,
    buffer: usize,
    ends: Shared<[End; 2]>,
}

struct End {
    /// Who hears of it.
    id: SourceId,
    life: Life,
    /// What has come and was not read yet.
    received: ByteQueue,
    /// The other end sends no more.
    ended: bool,
    /// A write from here has found too little room.
    blocked: bool,
    /// Not told yet.
    error: Option<i32>,
}

/// How an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// The other end has thrown away what was sent from here.
    Reset,
    /// Its owner has closed it.
    Closed,
}

impl Wire {
    /// Has `take` look at the next bytes, at most `room` of them. How many; none is the end.
    fn read(&self, here: usize, room: usize, take: impl FnOnce(&[u8])) -> io::Result<usize> {
        self.ends.with(|ends| {
            let [end, other] = seen_from(here, ends);
            if end.received.is_empty() {
                end.take_error()?;
                return match end.ended || end.life == Life::Reset {
                    true => Ok(0),
                    false => Err(io::ErrorKind::WouldBlock.into()),
                };
            }
            let count = room.min(end.received.len());
            take(&end.received.as_slice()[..count]);
            end.received.discard(count);
            if mem::take(&mut other.blocked) {
                self.tell(other, Readiness::WRITE);
            }
            Ok(count)
        })
    }

    /// Takes as many bytes as there is room for.
    fn write(&self, here: usize, bytes: &[u8]) -> io::Result<usize> {
        self.ends.with(|ends| {
            let [end, other] = seen_from(here, ends);
            end.take_error()?;
            // Ended by us, or by the other end, or both.
            if other.ended || other.life == Life::Closed || end.life == Life::Reset {
                return Err(io::Error::from_raw_os_error(libc::EPIPE));
            }
            let count = bytes.len().min(self.buffer - other.received.len());
            end.blocked = count < bytes.len();
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            other.received.extend(&bytes[..count]);
            self.tell(other, Readiness::READ);
            Ok(count)
        })
    }

    /// Sends no more from here.
    fn finish(&self, here: usize) -> io::Result<()> {
        self.ends.with(|ends| {
            let [end, other] = seen_from(here, ends);
            if end.life == Life::Reset {
                return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
            }
            if !mem::replace(&mut other.ended, true) {
                self.tell(other, Readiness::READ | Readiness::BEYOND);
            }
            Ok(())
        })
    }

    /// The owner has closed this end. Something unread that is thrown away resets the connection.
    fn close(&self, here: usize) {
        self.ends.with(|ends| {
            let [end, other] = seen_from(here, ends);
            end.life = Life::Closed;
            let received = mem::take(&mut end.received);
            let is_reset = !received.is_empty() && other.life == Life::Open;
            if is_reset {
                other.life = Life::Reset;
                other.error = Some(libc::ECONNRESET);
            }
            other.ended = true;
            // Also who waits for room: there will be none.
            let both = Readiness::READ | Readiness::WRITE | Readiness::BEYOND;
            self.tell(other, both | Readiness::ERROR.when(is_reset));
        });
    }

    fn tell(&self, end: &End, readiness: Readiness) {
        if end.life != Life::Closed {
            self.handle.agenda().tell(end.id, readiness);
        }
    }
}

impl End {
    fn new(id: SourceId) -> Self {
        Self {
            id,
            life: Life::Open,
            received: ByteQueue::default(),
            ended: false,
            blocked: false,
            error: None,
        }
    }

    fn take_error(&mut self) -> io::Result<()> {
        match self.error.take() {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Ok(()),
        }
    }
}

/// This end, and the other one.
fn seen_from(here: usize, [first, second]: &mut [End; 2]) -> [&mut End; 2] {
    match here {
        0 => [first, second],
        _ => [second, first],
    }
}

struct WireStream {
    wire: Rc<Wire>,
    here: usize,
}

impl Stream for WireStream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.read(self.here, buffer.len(), |bytes| {
            buffer[..bytes.len()].copy_from_slice(bytes);
        })
    }

    fn read_behind(&self, storage: &mut Vec<u8>) -> io::Result<usize> {
        let room = storage.capacity() - storage.len();
        self.wire
            .read(self.here, room, |bytes| storage.extend_from_slice(bytes))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.write(self.here, bytes)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.wire.finish(self.here)
    }

    fn finish_connect(&self) -> io::Result<Option<Address>> {
        self.local_address().map(Some)
    }

    fn take_error(&self) -> io::Result<()> {
        self.wire
            .ends
            .with(|ends| seen_from(self.here, ends)[0].take_error())
    }

    /// That of either end, as with a pair of unix sockets.
    fn local_address(&self) -> io::Result<Address> {
        Ok(UnixAddress::Unnamed.into())
    }

    fn short_read_drains(&self) -> bool {
        true
    }
}

impl Drop for WireStream {
    fn drop(&mut self) {
        self.wire.close(self.here);
    }
}
