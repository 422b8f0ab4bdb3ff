//! Callbacks, timers and tasks: what runs before what.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use evloop::{get_running_loop, sleep, sleep_until, timeout};

use crate::net::Net;
use crate::worlds::everywhere;

/// Says it, when it is called.
fn saying(net: &Net, line: &str) -> impl FnOnce() + 'static {
    let (net, line) = (net.clone(), line.to_owned());
    move || net.say(line)
}

const MOMENT: Duration = Duration::from_millis(10);

#[test]
fn callbacks_run_in_the_order_in_which_they_were_queued() {
    everywhere(&["a", "b", "c"], async |net| {
        let handle = get_running_loop().unwrap();
        for line in ["a", "b", "c"] {
            drop(handle.call_soon(saying(&net, line)));
        }
        net.trace().until("c").await;
    });
}

#[test]
fn what_a_callback_queues_comes_behind_what_waits_already() {
    everywhere(&["a", "b", "from a"], async |net| {
        let handle = get_running_loop().unwrap();
        let (own, inner) = (net.clone(), handle.clone());
        drop(handle.call_soon(move || {
            own.say("a");
            drop(inner.call_soon(saying(&own, "from a")));
        }));
        drop(handle.call_soon(saying(&net, "b")));
        net.trace().until("from a").await;
    });
}

#[test]
fn a_callback_that_was_cancelled_does_not_run() {
    everywhere(&["a", "c"], async |net| {
        let handle = get_running_loop().unwrap();
        drop(handle.call_soon(saying(&net, "a")));
        let b = handle.call_soon(saying(&net, "b"));
        drop(handle.call_soon(saying(&net, "c")));
        b.cancel();
        net.trace().until("c").await;
    });
}

#[test]
fn a_callback_may_cancel_the_next_one() {
    everywhere(&["a", "c"], async |net| {
        let handle = get_running_loop().unwrap();
        let next = Rc::new(Cell::new(None::<evloop::Handle>));
        let (own, victim) = (net.clone(), Rc::clone(&next));
        drop(handle.call_soon(move || {
            own.say("a");
            if let Some(handle) = victim.take() {
                handle.cancel();
            }
        }));
        next.set(Some(handle.call_soon(saying(&net, "b"))));
        drop(handle.call_soon(saying(&net, "c")));
        net.trace().until("c").await;
    });
}

#[test]
fn timers_run_in_the_order_of_their_deadlines() {
    everywhere(&["soon", "1", "2", "3"], async |net| {
        let handle = get_running_loop().unwrap();
        for number in [3_u32, 1, 2] {
            let line = number.to_string();
            drop(handle.call_later(number * MOMENT, saying(&net, &line)));
        }
        drop(handle.call_soon(saying(&net, "soon")));
        net.trace().until("3").await;
    });
}

#[test]
fn timers_of_one_deadline_run_in_the_order_of_their_making() {
    everywhere(&["a", "b", "c", "d"], async |net| {
        let handle = get_running_loop().unwrap();
        let when = handle.time() + MOMENT;
        for line in ["a", "b", "c", "d"] {
            drop(handle.call_at(when, saying(&net, line)));
        }
        net.trace().until("d").await;
    });
}

#[test]
fn a_timer_of_the_past_runs_in_the_next_turn() {
    everywhere(&["queued", "soon", "late"], async |net| {
        let handle = get_running_loop().unwrap();
        drop(handle.call_at(handle.time(), saying(&net, "late")));
        drop(handle.call_soon(saying(&net, "soon")));
        net.say("queued");
        net.trace().until("late").await;
    });
}

#[test]
fn a_timer_that_was_cancelled_does_not_run() {
    everywhere(&["b"], async |net| {
        let handle = get_running_loop().unwrap();
        let a = handle.call_later(MOMENT, saying(&net, "a"));
        drop(handle.call_later(2 * MOMENT, saying(&net, "b")));
        a.cancel();
        net.trace().until("b").await;
    });
}

#[test]
fn nobody_is_woken_too_early() {
    everywhere(&["true", "true"], async |net| {
        let handle = get_running_loop().unwrap();
        let when = handle.time() + MOMENT;
        sleep(MOMENT).await.unwrap();
        net.say((handle.time() >= when).to_string());
        let when = handle.time() + MOMENT;
        sleep_until(when).await.unwrap();
        net.say((handle.time() >= when).to_string());
    });
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    everywhere(&["1", "2", "3"], async |net| {
        let sleepers = [3_u32, 1, 2].map(|number| {
            let net = net.clone();
            async move {
                sleep(number * MOMENT).await.unwrap();
                net.say(number.to_string());
            }
        });
        futures::future::join_all(sleepers).await;
    });
}

#[test]
fn tasks_begin_in_the_order_in_which_they_were_made() {
    everywhere(&["made", "a", "b", "a again", "b again"], async |net| {
        let handle = get_running_loop().unwrap();
        let tasks = ["a", "b"].map(|name| {
            let net = net.clone();
            handle.create_task(async move {
                net.say(name);
                sleep(Duration::ZERO).await.unwrap();
                net.say(format!("{name} again"));
            })
        });
        net.say("made");
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_task_that_is_cancelled_goes_no_further() {
    everywhere(&["begun", "true", "Cancelled"], async |net| {
        let own = net.clone();
        let task = get_running_loop().unwrap().create_task(async move {
            own.say("begun");
            sleep(MOMENT).await.unwrap();
            own.say("never");
        });
        net.trace().until("begun").await;
        net.say(task.cancel().to_string());
        net.say(match task.await {
            Err(evloop::TaskError::Cancelled) => "Cancelled".to_owned(),
            other => format!("{other:?}"),
        });
        net.settle().await;
    });
}

#[test]
fn a_limit_is_kept_and_a_value_that_comes_in_time_is_given() {
    everywhere(&["Err(Elapsed)", "Ok(7)", "Ok(8)"], async |net| {
        let slow = async {
            sleep(100 * MOMENT).await.unwrap();
            6
        };
        net.say(format!("{:?}", timeout(MOMENT, slow).await));
        let quick = async {
            sleep(MOMENT).await.unwrap();
            7
        };
        net.say(format!("{:?}", timeout(100 * MOMENT, quick).await));
        net.say(format!("{:?}", timeout(Duration::ZERO, async { 8 }).await));
    });
}

#[test]
fn what_an_executor_did_comes_back_to_the_loop() {
    everywhere(&["Ok(42)", "Ok(true)"], async |net| {
        let handle = get_running_loop().unwrap();
        let ours = std::thread::current().id();
        net.say(format!("{:?}", handle.run_in_executor(|| 42).await));
        let elsewhere = move || std::thread::current().id() != ours;
        net.say(format!("{:?}", handle.run_in_executor(elsewhere).await));
    });
}

#[test]
fn a_message_from_another_thread_wakes_the_loop() {
    everywhere(&["from elsewhere"], async |net| {
        let handle = get_running_loop().unwrap();
        let threadsafe = handle.threadsafe();
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let set = std::sync::Arc::clone(&done);
        let thread = handle.run_in_executor(move || {
            let set = move || set.store(true, std::sync::atomic::Ordering::Relaxed);
            threadsafe.call_soon_threadsafe(set).is_ok()
        });
        assert_eq!(thread.await.ok(), Some(true));
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            sleep(MOMENT).await.unwrap();
        }
        net.say("from elsewhere");
    });
}
