//! A program that runs beside the test: what it prints, line by line and as a whole, and its end.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use super::{PATIENCE, wait_for};

/// A running program. It does not outlive the test.
pub(crate) struct Program {
    child: Child,
    name: String,
    /// The lines of its standard output that are still to come, with their newlines.
    lines: Receiver<String>,
    /// Those that were seen.
    seen: String,
    stderr: Option<JoinHandle<String>>,
}

/// What a program leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    /// Starts one of the programs in `examples/`, which stand beside the tests when all targets
    /// are built, as `cargo test` does.
    #[track_caller]
    pub(crate) fn example(name: &str, args: &[&str]) -> Self {
        Self::start(example(name), args)
    }

    /// Starts Python with a script, whose output is not kept back.
    #[track_caller]
    pub(crate) fn python(script: &str, args: &[&str]) -> Self {
        let mut all = vec!["-u", "-B", "-c", script];
        all.extend(args);
        Self::start("python3", &all)
    }

    #[track_caller]
    pub(crate) fn start(program: impl AsRef<OsStr>, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        Self::run(command)
    }

    /// Starts what needs more than arguments.
    #[track_caller]
    pub(crate) fn run(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut stderr = child.stderr.take().expect("a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).into_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let stderr = thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before an error is worth showing, too.
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self {
            child,
            name,
            lines,
            seen: String::new(),
            stderr: Some(stderr),
        }
    }

    /// Waits for the next line of standard output, and gives it without its newline.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.line_or_end().unwrap_or_else(|| {
            let ended = self.wait();
            panic!("{} ended: {ended:?}", self.name)
        })
    }

    /// Waits for the next line, or for the end.
    #[track_caller]
    pub(crate) fn line_or_end(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(self.see(line)),
            Err(RecvTimeoutError::Timeout) => panic!("{}: no line after: {}", self.name, self.seen),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// The next line if there is one already.
    pub(crate) fn try_line(&mut self) -> Option<String> {
        match self.lines.try_recv() {
            Ok(line) => Some(self.see(line)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Waits for the line that names the address which is served.
    #[track_caller]
    pub(crate) fn serving_on(&mut self) -> SocketAddr {
        let line = self.line();
        let address = line.strip_prefix("Serving on ");
        let address = address.and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("{}: no address in {line:?}", self.name))
    }

    /// Ctrl+C.
    pub(crate) fn interrupt(&self) {
        // The child is ours and not waited for, so the number is still its own.
        let id = self.child.id().to_string();
        let status = Command::new("sh")
            .args(["-c", "kill -INT \"$0\"", &id])
            .status()
            .expect("a shell");
        assert!(status.success(), "{} was gone before Ctrl+C", self.name);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Ended {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => drop(self.see(line)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} does not end; it said: {}", self.name, self.seen)
                }
            }
        }
        // Its standard output is closed, so the end is near.
        let status = wait_for(&format!("{} ends", self.name), || {
            self.child.try_wait().expect("to wait for a child")
        });
        let stderr = self.stderr.take().map(JoinHandle::join);
        Ended {
            code: status.code(),
            stdout: std::mem::take(&mut self.seen),
            stderr: stderr.and_then(Result::ok).unwrap_or_default(),
        }
    }

    fn see(&mut self, line: String) -> String {
        self.seen.push_str(&line);
        line.trim_end_matches('\n').to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that ended well, without a word of complaint.
pub(crate) fn good(stdout: impl Into<String>) -> Ended {
    Ended {
        code: Some(0),
        stdout: stdout.into(),
        stderr: String::new(),
    }
}

pub(crate) fn example(name: &str) -> PathBuf {
    // target/debug/deps/this-test and target/debug/examples/NAME
    let mut path = env::current_exe().expect("our own path");
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --examples` first, or `cargo test`, which does",
        path.display()
    );
    path
}
