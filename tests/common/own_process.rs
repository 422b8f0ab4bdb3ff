//! Tests of what belongs to a whole process: descriptors, memory.

use std::env;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::peers::{lack, skip};

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

/// The same, in a process in which this variable has this value, which has no quote in it.
#[track_caller]
pub(crate) fn enter_with_variable(name: &str, variable: &str, value: &str) -> bool {
    enter_through(name, &format!("{variable}='{value}' exec \"$0\" \"$@\""))
}

/// The same, in a network of its own: [`BLACK_HOLES`] take packets and never answer, [`NO_ROUTE`]
/// is refused by the system, and beyond that there is the loopback only. False, with a line that
/// says so, where this machine does not allow that; where it only lacks the tools, see [`lack`].
#[track_caller]
pub(crate) fn enter_network(name: &str) -> bool {
    if env::var_os(MARK).is_none() {
        let succeeds = |script| {
            let unshare = Command::new("unshare")
                .args(["-rn", "sh", "-c", script])
                .stdin(Stdio::null())
                .output();
            unshare.map(|output| output.status.success())
        };
        match (succeeds("true"), succeeds(NETWORK)) {
            (Ok(true), Ok(true)) => {}
            (Ok(false), _) => {
                skip("no network namespace is permitted (unshare -rn)");
                return false;
            }
            _ => {
                lack("unshare, ip, a veth pair (Debian packages util-linux, iproute2)");
                return false;
            }
        }
    }
    let script = format!("exec unshare -rn sh -c '{NETWORK} && exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    enter_through(name, &script)
}

/// They are routed to an interface at whose other end nobody is.
pub(crate) const BLACK_HOLES: [&str; 3] = ["10.9.0.2", "fd09::2", "fd09::3"];
pub(crate) const NO_ROUTE: &str = "198.51.100.1";

const NETWORK: &str = "ip link set lo up && ip link add v0 type veth peer name v1 \
    && ip addr add 10.9.0.1/24 dev v0 && ip addr add fd09::1/64 dev v0 nodad \
    && ip link set v1 up && ip link set v0 up \
    && ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev v0 nud permanent \
    && ip neigh add fd09::2 lladdr 02:00:00:00:00:01 dev v0 nud permanent \
    && ip neigh add fd09::3 lladdr 02:00:00:00:00:01 dev v0 nud permanent \
    && ip route add unreachable 198.51.100.0/24";

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

/// How many descriptors this process has the system watch.
#[cfg(target_os = "linux")]
pub(crate) fn registrations() -> usize {
    let entries = fs::read_dir("/proc/self/fdinfo").expect("our descriptors");
    let texts = entries.map(|entry| fs::read_to_string(entry.expect("an entry").path()));
    // The one with which the folder was read is gone.
    let watched = |text: String| text.lines().filter(|line| line.starts_with("tfd:")).count();
    texts.map(|text| text.map_or(0, watched)).sum()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn registrations() -> usize {
    0
}

/// What a socket costs while it is open: [`descriptors`] and [`registrations`].
pub(crate) fn held() -> (usize, usize) {
    (descriptors(), registrations())
}

/// Resident memory in KiB.
pub(crate) fn resident_kib() -> usize {
    status("VmRSS:")
}

/// The most resident memory that there ever was, in KiB.
pub(crate) fn peak_resident_kib() -> usize {
    status("VmHWM:")
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
