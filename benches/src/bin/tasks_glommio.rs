//! What tasks and timers cost in glommio. It needs io_uring and memory that it may lock.
//!
//! glommio's own channel between threads wants an executor at both ends, so messages come as they
//! do for monoio: through `futures_channel::mpsc`, unbounded. A spawn polls the new task at once,
//! inside the one that spawns: a task that spawns the next one would be a recursion, not a chain,
//! so that measure is not here.
#![forbid(unsafe_code)]

use std::sync::mpsc as std_mpsc;

use evloop_benches::task_program::{
    BATCH, FAR, OTHER_TIMERS, Request, ends_burst, measure, other_deadline, poll_each_once,
    poll_once, send_bursts, spread,
};
use futures_channel::mpsc;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, executor, spawn_local};

fn main() {
    let request = Request::from_args();
    let executor = LocalExecutorBuilder::default()
        .make()
        .expect("io_uring, and memory to lock");
    executor.run(async { spawn_local(measured(request)).await });
}

async fn measured(request: Request) {
    let n = request.operations;
    match request.measure.as_str() {
        "spawn_await" => measure(n, spawn_await).await,
        "spawn_batch" => measure(n, spawn_batch).await,
        "yield" => measure(n, yield_between).await,
        "timer" => measure(n, timer).await,
        "timer_10000" => {
            let mut others: Vec<_> = (0..OTHER_TIMERS)
                .map(|i| Box::pin(Timer::new(other_deadline(i))))
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
        assert_eq!(spawn_local(async move { i }).await, i);
    }
}

async fn spawn_batch(n: usize) {
    let mut tasks = Vec::with_capacity(BATCH);
    for _ in 0..n / BATCH {
        tasks.extend((0..BATCH).map(|i| spawn_local(async move { i })));
        for (i, task) in tasks.drain(..).enumerate() {
            assert_eq!(task.await, i);
        }
    }
}

async fn yield_between(n: usize) {
    let both = [(); 2].map(|()| {
        spawn_local(async move {
            for _ in 0..n / 2 {
                executor().yield_now().await;
            }
        })
    });
    for task in both {
        task.await;
    }
}

async fn timer(n: usize) {
    for _ in 0..n {
        poll_once(Timer::new(FAR)).await;
    }
}

async fn sleeps(n: usize) {
    let tasks: Vec<_> = (0..n).map(|i| spawn_local(Timer::new(spread(i)))).collect();
    for task in tasks {
        task.await;
    }
}

async fn cross_thread(n: usize) {
    let (acknowledge, acknowledged) = std_mpsc::channel();
    let (sender, mut receiver) = mpsc::unbounded();
    send_bursts(n, acknowledged, move |number| {
        sender.unbounded_send(number).expect("somebody receives");
    });
    let mut sum = 0;
    while let Ok(number) = receiver.recv().await {
        sum += number;
        if ends_burst(number) {
            acknowledge.send(()).expect("the thread waits");
        }
    }
    assert_eq!(sum, n * (n - 1) / 2);
}
