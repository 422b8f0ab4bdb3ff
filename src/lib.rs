//! Python asyncio's architecture, by hand, in Rust: a single-threaded event loop on [`mio`],
//! transports and protocols above it, and streams to read and write with `await`.
//!
//! ```
//! use evloop::{StreamReader, StreamWriter, open_connection, start_server};
//!
//! async fn handle_echo(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
//!     let line = reader.readline().await?;
//!     writer.write(line);
//!     writer.drain().await?;
//!     writer.close();
//!     writer.wait_closed().await
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     evloop::run(async {
//!         let server = start_server(handle_echo, ("127.0.0.1", 0)).await?;
//!         let port = server.sockets()[0].port().unwrap();
//!
//!         let (mut reader, writer) = open_connection(("127.0.0.1", port)).await?;
//!         writer.write(b"hello\n");
//!         assert_eq!(reader.readline().await?, b"hello\n");
//!
//!         server.close();
//!         server.close_clients();
//!         server.wait_closed().await
//!     })?
//! }
//! ```
//!
//! # Where to begin
//!
//! | for | see |
//! |---|---|
//! | a program in one call | [`run`] |
//! | a loop to run and stop | [`EventLoop`], [`LoopHandle`] |
//! | bytes with `await` | [`open_connection`], [`start_server`], [`StreamReader`], [`StreamWriter`] |
//! | bytes with callbacks | [`create_connection`], [`create_server`], [`Protocol`], [`BufferedProtocol`], [`Transport`] |
#![cfg_attr(
    feature = "tls",
    doc = "| an encrypted connection | `ssl` on all of these, as in [`OpenConnection::ssl`]; [`TlsClientContext`], [`TlsServerContext`], [`StreamWriter::start_tls`], [`TlsError`] |"
)]
//! | a file as it is | [`sendfile()`] |
//! | descriptors and sockets of your own | [`LoopHandle::add_reader`], [`LoopHandle::sock_recv`] |
//! | tasks and time | [`LoopHandle::create_task`], [`Task`], [`Waiter`], [`sleep`], [`timeout`] |
//! | other threads | [`ThreadsafeHandle`], [`LoopHandle::run_in_executor`], [`Executor`] |
//! | clients behind a proxy | [`RealPeer`], and with the feature `proxy` the PROXY protocol |
//! | several cores | [`LoopGroup`], [`Worker`], [`reuse_port_sockets`] |
//! | names | [`LoopHandle::getaddrinfo`], [`LoopHandle::getnameinfo`], [`Resolver`] |
//! | what is slow | [`LoopHandle::set_slow_callback_duration`], [`LoopMetrics`] |
//! | how many connections there are, and may be | [`ServerMetrics`], [`ConnectionLimit`] |
//! | what went wrong | [`ExceptionContext`], [`ReadError`], [`EndpointError`] |
//!
//! TLS is the feature `tls`, on by default. `default-features = false` leaves it out, and with it all
//! of the cryptography; a connection is the same with it and without.
//!
//! Names are asyncio's for asyncio's things, and mean the same. Nothing is `Send`: a loop, and
//! all that belongs to it, stays on its thread. There is no `unsafe` in this crate.
#![forbid(unsafe_code)]

#[cfg(windows)]
compile_error!(
    "evloop stands on Unix readiness and signals, and does not run on Windows: build it for \
     Linux, macOS or a BSD"
);

mod endpoints;
mod event_loop;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod group;
#[cfg_attr(not(feature = "proxy"), path = "without_proxy.rs")]
mod proxy;
mod runner;
mod sansio;
mod streams;
mod sys;
mod tasks;
pub mod testing;
#[cfg_attr(not(feature = "tls"), path = "without_tls.rs")]
mod tls;
mod transports;

pub use crate::endpoints::{
    ConnectAcceptedSocket, ConnectionEnd, ConnectionLimit, CreateConnection, CreateServer,
    CreateUnixConnection, CreateUnixServer, Destination, Endpoint, EndpointError, GetAddrInfo,
    GetNameInfo, Sendfile, SendfileError, ServeForever, Server, ServerMetrics, Shutdown,
    ShutdownPhase, ShutdownReport, UnixEndpoint, connect_accepted_socket, create_connection,
    create_server, create_unix_connection, create_unix_server, reuse_port_sockets, sendfile,
};
pub use crate::event_loop::{
    DescriptorError, EventLoop, ExceptionContext, Executor, Handle, LoopClosed, LoopHandle,
    LoopMetrics, LoopStopped, NoRunningLoop, PanicError, ThreadsafeHandle, TimerHandle,
    get_running_loop,
};
pub use crate::group::{GroupError, LoopGroup, Worker};
#[cfg(feature = "proxy")]
pub use crate::proxy::{ProxyError, ProxyHeader};
pub use crate::runner::run;
#[cfg(feature = "tls")]
pub use crate::streams::StartStreamTls;
#[cfg(feature = "proxy")]
pub use crate::streams::read_proxy_header;
pub use crate::streams::{
    AsyncCallback, ClientConnectedCb, Completion, FeedError, IncompleteReadError,
    LimitOverrunError, Lines, OpenConnection, OpenUnixConnection, Outcome, PlainCallback,
    ReadError, Separator, Separators, StartServer, StartUnixServer, StreamFeeder, StreamReader,
    StreamReaderProtocol, StreamWriter, open_connection, open_unix_connection, start_server,
    start_unix_server,
};
pub use crate::sys::{
    Acceptor, AddrInfo, Address, Credentials, Family, Proto, Query, Resolver, ResolverFuture,
    Service, SocketType, UnixAddress, netdb, numbers as signals,
};
pub use crate::tasks::{
    ExecutorError, IntoTask, InvalidStateError, RunInExecutor, Sleep, Task, TaskError,
    TimeoutError, Waiter, sleep, sleep_until, timeout,
};
#[cfg(feature = "tls")]
pub use crate::tls::{
    Ssl, StartTls, TlsClientBuilder, TlsClientContext, TlsContext, TlsDetails, TlsError,
    TlsServerBuilder, TlsServerContext, TlsSession, rustls,
};
pub use crate::transports::{
    BufferedProtocol, CloseReason, ClosedBecause, Data, Detached, ExtraInfo, LeftUnsent,
    PeerCredentials, PeerName, Protocol, RealPeer, SockName, Transport,
};

/// The README's example has to compile.
#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../README.md")]
struct Readme;
