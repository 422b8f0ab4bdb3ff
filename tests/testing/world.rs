//! Hosts, names, time and seeds.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use evloop::testing::{Conditions, Host, Simulation, SimulationError, explore};
use evloop::{
    StreamReader, StreamWriter, get_running_loop, open_connection, sleep, start_server, timeout,
};

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(1000).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(&data);
        writer.drain().await?;
    }
}

/// Has a host serve echo on port 7, and waits until it does.
fn serve_echo(simulation: &mut Simulation, host: &Host) -> io::Result<()> {
    let name = host.name();
    let server = simulation.run_until_complete(host, start_server(echo, (name.as_str(), 7)))??;
    drop(server);
    Ok(())
}

async fn exchange(name: &str, message: Vec<u8>) -> io::Result<Vec<u8>> {
    let (mut reader, writer) = open_connection((name, 7)).await?;
    writer.write(&message);
    writer.write_eof()?;
    let answer = reader.read_to_end(None).await?;
    writer.close();
    writer.wait_closed().await?;
    Ok(answer)
}

#[test]
fn a_program_of_two_hosts_runs_as_it_is() -> io::Result<()> {
    let mut simulation = Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    serve_echo(&mut simulation, &server)?;
    let message = simulation.random().bytes(300_000);
    let answer = simulation.run_until_complete(&client, exchange("server", message.clone()))??;
    assert!(answer == message);
    assert_eq!(simulation.tally().connections, 1);
    assert_eq!(simulation.tally().faults(), 0);
    Ok(())
}

#[test]
fn an_hour_takes_no_time_and_is_an_hour() -> io::Result<()> {
    let mut simulation = Simulation::new(1);
    simulation.set_time_limit(Duration::from_secs(10_000));
    let host = simulation.host("only");
    let took = simulation.run_until_complete(&host, async {
        let handle = get_running_loop().unwrap();
        let begin = handle.time();
        sleep(Duration::from_secs(3600)).await.unwrap();
        handle.time() - begin
    })?;
    assert!(
        took >= Duration::from_secs(3600) && took < Duration::from_secs(3601),
        "{took:?}"
    );
    Ok(())
}

#[test]
fn rough_weather_loses_nothing() {
    explore(0..100, |simulation| {
        simulation.network().set_conditions(Conditions::rough())?;
        let (server, client) = (simulation.host("server"), simulation.host("client"));
        serve_echo(simulation, &server)?;
        let size = simulation.random().within(0..=50_000);
        let message = simulation.random().bytes(size);
        let answer =
            simulation.run_until_complete(&client, exchange("server", message.clone()))??;
        assert!(
            answer == message,
            "{} bytes came back of {size}",
            answer.len()
        );
        Ok(())
    });
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_not() -> io::Result<()> {
    let run = |seed| {
        let mut simulation = Simulation::new(seed);
        simulation.network().set_conditions(Conditions::storm())?;
        let (server, client) = (simulation.host("server"), simulation.host("client"));
        serve_echo(&mut simulation, &server)?;
        let outcomes = Rc::new(RefCell::new(Vec::new()));
        for number in 0..5_u8 {
            let outcomes = Rc::clone(&outcomes);
            drop(client.create_task(async move {
                let limit = Duration::from_secs(300);
                let outcome = timeout(limit, exchange("server", vec![number; 5000])).await;
                outcomes.borrow_mut().push(format!("{number} {outcome:?}"));
            }));
        }
        let done = Rc::clone(&outcomes);
        simulation.run_until_complete(&client, async move {
            while done.borrow().len() < 5 {
                sleep(Duration::from_secs(1)).await.unwrap();
            }
        })?;
        let outcomes = outcomes.borrow().join("\n");
        io::Result::Ok((simulation.fingerprint(), simulation.tally(), outcomes))
    };
    for seed in 0..20 {
        assert_eq!(run(seed)?, run(seed)?);
    }
    assert_ne!(run(1)?.0, run(2)?.0);
    Ok(())
}

#[test]
fn a_deadlock_names_who_waits_for_what() {
    let mut simulation = Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    serve_echo(&mut simulation, &server).unwrap();
    let outcome = simulation.run_until_complete(&client, async {
        let (mut reader, _writer) = open_connection(("server", 7)).await.unwrap();
        reader.readline().await.unwrap()
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error, SimulationError::Deadlock(_)));
    let text = error.to_string();
    assert!(
        text.contains("client: the future of run_until_complete waits for bytes from [fd00::1]:7"),
        "{text}"
    );
    assert!(
        text.contains("server: task") && text.contains("waits for bytes from [fd00::2]:"),
        "{text}"
    );
    let socket = "server: [fd00::1]:7 is connected with [fd00::2]:49152, 0 bytes unread";
    assert!(text.contains(socket), "{text}");
}

#[test]
fn a_wake_up_that_somebody_loses_is_told_from_a_deadlock() {
    let mut simulation = Simulation::new(1);
    let host = simulation.host("only");
    let flag = Rc::new(Cell::new(false));
    let set = Rc::clone(&flag);
    host.call_later(Duration::from_secs(1), move || set.set(true));
    let outcome = simulation.run_until_complete(
        &host,
        std::future::poll_fn(|_| match flag.get() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }),
    );
    assert!(
        matches!(outcome, Err(SimulationError::LostWakeUp { .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_panic_that_nobody_waits_for_ends_the_run() {
    let mut simulation = Simulation::new(1);
    let host = simulation.host("only");
    drop(host.create_task(async { panic!("on purpose") }));
    let outcome = simulation.run_until_complete(&host, sleep(Duration::from_secs(1)));
    let error = outcome.unwrap_err();
    assert!(matches!(&error, SimulationError::Panicked { host, .. } if host == "only"));
    assert!(error.to_string().contains("on purpose"), "{error}");
}

#[test]
fn who_never_pauses_and_who_never_ends_is_found() {
    let mut simulation = Simulation::new(1);
    let host = simulation.host("only");
    let outcome = simulation.run_until_complete(&host, async {
        loop {
            sleep(Duration::ZERO).await.unwrap();
        }
    });
    let outcome: Result<(), _> = outcome;
    assert!(
        matches!(outcome, Err(SimulationError::Livelock(_))),
        "{outcome:?}"
    );

    let mut simulation = Simulation::new(1);
    simulation.set_time_limit(Duration::from_secs(100));
    let host = simulation.host("only");
    let outcome = simulation.run_until_complete(&host, sleep(Duration::from_secs(101)));
    assert!(
        matches!(outcome, Err(SimulationError::TimeLimit(_))),
        "{outcome:?}"
    );
    // Also of one that has something to do all the time.
    simulation.set_time_limit(Duration::from_millis(1));
    let outcome = simulation.run_until_complete(&host, async {
        loop {
            sleep(Duration::ZERO).await.unwrap();
        }
    });
    let outcome: Result<(), _> = outcome;
    assert!(
        matches!(outcome, Err(SimulationError::TimeLimit(_))),
        "{outcome:?}"
    );
}

#[test]
fn functions_of_an_executor_run_elsewhere_and_take_time_of_the_simulation() -> io::Result<()> {
    let mut simulation = Simulation::new(1);
    let host = simulation.host("only");
    let here = std::thread::current().id();
    let (there, took) = simulation.run_until_complete(&host, async {
        let begin = host.time();
        let there = host
            .run_in_executor(|| std::thread::current().id())
            .await
            .unwrap();
        (there, host.time() - begin)
    })?;
    assert_ne!(here, there);
    assert!(
        took > Duration::ZERO && took < Duration::from_millis(10),
        "{took:?}"
    );
    Ok(())
}

#[test]
fn a_signal_reaches_who_handles_it_and_nobody_else() -> io::Result<()> {
    let mut simulation = Simulation::new(1);
    let (one, other) = (simulation.host("one"), simulation.host("other"));
    let told = Rc::new(Cell::new(0));
    let count = Rc::clone(&told);
    one.add_signal_handler(evloop::signals::SIGTERM, move || count.set(count.get() + 1))?;
    assert!(one.raise(evloop::signals::SIGTERM));
    assert!(!other.raise(evloop::signals::SIGTERM));
    simulation.run_until_complete(&one, sleep(Duration::from_secs(1)))??;
    assert_eq!(told.get(), 1);
    Ok(())
}

#[test]
fn a_clock_that_jumps_makes_its_own_timers_due_and_no_others() -> io::Result<()> {
    let mut simulation = Simulation::new(1);
    let (one, other) = (simulation.host("one"), simulation.host("other"));
    let rang = Rc::new(RefCell::new(Vec::new()));
    for host in [&one, &other] {
        let (rang, name) = (Rc::clone(&rang), host.name());
        host.call_later(Duration::from_secs(50), move || {
            rang.borrow_mut().push(name);
        });
    }
    one.jump_clock(Duration::from_secs(60));
    simulation.run_until_complete(&other, sleep(Duration::from_secs(1)))??;
    assert_eq!(*rang.borrow(), ["one"]);
    simulation.run_until_complete(&other, sleep(Duration::from_secs(60)))??;
    assert_eq!(*rang.borrow(), ["one", "other"]);
    Ok(())
}

#[test]
fn nothing_is_asked_of_the_real_world() -> io::Result<()> {
    let mut simulation = Simulation::new(1);
    let host = simulation.host("only");
    let unknown =
        simulation.run_until_complete(&host, open_connection(("elsewhere.example", 80)))?;
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .contains("elsewhere.example")
    );
    // An address of nobody.
    let nobody = simulation.run_until_complete(&host, open_connection(("192.0.2.1", 80)))?;
    assert_eq!(
        nobody.unwrap_err().kind(),
        io::ErrorKind::NetworkUnreachable
    );
    let pair = std::os::unix::net::UnixStream::pair()?;
    let watched = host.add_reader(&pair.0, || {});
    assert_eq!(watched.unwrap_err().kind(), io::ErrorKind::Unsupported);
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut simulation = Simulation::new(1);
    let (one, other) = (simulation.host("one"), simulation.host("other"));
    let network = simulation.network();
    let refused = [
        network.set_conditions(Conditions::new().resets(2.0)),
        network.set_link(&one, &other, Conditions::new().buffer(0)),
        network.partition(&one, &one),
        one.add_signal_handler(0, || {}),
    ];
    for outcome in refused {
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

/// Numbers that the code decides and no machine does: they change with it, and only with it.
#[test]
fn a_seed_means_the_same_on_every_machine() -> io::Result<()> {
    let mut simulation = Simulation::new(20);
    simulation.network().set_conditions(Conditions::rough())?;
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    serve_echo(&mut simulation, &server)?;
    simulation.run_until_complete(&client, exchange("server", vec![7; 20_000]))??;
    assert_eq!(
        simulation.fingerprint(),
        14_153_535_909_104_216_951,
        "the run of seed 20 is another one than it was"
    );
    Ok(())
}
