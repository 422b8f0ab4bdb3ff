//! Reading.
//!
//! Owns: [`StreamReader`]. Why: every read is one rule applied to one buffer, again after every
//! wake until it has an answer. Invariants: a second reader of one stream does not compile;
//! bytes leave the buffer in the poll that returns them. asyncio's counterpart:
//! `asyncio.StreamReader`.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use crate::event_loop::running;
#[cfg(feature = "proxy")]
use crate::proxy::{ProxyError, ProxyHeader};
use crate::sansio::read_buffer::Search;
use crate::streams::error::{FeedError, IncompleteReadError, LimitOverrunError, ReadError};
use crate::streams::feeder::StreamFeeder;
use crate::streams::separators::Separators;
use crate::streams::state::{Exception, Input, StreamState};
use crate::sys::invalid_input;
use crate::transports::{Transport, again};

/// The reading side of a stream. Mirrors `asyncio.StreamReader`.
///
/// Every method is cancellation-safe: a read that is dropped has taken nothing, and the next one
/// finds all bytes where they were. Reads take `&mut self`, so two at a time do not compile:
///
/// ```compile_fail
/// # async fn two(mut reader: evloop::StreamReader) {
/// let first = reader.readline();
/// let second = reader.readline();
/// let _ = (first.await, second.await);
/// # }
/// ```
///
/// Neither `Send` nor `Sync`:
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<evloop::StreamReader>();
/// ```
///
/// ```compile_fail
/// fn sync<T: Sync>() {}
/// sync::<evloop::StreamReader>();
/// ```
///
/// Above twice its limit of buffered bytes the transport is paused, until the buffer has fallen
/// to the limit, or a read waits for more. After the connection is lost, reads return what had
/// arrived before they report the error. Outside the loop of its transport every read reports
/// [`NoRunningLoop`](crate::NoRunningLoop). Dropping the reader discards what arrives from then on.
pub struct StreamReader {
    state: Rc<StreamState>,
}

impl StreamReader {
    /// A reader with the default limit, 64 KiB.
    pub fn new() -> Self {
        Self {
            state: Rc::new(StreamState::new(DEFAULT_LIMIT)),
        }
    }

    /// A reader with a limit of `limit` bytes: the longest line, and half of what is buffered at
    /// most.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a limit of zero.
    pub fn with_limit(limit: usize) -> io::Result<Self> {
        if limit == 0 {
            let message = "Limit cannot be <= 0";
            return Err(invalid_input(message));
        }
        Ok(Self {
            state: Rc::new(StreamState::new(limit)),
        })
    }

    pub(crate) fn state(&self) -> &Rc<StreamState> {
        &self.state
    }

    /// The side that is fed: for protocols, and for whoever makes a stream of something else.
    pub fn feeder(&self) -> StreamFeeder {
        StreamFeeder::new(Rc::clone(&self.state))
    }

    /// The error that reads report, if there is one. Mirrors `StreamReader.exception`.
    pub fn exception(&self) -> Option<Arc<io::Error>> {
        self.state.exception()
    }

    /// [`StreamFeeder::feed_data`]. Mirrors `StreamReader.feed_data`.
    ///
    /// # Errors
    ///
    /// [`FeedError::AfterEof`] after [`feed_eof`](Self::feed_eof).
    pub fn feed_data(&self, data: &[u8]) -> Result<(), FeedError> {
        self.state.feed_data(data)
    }

    /// [`StreamFeeder::feed_eof`]. Mirrors `StreamReader.feed_eof`.
    pub fn feed_eof(&self) {
        self.state.feed_eof();
    }

    /// [`StreamFeeder::set_exception`]. Mirrors `StreamReader.set_exception`.
    pub fn set_exception(&self, exc: impl Into<Arc<io::Error>>) {
        self.feeder().set_exception(exc);
    }

    /// [`StreamFeeder::set_transport`]. Mirrors `StreamReader.set_transport`.
    ///
    /// # Errors
    ///
    /// [`FeedError::TransportAlreadySet`] the second time.
    pub fn set_transport(&self, transport: Transport) -> Result<(), FeedError> {
        self.state.set_transport(transport)
    }

    /// Whether the stream has ended and nothing is buffered any more. Mirrors
    /// `StreamReader.at_eof`.
    pub fn at_eof(&self) -> bool {
        self.state
            .input
            .with(|input| input.eof && input.buffer.is_empty())
    }

    /// Waits for bytes and returns at most `n` of them, at least one; none when the stream has
    /// ended, or `n` is 0. The limit does not bound it. Mirrors `StreamReader.read(n)`; for
    /// `read(-1)` there is [`read_to_end`](Self::read_to_end).
    ///
    /// # Errors
    ///
    /// What broke the connection, after the bytes that came before.
    pub fn read(&mut self, n: usize) -> impl Future<Output = io::Result<Vec<u8>>> {
        self.apply(n, move |input| {
            Ok(input.has_some(n == 0)?.then(|| input.buffer.take(n)))
        })
    }

    /// [`read`](Self::read) into a buffer of the caller's: waits for bytes, moves as many as
    /// there are and fit, and returns how many.
    ///
    /// # Errors
    ///
    /// What broke the connection, after the bytes that came before.
    pub fn read_into(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.apply(buffer.len(), move |input| {
            let some = input.has_some(buffer.is_empty())?;
            Ok(some.then(|| input.buffer.copy_into(buffer)))
        })
    }

    /// Reads until the stream ends and returns everything. With a cap, at most so many bytes:
    /// the peer decides how much there is. The cap is looked at when bytes have come, so as much as
    /// one receive brings, 256 KiB, may be buffered beyond it. Mirrors `StreamReader.read(-1)`.
    ///
    /// # Errors
    ///
    /// [`ReadError::LimitOverrun`] when there is more than `cap`, [`ReadError::Io`] when the
    /// connection broke; the bytes are still in the buffer then.
    pub async fn read_to_end(
        &mut self,
        cap: impl Into<Option<usize>>,
    ) -> Result<Vec<u8>, ReadError> {
        let cap = cap.into();
        self.apply(usize::MAX, move |input| {
            input.raise_now()?;
            if let Some(limit) = cap.filter(|&cap| input.buffer.len() > cap) {
                return Err(ReadError::LimitOverrun(LimitOverrunError {
                    consumed: input.buffer.len(),
                    limit,
                    found: false,
                }));
            }
            input.raise()?;
            Ok(input.eof.then(|| input.buffer.take(usize::MAX)))
        })
        .await
    }

    /// Reads exactly `n` bytes. The limit does not bound it, but memory is used only as the bytes
    /// come. Mirrors `StreamReader.readexactly`.
    ///
    /// # Errors
    ///
    /// [`ReadError::Incomplete`] when the stream ends first, [`ReadError::Io`] when the
    /// connection broke first; the bytes are still in the buffer then.
    pub async fn readexactly(&mut self, n: usize) -> Result<Vec<u8>, ReadError> {
        self.apply(n, move |input| {
            input.raise_now()?;
            if input.buffer.len() >= n {
                return Ok(Some(input.buffer.take(n)));
            }
            input.wait_for_more(Some(n))
        })
        .await
    }

    /// Reads a line with its newline; the last one may lack it, and after it there are only empty
    /// ones. Mirrors `StreamReader.readline`.
    ///
    /// # Errors
    ///
    /// [`ReadError::LimitOverrun`] when the line is longer than the limit (the buffer is
    /// untouched: see [`skip_line`](Self::skip_line)), [`ReadError::Io`] when the connection
    /// broke first.
    pub async fn readline(&mut self) -> Result<Vec<u8>, ReadError> {
        match self.until(NEWLINE).await {
            Err(ReadError::Incomplete(error)) => Ok(error.partial),
            outcome => outcome,
        }
    }

    /// Reads until and with `separator`: one, or several, of which the one that ends first counts
    /// (and of those that end together, the shortest). Mirrors `StreamReader.readuntil`.
    ///
    /// ```
    /// # use evloop::StreamReader;
    /// # evloop::run(async {
    /// # let mut reader = StreamReader::new();
    /// reader.feed_data(b"key=value\nmore;end").unwrap();
    /// assert_eq!(reader.readuntil(b"=").await?, b"key=");
    /// assert_eq!(reader.readuntil((b"\r\n", b"\n", b";")).await?, b"value\n");
    /// assert_eq!(reader.readuntil(["\n", ";"]).await?, b"more;");
    /// # Ok::<(), evloop::ReadError>(())
    /// # }).unwrap().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError::LimitOverrun`] when more than the limit stands before it (the buffer is
    /// untouched), [`ReadError::Incomplete`] when the stream ends first, [`ReadError::Io`] for an
    /// empty separator or none at all (`InvalidInput`) and when the connection broke first.
    pub async fn readuntil(&mut self, separator: impl Separators) -> Result<Vec<u8>, ReadError> {
        let separators = separator.slices();
        let separators = separators.as_ref();
        let wrong = if separators.is_empty() {
            Some("Separator should contain at least one element")
        } else if separators.iter().any(|separator| separator.is_empty()) {
            Some("Separator should be at least one-byte string")
        } else {
            None
        };
        if let Some(message) = wrong {
            return Err(invalid_input(message).into());
        }
        self.until(separators).await
    }

    /// What [`readuntil`](Self::readuntil) does when the separators are fine.
    fn until(&mut self, separators: &[&[u8]]) -> impl Future<Output = Result<Vec<u8>, ReadError>> {
        self.apply(1, move |input| {
            input.raise_now()?;
            match input.buffer.search(separators, input.limit) {
                Search::Found { end } => Ok(Some(input.buffer.take(end))),
                Search::Overrun { consumed, found } => {
                    Err(ReadError::LimitOverrun(LimitOverrunError {
                        consumed,
                        limit: input.limit,
                        found,
                    }))
                }
                Search::Missing => input.wait_for_more(None),
            }
        })
    }

    /// Drops everything until and with the next newline, however long the line is, and returns
    /// how many bytes that were: the way past a line that [`readline`](Self::readline) refused.
    /// It ends at the end of the stream, too. What a dropped call has skipped stays skipped.
    ///
    /// # Errors
    ///
    /// What broke the connection.
    pub async fn skip_line(&mut self) -> io::Result<usize> {
        let mut skipped = 0;
        loop {
            let (n, over) = self
                .apply(1, |input| {
                    if !input.has_some(false)? {
                        return Ok(None);
                    }
                    let mut bytes = input.buffer.as_slice().iter();
                    let newline = bytes.position(|&byte| byte == b'\n');
                    let n = newline.map_or(input.buffer.len(), |at| at + 1);
                    input.buffer.discard(n);
                    Ok::<_, io::Error>(Some((n, newline.is_some() || n == 0)))
                })
                .await?;
            skipped += n;
            if over {
                return Ok(skipped);
            }
        }
    }

    /// The lines of the stream, one by one. Mirrors `async for line in reader`.
    ///
    /// ```
    /// # use evloop::StreamReader;
    /// # evloop::run(async {
    /// # let mut reader = StreamReader::new();
    /// reader.feed_data(b"one\ntwo").unwrap();
    /// reader.feed_eof();
    /// let mut lines = reader.lines();
    /// while let Some(line) = lines.next().await? {
    ///     println!("{}", String::from_utf8_lossy(&line));
    /// }
    /// # Ok::<(), evloop::ReadError>(())
    /// # }).unwrap().unwrap();
    /// ```
    pub fn lines(&mut self) -> Lines<'_> {
        Lines { reader: self }
    }

    /// Reads the header of a proxy, and leaves what is behind it.
    #[cfg(feature = "proxy")]
    pub(crate) fn header(&mut self) -> impl Future<Output = Result<ProxyHeader, ProxyError>> {
        self.apply(1, |input| {
            input.raise_now()?;
            if let Some((header, size)) = ProxyHeader::parse(input.buffer.as_slice())? {
                input.buffer.discard(size);
                return Ok(Some(header));
            }
            input.raise()?;
            if input.eof {
                let received = input.buffer.len();
                return Err(ProxyError::CutOff { received });
            }
            Ok(None)
        })
    }

    /// Applies a rule to the buffer now, and again after every wake, until it has an answer. About
    /// so many bytes are `wanted`; if that is any and the buffer is low now, the transport goes on.
    ///
    /// Not an async function: one would keep its arguments twice, in every idle connection.
    fn apply<T, E: From<io::Error>>(
        &mut self,
        wanted: usize,
        mut rule: impl FnMut(&mut Input) -> Result<Option<T>, E>,
    ) -> impl Future<Output = Result<T, E>> {
        let state = &*self.state;
        poll_fn(move |cx| {
            let polled = running::poll_leaf(
                state.loop_number(),
                cx,
                || state.waits_for(),
                |cx| match state.apply(wanted, &mut rule) {
                    Some(answer) => Poll::Ready(answer),
                    None => {
                        state.wait_for_data(cx.waker());
                        Poll::Pending
                    }
                },
            );
            polled.map(|polled| polled.unwrap_or_else(|error| Err(E::from(error.into()))))
        })
    }
}

impl Input {
    /// An error that was set by hand comes before everything.
    fn raise_now(&self) -> io::Result<()> {
        match &self.exception {
            Some(Exception {
                error,
                after_data: false,
            }) => Err(again(error)),
            _ => Ok(()),
        }
    }

    /// Any error.
    fn raise(&self) -> io::Result<()> {
        match &self.exception {
            Some(exception) => Err(again(&exception.error)),
            None => Ok(()),
        }
    }

    /// Whether there is something to take, or nothing more to come, or nothing is wanted.
    fn has_some(&self, nothing_wanted: bool) -> io::Result<bool> {
        self.raise_now()?;
        if self.buffer.is_empty() {
            self.raise()?;
        }
        Ok(!self.buffer.is_empty() || self.eof || nothing_wanted)
    }

    /// What a rule answers when there is not enough: nothing yet, unless nothing more will come.
    fn wait_for_more<T>(&mut self, expected: Option<usize>) -> Result<Option<T>, ReadError> {
        self.raise()?;
        if self.eof {
            return Err(ReadError::Incomplete(IncompleteReadError {
                partial: self.buffer.take(usize::MAX),
                expected,
            }));
        }
        Ok(None)
    }
}

impl Default for StreamReader {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.state.discard();
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, eof, limit) = self
            .state
            .input
            .with(|input| (input.buffer.len(), input.eof, input.limit));
        f.debug_struct("StreamReader")
            .field("bytes", &len)
            .field("eof", &eof)
            .field("limit", &limit)
            .field("exception", &self.exception())
            .finish_non_exhaustive()
    }
}

/// The lines of a stream, from [`StreamReader::lines`].
#[derive(Debug)]
pub struct Lines<'a> {
    reader: &'a mut StreamReader,
}

impl Lines<'_> {
    /// The next line with its newline; `None` at the end. Cancellation-safe.
    ///
    /// # Errors
    ///
    /// As [`StreamReader::readline`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let line = self.reader.readline().await?;
        Ok((!line.is_empty()).then_some(line))
    }
}

/// What ends a line.
const NEWLINE: &[&[u8]] = &[b"\n"];

/// asyncio's default limit, in bytes.
const DEFAULT_LIMIT: usize = 64 * 1024;
