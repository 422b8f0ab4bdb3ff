//! The library in all weathers: what is promised is kept, whatever the network does.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use evloop::testing::{Conditions, Random, Simulation, explore};
use evloop::{
    ShutdownPhase, StreamReader, StreamWriter, TlsClientContext, TlsServerContext,
    get_running_loop, open_connection, open_unix_connection, sleep, start_server,
    start_unix_server, timeout,
};

use crate::support::{Talk, cert, echo, talk, until_nothing_is_open};

#[derive(Clone, Copy, PartialEq)]
enum Over {
    Tcp,
    Tls,
    Unix,
}

/// Several clients talk to an echo server at once. Afterwards nothing is left.
fn crowd(simulation: &mut Simulation, over: Over, weather: Conditions) -> io::Result<Vec<Talk>> {
    // Buffers of all sizes, on both sides of the seam: what is full and when differs.
    let mut random = simulation.random();
    let limit = random.within(64..=20_000);
    let weather = weather.buffer(random.within(500..=50_000));
    simulation.network().set_conditions(weather)?;
    let server_host = simulation.host("server");
    let client_host = match over {
        Over::Unix => server_host.clone(),
        Over::Tcp | Over::Tls => simulation.host("client"),
    };
    let tls = match over {
        Over::Tls => Some(TlsServerContext::from_pem_files(
            cert("server.pem"),
            cert("server.key"),
        )?),
        Over::Tcp | Over::Unix => None,
    };
    let server = simulation.run_until_complete(&server_host, async {
        match over {
            // A unix socket whose queue is full sends clients away; a TCP one lets them wait.
            Over::Unix => {
                let server = start_unix_server(echo, "/run/echo").limit(limit);
                server.backlog(CROWD as u32).await
            }
            Over::Tcp | Over::Tls => {
                let server = start_server(echo, ("server", 7)).limit(limit);
                server.ssl(tls).backlog(2).await
            }
        }
    });
    // A storm may take the name away.
    let Ok(server) = server? else {
        return Ok(Vec::new());
    };
    let talks = Rc::new(RefCell::new(Vec::new()));
    let running = Rc::new(Cell::new(CROWD));
    for _ in 0..CROWD {
        let (mut random, talks, running) =
            (simulation.random(), Rc::clone(&talks), Rc::clone(&running));
        drop(client_host.create_task(async move {
            let size = random.within(0..=30_000);
            let outcome = timeout(PATIENCE, async {
                let streams = match over {
                    Over::Tcp => open_connection(("server", 7)).limit(limit).await?,
                    Over::Unix => open_unix_connection("/run/echo").limit(limit).await?,
                    Over::Tls => {
                        let tls = TlsClientContext::builder()
                            .root_file(cert("ca.pem"))
                            .build()?;
                        open_connection(("server", 7))
                            .ssl(tls)
                            .server_hostname("localhost")
                            .await?
                    }
                };
                io::Result::Ok(talk(random, size, streams).await)
            });
            if let Ok(Ok(talk)) = outcome.await {
                talks.borrow_mut().push(talk);
            }
            running.set(running.get() - 1);
        }));
    }
    simulation.run_until_complete(&client_host, async {
        while running.get() > 0 {
            sleep(Duration::from_millis(100)).await.unwrap();
        }
    })?;
    for talk in talks.borrow().iter() {
        talk.check(simulation);
    }
    simulation.run_until_complete(&server_host, async {
        server.close();
        // Whoever is silent has nothing to say for itself.
        server.abort_clients();
        server.wait_closed().await
    })??;
    until_nothing_is_open(simulation, &server_host)?;
    until_nothing_is_open(simulation, &client_host)?;
    Ok(talks.take())
}

/// In rough weather everybody gets everything.
fn rough_crowd(simulation: &mut Simulation, over: Over) -> io::Result<()> {
    let talks = crowd(simulation, over, Conditions::rough())?;
    assert_eq!(talks.len(), CROWD);
    for talk in talks {
        talk.end?;
    }
    Ok(())
}

#[test]
fn rough_weather_over_tcp() {
    explore(0..60, |simulation| rough_crowd(simulation, Over::Tcp));
}

#[test]
fn rough_weather_over_unix_sockets() {
    explore(0..40, |simulation| rough_crowd(simulation, Over::Unix));
}

#[test]
fn rough_weather_over_tls() {
    explore(0..40, |simulation| rough_crowd(simulation, Over::Tls));
}

#[test]
fn a_storm_over_tcp() {
    let seen = Cell::new(0);
    explore(1000..1120, |simulation| {
        crowd(simulation, Over::Tcp, Conditions::storm())?;
        let tally = simulation.tally();
        seen.set(seen.get() + tally.resets + tally.early_ends + tally.refusals + tally.timeouts);
        Ok(())
    });
    assert!(
        seen.get() > 20 || std::env::var_os("SEED").is_some(),
        "a storm that nobody noticed"
    );
}

#[test]
fn a_storm_over_unix_sockets() {
    explore(1000..1040, |simulation| {
        crowd(simulation, Over::Unix, Conditions::storm()).map(drop)
    });
}

/// Besides: what an attacker, or a fault, cuts off is never taken for the end.
#[test]
fn a_storm_over_tls() {
    explore(1000..1060, |simulation| {
        for talk in crowd(simulation, Over::Tls, Conditions::storm())? {
            if talk.end.is_ok() {
                assert!(talk.received == talk.sent, "cut off, and nobody was told");
            }
        }
        Ok(())
    });
}

/// While clients come and go a server shuts down: it ends in the time it is given.
#[test]
fn a_shutdown_in_a_storm_ends_in_its_time() {
    explore(2000..2060, |simulation| {
        let weather = Conditions::storm().lookup_failures(0.0).clock_jumps(0.0);
        simulation.network().set_conditions(weather)?;
        let (server_host, client) = (simulation.host("server"), simulation.host("client"));
        let server =
            simulation.run_until_complete(&server_host, start_server(echo, ("server", 7)))??;
        for _ in 0..CROWD {
            let mut random = simulation.random();
            drop(client.create_task(async move {
                loop {
                    let streams = open_connection(("server", 7));
                    if let Ok(Ok(streams)) = timeout(PATIENCE, streams).await {
                        let size = random.within(0..=50_000);
                        let talk = talk(random.fork(), size, streams);
                        drop(timeout(Duration::from_secs(20), talk).await);
                    } else {
                        break;
                    }
                }
            }));
        }
        let limit = Duration::from_secs(1);
        let (took, report) = simulation.run_until_complete(&server_host, async {
            sleep(Duration::from_millis(500)).await?;
            let handle = get_running_loop()?;
            let begin = handle.time();
            let report = server.shutdown().drain(limit).close(limit).await?;
            io::Result::Ok((handle.time() - begin, report))
        })??;
        assert!(took < 2 * limit + Duration::from_millis(100), "{took:?}");
        assert_eq!(report.survivors(ShutdownPhase::Abort).count(), 0);
        until_nothing_is_open(simulation, &server_host)
    });
}

/// Questions and answers of all sizes, none of which is followed by an end: nothing but its own
/// arrival tells that it is there.
#[test]
fn a_question_is_answered_without_an_end_behind_it() {
    async fn send(random: &mut Random, writer: &StreamWriter) -> io::Result<Vec<u8>> {
        let size = random.within(0..=60_000);
        let bytes = random.bytes(size);
        writer.write(&(size as u32).to_be_bytes());
        writer.write(&bytes);
        writer.drain().await?;
        Ok(bytes)
    }
    async fn receive(reader: &mut StreamReader) -> io::Result<Vec<u8>> {
        let size = reader.readexactly(4).await?;
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]);
        Ok(reader.readexactly(size as usize).await?)
    }
    explore(2400..2450, |simulation| {
        let mut random = simulation.random();
        let weather = match random.chance(0.5) {
            true => Conditions::rough().buffer(random.within(1..=100_000)),
            false => Conditions::new().buffer(100_000),
        };
        simulation.network().set_conditions(weather)?;
        let (server_host, client) = (simulation.host("server"), simulation.host("client"));
        let (mine, theirs) = (random.within(1..=30_000), random.within(1..=30_000));
        let answer = |mut reader: StreamReader, writer: StreamWriter| async move {
            loop {
                let question = receive(&mut reader).await?;
                sleep(Duration::from_millis(1)).await?;
                writer.write(&(question.len() as u32).to_be_bytes());
                writer.write(question);
                writer.drain().await?;
            }
            #[expect(unreachable_code, reason = "it says what the block gives")]
            io::Result::Ok(())
        };
        let listen = start_server(answer, ("server", 7)).limit(theirs);
        let server = simulation.run_until_complete(&server_host, listen)??;
        simulation.run_until_complete(&client, async {
            let (mut reader, writer) = open_connection(("server", 7)).limit(mine).await?;
            for _ in 0..10 {
                let question = send(&mut random, &writer).await?;
                assert!(receive(&mut reader).await? == question);
            }
            io::Result::Ok(())
        })??;
        server.close();
        until_nothing_is_open(simulation, &server_host)
    });
}

/// More clients come at once than a turn accepts: the rest has no edge of its own.
#[test]
fn a_burst_of_clients_is_served_to_the_last() {
    explore(2500..2510, |simulation| {
        let weather = Conditions::new().latency(Duration::ZERO..=Duration::ZERO);
        simulation.network().set_conditions(weather)?;
        let (server_host, client) = (simulation.host("server"), simulation.host("client"));
        let listen = start_server(echo, ("10.0.0.1", 7)).backlog(1000);
        let server = simulation.run_until_complete(&server_host, listen)??;
        let served = Rc::new(Cell::new(0));
        for _ in 0..200 {
            let served = Rc::clone(&served);
            drop(client.create_task(async move {
                let (mut reader, writer) = open_connection(("10.0.0.1", 7)).await.unwrap();
                writer.write(b"hello\n");
                assert_eq!(reader.readline().await.unwrap(), b"hello\n");
                served.set(served.get() + 1);
            }));
        }
        simulation.run_until_complete(&client, async {
            while served.get() < 200 {
                sleep(Duration::from_secs(1)).await.unwrap();
            }
        })?;
        server.close();
        until_nothing_is_open(simulation, &server_host)
    });
}

/// The other end sends, and resets: what it sent comes first, then the reset, however much of it is
/// read at a time.
#[test]
fn what_came_before_a_reset_is_read_before_it() {
    explore(2600..2660, |simulation| {
        simulation
            .network()
            .set_conditions(Conditions::rough().buffer(100_000))?;
        let (server_host, client) = (simulation.host("server"), simulation.host("client"));
        let message = Rc::new(simulation.random().bytes(20_000));
        let sent = Rc::clone(&message);
        let spit = move |mut reader: StreamReader, writer: StreamWriter| {
            let sent = Rc::clone(&sent);
            async move {
                writer.write(&sent[..]);
                // All of it has left, and what this client says is thrown away unread.
                writer
                    .transport()
                    .set_write_buffer_limits(Some(0), Some(0))?;
                writer.drain().await?;
                reader.readexactly(1).await?;
                writer.transport().pause_reading();
                sleep(Duration::from_secs(1)).await?;
                writer.transport().abort();
                io::Result::Ok(())
            }
        };
        let server =
            simulation.run_until_complete(&server_host, start_server(spit, ("server", 7)))??;
        let mut random = simulation.random();
        let (received, end) = simulation.run_until_complete(&client, async {
            let (mut reader, writer) = open_connection(("server", 7)).limit(1000).await?;
            writer.write(b"!");
            sleep(Duration::from_millis(500)).await?;
            writer.write(b"nobody reads this");
            sleep(random.duration(Duration::ZERO..=Duration::from_secs(2))).await?;
            let mut received = Vec::new();
            loop {
                match reader.read(random.within(1..=5000)).await {
                    Ok(bytes) if bytes.is_empty() => break io::Result::Ok((received, None)),
                    Ok(bytes) => received.extend(bytes),
                    Err(error) => break Ok((received, Some(error.kind()))),
                }
            }
        })??;
        assert!(
            received == *message,
            "{} bytes of {}",
            received.len(),
            message.len()
        );
        assert_eq!(end, Some(io::ErrorKind::ConnectionReset));
        server.close();
        until_nothing_is_open(simulation, &server_host)
    });
}

/// Several tasks write to one connection and wait for room and for its end: none is forgotten.
#[test]
fn all_who_wait_for_one_connection_are_woken() {
    explore(2700..2730, |simulation| {
        simulation.network().set_conditions(Conditions::rough())?;
        let (server_host, client) = (simulation.host("server"), simulation.host("client"));
        let server =
            simulation.run_until_complete(&server_host, start_server(echo, ("server", 7)))??;
        let done = Rc::new(Cell::new(0));
        let count = Rc::clone(&done);
        let received = simulation.run_until_complete(&client, async {
            let (mut reader, writer) = open_connection(("server", 7)).await?;
            let writer = Rc::new(writer);
            for _ in 0..5 {
                let (writer, done) = (Rc::clone(&writer), Rc::clone(&count));
                drop(client.create_task(async move {
                    for _ in 0..4 {
                        writer.write(&[7; 30_000]);
                        writer.drain().await.unwrap();
                    }
                    done.set(done.get() + 1);
                    writer.wait_closed().await.unwrap();
                    done.set(done.get() + 1);
                }));
            }
            let received = reader.readexactly(5 * 4 * 30_000).await?;
            writer.close();
            writer.wait_closed().await?;
            sleep(Duration::ZERO).await?;
            io::Result::Ok(received.len())
        })??;
        assert_eq!((received, done.get()), (600_000, 10));
        server.close();
        until_nothing_is_open(simulation, &server_host)
    });
}

/// Many times that end early and late: whoever takes one back takes no other's.
#[test]
fn times_that_are_taken_back_disturb_no_others() {
    explore(2800..2840, |simulation| {
        let host = simulation.host("only");
        let mut random = simulation.random();
        simulation.run_until_complete(&host, async {
            let tasks: Vec<_> = (0..50)
                .map(|_| {
                    let mut random = random.fork();
                    let here = host.clone();
                    host.create_task(async move {
                        for _ in 0..20 {
                            let limit = random.duration(Duration::ZERO..=Duration::from_millis(50));
                            let work = random.duration(Duration::ZERO..=Duration::from_millis(50));
                            let kept = here.call_later(limit, || {});
                            let begin = here.time();
                            let outcome = timeout(limit, sleep(work)).await;
                            let took = here.time() - begin;
                            assert!(took >= limit.min(work), "{took:?}");
                            assert!(
                                took <= limit.min(work) + Duration::from_millis(5),
                                "{took:?}"
                            );
                            assert!(outcome.is_ok() || work >= limit);
                            // It may have gone off already: then there is nothing to take back.
                            kept.cancel();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        })?;
        Ok(())
    });
}

/// More clients come than there are descriptors: each has its turn.
#[test]
fn who_waits_for_a_descriptor_gets_one() {
    explore(3000..3040, |simulation| {
        simulation.network().set_conditions(Conditions::rough())?;
        let (server_host, client) = (simulation.host("server"), simulation.host("client"));
        let listen = start_server(echo, ("10.0.0.1", 7));
        let server = simulation.run_until_complete(&server_host, listen)??;
        server_host.set_descriptor_limit(3);
        let served = Rc::new(Cell::new(0));
        for _ in 0..8 {
            let (random, served) = (simulation.random(), Rc::clone(&served));
            drop(client.create_task(async move {
                let streams = open_connection(("10.0.0.1", 7)).await.unwrap();
                let talk = talk(random, 1000, streams).await;
                talk.end.unwrap();
                assert_eq!(talk.received, talk.sent);
                served.set(served.get() + 1);
            }));
        }
        simulation.run_until_complete(&client, async {
            while served.get() < 8 {
                sleep(Duration::from_secs(1)).await.unwrap();
            }
        })?;
        assert!(simulation.tally().accept_failures > 0);
        server.close();
        until_nothing_is_open(simulation, &server_host)
    });
}

/// An accept fails for want of a descriptor, and nobody closes one: it is tried again by itself.
#[test]
fn an_accept_that_has_failed_is_tried_again() {
    explore(3500..3520, |simulation| {
        let weather = Conditions::new().accept_failures(0.9);
        simulation.network().set_conditions(weather)?;
        let (server_host, client) = (simulation.host("server"), simulation.host("client"));
        let server = start_server(echo, ("10.0.0.1", 7));
        let server = simulation.run_until_complete(&server_host, server)??;
        let line = simulation.run_until_complete(&client, async {
            // One that was gone when it was accepted is reset, and comes again.
            loop {
                if let Ok((mut reader, writer)) = open_connection(("10.0.0.1", 7)).await {
                    writer.write(b"hello\n");
                    if let Ok(line) = reader.readline().await {
                        break line;
                    }
                }
            }
        })?;
        assert_eq!(line, b"hello\n");
        server.close();
        until_nothing_is_open(simulation, &server_host)
    });
}

/// Whoever writes more than the other end takes has to wait, and holds little meanwhile.
#[test]
fn a_slow_reader_holds_the_writer_up() {
    const CHUNK: usize = 10_000;
    explore(4000..4040, |simulation| {
        simulation.network().set_conditions(Conditions::rough())?;
        let (server_host, client) = (simulation.host("server"), simulation.host("client"));
        let (most, held) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (seen, high) = (Rc::clone(&most), Rc::clone(&held));
        let pour = move |_: StreamReader, writer: StreamWriter| {
            let (seen, high) = (Rc::clone(&seen), Rc::clone(&high));
            async move {
                high.set(writer.transport().get_write_buffer_limits().1);
                for number in 0..40_u8 {
                    writer.write(&[number; CHUNK]);
                    seen.set(seen.get().max(writer.transport().get_write_buffer_size()));
                    writer.drain().await?;
                }
                writer.close();
                writer.wait_closed().await
            }
        };
        let server =
            simulation.run_until_complete(&server_host, start_server(pour, ("server", 7)))??;
        let mut random = simulation.random();
        let received = simulation.run_until_complete(&client, async {
            let (mut reader, _writer) = open_connection(("server", 7)).limit(2000).await?;
            let mut received = Vec::new();
            loop {
                sleep(random.duration(Duration::ZERO..=Duration::from_millis(20))).await?;
                match reader.read(random.within(1..=20_000)).await? {
                    bytes if bytes.is_empty() => return io::Result::Ok(received),
                    bytes => received.extend(bytes),
                }
            }
        })??;
        let sent: Vec<u8> = (0..40_u8).flat_map(|number| [number; CHUNK]).collect();
        assert!(received == sent);
        assert!(
            most.get() <= held.get() + CHUNK,
            "{} bytes waited",
            most.get()
        );
        server.close();
        until_nothing_is_open(simulation, &server_host)
    });
}

/// Two that are parted, and together again, lose nothing; parted for long, they are told.
#[test]
fn a_partition_that_heals_costs_time_and_nothing_else() {
    explore(5000..5040, |simulation| {
        let (server_host, client) = (simulation.host("server"), simulation.host("client"));
        let server =
            simulation.run_until_complete(&server_host, start_server(echo, ("server", 7)))??;
        let (network, random) = (simulation.network(), simulation.random());
        let took = simulation.run_until_complete(&client, async {
            let streams = open_connection(("server", 7)).await?;
            network.partition(&client, &server_host)?;
            let again = network.clone();
            let (here, there) = (client.clone(), server_host.clone());
            client.call_later(Duration::from_secs(100), move || again.heal(&here, &there));
            let begin = client.time();
            let talk = talk(random, 10_000, streams).await;
            talk.end?;
            assert_eq!(talk.received, talk.sent);
            io::Result::Ok(client.time() - begin)
        })??;
        assert!(took >= Duration::from_secs(100), "{took:?}");
        // And once more, without an end.
        let outcome = simulation.run_until_complete(&client, async {
            let (mut reader, writer) = open_connection(("server", 7)).await?;
            network.partition(&client, &server_host)?;
            writer.write(b"anybody there?\n");
            reader.readline().await.map_err(io::Error::from)
        })?;
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
        network.heal(&client, &server_host);
        server.close();
        server.abort_clients();
        until_nothing_is_open(simulation, &server_host)
    });
}

const CROWD: usize = 6;
/// More than a connect, or what was sent, takes until it is given up.
const PATIENCE: Duration = Duration::from_secs(1000);
