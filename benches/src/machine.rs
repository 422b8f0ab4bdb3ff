//! Where a run took place, and what was compared.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::programs::Programs;
use crate::results::Machine;

/// Crates whose versions are of interest.
const CRATES: [&str; 8] = [
    "mio",
    "tokio",
    "smol",
    "monoio",
    "glommio",
    "rustls",
    "tokio-rustls",
    "aws-lc-rs",
];

/// Describes this machine, before this process was pinned to a part of it.
pub fn describe(programs: &Programs) -> Machine {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let mut versions = crate_versions();
    versions.extend(programs.versions());
    Machine {
        cpu: cpu.to_owned(),
        cores: thread::available_parallelism().map_or(1, usize::from),
        kernel: first_line(Command::new("uname").arg("-sr")),
        rustc: rustc(),
        commit: commit(),
        versions,
        date: first_line(Command::new("date").args(["-u", "+%Y-%m-%d"])),
    }
}

/// The compiler, by the name it gives itself.
pub fn rustc() -> String {
    first_line(Command::new("rustc").arg("--version"))
}

/// What was built: nothing where it is no git repository.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let repository = env!("CARGO_MANIFEST_DIR");
        first_line(Command::new("git").args(["-C", repository]).args(arguments))
    };
    let commit = git(&["log", "-1", "--format=%h of %cs"]);
    if commit.is_empty() || git(&["status", "--porcelain"]).is_empty() {
        commit
    } else {
        format!("{commit}, with local changes")
    }
}

/// Name and version of each crate in the lock file that is compared.
fn crate_versions() -> Vec<(String, String)> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap_or_default();
    let value = |line: &str, key: &str| {
        let quoted = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        quoted.strip_suffix('"').map(str::to_owned)
    };
    let mut versions: Vec<(String, String)> = Vec::new();
    let mut name = String::new();
    for line in lock.lines() {
        if let Some(found) = value(line, "name") {
            name = found;
        } else if let Some(version) = value(line, "version") {
            if CRATES.contains(&name.as_str()) {
                // The newer one of two is ours; a peer may depend on an older one.
                versions.retain(|(known, _)| *known != name);
                versions.push((name.clone(), version));
            }
        }
    }
    versions
}

/// What a command says, or nothing where there is no such command.
pub fn first_line(command: &mut Command) -> String {
    let said = command.output().map(|output| output.stdout);
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    said.lines().next().unwrap_or_default().to_owned()
}
