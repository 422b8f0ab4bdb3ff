//! What bit users of asyncio and of its relatives, each as a test that is named after the thread
//! where it was told: `cpython_104344_…` is issue or pull request 104344 of python/cpython.
//! `docs/pitfalls.md` tells the stories.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the transports' tests use the rest")]
#[path = "../transports/probe.rs"]
mod probe;
#[allow(dead_code, reason = "the streams' tests use the rest")]
#[path = "../streams/support.rs"]
mod support;

mod reading;
mod running;
mod servers;
mod writing;
