//! What the tests of streams share.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use evloop::{
    LimitOverrunError, Protocol, ReadError, StreamReader, StreamReaderProtocol, StreamWriter,
    open_connection,
};

use crate::common::{Peer, listener};

/// A reader with these bytes in it.
pub(crate) fn fed(limit: usize, data: &[u8]) -> StreamReader {
    let reader = StreamReader::with_limit(limit).unwrap();
    reader.feed_data(data).unwrap();
    reader
}

/// A reader with these bytes in it and nothing to come.
pub(crate) fn ended(limit: usize, data: &[u8]) -> StreamReader {
    let reader = fed(limit, data);
    reader.feed_eof();
    reader
}

/// A reader behind a protocol whose connection is reset after these bytes.
pub(crate) fn reset_after(limit: usize, data: &[u8]) -> StreamReader {
    let reader = StreamReader::with_limit(limit).unwrap();
    let mut protocol = StreamReaderProtocol::new(reader, None);
    if !data.is_empty() {
        protocol.data_received(data);
    }
    protocol.connection_lost(Some(Arc::new(reset())));
    protocol.take_reader().unwrap()
}

/// The system's own error.
pub(crate) fn reset() -> io::Error {
    io::Error::from_raw_os_error(libc::ECONNRESET)
}

/// What a future gives at its first poll; it is dropped then.
pub(crate) async fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_once(&mut future).await
}

pub(crate) async fn poll_once<F: Future>(future: &mut Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// What is buffered, which leaves the buffer.
pub(crate) async fn rest(reader: &mut StreamReader) -> Vec<u8> {
    match now(reader.read(usize::MAX)).await {
        Some(outcome) => outcome.unwrap(),
        None => Vec::new(),
    }
}

#[track_caller]
pub(crate) fn overrun<T: std::fmt::Debug>(outcome: Result<T, ReadError>) -> LimitOverrunError {
    match outcome {
        Err(ReadError::LimitOverrun(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Partial bytes and what was expected.
#[track_caller]
pub(crate) fn incomplete<T: std::fmt::Debug>(
    outcome: Result<T, ReadError>,
) -> (Vec<u8>, Option<usize>) {
    match outcome {
        Err(ReadError::Incomplete(error)) => (error.partial, error.expected),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn kind<T: std::fmt::Debug>(outcome: Result<T, impl Into<io::Error>>) -> io::ErrorKind {
    outcome.unwrap_err().into().kind()
}

/// A stream to a blocking peer.
pub(crate) async fn connected() -> (StreamReader, StreamWriter, Peer) {
    let (listener, address) = listener();
    let (reader, writer) = open_connection(address).await.unwrap();
    (reader, writer, Peer::accept(&listener))
}

/// Writes until the system takes no more.
pub(crate) fn block(writer: &StreamWriter) -> usize {
    let transport = writer.transport();
    while transport.get_write_buffer_size() <= transport.get_write_buffer_limits().1 {
        writer.write(&[b'-'; 64 * 1024]);
    }
    transport.get_write_buffer_size()
}

/// Seeded: the same seed gives the same numbers for ever.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}
