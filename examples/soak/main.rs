//! One server and everything that can happen to it, at once and for as long as you like.
//!
//! ```text
//! cargo run --release --all-features --example soak -- --seconds 60 --seed 1
//! ```
//!
//! Clients echo, with TLS and without, end one half, reset, read slowly, shake hands in small pieces,
//! begin a handshake and say nothing, or garbage, or break off; meanwhile the process runs out of
//! descriptors again and again, and gets signals. Every byte that comes back is compared. In the end
//! there is a table, and a last line; the exit code is 1 if a byte was wrong, something has hung, a
//! descriptor is left, or something that the table counts has never happened in 20 seconds or more;
//! it is 2 if the arguments make no sense. On a thread beside it, simulated hosts do the same in
//! storms that loopback does not have. A fault counts only when one side has seen its effect.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

mod arguments;
mod clients;
mod dripped;
mod faults;
mod random;
mod server;
mod simulated;
mod tally;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::process::{ExitCode, exit};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use evloop::{Task, TlsClientContext, get_running_loop, sleep};

use crate::arguments::{Arguments, USAGE};
use crate::clients::{CROWD, World};
use crate::random::Random;
use crate::server::{Server, certs};
use crate::tally::{Tally, Usage};

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("soak: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match soak(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it and tells how it was. Whether everything was as it should be.
fn soak(arguments: &Arguments) -> io::Result<bool> {
    faults::limit_descriptors()?;
    let tally = Arc::new(Tally::default());
    let server = Server::start(&tally)?;
    let end = Instant::now() + arguments.duration;
    let watch = watch(arguments.duration + OVERTIME);
    let (seed, shared) = (arguments.seed, Arc::clone(&tally));
    let storms = thread::spawn(move || simulated::run(seed, end, &shared));
    let (before, after) = evloop::run(attack(arguments.seed, end, &tally, server.ports))??;
    if let Err(error) = server.stop() {
        tally.wrong(format!("the server's end: {error}"));
    }
    if storms.join().is_err() {
        tally.wrong("a storm has panicked".to_owned());
    }
    drop(watch);
    // Everything happens several times a second, or at least once in three seconds.
    if arguments.duration >= LONG {
        for row in tally.missing() {
            tally.wrong(format!("never: {row}"));
        }
    }
    print!("{}", tally.table(&before, &after));
    for (what, times) in &*tally.surprises.lock().expect("nobody panics with it") {
        println!("unexpected, {times} times: {what}");
    }
    let leaked = after.descriptors.saturating_sub(before.descriptors);
    let (mismatches, hangs) = (tally.mismatches.get(), tally.hangs.get());
    println!(
        "soak: {} connections, {} faults, {mismatches} mismatches, {hangs} hangs, {leaked} leaked descriptors",
        tally.connections(),
        tally.all_faults(),
    );
    Ok(mismatches + hangs + leaked == 0)
}

/// Ends the process when so much time has passed, unless what it returns is dropped before: of a
/// loop that hangs nobody on it can tell.
fn watch(limit: Duration) -> Sender<Infallible> {
    let (watch, end) = channel::<Infallible>();
    thread::spawn(move || {
        if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("soak: after {limit:?} it is not at its end: a loop hangs");
            exit(1);
        }
    });
    watch
}

/// Everything at once, until the time is over. What the process had before, and has afterwards.
async fn attack(
    seed: u64,
    end: Instant,
    tally: &Arc<Tally>,
    ports: [u16; 3],
) -> io::Result<(Usage, Usage)> {
    let world = Rc::new(World {
        tally: Arc::clone(tally),
        ports,
        context: TlsClientContext::builder()
            .root_file(certs("ca.pem"))
            .build()?,
        config: dripped::config()?,
        end,
    });
    let before = Usage::now()?;
    let mut streams = 0;
    let mut random = || {
        streams += 1;
        Random::seeded(seed, streams)
    };
    let mut tasks = Vec::new();
    for (kind, crowd) in CROWD {
        for _ in 0..crowd {
            tasks.push(spawn(clients::run(Rc::clone(&world), kind, random()))?);
        }
    }
    let troubles = [
        spawn(faults::starve(Rc::clone(&world), random()))?,
        spawn(faults::signal(Rc::clone(&world), random()))?,
    ];
    for task in tasks {
        if let Err(error) = task.await {
            tally.wrong(format!("a client: {error}"));
        }
    }
    for trouble in troubles {
        match trouble.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tally.wrong(format!("who makes trouble: {error}")),
            Err(error) => tally.wrong(format!("who makes trouble: {error}")),
        }
    }
    let after = rest(&before).await?;
    Ok((before, after))
}

fn spawn<F: Future + 'static>(future: F) -> io::Result<Task<F::Output>> {
    Ok(get_running_loop()?.create_task(future))
}

/// What the process has when the last connections of the server have ended.
async fn rest(before: &Usage) -> io::Result<Usage> {
    let began = Instant::now();
    loop {
        let now = Usage::now()?;
        if now.descriptors <= before.descriptors || began.elapsed() > PATIENCE {
            return Ok(now);
        }
        sleep(Duration::from_millis(10)).await?;
    }
}

/// More than all that may be waited for when the time is over.
const OVERTIME: Duration = Duration::from_secs(300);
/// For connections that end by themselves.
const PATIENCE: Duration = Duration::from_secs(30);
/// In so much time nothing is missing by chance, even where all is slow.
const LONG: Duration = Duration::from_secs(20);
