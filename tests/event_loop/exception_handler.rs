//! Who is told about failures that nobody else can be told about.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use evloop::{
    Address, EventLoop, ExceptionContext, LoopHandle, PanicError, Transport, open_connection,
    sleep, start_server,
};

use crate::support::{ALIVE, Trace, deadline, on_drop, output_of_a_child};

/// What is logged, on this thread: by the default handler, and what was slow.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = (
            std::thread::current().id(),
            record.level(),
            record.args().to_string(),
        );
        lines().push(line);
    }

    fn flush(&self) {}
}

type Line = (std::thread::ThreadId, log::Level, String);

fn lines() -> MutexGuard<'static, Vec<Line>> {
    static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The errors that were logged on this thread since the last look.
pub(crate) fn logged() -> Vec<String> {
    logged_at(log::Level::Error)
}

/// The warnings.
pub(crate) fn warned() -> Vec<String> {
    logged_at(log::Level::Warn)
}

fn logged_at(level: log::Level) -> Vec<String> {
    static LOGGER: Once = Once::new();
    LOGGER.call_once(|| {
        log::set_logger(&Log).expect("no other logger is set");
        log::set_max_level(log::LevelFilter::Warn);
    });
    let me = std::thread::current().id();
    let mut lines = lines();
    let (mine, others) = lines
        .drain(..)
        .partition(|(thread, at, _)| *thread == me && *at == level);
    *lines = others;
    let mine: Vec<Line> = mine;
    mine.into_iter().map(|(_, _, line)| line).collect()
}

#[test]
fn a_handler_gets_message_exception_and_subjects() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let story = trace.clone();
    event_loop.set_exception_handler(move |handle: &LoopHandle, context| {
        assert!(handle.is_running());
        let error = context.exception().unwrap();
        let panic: &PanicError = error.downcast_ref().unwrap();
        story.note(format!("{} / {}", context.message(), panic.message()));
    });
    event_loop.call_soon(|| panic!("a static text"));
    event_loop.call_soon(|| panic!("a text with a {}", "value"));
    event_loop.call_soon(|| std::panic::panic_any(42_u8));
    event_loop.run_until_complete(async { sleep(Duration::ZERO).await.unwrap() });
    assert_eq!(
        trace.take(),
        [
            "Exception in callback / a static text",
            "Exception in callback / a text with a value",
            "Exception in callback / a value that is no text",
        ]
    );
}

#[test]
fn subjects_are_found_by_their_type() {
    let context = ExceptionContext::new("message")
        .error(io::Error::other("cause"))
        .subject(1_u8)
        .subject("name");
    assert_eq!(context.get::<u8>(), Some(&1));
    assert_eq!(context.get::<&str>(), Some(&"name"));
    assert_eq!(context.get::<Address>(), None);
    assert_eq!(context.to_string(), r#"message: cause; 1; "name""#);
    let bare = ExceptionContext::new(String::from("message"));
    assert!(bare.exception().is_none());
    assert_eq!(bare.to_string(), "message");
}

#[test]
fn a_failed_connection_handler_is_told_with_its_transport() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let transports = Rc::new(RefCell::new(Vec::<Transport>::new()));
    let told = Rc::clone(&transports);
    event_loop.set_exception_handler(move |_, context| {
        assert_eq!(
            context.message(),
            "Unhandled exception in client_connected_cb"
        );
        assert_eq!(context.exception().unwrap().to_string(), "no service");
        told.borrow_mut()
            .extend(context.get::<Transport>().cloned());
    });
    event_loop.run_until_complete(async {
        let server = start_server(
            |_, _| async { Err::<(), Box<dyn Error>>("no service".into()) },
            ("127.0.0.1", 0),
        )
        .await
        .unwrap();
        let port = server.sockets()[0].port().unwrap();
        let (mut reader, _writer) = open_connection(("127.0.0.1", port)).await.unwrap();
        assert!(reader.read(1).await.unwrap().is_empty());
        server.close();
        server.wait_closed().await.unwrap();
    });
    let transports = transports.take();
    assert_eq!(transports.len(), 1);
    assert!(transports[0].is_closing());
}

#[test]
fn without_a_handler_a_failure_is_logged() {
    let _deadline = deadline();
    drop(logged());
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.call_soon(|| panic!("boom"));
    event_loop.run_until_complete(async { sleep(Duration::ZERO).await.unwrap() });
    assert_eq!(logged(), ["Exception in callback: panicked: boom"]);
}

/// As Python's logging does it: a failure is never silent.
#[test]
fn where_nothing_is_logged_a_failure_goes_to_stderr() {
    let name = "exception_handler::where_nothing_is_logged_a_failure_goes_to_stderr";
    let output = output_of_a_child(name, || {
        let mut event_loop = EventLoop::new().unwrap();
        event_loop.call_exception_handler(&ExceptionContext::new("told to nobody else"));
        event_loop.set_exception_handler(|_, _| {});
        event_loop.call_exception_handler(&ExceptionContext::new("told to the handler"));
        event_loop.run_until_complete(async {});
    });
    assert_eq!(output.status.code(), Some(ALIVE), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().collect::<Vec<_>>(), ["told to nobody else"]);
}

#[test]
fn handlers_are_replaced_and_cleared() {
    let _deadline = deadline();
    drop(logged());
    let event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let context = ExceptionContext::new("report");
    let handler = |what: &'static str, dropped: &'static str| {
        let story = trace.clone();
        let guard = on_drop(trace.noting(dropped));
        move |_: &LoopHandle, context: &ExceptionContext| {
            let _guard = &guard;
            story.note(format!("{what}: {context}"));
        }
    };
    event_loop.set_exception_handler(handler("first", "first dropped"));
    event_loop.call_exception_handler(&context);
    event_loop.set_exception_handler(handler("second", "second dropped"));
    event_loop.call_exception_handler(&context);
    event_loop.clear_exception_handler();
    assert_eq!(
        trace.take(),
        [
            "first: report",
            "first dropped",
            "second: report",
            "second dropped"
        ]
    );
    assert!(logged().is_empty());
    event_loop.call_exception_handler(&context);
    assert_eq!(logged(), ["report"]);
}

#[test]
fn a_handler_may_replace_itself() {
    let _deadline = deadline();
    let event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let story = trace.clone();
    let guard = on_drop(trace.noting("first dropped"));
    event_loop.set_exception_handler(move |handle, context| {
        let _guard = &guard;
        story.note(format!("first: {context}"));
        let second = story.clone();
        handle.set_exception_handler(move |_, context| second.note(format!("second: {context}")));
        story.note("first is still whole");
    });
    for name in ["one", "two"] {
        event_loop.call_exception_handler(&ExceptionContext::new(name));
    }
    assert_eq!(
        trace.take(),
        [
            "first: one",
            "first is still whole",
            "first dropped",
            "second: two"
        ]
    );
}

#[test]
fn a_handler_that_panics_is_reported_to_the_default_one_and_stays() {
    let _deadline = deadline();
    drop(logged());
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.set_exception_handler(|_, _| panic!("handler"));
    for name in ["one", "two"] {
        event_loop.call_soon(move || panic!("{name}"));
    }
    event_loop.run_until_complete(async { sleep(Duration::ZERO).await.unwrap() });
    assert_eq!(
        logged(),
        [
            "Exception in callback: panicked: one",
            "Unhandled error in exception handler: panicked: handler",
            "Exception in callback: panicked: two",
            "Unhandled error in exception handler: panicked: handler",
        ]
    );
}
