//! Python asyncio's architecture, by hand, in Rust: a single-threaded event loop on [`mio`],
//! transports and protocols above it, and streams to read and write with `await`.
#![forbid(unsafe_code)]

#[cfg(windows)]
compile_error!(
    "evloop stands on Unix readiness and signals, and does not run on Windows: build it for \
     Linux, macOS or a BSD"
);

mod sansio;
