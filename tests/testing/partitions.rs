//! Hosts that are parted, and connections that nobody hears any more: as TCP has it.

use std::io;
use std::time::Duration;

use evloop::testing::{Conditions, Host, Network, Simulation};
use evloop::{StreamReader, StreamWriter, open_connection, sleep, start_server, timeout};

use crate::support::echo;

struct Pair {
    simulation: Simulation,
    server: Host,
    client: Host,
    network: Network,
}

fn pair() -> Pair {
    let mut simulation = Simulation::new(3);
    simulation.set_time_limit(Duration::from_secs(10_000));
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let listen = start_server(echo, ("10.0.0.1", 7));
    drop(
        simulation
            .run_until_complete(&server, listen)
            .unwrap()
            .unwrap(),
    );
    let network = simulation.network();
    Pair {
        simulation,
        server,
        client,
        network,
    }
}

async fn connect() -> (StreamReader, StreamWriter) {
    open_connection(("10.0.0.1", 7)).await.unwrap()
}

#[test]
fn each_time_that_nobody_hears_is_counted_from_its_own_beginning() {
    let Pair {
        mut simulation,
        server,
        client,
        network,
    } = pair();
    let took = simulation.run_until_complete(&client, async {
        let (mut reader, writer) = connect().await;
        network.partition(&client, &server).unwrap();
        writer.write(b"1");
        sleep(Duration::from_secs(5)).await.unwrap();
        network.heal(&client, &server);
        assert_eq!(reader.readexactly(1).await.unwrap(), b"1");
        sleep(Duration::from_secs(900)).await.unwrap();
        network.partition(&client, &server).unwrap();
        writer.write(b"2");
        let begin = client.time();
        let error = io::Error::from(reader.readexactly(1).await.unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        client.time() - begin
    });
    assert!(took.unwrap() >= Duration::from_secs(924));
}

#[test]
fn whoever_only_reads_is_told_nothing() {
    let Pair {
        mut simulation,
        server,
        client,
        network,
    } = pair();
    let outcome = simulation.run_until_complete(&client, async {
        let (mut reader, writer) = connect().await;
        writer.write(b"hello");
        sleep(Duration::from_secs(1)).await.unwrap();
        network.partition(&client, &server).unwrap();
        assert_eq!(reader.readexactly(5).await.unwrap(), b"hello");
        timeout(Duration::from_secs(5000), reader.read(1)).await
    });
    assert!(outcome.unwrap().is_err(), "nothing came, and no error");
}

#[test]
fn nothing_crosses_a_partition_not_even_a_reset_or_a_refusal() {
    let Pair {
        mut simulation,
        server,
        client,
        network,
    } = pair();
    let latency = Duration::from_millis(100)..=Duration::from_millis(100);
    let slow = Conditions::new().latency(latency);
    network.set_conditions(slow).unwrap();
    // The server's answer is held, so it gives up and goes. Who is parted from it does not hear of
    // that, and writes as if it were there.
    let waited = simulation.run_until_complete(&client, async {
        let (mut reader, writer) = connect().await;
        writer.write(b"x");
        sleep(Duration::from_millis(150)).await.unwrap();
        network.partition(&client, &server).unwrap();
        sleep(Duration::from_secs(1000)).await.unwrap();
        assert_eq!(server.descriptors(), 1, "only the listener is left");
        writer.write(b"y");
        let begin = client.time();
        assert!(reader.readexactly(2).await.is_err());
        client.time() - begin
    });
    assert!(waited.unwrap() >= Duration::from_secs(924));
    // A refusal that is under way when the partition comes.
    network.heal(&client, &server);
    let (here, there, again) = (client.clone(), server.clone(), network.clone());
    client.call_later(Duration::from_millis(150), move || {
        again.partition(&here, &there).unwrap();
    });
    let refused = simulation.run_until_complete(&client, async {
        timeout(Duration::from_secs(60), open_connection(("10.0.0.1", 99))).await
    });
    assert!(
        refused.unwrap().is_err(),
        "the refusal has crossed the partition"
    );
}

#[test]
fn what_the_weather_parts_and_what_is_parted_by_hand_are_two_things() {
    let Pair {
        mut simulation,
        server,
        client,
        network,
    } = pair();
    network
        .set_conditions(Conditions::new().partitions(1.0))
        .unwrap();
    let took = simulation.run_until_complete(&client, async {
        let (mut reader, writer) = connect().await;
        sleep(Duration::from_secs(2)).await.unwrap();
        // Twice is as good as once, and the weather's end is not its own.
        network.heal(&client, &server);
        network.partition(&client, &server).unwrap();
        network.partition(&client, &server).unwrap();
        let (here, there, again) = (client.clone(), server.clone(), network.clone());
        client.call_later(Duration::from_secs(60), move || again.heal(&here, &there));
        writer.write(b"x");
        let begin = client.time();
        reader.readexactly(1).await.unwrap();
        client.time() - begin
    });
    let took = took.unwrap();
    assert!(
        took >= Duration::from_secs(60) && took < Duration::from_secs(61),
        "{took:?}"
    );
}

#[test]
fn hosts_of_another_simulation_are_refused() {
    let Pair {
        client, network, ..
    } = pair();
    let stranger = Simulation::new(1).host("stranger");
    for outcome in [
        network.partition(&client, &stranger),
        network.set_link(&stranger, &client, Conditions::new()),
    ] {
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
