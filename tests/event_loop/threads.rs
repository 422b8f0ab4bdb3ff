//! What other threads may do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;

use evloop::{EventLoop, ThreadsafeHandle, get_running_loop};

use crate::support::deadline;
#[cfg(target_os = "linux")]
use crate::support::{ALIVE, in_a_child};

#[test]
fn the_handle_for_threads_and_wakers_are_send_and_sync() {
    fn anywhere<T: Send + Sync>() {}
    anywhere::<ThreadsafeHandle>();
    anywhere::<Waker>();
}

#[test]
fn callbacks_of_one_thread_keep_their_order() {
    const THREADS: usize = 4;
    const CALLS: usize = 500;
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let seen = Arc::new(Mutex::new(BTreeMap::<usize, Vec<usize>>::new()));
    let left = Arc::new(AtomicUsize::new(THREADS * CALLS));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let handle = event_loop.threadsafe();
            let (seen, left) = (Arc::clone(&seen), Arc::clone(&left));
            thread::spawn(move || {
                for call in 0..CALLS {
                    let (seen, left) = (Arc::clone(&seen), Arc::clone(&left));
                    let callback = move || {
                        seen.lock().unwrap().entry(thread).or_default().push(call);
                        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                            get_running_loop().unwrap().stop();
                        }
                    };
                    handle.call_soon_threadsafe(callback).unwrap();
                }
            })
        })
        .collect();
    event_loop.run_forever();
    for thread in threads {
        thread.join().unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), THREADS);
    for order in seen.values() {
        assert!(order.iter().copied().eq(0..CALLS), "{order:?}");
    }
}

/// The loop has nothing to do and no deadline: only the other thread can wake it. Each answer is
/// asked for by the one before, so the loop goes back to sleep in between.
#[test]
fn a_callback_from_a_thread_wakes_a_sleeping_loop_each_time() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.threadsafe();
    let (ask, asked) = mpsc::channel::<usize>();
    let other = thread::spawn(move || {
        for n in asked {
            let handle = handle.clone();
            handle
                .clone()
                .call_soon_threadsafe(move || ANSWER.with(|answer| answer.borrow_mut()(n)))
                .unwrap();
        }
    });
    thread_local! {
        static ANSWER: RefCell<Box<dyn FnMut(usize)>> = RefCell::new(Box::new(|_| {}));
    }
    let stop = event_loop.handle();
    ask.send(100).unwrap();
    let mut ask = Some(ask);
    ANSWER.set(Box::new(move |n| {
        if n == 0 {
            drop(ask.take());
            stop.stop();
        } else {
            ask.as_ref().unwrap().send(n - 1).unwrap();
        }
    }));
    event_loop.run_forever();
    ANSWER.set(Box::new(|_| {}));
    other.join().unwrap();
}

#[test]
fn a_task_is_woken_by_another_thread() {
    const WAKES: usize = 1000;
    let _deadline = deadline();
    let (send, receive) = mpsc::channel::<Waker>();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let other = thread::spawn(move || {
        for waker in receive {
            counter.fetch_add(1, Ordering::Relaxed);
            waker.wake();
        }
    });
    let mut event_loop = EventLoop::new().unwrap();
    let wait = move |wanted: usize| {
        let mut asked = false;
        let (count, send) = (Arc::clone(&count), send.clone());
        poll_fn(move |cx| {
            // What was written before the wake is seen after it.
            if count.load(Ordering::Relaxed) >= wanted {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut asked, true) {
                send.send(cx.waker().clone()).unwrap();
            }
            Poll::Pending
        })
    };
    // A spawned task and the root future in turn.
    let spawned = wait.clone();
    let task = event_loop.create_task(async move {
        for n in 1..=WAKES {
            spawned(n).await;
        }
    });
    event_loop.run_until_complete(task).unwrap();
    event_loop.run_until_complete(async {
        for n in WAKES + 1..=2 * WAKES {
            wait(n).await;
        }
    });
    drop(wait);
    other.join().unwrap();
}

#[test]
fn a_waker_may_outlive_its_task_and_its_loop() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let keep = || {
        let kept = std::rc::Rc::new(RefCell::new(None));
        let inside = std::rc::Rc::clone(&kept);
        let future = async move {
            poll_fn(|cx| {
                *inside.borrow_mut() = Some(cx.waker().clone());
                Poll::Ready(())
            })
            .await;
        };
        (kept, future)
    };
    let (of_task, future) = keep();
    event_loop
        .run_until_complete(event_loop.handle().create_task(future))
        .unwrap();
    let (of_root, future) = keep();
    event_loop.run_until_complete(future);
    let wakers = [of_task.take().unwrap(), of_root.take().unwrap()];

    let wake_all = |wakers: [Waker; 2]| {
        for waker in &wakers {
            waker.wake_by_ref();
        }
        thread::spawn(move || wakers.map(Waker::wake))
            .join()
            .unwrap();
    };
    // The tasks are over: nobody is woken, whoever has their place by now included.
    wake_all(wakers.clone());
    let mut polls = 0;
    let mut other = pin!(async {});
    let task = event_loop.create_task(async {});
    event_loop.run_until_complete(poll_fn(|cx| {
        polls += 1;
        other.as_mut().poll(cx)
    }));
    assert!(polls >= 1 && task.done());
    event_loop.close();
    wake_all(wakers);
}

/// Wakers and handles that are still around when their loop is gone keep none of its descriptors.
#[test]
#[cfg(target_os = "linux")]
fn a_late_waker_keeps_no_descriptor() {
    let status = in_a_child("threads::a_late_waker_keeps_no_descriptor", || {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        let mut event_loop = EventLoop::new().unwrap();
        let waker = event_loop.run_until_complete(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
        let task = event_loop.create_task(std::future::pending::<()>());
        let handles = (event_loop.handle(), event_loop.threadsafe(), waker, task);
        assert!(descriptors() > before);
        event_loop.close();
        assert_eq!(descriptors(), before);
        let (handle, threadsafe, waker, _task) = handles;
        waker.wake_by_ref();
        assert!(threadsafe.call_soon_threadsafe(|| {}).is_err());
        assert!(handle.is_closed());
        assert_eq!(descriptors(), before);
    });
    assert_eq!(status.code(), Some(ALIVE), "{status}");
}

/// Threads go on calling and waking while the loop ends: each call either is accepted before the
/// end or refused after it, and every closure is freed.
#[test]
fn a_loop_may_end_while_threads_call_it() {
    let _deadline = deadline();
    for _ in 0..20 {
        let mut event_loop = EventLoop::new().unwrap();
        let token = Arc::new(());
        let (ready, go) = mpsc::channel();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (handle, token, ready) =
                    (event_loop.threadsafe(), Arc::clone(&token), ready.clone());
                thread::spawn(move || {
                    ready.send(()).unwrap();
                    loop {
                        let token = Arc::clone(&token);
                        if handle.call_soon_threadsafe(move || drop(token)).is_err() {
                            return handle.is_closed();
                        }
                    }
                })
            })
            .collect();
        for _ in &threads {
            go.recv().unwrap();
        }
        event_loop.run_until_complete(async {});
        event_loop.close();
        for thread in threads {
            assert!(thread.join().unwrap());
        }
        assert_eq!(Arc::strong_count(&token), 1);
    }
}

/// One runs, then the other: what the one sets, the other finds when it runs.
#[test]
fn two_loops_of_one_thread_take_turns() {
    let _deadline = deadline();
    let mut first = EventLoop::new().unwrap();
    let mut second = EventLoop::new().unwrap();
    let ping = first.create_future();
    let pong = second.create_future();
    let (waits, answers) = (ping.clone(), pong.clone());
    let task = first.create_task(async move {
        waits.await.unwrap();
        answers.set_result("pong").unwrap();
    });
    first.stop();
    first.run_forever();
    let answered = second.create_task(pong);
    second.run_until_complete(async { ping.set_result("ping").unwrap() });
    first.run_until_complete(task).unwrap();
    assert_eq!(second.run_until_complete(answered), Ok(Ok("pong")));
}

#[test]
fn two_loops_run_in_two_threads_and_call_each_other() {
    let _deadline = deadline();
    let (send, receive) = mpsc::channel::<ThreadsafeHandle>();
    let other = thread::spawn(move || {
        let mut event_loop = EventLoop::new().unwrap();
        send.send(event_loop.threadsafe()).unwrap();
        event_loop.run_forever();
    });
    let there = receive.recv().unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    let here = event_loop.threadsafe();
    let from_here = there.clone();
    event_loop.call_soon(move || {
        let callback = move || {
            // In the other thread: its loop runs, and stops us.
            let theirs = get_running_loop().unwrap();
            here.call_soon_threadsafe(|| get_running_loop().unwrap().stop())
                .unwrap();
            theirs.stop();
        };
        from_here.call_soon_threadsafe(callback).unwrap();
    });
    event_loop.run_forever();
    other.join().unwrap();
    assert!(there.is_closed());
}
