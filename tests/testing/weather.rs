//! Each condition of a simulated network does what its name says, and nothing else.

use std::io;
use std::time::Duration;

use evloop::testing::{Conditions, Simulation, Tally};
use evloop::{StreamReader, StreamWriter, open_connection, sleep, start_server};

use crate::support::echo;

/// What came of a client that sent so much, how long it took, and what the world saw.
struct Day {
    outcome: io::Result<Vec<u8>>,
    took: Duration,
    tally: Tally,
}

fn day(weather: Conditions, size: usize) -> Day {
    let mut simulation = Simulation::new(1);
    simulation.set_time_limit(Duration::from_secs(4000));
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let listen = start_server(echo, ("10.0.0.1", 7));
    drop(
        simulation
            .run_until_complete(&server, listen)
            .unwrap()
            .unwrap(),
    );
    simulation.network().set_conditions(weather).unwrap();
    let outcome = simulation.run_until_complete(&client, async {
        let (reader, writer) = open_connection(("server", 7))
            .family(evloop::Family::Inet)
            .await?;
        // Time for what befalls a connection within its first two seconds.
        sleep(Duration::from_secs(3)).await?;
        exchange(reader, writer, size).await
    });
    Day {
        outcome: outcome.unwrap(),
        took: simulation.now(),
        tally: simulation.tally(),
    }
}

async fn exchange(
    mut reader: StreamReader,
    writer: StreamWriter,
    size: usize,
) -> io::Result<Vec<u8>> {
    writer.write(vec![7; size]);
    writer.drain().await?;
    let received = reader.readexactly(size).await;
    // The cause of a loss, if that was it.
    writer.close();
    writer.wait_closed().await?;
    Ok(received?)
}

fn kind(day: &Day) -> Option<io::ErrorKind> {
    day.outcome.as_ref().err().map(io::Error::kind)
}

#[test]
fn on_a_good_day_nothing_goes_wrong() {
    let good = day(Conditions::new(), 5000);
    assert!(good.outcome.is_ok_and(|bytes| bytes == vec![7; 5000]));
    assert!(good.took < Duration::from_secs(4), "{:?}", good.took);
    assert_eq!((good.tally.faults(), good.tally.connections), (0, 1));
}

#[test]
fn latency_and_bandwidth_take_their_time() {
    let second = Duration::from_secs(1);
    let slow = day(Conditions::new().latency(second..=second), 100);
    // A name, a connect, a question and its answer, and the three seconds.
    assert!(
        slow.outcome.is_ok() && slow.took >= 7 * second,
        "{:?}",
        slow.took
    );
    let narrow = day(Conditions::new().bandwidth(1000), 5000);
    // There and back, and much of it at once.
    assert!(
        narrow.outcome.is_ok() && narrow.took >= 8 * second,
        "{:?}",
        narrow.took
    );
    assert_eq!(slow.tally.faults() + narrow.tally.faults(), 0);
}

#[test]
fn what_is_cut_into_pieces_arrives() {
    let rough = [
        (Conditions::new().splits(1.0), 0, 0),
        (Conditions::new().short_reads(1.0), 1, 0),
        (Conditions::new().short_writes(1.0), 0, 1),
        (Conditions::new().buffer(1), 0, 0),
    ];
    for (weather, reads, writes) in rough {
        let rough = day(weather.clone(), 3000);
        assert!(rough.outcome.is_ok_and(|bytes| bytes.len() == 3000));
        assert_eq!(rough.tally.short_reads.min(1), reads, "{weather:?}");
        assert_eq!(rough.tally.short_writes.min(1), writes, "{weather:?}");
    }
    let lies = day(Conditions::new().spurious_events(0.9), 3000);
    assert!(lies.outcome.is_ok() && lies.tally.spurious_events > 0);
}

#[test]
fn what_ends_a_connection_is_told_by_its_name() {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof};
    let (minutes, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    type End = (
        Conditions,
        &'static [io::ErrorKind],
        Duration,
        fn(&Tally) -> u64,
    );
    let ends: [End; 7] = [
        (
            Conditions::new().resets(1.0),
            &[ConnectionReset],
            minutes,
            |t| t.resets,
        ),
        (
            Conditions::new().half_closes(1.0),
            &[UnexpectedEof, ConnectionReset, BrokenPipe],
            minutes,
            |t| t.early_ends,
        ),
        // As long as TCP tries.
        (Conditions::new().silences(1.0), &[TimedOut], hour, |t| {
            t.timeouts
        }),
        // That two hosts are together again does not help who is silent.
        (
            Conditions::new().silences(1.0).partitions(1.0),
            &[TimedOut],
            hour,
            |t| t.timeouts,
        ),
        (
            Conditions::new().black_holes(1.0),
            &[TimedOut],
            3 * minutes,
            |t| t.timeouts,
        ),
        (
            Conditions::new().refusals(1.0),
            &[ConnectionRefused],
            minutes,
            |t| t.refusals,
        ),
        (
            Conditions::new().lookup_failures(1.0),
            &[TimedOut],
            minutes,
            |t| t.lookup_failures,
        ),
    ];
    for (weather, kinds, within, count) in ends {
        let bad = day(weather.clone(), 100);
        assert!(
            kind(&bad).is_some_and(|kind| kinds.contains(&kind)),
            "{weather:?}: {:?}",
            bad.outcome
        );
        assert!(bad.took < within, "{weather:?}: {:?}", bad.took);
        assert!(count(&bad.tally) > 0, "{weather:?}: {:?}", bad.tally);
    }
}

#[test]
fn what_only_takes_time_is_got_over() {
    let parted = day(Conditions::new().partitions(1.0), 100);
    assert!(parted.outcome.is_ok(), "{:?}", parted.outcome);
    assert!(parted.took > Duration::from_secs(4), "{:?}", parted.took);
    let refused = day(Conditions::new().accept_failures(0.9), 100);
    assert!(refused.tally.accept_failures > 0, "{:?}", refused.tally);
    let jumped = day(Conditions::new().clock_jumps(1.0), 100);
    assert!(jumped.outcome.is_ok() && jumped.tally.clock_jumps > 0);
}

/// The client has seen an end that nobody sent, so what the server sends is answered with a reset, and
/// the server forgets the connection. The client still has bytes for which there is no room: its
/// system asks for room, and hears that there is no such connection.
#[test]
fn who_is_blocked_at_a_peer_that_has_forgotten_the_connection_is_told() {
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed);
        let (server, client) = (simulation.host("server"), simulation.host("client"));
        let weather = Conditions::new().half_closes(1.0).buffer(1000);
        simulation.network().set_conditions(weather).unwrap();
        // Reads next to nothing, and answers late.
        let handler = |_reader: StreamReader, writer: StreamWriter| async move {
            writer.transport().pause_reading();
            sleep(Duration::from_secs(10)).await?;
            writer.write(b"late");
            sleep(Duration::from_secs(10)).await?;
            writer.write(b"later");
            writer.drain().await
        };
        let listen = start_server(handler, ("10.0.0.1", 7)).limit(1);
        let listening = simulation.run_until_complete(&server, listen);
        drop(listening.unwrap().unwrap());
        let end = simulation.run_until_complete(&client, async {
            let (_reader, writer) = open_connection(("10.0.0.1", 7)).await?;
            writer.write(vec![7; 100_000]);
            writer.close();
            writer.wait_closed().await
        });
        assert!(end.unwrap().is_err(), "{seed}: not all of it is taken");
        assert!(simulation.now() < Duration::from_secs(60), "{seed}");
    }
}
