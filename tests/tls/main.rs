//! TLS over real sockets on the loopback, against ourselves and against real peers.
#![cfg(feature = "tls")]

#[path = "../common/mod.rs"]
mod common;

mod quiet;
mod support;
mod talk;

mod arguments;
mod asyncio;
mod blocking;
mod bulk;
mod contexts;
mod cpython;
mod curl;
mod endpoints;
mod openssl;
mod probe;
mod streams;
mod upgrades;
