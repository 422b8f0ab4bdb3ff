//! TLS over real sockets on the loopback, against ourselves and against real peers.
#![cfg(feature = "tls")]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the transports' tests use the rest")]
#[path = "../transports/probe.rs"]
mod probe;

mod blocking;
mod pairs;
mod quiet;
mod scripted;
mod support;
mod talk;

mod afterwards;
mod arguments;
mod asyncio;
mod bad_input;
mod bulk;
mod contexts;
mod cpython;
mod curl;
mod endings;
mod endpoints;
mod ends;
mod fairness;
mod handshakes;
mod keys;
mod openssl;
mod paused;
mod records;
mod start_tls;
mod streams;
mod traps;
mod upgrades;
