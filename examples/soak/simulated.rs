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
    let (bytes, cut_off) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for _ in 0..CLIENTS {
        let (running, wrong) = (Rc::clone(&running), Rc::clone(&wrong));
        let (bytes, cut_off) = (Rc::clone(&bytes), Rc::clone(&cut_off));
        let mut random = random.fork();
        drop(client_host.create_task(async move {
            for _ in 0..CONNECTIONS {
                // How it ends is the storm's affair; what has come until then is not.
                if let Ok(Ok(seen)) = timeout(PATIENCE, client(&mut random)).await {
                    bytes.set(bytes.get() + seen.size as u64);
                    wrong.set(wrong.get() + u64::from(seen.is_wrong));
                    cut_off.set(cut_off.get() + u64::from(seen.is_cut_off));
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
    // What ends well is complete, but for ends that the storm has made up: each cuts off one or both.
    if simulation.tally().early_ends == 0 {
        tally.mismatches.add(cut_off.get());
    }
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

/// What a client has received.
struct Seen {
    size: usize,
    /// Other bytes than were sent.
    is_wrong: bool,
    /// Less than was sent, and a good end.
    is_cut_off: bool,
}

async fn client(random: &mut Random) -> io::Result<Seen> {
    let (mut reader, writer) = open_connection((SERVER, 7)).await?;
    let size = random.within(1..=3000);
    let sent = random.bytes(size);
    writer.write(&sent);
    writer.write_eof()?;
    let mut received = Vec::new();
    let ends_well = loop {
        match reader.read(random.within(1..=4096)).await {
            Ok(bytes) if !bytes.is_empty() => received.extend(bytes),
            Ok(_) => break true,
            Err(_) => break false,
        }
    };
    Ok(Seen {
        size: received.len(),
        is_wrong: !sent.starts_with(&received),
        is_cut_off: ends_well && received.len() < sent.len(),
    })
}

const SERVER: &str = "10.0.0.1";
const CLIENTS: u32 = 8;
const CONNECTIONS: u32 = 10;
/// More than it takes until what nobody hears is given up.
const PATIENCE: Duration = Duration::from_secs(1000);
