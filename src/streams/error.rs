//! What a read reports.
//!
//! Owns: the stream errors. Why: whoever reads by a rule needs the numbers when the rule is
//! broken. Invariants: bytes are in the error or still in the buffer, never lost. asyncio's
//! counterpart: `IncompleteReadError`, `LimitOverrunError`.

use std::error::Error;
use std::fmt;
use std::io;

/// The stream ended before the read was complete. Mirrors `asyncio.IncompleteReadError`.
///
/// As an `io::Error` it is `UnexpectedEof`, and can be downcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncompleteReadError {
    /// What there was until the end; it has left the buffer.
    pub partial: Vec<u8>,
    /// How many bytes were asked for; `None` when it was a separator.
    pub expected: Option<usize>,
}

impl fmt::Display for IncompleteReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes read on a total of ", self.partial.len())?;
        match self.expected {
            Some(expected) => write!(f, "{expected} expected bytes"),
            None => f.write_str("undefined expected bytes"),
        }
    }
}

impl Error for IncompleteReadError {}

impl From<IncompleteReadError> for io::Error {
    fn from(error: IncompleteReadError) -> Self {
        Self::new(io::ErrorKind::UnexpectedEof, error)
    }
}

/// The limit was reached before the read was complete. The buffer is untouched: go on with
/// `readexactly(consumed)`, `read`, or [`skip_line`](crate::StreamReader::skip_line). Mirrors
/// `asyncio.LimitOverrunError`.
///
/// As an `io::Error` it is `InvalidData`, and can be downcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitOverrunError {
    /// How many bytes stand before the separator, or cannot be the beginning of it.
    pub consumed: usize,
    /// The limit, in bytes.
    pub limit: usize,
    /// Whether the separator is there, behind a chunk that is too long.
    pub found: bool,
}

impl fmt::Display for LimitOverrunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.found {
            "Separator is found, but chunk is longer than limit"
        } else {
            "Separator is not found, and chunk exceed the limit"
        })?;
        write!(f, " ({} bytes, limit {})", self.consumed, self.limit)
    }
}

impl Error for LimitOverrunError {}

impl From<LimitOverrunError> for io::Error {
    fn from(error: LimitOverrunError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Why a read by a rule came to nothing.
///
/// `?` turns it into an `io::Error`, from which the fields can still be had:
///
/// ```
/// use evloop::{IncompleteReadError, StreamReader};
///
/// async fn header(reader: &mut StreamReader) -> std::io::Result<Vec<u8>> {
///     Ok(reader.readexactly(16).await?)
/// }
///
/// evloop::run(async {
///     let mut reader = StreamReader::new();
///     reader.feed_data(b"abc").unwrap();
///     reader.feed_eof();
///     let error = header(&mut reader).await.unwrap_err();
///     assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
///     let error = error.downcast::<IncompleteReadError>().unwrap();
///     assert_eq!((error.partial.as_slice(), error.expected), (&b"abc"[..], Some(16)));
/// })
/// .unwrap();
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream ended first.
    Incomplete(IncompleteReadError),
    /// The limit was reached first.
    LimitOverrun(LimitOverrunError),
    /// The connection is broken, or the read was asked for wrongly.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(error) => error.fmt(f),
            Self::LimitOverrun(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Incomplete(_) | Self::LimitOverrun(_) => None,
            Self::Io(error) => Some(error),
        }
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Incomplete(error) => error.into(),
            ReadError::LimitOverrun(error) => error.into(),
            ReadError::Io(error) => error,
        }
    }
}

impl From<IncompleteReadError> for ReadError {
    fn from(error: IncompleteReadError) -> Self {
        Self::Incomplete(error)
    }
}

impl From<LimitOverrunError> for ReadError {
    fn from(error: LimitOverrunError) -> Self {
        Self::LimitOverrun(error)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Something was fed to a reader that cannot take it. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedError {
    /// `feed_data` after `feed_eof`.
    AfterEof,
    /// `set_transport` for the second time.
    TransportAlreadySet,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfterEof => "feed_data after feed_eof",
            Self::TransportAlreadySet => "Transport already set",
        })
    }
}

impl Error for FeedError {}

impl From<FeedError> for io::Error {
    fn from(error: FeedError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}
