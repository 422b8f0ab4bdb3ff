//! What became of a task that has no output.
//!
//! Owns: [`TaskError`]. Why: a task and a waiter both report it, and stand on it rather than on
//! each other. Invariants: none, it is plain data. asyncio's counterpart: `CancelledError`, and
//! whatever else a task raised.

use std::error::Error;
use std::fmt;
use std::io;

use crate::event_loop::{NoRunningLoop, PanicError};

/// Why a task has no output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// It was cancelled, or its loop ended first. Mirrors `asyncio.CancelledError`.
    Cancelled,
    /// Its future panicked.
    Panicked(PanicError),
    /// The task was awaited outside its loop. It goes on, and can be awaited again.
    NoRunningLoop,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Panicked(error) => write!(f, "the task {error}"),
            Self::NoRunningLoop => NoRunningLoop.fmt(f),
        }
    }
}

impl Error for TaskError {}

impl From<NoRunningLoop> for TaskError {
    fn from(_: NoRunningLoop) -> Self {
        Self::NoRunningLoop
    }
}

impl From<TaskError> for io::Error {
    fn from(error: TaskError) -> Self {
        Self::other(error)
    }
}
