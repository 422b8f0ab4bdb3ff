//! A server that ends well. Each line asks for so many milliseconds of work; `nc 127.0.0.1 8888`
//! and a number is a client. Ctrl+C or SIGTERM ends it, in phases.
//!
//! ```text
//! cargo run --example graceful_shutdown -- [--port PORT]
//! ```
//!
//! Nobody new is served then. Work in hand is done, and its connection ends: the drain. Who has
//! asked for nothing is closed when the time for that is up; who does not read is aborted. What
//! became of each is printed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use std::{env, io, process};

use evloop::signals::{SIGINT, SIGTERM};
use evloop::{StreamReader, StreamWriter, Waiter, get_running_loop, run, sleep, start_server};

/// How long work may take when the end has come.
const DRAIN: Duration = Duration::from_secs(2);
/// And how long answers may take on their way.
const CLOSE: Duration = Duration::from_secs(1);
/// More clients than these wait until one is gone.
const CLIENTS: usize = 1000;

async fn handle_client(
    stopping: Rc<Cell<bool>>,
    mut reader: StreamReader,
    writer: StreamWriter,
) -> io::Result<()> {
    let mut lines = reader.lines();
    while let Some(line) = lines.next().await? {
        let line = String::from_utf8_lossy(&line);
        match line.trim().parse() {
            Ok(work) => {
                sleep(Duration::from_millis(work)).await?;
                writer.write(format!("done after {work} ms\n"));
            }
            Err(error) => writer.write(format!("{error}\n")),
        }
        writer.drain().await?;
        if stopping.get() {
            break; // The writer is dropped, so the connection ends when all is sent.
        }
    }
    Ok(())
}

async fn serve(port: u16) -> io::Result<()> {
    let stopping = Rc::new(Cell::new(false));
    let asked = Rc::clone(&stopping);
    let handle_client = move |reader, writer| handle_client(Rc::clone(&asked), reader, writer);
    let server = start_server(handle_client, ("127.0.0.1", port))
        .max_connections(CLIENTS)
        .await?;

    let handle = get_running_loop()?;
    let stop: Waiter<()> = handle.create_future();
    for number in [SIGINT, SIGTERM] {
        let stop = stop.clone();
        handle.add_signal_handler(number, move || {
            let _ = stop.set_result(()); // A second signal finds that it is set.
        })?;
    }
    println!("Serving on {}", server.sockets()[0]);
    stop.await?;

    println!("Stopping");
    stopping.set(true);
    let report = server.shutdown().drain(DRAIN).close(CLOSE).await?;
    for connection in report.connections() {
        println!("{connection}");
    }
    println!("{report}");
    Ok(())
}

fn main() -> io::Result<()> {
    let Some(port) = port() else {
        eprintln!("usage: graceful_shutdown [--port PORT]");
        process::exit(2);
    };
    run(serve(port))?
}

fn port() -> Option<u16> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [] => Some(8888),
        [option, port] if option == "--port" => port.to_str()?.parse().ok(),
        _ => None,
    }
}
