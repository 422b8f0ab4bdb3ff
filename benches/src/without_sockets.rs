//! What needs no socket: tasks, timers, callbacks, and messages from another thread.
//!
//! Each figure is a process of its own that measures itself: one of this package's `tasks_*`
//! programs, or `python/tasks.py`. All run on the servers' processor, `cross_thread` too. There
//! the two threads of a burst take turns, and what is compared is the work of handing over a
//! message; on two processors they fight for the lock, and figures of the same program differ by
//! a factor of two from one second to the next.

use std::path::{Path, PathBuf};
use std::process::Command;

use evloop_benches::{foreign, task_program::NO_SUCH_MEASURE};

use crate::arguments::Arguments;
use crate::programs::cargo_build;
use crate::results::TaskResult;

/// What is measured, and how many operations of it, in Rust and in Python. A figure takes 20 to
/// 100 ms, `sleeps` at least its longest sleep.
const MEASURES: &[(&str, usize, usize)] = &[
    ("spawn_await", 200_000, 10_000),
    ("spawn_batch", 200_000, 20_000),
    ("yield", 500_000, 20_000),
    ("call_soon", 500_000, 20_000),
    ("timer", 200_000, 20_000),
    ("timer_call_later", 200_000, 20_000),
    ("timer_10000", 200_000, 20_000),
    ("sleeps", 100_000, 100_000),
    ("cross_thread", 500_000, 20_000),
];

/// Who is compared, in the order of the tables.
const RUNTIMES: &[&str] = &[
    "evloop", "tokio", "smol", "monoio", "glommio", "asyncio", "uvloop",
];

/// How long one process may take before it is killed.
const SECONDS: &str = "60";

/// Measures everything on processor `core`, in interleaved rounds whose order rotates. Who is
/// left out is told in sentences.
pub fn run(
    arguments: &Arguments,
    folder: &Path,
    core: usize,
    left_out: &mut Vec<String>,
) -> Vec<TaskResult> {
    let entrants = entrants(&arguments.only, folder, left_out);
    let mut results = Vec::new();
    for &(measure, in_rust, in_python) in MEASURES {
        eprintln!("without sockets: {measure}");
        let mut running: Vec<_> = entrants.iter().map(|one| (one, Vec::new())).collect();
        for round in 0..arguments.rounds() {
            let count = running.len().max(1);
            running.rotate_left(usize::from(round > 0) % count);
            running.retain_mut(|(entrant, figures)| {
                let operations = if entrant.in_python() {
                    in_python
                } else {
                    in_rust
                };
                match entrant.measure(core, measure, operations) {
                    Ok(Some(ns)) => figures.push(ns),
                    Ok(None) => return false,
                    Err(reason) => {
                        left_out.push(format!("{} in {measure}: {reason}.", entrant.name));
                        return false;
                    }
                }
                true
            });
        }
        running.sort_by_key(|(entrant, _)| RUNTIMES.iter().position(|name| *name == entrant.name));
        results.extend(running.into_iter().map(|(entrant, ns)| TaskResult {
            name: measure.to_owned(),
            participant: entrant.name.to_owned(),
            ns,
        }));
    }
    results
}

/// A runtime, and the program that measures it.
struct Entrant {
    name: &'static str,
    command_line: Vec<PathBuf>,
}

/// Those of `only` (empty: all) whose programs can be made.
fn entrants(only: &[String], folder: &Path, left_out: &mut Vec<String>) -> Vec<Entrant> {
    let first_words: Vec<_> = only.iter().map(|one| one.split(' ').next()).collect();
    let wanted = |name: &str| only.is_empty() || first_words.contains(&Some(name));
    let mut entrants = Vec::new();
    for name in RUNTIMES.iter().copied().filter(|name| wanted(name)) {
        match command_line(name, folder) {
            Ok(command_line) => entrants.push(Entrant { name, command_line }),
            Err(reason) => left_out.push(format!("{name} without sockets: {reason}.")),
        }
    }
    entrants
}

/// Makes a runtime's program: builds it, or finds its Python.
fn command_line(name: &str, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let script = foreign::source("python/tasks.py");
    match name {
        "asyncio" => return Ok(vec![foreign::python(), script]),
        "uvloop" => return Ok(vec![foreign::python_with_uvloop(folder)?, script]),
        _ => {}
    }
    let program = format!("tasks_{name}");
    let mut arguments = vec!["--bin", &program];
    if name == "glommio" {
        arguments.extend(["--features", "glommio"]);
    }
    cargo_build(folder, &arguments).map_err(|error| error.to_string())?;
    Ok(vec![folder.join(program)])
}

impl Entrant {
    fn in_python(&self) -> bool {
        self.command_line.len() > 1
    }

    /// Processor nanoseconds per operation; `None` when the runtime has no such measure.
    fn measure(
        &self,
        core: usize,
        measure: &str,
        operations: usize,
    ) -> Result<Option<f64>, String> {
        let mut command = Command::new("timeout");
        command.args(["--signal", "KILL", SECONDS, "taskset", "-c"]);
        command.arg(core.to_string()).args(&self.command_line);
        if self.in_python() {
            command.args(["--runtime", self.name]);
        }
        command.args(["--measure", measure, "--operations"]);
        command.arg(operations.to_string());
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.code() == Some(NO_SUCH_MEASURE) {
            return Ok(None);
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        let figure = printed
            .trim()
            .parse()
            .ok()
            .filter(|_| output.status.success());
        figure.map(Some).ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            let last = complaint.lines().last().unwrap_or("no word about why");
            format!("{}: {last}", output.status)
        })
    }
}
