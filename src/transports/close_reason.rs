//! Why a connection is over, in one word.
//!
//! Owns: [`CloseReason`]. Why: an error says what the system said, and many ends have no error at
//! all; whoever runs a server wants to count them. Invariants: a connection has one reason, the
//! first that ended it, unless that was an end in good order and its handler failed before it was
//! delivered; an end that is our own policy is an error as well, which holds its reason. asyncio's
//! counterpart: none; it has the exception of `connection_lost`, and `None` for everything that is
//! nobody's fault.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::transports::fault::Fault;

/// Why a connection is over.
///
/// A transport is asked with [`ClosedBecause`](crate::ClosedBecause); a report to the exception
/// handler has it as a subject (`context.get::<CloseReason>()`), a
/// [`ShutdownReport`](crate::ShutdownReport) one for each connection. Where `connection_lost` is
/// told an error, [`of`](Self::of) finds the reason in it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// We closed it, and everything was sent: `close()`, or a writer that was dropped.
    Closed,
    /// The peer ended its side, and then we closed ours.
    PeerEof,
    /// The peer reset it, or it broke in another way; the error says how.
    Reset,
    /// No byte came or went for the server's `idle_timeout`.
    IdleTimeout,
    /// The peer took nothing of what was to be sent for the server's `write_timeout`.
    WriteTimeout,
    /// More waited to be sent than the server's `max_write_buffer`.
    WriteBufferFull,
    /// The peer ended the connection without TLS's `close_notify`: somebody may have cut it off.
    Truncated,
    /// What came was no proper TLS, or the peer, or its certificate, was refused, or refused us.
    TlsFailed,
    /// `abort()`.
    Aborted,
    /// A protocol's method panicked, or the protocol was borrowed when it was to be called, or the
    /// callback of a stream server failed; also where it had closed the connection just before.
    HandlerFailed,
    /// The socket was taken out, by `detach()`.
    Detached,
    /// The event loop was closed.
    // The last one: what is counted by reason has room up to it.
    LoopClosed,
}

impl CloseReason {
    /// The reason behind the error of `connection_lost`, of a read or of a drain: the one that it
    /// holds (or that one of its sources is), [`Reset`](Self::Reset) for the system's own,
    /// [`HandlerFailed`](Self::HandlerFailed) for that of a protocol that failed. `None` for any
    /// other error: an end in good order has its reason with the transport only.
    ///
    /// ```
    /// use std::io;
    ///
    /// use evloop::CloseReason;
    ///
    /// // ECONNRESET on Linux.
    /// let reset = io::Error::from_raw_os_error(104);
    /// assert_eq!(CloseReason::of(&reset), Some(CloseReason::Reset));
    /// let idle = io::Error::new(io::ErrorKind::TimedOut, CloseReason::IdleTimeout);
    /// assert_eq!(CloseReason::of(&idle), Some(CloseReason::IdleTimeout));
    /// ```
    pub fn of(error: &io::Error) -> Option<Self> {
        let Some(inner) = error.get_ref() else {
            return error.raw_os_error().map(|_| Self::Reset);
        };
        // What is reported more than once is shared.
        if let Some(shared) = inner.downcast_ref::<Arc<io::Error>>() {
            return Self::of(shared);
        }
        if inner.is::<Fault>() {
            return Some(Self::HandlerFailed);
        }
        let mut error: &(dyn Error + 'static) = inner;
        loop {
            if let Some(reason) = error.downcast_ref() {
                return Some(*reason);
            }
            error = error.source()?;
        }
    }

    /// The error that `connection_lost` is told where a policy of ours is the reason, and `drain`
    /// after an abort.
    pub(crate) fn into_error(self) -> io::Error {
        let kind = match self {
            Self::IdleTimeout | Self::WriteTimeout => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, self)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::PeerEof => "ended by the peer",
            Self::Reset => "the connection broke",
            Self::IdleTimeout => "idle for too long",
            Self::WriteTimeout => "the peer took nothing for too long",
            Self::WriteBufferFull => "too much waited to be sent",
            Self::Truncated => "ended by the peer without close_notify",
            Self::TlsFailed => "TLS failed",
            Self::Aborted => "aborted",
            Self::HandlerFailed => "the handler failed",
            Self::Detached => "the socket was taken out",
            Self::LoopClosed => "the event loop was closed",
        })
    }
}

impl Error for CloseReason {}

/// A copy of an error that has to be reported more than once: the system's code is kept, any
/// other error is shared.
pub(crate) fn again(error: &Arc<io::Error>) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), Arc::clone(error)),
    }
}
