//! A stream to somewhere.
//!
//! Owns: [`open_connection`]. Why: a connection, a reader and a writer in one await. Invariants:
//! it stands on public items only. asyncio's counterpart: `asyncio.open_connection`.

use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;

use crate::endpoints::{Endpoint, create_connection};
use crate::streams::protocol::StreamReaderProtocol;
use crate::streams::reader::StreamReader;
use crate::streams::writer::StreamWriter;
use crate::transports::Transport;

/// Connects to `endpoint` and gives a reader and a writer. Mirrors `asyncio.open_connection`.
///
/// Dropping the future gives the attempt up and leaves nothing behind. A socket that is connected
/// already, TCP or unix, is taken as it is: see [`Endpoint`].
///
/// # Errors
///
/// Those of [`create_connection`], and `InvalidInput` for a limit of
/// zero.
///
/// ```
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// # let peer = std::thread::spawn(move || {
/// #     use std::io::Write;
/// #     listener.accept()?.0.write_all(b"hello\n")
/// # });
/// evloop::run(async move {
///     let (mut reader, writer) = evloop::open_connection(address).limit(1024).await?;
///     assert_eq!(reader.readline().await?, b"hello\n");
///     writer.close();
///     writer.wait_closed().await
/// })??;
/// # peer.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn open_connection(endpoint: impl Into<Endpoint>) -> OpenConnection {
    OpenConnection {
        endpoint: endpoint.into(),
        limit: None,
    }
}

/// A stream to be made: awaiting it makes it. Made by [`open_connection`].
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct OpenConnection {
    endpoint: Endpoint,
    limit: Option<usize>,
}

impl OpenConnection {
    /// The reader's limit in bytes; 64 KiB by default.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl IntoFuture for OpenConnection {
    type Output = io::Result<(StreamReader, StreamWriter)>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let reader = reader(self.limit)?;
            let factory = move || StreamReaderProtocol::new(reader, None);
            let (transport, protocol) = create_connection(factory, self.endpoint).await?;
            Ok(streams(transport, &mut protocol.borrow_mut()))
        })
    }
}

/// The two ends of a connection whose protocol was made with a reader.
pub(crate) fn streams(
    transport: Transport,
    protocol: &mut StreamReaderProtocol,
) -> (StreamReader, StreamWriter) {
    let writer = StreamWriter::new(transport, protocol);
    let reader = protocol.take_reader();
    // Given to the protocol by our caller, and nobody else takes it.
    let reader = reader.expect("the protocol has its reader");
    (reader, writer)
}

/// A reader with this limit, or the default one.
pub(crate) fn reader(limit: Option<usize>) -> io::Result<StreamReader> {
    limit.map_or_else(|| Ok(StreamReader::new()), StreamReader::with_limit)
}
