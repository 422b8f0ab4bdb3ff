//! The same in simulated worlds, one after the other: there everything goes wrong that loopback does
//! not.

use std::io;
use std::time::{Duration, Instant};

use evloop::testing::{Conditions, Host, Random, Simulation};
use evloop::{
    StreamReader, StreamWriter, get_running_loop, open_connection, sleep, start_server, timeout,
};

use crate::tally::Tally;

/// One storm after the other, until the end.
pub(crate) fn run(seed: u64, end: Instant, tally: &Tally) {
    for seed in seed.. {
        if Instant::now() >= end {
            break;
        }
        let mut simulation = Simulation::new(seed);
        simulation.set_time_limit(TIME_LIMIT);
        if let Err(error) = storm(&mut simulation, tally) {
            // Nobody waits for ever there, nobody panics, and no socket stays: or this.
            tally.hangs.add(1);
            tally.surprise(format!("SEED={seed}: {error}"));
        }
        tally.add_simulated(simulation.tally());
    }
}

fn storm(simulation: &mut Simulation, tally: &Tally) -> io::Result<()> {
    let seed = simulation.seed();
    let mut random = simulation.random();
    let mut weather = Conditions::storm()
        .buffer(random.within(500..=50_000))
        .lookup_failures(0.0);
    // Where somebody may wait for ever with good reason, and where bytes may be cut off with good
    // reason, neither tells anything. So each is missing from every second storm.
    let (nobody_is_silent, nothing_is_cut_off) = (seed % 2 == 0, seed / 2 % 2 == 0);
    if nobody_is_silent {
        weather = weather.silences(0.0);
    }
    if nothing_is_cut_off {
        weather = weather.half_closes(0.0);
    }
    simulation.network().set_conditions(weather)?;
    let (server_host, client_host) = (simulation.host("server"), simulation.host("client"));
    let high = random.within(0..=2000);
    let handler = move |reader, writer| echo(reader, writer, high);
    let listen = start_server(handler, (SERVER, 7)).limit(random.within(64..=20_000));
    let server = simulation.run_until_complete(&server_host, listen)??;
    let clients = [(); CLIENTS].map(|()| client_host.create_task(client(random.fork())));
    let visits = simulation.run_until_complete(&client_host, async {
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await.map_err(io::Error::other)??);
        }
        io::Result::Ok(all)
    })??;
    for visit in visits {
        tally.bytes.add(visit.received.len() as u64);
        if !visit.sent.starts_with(&visit.received) {
            tally.wrong(format!("SEED={seed}: other bytes than were sent"));
        }
        match visit.end {
            // What nobody hears is given up within a quarter of an hour, everything else sooner.
            End::Stuck if nobody_is_silent => {
                tally.hangs.add(1);
                tally.surprise(format!("SEED={seed}: a client is stuck"));
            }
            End::Good if nothing_is_cut_off && visit.received.len() < visit.sent.len() => {
                tally.wrong(format!("SEED={seed}: a good end, and bytes are missing"));
            }
            _ => {}
        }
    }
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

/// What a client has seen of one connection.
struct Visit {
    sent: Vec<u8>,
    received: Vec<u8>,
    end: End,
}

enum End {
    Good,
    /// How it fails is the storm's affair.
    Bad,
    /// Nothing has happened for as long as the client is patient.
    Stuck,
}

/// All connections of one client.
async fn client(mut random: Random) -> io::Result<Vec<Visit>> {
    let mut visits = Vec::new();
    for _ in 0..CONNECTIONS {
        let size = random.within(1..=3000);
        let sent = random.bytes(size);
        // Whatever becomes of the connection, what it brought is kept.
        let mut received = Vec::new();
        let visiting = timeout(PATIENCE, visit(&mut random, &sent, &mut received));
        let (outcome, took) = timed(visiting).await?;
        let end = match outcome {
            // Also who went on only because the time was over.
            _ if took >= PATIENCE => End::Stuck,
            Ok(Ok(())) => End::Good,
            Ok(Err(_)) | Err(_) => End::Bad,
        };
        visits.push(Visit {
            sent,
            received,
            end,
        });
    }
    Ok(visits)
}

/// What comes of it, and how long that took by the loop's clock.
async fn timed<F: Future>(future: F) -> io::Result<(F::Output, Duration)> {
    let handle = get_running_loop()?;
    let began = handle.time();
    let outcome = future.await;
    Ok((outcome, handle.time() - began))
}

async fn visit(random: &mut Random, sent: &[u8], received: &mut Vec<u8>) -> io::Result<()> {
    let (mut reader, writer) = open_connection((SERVER, 7)).await?;
    writer.write(sent);
    writer.write_eof()?;
    loop {
        let bytes = reader.read(random.within(1..=4096)).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        received.extend(bytes);
    }
}

const SERVER: &str = "10.0.0.1";
const CLIENTS: usize = 8;
const CONNECTIONS: u32 = 10;
/// More than it takes until what nobody hears is given up.
const PATIENCE: Duration = Duration::from_secs(1000);
/// More than all patience of a client and all its connects, and then what the sockets need which it
/// left.
const TIME_LIMIT: Duration =
    Duration::from_secs((CONNECTIONS as u64 + 2) * (PATIENCE.as_secs() + CONNECT_SECONDS));
/// A connect that nobody answers fails within so much time.
const CONNECT_SECONDS: u64 = 130;
