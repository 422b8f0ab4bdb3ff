//! How a simulation can fail.
//!
//! Owns: [`SimulationError`], and what [`Standstill`] says of who waits. Why: "it hangs" is no
//! answer; who waits for what is. Invariants: none. asyncio's counterpart: none.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::sys::Address;

/// Why a simulation has not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimulationError {
    /// Everybody waits, and nothing is under way that could wake anybody.
    Deadlock(Standstill),
    /// The [time limit](crate::testing::Simulation::set_time_limit) was reached.
    TimeLimit(Standstill),
    /// A million turns have gone by in which hosts had something to do without a pause.
    Livelock(Standstill),
    /// Everybody waited and nothing was under way, but polling this task again has set something in
    /// motion: its wait was over, and nobody had woken it.
    LostWakeUp {
        /// Its host.
        host: String,
        /// The task, by the function of its future.
        task: String,
    },
    /// The loop was [stopped](crate::LoopHandle::stop).
    Stopped,
    /// Something that nobody waits for has panicked: a callback, a protocol, or a task whose result
    /// nobody takes.
    Panicked {
        /// The host on which it did.
        host: String,
        /// What was reported.
        message: String,
    },
}

/// The state of a simulation that does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standstill {
    /// How long the simulation had run, in its own time.
    pub after: Duration,
    /// Who waits for what.
    pub waiting: Vec<Waiting>,
    /// The connections that there are.
    pub sockets: Vec<OpenSocket>,
    /// Hosts that cannot reach each other, with the number of packets that wait for that to end.
    pub partitions: Vec<(String, String, usize)>,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenSocket {
    /// Its host.
    pub host: String,
    /// Its address.
    pub local: Address,
    /// The address of the other end.
    pub remote: Address,
    /// How many bytes have come that its owner has not read.
    pub unread: usize,
    /// Whether its owner has found no room to write, and waits for some.
    pub blocked: bool,
}

/// A task that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// Its host.
    pub host: String,
    /// The task, by the function of its future.
    pub task: String,
    /// What it waits for: several things, if it waits for the first of them. Empty if it waits for
    /// something that this crate does not know.
    pub waits_for: Vec<String>,
}

impl fmt::Display for SimulationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock(standstill) => {
                write!(
                    f,
                    "deadlock: everybody waits and nothing is under way, {standstill}"
                )
            }
            Self::TimeLimit(standstill) => write!(f, "the time limit was reached, {standstill}"),
            Self::Livelock(standstill) => {
                write!(f, "livelock: a million turns without a pause, {standstill}")
            }
            Self::LostWakeUp { host, task } => {
                write!(
                    f,
                    "on host {host}: the wait of {task} was over, and nobody woke it"
                )
            }
            Self::Stopped => f.write_str("Event loop stopped before Future completed."),
            Self::Panicked { host, message } => write!(f, "on host {host}: {message}"),
        }
    }
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?}", self.after)?;
        for waiting in &self.waiting {
            write!(f, "\n  {waiting}")?;
        }
        for socket in &self.sockets {
            write!(f, "\n  {socket}")?;
        }
        for (one, other, packets) in &self.partitions {
            write!(
                f,
                "\n  {one} and {other} are parted, and {packets} packets wait for that to end"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for OpenSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            local,
            remote,
            unread,
            blocked,
        } = self;
        write!(
            f,
            "{host}: {local} is connected with {remote}, {unread} bytes unread"
        )?;
        if *blocked {
            f.write_str(", no room to write")?;
        }
        Ok(())
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            task,
            waits_for,
        } = self;
        if waits_for.is_empty() {
            write!(f, "{host}: {task} waits for something of its own")
        } else {
            write!(f, "{host}: {task} waits for {}", waits_for.join(", or "))
        }
    }
}

impl Error for SimulationError {}

impl From<SimulationError> for io::Error {
    fn from(error: SimulationError) -> Self {
        let kind = match error {
            SimulationError::Deadlock(_) => io::ErrorKind::Deadlock,
            SimulationError::TimeLimit(_) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
