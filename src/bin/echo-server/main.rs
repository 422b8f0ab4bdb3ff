//! An echo server over TCP and unix sockets: every byte comes back as it came, and so does the end.
//!
//! Shows both faces of the library, streams and protocols, with backpressure: whoever does not
//! read what comes back is not read from. For each connection it holds at most twice the limit,
//! the write buffer's high-water mark and one read. The README has the command to run it.

mod arguments;
mod echo;
mod proxy;
mod serving;
mod signals;
mod tls;

use std::future::IntoFuture;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use evloop::{Server, get_running_loop};

use crate::arguments::{Options, complain, refuse_or_explain};
use crate::serving::{announce, start};
use crate::signals::Signals;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(answer) => return refuse_or_explain(&answer),
    };
    env_logger::Builder::new()
        .filter_level(options.log_level)
        .init();
    match evloop::run(serve(options)).and_then(|outcome| outcome) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// From the first line on stdout to the last connection.
async fn serve(options: Options) -> io::Result<()> {
    let handle = get_running_loop()?;
    // The level decides alone, also when it is `off`.
    handle.set_exception_handler(|_, context| log::error!("{context}"));
    let context = tls::context(&options)?;
    let servers = start(&options, tls::argument(context.as_ref())).await?;
    let signals = Signals::listen(&handle)?;
    if let Some(context) = context {
        tls::reload_at_sighup(&handle, context)?;
    }
    announce(&servers);

    signals.first.await?;
    let aborted = servers.clone();
    drop(handle.create_task(async move {
        if signals.second.await.is_ok() {
            log::info!("another signal: aborting");
            aborted.iter().for_each(Server::abort_clients);
        }
    }));
    log::info!("stopping; a second signal aborts what is open");
    let endings: Vec<_> = servers
        .iter()
        .map(|server| {
            let shutdown = server.shutdown().drain(options.shutdown_timeout);
            handle.create_task(shutdown.close(FLUSH_TIMEOUT).into_future())
        })
        .collect();
    for ending in endings {
        log::info!("connections: {}", ending.await??);
    }
    Ok(())
}

/// After the shutdown timeout: for what was echoed and is not sent yet.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
