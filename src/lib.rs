//! Python asyncio's architecture, by hand, in Rust: a single-threaded event loop on [`mio`],
//! transports and protocols above it, and streams to read and write with `await`.
#![forbid(unsafe_code)]

#[cfg(windows)]
compile_error!(
    "evloop stands on Unix readiness and signals, and does not run on Windows: build it for \
     Linux, macOS or a BSD"
);

mod endpoints;
mod event_loop;
mod runner;
mod sansio;
mod sys;
mod tasks;
mod transports;

pub use crate::endpoints::{
    CreateConnection, CreateServer, Endpoint, EndpointError, ServeForever, Server,
    create_connection, create_server,
};
pub use crate::event_loop::{
    EventLoop, ExceptionContext, Handle, LoopClosed, LoopHandle, LoopStopped, NoRunningLoop,
    PanicError, ThreadsafeHandle, TimerHandle, get_running_loop,
};
pub use crate::runner::run;
pub use crate::sys::{Address, numbers as signals};
pub use crate::tasks::{
    IntoTask, InvalidStateError, Sleep, Task, TaskError, TimeoutError, Waiter, sleep, sleep_until,
    timeout,
};
pub use crate::transports::{ExtraInfo, PeerName, Protocol, SockName, Transport};
