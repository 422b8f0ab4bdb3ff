//! Why a call of a protocol came to nothing.
//!
//! Owns: [`Fault`]. Why: it is the error of a connection that its own protocol has ended, and is
//! recognised by whoever asks for the reason. Invariants: it says which rule was broken. asyncio's
//! counterpart: the exception that `_fatal_error` is given.

use std::error::Error;
use std::fmt;

use crate::event_loop::PanicError;

/// Why a call of a protocol came to nothing.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Panic(PanicError),
    Borrowed,
    EmptyBuffer,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(error) => error.fmt(f),
            Self::Borrowed => f.write_str(
                "the protocol was borrowed when the loop had to call it: borrow it for a moment, \
                 never over an await",
            ),
            Self::EmptyBuffer => f.write_str(EMPTY_BUFFER),
        }
    }
}

impl Error for Fault {}

/// What is wrong with a buffer that takes nothing.
pub(super) const EMPTY_BUFFER: &str = "get_buffer() returned an empty buffer";
