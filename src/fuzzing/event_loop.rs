//! The whole loop, and a world in which the bytes decide everything.
//!
//! Owns: the target `event_loop`. Why: what the parts do right by themselves they may do wrong
//! together, and the fuzzer sees which decision leads to code that no other did. Invariants: what is
//! received is what was sent, from its beginning on, and all of it where the end is good; where nobody
//! falls silent every wait ends; whoever closes everything has nothing left. asyncio's counterpart:
//! none.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::event_loop::get_running_loop;
use crate::fuzzing::script::Script;
use crate::streams::{StreamReader, StreamWriter, open_connection, start_server};
use crate::tasks::{sleep, timeout};
use crate::testing::{Conditions, Host, Random, Simulation};

/// What the clients do, behind its length, and then what the world does to them.
pub fn event_loop(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let size = script.size();
    let program = script.bytes(size);
    let world = script.bytes(usize::MAX);
    let mut simulation = Simulation::with_random(Random::from_bytes(world));
    // Every wait in it has its limit, and none of them is as long.
    simulation.set_time_limit(4 * PATIENCE);
    if let Err(error) = run(&mut simulation, program) {
        panic!("{error}");
    }
}

fn run(simulation: &mut Simulation, program: &[u8]) -> io::Result<()> {
    let mut script = Script::new(program);
    let may_fall_silent = script.byte() % 2 == 1;
    let mut weather = Conditions::storm()
        .buffer(script.size().max(LEAST_BUFFER))
        .lookup_failures(0.0)
        // All of them together must not be as long as anybody's patience.
        .longest_jump(Duration::from_millis(100));
    if !may_fall_silent {
        weather = weather.silences(0.0);
    }
    simulation.network().set_conditions(weather)?;
    let limit = script.size().max(1);
    let (server_host, client_host) = (simulation.host("server"), simulation.host("client"));
    let handler = move |reader, writer| echo(reader, writer, limit);
    let listen = start_server(handler, ("10.0.0.1", 7)).limit(limit);
    let server = simulation.run_until_complete(&server_host, listen)??;
    let seen = Rc::new(Seen::default());
    while !script.is_over() && seen.running.get() < MOST_CLIENTS {
        let size = usize::from(script.byte());
        let orders = script.bytes(size).to_vec();
        seen.running.set(seen.running.get() + 1);
        let seen = Rc::clone(&seen);
        drop(client_host.create_task(async move {
            // An error is the storm's affair.
            drop(client(orders, limit, &seen).await);
            seen.running.set(seen.running.get() - 1);
        }));
    }
    simulation.run_until_complete(&client_host, async {
        while seen.running.get() > 0 {
            sleep(Duration::from_secs(1)).await?;
        }
        io::Result::Ok(())
    })??;
    assert!(
        may_fall_silent || !seen.stuck.get(),
        "a wait without an end"
    );
    let ends_are_true = simulation.tally().early_ends == 0;
    assert!(
        !ends_are_true || !seen.cut_off.get(),
        "a good end in the middle"
    );
    simulation.run_until_complete(&server_host, async {
        server.close();
        server.abort_clients();
        server.wait_closed().await
    })??;
    let all_closed = |host: Host| async move {
        while host.descriptors() > 0 {
            sleep(Duration::from_secs(1)).await?;
        }
        io::Result::Ok(())
    };
    simulation.run_until_complete(&server_host, all_closed(server_host.clone()))??;
    simulation.run_until_complete(&client_host, all_closed(client_host.clone()))??;
    Ok(())
}

/// What became of the clients.
#[derive(Default)]
struct Seen {
    running: Cell<usize>,
    /// One has waited for longer than anything takes.
    stuck: Cell<bool>,
    /// One was told a good end before everything had come back.
    cut_off: Cell<bool>,
}

/// With marks that a drain has to wait for.
async fn echo(mut reader: StreamReader, writer: StreamWriter, high: usize) -> io::Result<()> {
    writer.transport().set_write_buffer_limits(high, None)?;
    loop {
        let bytes = reader.read(4096).await?;
        if bytes.is_empty() {
            break;
        }
        writer.write(bytes);
        writer.drain().await?;
    }
    writer.close();
    writer.wait_closed().await
}

/// Does what it is ordered to, and reads to the end; whoever waits for too long leaves with force.
async fn client(orders: Vec<u8>, limit: usize, seen: &Seen) -> io::Result<()> {
    let (reader, writer) = open_connection(("10.0.0.1", 7)).limit(limit).await?;
    let began = get_running_loop()?.time();
    let ending = timeout(PATIENCE, obey(&orders, reader, &writer)).await;
    // Also if the end of the time was what has woken it.
    let is_stuck = get_running_loop()?.time() - began >= PATIENCE;
    seen.stuck.set(seen.stuck.get() || is_stuck);
    writer.transport().abort();
    drop(writer.wait_closed().await);
    let is_complete = ending??;
    seen.cut_off.set(seen.cut_off.get() || !is_complete);
    Ok(())
}

/// One byte after the other. True if what has come back in the end is all that was sent.
async fn obey(orders: &[u8], mut reader: StreamReader, writer: &StreamWriter) -> io::Result<bool> {
    let mut script = Script::new(orders);
    let received = Cell::new(0);
    let (mut sent, mut ended) = (0, false);
    // Byte number n is n, so what comes can be told from what should.
    let check = |bytes: &[u8]| {
        let begin = received.replace(received.get() + bytes.len());
        let expected = (begin..begin + bytes.len()).map(|number| number as u8);
        assert!(
            bytes.iter().copied().eq(expected),
            "other bytes than were sent"
        );
        bytes.is_empty()
    };
    while !script.is_over() {
        match script.byte() % 9 {
            0 => {
                let size = script.size() % MOST_BYTES;
                let bytes: Vec<u8> = (sent..sent + size).map(|number| number as u8).collect();
                // Behind an end of its own a write is the program's mistake.
                if !ended && sent < MOST_SENT {
                    sent += size;
                    writer.write(bytes);
                }
            }
            1 => {
                // Nobody reads meanwhile, so the peer may wait for us as we do for it.
                let patience = Duration::from_millis(script.byte().into());
                if let Ok(drained) = timeout(patience, writer.drain()).await {
                    drained?;
                }
            }
            2 => {
                ended = true;
                writer.write_eof()?;
            }
            3 => sleep(Duration::from_millis(script.byte().into())).await?,
            4 => writer.transport().pause_reading(),
            5 => writer.transport().resume_reading(),
            6 => {
                let patience = Duration::from_millis(script.byte().into());
                let size = script.size() % MOST_BYTES;
                if let Ok(bytes) = timeout(patience, reader.read(size)).await {
                    check(&bytes?);
                }
            }
            7 => {
                let patience = Duration::from_millis(script.byte().into());
                let size = script.size() % MOST_BYTES;
                if let Ok(bytes) = timeout(patience, reader.readexactly(size)).await {
                    check(&bytes?);
                }
            }
            _ => {
                let (low, high) = (script.size(), script.size());
                let marks = (Some(low.max(high)), Some(low.min(high)));
                writer
                    .transport()
                    .set_write_buffer_limits(marks.0, marks.1)?;
            }
        }
    }
    writer.transport().resume_reading();
    if !ended {
        writer.write_eof()?;
    }
    while !check(&reader.read(MOST_BYTES).await?) {}
    writer.close();
    writer.wait_closed().await?;
    Ok(received.get() == sent)
}

const MOST_CLIENTS: usize = 8;
const MOST_BYTES: usize = 10_000;
/// Few enough bytes, and room for enough of them, that all of them are there in time.
const MOST_SENT: usize = 50_000;
const LEAST_BUFFER: usize = 64;
/// More than it takes until what nobody hears is given up.
const PATIENCE: Duration = Duration::from_secs(2000);
