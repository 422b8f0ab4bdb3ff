//! An echo server over TCP and unix sockets: every byte comes back as it came, and so does the end.
//!
//! Shows both faces of the library, streams and protocols, with backpressure: whoever does not
//! read what comes back is not read from. For each connection it holds at most twice the limit,
//! the write buffer's high-water mark and one read. The README has the command to run it.

mod activation;
mod arguments;
mod descriptors;
mod echo;
mod generated;
mod manager;
mod proxy;
mod service;
mod serving;
mod signals;
mod stats;
mod tls;
mod worker;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use evloop::LoopGroup;

use crate::arguments::{NAME, Options, complain, refuse_or_explain};
use crate::manager::Manager;
use crate::service::Service;
use crate::worker::work;

fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(answer) => return refuse_or_explain(&answer),
    };
    let outcome = match options.generate {
        Some(what) => generated::write(what),
        None => serve(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// From the first line on stdout to the last connection.
fn serve(options: Options) -> io::Result<()> {
    env_logger::Builder::new()
        .filter_level(options.log_level)
        .init();
    descriptors::raise_limit();
    let inherited = activation::inherited()?;
    let manager = Manager::from_env()?;
    let context = tls::context(&options)?;
    let listeners = serving::listeners(&options, inherited)?;
    let service = Arc::new(Service::new(options, context, manager)?);
    let outcome = run(&service, listeners);
    if service.options.stats.is_some() {
        service.tell_total();
    }
    outcome
}

/// One loop needs no thread. Several end all together if one of them fails, so that nobody believes
/// that all is well while a part of it is gone.
fn run(service: &Arc<Service>, mut listeners: Vec<Vec<serving::Listener>>) -> io::Result<()> {
    if let [listeners] = &mut listeners[..] {
        return evloop::run(work(Arc::clone(service), 0, std::mem::take(listeners)))?;
    }
    LoopGroup::new(listeners.len())?
        .thread_name(NAME)
        .run_with(listeners, |worker, listeners| {
            work(Arc::clone(service), worker.index(), listeners)
        })?;
    Ok(())
}
