//! How a run begins and ends, and what a closed loop still answers.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use evloop::{
    EventLoop, LoopClosed, LoopStopped, NoRunningLoop, get_running_loop, sleep, start_server,
};

use crate::support::{Trace, deadline, on_drop};

/// What a panic said.
#[track_caller]
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f))
        .err()
        .expect("a panic was expected");
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
        .expect("the panic has a text")
}

#[test]
fn run_until_complete_takes_a_future_that_borrows_locals() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let mut local = vec![1];
    let length = event_loop.run_until_complete(async {
        sleep(Duration::ZERO).await.unwrap();
        local.push(2);
        local.len()
    });
    assert_eq!((length, local), (2, vec![1, 2]));
}

#[test]
fn run_until_complete_takes_a_builder() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let server = event_loop
        .run_until_complete(start_server(|_, _| {}, ("127.0.0.1", 0)).backlog(5))
        .unwrap();
    assert!(server.is_serving());
    server.close();
    event_loop.run_until_complete(server.wait_closed()).unwrap();
}

#[test]
fn run_until_complete_takes_a_task_that_was_made_before() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let mut task = event_loop.create_task(async {
        sleep(Duration::ZERO).await.unwrap();
        42
    });
    assert!(!task.done());
    assert_eq!(event_loop.run_until_complete(&mut task), Ok(42));
    assert!(task.done());
}

#[test]
fn a_loop_runs_as_often_as_it_is_asked_to() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let story = trace.clone();
    let mut task = event_loop.create_task(async move {
        for step in ["one", "two", "three"] {
            story.note(step);
            sleep(Duration::ZERO).await.unwrap();
        }
    });
    event_loop.run_until_complete(async {});
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(event_loop.try_run_until_complete(async { 1 }), Ok(1));
    assert_eq!(trace.take(), ["one", "two", "three"]);
    assert_eq!(event_loop.run_until_complete(&mut task), Ok(()));
}

#[test]
fn a_stop_before_the_future_is_complete_is_a_panic_or_an_error() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let handle = event_loop.handle();
    let stop = || {
        let handle = handle.clone();
        handle.clone().call_soon(move || handle.stop());
    };
    let waits = |what| {
        let dropped = on_drop(trace.noting(what));
        async move {
            let _dropped = dropped;
            pending::<()>().await;
        }
    };
    stop();
    let message = panic_of(|| event_loop.run_until_complete(waits("future 1 dropped")));
    assert_eq!(message, "Event loop stopped before Future completed.");
    stop();
    let outcome = event_loop.try_run_until_complete(waits("future 2 dropped"));
    assert_eq!(outcome, Err(LoopStopped));
    assert_eq!(LoopStopped.to_string(), message);
    assert_eq!(trace.take(), ["future 1 dropped", "future 2 dropped"]);

    assert_eq!(event_loop.run_until_complete(async { 3 }), 3);
}

#[test]
fn a_stop_in_the_step_that_completes_the_future_changes_nothing() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let outcome = event_loop.try_run_until_complete(async {
        handle.stop();
        1
    });
    assert_eq!(outcome, Ok(1));
    // And is not left over for the next run.
    let outcome = event_loop.try_run_until_complete(async {
        sleep(Duration::from_millis(1)).await.unwrap();
        2
    });
    assert_eq!(outcome, Ok(2));
}

#[test]
fn a_loop_inside_a_loop_is_refused_and_the_outer_one_goes_on() {
    let _deadline = deadline();
    let sentence = "Cannot run the event loop while another loop is running";
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    event_loop.call_soon(|| EventLoop::new().unwrap().run_forever());
    let messages = event_loop.run_until_complete(async {
        sleep(Duration::ZERO).await.unwrap();
        let mut inner = EventLoop::new().unwrap();
        let outer = get_running_loop().unwrap();
        let messages = [
            panic_of(|| inner.run_until_complete(async {})),
            panic_of(|| inner.try_run_until_complete(async {})),
            panic_of(|| evloop::run(async {})),
        ];
        drop(inner);
        assert!(outer.is_running() && get_running_loop().is_ok());
        sleep(Duration::from_millis(1)).await.unwrap();
        messages
    });
    assert_eq!(messages, [sentence; 3]);
    assert_eq!(
        trace.take(),
        [format!("Exception in callback: panicked: {sentence}")]
    );
    assert_eq!(event_loop.run_until_complete(async { 1 }), 1);
}

#[test]
fn a_panic_of_the_future_passes_through_and_the_loop_stays_usable() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    let payload = catch_unwind(AssertUnwindSafe(|| {
        event_loop.run_until_complete(async {
            sleep(Duration::ZERO).await.unwrap();
            std::panic::panic_any(42_u64);
        });
    }))
    .unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&42_u64));
    assert!(!event_loop.is_running());
    assert_eq!(get_running_loop().unwrap_err(), NoRunningLoop);
    assert!(trace.take().is_empty(), "the caller has it: no report");
    event_loop.run_until_complete(async { sleep(Duration::from_millis(1)).await.unwrap() });
}

#[test]
fn a_panic_in_a_callback_is_reported_and_the_loop_goes_on() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    event_loop.call_soon(|| panic!("one"));
    event_loop.call_soon(trace.noting("between"));
    event_loop.call_later(Duration::ZERO, || panic!("two"));
    event_loop.run_until_complete(async { sleep(Duration::ZERO).await.unwrap() });
    assert_eq!(
        trace.take(),
        [
            "Exception in callback: panicked: one",
            "between",
            "Exception in callback: panicked: two",
        ]
    );
}

#[test]
fn a_loop_says_whether_it_runs_and_whether_it_is_closed() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let threadsafe = event_loop.threadsafe();
    assert!(!handle.is_running() && !handle.is_closed() && !threadsafe.is_closed());
    event_loop.run_until_complete(async {
        assert!(handle.is_running() && !handle.is_closed());
    });
    assert!(!handle.is_running() && !handle.is_closed());
    event_loop.close();
    assert!(!handle.is_running() && handle.is_closed() && threadsafe.is_closed());
}

#[test]
fn the_running_loop_is_known_inside_and_nowhere_else() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let error = get_running_loop().unwrap_err();
    assert!(error.to_string().contains("no running event loop"));
    let seen = Rc::new(Cell::new(0));
    let look = {
        let seen = Rc::clone(&seen);
        move || {
            assert!(get_running_loop().unwrap().is_running());
            seen.set(seen.get() + 1);
        }
    };
    event_loop.call_soon(look.clone());
    event_loop.call_later(Duration::ZERO, look.clone());
    let in_task = look.clone();
    let task = event_loop.create_task(async move { in_task() });
    // A destructor that the loop runs counts as inside, and so does another thread as outside.
    let in_destructor = on_drop(look);
    event_loop.call_soon(move || drop(in_destructor));
    event_loop.run_until_complete(async {
        task.await.unwrap();
        sleep(Duration::ZERO).await.unwrap();
        let other = std::thread::spawn(|| get_running_loop().is_err());
        assert!(other.join().unwrap());
    });
    assert_eq!(seen.get(), 4);
    assert!(get_running_loop().is_err());
}

#[test]
fn a_closed_loop_drops_what_it_is_given_and_says_so_where_it_can() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.run_until_complete(async {});
    let handle = event_loop.handle();
    let threadsafe = event_loop.threadsafe();
    event_loop.close();

    let trace = Trace::default();
    let gone = |what| {
        let guard = on_drop(trace.noting(what));
        move || {
            let _guard = &guard;
            unreachable!("the loop is closed");
        }
    };
    assert!(handle.call_soon(gone("call_soon")).cancelled());
    let timer = handle.call_later(Duration::ZERO, gone("call_later"));
    assert!(timer.cancelled());
    assert!(handle.call_at(handle.time(), gone("call_at")).cancelled());
    let unpolled = gone("create_task");
    let task = handle.create_task(async move { unpolled() });
    assert!(task.done() && !task.cancel());
    let unused = gone("exception handler");
    handle.set_exception_handler(move |_, _| unused());
    let error = handle
        .add_signal_handler(evloop::signals::SIGUSR1, gone("signal handler"))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert!(!handle.remove_signal_handler(evloop::signals::SIGUSR1));
    assert_eq!(
        trace.take(),
        [
            "call_soon",
            "call_later",
            "call_at",
            "create_task",
            "exception handler",
            "signal handler"
        ]
    );

    let sent = std::sync::Arc::new(());
    let kept = std::sync::Arc::clone(&sent);
    let callback = move || drop(kept);
    assert_eq!(threadsafe.call_soon_threadsafe(callback), Err(LoopClosed));
    let kept = std::sync::Arc::clone(&sent);
    assert_eq!(
        handle.call_soon_threadsafe(move || drop(kept)),
        Err(LoopClosed)
    );
    assert_eq!(std::sync::Arc::strong_count(&sent), 1);
    assert_eq!(LoopClosed.to_string(), "Event loop is closed");

    handle.stop();
    assert_eq!(handle.time(), handle.time());
    timer.cancel();
}

#[test]
fn run_gives_the_output_cancels_what_is_left_and_closes_the_loop() {
    let _deadline = deadline();
    let trace = Trace::default();
    let left = on_drop(trace.noting("task dropped"));
    let handle = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&handle);
    let output = evloop::run(async move {
        let handle = get_running_loop().unwrap();
        drop(handle.create_task(async move {
            let _left = left;
            pending::<()>().await;
        }));
        *kept.borrow_mut() = Some(handle);
        sleep(Duration::ZERO).await.unwrap();
        42
    })
    .unwrap();
    assert_eq!(output, 42);
    assert_eq!(trace.take(), ["task dropped"]);
    assert!(handle.take().unwrap().is_closed());
    assert!(get_running_loop().is_err());
}

#[test]
fn same_thread_call_soon_threadsafe_keeps_its_place_between_call_soon() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noting = |n: usize| {
        let order = std::sync::Arc::clone(&order);
        move || order.lock().unwrap().push(n)
    };
    let schedule = |handle: &evloop::LoopHandle, first: usize| {
        handle.call_soon(noting(first));
        handle.call_soon_threadsafe(noting(first + 1)).unwrap();
        handle.call_soon(noting(first + 2));
    };
    // Before the run, and inside it.
    schedule(&event_loop, 0);
    let handle = event_loop.handle();
    let threadsafe = event_loop.threadsafe();
    event_loop.run_until_complete(async {
        schedule(&handle, 3);
        threadsafe.call_soon_threadsafe(noting(6)).unwrap();
        handle.call_soon(noting(7));
        sleep(Duration::ZERO).await.unwrap();
    });
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
}
