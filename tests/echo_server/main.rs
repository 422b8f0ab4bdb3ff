//! The binary `echo-server`, as its users meet it: real processes, real clients.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;

mod activation;
mod clients;
mod command_line;
#[cfg(target_os = "linux")]
mod cost;
#[cfg(target_os = "linux")]
mod deploy;
mod limits;
#[cfg(target_os = "linux")]
mod load;
mod manager;
mod process;
mod proxy;
mod server;
#[cfg(target_os = "linux")]
mod serving;
mod signals;
#[cfg(target_os = "linux")]
mod systemd;
mod tls;
mod unix;
mod workers;
