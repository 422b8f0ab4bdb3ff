//! What tasks and timers cost in smol, on a `LocalExecutor`.
//!
//! Messages from another thread come through `smol::channel`, unbounded.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;

use evloop_benches::task_program::{
    BATCH, End, FAR, OTHER_TIMERS, Request, ends_burst, measure, other_deadline, poll_each_once,
    poll_once, send_bursts, spread,
};
use smol::future::yield_now;
use smol::{LocalExecutor, Timer, channel};

type Executor = Rc<LocalExecutor<'static>>;

fn main() {
    let request = Request::from_args();
    let executor = Rc::new(LocalExecutor::new());
    let main = executor.spawn(measured(Rc::clone(&executor), request));
    smol::block_on(executor.run(main));
}

async fn measured(executor: Executor, request: Request) {
    let n = request.operations;
    match request.measure.as_str() {
        "spawn_await" => measure(n, async |n| spawn_await(&executor, n).await).await,
        "spawn_batch" => measure(n, async |n| spawn_batch(&executor, n).await).await,
        "yield" => measure(n, async |n| yield_between(&executor, n).await).await,
        "call_soon" => measure(n, async |n| task_chain(&executor, n).await).await,
        "timer" => measure(n, timer).await,
        "timer_10000" => {
            let mut others: Vec<_> = (0..OTHER_TIMERS)
                .map(|i| Timer::after(other_deadline(i)))
                .collect();
            poll_each_once(&mut others).await;
            measure(n, timer).await;
        }
        "sleeps" => measure(n, async |n| sleeps(&executor, n).await).await,
        "cross_thread" => measure(n, cross_thread).await,
        _ => request.unknown(),
    }
}

async fn spawn_await(executor: &Executor, n: usize) {
    for i in 0..n {
        assert_eq!(executor.spawn(async move { i }).await, i);
    }
}

async fn spawn_batch(executor: &Executor, n: usize) {
    let mut tasks = Vec::with_capacity(BATCH);
    for _ in 0..n / BATCH {
        tasks.extend((0..BATCH).map(|i| executor.spawn(async move { i })));
        for (i, task) in tasks.drain(..).enumerate() {
            assert_eq!(task.await, i);
        }
    }
}

async fn yield_between(executor: &Executor, n: usize) {
    let both = [(); 2].map(|()| {
        executor.spawn(async move {
            for _ in 0..n / 2 {
                yield_now().await;
            }
        })
    });
    for task in both {
        task.await;
    }
}

struct Chain {
    executor: Executor,
    left: Cell<usize>,
    end: End,
}

async fn task_chain(executor: &Executor, n: usize) {
    let chain = Rc::new(Chain {
        executor: Rc::clone(executor),
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
            let next = Rc::clone(&chain);
            chain.executor.spawn(async move { link(next) }).detach();
        }
    }
}

async fn timer(n: usize) {
    for _ in 0..n {
        poll_once(Timer::after(FAR)).await;
    }
}

async fn sleeps(executor: &Executor, n: usize) {
    let tasks: Vec<_> = (0..n)
        .map(|i| executor.spawn(Timer::after(spread(i))))
        .collect();
    for task in tasks {
        task.await;
    }
}

async fn cross_thread(n: usize) {
    let (acknowledge, acknowledged) = mpsc::channel();
    let (sender, receiver) = channel::unbounded();
    send_bursts(n, acknowledged, move |number| {
        sender.try_send(number).expect("somebody receives");
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
