//! A stream to somewhere.
//!
//! Owns: [`open_connection`]. Why: a connection, a reader and a writer in one await. Invariants:
//! it stands on public items only. asyncio's counterpart: `asyncio.open_connection`.

use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use crate::endpoints::{CreateConnection, Endpoint, create_connection, joining_setters};
use crate::streams::limit::Limit;
use crate::streams::protocol::StreamReaderProtocol;
use crate::streams::reader::StreamReader;
use crate::streams::writer::StreamWriter;
use crate::sys::{Family, Proto};
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
    let limit = Limit::default();
    OpenConnection {
        connection: create_connection(protocol(&limit), endpoint),
        limit,
    }
}

/// A stream to be made: awaiting it makes it. Made by [`open_connection`].
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct OpenConnection {
    connection: CreateConnection<Factory>,
    limit: Limit,
}

impl OpenConnection {
    /// The reader's limit in bytes; 64 KiB by default.
    pub fn limit(self, limit: usize) -> Self {
        self.limit.set(limit);
        self
    }

    /// [`CreateConnection::family`].
    pub fn family(self, family: Family) -> Self {
        self.with(|connection| connection.family(family))
    }

    /// [`CreateConnection::proto`].
    pub fn proto(self, proto: Proto) -> Self {
        self.with(|connection| connection.proto(proto))
    }

    /// [`CreateConnection::flags`].
    pub fn flags(self, flags: i32) -> Self {
        self.with(|connection| connection.flags(flags))
    }

    /// [`CreateConnection::local_addr`].
    pub fn local_addr(self, local_addr: impl Into<Endpoint>) -> Self {
        self.with(|connection| connection.local_addr(local_addr))
    }

    /// [`CreateConnection::happy_eyeballs_delay`].
    pub fn happy_eyeballs_delay(self, delay: impl Into<Option<Duration>>) -> Self {
        self.with(|connection| connection.happy_eyeballs_delay(delay))
    }

    /// [`CreateConnection::interleave`].
    pub fn interleave(self, first_of_a_family: usize) -> Self {
        self.with(|connection| connection.interleave(first_of_a_family))
    }

    /// [`CreateConnection::all_errors`].
    pub fn all_errors(self, all_errors: bool) -> Self {
        self.with(|connection| connection.all_errors(all_errors))
    }

    joining_setters!(connection.joining);

    fn with(
        mut self,
        change: impl FnOnce(CreateConnection<Factory>) -> CreateConnection<Factory>,
    ) -> Self {
        self.connection = change(self.connection);
        self
    }
}

impl IntoFuture for OpenConnection {
    type Output = io::Result<(StreamReader, StreamWriter)>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.limit.check()?;
            let (transport, protocol) = self.connection.await?;
            Ok(streams(transport, &mut protocol.borrow_mut()))
        })
    }
}

pub(crate) type Factory = Box<dyn FnOnce() -> StreamReaderProtocol>;

/// What makes the protocol of the connection, with the limit that holds by then.
pub(crate) fn protocol(limit: &Limit) -> Factory {
    let limit = limit.clone();
    Box::new(move || StreamReaderProtocol::new(limit.reader(), None))
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
