//! One way to behave, over everything that carries bytes: TCP, unix sockets, TLS, and the simulation
//! of all three, in fair weather and in rough.
//!
//! A behaviour is written once, says what it sees, and has to see the same in every world. What is
//! different by nature stands in `differences.rs`, with its reason.
#![cfg(feature = "tls")]

#[path = "../common/mod.rs"]
mod common;

mod cast;
mod differences;
mod net;
mod worlds;

mod callbacks;
mod cancelling;
mod connecting;
mod ending;
mod files;
mod flow;
mod order;
mod reading;
mod servers;
mod upgrades;
mod writing;
