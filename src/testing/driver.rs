//! The simulated driver: a host's view of the world.
//!
//! Owns: [`SimDriver`], and the streams and listeners that it makes. Why: the loop, the transports
//! and the streams above it are the real ones; only what is under the seam is not. Invariants: it
//! never sleeps: a poll that would is remembered, and whoever drives the loops lets time pass; the
//! world is borrowed for our own code only. asyncio's counterpart: none.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event_loop::cells::Shared;
use crate::sys::{
    Address, ConnectFailure, Driver, Event, Job, ListenOptions, Listener, Readiness, Refused,
    SourceId, Stream, Wakeup, Watch, invalid_input,
};
use crate::testing::ids::{HostId, ListeningId, SocketId};
use crate::testing::world::World;

/// The driver of one host's loop.
pub(super) struct SimDriver {
    world: Rc<Shared<World>>,
    host: HostId,
    begin: Instant,
}

impl SimDriver {
    pub(super) fn new(world: &Rc<Shared<World>>, host: HostId) -> Self {
        Self {
            world: Rc::clone(world),
            host,
            begin: world.with(|world| world.begin),
        }
    }

    fn stream(&self, id: SocketId) -> Box<dyn Stream> {
        Box::new(SimStream {
            world: Rc::clone(&self.world),
            id,
        })
    }
}

impl Driver for SimDriver {
    fn now(&self) -> Instant {
        self.begin + self.world.with(|world| world.clock(self.host))
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        match self
            .world
            .with(|world| world.poll(self.host, events, timeout))
        {
            true => Ok(()),
            false => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    fn waker(&self) -> Arc<dyn Wakeup> {
        Arc::new(NeverAsleep)
    }

    fn connect(&mut self, id: SourceId, to: &Address) -> io::Result<Box<dyn Stream>> {
        let connected = self.world.with(|world| match to {
            Address::Inet(to) => match world.connect(self.host, id, None, *to) {
                Ok(socket) => Ok(socket),
                Err(ConnectFailure::Bind(error) | ConnectFailure::Connect(error)) => Err(error),
            },
            Address::Unix(to) => world.connect_unix(self.host, id, to),
        });
        Ok(self.stream(connected?))
    }

    fn connect_from(
        &mut self,
        id: SourceId,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Box<dyn Stream>, ConnectFailure> {
        let connected = self
            .world
            .with(|world| world.connect(self.host, id, Some(from), to));
        Ok(self.stream(connected?))
    }

    fn bind(
        &mut self,
        id: SourceId,
        at: &Address,
        how: &ListenOptions,
    ) -> io::Result<Box<dyn Listener>> {
        let bound = self
            .world
            .with(|world| world.bind(self.host, id, at, how))?;
        Ok(Box::new(SimListener {
            world: Rc::clone(&self.world),
            id: bound,
        }))
    }

    fn adopt_stream(&mut self, _: SourceId, _: OwnedFd) -> io::Result<Box<dyn Stream>> {
        Err(no_descriptors())
    }

    fn release(&mut self, _: Box<dyn Stream>) -> io::Result<OwnedFd> {
        Err(no_descriptors())
    }

    fn adopt_listener(&mut self, _: SourceId, _: OwnedFd, _: u32) -> io::Result<Box<dyn Listener>> {
        Err(no_descriptors())
    }

    fn watch(&mut self, _: SourceId, _: RawFd, _: Readiness) -> io::Result<Box<dyn Watch>> {
        Err(no_descriptors())
    }

    fn signal(&mut self, number: i32) -> io::Result<()> {
        if !(1..=64).contains(&number) || [libc::SIGKILL, libc::SIGSTOP].contains(&number) {
            return Err(invalid_input(format!("signal {number} cannot be caught")));
        }
        self.world
            .with(|world| world.host(self.host).wanted_signals.insert(number));
        Ok(())
    }

    fn forget_signal(&mut self, number: i32) {
        self.world
            .with(|world| world.host(self.host).wanted_signals.remove(&number));
    }

    fn blocking(&mut self, job: Job) -> Result<(), Refused> {
        self.world.with(|world| world.add_job(self.host, job));
        Ok(())
    }

    fn end_blocking(&mut self) -> VecDeque<Job> {
        self.world.with(|world| world.end_jobs(self.host))
    }
}

/// A loop whose polls return at once need not be woken: whoever drives it asks for messages.
struct NeverAsleep;

impl Wakeup for NeverAsleep {
    fn wake(&self) {}
}

struct SimStream {
    world: Rc<Shared<World>>,
    id: SocketId,
}

impl Stream for SimStream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.world.with(|world| world.read(self.id, buffer.len()))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn read_behind(&self, storage: &mut Vec<u8>) -> io::Result<usize> {
        let room = storage.capacity() - storage.len();
        let bytes = self.world.with(|world| world.read(self.id, room))?;
        storage.extend_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.world.with(|world| world.write(self.id, bytes))
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.world.with(|world| world.finish(self.id))
    }

    fn finish_connect(&self) -> io::Result<Option<Address>> {
        self.world.with(|world| world.finish_connect(self.id))
    }

    fn take_error(&self) -> io::Result<()> {
        self.world.with(|world| world.observe_error(self.id))
    }

    fn local_address(&self) -> io::Result<Address> {
        self.world.with(|world| match world.sockets.get(&self.id) {
            Some(socket) => Ok(socket.local.clone()),
            None => Err(io::ErrorKind::NotConnected.into()),
        })
    }

    fn short_read_drains(&self) -> bool {
        // As with real ones: see `World::read`, which announces what it has held back.
        self.world.with(|world| {
            world
                .sockets
                .get(&self.id)
                .is_some_and(|socket| !socket.is_unix())
        })
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.world.with(|world| world.close(self.id));
    }
}

struct SimListener {
    world: Rc<Shared<World>>,
    id: ListeningId,
}

impl Listener for SimListener {
    fn listen(&self) -> io::Result<()> {
        self.world.with(|world| world.listen(self.id))
    }

    fn accept(&self, id: SourceId) -> io::Result<(Box<dyn Stream>, Address)> {
        let (socket, peer) = self.world.with(|world| world.accept(self.id, id))?;
        let stream = SimStream {
            world: Rc::clone(&self.world),
            id: socket,
        };
        Ok((Box::new(stream), peer))
    }

    fn local_address(&self) -> io::Result<Address> {
        self.world
            .with(|world| match world.listeners.get(&self.id) {
                Some(listening) => Ok(listening.address.clone()),
                None => Err(io::ErrorKind::NotFound.into()),
            })
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.world.with(|world| world.close_listener(self.id));
    }
}

fn no_descriptors() -> io::Error {
    let why = "a simulated host has no descriptors of the system";
    io::Error::new(io::ErrorKind::Unsupported, why)
}
