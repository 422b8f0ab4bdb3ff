//! Tests of what belongs to a whole process: descriptors, memory.

use std::env;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// True in a process that has only this test to do. Elsewhere it starts that process, fails if
/// the test fails there, and returns false. `name` is the test's full name.
#[track_caller]
pub(crate) fn enter(name: &str) -> bool {
    enter_through(name, "exec \"$0\" \"$@\"")
}

/// The same, in a process that may have so many descriptors at most.
#[track_caller]
pub(crate) fn enter_with_descriptors(name: &str, limit: usize) -> bool {
    enter_through(name, &format!("ulimit -n {limit} && exec \"$0\" \"$@\""))
}

#[track_caller]
fn enter_through(name: &str, script: &str) -> bool {
    if env::var_os(MARK).is_some_and(|running| running == name) {
        return true;
    }
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(env::current_exe().expect("our own path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    let id = child.id();
    let (done, over) = std::sync::mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if over.recv_timeout(LIMIT).is_err() {
            // It is a child of ours that nobody has waited for, so the number is still its own.
            let _ = Command::new("sh")
                .args(["-c", &format!("kill -9 {id}")])
                .status();
        }
    });
    let output = child.wait_with_output().expect("an end");
    let _ = done.send(());
    watch.join().expect("the watch to end");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{name} in a process of its own: {}\n{stdout}\n{stderr}",
        output.status,
    );
    false
}

/// How many descriptors this process has open. Those that other threads are just closing are not
/// counted for long: the caller compares after the threads are over.
pub(crate) fn descriptors() -> usize {
    // The folder is open itself while it is read.
    fs::read_dir(FOLDER).expect("a list of descriptors").count() - 1
}

/// Resident memory in KiB.
pub(crate) fn resident_kib() -> usize {
    status("VmRSS:")
}

/// Memory that was asked for in KiB, used or not.
pub(crate) fn virtual_kib() -> usize {
    status("VmSize:")
}

fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("our own status");
    let line = status.lines().find(|line| line.starts_with(key));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|n| n.parse().ok()).expect("a number")
}

/// Looks again until it is so, since another thread has a part in it.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + super::PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::yield_now();
    }
}

const MARK: &str = "EVLOOP_TEST_IN_ITS_OWN_PROCESS";
const LIMIT: Duration = Duration::from_secs(120);
const FOLDER: &str = "/proc/self/fd";
