//! The simulated world, as its users see it; and what else the crate has for tests.

#[path = "../common/mod.rs"]
mod common;

mod chaos;
#[cfg(feature = "tls")]
mod handshakes;
mod models;
mod pair;
mod partitions;
mod seeds;
mod states;
#[cfg(feature = "tls")]
mod storms;
#[cfg_attr(
    not(feature = "tls"),
    allow(dead_code, reason = "the storms have TLS among them")
)]
mod support;
mod tutorial;
mod weather;
mod world;
