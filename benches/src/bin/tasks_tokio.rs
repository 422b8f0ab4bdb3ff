//! What tasks and timers cost in tokio: a current-thread runtime, and a `LocalSet` for tasks that
//! are not `Send`.
//!
//! The runtime is one that could serve sockets too, with `enable_all`, as all the others here
//! always are. With timers alone it would be cheaper: a timer by half, a yield by a quarter.
//! Messages from another thread come through `tokio::sync::mpsc`, unbounded.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc as std_mpsc;

use evloop_benches::task_program::{
    BATCH, End, FAR, OTHER_TIMERS, Request, ends_burst, measure, other_deadline, poll_each_once,
    poll_once, send_bursts, spread,
};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::sleep;

fn main() {
    let request = Request::from_args();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let main = async { spawn_local(measured(request)).await.expect("no panic") };
    LocalSet::new().block_on(&runtime, main);
}

async fn measured(request: Request) {
    let n = request.operations;
    match request.measure.as_str() {
        "spawn_await" => measure(n, spawn_await).await,
        "spawn_batch" => measure(n, spawn_batch).await,
        "yield" => measure(n, yield_between).await,
        "call_soon" => measure(n, task_chain).await,
        "timer" => measure(n, timer).await,
        "timer_10000" => {
            let mut others: Vec<_> = (0..OTHER_TIMERS)
                .map(|i| Box::pin(sleep(other_deadline(i))))
                .collect();
            poll_each_once(&mut others).await;
            measure(n, timer).await;
        }
        "sleeps" => measure(n, sleeps).await,
        "cross_thread" => measure(n, cross_thread).await,
        _ => request.unknown(),
    }
}

async fn spawn_await(n: usize) {
    for i in 0..n {
        assert_eq!(spawn_local(async move { i }).await.ok(), Some(i));
    }
}

async fn spawn_batch(n: usize) {
    let mut tasks = Vec::with_capacity(BATCH);
    for _ in 0..n / BATCH {
        tasks.extend((0..BATCH).map(|i| spawn_local(async move { i })));
        for (i, task) in tasks.drain(..).enumerate() {
            assert_eq!(task.await.ok(), Some(i));
        }
    }
}

async fn yield_between(n: usize) {
    let both = [(); 2].map(|()| {
        spawn_local(async move {
            for _ in 0..n / 2 {
                yield_now().await;
            }
        })
    });
    for task in both {
        task.await.expect("no panic");
    }
}

struct Chain {
    left: Cell<usize>,
    end: End,
}

async fn task_chain(n: usize) {
    let chain = Rc::new(Chain {
        left: Cell::new(n),
        end: End::default(),
    });
    link(Rc::clone(&chain));
    chain.end.wait().await;
}

fn link(chain: Rc<Chain>) {
    match chain.left.get() {
        0 => chain.end.reach(),
        left => {
            chain.left.set(left - 1);
            drop(spawn_local(async move { link(chain) }));
        }
    }
}

async fn timer(n: usize) {
    for _ in 0..n {
        poll_once(sleep(FAR)).await;
    }
}

async fn sleeps(n: usize) {
    let tasks: Vec<_> = (0..n).map(|i| spawn_local(sleep(spread(i)))).collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

async fn cross_thread(n: usize) {
    let (acknowledge, acknowledged) = std_mpsc::channel();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    send_bursts(n, acknowledged, move |number| {
        sender.send(number).expect("somebody receives");
    });
    let mut sum = 0;
    while let Some(number) = receiver.recv().await {
        sum += number;
        if ends_burst(number) {
            acknowledge.send(()).expect("the thread waits");
        }
    }
    assert_eq!(sum, n * (n - 1) / 2);
}
