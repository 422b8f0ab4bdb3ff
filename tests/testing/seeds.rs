//! Many runs, the one that failed, and what a seed decides.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::io::{self, Write};
use std::process::{Command, Output};
use std::rc::Rc;
use std::time::Duration;

use evloop::testing::{Conditions, Simulation, explore};
use evloop::{StreamReader, StreamWriter, open_connection, sleep, start_server};

/// The scenario fails with every tenth seed.
#[test]
fn in_a_process_of_its_own() {
    let Some(how) = env::var_os(MARK) else {
        return;
    };
    explore(1..100, |simulation| {
        writeln!(io::stdout(), "ran {}", simulation.seed())?;
        match simulation.seed() % 10 {
            0 if how == "panic" => panic!("on purpose"),
            0 => Err(io::Error::other("on purpose")),
            _ => Ok(()),
        }
    });
}

fn process(how: &str, seed: Option<&str>) -> (Output, String) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "seeds::in_a_process_of_its_own", "--nocapture"]);
    command.env(MARK, how).env_remove("SEED");
    if let Some(seed) = seed {
        command.env("SEED", seed);
    }
    let output = command.output().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8(text).unwrap())
}

#[test]
fn the_seed_of_a_failure_is_printed_and_alone_run_again() {
    for how in ["panic", "error"] {
        let (output, text) = process(how, None);
        assert!(!output.status.success());
        assert!(
            text.contains("SEED=10 runs it again") && text.contains("on purpose"),
            "{text}"
        );
        assert_eq!(text.matches("ran ").count(), 10, "{text}");

        let (output, text) = process(how, Some("10"));
        assert!(!output.status.success());
        assert_eq!(text.matches("ran ").count(), 1, "{text}");

        let (output, text) = process(how, Some("11"));
        assert!(output.status.success(), "{text}");
        assert!(text.contains("ran 11"), "{text}");
    }
}

#[test]
fn a_seed_that_is_no_number_is_refused() {
    let (output, text) = process("error", Some("ten"));
    assert!(!output.status.success());
    assert!(
        text.contains("SEED=ten: a seed is a number from 0 to 18446744073709551615"),
        "{text}"
    );
    assert_eq!(text.matches("ran ").count(), 0, "{text}");
}

#[test]
#[should_panic(expected = "without a seed nothing is run")]
fn a_test_of_nothing_fails() {
    if env::var_os("SEED").is_some() {
        panic!("without a seed nothing is run, but there is one");
    }
    explore([], |_| Ok(()));
}

/// Three clients write at the same instant, over a network that takes always the same time.
fn order(seed: u64) -> io::Result<Vec<u8>> {
    let mut simulation = Simulation::new(seed);
    let instant = Duration::from_millis(1)..=Duration::from_millis(1);
    simulation
        .network()
        .set_conditions(Conditions::new().latency(instant))?;
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let order = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&order);
    let note = move |mut reader: StreamReader, writer: StreamWriter| {
        let seen = Rc::clone(&seen);
        async move {
            let name = reader.readexactly(1).await?;
            seen.borrow_mut().push(name[0]);
            reader.read_to_end(None).await?;
            drop(writer);
            io::Result::Ok(())
        }
    };
    simulation.run_until_complete(&server, start_server(note, ("10.0.0.1", 7)))??;
    simulation.run_until_complete(&client, async {
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(open_connection(("10.0.0.1", 7)).await?);
        }
        sleep(Duration::from_secs(1)).await?;
        for (name, (_, writer)) in (b'a'..).zip(&streams) {
            writer.write(&[name]);
        }
        sleep(Duration::from_secs(1)).await?;
        io::Result::Ok(())
    })??;
    Ok(order.take())
}

#[test]
fn what_happens_at_the_same_time_comes_in_every_order() {
    let orders: BTreeSet<Vec<u8>> = (0..100).map(|seed| order(seed).unwrap()).collect();
    assert_eq!(orders.len(), 6, "{orders:?}");
}

#[test]
fn what_is_promised_an_order_keeps_it() {
    explore(0..100, |simulation| {
        simulation.network().set_conditions(Conditions::storm())?;
        let host = simulation.host("only");
        let order = Rc::new(RefCell::new(Vec::new()));
        let when = host.time() + Duration::from_millis(5);
        for number in 0..10 {
            let (soon, at) = (Rc::clone(&order), Rc::clone(&order));
            host.call_soon(move || soon.borrow_mut().push(number));
            host.call_at(when, move || at.borrow_mut().push(10 + number));
        }
        simulation.run_until_complete(&host, sleep(Duration::from_secs(1)))??;
        assert_eq!(*order.borrow(), (0..20).collect::<Vec<_>>());
        Ok(())
    });
}

const MARK: &str = "EVLOOP_A_FAILING_SCENARIO";
