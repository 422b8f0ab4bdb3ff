//! What is slow is told by its name, and what a loop counts of itself.
//!
//! Machines that are busy make anything slow, so it is never asked that something be quick.

use std::hint::spin_loop;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use evloop::{
    EventLoop, LoopHandle, LoopMetrics, Protocol, StreamReader, StreamWriter, create_server,
    get_running_loop, open_connection, sleep, start_server,
};

use crate::exception_handler::{logged, warned};
use crate::support::deadline;

/// What is slow in these tests, and as long as something that is computes.
const LIMIT: Duration = Duration::from_millis(50);
/// No test takes so long.
const AGES: Duration = Duration::from_secs(3600);

fn compute(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        spin_loop();
    }
}

fn watched_loop() -> EventLoop {
    drop(warned());
    let event_loop = EventLoop::new().unwrap();
    event_loop.set_slow_callback_duration(LIMIT);
    event_loop
}

/// So many turns, with what is due by then.
fn run(event_loop: &mut EventLoop, turns: usize) {
    for _ in 0..turns {
        event_loop.stop();
        event_loop.run_forever();
    }
}

/// The warnings have one that begins like this and tells at least [`LIMIT`].
#[track_caller]
fn assert_told(warnings: &[String], beginning: &str) {
    let told = warnings.iter().any(|line| {
        let seconds = line
            .strip_prefix("Executing ")
            .and_then(|line| line.strip_prefix(beginning))
            .and_then(|line| line.split_once(" took ")?.1.strip_suffix(" seconds"))
            .and_then(|seconds| seconds.parse::<f64>().ok());
        seconds.is_some_and(|seconds| seconds >= LIMIT.as_secs_f64())
    });
    assert!(told, "nothing of {beginning}: {warnings:?}");
}

#[test]
fn a_slow_callback_is_told_by_the_function_that_it_stands_in() {
    let _deadline = deadline();
    let mut event_loop = watched_loop();
    event_loop.call_soon(|| compute(LIMIT));
    run(&mut event_loop, 1);
    let name = "callback event_loop::slow::a_slow_callback_is_told_by_the_function";
    assert_told(&warned(), name);
    event_loop.call_later(Duration::ZERO, || compute(LIMIT));
    run(&mut event_loop, 1);
    assert_told(&warned(), name);
    assert!(event_loop.metrics().slow_callbacks >= 2);
}

async fn checkout() {
    sleep(Duration::ZERO).await.unwrap();
    compute(LIMIT);
}

#[test]
fn a_slow_step_of_a_task_is_told_by_its_function() {
    let _deadline = deadline();
    let mut event_loop = watched_loop();
    let task = event_loop.create_task(checkout());
    event_loop.run_until_complete(task).unwrap();
    assert_told(&warned(), "task event_loop::slow::checkout");
    event_loop.run_until_complete(async { compute(LIMIT) });
    assert_told(&warned(), "the future of run_until_complete");
}

#[test]
fn a_slow_callback_from_another_thread_or_of_a_descriptor_is_told() {
    let _deadline = deadline();
    let mut event_loop = watched_loop();
    let elsewhere = event_loop.threadsafe();
    let thread = std::thread::spawn(move || elsewhere.call_soon_threadsafe(|| compute(LIMIT)));
    thread.join().unwrap().unwrap();
    run(&mut event_loop, 1);
    assert_told(&warned(), "a callback of call_soon_threadsafe");

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"x").unwrap();
    let handle = event_loop.handle();
    let read = move || {
        compute(LIMIT);
        handle.stop();
    };
    event_loop.add_reader(&ours, read).unwrap();
    event_loop.run_forever();
    assert_told(&warned(), "the callbacks of file descriptor ");
}

async fn serve_slowly(_reader: StreamReader, writer: StreamWriter) {
    compute(LIMIT);
    writer.close();
}

#[test]
fn a_slow_handler_of_connections_is_told_by_its_function() {
    let _deadline = deadline();
    watched_loop().run_until_complete(async {
        let server = start_server(serve_slowly, ("127.0.0.1", 0)).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let (mut reader, _writer) = open_connection(("127.0.0.1", port)).await.unwrap();
        assert!(reader.read(1).await.unwrap().is_empty());
    });
    assert_told(&warned(), "task event_loop::slow::serve_slowly");
}

/// Computes when it is told of bytes, and when it is told of the end.
struct Slow;

impl Protocol for Slow {
    fn data_received(&mut self, _: &[u8]) {
        compute(LIMIT);
    }

    fn connection_lost(&mut self, _: Option<std::sync::Arc<std::io::Error>>) {
        compute(LIMIT);
    }
}

#[test]
fn a_slow_protocol_is_told_by_its_connection_and_peer() {
    let _deadline = deadline();
    let name = watched_loop().run_until_complete(async {
        let server = create_server(|| Slow, ("127.0.0.1", 0)).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let (_reader, writer) = open_connection(("127.0.0.1", port)).await.unwrap();
        let ours = writer.get_extra_info(evloop::SockName).unwrap();
        writer.write(b"x");
        let handle = get_running_loop().unwrap();
        while handle.metrics().slow_callbacks == 0 {
            sleep(Duration::ZERO).await.unwrap();
        }
        drop(writer);
        server.close();
        server.wait_closed().await.unwrap();
        format!("transport Transport {{ peername: {ours:?}, ")
    });
    let warnings = warned();
    assert_told(&warnings, &name);
    // The second time it was told of the end, and nothing is left to ask for its name then.
    let of_the_connection = warnings.iter().filter(|line| line.contains(&name));
    assert!(of_the_connection.count() >= 2, "{warnings:?}");
}

/// None of the callbacks is slow, but whoever becomes ready meanwhile waits for all of them.
#[test]
fn a_slow_turn_of_many_short_callbacks_is_told_with_their_number() {
    let _deadline = deadline();
    let mut event_loop = watched_loop();
    // One of them may be interrupted for so long that it is slow: the others are enough.
    event_loop.set_slow_callback_duration(LIMIT * 4 / 5);
    for _ in 0..50 {
        event_loop.call_soon(|| compute(LIMIT / 50));
    }
    run(&mut event_loop, 1);
    let warnings = warned();
    let turn = warnings.iter().find_map(|line| {
        let line = line.strip_prefix("Executing ")?;
        line.split_once(" callbacks in one turn took ")
    });
    let (count, rest) = turn.unwrap_or_else(|| panic!("no turn: {warnings:?}"));
    assert!(count.parse::<usize>().unwrap() >= 40, "{warnings:?}");
    let longest = "; the longest, callback event_loop::slow::a_slow_turn_of_many";
    assert!(rest.contains(longest), "{warnings:?}");
    let metrics = event_loop.metrics();
    assert_eq!(metrics.slow_turns, 1);
    assert!(metrics.longest_turn >= LIMIT);
    assert!(turns_from(&metrics, LIMIT / 2) >= 1);
}

/// How many turns took about so long or longer.
fn turns_from(metrics: &LoopMetrics, length: Duration) -> u64 {
    let lengths = metrics.turn_lengths();
    lengths
        .filter(|&(shorter_than, _)| shorter_than > length)
        .map(|(_, turns)| turns)
        .sum()
}

#[test]
fn what_is_quick_is_not_told() {
    let _deadline = deadline();
    let mut event_loop = watched_loop();
    event_loop.set_slow_callback_duration(AGES);
    assert_eq!(event_loop.slow_callback_duration(), Some(AGES));
    event_loop.call_soon(|| compute(LIMIT));
    run(&mut event_loop, 3);
    assert_eq!(warned(), [""; 0]);
    let metrics = event_loop.metrics();
    assert_eq!((metrics.slow_callbacks, metrics.slow_turns), (0, 0));
    assert!(metrics.longest_turn >= LIMIT);
    assert_eq!(turns_from(&metrics, Duration::ZERO), 3);
}

#[test]
fn nothing_is_told_before_it_is_switched_on_and_after_it_is_switched_off() {
    let _deadline = deadline();
    drop(warned());
    let mut event_loop = EventLoop::new().unwrap();
    assert_eq!(event_loop.slow_callback_duration(), None);
    event_loop.call_soon(|| compute(LIMIT));
    run(&mut event_loop, 2);
    let handle = event_loop.handle();
    event_loop.set_slow_callback_duration(LIMIT);
    event_loop.call_soon(move || {
        compute(LIMIT);
        handle.set_slow_callback_duration(None);
    });
    event_loop.call_soon(|| compute(LIMIT));
    run(&mut event_loop, 2);
    assert_eq!(warned(), [""; 0]);
    let metrics = event_loop.metrics();
    assert_eq!((metrics.slow_callbacks, metrics.slow_turns), (0, 0));
    assert_eq!(metrics.longest_turn, Duration::ZERO);
    assert_eq!(turns_from(&metrics, Duration::ZERO), 0);
}

/// Or what has computed before would be told under the name of what comes after.
#[test]
fn a_turn_in_which_it_is_switched_on_is_not_watched() {
    let _deadline = deadline();
    drop(warned());
    let mut event_loop = EventLoop::new().unwrap();
    let long = LIMIT * 10;
    let handle = event_loop.handle();
    event_loop.call_soon(move || {
        handle.set_slow_callback_duration(long);
        compute(long);
    });
    event_loop.call_soon(|| ());
    run(&mut event_loop, 1);
    event_loop.call_soon(|| ());
    run(&mut event_loop, 1);
    assert_eq!(warned(), [""; 0]);
    event_loop.call_soon(move || compute(long));
    run(&mut event_loop, 1);
    assert_told(&warned(), "callback event_loop::slow::a_turn_in_which_it");
}

#[test]
fn what_computes_while_it_is_switched_off_is_nobody_s_time() {
    let _deadline = deadline();
    let mut event_loop = watched_loop();
    let long = LIMIT * 10;
    let handle = event_loop.handle();
    event_loop.set_slow_callback_duration(long);
    event_loop.call_soon(move || {
        handle.set_slow_callback_duration(None);
        compute(long);
        handle.set_slow_callback_duration(long);
    });
    event_loop.call_soon(|| ());
    run(&mut event_loop, 2);
    assert_eq!(warned(), [""; 0]);
}

#[test]
fn what_the_loop_sleeps_is_nobody_s_time() {
    let _deadline = deadline();
    let mut event_loop = watched_loop();
    let long = LIMIT * 10;
    event_loop.set_slow_callback_duration(long);
    event_loop.run_until_complete(async move { sleep(long).await.unwrap() });
    assert_eq!(warned(), [""; 0]);
    let metrics = event_loop.metrics();
    assert_eq!((metrics.slow_callbacks, metrics.slow_turns), (0, 0));
    assert!(metrics.longest_turn < long, "{metrics:?}");
}

#[test]
fn a_callback_that_is_slow_and_panics_is_told_and_reported() {
    let _deadline = deadline();
    drop(logged());
    let mut event_loop = watched_loop();
    event_loop.call_soon(|| {
        compute(LIMIT);
        panic!("boom");
    });
    run(&mut event_loop, 1);
    assert_told(
        &warned(),
        "callback event_loop::slow::a_callback_that_is_slow",
    );
    assert_eq!(logged(), ["Exception in callback: panicked: boom"]);
}

#[test]
fn turns_polls_and_entries_are_counted_without_a_clock() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    for _ in 0..3 {
        event_loop.call_soon(|| ());
    }
    event_loop.run_until_complete(async {
        let counted = get_running_loop().unwrap().metrics();
        assert_eq!((counted.turns, counted.polls, counted.entries), (1, 1, 4));
    });
    // Chains of callbacks share a look at the world.
    fn again(handle: &LoopHandle, times: usize) {
        let next = handle.clone();
        if times > 0 {
            handle.call_soon(move || again(&next, times - 1));
        } else {
            handle.stop();
        }
    }
    let before = event_loop.take_metrics();
    assert_eq!((before.turns, before.entries), (1, 4));
    again(&event_loop.handle(), 100);
    event_loop.run_forever();
    let counted = event_loop.take_metrics();
    assert_eq!((counted.turns, counted.entries), (100, 100));
    assert!(counted.polls < 100, "{counted:?}");
    assert_eq!(event_loop.metrics().turns, 0);
}

#[test]
fn what_the_system_has_said_is_counted() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let handle = event_loop.handle();
    event_loop.add_reader(&ours, move || handle.stop()).unwrap();
    run(&mut event_loop, 1);
    assert_eq!(event_loop.take_metrics().events, 0);
    theirs.write_all(b"x").unwrap();
    event_loop.run_forever();
    assert_eq!(event_loop.take_metrics().events, 1);
}
