//! Streams over unix sockets.
//!
//! Owns: [`open_unix_connection`] and [`start_unix_server`]. Why: the same as over TCP, for those
//! who are on this machine. Invariants: they stand on public items only, but for the setters that
//! every server has. asyncio's counterpart: the functions of the same names.

use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;

use crate::endpoints::{
    CreateUnixConnection, CreateUnixServer, Server, UnixEndpoint, create_unix_connection,
    create_unix_server, joining_setters, serving_setters,
};
use crate::streams::callback::{ClientConnectedCb, Outcome};
use crate::streams::limit::Limit;
use crate::streams::open::{Factory, protocol, streams};
use crate::streams::reader::StreamReader;
use crate::streams::start::protocols;
use crate::streams::writer::StreamWriter;

/// Connects to the unix socket `endpoint` and gives a reader and a writer. Mirrors
/// `asyncio.open_unix_connection`.
///
/// Dropping the future gives the attempt up and leaves nothing behind.
///
/// # Errors
///
/// Those of [`create_unix_connection`], and `InvalidInput` for a limit of zero.
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// std::io::Write::write_all(&mut theirs, b"hello\n")?;
/// evloop::run(async move {
///     let (mut reader, writer) = evloop::open_unix_connection(ours).limit(1024).await?;
///     assert_eq!(reader.readline().await?, b"hello\n");
///     writer.close();
///     writer.wait_closed().await
/// })??;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn open_unix_connection(endpoint: impl Into<UnixEndpoint>) -> OpenUnixConnection {
    let limit = Limit::default();
    OpenUnixConnection {
        connection: create_unix_connection(protocol(&limit), endpoint),
        limit,
    }
}

/// A stream to be made: awaiting it makes it. Made by [`open_unix_connection`].
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct OpenUnixConnection {
    connection: CreateUnixConnection<Factory>,
    limit: Limit,
}

impl OpenUnixConnection {
    /// The reader's limit in bytes; 64 KiB by default.
    pub fn limit(self, limit: usize) -> Self {
        self.limit.set(limit);
        self
    }

    joining_setters!(connection.joining);
}

impl IntoFuture for OpenUnixConnection {
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

/// Serves the unix socket `endpoint` and calls `client_connected_cb` with a reader and a writer
/// for each connection, by the rules of [`start_server`](crate::start_server). Mirrors
/// `asyncio.start_unix_server`.
///
/// # Errors
///
/// Those of [`create_unix_server`], and `InvalidInput` for a limit of zero.
///
/// ```
/// use evloop::{StreamReader, StreamWriter, start_unix_server};
///
/// # let path = std::env::temp_dir().join(format!("evloop-lines-{}", std::process::id()));
/// evloop::run(async {
///     let server = start_unix_server(
///         |mut reader: StreamReader, writer: StreamWriter| async move {
///             let line = reader.readline().await?;
///             writer.write(line);
///             writer.drain().await
///         },
///         &path,
///     )
///     .await?;
///     server.close();
///     server.wait_closed().await
/// })??;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn start_unix_server<R, K>(
    client_connected_cb: impl FnMut(StreamReader, StreamWriter) -> R + 'static,
    endpoint: impl Into<UnixEndpoint>,
) -> StartUnixServer
where
    R: Outcome<K>,
{
    let limit = Limit::default();
    let factory = protocols(ClientConnectedCb::new(client_connected_cb), &limit);
    StartUnixServer {
        server: create_unix_server(factory, endpoint),
        limit,
    }
}

/// A server to be made: awaiting it makes it. Made by [`start_unix_server`].
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct StartUnixServer {
    server: CreateUnixServer,
    limit: Limit,
}

impl StartUnixServer {
    /// Each reader's limit in bytes; 64 KiB by default.
    pub fn limit(self, limit: usize) -> Self {
        self.limit.set(limit);
        self
    }

    /// [`CreateUnixServer::cleanup_socket`].
    pub fn cleanup_socket(self, cleanup_socket: bool) -> Self {
        self.with(|server| server.cleanup_socket(cleanup_socket))
    }

    serving_setters!(server.serving);

    fn with(mut self, change: impl FnOnce(CreateUnixServer) -> CreateUnixServer) -> Self {
        self.server = change(self.server);
        self
    }
}

impl IntoFuture for StartUnixServer {
    type Output = io::Result<Server>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.limit.check()?;
            self.server.await
        })
    }
}
