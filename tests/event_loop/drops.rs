//! What is left when a loop is gone: nothing. And what a destructor may do meanwhile: anything.

use std::cell::RefCell;
use std::future::{IntoFuture, pending};
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evloop::{
    EventLoop, ExceptionContext, LoopHandle, Protocol, Server, Transport, create_connection,
    create_server, get_running_loop, sleep,
};

use futures::FutureExt;

use crate::support::{Trace, deadline, on_drop, stream_pair};

/// A protocol that owns something.
struct Holds<T: 'static> {
    _held: T,
    transport: Option<Transport>,
}

impl<T: 'static> Holds<T> {
    fn new(held: T) -> Self {
        Self {
            _held: held,
            transport: None,
        }
    }
}

impl<T: 'static> Protocol for Holds<T> {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }
}

/// A peer that takes connections and reads nothing.
fn silent_peer() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Fills every place of a loop that can hold something of the user's. Each holds what `make`
/// gives, and a handle of the loop, so that there is a circle through the loop everywhere.
fn fill<T: 'static>(event_loop: &mut EventLoop, mut make: impl FnMut(&'static str) -> T) {
    let handle = event_loop.handle();
    let mut hold = |place| {
        let held = (make(place), handle.clone());
        move || drop(held)
    };

    let factory_holds = hold("factory");
    let (peer, address) = silent_peer();
    let protocol = Holds::new(hold("protocol"));
    let mut accepted = Some(Holds::new(hold("accepted protocol")));
    let taken = handle.create_future();
    let take = taken.clone();
    event_loop.run_until_complete(async {
        let server = create_server(
            move || {
                let _held = &factory_holds;
                take.set_result(()).unwrap();
                accepted.take().unwrap()
            },
            ("127.0.0.1", 0),
        )
        .await
        .unwrap();
        let port = server.sockets()[0].port().unwrap();
        // Accepted by our server, and one whose backlog never drains.
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (transport, _) = create_connection(|| protocol, address).await.unwrap();
        transport.write(vec![0; MORE_THAN_THE_SYSTEM_TAKES]);
        taken.await.unwrap();
        assert!(transport.get_write_buffer_size() > 0);
        // They end with the test's thread; the loop goes first.
        KEPT.with(|kept| kept.borrow_mut().push((peer, client)));
    });

    let waits = hold("task that waits");
    drop(event_loop.create_task(async move {
        let _waits = waits;
        pending::<()>().await;
    }));
    let sleeps = hold("task that sleeps");
    drop(event_loop.create_task(async move {
        let _sleeps = sleeps;
        sleep(Duration::from_secs(3600)).await.unwrap();
    }));
    let waiter = handle.create_future::<()>();
    let (awaits, awaited) = (hold("task that awaits"), waiter.clone());
    let first = event_loop.create_task(async move {
        let _awaits = awaits;
        awaited.await.unwrap();
    });
    let (awaits, setter) = (hold("task that awaits a task"), waiter.clone());
    drop(event_loop.create_task(async move {
        let _awaits = (awaits, setter);
        first.await.unwrap();
    }));
    let connects = Holds::new(hold("task that connects"));
    let connecting = handle.create_connection(|| connects, address);
    drop(event_loop.create_task(async move { drop(connecting.await) }));
    let resolves = Holds::new(hold("task that resolves"));
    let connecting = handle.create_connection(|| resolves, ("localhost", address.port()));
    drop(event_loop.create_task(async move { drop(connecting.await) }));
    let [(mut reader, writer), far] = event_loop.run_until_complete(stream_pair());
    let reads = hold("task that reads");
    drop(event_loop.create_task(async move {
        let _reads = (reads, writer, far);
        reader.read(1).await.unwrap();
    }));
    event_loop.stop();
    event_loop.run_forever();

    let unpolled = hold("task that was never polled");
    drop(event_loop.create_task(async move { drop(unpolled) }));
    event_loop.call_soon(hold("callback"));
    event_loop.call_soon(hold("second callback"));
    event_loop.call_later(Duration::from_secs(3600), hold("timer"));
    event_loop.call_later(Duration::from_secs(3600), hold("second timer"));
    let told = hold("exception handler");
    event_loop.set_exception_handler(move |_, _| {
        let _told = &told;
    });
}

/// To a peer that does not read.
const MORE_THAN_THE_SYSTEM_TAKES: usize = 32 << 20;

thread_local! {
    static KEPT: RefCell<Vec<(TcpListener, TcpStream)>> = const { RefCell::new(Vec::new()) };
}

const PLACES: [&str; 16] = [
    "factory",
    "protocol",
    "accepted protocol",
    "task that waits",
    "task that sleeps",
    "task that awaits",
    "task that awaits a task",
    "task that connects",
    "task that resolves",
    "task that reads",
    "task that was never polled",
    "callback",
    "second callback",
    "timer",
    "second timer",
    "exception handler",
];

/// All places, each once, in whatever order.
#[track_caller]
fn assert_every_place(mut seen: Vec<String>) {
    let mut places = PLACES.map(String::from);
    places.sort();
    seen.sort();
    assert_eq!(seen, places);
}

#[test]
fn a_dropped_loop_frees_everything_it_held() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let token = Rc::new(());
    fill(&mut event_loop, |_| Rc::clone(&token));
    assert_eq!(Rc::strong_count(&token), 1 + PLACES.len());
    drop(event_loop);
    assert_eq!(Rc::strong_count(&token), 1);
}

#[test]
fn a_loop_whose_root_panicked_frees_everything_it_held() {
    let _deadline = deadline();
    let token = Rc::new(());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut event_loop = EventLoop::new().unwrap();
        fill(&mut event_loop, |_| Rc::clone(&token));
        // Ends the loop while the stack unwinds.
        event_loop.run_until_complete(async { panic!("root") });
    }));
    assert!(outcome.is_err());
    assert_eq!(Rc::strong_count(&token), 1);
}

#[test]
fn callbacks_from_threads_that_never_ran_are_freed() {
    let _deadline = deadline();
    let event_loop = EventLoop::new().unwrap();
    let token = Arc::new(());
    let handle = event_loop.threadsafe();
    for _ in 0..3 {
        let (handle, token) = (handle.clone(), Arc::clone(&token));
        let send = move || handle.call_soon_threadsafe(move || drop(token));
        std::thread::spawn(send).join().unwrap().unwrap();
    }
    assert_eq!(Arc::strong_count(&token), 4);
    drop(event_loop);
    assert_eq!(Arc::strong_count(&token), 1);
}

/// Calls back into the loop in every way there is.
struct Meddles {
    place: &'static str,
    handle: LoopHandle,
    transport: Transport,
    server: Server,
    handles: (evloop::Handle, evloop::TimerHandle),
    task: evloop::Task<()>,
    waiter: evloop::Waiter<()>,
    trace: Trace,
    token: Rc<()>,
}

impl Drop for Meddles {
    fn drop(&mut self) {
        let handle = get_running_loop().expect("the loop is known in its destructors");
        let guard = || (Rc::clone(&self.token), self.handle.clone());
        let held = guard();
        drop(handle.call_soon(move || drop(held)));
        let held = guard();
        drop(handle.call_later(Duration::ZERO, move || drop(held)));
        let held = guard();
        let task = handle.create_task(async move { drop(held) });
        assert!(task.done(), "a task of a closed loop is cancelled at once");
        let sent = OnThread(Arc::new(()));
        let weak = Arc::downgrade(&sent.0);
        let outcome = handle.threadsafe().call_soon_threadsafe(move || drop(sent));
        assert!(outcome.is_err(), "the loop has ended");
        assert!(weak.upgrade().is_none());
        let held = guard();
        handle.set_exception_handler(move |_, _| {
            let _held = &held;
        });
        handle.call_exception_handler(&ExceptionContext::new("from a destructor"));
        assert!(handle.time() <= handle.time());
        handle.stop();
        self.transport.write(b"more");
        drop(self.transport.get_protocol());
        self.transport.pause_reading();
        self.transport.resume_reading();
        self.transport.close();
        self.transport.abort();
        self.server.close();
        self.server.abort_clients();
        self.handles.0.cancel();
        self.handles.1.cancel();
        self.task.cancel();
        let _ = self.waiter.set_result(());
        self.trace.note(self.place);
    }
}

/// Something that may be sent.
struct OnThread(Arc<()>);

#[test]
fn a_destructor_may_call_back_into_the_loop_that_ends() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let token = Rc::new(());
    let (peer, address) = silent_peer();
    let handle = event_loop.handle();
    let (transport, _) = event_loop
        .run_until_complete(create_connection(|| Holds::new(()), address))
        .unwrap();
    let server = event_loop
        .run_until_complete(create_server(|| Holds::new(()), ("127.0.0.1", 0)))
        .unwrap();
    fill(&mut event_loop, |place| Meddles {
        place,
        transport: transport.clone(),
        server: server.clone(),
        handles: (
            handle.call_soon(|| {}),
            handle.call_later(Duration::from_secs(3600), || {}),
        ),
        task: handle.create_task(pending()),
        waiter: handle.create_future(),
        trace: trace.clone(),
        token: Rc::clone(&token),
        handle: handle.clone(),
    });
    drop(event_loop);
    assert_every_place(trace.take());
    assert_eq!(Rc::strong_count(&token), 1);
    drop((transport, server, peer));
    assert!(handle.is_closed());
}

/// Nothing takes out any more what comes in this late, so nothing comes in.
#[test]
fn a_destructor_can_open_nothing_on_the_loop_that_ends() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let token = Rc::new(());
    let (_peer, address) = silent_peer();
    let opens = |place: &'static str| {
        let (story, token, handle) = (trace.clone(), Rc::clone(&token), event_loop.handle());
        on_drop(move || {
            let held = (Rc::clone(&token), handle.clone());
            let factory = move || Holds::new(held.clone());
            let server = create_server(factory, ("127.0.0.1", 0)).into_future();
            let outcome = server.now_or_never().expect("an answer at once");
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotConnected);
            let held = Holds::new((Rc::clone(&token), handle.clone()));
            let connection = create_connection(|| held, address).into_future();
            let outcome = connection.now_or_never().expect("an answer at once");
            assert!(outcome.is_err());
            let held = (Rc::clone(&token), handle.clone());
            let outcome = handle.add_signal_handler(evloop::signals::SIGWINCH, move || {
                let _held = &held;
            });
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotConnected);
            story.note(place);
        })
    };
    let (in_task, in_protocol) = (opens("task"), opens("protocol"));
    let in_handler = opens("exception handler");
    event_loop.set_exception_handler(move |_, _| {
        let _kept = &in_handler;
    });
    drop(event_loop.create_task(async move {
        let _kept = in_task;
        pending::<()>().await;
    }));
    event_loop
        .run_until_complete(create_connection(|| Holds::new(in_protocol), address))
        .unwrap();
    drop(event_loop);
    assert_eq!(trace.take(), ["task", "protocol", "exception handler"]);
    assert_eq!(Rc::strong_count(&token), 1);
}

/// By then the thread has forgotten which loop runs; that must do no harm.
#[test]
fn a_loop_may_live_in_a_thread_local() {
    thread_local! {
        static LOOP: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
    }

    let _deadline = deadline();
    let token = Arc::new(());
    let held = Arc::clone(&token);
    let thread = std::thread::spawn(move || {
        LOOP.with_borrow_mut(|event_loop| {
            let event_loop = event_loop.insert(EventLoop::new().unwrap());
            let handle = event_loop.handle();
            let guard = on_drop(move || {
                drop(handle.call_soon(|| {}));
                drop(get_running_loop());
                drop(handle.create_task(async {}));
                drop(held);
            });
            let waiter = event_loop.create_future();
            let setter = waiter.clone();
            let guards = (guard, on_drop(move || setter.set_result(()).unwrap()));
            drop(event_loop.create_task(async move { waiter.await.unwrap() }));
            event_loop.call_later(Duration::from_secs(3600), move || drop(guards));
            event_loop.run_until_complete(async { sleep(Duration::ZERO).await.unwrap() });
        });
    });
    thread.join().unwrap();
    assert_eq!(Arc::strong_count(&token), 1);
}

/// A destructor that wants to run a loop is refused as any step is, and nothing else suffers.
#[test]
fn a_destructor_cannot_run_a_loop_inside_the_one_that_ends() {
    let _deadline = deadline();
    let event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let story = trace.clone();
    let guard = on_drop(move || {
        let outcome = catch_unwind(|| evloop::run(async {}));
        story.note(format!("refused: {}", outcome.is_err()));
    });
    event_loop.call_soon(move || drop(guard));
    drop(event_loop);
    assert_eq!(trace.take(), ["refused: true"]);
    evloop::run(async {}).unwrap();
}

#[test]
fn destructors_that_panic_do_not_keep_the_rest_from_being_freed() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    fill(&mut event_loop, |place| {
        let story = trace.clone();
        on_drop(move || {
            story.note(place);
            panic!("destructor of the {place}");
        })
    });
    drop(event_loop);
    assert_every_place(trace.take());
}

#[test]
fn callbacks_from_threads_whose_destructors_panic_are_all_freed() {
    let _deadline = deadline();
    let event_loop = EventLoop::new().unwrap();
    let token = Arc::new(());
    let handle = event_loop.threadsafe();
    for _ in 0..3 {
        let token = Arc::clone(&token);
        let guard = on_drop(move || {
            let _token = &token;
            panic!("destructor");
        });
        handle.call_soon_threadsafe(move || drop(guard)).unwrap();
    }
    drop(event_loop);
    assert_eq!(Arc::strong_count(&token), 1);
}

/// The last connection of a server takes the server's factory with it.
#[test]
fn a_protocols_and_a_factorys_destructor_may_both_panic() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let panics = |what: &'static str| {
        let story = trace.clone();
        on_drop(move || {
            story.note(what);
            panic!("destructor of the {what}");
        })
    };
    let mut protocol = Some(Holds::new(panics("protocol")));
    let guard = panics("factory");
    let taken = event_loop.create_future();
    let take = taken.clone();
    event_loop.run_until_complete(async {
        let factory = move || {
            let _guard = &guard;
            take.set_result(()).unwrap();
            protocol.take().unwrap()
        };
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let (transport, _) = create_connection(|| Holds::new(()), ("127.0.0.1", port))
            .await
            .unwrap();
        taken.await.unwrap();
        server.close();
        drop(server);
        transport.close();
        while trace.is_shorter_than(2) {
            sleep(Duration::from_millis(1)).await.unwrap();
        }
    });
    assert_eq!(trace.take(), ["protocol", "factory"]);
}

#[test]
fn a_destructor_that_panics_while_the_loop_runs_is_reported() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    let guard = on_drop(|| panic!("destructor"));
    event_loop.call_soon(move || drop(guard));
    event_loop.run_until_complete(async { sleep(Duration::ZERO).await.unwrap() });
    assert_eq!(
        trace.take(),
        ["Exception in callback: panicked: destructor"]
    );
}

#[test]
fn what_was_written_is_sent_when_the_loop_is_dropped() {
    let _deadline = deadline();
    let (listener, address) = silent_peer();
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, _) = event_loop
        .run_until_complete(create_connection(|| Holds::new(()), address))
        .unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let guard = on_drop(move || transport.write(b"from a destructor"));
    event_loop.call_soon(move || drop(guard));
    drop(event_loop);
    let mut received = String::new();
    peer.read_to_string(&mut received).unwrap();
    assert_eq!(received, "from a destructor");
}

/// A callback never runs inside another's call, a destructor's included: the protocol is told
/// about its full buffer when the destructor that filled it has returned.
#[test]
fn a_destructors_write_calls_no_protocol_from_inside() {
    struct Notes(Trace);

    impl Protocol for Notes {
        fn pause_writing(&mut self) {
            self.0.note("pause_writing");
        }
    }

    let _deadline = deadline();
    let (_peer, address) = silent_peer();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let connect = |event_loop: &mut EventLoop| {
        let story = trace.clone();
        let (transport, _) = event_loop
            .run_until_complete(create_connection(|| Notes(story), address))
            .unwrap();
        let story = trace.clone();
        on_drop(move || {
            story.note("destructor begins");
            transport.write(vec![0; MORE_THAN_THE_SYSTEM_TAKES]);
            story.note("destructor ends");
        })
    };
    let story = ["destructor begins", "destructor ends", "pause_writing"];

    // The protocol of a lost connection.
    let guard = connect(&mut event_loop);
    event_loop.run_until_complete(async {
        let (transport, _) = create_connection(|| Holds::new(guard), address)
            .await
            .unwrap();
        transport.abort();
        drop(transport);
        while trace.is_shorter_than(story.len()) {
            sleep(Duration::ZERO).await.unwrap();
        }
    });
    assert_eq!(trace.take(), story);

    // The root future.
    let mut guard = Some(connect(&mut event_loop));
    event_loop.run_until_complete(std::future::poll_fn(move |_| {
        let _kept = &mut guard;
        std::task::Poll::Ready(())
    }));
    assert_eq!(trace.take(), story);

    // A replaced exception handler.
    let guard = connect(&mut event_loop);
    event_loop.set_exception_handler(move |handle, _| {
        let _kept = &guard;
        handle.clear_exception_handler();
    });
    event_loop.call_soon(|| panic!("for the handler"));
    event_loop.run_until_complete(async { sleep(Duration::ZERO).await.unwrap() });
    assert_eq!(trace.take(), story);
}

#[test]
fn what_is_kept_beyond_the_loop_is_harmless() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let (pair, server, waiting, protocol) = event_loop.run_until_complete(async {
        let pair = stream_pair().await;
        pair[0].1.write(b"sent");
        let server = create_server(|| Holds::new(()), ("127.0.0.1", 0))
            .await
            .unwrap();
        let port = server.sockets()[0].port().unwrap();
        let connected = create_connection(|| Holds::new(()), ("127.0.0.1", port));
        let (waiting, protocol) = connected.await.unwrap();
        (pair, server, waiting, protocol)
    });
    let task = event_loop.create_task(pending::<()>());
    let soon = event_loop.call_soon(|| {});
    let timer = event_loop.call_later(Duration::from_secs(3600), || {});
    let waiter = event_loop.create_future();
    event_loop.close();

    assert!(handle.is_closed());
    assert!(task.done() && !task.cancel());
    soon.cancel();
    timer.cancel();
    waiter.set_result(1).unwrap();
    drop(waiter);

    let transport = waiting;
    transport.write(b"ignored");
    assert_eq!(transport.get_write_buffer_size(), 0);
    transport.pause_reading();
    transport.resume_reading();
    transport.set_write_buffer_limits(1, None).unwrap();
    transport.write(b"ignored, too");
    transport.write_eof().unwrap();
    assert!(transport.get_extra_info(evloop::PeerName).is_some());
    assert!(transport.get_protocol().is_none());
    transport.set_protocol(protocol.clone());
    transport.close();
    transport.abort();
    assert!(transport.is_closing());
    assert!(!format!("{transport:?} {server:?} {task:?} {handle:?}").is_empty());
    drop((transport, protocol));

    server.close_clients();
    server.abort_clients();
    assert!(futures::executor::block_on(server.start_serving()).is_err());
    server.close();
    assert!(server.sockets().is_empty() && !server.is_serving());
    drop(server.serve_forever());
    let clone = server.clone();
    drop((server, clone));

    let [(mut reader, writer), far] = pair;
    writer.write(b"ignored");
    writer.writelines([b"ignored"]);
    reader.feed_data(b"x").unwrap();
    reader.feed_eof();
    assert!(futures::executor::block_on(reader.read(1)).is_err());
    assert!(futures::executor::block_on(writer.drain()).is_err());
    writer.close();
    assert!(writer.is_closing());
    drop((reader, writer, far, task, soon, timer, handle));
}

/// A loop that another loop's callback owned and drops.
#[test]
fn a_loop_may_be_dropped_inside_another() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let inner = EventLoop::new().unwrap();
    let trace = Trace::default();
    let guard = {
        let inner = inner.handle();
        let story = trace.clone();
        on_drop(move || {
            let current = get_running_loop().unwrap();
            story.note(format!("inner one ends: {}", current.is_closed()));
            assert!(inner.is_closed());
        })
    };
    inner.call_soon(move || drop(guard));
    event_loop.run_until_complete(async {
        drop(inner);
        let current = get_running_loop().unwrap();
        trace.note(format!("outer one goes on: {}", current.is_running()));
        sleep(Duration::from_millis(1)).await.unwrap();
    });
    assert_eq!(
        trace.take(),
        ["inner one ends: true", "outer one goes on: true"]
    );
}
