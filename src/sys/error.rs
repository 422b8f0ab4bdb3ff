//! Errors in words of our own.
//!
//! Owns: [`invalid_input`]. Why: every floor refuses arguments, and all of them do it alike.
//! Invariants: none. asyncio's counterpart: `ValueError`.

use std::error::Error;
use std::io;

/// The caller has asked for what cannot be, as this says.
pub(crate) fn invalid_input(why: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
