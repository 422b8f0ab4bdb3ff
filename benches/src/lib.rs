//! What the server programs of this package share: the contract in README.md, in code.
//!
//! Nothing here runs while a server serves, so it cannot speed up or slow down anybody.
#![forbid(unsafe_code)]

pub mod contract;
pub mod foreign;
