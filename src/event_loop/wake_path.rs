//! Other threads wake the loop, in every order.
//!
//! Owns: the check of the wake path: the real loop, its wakers and its queue for other threads, on
//! a driver that sleeps for ever unless it is woken. Why: an order of two instructions that loses a
//! wake comes once in a month, where nobody looks. Invariants: a lost wake is a loop that
//! would sleep for ever, and that fails; with a fault built in, each check that is
//! said to find it does. asyncio's counterpart: none.
//!
//! Run by `RUSTFLAGS='--cfg loom' cargo test --release --lib wake_path`; without loom the same
//! stories are told some thousand times by real threads.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Counter, Ordering};
use std::sync::mpsc::channel;
use std::task::{Poll, Waker};
use std::time::Duration;

#[cfg(loom)]
use loom::{sync::Condvar, sync::atomic::AtomicUsize, thread};
#[cfg(not(loom))]
use std::{sync::Condvar, sync::atomic::AtomicUsize, thread};

use crate::event_loop::owner::EventLoop;
use crate::event_loop::ready::TaskId;
use crate::event_loop::remote::{Message, Remote};
use crate::event_loop::state::get_running_loop;
use crate::event_loop::sync::Mutex;
use crate::sys::{Scripted, Wakeup};

/// Where the loop sleeps, until one of those who may wake it does.
struct Bed {
    night: Mutex<Night>,
    bell: Condvar,
    wakes: Counter,
    polls: Counter,
}

struct Night {
    woken: bool,
    /// How many threads may wake it still.
    others: usize,
}

impl Bed {
    fn new(others: usize) -> Arc<Self> {
        let woken = false;
        Arc::new(Self {
            night: Mutex::new(Night { woken, others }),
            bell: Condvar::new(),
            wakes: Counter::new(0),
            polls: Counter::new(0),
        })
    }

    /// As a poller does it: a wake ends this sleep, or the next one. It fails where the sleep would
    /// last for ever.
    fn sleep(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let mut night = self.night.lock().unwrap();
        while !night.woken && timeout != Some(Duration::ZERO) {
            if night.others == 0 {
                return Err(io::Error::other("a wake was lost"));
            }
            night = self.bell.wait(night).unwrap();
        }
        night.woken = false;
        Ok(())
    }

    /// Runs a thread that may wake the loop.
    fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let bed = Arc::clone(self);
        thread::spawn(move || {
            let outcome = f();
            bed.night.lock().unwrap().others -= 1;
            bed.bell.notify_one();
            outcome
        })
    }

    fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }
}

impl Wakeup for Bed {
    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.night.lock().unwrap().woken = true;
        self.bell.notify_one();
    }
}

/// The real loop, on that bed.
fn event_loop(bed: &Arc<Bed>) -> EventLoop {
    let here = Arc::clone(bed);
    let poll = move |_: &mut Vec<_>, timeout| here.sleep(timeout);
    EventLoop::with_driver(Box::new(Scripted::new(poll, Arc::clone(bed) as _)))
}

/// Tells a story in every order, or often.
#[cfg(loom)]
fn in_every_order(preemptions: Option<usize>, story: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(story);
}

#[cfg(not(loom))]
fn in_every_order(_: Option<usize>, story: impl Fn() + Send + Sync + 'static) {
    (0..TIMES).for_each(|_| story());
}

/// Miri is slow, and looks at something else.
#[cfg(not(loom))]
const TIMES: usize = if cfg!(miri) { 3 } else { 2000 };

/// Each of `threads` says what it has to say, then wakes the task, `times` over. The task sees
/// everything: nothing that is said without order is lost, since the wake behind it is not.
fn several_wake_one_task(threads: usize, times: usize) {
    let bed = Bed::new(threads);
    let mut event_loop = event_loop(&bed);
    let said: Vec<_> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
    let said = Arc::new(said);
    let mut speakers = Vec::new();
    event_loop.run_until_complete(poll_fn(|cx| {
        if speakers.is_empty() {
            speakers.extend((0..threads).map(|i| speaker(&bed, i, times, &said, cx.waker())));
        }
        let heard = said
            .iter()
            .all(|said| said.load(Ordering::Relaxed) == times);
        if heard {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    for speaker in speakers {
        speaker.join().unwrap();
    }
    // The first poll is no sleep: the task is ready.
    assert!(bed.wakes() < bed.polls(), "{} wakes", bed.wakes());
}

fn speaker(
    bed: &Arc<Bed>,
    i: usize,
    times: usize,
    said: &Arc<Vec<AtomicUsize>>,
    waker: &Waker,
) -> thread::JoinHandle<()> {
    let (said, waker) = (Arc::clone(said), waker.clone());
    bed.spawn(move || {
        for time in 1..=times {
            said[i].store(time, Ordering::Relaxed);
            waker.wake_by_ref();
        }
    })
}

/// Callbacks from two threads all run, those of one thread in order.
fn several_call_soon() {
    let bed = Bed::new(2);
    let mut event_loop = event_loop(&bed);
    let (say, heard) = channel();
    let callers = [&[1, 2][..], &[3]].map(|calls| {
        let (handle, say) = (event_loop.threadsafe(), say.clone());
        bed.spawn(move || {
            for &call in calls {
                let say = say.clone();
                let callback = move || {
                    say.send(call).unwrap();
                    get_running_loop().unwrap().stop();
                };
                handle.call_soon_threadsafe(callback).unwrap();
            }
        })
    });
    let mut calls = Vec::new();
    while calls.len() < 3 {
        event_loop.run_forever();
        calls.extend(heard.try_iter());
    }
    for caller in callers {
        caller.join().unwrap();
    }
    calls.retain(|call| *call < 3);
    assert_eq!(calls, [1, 2]);
    assert!(bed.wakes() <= bed.polls(), "{} wakes", bed.wakes());
}

/// The queue alone, where each sleep that is announced can be counted.
fn a_sleep_is_ended_once() {
    let bed = Bed::new(2);
    let remote = Arc::new(Remote::new(1, Arc::clone(&bed) as Arc<dyn Wakeup>));
    let senders = [1, 2].map(|id| {
        let remote = Arc::clone(&remote);
        bed.spawn(move || assert!(remote.push(Message::Wake(TaskId(id))).is_ok()))
    });
    let (mut announced, mut received) = (0, 0);
    let mut messages = Vec::new();
    while received < senders.len() {
        announced += 1;
        if remote.prepare_sleep() {
            bed.sleep(None).unwrap();
        }
        remote.end_sleep();
        if remote.has_messages() {
            remote.take_into(&mut messages);
            received += messages.drain(..).count();
        }
        assert!(bed.wakes() <= announced, "{} wakes", bed.wakes());
    }
    for sender in senders {
        sender.join().unwrap();
    }
    assert!(bed.wakes() <= announced, "{} wakes", bed.wakes());
}

/// Whatever comes while the loop closes is taken or given back, and the driver's waker is let go.
fn a_closed_loop_keeps_nothing() {
    let bed = Bed::new(0);
    let remote = Arc::new(Remote::new(1, Arc::clone(&bed) as Arc<dyn Wakeup>));
    let sender = {
        let remote = Arc::clone(&remote);
        thread::spawn(move || remote.push(Message::Wake(TaskId(1))).is_ok())
    };
    let left = remote.close().len();
    let taken = sender.join().unwrap();
    assert_eq!(left, usize::from(taken));
    assert!(remote.is_closed());
    assert_eq!(Arc::strong_count(&bed), 1);
}

#[test]
fn no_wake_of_a_thread_is_lost() {
    in_every_order(Some(4), || several_wake_one_task(1, 2));
}

#[test]
fn no_wake_of_two_threads_is_lost() {
    in_every_order(Some(3), || several_wake_one_task(2, 1));
}

#[test]
fn no_call_is_lost_or_overtakes_another_of_its_thread() {
    in_every_order(Some(3), several_call_soon);
}

#[test]
fn a_sleep_is_ended_by_one_wake_at_most() {
    in_every_order(Some(4), a_sleep_is_ended_once);
}

#[test]
fn a_loop_that_closes_meanwhile_keeps_nothing() {
    in_every_order(None, a_closed_loop_keeps_nothing);
}

/// That the checks above can fail.
#[cfg(loom)]
mod faults {
    use super::{a_sleep_is_ended_once, in_every_order, several_wake_one_task};
    use crate::event_loop::sync::checked::{Fault, build_in};

    #[test]
    #[should_panic = "a wake was lost"]
    fn a_flag_cleared_by_a_store_loses_a_wake() {
        build_in(Fault::TakenBackByStore("waker.rs"));
        in_every_order(Some(3), || several_wake_one_task(2, 1));
    }

    #[test]
    #[should_panic = "a wake was lost"]
    fn a_flag_that_publishes_nothing_loses_a_wake() {
        build_in(Fault::Unordered("waker.rs"));
        in_every_order(Some(3), || several_wake_one_task(2, 1));
    }

    #[test]
    #[should_panic = "a wake was lost"]
    fn a_sleep_that_is_ended_by_a_store_may_last_for_ever() {
        build_in(Fault::TakenBackByStore("remote.rs"));
        in_every_order(Some(3), a_sleep_is_ended_once);
    }

    #[test]
    #[should_panic = "a wake was lost"]
    fn a_sleep_that_acquires_nothing_may_last_for_ever() {
        build_in(Fault::Unordered("remote.rs"));
        in_every_order(Some(3), a_sleep_is_ended_once);
    }
}
