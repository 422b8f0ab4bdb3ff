//! Why there is no header.
//!
//! Owns: [`ProxyError`]. Why: a proxy that is set up wrongly, a stranger who comes past it, and a
//! connection that breaks are told apart. Invariants: its text is one line, whatever the peer has
//! sent. asyncio's counterpart: none.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// Why no header of the PROXY protocol was read.
///
/// ```
/// use evloop::{ProxyError, ProxyHeader};
///
/// let error = ProxyHeader::parse(b"GET / HTTP/1.1\r\n").unwrap_err();
/// assert!(matches!(error, ProxyError::Malformed(_)));
/// assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidData);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// What came is no header, and why not. As an `io::Error` it is `InvalidData`.
    Malformed(String),
    /// It is longer than this many bytes, or says that it will be. As an `io::Error` it is
    /// `InvalidData`.
    TooLong {
        /// In bytes.
        limit: usize,
    },
    /// The connection ended before the header did. As an `io::Error` it is `UnexpectedEof`.
    CutOff {
        /// How many bytes of it there were.
        received: usize,
    },
    /// It was not complete after so long. As an `io::Error` it is `TimedOut`.
    TimedOut(Duration),
    /// The connection is broken.
    Io(io::Error),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "malformed PROXY header: {why}"),
            Self::TooLong { limit } => write!(f, "a PROXY header of more than {limit} bytes"),
            Self::CutOff { received } => write!(
                f,
                "the connection ended after {received} bytes of a PROXY header"
            ),
            Self::TimedOut(timeout) => write!(f, "no complete PROXY header within {timeout:?}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for ProxyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ProxyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ProxyError> for io::Error {
    fn from(error: ProxyError) -> Self {
        let kind = match error {
            ProxyError::Io(error) => return error,
            ProxyError::Malformed(_) | ProxyError::TooLong { .. } => io::ErrorKind::InvalidData,
            ProxyError::CutOff { .. } => io::ErrorKind::UnexpectedEof,
            ProxyError::TimedOut(_) => io::ErrorKind::TimedOut,
        };
        Self::new(kind, error)
    }
}
