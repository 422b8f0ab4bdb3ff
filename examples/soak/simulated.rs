//! The same in simulated worlds, one after the other: there everything goes wrong that loopback does
//! not.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evloop::testing::{Conditions, Host, Random, Simulation};
use evloop::{StreamReader, StreamWriter, open_connection, sleep, start_server, timeout};

use crate::tally::Tally;

/// One storm after the other, until the end.
pub(crate) fn run(seed: u64, end: Instant, tally: &Tally) {
    for seed in seed.. {
        if Instant::now() >= end {
            break;
        }
        let mut simulation = Simulation::new(seed);
        if let Err(error) = storm(&mut simulation, tally) {
            // Nobody waits for ever there, nobody panics, and no socket stays: or this.
            tally.hangs.add(1);
            tally.surprise(format!("SEED={seed}: {error}"));
        }
        tally.add_simulated(simulation.tally());
    }
}

fn storm(simulation: &mut Simulation, tally: &Tally) -> io::Result<()> {
    let mut random = simulation.random();
    let weather = Conditions::storm()
        .buffer(random.within(500..=50_000))
        .lookup_failures(0.0);
    simulation.network().set_conditions(weather)?;
    let (server_host, client_host) = (simulation.host("server"), simulation.host("client"));
    let listen = start_server(echo, (SERVER, 7)).limit(random.within(64..=20_000));
    let server = simulation.run_until_complete(&server_host, listen)??;
    let (running, wrong) = (Rc::new(Cell::new(CLIENTS)), Rc::new(Cell::new(0)));
    let bytes = Rc::new(Cell::new(0));
    for _ in 0..CLIENTS {
        let (running, wrong, bytes) = (Rc::clone(&running), Rc::clone(&wrong), Rc::clone(&bytes));
        let mut random = random.fork();
        drop(client_host.create_task(async move {
            for _ in 0..CONNECTIONS {
                // How it ends is the storm's affair; what has come until then is not.
                if let Ok(Ok((same, size))) = timeout(PATIENCE, client(&mut random)).await {
                    bytes.set(bytes.get() + size as u64);
                    wrong.set(wrong.get() + u64::from(!same));
                }
            }
            running.set(running.get() - 1);
        }));
    }
    simulation.run_until_complete(&client_host, async {
        while running.get() > 0 {
            sleep(Duration::from_millis(100)).await?;
        }
        io::Result::Ok(())
    })??;
    tally.mismatches.add(wrong.get());
    tally.bytes.add(bytes.get());
    simulation.run_until_complete(&server_host, async {
        server.close();
        server.abort_clients();
        server.wait_closed().await
    })??;
    for host in [&server_host, &client_host] {
        simulation.run_until_complete(host, all_closed(host))??;
    }
    Ok(())
}

/// A socket that stays makes the simulation reach its limit of time, and that is an error.
async fn all_closed(host: &Host) -> io::Result<()> {
    while host.descriptors() > 0 {
        sleep(Duration::from_secs(1)).await?;
    }
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

/// Whether what came was what was sent, as far as it came, and how much that was.
async fn client(random: &mut Random) -> io::Result<(bool, usize)> {
    let (mut reader, writer) = open_connection((SERVER, 7)).await?;
    let size = random.within(1..=3000);
    let sent = random.bytes(size);
    writer.write(&sent);
    writer.write_eof()?;
    let mut received = Vec::new();
    loop {
        match reader.read(random.within(1..=4096)).await {
            Ok(bytes) if !bytes.is_empty() => received.extend(bytes),
            Ok(_) | Err(_) => break,
        }
    }
    Ok((sent.starts_with(&received), received.len()))
}

const SERVER: &str = "10.0.0.1";
const CLIENTS: u32 = 8;
const CONNECTIONS: u32 = 10;
/// More than it takes until what nobody hears is given up.
const PATIENCE: Duration = Duration::from_secs(1000);
