//! TLS over real sockets on the loopback, against ourselves and against real peers.
#![cfg(feature = "tls")]

#[path = "../common/mod.rs"]
mod common;

mod support;

mod streams;
