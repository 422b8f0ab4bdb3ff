//! Two ends of one connection, for a test of either.
//!
//! Owns: [`stream_pair`]. Why: who tests what a program says to its peer wants to be the peer.
//! Invariants: real transports with real streams on them, on whichever loop runs; neither a socket nor
//! a descriptor below. asyncio's counterpart: none; its tests use `socket.socketpair`.

use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use crate::endpoints::{Connected, Reserved};
use crate::event_loop::{LoopHandle, loop_of};
use crate::streams::{StreamReader, StreamReaderProtocol, StreamWriter};
use crate::sys::{Readiness, UnixAddress, invalid_input};
use crate::testing::wire::wire;

/// Two ends of a connection in memory, each a reader and a writer: what one writes the other reads.
///
/// They stand on real transports, so everything is as it is over a socket: what a step writes leaves
/// when the step ends, `drain` waits while the other end does not read, `write_eof` ends one direction,
/// a limit is a limit. What differs is what a socket has and they do not: a descriptor, so that
/// [`detach`](StreamWriter::detach) is unsupported, and an address: both are unnamed, as those of a
/// pair of unix sockets are. As there, a write to an end that was closed fails at once, and closing an
/// end with something unread in it resets the connection.
///
/// Both ends belong to the running loop, a real one or that of a simulated
/// [`Host`](crate::testing::Host). Dropping the future leaves nothing behind.
///
/// # Errors
///
/// `InvalidInput` for a limit or a buffer of zero; [`NoRunningLoop`](crate::NoRunningLoop) outside a
/// loop.
///
/// ```
/// use evloop::testing::stream_pair;
/// use evloop::{StreamReader, StreamWriter};
///
/// /// What is to be tested.
/// async fn shout(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
///     let line = reader.readline().await?;
///     writer.write(line.to_ascii_uppercase());
///     writer.drain().await
/// }
///
/// evloop::run(async {
///     let ((mut reader, writer), (theirs, their_writer)) = stream_pair().await?;
///     writer.write(b"hello\n");
///     shout(theirs, their_writer).await?;
///     assert_eq!(reader.readline().await?, b"HELLO\n");
///     // It has dropped its writer, and that closes.
///     assert!(reader.read(1).await?.is_empty());
///     Ok::<(), std::io::Error>(())
/// })??;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stream_pair() -> StreamPair {
    StreamPair {
        limit: None,
        buffer: BUFFER,
    }
}

/// Two ends to be made: awaiting it makes them. Made by [`stream_pair`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct StreamPair {
    limit: Option<usize>,
    buffer: usize,
}

impl StreamPair {
    /// Each reader's limit in bytes; 64 KiB by default.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// How many bytes are under way in one direction at most, as the buffers of the system hold them
    /// between two sockets; 64 KiB by default. What is more waits in the writer.
    ///
    /// ```
    /// use evloop::testing::stream_pair;
    ///
    /// evloop::run(async {
    ///     let ((_reader, writer), (mut theirs, _their_writer)) = stream_pair().buffer(10).limit(1).await?;
    ///     writer.write(&[b'x'; 100]);
    ///     // The other end has not read yet. Ten are under way, and the rest has not left.
    ///     assert_eq!(writer.transport().get_write_buffer_size(), 90);
    ///     assert_eq!(theirs.readexactly(100).await?, [b'x'; 100]);
    ///     Ok::<(), std::io::Error>(())
    /// })??;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    fn reader(&self) -> io::Result<StreamReader> {
        self.limit
            .map_or_else(|| Ok(StreamReader::new()), StreamReader::with_limit)
    }
}

impl IntoFuture for StreamPair {
    type Output = io::Result<(Streams, Streams)>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let handle = loop_of(0)?;
            let readers = (self.reader()?, self.reader()?);
            if self.buffer == 0 {
                return Err(invalid_input("buffer(0): nothing could ever be written"));
            }
            let [first, second] = connect(&handle, self.buffer);
            Ok((
                introduce(&handle, first, readers.0).await?,
                introduce(&handle, second, readers.1).await?,
            ))
        })
    }
}

/// A stream of its own in either direction.
type Streams = (StreamReader, StreamWriter);

fn connect(handle: &LoopHandle, buffer: usize) -> [Connected; 2] {
    let [first, second] = [Reserved::new(handle), Reserved::new(handle)];
    let [one, other] = wire(handle, [first.id(), second.id()], buffer);
    [(first, one), (second, other)].map(|(place, stream)| Connected {
        place,
        stream,
        peer: UnixAddress::Unnamed.into(),
        ready: Readiness::WRITE,
    })
}

/// What is dropped before the other end is there closes.
async fn introduce(
    handle: &LoopHandle,
    end: Connected,
    reader: StreamReader,
) -> io::Result<Streams> {
    let mut protocol = StreamReaderProtocol::new(reader, None);
    let state = Rc::clone(protocol.state());
    let reader = protocol.take_reader();
    // Given to it two lines before.
    let reader = reader.expect("the protocol has its reader");
    let (transport, _) = end.introduce(handle, None, || protocol).await?;
    Ok((reader, StreamWriter::on(transport, state)))
}

/// As much as a simulated network keeps.
const BUFFER: usize = 64 * 1024;
