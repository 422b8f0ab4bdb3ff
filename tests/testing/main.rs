//! The simulated world, as its users see it.

mod seeds;
mod chaos;
mod pair;
#[cfg(feature = "tls")]
mod storms;
mod support;
mod tutorial;
mod world;
