//! A driver whose polls are a function of the test's.
//!
//! Owns: [`Scripted`]. Why: what a test wants to decide is what a poll says and how it sleeps, and
//! all else of a driver is in its way. Invariants: no socket, no poller, a clock that stands still;
//! in no build of the library. asyncio's counterpart: the `TestLoop` of its own tests.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sys::address::Address;
use crate::sys::driver::{
    ConnectFailure, Driver, Event, ListenOptions, Listener, SourceId, Stream, Wakeup, Watch,
};
use crate::sys::pool::{Job, Refused};
use crate::sys::readiness::Readiness;

pub(crate) struct Scripted<F> {
    poll: F,
    wakeup: Arc<dyn Wakeup>,
    now: Instant,
}

impl<F> Scripted<F>
where
    F: FnMut(&mut Vec<Event>, Option<Duration>) -> io::Result<()>,
{
    /// Its polls are calls of `poll`; other threads get `wakeup`.
    pub(crate) fn new(poll: F, wakeup: Arc<dyn Wakeup>) -> Self {
        let now = Instant::now();
        Self { poll, wakeup, now }
    }
}

impl<F> Driver for Scripted<F>
where
    F: FnMut(&mut Vec<Event>, Option<Duration>) -> io::Result<()>,
{
    fn now(&self) -> Instant {
        self.now
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        (self.poll)(events, timeout)
    }

    fn waker(&self) -> Arc<dyn Wakeup> {
        Arc::clone(&self.wakeup)
    }

    fn connect(&mut self, _: SourceId, _: &Address) -> io::Result<Box<dyn Stream>> {
        Err(unsupported())
    }

    fn connect_from(
        &mut self,
        _: SourceId,
        _: SocketAddr,
        _: SocketAddr,
    ) -> Result<Box<dyn Stream>, ConnectFailure> {
        Err(ConnectFailure::Connect(unsupported()))
    }

    fn bind(
        &mut self,
        _: SourceId,
        _: &Address,
        _: &ListenOptions,
    ) -> io::Result<Box<dyn Listener>> {
        Err(unsupported())
    }

    fn adopt_stream(&mut self, _: SourceId, _: OwnedFd) -> io::Result<Box<dyn Stream>> {
        Err(unsupported())
    }

    fn release(&mut self, _: Box<dyn Stream>) -> io::Result<OwnedFd> {
        Err(unsupported())
    }

    fn adopt_listener(&mut self, _: SourceId, _: OwnedFd, _: u32) -> io::Result<Box<dyn Listener>> {
        Err(unsupported())
    }

    fn watch(&mut self, _: SourceId, _: RawFd, _: Readiness) -> io::Result<Box<dyn Watch>> {
        Err(unsupported())
    }

    fn signal(&mut self, _: i32) -> io::Result<()> {
        Err(unsupported())
    }

    fn forget_signal(&mut self, _: i32) {}

    fn blocking(&mut self, job: Job) -> Result<(), Refused> {
        let error = unsupported();
        Err(Refused { job, error })
    }

    fn end_blocking(&mut self) -> VecDeque<Job> {
        VecDeque::new()
    }
}

fn unsupported() -> io::Error {
    io::ErrorKind::Unsupported.into()
}
