//! Sleeping, and limits on how long something may take.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use evloop::{EventLoop, TimeoutError, get_running_loop, sleep, sleep_until, timeout};
use futures::poll;

use crate::support::{Trace, deadline, on_drop};

#[test]
fn a_sleep_ends_at_its_time_and_not_before() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let handle = get_running_loop().unwrap();
        let began = handle.time();
        sleep(Duration::from_millis(10)).await.unwrap();
        assert!(handle.time() >= began + Duration::from_millis(10));
        let when = handle.time() + Duration::from_millis(10);
        sleep_until(when).await.unwrap();
        assert!(handle.time() >= when);
        sleep_until(began).await.unwrap();
    });
}

#[test]
fn sleepers_wake_by_deadline_however_they_were_started() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let base = event_loop.time();
    let tasks: Vec<_> = [(30, "third"), (10, "first"), (20, "second")]
        .map(|(millis, name)| {
            let story = trace.clone();
            event_loop.create_task(async move {
                sleep_until(base + Duration::from_millis(millis))
                    .await
                    .unwrap();
                story.note(name);
            })
        })
        .into();
    event_loop.run_until_complete(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(trace.take(), ["first", "second", "third"]);
}

#[test]
fn a_sleep_of_zero_gives_way_once() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let task = |name: &'static str| {
        let story = trace.clone();
        async move {
            for step in 1..=3 {
                story.note(format!("{name}{step}"));
                sleep(Duration::ZERO).await.unwrap();
            }
        }
    };
    let a = event_loop.create_task(task("a"));
    let b = event_loop.create_task(task("b"));
    event_loop.run_until_complete(async {
        a.await.unwrap();
        b.await.unwrap();
    });
    assert_eq!(trace.take(), ["a1", "b1", "a2", "b2", "a3", "b3"]);
}

/// With its timer gone nothing would end the poll before the hour is over.
#[test]
fn a_dropped_sleep_takes_its_timer_back() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let polls = Rc::new(Cell::new(0));
    let counter = Rc::clone(&polls);
    event_loop.run_until_complete(async {
        let limit = Duration::from_millis(5);
        let mut short = Some(Box::pin(sleep(limit)));
        let mut long = pin!(sleep(4 * limit));
        poll_fn(|cx| {
            counter.set(counter.get() + 1);
            if let Some(mut short) = short.take() {
                assert!(short.as_mut().poll(cx).is_pending());
            }
            long.as_mut().poll(cx)
        })
        .await
        .unwrap();
    });
    // Once to begin and once when the long one is over: the short one woke nobody.
    assert_eq!(polls.get(), 2);
}

#[test]
fn a_sleep_wakes_whoever_polled_it_last() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let mut moving = Box::pin(sleep(Duration::from_millis(5)));
    event_loop.run_until_complete(async {
        assert!(poll!(&mut moving).is_pending());
        // Another task, with another waker, takes it over.
        let task = get_running_loop().unwrap().create_task(moving);
        assert_eq!(task.await, Ok(Ok(())));
    });
}

#[test]
fn a_timeout_drops_what_takes_too_long() {
    let _deadline = deadline();
    let trace = Trace::default();
    let guard = on_drop(trace.noting("dropped"));
    EventLoop::new().unwrap().run_until_complete(async {
        let slow = async move {
            let _guard = guard;
            pending::<()>().await;
        };
        let outcome = timeout(Duration::from_millis(1), slow).await;
        assert_eq!(outcome, Err(TimeoutError::Elapsed));
        trace.note("timed out");
    });
    assert_eq!(trace.take(), ["dropped", "timed out"]);
    let error = std::io::Error::from(TimeoutError::Elapsed);
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

/// Both are ready in the same poll: the value counts.
#[test]
fn a_timeout_returns_a_value_that_is_ready_in_the_poll_in_which_it_ends() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
        let handle = get_running_loop().unwrap();
        let when = handle.time() + Duration::from_millis(2);
        let late = poll_fn(|_| match handle.time() >= when {
            true => Poll::Ready(2),
            false => Poll::Pending,
        });
        // Nobody but the timeout's own timer wakes it.
        assert_eq!(timeout(Duration::from_millis(2), late).await, Ok(2));
    });
}

#[test]
fn a_timeout_of_zero_ends_what_is_not_ready() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let outcome = timeout(Duration::ZERO, pending::<()>()).await;
        assert_eq!(outcome, Err(TimeoutError::Elapsed));
        // A limit too long for the clock is no limit.
        let handle = get_running_loop().unwrap();
        let soon = handle.create_future();
        let setter = soon.clone();
        handle.call_soon(move || setter.set_result(1).unwrap());
        assert_eq!(timeout(Duration::MAX, soon).await, Ok(Ok(1)));
    });
}

#[test]
fn a_timeout_leaves_a_borrowed_task_running() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let handle = get_running_loop().unwrap();
        let go = handle.create_future();
        let going = go.clone();
        let mut task = handle.create_task(async move {
            going.await.unwrap();
            42
        });
        let limit = Duration::from_millis(1);
        assert_eq!(timeout(limit, &mut task).await, Err(TimeoutError::Elapsed));
        assert!(!task.done());
        go.set_result(()).unwrap();
        assert_eq!(
            timeout(Duration::from_secs(30), &mut task).await,
            Ok(Ok(42))
        );
    });
}
