//! One test for each bug that was found by reading the code: what went wrong stands above it.
//!
//! Everything runs over loopback sockets, and every wait has a deadline.

use std::cell::{Cell, RefCell};
use std::env;
use std::future::{Future, pending};
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use evloop::{
    EventLoop, Protocol, StreamReader, StreamWriter, TaskError, ThreadsafeHandle, Transport,
    Waiter, create_connection, create_server, open_connection, sleep, start_server, timeout,
};
use futures::executor::block_on;

/// A wait that comes to an end only in a broken build.
const PATIENCE: Duration = Duration::from_secs(20);

/// More than any socket buffer takes.
const LARGE: usize = 16 << 20;

/// Gives way until `condition` holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let reached = timeout(PATIENCE, async {
        while !condition() {
            sleep(Duration::ZERO).await.unwrap();
        }
    });
    assert!(reached.await.is_ok(), "never came: {what}");
}

/// A peer that accepts one connection, and what it accepted.
fn peer() -> (SocketAddr, thread::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, thread::spawn(move || listener.accept().unwrap().0))
}

/// A protocol that does nothing.
struct Idle;

impl Protocol for Idle {}

type Log = Rc<RefCell<Vec<&'static str>>>;

/// A protocol that logs when it has to pause.
struct Pausing(Log);

impl Protocol for Pausing {
    fn pause_writing(&mut self) {
        self.0.borrow_mut().push("pause_writing");
    }
}

/// Writes to a transport when it is dropped, more than the transport can send.
struct WritesWhenDropped(Transport, Log);

impl WritesWhenDropped {
    /// One whose transport logs; the peer has to be kept.
    async fn new() -> (Self, TcpStream, Log) {
        let log = Log::default();
        let (address, accepted) = peer();
        let pausing = Pausing(Rc::clone(&log));
        let (transport, _) = create_connection(|| pausing, address).await.unwrap();
        let peer = accepted.join().unwrap();
        (Self(transport, Rc::clone(&log)), peer, log)
    }
}

impl Drop for WritesWhenDropped {
    fn drop(&mut self) {
        self.1.borrow_mut().push("drop begins");
        self.0.write(vec![0; LARGE]);
        self.1.borrow_mut().push("drop ends");
    }
}

impl Protocol for WritesWhenDropped {}

/// Reads what there is, without waiting.
fn take_what_is_there(peer: &mut TcpStream) {
    peer.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 20];
    while peer.read(&mut buffer).is_ok_and(|n| n > 0) {}
}

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counting_waker() -> (Arc<Wakes>, Waker) {
    let wakes = Arc::new(Wakes::default());
    (Arc::clone(&wakes), Waker::from(wakes))
}

/// Only the handles held the server: once they were dropped, clients connected and nobody
/// accepted them.
#[test]
fn a_server_whose_handles_are_dropped_keeps_serving() {
    evloop::run(async {
        let echo = |mut reader: StreamReader, writer: StreamWriter| async move {
            let line = reader.readline().await?;
            writer.write(&line);
            writer.drain().await
        };
        let server = start_server(echo, ("127.0.0.1", 0)).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        drop(server);
        let (mut reader, writer) = open_connection(address).await.unwrap();
        writer.write(b"hello\n");
        let line = timeout(PATIENCE, reader.readline()).await;
        assert_eq!(line.expect("nobody serves").unwrap(), b"hello\n");
    })
    .unwrap();
}

/// A server holds its listeners and they hold it: the loop's end has to take them apart.
#[test]
fn the_end_of_the_loop_frees_a_server_and_its_factory() {
    for start_serving in [true, false] {
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        evloop::run(async {
            let factory = move || {
                let _ = &inside;
                Idle
            };
            let server = create_server(factory, ("127.0.0.1", 0));
            drop(server.start_serving(start_serving).await.unwrap());
        })
        .unwrap();
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

/// Nobody could have started it any more, or closed it.
#[test]
fn a_server_that_was_never_started_gives_its_address_back_when_it_is_dropped() {
    evloop::run(async {
        let server = create_server(|| Idle, ("127.0.0.1", 0));
        let server = server.start_serving(false).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        // Without `SO_REUSEADDR` a bound address is taken, listening or not.
        let other = || create_server(|| Idle, address).reuse_address(false);
        assert_eq!(other().await.unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(server);
        other().await.unwrap().close();
    })
    .unwrap();
}

/// It said that it was serving; and it and its listener kept each other, and the factory, for ever.
#[test]
fn a_server_is_not_started_after_the_end_of_its_loop() {
    let held = Rc::new(());
    let inside = Rc::clone(&held);
    let factory = move || {
        let _ = &inside;
        Idle
    };
    let mut event_loop = EventLoop::new().unwrap();
    let server = create_server(factory, ("127.0.0.1", 0)).start_serving(false);
    let server = event_loop.run_until_complete(server).unwrap();
    event_loop.close();
    let refused = block_on(server.start_serving()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotConnected);
    assert!(!server.is_serving());
    drop(server);
    assert_eq!(Rc::strong_count(&held), 1);
}

/// A wake emptied the list of those who wait, but they kept their numbers in it, and these were
/// given again: the second of two drains that had to wait anew was forgotten.
#[test]
fn two_drains_that_wait_twice_are_both_woken_twice() {
    evloop::run(async {
        let (address, accepted) = peer();
        let (_reader, writer) = open_connection(address).await.unwrap();
        let mut peer = accepted.join().unwrap();
        let (first_wakes, first_waker) = counting_waker();
        let (second_wakes, second_waker) = counting_waker();
        let mut first = pin!(writer.drain());
        let mut second = pin!(writer.drain());
        let mut poll_first = || first.as_mut().poll(&mut Context::from_waker(&first_waker));
        let mut poll_second = || {
            second
                .as_mut()
                .poll(&mut Context::from_waker(&second_waker))
        };

        writer.write(vec![0; LARGE]);
        assert!(poll_first().is_pending());
        assert!(poll_second().is_pending());
        until("the first room", || {
            take_what_is_there(&mut peer);
            first_wakes.count() == 1 && second_wakes.count() == 1
        })
        .await;

        writer.write(vec![0; LARGE]);
        assert!(poll_second().is_pending());
        assert!(poll_first().is_pending());
        until("the second room", || {
            take_what_is_there(&mut peer);
            first_wakes.count() == 2 && second_wakes.count() == 2
        })
        .await;
    })
    .unwrap();
}

/// A pause that was not told yet and the resume after it cancelled out, and a drain that had begun
/// to wait in between waited for ever.
#[test]
fn a_drain_is_woken_by_a_resume_that_comes_before_its_pause_was_told() {
    evloop::run(async {
        let (address, accepted) = peer();
        let (_reader, writer) = open_connection(address).await.unwrap();
        let _peer = accepted.join().unwrap();
        let (wakes, waker) = counting_waker();
        let mut drain = pin!(writer.drain());

        writer.write(vec![0; LARGE]);
        let polled = drain.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let transport = writer.transport();
        transport
            .set_write_buffer_limits(4 * LARGE, 2 * LARGE)
            .unwrap();
        until("the wake", || wakes.count() > 0).await;
        let polled = drain.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Ready(Ok(()))));
        transport.abort();
    })
    .unwrap();
}

/// After the end of the peer's bytes nothing was read, so a reset that followed was seen by the
/// next write only: a connection that had nothing to write stayed for ever.
#[test]
fn a_reset_after_the_end_of_the_stream_is_noticed() {
    evloop::run(async {
        let (address, accepted) = peer();
        let (mut reader, writer) = open_connection(address).await.unwrap();
        let peer = accepted.join().unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reader.read(1).await.unwrap(), b"");
        assert!(!writer.is_closing());
        // A peer that closes with bytes unread resets the connection.
        writer.write(b"unread");
        let closed = thread::spawn(move || peer.peek(&mut [0]).map(|_| drop(peer)));
        let lost = timeout(PATIENCE, writer.wait_closed()).await;
        lost.expect("the reset was not noticed").unwrap_err();
        closed.join().unwrap().unwrap();
    })
    .unwrap();
}

/// The same with both in one event: the read says "end", not "reset".
#[test]
fn an_end_and_a_reset_in_one_event_are_a_reset() {
    evloop::run(async {
        let (address, accepted) = peer();
        let (_reader, writer) = open_connection(address).await.unwrap();
        let peer = accepted.join().unwrap();
        writer.write(b"unread");
        // Sends it: the step's end is too late, since the loop's thread waits in here.
        assert_eq!(writer.transport().get_write_buffer_size(), 0);
        peer.peek(&mut [0]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        drop(peer);
        let lost = timeout(PATIENCE, writer.wait_closed()).await;
        lost.expect("the reset was not noticed").unwrap_err();
    })
    .unwrap();
}

/// The destructor of a protocol was not a step: what it wrote was sent inside the destructor, and
/// `pause_writing` of the other protocol was called from inside it.
#[test]
fn no_protocol_is_called_from_inside_the_destructor_of_another() {
    evloop::run(async {
        let (writes, _peer, log) = WritesWhenDropped::new().await;
        let (address, accepted) = peer();
        let (transport, _) = create_connection(|| writes, address).await.unwrap();
        let _other_peer = accepted.join().unwrap();
        transport.close();
        until("the pause", || log.borrow().len() == 3).await;
        let expected = ["drop begins", "drop ends", "pause_writing"];
        assert_eq!(*log.borrow(), expected);
    })
    .unwrap();
}

/// The same for a root future that is dropped because the loop was stopped.
#[test]
fn no_protocol_is_called_from_inside_the_destructor_of_a_stopped_root_future() {
    let mut event_loop = EventLoop::new().unwrap();
    let (writes, _peer, log) = event_loop.run_until_complete(WritesWhenDropped::new());
    let handle = event_loop.handle();
    let outcome = event_loop.try_run_until_complete(async move {
        let _writes = writes;
        handle.stop();
        pending::<()>().await;
    });
    assert!(outcome.is_err());
    let expected = ["drop begins", "drop ends", "pause_writing"];
    assert_eq!(*log.borrow(), expected);
}

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("expected by this test");
    }
}

/// The wakers of those who wait for a server to be over were woken outside the door: a panic in
/// one went through `run_until_complete`.
#[test]
fn a_waker_that_panics_when_a_server_is_over_is_reported() {
    let mut event_loop = EventLoop::new().unwrap();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let reported = Rc::clone(&reports);
    event_loop.set_exception_handler(move |_, context| {
        reported.borrow_mut().push(context.to_string());
    });
    event_loop.run_until_complete(async {
        let accepted = Rc::new(Cell::new(false));
        let seen = Rc::clone(&accepted);
        let factory = move || {
            seen.set(true);
            Idle
        };
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(server.sockets()[0].as_inet().unwrap()).unwrap();
        until("the connection", || accepted.get()).await;
        server.close();
        let waker = Waker::from(Arc::new(Bomb));
        let mut over = pin!(server.wait_closed());
        assert!(
            over.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(client);
        until("the report", || !reports.borrow().is_empty()).await;
    });
    assert_eq!(
        *reports.borrow(),
        ["Exception in a waker: panicked: expected by this test"]
    );
}

thread_local! {
    static KEPT: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
}

/// Set in the process that may die.
const CHILD: &str = "EVLOOP_REGRESSIONS_CHILD";

/// A loop in a thread-local of the user's outlived our own thread-locals, and its end looked at
/// them: that is a panic in a destructor of the thread, which ends the process.
#[test]
fn a_loop_in_a_thread_local_ends_with_its_thread() {
    let name = "a_loop_in_a_thread_local_ends_with_its_thread";
    if env::var_os(CHILD).is_none() {
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let user = thread::spawn(|| {
        KEPT.with_borrow_mut(|kept| {
            let event_loop = kept.insert(EventLoop::new().unwrap());
            event_loop.run_until_complete(async { sleep(Duration::ZERO).await.unwrap() });
            let waiter = event_loop.create_future::<()>();
            let setter = waiter.clone();
            // One task's end wakes another one.
            drop(event_loop.create_task(async move {
                let _sets = SetWhenDropped(setter);
                pending::<()>().await;
            }));
            drop(event_loop.create_task(waiter));
            event_loop.run_until_complete(async { sleep(Duration::ZERO).await.unwrap() });
        });
    });
    user.join().unwrap();
}

struct SetWhenDropped(Waiter<()>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.set_result(());
    }
}

/// A transport that was kept after its loop said that it was open, and stored what was written.
#[test]
fn a_transport_is_a_husk_after_the_end_of_its_loop() {
    let mut event_loop = EventLoop::new().unwrap();
    let (address, accepted) = peer();
    let (transport, _) = event_loop
        .run_until_complete(create_connection(|| Idle, address))
        .unwrap();
    let mut peer = accepted.join().unwrap();
    transport.write(b"last words");
    event_loop.close();
    assert!(transport.is_closing());
    transport.write(b"too late");
    assert_eq!(transport.get_write_buffer_size(), 0);
    let mut received = Vec::new();
    peer.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"last words");
}

struct CallsWhenDropped(ThreadsafeHandle, Rc<Cell<Option<bool>>>);

impl Drop for CallsWhenDropped {
    fn drop(&mut self) {
        let accepted = self.0.call_soon_threadsafe(|| ()).is_ok();
        self.1.set(Some(accepted));
    }
}

/// A destructor that the loop's end ran was told that its callback would run.
#[test]
fn call_soon_threadsafe_is_refused_while_the_loop_ends() {
    let event_loop = EventLoop::new().unwrap();
    let accepted = Rc::new(Cell::new(None));
    let calls = CallsWhenDropped(event_loop.threadsafe(), Rc::clone(&accepted));
    event_loop.call_later(PATIENCE, move || drop(calls));
    event_loop.close();
    assert_eq!(accepted.get(), Some(false));
}

/// Only tasks were given a budget of awaits: in a callback, a future that was complete said that
/// it was not.
#[test]
fn a_complete_future_is_ready_in_a_callback() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let mut complete = event_loop.create_future();
    complete.set_result(42).unwrap();
    let polled = Rc::new(Cell::new(None));
    let seen = Rc::clone(&polled);
    event_loop.call_soon(move || {
        let (_, waker) = counting_waker();
        let poll = Pin::new(&mut complete).poll(&mut Context::from_waker(&waker));
        seen.set(Some(poll.is_ready()));
        handle.stop();
    });
    event_loop.run_forever();
    assert_eq!(polled.get(), Some(true));
}

/// Panics the first time it is cloned.
#[derive(Debug)]
struct ClonedLate(Cell<bool>);

impl Clone for ClonedLate {
    fn clone(&self) -> Self {
        assert!(self.0.replace(true), "expected by this test");
        Self(Cell::new(true))
    }
}

/// The value was taken out to be cloned, and a panic took it along: the waiter looked as if it had
/// never been set, and who waited next waited for ever.
#[test]
fn a_value_whose_clone_panics_stays_in_its_waiter() {
    let mut event_loop = EventLoop::new().unwrap();
    let waiter = event_loop.create_future();
    waiter.set_result(ClonedLate(Cell::new(false))).unwrap();
    let first = event_loop.create_task(waiter.clone());
    let outcome = event_loop.run_until_complete(first);
    assert!(matches!(outcome, Err(TaskError::Panicked(_))));
    assert!(waiter.done());
    let second = event_loop.run_until_complete(timeout(PATIENCE, waiter));
    second.expect("the value is gone").unwrap();
}

/// A protocol that may panic in `pause_writing`, or in `resume_writing`.
struct PanicsAt(Flow);

#[derive(PartialEq)]
enum Flow {
    Pause,
    Resume,
}

impl Protocol for PanicsAt {
    fn pause_writing(&mut self) {
        assert!(self.0 != Flow::Pause, "expected by this test");
    }

    fn resume_writing(&mut self) {
        assert!(self.0 != Flow::Resume, "expected by this test");
    }
}

/// One text for both did not say which of the two had failed.
#[test]
fn the_report_of_a_failed_notice_names_the_method() {
    for (at, expected) in [
        (Flow::Pause, "protocol.pause_writing() failed"),
        (Flow::Resume, "protocol.resume_writing() failed"),
    ] {
        let mut event_loop = EventLoop::new().unwrap();
        let reports = Rc::new(RefCell::new(Vec::new()));
        let reported = Rc::clone(&reports);
        event_loop.set_exception_handler(move |_, context| {
            reported.borrow_mut().push(context.message().to_owned());
        });
        event_loop.run_until_complete(async {
            let (address, accepted) = peer();
            let (transport, _) = create_connection(|| PanicsAt(at), address).await.unwrap();
            let mut peer = accepted.join().unwrap();
            transport.write(vec![0; LARGE]);
            until("the report", || {
                take_what_is_there(&mut peer);
                !reports.borrow().is_empty()
            })
            .await;
            assert!(!transport.is_closing());
        });
        assert_eq!(*reports.borrow(), [expected]);
    }
}
