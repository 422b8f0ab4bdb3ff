//! Streams: reader, writer, open_connection, start_server, and CPython's asyncio at the other end.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod cancelling;
mod dropped;
mod errors;
mod flow;
mod handlers;
mod large;
mod leaks;
mod peers;
mod programs;
#[cfg(feature = "proxy")]
mod proxy;
mod reader;
mod rebuilt;
mod separators;
mod support;
mod unix;
mod waiting;
mod writer;
