//! Which processor is whose.

use std::io;
use std::thread;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The servers' processor and the load's.
#[derive(Clone, Copy)]
pub struct Processors {
    pub server: usize,
    pub load: usize,
    /// All that this process was given.
    allowed: CpuSet,
}

impl Processors {
    /// The first and the last one that this process may use.
    pub fn find() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let server = cores.next().unwrap_or(0);
        let load = cores.next_back().unwrap_or(server);
        Ok(Self {
            server,
            load,
            allowed,
        })
    }

    /// Makes this thread the load's, on a processor that no server has.
    pub fn pin_load(&self) -> io::Result<()> {
        if self.load == self.server {
            return Err(io::Error::other(
                "servers and load need a processor each, and there is one only",
            ));
        }
        Self::pin(self.load)
    }

    /// Makes this thread run on one processor.
    pub fn pin(core: usize) -> io::Result<()> {
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only)?;
        thread::yield_now();
        Ok(())
    }

    /// Makes this thread, and what it starts, run anywhere again.
    pub fn unpin(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.allowed)?)
    }
}

/// Descriptors that this process may have open, after the soft limit was raised.
pub fn descriptors() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        })
}
