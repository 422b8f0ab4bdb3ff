//! TLS over real sockets on the loopback, against ourselves and against real peers.
#![cfg(feature = "tls")]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the transports' tests use the rest")]
#[path = "../transports/probe.rs"]
mod probe;

mod blocking;
mod quiet;
mod pairs;
mod scripted;
mod support;
mod talk;

mod arguments;
mod asyncio;
mod bulk;
mod bad_input;
mod contexts;
mod cpython;
mod curl;
mod endpoints;
mod openssl;
mod ends;
mod handshakes;
mod records;
mod start_tls;
mod streams;
mod traps;
mod upgrades;
