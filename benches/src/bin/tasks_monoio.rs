//! What tasks and timers cost in monoio, with io_uring (`--variant uring`) or with epoll.
//!
//! monoio brings neither a yield (the one here wakes itself, as monoio's own tests do) nor a
//! channel between threads: messages come through `futures_channel::mpsc`, unbounded.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::mpsc as std_mpsc;
use std::task::Poll;

use evloop_benches::task_program::{
    BATCH, End, FAR, OTHER_TIMERS, Request, ends_burst, measure, other_deadline, poll_each_once,
    poll_once, send_bursts, spread,
};
use futures_channel::mpsc;
use monoio::time::sleep;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder, spawn};

fn main() {
    let request = Request::from_args();
    let main = |request| async { spawn(measured(request)).await };
    match request.variant.as_str() {
        "epoll" => RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()
            .expect("a runtime")
            .block_on(main(request)),
        "uring" if monoio::utils::detect_uring() => RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .build()
            .expect("a runtime")
            .block_on(main(request)),
        "uring" => request.refuse_variant("io_uring is not permitted here"),
        _ => request.refuse_variant("monoio has epoll and uring"),
    }
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
        assert_eq!(spawn(async move { i }).await, i);
    }
}

async fn spawn_batch(n: usize) {
    let mut tasks = Vec::with_capacity(BATCH);
    for _ in 0..n / BATCH {
        tasks.extend((0..BATCH).map(|i| spawn(async move { i })));
        for (i, task) in tasks.drain(..).enumerate() {
            assert_eq!(task.await, i);
        }
    }
}

async fn yield_between(n: usize) {
    let both = [(); 2].map(|()| {
        spawn(async move {
            for _ in 0..n / 2 {
                yield_now().await;
            }
        })
    });
    for task in both {
        task.await;
    }
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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
            drop(spawn(async move { link(chain) }));
        }
    }
}

async fn timer(n: usize) {
    for _ in 0..n {
        poll_once(sleep(FAR)).await;
    }
}

async fn sleeps(n: usize) {
    let tasks: Vec<_> = (0..n).map(|i| spawn(sleep(spread(i)))).collect();
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
