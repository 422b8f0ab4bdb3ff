//! The whole loop, and a world in which the bytes decide everything.
//!
//! Owns: the target `event_loop`. Why: what the parts do right by themselves they may do wrong
//! together, and the fuzzer sees which decision leads to code that no other did. Invariants: what is
//! received is what was sent, from its beginning on; whoever closes everything has nothing left;
//! nobody waits for ever. asyncio's counterpart: none.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::fuzzing::script::Script;
use crate::streams::{StreamReader, StreamWriter, open_connection, start_server};
use crate::tasks::{sleep, timeout};
use crate::testing::{Conditions, Host, Random, Simulation};

/// The first half of the bytes is what the clients do, the second what the world does to them.
pub fn event_loop(bytes: &[u8]) {
    let (program, world) = bytes.split_at(bytes.len() / 2);
    let mut simulation = Simulation::with_random(Random::from_bytes(world));
    if let Err(error) = run(&mut simulation, program) {
        panic!("{error}");
    }
}

fn run(simulation: &mut Simulation, program: &[u8]) -> io::Result<()> {
    let mut script = Script::new(program);
    let weather = Conditions::storm()
        .buffer(script.size().max(1))
        .lookup_failures(0.0);
    simulation.network().set_conditions(weather)?;
    let limit = script.size().max(1);
    let (server_host, client_host) = (simulation.host("server"), simulation.host("client"));
    let listen = start_server(echo, ("10.0.0.1", 7)).limit(limit);
    let server = simulation.run_until_complete(&server_host, listen)??;
    let running = Rc::new(Cell::new(0));
    while !script.is_over() && running.get() < MOST_CLIENTS {
        let size = usize::from(script.byte());
        let orders = script.bytes(size).to_vec();
        running.set(running.get() + 1);
        let running = Rc::clone(&running);
        drop(client_host.create_task(async move {
            // How it ends is the storm's affair.
            drop(client(orders, limit).await);
            running.set(running.get() - 1);
        }));
    }
    simulation.run_until_complete(&client_host, async {
        while running.get() > 0 {
            sleep(Duration::from_secs(1)).await?;
        }
        io::Result::Ok(())
    })??;
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

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
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

/// Does what it is ordered to, and then leaves, if need be with force: a close waits until all is
/// sent, and a peer that waits to be read from, which nobody does any more, does not read either.
async fn client(orders: Vec<u8>, limit: usize) -> io::Result<()> {
    let (reader, writer) = open_connection(("10.0.0.1", 7)).limit(limit).await?;
    let ending = timeout(PATIENCE, obey(&orders, reader, &writer)).await;
    writer.transport().abort();
    drop(writer.wait_closed().await);
    ending?
}

/// One byte after the other.
async fn obey(orders: &[u8], mut reader: StreamReader, writer: &StreamWriter) -> io::Result<()> {
    let mut script = Script::new(orders);
    let received = RefCell::new(0);
    let (mut sent, mut ended) = (0, false);
    // Byte number n is n, so what comes can be told from what should.
    let check = |bytes: &[u8]| {
        let begin = received.replace_with(|received| *received + bytes.len());
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
                if !ended {
                    sent += size;
                    writer.write(bytes);
                }
            }
            1 => writer.drain().await?,
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
    writer.close();
    writer.wait_closed().await
}

const MOST_CLIENTS: usize = 8;
const MOST_BYTES: usize = 10_000;
/// More than it takes until what nobody hears is given up.
const PATIENCE: Duration = Duration::from_secs(1000);
