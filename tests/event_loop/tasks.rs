//! Tasks, and the results that somebody else sets.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use evloop::{EventLoop, Task, TaskError, get_running_loop, sleep, timeout};
use futures::poll;

use crate::support::{Trace, deadline, on_drop};

/// Runs the loop for some turns, whatever waits.
fn turns(event_loop: &mut EventLoop, turns: usize) {
    for _ in 0..turns {
        event_loop.stop();
        event_loop.run_forever();
    }
}

#[track_caller]
fn panic_message<T>(outcome: Result<T, TaskError>) -> String {
    match outcome {
        Err(TaskError::Panicked(error)) => error.message().to_owned(),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("an error was expected"),
    }
}

#[test]
fn a_task_begins_in_the_next_turn_and_its_output_is_its_result() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let story = trace.clone();
    let output = event_loop.run_until_complete(async {
        let task = get_running_loop().unwrap().create_task(async move {
            story.note("task");
            String::from("output")
        });
        trace.note("created");
        task.await
    });
    assert_eq!(output, Ok(String::from("output")));
    assert_eq!(trace.take(), ["created", "task"]);
}

#[test]
fn a_task_cancelled_before_its_first_poll_is_never_polled() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let guard = on_drop(trace.noting("dropped"));
    let story = trace.clone();
    let task = event_loop.create_task(async move {
        let _guard = guard;
        story.note("polled");
    });
    assert!(task.cancel());
    assert!(!task.done(), "the loop has not run");
    assert_eq!(
        event_loop.run_until_complete(task),
        Err(TaskError::Cancelled)
    );
    assert_eq!(trace.take(), ["dropped"]);
}

#[test]
fn a_task_cancelled_while_it_waits_is_dropped_where_it_stands() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let guard = on_drop(trace.noting("dropped"));
    let story = trace.clone();
    let mut task = event_loop.create_task(async move {
        let _guard = guard;
        story.note("waits");
        pending::<()>().await;
        story.note("goes on");
    });
    turns(&mut event_loop, 1);
    assert!(task.cancel());
    assert!(task.cancel(), "it is not over yet");
    assert_eq!(
        event_loop.run_until_complete(&mut task),
        Err(TaskError::Cancelled)
    );
    assert_eq!(trace.take(), ["waits", "dropped"]);
    assert!(task.done() && !task.cancel());
}

#[test]
fn a_task_that_is_over_cannot_be_cancelled() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let task = event_loop.create_task(async { 1 });
    turns(&mut event_loop, 1);
    assert!(task.done() && !task.cancel());
    assert_eq!(event_loop.run_until_complete(task), Ok(1));
}

#[test]
fn a_task_may_cancel_another_that_waits_for_a_third() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let third = event_loop.create_task(async {
        sleep(Duration::from_millis(1)).await.unwrap();
        3
    });
    let third = Rc::new(RefCell::new(third));
    let borrowed = Rc::clone(&third);
    let second = event_loop.create_task(poll_fn(move |cx| {
        std::pin::Pin::new(&mut *borrowed.borrow_mut()).poll(cx)
    }));
    event_loop.run_until_complete(async {
        sleep(Duration::ZERO).await.unwrap();
        assert!(second.cancel());
        assert_eq!(second.await, Err(TaskError::Cancelled));
        // The one it waited for is untouched, and its result still there.
        let third = Rc::into_inner(third).expect("the cancelled task let go");
        assert_eq!(third.into_inner().await, Ok(3));
    });
}

#[test]
fn a_panic_is_the_result_of_the_task_and_no_report() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    let task = event_loop.create_task(async { panic!("boom {}", 1) });
    let other = event_loop.create_task(async { 2 });
    let outcome: Result<(), _> = event_loop.run_until_complete(task);
    assert_eq!(
        outcome.as_ref().unwrap_err().to_string(),
        "the task panicked: boom 1"
    );
    assert_eq!(panic_message(outcome), "boom 1");
    assert_eq!(event_loop.run_until_complete(other), Ok(2));
    turns(&mut event_loop, 2);
    assert!(trace.take().is_empty());
}

const UNSEEN: &str = "Task exception was never retrieved: panicked: unseen";

#[test]
fn an_unseen_panic_of_a_task_that_was_detached_before_is_reported_once() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    drop(event_loop.create_task(async { panic!("unseen") }));
    turns(&mut event_loop, 4);
    assert_eq!(trace.take(), [UNSEEN]);
    event_loop.close();
    assert!(trace.take().is_empty());
}

#[test]
fn an_unseen_panic_of_a_task_that_is_dropped_afterwards_is_reported_once() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    let task = event_loop.create_task(async { panic!("unseen") });
    turns(&mut event_loop, 3);
    assert!(task.done());
    assert!(trace.take().is_empty(), "somebody may still look");
    drop(task);
    turns(&mut event_loop, 3);
    assert_eq!(trace.take(), [UNSEEN]);
}

#[test]
fn a_panic_that_was_seen_is_not_reported_when_the_task_goes() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    let mut task: Task<()> = event_loop.create_task(async { panic!("seen") });
    let outcome = event_loop.run_until_complete(&mut task);
    assert_eq!(panic_message(outcome), "seen");
    drop(task);
    turns(&mut event_loop, 3);
    assert!(trace.take().is_empty());
}

/// Other than asyncio's: an error that a task returns is its output, not its failure.
#[test]
fn an_error_that_nobody_takes_is_a_value_like_any_other() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    let after = trace.clone();
    drop(event_loop.create_task(async move {
        after.note("ran");
        Err::<(), _>("unseen")
    }));
    turns(&mut event_loop, 4);
    event_loop.close();
    assert_eq!(trace.take(), ["ran"]);
}

#[test]
fn a_cancel_does_not_reach_a_task_that_is_awaited() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let inner = trace.clone();
    let gate = event_loop.create_future();
    let closed = gate.clone();
    let outer = event_loop.create_task(async move {
        let task = get_running_loop().unwrap().create_task(async move {
            closed.await.unwrap();
            inner.note("the inner one ended");
        });
        task.await
    });
    event_loop.run_until_complete(async {
        sleep(Duration::ZERO).await.unwrap();
        assert!(outer.cancel());
        assert_eq!(outer.await, Err(TaskError::Cancelled));
        assert!(trace.take().is_empty());
        gate.set_result(()).unwrap();
        while trace.take().is_empty() {
            sleep(Duration::ZERO).await.unwrap();
        }
    });
}

/// The loop ends in the turn of the panic: there is no turn left for the exception handler.
#[test]
fn an_unseen_panic_at_the_very_end_is_not_lost() {
    let _deadline = deadline();
    drop(crate::exception_handler::logged());
    evloop::run(async {
        let handle = get_running_loop().unwrap();
        drop(handle.create_task(async { panic!("unseen") }));
        sleep(Duration::ZERO).await.unwrap();
    })
    .unwrap();
    assert_eq!(crate::exception_handler::logged(), [UNSEEN]);

    let mut event_loop = EventLoop::new().unwrap();
    let task = event_loop.create_task(async { panic!("unseen") });
    turns(&mut event_loop, 1);
    event_loop.close();
    drop(task);
    assert_eq!(crate::exception_handler::logged(), [UNSEEN]);
}

#[test]
fn a_dropped_task_goes_on() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let story = trace.clone();
    drop(event_loop.create_task(async move {
        story.note("one");
        sleep(Duration::from_millis(1)).await.unwrap();
        story.note("two");
        get_running_loop().unwrap().stop();
    }));
    event_loop.run_forever();
    assert_eq!(trace.take(), ["one", "two"]);
}

#[test]
fn the_future_is_dropped_before_its_result_can_be_seen() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let task_in_guard = Rc::clone(&own);
    let story = trace.clone();
    let guard = on_drop(move || {
        let done = task_in_guard.borrow().as_ref().unwrap().done();
        story.note(format!("future dropped, done: {done}"));
    });
    // Kept by the future itself: a local would be gone with the last statement.
    let mut guard = Some(guard);
    let mut first = true;
    let future = poll_fn(move |cx| {
        let _kept = &mut guard;
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    });
    *own.borrow_mut() = Some(event_loop.create_task(future));
    let story = trace.clone();
    event_loop.run_until_complete(async move {
        let mut task = own.take().unwrap();
        assert!(poll!(&mut task).is_pending());
        *own.borrow_mut() = Some(task);
        let outcome = poll_fn(|cx| {
            let mut task = own.take().unwrap();
            let outcome = std::pin::Pin::new(&mut task).poll(cx);
            *own.borrow_mut() = Some(task);
            outcome
        });
        story.note(format!("result: {:?}", outcome.await));
    });
    assert_eq!(
        trace.take(),
        ["future dropped, done: false", "result: Ok(())"]
    );
}

#[test]
fn a_panic_in_the_futures_destructor_is_the_result() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let guard = on_drop(|| panic!("in the destructor"));
    let mut guard = Some(guard);
    let task = event_loop.create_task(poll_fn(move |_| {
        let _kept = &mut guard;
        Poll::Ready(1)
    }));
    let outcome = event_loop.run_until_complete(task);
    assert_eq!(panic_message(outcome), "in the destructor");
}

#[test]
fn an_output_that_nobody_takes_is_dropped_and_its_destructors_panic_reported() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    let story = trace.clone();
    let output = on_drop(move || {
        story.note("output dropped");
        panic!("output");
    });
    drop(event_loop.create_task(async move { output }));
    turns(&mut event_loop, 3);
    assert_eq!(
        trace.take(),
        [
            "output dropped",
            "Exception in a task's destructor: panicked: output"
        ]
    );
    assert_eq!(event_loop.run_until_complete(async { 1 }), 1);
}

#[test]
fn a_task_is_awaited_by_reference_until_it_is_over() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let mut task = event_loop.create_task(async {
        sleep(Duration::from_millis(2)).await.unwrap();
        "done"
    });
    event_loop.run_until_complete(async {
        assert!(poll!(&mut task).is_pending());
        sleep(Duration::from_millis(1)).await.unwrap();
        assert_eq!((&mut task).await, Ok("done"));
        assert!(task.done());
    });
}

#[test]
fn ensure_future_makes_a_task_of_a_future_and_leaves_a_task_alone() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let task: Task<i32> = event_loop.ensure_future(async { 1 });
    let same: Task<i32> = event_loop.ensure_future(task);
    assert_eq!(event_loop.run_until_complete(same), Ok(1));
}

#[test]
fn a_task_may_spawn_from_its_destructor_and_its_destructor_sees_the_loop() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let story = trace.clone();
    let guard = on_drop(move || {
        let handle = get_running_loop().unwrap();
        let story = story.clone();
        drop(handle.create_task(async move { story.note("spawned by a destructor") }));
    });
    let task = event_loop.create_task(async move {
        let _guard = guard;
        pending::<()>().await;
    });
    turns(&mut event_loop, 1);
    task.cancel();
    turns(&mut event_loop, 2);
    assert_eq!(trace.take(), ["spawned by a destructor"]);
}

#[test]
fn a_task_may_cancel_itself() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let (me, story) = (Rc::clone(&own), trace.clone());
    let task = event_loop.create_task(async move {
        assert!(me.borrow().as_ref().unwrap().cancel());
        story.note("runs until it waits");
        sleep(Duration::ZERO).await.unwrap();
        story.note("goes on");
    });
    *own.borrow_mut() = Some(task);
    turns(&mut event_loop, 3);
    let task = own.take().unwrap();
    assert_eq!(
        event_loop.run_until_complete(task),
        Err(TaskError::Cancelled)
    );
    assert_eq!(trace.take(), ["runs until it waits"]);
}

#[test]
fn a_task_polls_once_for_each_turn_in_which_it_was_woken() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let polls = Rc::new(Cell::new(0));
    let counter = Rc::clone(&polls);
    drop(event_loop.create_task(poll_fn(move |cx| {
        counter.set(counter.get() + 1);
        for _ in 0..10 {
            let waker = cx.waker().clone();
            waker.wake_by_ref();
            waker.wake();
        }
        Poll::<()>::Pending
    })));
    for expected in 1..=5 {
        turns(&mut event_loop, 1);
        assert_eq!(polls.get(), expected);
    }
}

// A result that somebody else sets.

#[test]
fn everybody_who_awaits_a_waiter_gets_the_result_any_number_of_times() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let waiter = event_loop.create_future();
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let waiter = waiter.clone();
            event_loop.create_task(async move { (waiter.clone().await, waiter.await) })
        })
        .collect();
    turns(&mut event_loop, 1);
    assert!(!waiter.done());
    waiter.set_result(String::from("value")).unwrap();
    assert!(waiter.done() && !waiter.cancelled());
    event_loop.run_until_complete(async {
        let value = || Ok(String::from("value"));
        for task in tasks {
            assert_eq!(task.await, Ok((value(), value())));
        }
        assert_eq!(waiter.await, value());
    });
}

#[test]
fn a_waiter_is_set_once() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let waiter = event_loop.create_future();
    waiter.set_result(1).unwrap();
    let error = waiter.set_result(2).unwrap_err();
    assert_eq!(error.0, 2, "the value comes back");
    assert_eq!(error.to_string(), "the result was set or cancelled before");
    assert!(!waiter.cancel());
    assert_eq!(event_loop.run_until_complete(waiter), Ok(1));
}

#[test]
fn a_cancelled_waiter_ends_every_wait() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let waiter = event_loop.create_future::<u8>();
    let task = event_loop.create_task(waiter.clone());
    turns(&mut event_loop, 1);
    assert!(waiter.cancel());
    assert!(!waiter.cancel() && waiter.done() && waiter.cancelled());
    assert_eq!(waiter.set_result(1).unwrap_err().0, 1);
    assert_eq!(
        event_loop.run_until_complete(task),
        Ok(Err(TaskError::Cancelled))
    );
    assert_eq!(
        event_loop.run_until_complete(waiter),
        Err(TaskError::Cancelled)
    );
}

#[test]
fn a_wait_that_was_given_up_leaves_the_others_waiting() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let handle = get_running_loop().unwrap();
        let waiter = handle.create_future();
        let task = handle.create_task(waiter.clone());
        let limit = Duration::from_millis(1);
        assert!(timeout(limit, waiter.clone()).await.is_err());
        assert!(!waiter.done());
        waiter.set_result(5).unwrap();
        assert_eq!(task.await, Ok(Ok(5)));
    });
}

/// `clone` is the user's code: it may look at the waiter, set it again, or panic.
#[test]
fn a_values_clone_may_do_what_it_likes() {
    struct Peculiar {
        on_clone: Rc<dyn Fn()>,
    }

    impl Clone for Peculiar {
        fn clone(&self) -> Self {
            (self.on_clone)();
            Self {
                on_clone: Rc::clone(&self.on_clone),
            }
        }
    }

    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let waiter = event_loop.create_future::<Peculiar>();
    let (story, inside) = (trace.clone(), waiter.clone());
    let panics = Cell::new(true);
    let on_clone = Rc::new(move || {
        story.note(format!("done: {}", inside.done()));
        let late = Peculiar {
            on_clone: Rc::new(|| {}),
        };
        assert!(inside.set_result(late).is_err());
        assert!(!panics.take(), "the first clone panics");
    });
    assert!(waiter.set_result(Peculiar { on_clone }).is_ok());
    let task = event_loop.create_task(waiter.clone());
    let outcome = event_loop.run_until_complete(task);
    assert_eq!(panic_message(outcome), "the first clone panics");
    let limit = Duration::from_secs(30);
    let second = event_loop.run_until_complete(timeout(limit, waiter.clone()));
    assert!(matches!(second, Ok(Ok(_))), "the value is still there");
    assert_eq!(trace.take(), ["done: true", "done: true"]);
}

/// Wakers are used again for other tasks, but not those that somebody still holds.
#[test]
fn a_waker_that_outlives_its_task_wakes_no_other() {
    let mut event_loop = EventLoop::new().unwrap();
    let kept = Rc::new(RefCell::new(None));
    let keeper = Rc::clone(&kept);
    let first = event_loop.create_task(poll_fn(move |cx| {
        *keeper.borrow_mut() = Some(cx.waker().clone());
        Poll::Ready(())
    }));
    event_loop.run_until_complete(first).unwrap();
    let polls = Rc::new(Cell::new(0));
    let tasks: Vec<Task<()>> = (0..100)
        .map(|_| {
            let polls = Rc::clone(&polls);
            event_loop.create_task(poll_fn(move |_| {
                polls.set(polls.get() + 1);
                Poll::Pending
            }))
        })
        .collect();
    turns(&mut event_loop, 2);
    assert_eq!(polls.get(), tasks.len());
    let waker = kept.take().unwrap();
    waker.wake_by_ref();
    std::thread::spawn(move || waker.wake()).join().unwrap();
    turns(&mut event_loop, 2);
    assert_eq!(polls.get(), tasks.len());
}

#[test]
fn tasks_that_follow_one_another_are_each_woken_by_their_own_waker() {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.run_until_complete(async {
        let handle = get_running_loop().unwrap();
        for round in 0..200 {
            let waits = handle.create_future();
            let waiting = handle.create_task(waits.clone());
            let others: Vec<_> = (0..round % 7)
                .map(|i| handle.create_task(async move { i }))
                .collect();
            sleep(Duration::ZERO).await.unwrap();
            waits.set_result(round).unwrap();
            assert_eq!(waiting.await, Ok(Ok(round)));
            for (i, other) in others.into_iter().enumerate() {
                assert_eq!(other.await, Ok(i));
            }
        }
    });
}
