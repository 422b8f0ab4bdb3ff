//! The loop: tasks, timers, signals, connects, and events that come too late.

use std::cell::{Cell, RefCell};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evloop::signals::SIGUSR1;
use evloop::{
    EndpointError, EventLoop, Transport, create_connection, create_server, get_running_loop,
    open_connection, sleep,
};
use futures::future::join_all;
use signal_hook::low_level::raise;

use crate::common::own_process::{self, resident_kib};
use crate::common::trace::Trace;
use crate::common::{Peer, listener, run, turns, within};
use crate::probe::{self, Call, Probe};

/// Tasks that nobody kept vanished.
#[test]
fn cpython_117379_a_task_that_nobody_keeps() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let handle = get_running_loop().unwrap();
        drop(handle.create_task(async move {
            for step in ["one", "two"] {
                sleep(Duration::from_millis(1)).await.unwrap();
                said.say(step);
            }
        }));
        trace.until("two").await;
    });
}

/// And what they died of was told late, or never.
#[test]
fn cpython_117379_what_a_task_that_nobody_keeps_died_of() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let handle = get_running_loop().unwrap();
        drop(handle.create_task(async { panic!("boom") }));
        turns(3).await;
        let lines = trace.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with("panicked: boom"), "{lines:?}");
    });
}

/// A connect that fails everywhere has an error for each address, and at least one.
#[test]
fn cpython_135836_every_address_fails() {
    run(async {
        let factory = || Probe::new(&Trace::default());
        let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
        let connect = create_connection(factory, (hosts, 1));
        let error = connect.await.map(drop).unwrap_err();
        match error.downcast::<EndpointError>().unwrap() {
            EndpointError::Several(errors) => assert_eq!(errors.len(), 3),
            other => panic!("{other:?}"),
        }
    });
}

/// The loop turned round and round while so many connects were under way. Here nobody is turned
/// away, and each costs a handful of events: a poll without one would be one too many.
#[test]
fn uvloop_378_a_thousand_connects_at_a_time() {
    let name = "running::uvloop_378_a_thousand_connects_at_a_time";
    if !own_process::enter_with_descriptors(name, 4096) {
        return;
    }
    run(async {
        let handle = get_running_loop().unwrap();
        let trace = Trace::default();
        let made = trace.clone();
        let factory = move || {
            Probe::new(&made).doing(|call, transport| {
                if let Call::Data(data) = call {
                    transport.write(data);
                }
            })
        };
        let server = create_server(factory, ("127.0.0.1", 0)).backlog(1024);
        let server = server.await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        handle.take_metrics();
        let clients = (0..1000).map(|i| async move {
            let (mut reader, writer) = open_connection(address).await.unwrap();
            let line = format!("{i:04}\n");
            writer.write(&line);
            assert_eq!(reader.readline().await.unwrap(), line.as_bytes());
            writer.close();
            writer.wait_closed().await.unwrap();
        });
        join_all(clients).await;
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
        assert_eq!(trace.count("made"), 1000);
        let metrics = handle.metrics();
        assert!(metrics.polls < 10 * 1000, "{metrics:?}");
        assert!(metrics.events < 10 * 1000, "{metrics:?}");
    });
}

/// A computing callback, and a turn of many short ones, were seen in debug mode only, the latter
/// not at all.
#[test]
fn cpython_101946_what_is_slow_is_seen_in_production() {
    fn compute(time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            std::hint::spin_loop();
        }
    }
    run(async {
        let handle = get_running_loop().unwrap();
        handle.set_slow_callback_duration(Duration::from_millis(40));
        turns(1).await;
        for _ in 0..50 {
            handle.call_soon(|| compute(Duration::from_millis(1)));
        }
        turns(2).await;
        assert!(handle.metrics().slow_turns >= 1, "{:?}", handle.metrics());
        handle.call_soon(|| compute(Duration::from_millis(50)));
        turns(2).await;
        let metrics = handle.take_metrics();
        assert!(metrics.slow_callbacks >= 1, "{metrics:?}");
        assert!(metrics.longest_turn >= Duration::from_millis(50));
    });
}

/// Cancelled timers stayed where they were.
#[test]
fn io_event_180_cancelled_timers_leave_nothing() {
    if !own_process::enter("running::io_event_180_cancelled_timers_leave_nothing") {
        return;
    }
    run(async {
        let handle = get_running_loop().unwrap();
        let held = Rc::new(());
        let mut before = 0;
        for round in 0..10 {
            let timers: Vec<_> = (0..100_000)
                .map(|_| {
                    let held = Rc::clone(&held);
                    handle.call_later(Duration::from_secs(3600), move || drop(held))
                })
                .collect();
            for timer in &timers {
                timer.cancel();
            }
            assert_eq!(Rc::strong_count(&held), 1);
            drop(timers);
            if round == 1 {
                before = resident_kib();
            }
        }
        // 800,000 timers later: one byte for each would be more.
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 780, "{grown} KiB");
    });
}

/// A signal to a child came to the parent, too.
#[test]
fn cpython_94454_a_signal_of_a_child_stays_with_the_child() {
    use std::os::unix::process::ExitStatusExt;

    if !own_process::enter("running::cpython_94454_a_signal_of_a_child_stays_with_the_child") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let handle = get_running_loop().unwrap();
        handle
            .add_signal_handler(SIGUSR1, move || said.say("signal"))
            .unwrap();
        let status = Command::new("sh").args(["-c", "kill -USR1 $$"]).status();
        assert_eq!(status.unwrap().signal(), Some(SIGUSR1));
        turns(3).await;
        assert_eq!(trace, []);
        raise(SIGUSR1).unwrap();
        trace.until("signal").await;
        turns(3).await;
        assert_eq!(trace, ["signal"]);
    });
}

/// A second loop took the first one's handler away.
#[test]
fn cpython_87230_a_second_loop_leaves_the_first_its_signal() {
    if !own_process::enter("running::cpython_87230_a_second_loop_leaves_the_first_its_signal") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let handle = get_running_loop().unwrap();
        handle
            .add_signal_handler(SIGUSR1, move || said.say("first"))
            .unwrap();
        let second = EventLoop::new().unwrap();
        let said = trace.clone();
        second
            .add_signal_handler(SIGUSR1, move || said.say("second"))
            .unwrap();
        second.close();
        raise(SIGUSR1).unwrap();
        trace.until("first").await;
        assert_eq!(trace, ["first"]);
    });
}

/// Two connections have an event in the same turn, and the first to be served ends the other:
/// what was for the other goes to nobody, not to it, nor to one that takes its place.
#[test]
fn mio_172_a_connection_that_ends_in_the_turn_of_its_own_event() {
    run(async {
        let trace = Trace::default();
        let both: Rc<RefCell<Vec<Transport>>> = Rc::default();
        let (third, third_address) = listener();
        let ending = |name| {
            let (both, trace) = (Rc::clone(&both), trace.clone());
            Probe::new(&trace).named(name).doing(move |call, this| {
                if let Call::Data(_) = call {
                    for transport in both.borrow().iter() {
                        transport.abort();
                    }
                    assert!(this.is_closing());
                    // May take the number that the other one had.
                    let newcomer = Probe::new(&trace).named("new ");
                    let handle = get_running_loop().unwrap();
                    drop(handle.create_task(async move {
                        create_connection(|| newcomer, third_address)
                            .await
                            .map(drop)
                    }));
                }
            })
        };
        let (one, first) = probe::connected(ending("1 ")).await;
        let (two, second) = probe::connected(ending("2 ")).await;
        both.borrow_mut().extend([one, two]);
        // Both are in the system before the loop looks again.
        first.send(b"x");
        second.send(b"x");
        trace.until("1 lost").await;
        trace.until("2 lost").await;
        trace.until("new made").await;
        let newcomer = Peer::accept(&third);
        newcomer.send(b"mine");
        trace.until("new data mine").await;
        let data = |line: &&String| line.ends_with("data x");
        assert_eq!(trace.lines().iter().filter(data).count(), 1, "{trace:?}");
    });
}

/// A source that is always ready, and callbacks that schedule themselves, leave room for others.
#[test]
fn tokio_2542_what_is_always_ready_starves_nobody() {
    run(async {
        let handle = get_running_loop().unwrap();
        let over = Rc::new(Cell::new(false));
        let busy = Rc::clone(&over);
        drop(handle.create_task(async move {
            let ready = get_running_loop().unwrap().create_future();
            ready.set_result(()).unwrap();
            while !busy.get() {
                ready.clone().await.unwrap();
            }
        }));
        let trace = Trace::default();
        let made = trace.clone();
        let factory = move || Probe::new(&made);
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let peer = Peer::connect(server.sockets()[0].as_inet().unwrap());
        peer.send(b"abc");
        trace.until("data abc").await;
        sleep(Duration::from_millis(1)).await.unwrap();
        over.set(true);
    });
}
