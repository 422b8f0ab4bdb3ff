//! The simulated world, as its users see it.

mod models;
mod seeds;
mod states;
#[cfg(feature = "tls")]
mod storms;
#[cfg(feature = "tls")]
mod support;
mod tutorial;
mod world;
