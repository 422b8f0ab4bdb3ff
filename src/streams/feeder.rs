//! The side of a reader that is fed.
//!
//! Owns: [`StreamFeeder`]. Why: a read borrows the reader while it waits, and whoever feeds it
//! has to get at it then. Invariants: feeding wakes the read and runs nothing. asyncio's
//! counterpart: `feed_data`, `feed_eof`, `set_exception` and `set_transport` of `StreamReader`.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::streams::error::FeedError;
use crate::streams::state::{Exception, StreamState};
use crate::transports::Transport;

/// Feeds a [`StreamReader`](crate::StreamReader), also while a read of it waits. Made by
/// [`StreamReader::feeder`](crate::StreamReader::feeder).
///
/// ```
/// use evloop::{EventLoop, StreamReader};
///
/// let mut event_loop = EventLoop::new()?;
/// let mut reader = StreamReader::new();
/// let feeder = reader.feeder();
/// event_loop.call_soon(move || feeder.feed_data(b"hello\n").unwrap());
/// let line = event_loop.run_until_complete(async { reader.readline().await }).unwrap();
/// assert_eq!(line, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct StreamFeeder {
    state: Rc<StreamState>,
}

impl StreamFeeder {
    pub(crate) fn new(state: Rc<StreamState>) -> Self {
        Self { state }
    }

    pub(crate) fn state(&self) -> &Rc<StreamState> {
        &self.state
    }

    /// Appends bytes to the buffer and wakes the read that waits. Above twice the limit the
    /// transport is paused. Mirrors `StreamReader.feed_data`.
    ///
    /// # Errors
    ///
    /// [`FeedError::AfterEof`] after [`feed_eof`](Self::feed_eof), also for no bytes.
    pub fn feed_data(&self, data: &[u8]) -> Result<(), FeedError> {
        self.state.feed_data(data)
    }

    /// No more bytes will come. Mirrors `StreamReader.feed_eof`.
    pub fn feed_eof(&self) {
        self.state.feed_eof();
    }

    /// Has every read report this error, at once, whatever is buffered. Mirrors
    /// `StreamReader.set_exception`.
    pub fn set_exception(&self, exc: impl Into<Arc<io::Error>>) {
        self.state.set_exception(Exception {
            error: exc.into(),
            after_data: false,
        });
    }

    /// Names the transport to pause when the buffer is full. Mirrors
    /// `StreamReader.set_transport`.
    ///
    /// # Errors
    ///
    /// [`FeedError::TransportAlreadySet`] the second time.
    pub fn set_transport(&self, transport: Transport) -> Result<(), FeedError> {
        self.state.set_transport(transport)
    }
}

impl fmt::Debug for StreamFeeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamFeeder").finish_non_exhaustive()
    }
}
