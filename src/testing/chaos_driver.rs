//! The real driver, at its worst.
//!
//! Owns: [`ChaosDriver`]. Why: the loop trusts nothing of a driver but what the seam's page says, and
//! here is one that keeps to that page and to nothing else. Invariants: sockets, descriptors and time
//! are the system's; what its poller told is told in the end. asyncio's counterpart: none.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event_loop::cells::Shared;
use crate::sys::{
    Address, ConnectFailure, Driver, Event, Job, ListenOptions, Listener, MioDriver, Readiness,
    Refused, SourceId, Stream, Wakeup, Watch,
};
use crate::testing::chaos::Chaos;
use crate::testing::chaos_socket::{ChaosListener, ChaosStream, ChaosWatch};
use crate::testing::mischief::{Mischief, Plan};

pub(super) struct ChaosDriver {
    real: MioDriver,
    mischief: Rc<Shared<Mischief>>,
    /// What the poller has found, kept so that polling does not allocate.
    found: Vec<Event>,
}

impl ChaosDriver {
    pub(super) fn new(real: MioDriver, chaos: &Chaos, seed: u64) -> Self {
        Self {
            real,
            mischief: Rc::new(Shared::new(Mischief::new(chaos.of_seed(seed), seed))),
            found: Vec::new(),
        }
    }

    fn connecting(&self, id: SourceId, stream: Box<dyn Stream>) -> Box<dyn Stream> {
        Box::new(ChaosStream::connecting(id, stream, &self.mischief))
    }

    fn listener(&self, id: SourceId, listener: Box<dyn Listener>) -> Box<dyn Listener> {
        Box::new(ChaosListener::new(id, listener, &self.mischief))
    }
}

impl Driver for ChaosDriver {
    fn now(&self) -> Instant {
        self.real.now()
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let Plan::Poll(timeout) = self.mischief.with(|mischief| mischief.plan(timeout)) else {
            return Err(io::ErrorKind::Interrupted.into());
        };
        let outcome = self.real.poll(&mut self.found, timeout);
        let found = self.found.drain(..);
        self.mischief.with(|mischief| mischief.tell(found, events));
        outcome
    }

    fn waker(&self) -> Arc<dyn Wakeup> {
        self.real.waker()
    }

    fn connect(&mut self, id: SourceId, to: &Address) -> io::Result<Box<dyn Stream>> {
        let stream = self.real.connect(id, to)?;
        Ok(self.connecting(id, stream))
    }

    fn connect_from(
        &mut self,
        id: SourceId,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Box<dyn Stream>, ConnectFailure> {
        let stream = self.real.connect_from(id, from, to)?;
        Ok(self.connecting(id, stream))
    }

    fn bind(
        &mut self,
        id: SourceId,
        at: &Address,
        how: &ListenOptions,
    ) -> io::Result<Box<dyn Listener>> {
        let listener = self.real.bind(id, at, how)?;
        Ok(self.listener(id, listener))
    }

    fn adopt_stream(&mut self, id: SourceId, socket: OwnedFd) -> io::Result<Box<dyn Stream>> {
        let stream = self.real.adopt_stream(id, socket)?;
        Ok(Box::new(ChaosStream::connected(id, stream, &self.mischief)))
    }

    fn release(&mut self, stream: Box<dyn Stream>) -> io::Result<OwnedFd> {
        self.real.release(stream)
    }

    fn adopt_listener(
        &mut self,
        id: SourceId,
        socket: OwnedFd,
        backlog: u32,
    ) -> io::Result<Box<dyn Listener>> {
        let listener = self.real.adopt_listener(id, socket, backlog)?;
        Ok(self.listener(id, listener))
    }

    fn watch(&mut self, id: SourceId, fd: RawFd, wanted: Readiness) -> io::Result<Box<dyn Watch>> {
        let watch = self.real.watch(id, fd, wanted)?;
        Ok(Box::new(ChaosWatch::new(id, watch, &self.mischief)))
    }

    fn signal(&mut self, number: i32) -> io::Result<()> {
        self.real.signal(number)
    }

    fn forget_signal(&mut self, number: i32) {
        self.real.forget_signal(number);
    }

    fn blocking(&mut self, job: Job) -> Result<(), Refused> {
        self.real.blocking(job)
    }

    fn end_blocking(&mut self) -> VecDeque<Job> {
        self.real.end_blocking()
    }
}
