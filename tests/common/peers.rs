//! Programs that others wrote.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use super::{in_thread, wait_for};

/// A test that has nothing to do here says so: past `eprintln!`, whose output the test harness
/// keeps to itself when the test passes.
pub(crate) fn skip(why: &str) {
    // Nobody may be there to read it.
    let _ = io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}

/// The same for want of something that could be had: where nothing may be missing, it fails.
#[track_caller]
pub(crate) fn lack(what: &str) {
    let required = env::var_os("EVLOOP_PEERS").is_some_and(|value| value == "required");
    assert!(!required, "skipped: {what}");
    skip(what);
}

/// Whether a program is installed. If it is not, this says so, or fails where it must be.
#[track_caller]
pub(crate) fn require(program: &str, package: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        lack(&format!("{program} (Debian package {package})"));
    }
    found
}

/// One of the scripts in `tests/peers/`.
pub(crate) fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "peers", name]
        .iter()
        .collect()
}

/// A process that does not outlive its test.
pub(crate) struct Child(std::process::Child);

impl Child {
    /// Starts a program whose standard input and output are ours.
    #[track_caller]
    pub(crate) fn spawn(program: impl AsRef<OsStr>, args: &[&OsStr]) -> Self {
        let program = program.as_ref();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot start {program:?}: {error}")))
    }

    /// Starts a script of ours.
    #[track_caller]
    pub(crate) fn python(name: &str, args: &[&str]) -> Self {
        let script = script(name);
        let mut all: Vec<&OsStr> = vec!["-B".as_ref(), script.as_ref()];
        all.extend(args.iter().map(OsStr::new));
        Self::spawn("python3", &all)
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.0.stdin.take().expect("standard input, once")
    }

    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.0.stdout.take().expect("standard output, once")
    }

    /// The first line that the program prints.
    pub(crate) async fn first_line(&mut self) -> String {
        let mut stdout = BufReader::new(self.stdout());
        let (line, stdout) = in_thread(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("a line of text");
            (line, stdout)
        })
        .await;
        self.0.stdout = Some(stdout.into_inner());
        line.trim_end().to_owned()
    }

    /// Waits for its end, which has to be a good one, and gives what it printed.
    pub(crate) async fn output(mut self) -> String {
        let mut stdout = self.stdout();
        let text = in_thread(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("text");
            text
        })
        .await;
        let status = self.wait();
        assert!(status.success(), "the peer ended with {status}: {text}");
        text.trim_end().to_owned()
    }

    /// Its end, for which we wait, but not for ever.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        wait_for("the end of the child", || {
            self.0.try_wait().expect("to wait for a child")
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
