//! A future of ours where its loop does not run: under another executor, or in another loop. It
//! answers with an error; it never panics, never hangs, and its loop is none the worse for it.

use std::error::Error;
use std::future::{Future, IntoFuture, pending};
use std::io;
use std::time::Duration;

use evloop::{
    EventLoop, NoRunningLoop, Protocol, ReadError, TaskError, TimeoutError, create_connection,
    create_server, open_connection, sleep, sleep_until, start_server, timeout,
};
use futures::executor::block_on;

use crate::support::{deadline, stream_pair};

struct Nothing;

impl Protocol for Nothing {}

/// Whether an `io::Error` says that no loop runs, or not the right one.
#[track_caller]
fn assert_elsewhere<T>(outcome: io::Result<T>) {
    let error = outcome.err().expect("an error was expected");
    let inner = error.get_ref().expect("an error of ours was expected");
    assert!(
        inner.is::<NoRunningLoop>() || inner.downcast_ref() == Some(&TaskError::NoRunningLoop),
        "another error: {error}"
    );
}

#[track_caller]
fn assert_read_elsewhere<T>(outcome: Result<T, ReadError>) {
    match outcome.err().expect("an error was expected") {
        ReadError::Io(error) => assert_elsewhere::<()>(Err(error)),
        other => panic!("another error: {other}"),
    }
}

/// Some way to drive a future that is not the loop it belongs to.
trait Elsewhere {
    fn drive<F: Future>(&mut self, future: F) -> F::Output;
}

struct OtherExecutor;

impl Elsewhere for OtherExecutor {
    fn drive<F: Future>(&mut self, future: F) -> F::Output {
        block_on(future)
    }
}

struct OtherLoop(EventLoop);

impl Elsewhere for OtherLoop {
    fn drive<F: Future>(&mut self, future: F) -> F::Output {
        self.0.run_until_complete(future)
    }
}

#[test]
fn what_needs_any_loop_says_that_there_is_none() {
    let _deadline = deadline();
    let now = std::time::Instant::now();
    assert_eq!(block_on(sleep(Duration::ZERO)), Err(NoRunningLoop));
    assert_eq!(block_on(sleep(Duration::from_secs(9))), Err(NoRunningLoop));
    assert_eq!(block_on(sleep_until(now)), Err(NoRunningLoop));
    assert_eq!(
        block_on(timeout(Duration::from_secs(9), pending::<()>())),
        Err(TimeoutError::NoRunningLoop)
    );
    // It needs the time only while there is no value.
    assert_eq!(
        block_on(timeout(Duration::from_secs(9), async { 1 })),
        Ok(1)
    );
    let endpoint = ("127.0.0.1", 9);
    assert_elsewhere(block_on(open_connection(endpoint).into_future()));
    assert_elsewhere(block_on(start_server(|_, _| {}, endpoint).into_future()));
    assert_elsewhere(block_on(
        create_connection(|| Nothing, endpoint).into_future(),
    ));
    assert_elsewhere(block_on(create_server(|| Nothing, endpoint).into_future()));
    let mut reader = evloop::StreamReader::new();
    assert_elsewhere(block_on(reader.read(1)));
}

#[test]
fn a_builder_of_one_loop_is_refused_by_another() {
    let _deadline = deadline();
    let event_loop = EventLoop::new().unwrap();
    let mut other = EventLoop::new().unwrap();
    let endpoint = ("127.0.0.1", 0);
    assert_elsewhere(other.run_until_complete(event_loop.create_server(|| Nothing, endpoint)));
    assert_elsewhere(other.run_until_complete(event_loop.create_connection(|| Nothing, endpoint)));
    let server = other.run_until_complete(other.handle().create_server(|| Nothing, endpoint));
    server.unwrap().close();
}

/// Everything that belongs to a loop, driven elsewhere; then all of it still works at home.
fn what_belongs_to_a_loop_is_refused(elsewhere: &mut impl Elsewhere) {
    let mut event_loop = EventLoop::new().unwrap();
    let endpoint = ("127.0.0.1", 0);
    let ([(mut reader, writer), (mut far_reader, far_writer)], server) = event_loop
        .run_until_complete(async {
            let server = start_server(|_, _| {}, endpoint).await.unwrap();
            (stream_pair().await, server)
        });
    writer.write(b"line\n");
    writer.close();

    let mut buffer = [0; 8];
    assert_elsewhere(elsewhere.drive(far_reader.read(8)));
    assert_elsewhere(elsewhere.drive(far_reader.read_into(&mut buffer)));
    assert_read_elsewhere(elsewhere.drive(far_reader.readline()));
    assert_read_elsewhere(elsewhere.drive(far_reader.readexactly(1)));
    assert_read_elsewhere(elsewhere.drive(far_reader.readuntil(b"e")));
    assert_read_elsewhere(elsewhere.drive(far_reader.read_to_end(None)));
    assert_elsewhere(elsewhere.drive(far_reader.skip_line()));
    let mut lines = far_reader.lines();
    assert_read_elsewhere(elsewhere.drive(lines.next()));
    assert_elsewhere(elsewhere.drive(far_writer.drain()));
    assert_elsewhere(elsewhere.drive(writer.wait_closed()));
    assert_elsewhere(elsewhere.drive(server.wait_closed()));
    assert_elsewhere(elsewhere.drive(server.serve_forever()));
    assert!(
        server.is_serving(),
        "it was not served, so it is not closed"
    );

    let mut task = event_loop.create_task(async { 1 });
    assert_eq!(
        elsewhere.drive(&mut task),
        Err(TaskError::NoRunningLoop),
        "a task that runs"
    );
    let waiter = event_loop.create_future();
    let set = event_loop.create_future();
    set.set_result(1).unwrap();
    for waiter in [&waiter, &set] {
        let outcome = elsewhere.drive(waiter.clone());
        assert_eq!(outcome, Err(TaskError::NoRunningLoop));
    }
    let mut half_slept = Box::pin(sleep(Duration::from_millis(1)));
    event_loop.run_until_complete(async {
        assert!(futures::poll!(half_slept.as_mut()).is_pending());
    });
    assert_eq!(elsewhere.drive(&mut half_slept), Err(NoRunningLoop));

    event_loop.run_until_complete(async {
        assert_eq!(far_reader.read_to_end(None).await.unwrap(), b"line\n");
        far_writer.close();
        far_writer.wait_closed().await.unwrap();
        writer.wait_closed().await.unwrap();
        assert!(reader.read(1).await.unwrap().is_empty());
        assert_eq!(task.await, Ok(1));
        waiter.set_result(2).unwrap();
        assert_eq!((waiter.await, set.await), (Ok(2), Ok(1)));
        half_slept.await.unwrap();
        server.close();
        server.wait_closed().await.unwrap();
    });
}

#[test]
fn what_belongs_to_a_loop_is_refused_by_another_executor() {
    let _deadline = deadline();
    what_belongs_to_a_loop_is_refused(&mut OtherExecutor);
}

#[test]
fn what_belongs_to_a_loop_is_refused_by_another_loop() {
    let _deadline = deadline();
    what_belongs_to_a_loop_is_refused(&mut OtherLoop(EventLoop::new().unwrap()));
}

/// What a user is told, in words.
#[test]
fn the_error_says_what_is_wrong_under_every_name() {
    let _deadline = deadline();
    let sentence = "no running event loop, or not the one that this belongs to";
    let errors: [Box<dyn Error>; 4] = [
        Box::new(NoRunningLoop),
        Box::new(TaskError::NoRunningLoop),
        Box::new(TimeoutError::NoRunningLoop),
        Box::new(io::Error::from(NoRunningLoop)),
    ];
    for error in errors {
        assert_eq!(error.to_string(), sentence);
    }
}
