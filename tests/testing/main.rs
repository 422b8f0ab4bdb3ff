//! The simulated world, as its users see it; and what else the crate has for tests.

#[path = "../common/mod.rs"]
mod common;

mod chaos;
mod pair;
mod seeds;
#[cfg(feature = "tls")]
mod storms;
mod support;
mod tutorial;
mod world;
