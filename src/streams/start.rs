//! A server of streams.
//!
//! Owns: [`start_server`]. Why: a server whose connections are a reader and a writer each, handed
//! to one function. Invariants: it stands on public items only, but for the setters that every
//! server has. asyncio's counterpart: `asyncio.start_server`.

use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;

use crate::endpoints::{CreateServer, Endpoint, Server, create_server, serving_setters};
use crate::streams::callback::{ClientConnectedCb, Outcome};
use crate::streams::limit::Limit;
use crate::streams::protocol::StreamReaderProtocol;
use crate::streams::reader::StreamReader;
use crate::streams::writer::StreamWriter;
use crate::sys::Family;

/// Serves `endpoint` and calls `client_connected_cb` with a reader and a writer for each
/// connection. Mirrors `asyncio.start_server`.
///
/// The callback is a plain function or an async one, and may return an error (see [`Outcome`]).
/// A plain one runs inside the loop and must not wait; the future of an async one becomes a task.
/// A connection whose writer is dropped is closed, after what was written is sent; a closure that
/// does not move its writer into the `async` block drops it when it returns.
///
/// State is shared by capturing it:
///
/// ```
/// use std::{cell::Cell, rc::Rc};
///
/// use evloop::{StreamReader, StreamWriter, start_server};
///
/// evloop::run(async {
///     let served = Rc::new(Cell::new(0));
///     let server = start_server(
///         move |mut reader: StreamReader, writer: StreamWriter| {
///             let served = Rc::clone(&served);
///             async move {
///                 served.set(served.get() + 1);
///                 let line = reader.readline().await?;
///                 writer.write(line);
///                 writer.drain().await
///             }
///         },
///         ("127.0.0.1", 0),
///     )
///     .await?;
///     server.close();
///     server.wait_closed().await
/// })?
/// # ; Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`create_server`], and `InvalidInput` for a limit of zero.
pub fn start_server<R, K>(
    client_connected_cb: impl FnMut(StreamReader, StreamWriter) -> R + 'static,
    endpoint: impl Into<Endpoint>,
) -> StartServer
where
    R: Outcome<K>,
{
    let limit = Limit::default();
    let factory = protocols(ClientConnectedCb::new(client_connected_cb), &limit);
    StartServer {
        server: create_server(factory, endpoint),
        limit,
    }
}

/// What makes the protocol of each connection, with the limit that holds by then.
pub(crate) fn protocols(
    callback: ClientConnectedCb,
    limit: &Limit,
) -> impl FnMut() -> StreamReaderProtocol + 'static {
    let limit = limit.clone();
    move || StreamReaderProtocol::new(limit.reader(), Some(callback.clone()))
}

/// A server to be made: awaiting it makes it. Made by [`start_server`].
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct StartServer {
    server: CreateServer,
    limit: Limit,
}

impl StartServer {
    /// Each reader's limit in bytes; 64 KiB by default.
    pub fn limit(self, limit: usize) -> Self {
        self.limit.set(limit);
        self
    }

    /// [`CreateServer::family`].
    pub fn family(self, family: Family) -> Self {
        self.with(|server| server.family(family))
    }

    /// [`CreateServer::flags`].
    pub fn flags(self, flags: i32) -> Self {
        self.with(|server| server.flags(flags))
    }

    /// [`CreateServer::reuse_address`].
    pub fn reuse_address(self, reuse_address: bool) -> Self {
        self.with(|server| server.reuse_address(reuse_address))
    }

    /// [`CreateServer::reuse_port`].
    pub fn reuse_port(self, reuse_port: bool) -> Self {
        self.with(|server| server.reuse_port(reuse_port))
    }

    /// [`CreateServer::keep_alive`].
    pub fn keep_alive(self, keep_alive: bool) -> Self {
        self.with(|server| server.keep_alive(keep_alive))
    }

    serving_setters!(server.serving);

    fn with(mut self, change: impl FnOnce(CreateServer) -> CreateServer) -> Self {
        self.server = change(self.server);
        self
    }
}

impl IntoFuture for StartServer {
    type Output = io::Result<Server>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.limit.check()?;
            self.server.await
        })
    }
}
