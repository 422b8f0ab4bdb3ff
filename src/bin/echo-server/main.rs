//! An echo server over TCP and unix sockets: every byte comes back as it came, and so does the end.
//!
//! Shows both faces of the library, streams and protocols, with backpressure: whoever does not
//! read what comes back is not read from. For each connection it holds at most twice the limit,
//! the write buffer's high-water mark and one read. The README has the command to run it.

mod activation;
mod arguments;
mod count;
mod descriptors;
mod echo;
mod generated;
mod lines;
mod manager;
mod proxy;
mod service;
mod serving;
mod signals;
mod stats;
mod supervisor;
mod tls;
mod worker;

use std::io;
use std::process::ExitCode;

use crate::arguments::{Options, complain, refuse_or_explain};
use crate::supervisor::supervise;

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(answer) => return refuse_or_explain(&answer),
    };
    let outcome = match options.generate {
        Some(what) => generated::write(what),
        None => serve(options),
    };
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    // Some arguments make no sense only beside what was inherited.
    match error.downcast() {
        Ok(answer) => refuse_or_explain(&answer),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> io::Result<()> {
    env_logger::Builder::new()
        .filter_level(options.log_level)
        .init();
    descriptors::raise_limit();
    evloop::run(supervise(options))?
}
