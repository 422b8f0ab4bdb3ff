//! What tasks, timers and callbacks cost in evloop.
//!
//! Messages from another thread are closures for `call_soon_threadsafe`, the only way in.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use evloop::{EventLoop, LoopHandle, get_running_loop, sleep};
use evloop_benches::task_program::{
    BATCH, End, FAR, OTHER_TIMERS, Request, ends_burst, measure, measure_blocking, other_deadline,
    poll_each_once, poll_once, send_bursts, spread,
};

fn main() {
    let request = Request::from_args();
    let mut event_loop = EventLoop::new().expect("a loop");
    if request.measure == "cross_thread" {
        measure_blocking(request.operations, |n| cross_thread(&mut event_loop, n));
        return;
    }
    let main = event_loop.create_task(measured(event_loop.handle(), request));
    event_loop
        .run_until_complete(main)
        .expect("nothing cancels it");
}

async fn measured(handle: LoopHandle, request: Request) {
    let n = request.operations;
    match request.measure.as_str() {
        "spawn_await" => measure(n, async |n| spawn_await(&handle, n).await).await,
        "spawn_batch" => measure(n, async |n| spawn_batch(&handle, n).await).await,
        "yield" => measure(n, async |n| yield_between(&handle, n).await).await,
        "call_soon" => measure(n, async |n| call_soon(&handle, n).await).await,
        "timer" => measure(n, timer).await,
        "timer_10000" => {
            let mut others: Vec<_> = (0..OTHER_TIMERS)
                .map(|i| sleep(other_deadline(i)))
                .collect();
            poll_each_once(&mut others).await;
            measure(n, timer).await;
        }
        "timer_call_later" => measure(n, async |n| call_later(&handle, n)).await,
        "sleeps" => measure(n, async |n| sleeps(&handle, n).await).await,
        _ => request.unknown(),
    }
}

async fn spawn_await(handle: &LoopHandle, n: usize) {
    for i in 0..n {
        assert_eq!(handle.create_task(async move { i }).await, Ok(i));
    }
}

async fn spawn_batch(handle: &LoopHandle, n: usize) {
    let mut tasks = Vec::with_capacity(BATCH);
    for _ in 0..n / BATCH {
        tasks.extend((0..BATCH).map(|i| handle.create_task(async move { i })));
        for (i, task) in tasks.drain(..).enumerate() {
            assert_eq!(task.await, Ok(i));
        }
    }
}

async fn yield_between(handle: &LoopHandle, n: usize) {
    let both = [(); 2].map(|()| {
        handle.create_task(async move {
            for _ in 0..n / 2 {
                sleep(Duration::ZERO).await.expect("in its loop");
            }
        })
    });
    for task in both {
        task.await.expect("nothing cancels it");
    }
}

async fn call_soon(handle: &LoopHandle, n: usize) {
    let chain = Rc::new(Chain {
        handle: handle.clone(),
        left: Cell::new(n),
        end: End::default(),
    });
    link(Rc::clone(&chain));
    chain.end.wait().await;
}

struct Chain {
    handle: LoopHandle,
    left: Cell<usize>,
    end: End,
}

fn link(chain: Rc<Chain>) {
    match chain.left.get() {
        0 => chain.end.reach(),
        left => {
            chain.left.set(left - 1);
            let next = Rc::clone(&chain);
            chain.handle.call_soon(move || link(next));
        }
    }
}

async fn timer(n: usize) {
    for _ in 0..n {
        poll_once(sleep(FAR)).await;
    }
}

fn call_later(handle: &LoopHandle, n: usize) {
    for _ in 0..n {
        handle.call_later(FAR, || ()).cancel();
    }
}

async fn sleeps(handle: &LoopHandle, n: usize) {
    let tasks: Vec<_> = (0..n)
        .map(|i| handle.create_task(sleep(spread(i))))
        .collect();
    for task in tasks {
        let slept = task.await.expect("nothing cancels it");
        slept.expect("in its loop");
    }
}

thread_local! {
    static SUM: Cell<usize> = const { Cell::new(0) };
}

fn cross_thread(event_loop: &mut EventLoop, n: usize) {
    SUM.set(0);
    let (acknowledge, acknowledged) = mpsc::channel();
    let threadsafe = event_loop.threadsafe();
    send_bursts(n, acknowledged, move |number| {
        let add = move || SUM.set(SUM.get() + number);
        let sent = if ends_burst(number) {
            let acknowledge = acknowledge.clone();
            threadsafe.call_soon_threadsafe(move || {
                add();
                if number + 1 == n {
                    get_running_loop().expect("it runs").stop();
                }
                // The thread that sends has seen enough if it does not listen any more.
                let _ = acknowledge.send(());
            })
        } else {
            threadsafe.call_soon_threadsafe(add)
        };
        sent.expect("the loop is open");
    });
    event_loop.run_forever();
    assert_eq!(SUM.get(), n * (n - 1) / 2);
}
