//! What the tests of this binary share.

use std::cell::RefCell;
use std::env;
use std::panic::Location;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use evloop::{LoopHandle, StreamReader, StreamWriter, open_connection, start_server};

/// What happened, in order: a test compares the whole of it.
#[derive(Clone, Default)]
pub(crate) struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    /// A callback that notes `what` and does nothing else.
    pub(crate) fn noting(&self, what: &'static str) -> impl Fn() + use<> {
        let trace = self.clone();
        move || trace.note(what)
    }

    pub(crate) fn is_shorter_than(&self, notes: usize) -> bool {
        self.0.borrow().len() < notes
    }

    /// What was noted since the last look.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }

    /// Notes from now on what the loop's exception handler is told.
    pub(crate) fn reports_of(&self, handle: &LoopHandle) {
        let trace = self.clone();
        handle.set_exception_handler(move |_, context| trace.note(context.to_string()));
    }
}

/// Calls its closure when it is dropped.
pub(crate) struct OnDrop<F: FnOnce()>(Option<F>);

pub(crate) fn on_drop<F: FnOnce()>(f: F) -> OnDrop<F> {
    OnDrop(Some(f))
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

/// Ends the process with a sentence if the test has not ended in time: a loop that hangs cannot
/// be asked to say so itself.
#[must_use]
#[track_caller]
pub(crate) fn deadline() -> Deadline {
    let (alive, over) = mpsc::channel();
    let place = Location::caller();
    thread::spawn(move || {
        if over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            complain(&format!("the test at {place} hangs"));
            std::process::abort();
        }
    });
    Deadline { _alive: alive }
}

pub(crate) struct Deadline {
    _alive: mpsc::Sender<()>,
}

#[allow(
    clippy::print_stderr,
    reason = "nobody else is left to say why the test process ends"
)]
fn complain(message: &str) {
    eprintln!("{message}");
}

/// Two streams that talk to each other: the client's side, then the server's. The server that
/// brought them together is closed.
pub(crate) async fn stream_pair() -> [(StreamReader, StreamWriter); 2] {
    let accepted = evloop::get_running_loop().unwrap().create_future();
    let arrived = accepted.clone();
    let server = start_server(
        move |reader, writer| {
            let streams = Rc::new(RefCell::new(Some((reader, writer))));
            assert!(arrived.set_result(streams).is_ok(), "one client only");
        },
        ("127.0.0.1", 0),
    )
    .await
    .unwrap();
    let port = server.sockets()[0].port().unwrap();
    let client = open_connection(("127.0.0.1", port)).await.unwrap();
    let streams = accepted.await.unwrap().take().unwrap();
    server.close();
    [client, streams]
}

/// Runs `scene` in a process of its own, as the test `name` (with its module) of this very
/// binary, and says how it ended. A scene that panics ends with the harness's status 101, one
/// that comes to its end with [`ALIVE`].
#[track_caller]
pub(crate) fn in_a_child(name: &str, scene: fn()) -> std::process::ExitStatus {
    let output = output_of_a_child(name, scene);
    // Shown if the test fails.
    complain(&String::from_utf8_lossy(&output.stderr));
    output.status
}

/// The same, and what it printed.
#[track_caller]
pub(crate) fn output_of_a_child(name: &str, scene: fn()) -> std::process::Output {
    if env::var_os(CHILD).is_some() {
        let _deadline = deadline();
        scene();
        std::process::exit(ALIVE);
    }
    // The child has a deadline of its own, so that waiting for it ends.
    Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The status of a child whose scene came to its end.
pub(crate) const ALIVE: i32 = 77;

/// Set in a child, and nowhere else.
const CHILD: &str = "EVLOOP_EVENT_LOOP_TEST_CHILD";

/// Only a broken loop takes so long.
const PATIENCE: Duration = Duration::from_secs(40);
