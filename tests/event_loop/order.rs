//! In which order things run.

use std::cell::RefCell;
use std::io::Write;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use evloop::{EventLoop, Protocol, StreamFeeder, StreamReader, Transport, create_connection};

use crate::support::{Trace, deadline, on_drop};

#[test]
fn callbacks_run_in_the_order_in_which_they_were_scheduled() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    for name in ["first", "second", "third"] {
        event_loop.call_soon(trace.noting(name));
    }
    assert!(trace.take().is_empty(), "nothing runs before the loop does");
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(trace.take(), ["first", "second", "third"]);
}

#[test]
fn what_a_callback_schedules_runs_in_the_next_turn() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let handle = event_loop.handle();
    let story = trace.clone();
    event_loop.call_soon(move || {
        story.note("outer");
        let inner = handle.clone();
        let deeper = story.clone();
        handle.call_soon(move || {
            deeper.note("nested");
            inner.call_soon(deeper.noting("nested twice"));
        });
    });
    event_loop.call_soon(trace.noting("neighbour"));

    for turn in [
        &["outer", "neighbour"][..],
        &["nested"],
        &["nested twice"],
        &[],
    ] {
        // One turn each.
        event_loop.stop();
        event_loop.run_forever();
        assert_eq!(trace.take(), turn);
    }
}

#[test]
fn tasks_and_callbacks_share_one_queue() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    event_loop.call_soon(trace.noting("callback 1"));
    let story = trace.clone();
    drop(event_loop.create_task(async move {
        story.note("task, first step");
        evloop::sleep(Duration::ZERO).await.unwrap();
        story.note("task, second step");
    }));
    event_loop.call_soon(trace.noting("callback 2"));
    let handle = event_loop.handle();
    let story = trace.clone();
    event_loop.call_soon(move || {
        handle.call_soon(story.noting("callback 3"));
    });
    event_loop.run_until_complete(async { evloop::sleep(Duration::ZERO).await.unwrap() });
    assert_eq!(
        trace.take(),
        [
            "callback 1",
            "task, first step",
            "callback 2",
            "task, second step",
            "callback 3",
        ]
    );
}

#[test]
fn timers_run_by_deadline_and_ties_in_the_order_of_scheduling() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let base = event_loop.time();
    let at = |millis| base + Duration::from_millis(millis);
    event_loop.call_at(at(30), trace.noting("30"));
    event_loop.call_at(at(10), trace.noting("10, scheduled first"));
    event_loop.call_at(at(20), trace.noting("20"));
    event_loop.call_at(at(10), trace.noting("10, scheduled second"));
    event_loop.call_at(at(10), trace.noting("10, scheduled third"));
    let handle = event_loop.handle();
    event_loop.call_at(at(30), move || handle.stop());
    event_loop.run_forever();
    assert_eq!(
        trace.take(),
        [
            "10, scheduled first",
            "10, scheduled second",
            "10, scheduled third",
            "20",
            "30",
        ]
    );
}

#[test]
fn a_shorter_delay_runs_before_a_longer_one() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let handle = event_loop.handle();
    let story = trace.clone();
    event_loop.call_later(Duration::from_millis(40), move || {
        story.note("long");
        handle.stop();
    });
    event_loop.call_later(Duration::from_millis(5), trace.noting("short"));
    event_loop.call_later(Duration::MAX, trace.noting("never"));
    event_loop.run_forever();
    assert_eq!(trace.take(), ["short", "long"]);
}

/// The whole of a turn: what was left from the turn before, the timers that are due, what other
/// threads sent; and what any of them schedules is for the next turn.
#[test]
fn a_turn_runs_leftovers_then_due_timers_then_what_other_threads_sent() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();

    let threadsafe = event_loop.threadsafe();
    let (send, receive) = std::sync::mpsc::channel();
    let order = Arc::new(std::sync::Mutex::new(send));
    let sent = Arc::clone(&order);
    thread::spawn(move || {
        threadsafe.call_soon_threadsafe(move || sent.lock().unwrap().send(()).unwrap())
    })
    .join()
    .unwrap()
    .unwrap();
    let receive = Rc::new(receive);

    let handle = event_loop.handle();
    let story = trace.clone();
    let arrived = Rc::clone(&receive);
    event_loop.call_at(event_loop.time(), move || {
        story.note("timer");
        assert!(arrived.try_recv().is_err(), "the thread's comes later");
        let story = story.clone();
        let arrived = Rc::clone(&arrived);
        handle.call_soon(move || {
            arrived.try_recv().expect("the thread's came before");
            story.note("next turn");
        });
    });
    event_loop.call_soon(trace.noting("leftover"));

    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(trace.take(), ["leftover", "timer"]);
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(trace.take(), ["next turn"]);
}

#[test]
fn a_zero_delay_and_a_time_that_is_past_are_never_synchronous() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let handle = event_loop.handle();
    let story = trace.clone();
    event_loop.call_soon(move || {
        let past = handle.time() - Duration::from_millis(1);
        let timer = handle.call_at(past, story.noting("past"));
        assert_eq!(timer.when(), past);
        handle.call_later(Duration::ZERO, story.noting("zero"));
        handle.call_soon(story.noting("soon"));
        story.note("scheduled");
    });
    event_loop.call_soon(trace.noting("neighbour"));
    for turn in [&["scheduled", "neighbour"][..], &["soon", "past", "zero"]] {
        event_loop.stop();
        event_loop.run_forever();
        assert_eq!(trace.take(), turn);
    }
}

#[test]
fn a_cancelled_callback_is_skipped_and_its_closure_freed_at_once() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let guard = on_drop(trace.noting("freed"));
    let story = trace.clone();
    let cancelled = event_loop.call_soon(move || {
        let _guard = guard;
        story.note("cancelled, but it ran");
    });
    let kept = event_loop.call_soon(trace.noting("kept"));
    let guard = on_drop(trace.noting("timer freed"));
    let timer = event_loop.call_later(Duration::ZERO, move || drop(guard));
    assert!(!cancelled.cancelled());
    cancelled.cancel();
    timer.cancel();
    assert_eq!(trace.take(), ["freed", "timer freed"]);
    assert!(cancelled.cancelled() && timer.cancelled() && !kept.cancelled());

    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(trace.take(), ["kept"]);
    kept.cancel();
    assert!(kept.cancelled(), "it was called, if too late");
    cancelled.cancel();
    timer.cancel();
    assert!(cancelled.cancelled() && timer.cancelled());
}

#[test]
fn a_callback_may_cancel_a_later_one_of_the_same_turn() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let handles = Rc::new(RefCell::new(Vec::new()));
    let timers = Rc::new(RefCell::new(Vec::new()));

    let (story, others) = (trace.clone(), Rc::clone(&handles));
    event_loop.call_soon(move || {
        story.note("canceller");
        others.take().iter().for_each(evloop::Handle::cancel);
    });
    let victim = event_loop.call_soon(trace.noting("cancelled, but it ran"));
    handles.borrow_mut().push(victim);
    event_loop.call_soon(trace.noting("kept"));

    let due = event_loop.time();
    let (story, others) = (trace.clone(), Rc::clone(&timers));
    event_loop.call_at(due, move || {
        story.note("timer canceller");
        others.take().iter().for_each(evloop::TimerHandle::cancel);
    });
    let victim = event_loop.call_at(due, trace.noting("cancelled timer, but it ran"));
    timers.borrow_mut().push(victim);
    event_loop.call_at(due, trace.noting("kept timer"));

    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(
        trace.take(),
        ["canceller", "kept", "timer canceller", "kept timer"]
    );
}

#[test]
fn a_callback_that_cancels_itself_runs_to_its_end() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let own = Rc::new(RefCell::new(None::<evloop::Handle>));
    let (story, me) = (trace.clone(), Rc::clone(&own));
    let handle = event_loop.call_soon(move || {
        me.borrow().as_ref().unwrap().cancel();
        story.note("ran");
    });
    *own.borrow_mut() = Some(handle);
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(trace.take(), ["ran"]);
    assert!(own.take().unwrap().cancelled());
}

#[test]
fn a_stop_before_the_run_makes_it_one_turn_that_does_not_wait() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let handle = event_loop.handle();
    let story = trace.clone();
    event_loop.call_soon(move || {
        story.note("queued before");
        handle.call_soon(story.noting("queued by it"));
    });
    event_loop.call_later(Duration::from_secs(3600), trace.noting("in an hour"));
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(trace.take(), ["queued before"]);
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(trace.take(), ["queued by it"]);
}

#[test]
fn a_stop_in_a_callback_ends_the_run_after_its_turn() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let handle = event_loop.handle();
    let story = trace.clone();
    event_loop.call_soon(move || {
        story.note("stops");
        handle.stop();
        handle.stop();
        handle.call_soon(story.noting("scheduled after the stop"));
    });
    event_loop.call_soon(trace.noting("of the same turn"));
    event_loop.run_forever();
    assert_eq!(trace.take(), ["stops", "of the same turn"]);

    let handle = event_loop.handle();
    event_loop.call_soon(move || handle.stop());
    event_loop.run_forever();
    assert_eq!(trace.take(), ["scheduled after the stop"]);
}

/// Notes the bytes, and feeds them to a reader.
struct Feeds {
    trace: Trace,
    feeder: StreamFeeder,
}

impl Protocol for Feeds {
    fn connection_made(&mut self, transport: Transport) {
        self.feeder.set_transport(transport).unwrap();
    }

    fn data_received(&mut self, data: &[u8]) {
        self.trace.note("bytes");
        self.feeder.feed_data(data).unwrap();
    }

    fn connection_lost(&mut self, _: Option<Arc<io::Error>>) {
        self.feeder.feed_eof();
    }
}

/// A callback that runs once in every turn tells the turns apart.
#[test]
fn a_woken_reader_runs_in_the_turn_of_its_bytes() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();

    let mut reader = StreamReader::new();
    let (story, feeder) = (trace.clone(), reader.feeder());
    let factory = move || Feeds {
        trace: story,
        feeder,
    };
    event_loop
        .run_until_complete(create_connection(factory, address))
        .unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    drop(trace.take());

    fn tick(handle: &evloop::LoopHandle, trace: Trace) {
        let next = handle.clone();
        handle.call_soon(move || {
            trace.note("turn");
            tick(&next, trace);
        });
    }
    tick(&event_loop, trace.clone());
    event_loop.call_soon(move || peer.write_all(b"line\n").unwrap());
    let story = trace.clone();
    event_loop.run_until_complete(async move {
        let line = reader.readline().await.unwrap();
        story.note(String::from_utf8(line).unwrap());
    });
    let story: Vec<_> = trace.take();
    let story: Vec<_> = story.iter().skip_while(|note| *note == "turn").collect();
    assert_eq!(story, ["bytes", "turn", "line\n"]);
}
