//! A task whose awaits are always ready starves nobody.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use evloop::{
    EventLoop, LoopHandle, LoopStopped, TimeoutError, Waiter, get_running_loop, sleep, sleep_until,
    timeout,
};
use futures::{FutureExt, select_biased};

use crate::support::{deadline, stream_pair};

fn already_set() -> Waiter<()> {
    let waiter = get_running_loop().unwrap().create_future();
    waiter.set_result(()).unwrap();
    waiter
}

/// Never waits, and never returns.
async fn busy(awaits: Rc<Cell<usize>>) {
    let ready = already_set();
    loop {
        ready.clone().await.unwrap();
        awaits.set(awaits.get() + 1);
    }
}

#[test]
fn a_step_completes_128_awaits_and_gives_way() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let awaits = Rc::new(Cell::new(0));
    let task = event_loop.create_task(busy(Rc::clone(&awaits)));
    for turns in 1..=3 {
        event_loop.stop();
        event_loop.run_forever();
        assert_eq!(awaits.get(), turns * 128);
    }
    assert!(task.cancel());
}

#[test]
fn other_tasks_timers_and_stop_have_their_turn_beside_a_busy_task() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    drop(event_loop.create_task(busy(Rc::default())));
    event_loop.run_until_complete(async { sleep(Duration::from_millis(5)).await.unwrap() });
    let handle = event_loop.handle();
    event_loop.call_later(Duration::from_millis(5), move || handle.stop());
    event_loop.run_forever();
}

/// There is something to run in every turn, so the loop never sleeps: the rest of the turn has
/// its place all the same.
#[test]
fn callbacks_that_schedule_themselves_starve_no_timer_no_stream_and_no_thread() {
    fn again(handle: &LoopHandle) {
        let next = handle.clone();
        handle.call_soon(move || again(&next));
    }

    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    again(&event_loop);
    let threadsafe = event_loop.threadsafe();
    let (send, receive) = mpsc::channel();
    event_loop.run_until_complete(async {
        sleep(Duration::from_millis(2)).await.unwrap();
        let [(mut reader, _writer), (_far_reader, far_writer)] = stream_pair().await;
        far_writer.write(b"line\n");
        assert_eq!(reader.readline().await.unwrap(), b"line\n");
        let thread =
            thread::spawn(move || threadsafe.call_soon_threadsafe(move || send.send(()).unwrap()));
        while receive.try_recv().is_err() {
            sleep(Duration::ZERO).await.unwrap();
        }
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn a_busy_root_future_can_be_stopped() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    event_loop.call_later(Duration::from_millis(5), move || handle.stop());
    let outcome = event_loop.try_run_until_complete(busy(Rc::default()));
    assert_eq!(outcome, Err(LoopStopped));
}

#[test]
fn a_timeout_ends_what_is_always_ready() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let outcome = timeout(Duration::from_millis(5), busy(Rc::default())).await;
        assert_eq!(outcome, Err(TimeoutError::Elapsed));
    });
}

/// The busy one is polled first and leaves nothing of its step's share.
#[test]
fn a_sleep_beside_what_is_always_ready_ends() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let busy = pin!(busy(Rc::default()).fuse());
        let limit = pin!(sleep(Duration::from_millis(5)).fuse());
        let (mut busy, mut limit) = (busy, limit);
        select_biased! {
            () = busy => unreachable!("it never returns"),
            slept = limit => slept.unwrap(),
        }
    });
}

/// Each of these sleeps is over before it begins.
#[test]
fn a_loop_of_sleeps_that_are_over_lets_others_run() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let slept = Rc::new(Cell::new(0));
    let counter = Rc::clone(&slept);
    let past = event_loop.time();
    drop(event_loop.create_task(async move {
        loop {
            sleep_until(past).await.unwrap();
            counter.set(counter.get() + 1);
        }
    }));
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(slept.get(), 128);
    event_loop.run_until_complete(async { sleep(Duration::from_millis(1)).await.unwrap() });
}

#[test]
fn a_loop_of_writes_and_drains_lets_others_run() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let [(mut reader, writer), (far_reader, far_writer)] = stream_pair().await;
        let handle = get_running_loop().unwrap();
        drop(handle.create_task(async move {
            let _far_reader = far_reader;
            loop {
                far_writer.write(b"x");
                far_writer.drain().await.unwrap();
            }
        }));
        assert_eq!(reader.readexactly(1000).await.unwrap(), vec![b'x'; 1000]);
        writer.close();
    });
}

#[test]
fn a_flooded_reader_lets_others_run() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let mut reader = evloop::StreamReader::new();
    let feeder = reader.feeder();
    let reads = Rc::new(Cell::new(0));
    let counter = Rc::clone(&reads);
    drop(event_loop.create_task(async move {
        loop {
            feeder.feed_data(b"line\n").unwrap();
            reader.readline().await.unwrap();
            counter.set(counter.get() + 1);
        }
    }));
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(reads.get(), 128);
}
