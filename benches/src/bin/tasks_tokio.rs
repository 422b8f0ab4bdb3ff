//! What tasks and timers cost in tokio: a current-thread runtime, and tasks in a `LocalSet`, which
//! need not be `Send` (`--variant local`), or tasks of the runtime itself, which have to be
//! (`--variant spawn`).
//!
//! The runtime is one that could serve sockets too, with `enable_all`, as all the others here
//! always are. With timers alone it would be cheaper: a timer by half, a yield by a quarter.
//! Messages from another thread come through `tokio::sync::mpsc`, unbounded.
#![forbid(unsafe_code)]

use std::future::Future;
use std::sync::mpsc as std_mpsc;

use evloop_benches::task_program::{
    BATCH, FAR, OTHER_TIMERS, Request, ends_burst, measure, other_deadline, poll_each_once,
    poll_once, send_bursts, spread,
};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet, yield_now};
use tokio::time::sleep;

fn main() {
    let request = Request::from_args();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    match request.variant.as_str() {
        "local" => {
            let main = async { Local::spawn(measured::<Local>(request)).await };
            LocalSet::new().block_on(&runtime, main)
        }
        "spawn" => runtime.block_on(async { Plain::spawn(measured::<Plain>(request)).await }),
        _ => request.refuse_variant("tokio has local and spawn"),
    }
    .expect("no panic");
}

/// Where tasks are spawned. The tasks of both are the same ones.
trait Spawn: 'static {
    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static;
}

struct Local;

impl Spawn for Local {
    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::task::spawn_local(future)
    }
}

struct Plain;

impl Spawn for Plain {
    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::spawn(future)
    }
}

async fn measured<S: Spawn>(request: Request) {
    let n = request.operations;
    match request.measure.as_str() {
        "spawn_await" => measure(n, spawn_await::<S>).await,
        "spawn_batch" => measure(n, spawn_batch::<S>).await,
        "yield" => measure(n, yield_between::<S>).await,
        "call_soon" => measure(n, task_chain::<S>).await,
        "timer" => measure(n, timer).await,
        "timer_10000" => {
            let mut others: Vec<_> = (0..OTHER_TIMERS)
                .map(|i| Box::pin(sleep(other_deadline(i))))
                .collect();
            poll_each_once(&mut others).await;
            measure(n, timer).await;
        }
        "sleeps" => measure(n, sleeps::<S>).await,
        "cross_thread" => measure(n, cross_thread).await,
        _ => request.unknown(),
    }
}

async fn spawn_await<S: Spawn>(n: usize) {
    for i in 0..n {
        assert_eq!(S::spawn(async move { i }).await.ok(), Some(i));
    }
}

async fn spawn_batch<S: Spawn>(n: usize) {
    let mut tasks = Vec::with_capacity(BATCH);
    for _ in 0..n / BATCH {
        tasks.extend((0..BATCH).map(|i| S::spawn(async move { i })));
        for (i, task) in tasks.drain(..).enumerate() {
            assert_eq!(task.await.ok(), Some(i));
        }
    }
}

async fn yield_between<S: Spawn>(n: usize) {
    let both = [(); 2].map(|()| {
        S::spawn(async move {
            for _ in 0..n / 2 {
                yield_now().await;
            }
        })
    });
    for task in both {
        task.await.expect("no panic");
    }
}

async fn task_chain<S: Spawn>(n: usize) {
    let (end, reached) = oneshot::channel();
    link::<S>(n, end);
    reached.await.expect("the last link says so");
}

fn link<S: Spawn>(left: usize, end: oneshot::Sender<()>) {
    if left == 0 {
        end.send(()).expect("somebody waits");
    } else {
        drop(S::spawn(async move { link::<S>(left - 1, end) }));
    }
}

async fn timer(n: usize) {
    for _ in 0..n {
        poll_once(sleep(FAR)).await;
    }
}

async fn sleeps<S: Spawn>(n: usize) {
    let tasks: Vec<_> = (0..n).map(|i| S::spawn(sleep(spread(i)))).collect();
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
