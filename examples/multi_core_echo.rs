//! An echo server on several cores: a loop for each, and one port. Ctrl+C or SIGTERM ends it.
//!
//! ```text
//! cargo run --example multi_core_echo -- [--port PORT] [--workers N] [--hand-over]
//! ```
//!
//! It serves 127.0.0.1:8888 with a worker for each core unless told otherwise. Each worker accepts
//! from a socket of its own, and the system spreads the connections over them. With `--hand-over`
//! the first worker accepts all of them and hands each on, in turn: for systems that do not spread
//! them, and for programs that know better who should have which.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, io, process};

use evloop::signals::{SIGINT, SIGTERM};
use evloop::{
    LoopGroup, PeerName, StreamReader, StreamWriter, Waiter, Worker, get_running_loop,
    open_connection, reuse_port_sockets, sleep, start_server,
};
use futures::future::{Either, select};

/// What both ways do with a connection.
async fn echo(index: usize, mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let peer = writer.get_extra_info(PeerName).expect("TCP has a peer");
    println!("Worker {index} serves {peer}");
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let n = reader.read_into(&mut buffer).await?;
        if n == 0 {
            return Ok(()); // The writer is dropped, so the connection ends when all is sent.
        }
        writer.write(&buffer[..n]);
        writer.drain().await?;
    }
}

// ------------------------------------------------------------------- each accepts for itself

async fn share_port(worker: Worker, socket: OwnedFd, ready: &AtomicUsize) -> io::Result<()> {
    let index = worker.index();
    let server = start_server(move |reader, writer| echo(index, reader, writer), socket).await?;
    let stopped = stopped()?;
    announce(ready, &worker, &server.sockets()[0]);
    stopped.await?;

    // Whoever does not read holds it up for a second and no longer.
    let report = server.shutdown().close(Duration::from_secs(1)).await?;
    println!("Worker {index}: {report}");
    Ok(())
}

// ------------------------------------------------------------------- one accepts for all

async fn hand_over(worker: Worker, listener: &TcpListener, ready: &AtomicUsize) -> io::Result<()> {
    let stopped = stopped()?;
    announce(ready, &worker, listener.local_addr()?);
    if worker.index() == 0 {
        // Without the one who accepts the others are of no use: its error ends all of them.
        match select(pin!(accept_for_all(&worker, listener)), stopped).await {
            Either::Left((failed, _)) => failed?,
            Either::Right((stopped, _)) => stopped?,
        }
    } else {
        stopped.await?;
    }
    Ok(()) // The loop is closed, and its connections with it.
}

async fn accept_for_all(worker: &Worker, listener: &TcpListener) -> io::Result<()> {
    let handle = get_running_loop()?;
    for next in (0..worker.count()).cycle() {
        match handle.sock_accept(listener).await {
            Ok((socket, _)) => {
                let worker = worker.threadsafe(next);
                // One that has ended drops it, and so closes the connection.
                let _ = worker.call_soon_threadsafe(move || take_over(next, socket));
            }
            // It has left already. The next one may be there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Until somebody gives one back.
            Err(error) if is_out_of_descriptors(&error) => {
                eprintln!("cannot accept: {error}");
                sleep(Duration::from_secs(1)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Runs on the thread of the worker `index`, in its loop.
fn take_over(index: usize, socket: TcpStream) {
    let serve = async move {
        let (reader, writer) = open_connection(socket).await?;
        echo(index, reader, writer).await
    };
    let handle = get_running_loop().expect("a callback has its loop");
    drop(handle.create_task(async move {
        if let Err(error) = serve.await {
            eprintln!("worker {index}: {error}");
        }
    }));
}

// ------------------------------------------------------------------- the program

/// Set when this worker's loop gets a signal. All of them do.
fn stopped() -> io::Result<Waiter<()>> {
    let handle = get_running_loop()?;
    let stopped = handle.create_future();
    for number in [SIGINT, SIGTERM] {
        let stopped = stopped.clone();
        handle.add_signal_handler(number, move || {
            let _ = stopped.set_result(()); // A second signal finds that it is set.
        })?;
    }
    Ok(stopped)
}

/// Says where it is served as soon as all workers serve.
fn announce(ready: &AtomicUsize, worker: &Worker, address: impl Display) {
    if ready.fetch_add(1, Ordering::AcqRel) + 1 == worker.count() {
        println!("Serving on {address}");
    }
}

fn main() -> io::Result<()> {
    let Some(arguments) = Arguments::read() else {
        eprintln!("usage: multi_core_echo [--port PORT] [--workers N] [--hand-over]");
        process::exit(2);
    };
    let group = LoopGroup::new(arguments.workers)?.thread_name("echo");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let ready = AtomicUsize::new(0);
    if arguments.hand_over {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        group.run(|worker| hand_over(worker, &listener, &ready))?;
    } else {
        let sockets = reuse_port_sockets(&[address], group.count())?;
        let sockets = sockets.into_iter().flatten().collect();
        group.run_with(sockets, |worker, socket| share_port(worker, socket, &ready))?;
    }
    Ok(())
}

struct Arguments {
    port: u16,
    workers: usize,
    hand_over: bool,
}

impl Arguments {
    fn read() -> Option<Self> {
        let mut read = Self {
            port: 8888,
            workers: 0,
            hand_over: false,
        };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match &*argument {
                "--port" => read.port = arguments.next()?.parse().ok()?,
                "--workers" => read.workers = arguments.next()?.parse().ok()?,
                "--hand-over" => read.hand_over = true,
                _ => return None,
            }
        }
        Some(read)
    }
}
