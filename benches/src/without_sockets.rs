//! What needs no socket: tasks, timers, callbacks, and messages from another thread.
//!
//! Each figure is a process of its own that measures itself: one of this package's `tasks_*`
//! programs, or `python/tasks.py`. All run on the servers' processor, `cross_thread` too. There
//! the two threads of a burst take turns, and what is compared is the work of handing over a
//! message; on two processors they fight for the lock, and figures of the same program differ by
//! a factor of two from one second to the next.

use std::process::Command;

use evloop_benches::task_program::NO_SUCH_MEASURE;

use crate::participants::Program;
use crate::programs::Programs;
use crate::results::TaskResult;
use crate::shuffle::Shuffle;

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

/// A runtime, or one way to use it, and the program that measures it.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    /// As it is shown; `--only` takes its first word.
    pub name: &'static str,
    pub program: Program,
    arguments: &'static [&'static str],
}

const fn runtime(
    name: &'static str,
    program: Program,
    arguments: &'static [&'static str],
) -> Runtime {
    Runtime {
        name,
        program,
        arguments,
    }
}

/// Who is compared, in the order of the tables.
#[rustfmt::skip] // A table.
pub const RUNTIMES: [Runtime; 9] = [
    runtime("evloop", Program::Cargo("tasks_evloop"), &[]),
    runtime("tokio local", Program::Cargo("tasks_tokio"), &["--variant", "local"]),
    runtime("tokio spawn", Program::Cargo("tasks_tokio"), &["--variant", "spawn"]),
    runtime("smol", Program::Cargo("tasks_smol"), &[]),
    runtime("monoio uring", Program::Cargo("tasks_monoio"), &["--variant", "uring"]),
    runtime("monoio epoll", Program::Cargo("tasks_monoio"), &["--variant", "epoll"]),
    runtime("glommio", Program::Feature("tasks_glommio", "glommio"), &[]),
    runtime("asyncio", Program::Asyncio, &["--runtime", "asyncio"]),
    runtime("uvloop", Program::Uvloop, &["--runtime", "uvloop"]),
];

/// What every runtime has, and how much of it, to see whether it runs here.
const TRIAL: (&str, usize) = ("yield", 1_000);

/// How long one process may take before it is killed.
const SECONDS: &str = "60";

impl Runtime {
    /// Whether `--only` names it, by its first word. Nobody named is everybody.
    pub fn is_among(&self, only: &[String]) -> bool {
        let first_word = |name: &str| name.split(' ').next().unwrap_or_default().to_owned();
        only.is_empty()
            || only
                .iter()
                .any(|wanted| first_word(wanted) == first_word(self.name))
    }
}

/// Somebody who runs here.
pub struct Entrant {
    runtime: Runtime,
    command_line: Vec<String>,
}

impl Entrant {
    /// Starts a runtime's program once. The error is a sentence why not.
    pub fn try_out(runtime: Runtime, programs: &Programs, core: usize) -> Result<Self, String> {
        let entrant = Self {
            runtime,
            command_line: programs.start(runtime.program, "tasks.py")?,
        };
        match entrant.measure(core, TRIAL.0, TRIAL.1)? {
            Some(_) => Ok(entrant),
            None => Err(format!("it knows no {}", TRIAL.0)),
        }
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
        command.args(self.runtime.arguments);
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

/// Measures everything on processor `core`, in interleaved rounds. Who fails is left out with a
/// sentence.
pub fn run(
    entrants: &[Entrant],
    rounds: usize,
    core: usize,
    shuffle: &mut Shuffle,
    left_out: &mut Vec<String>,
) -> Vec<TaskResult> {
    let mut results = Vec::new();
    for &(measure, in_rust, in_python) in MEASURES {
        eprintln!("without sockets: {measure}");
        let mut running: Vec<_> = entrants.iter().map(|one| (one, Vec::new())).collect();
        for _ in 0..rounds {
            shuffle.shuffle(&mut running);
            running.retain_mut(|(entrant, figures)| {
                let operations = match entrant.runtime.program.is_python() {
                    true => in_python,
                    false => in_rust,
                };
                match entrant.measure(core, measure, operations) {
                    Ok(Some(ns)) => figures.push(ns),
                    Ok(None) => return false,
                    Err(reason) => {
                        let name = entrant.runtime.name;
                        left_out.push(format!("{name} in {measure}: {reason}."));
                        return false;
                    }
                }
                true
            });
        }
        running.sort_by_key(|(entrant, _)| {
            let name = entrant.runtime.name;
            RUNTIMES.iter().position(|one| one.name == name)
        });
        results.extend(running.into_iter().map(|(entrant, ns)| TaskResult {
            name: measure.to_owned(),
            participant: entrant.runtime.name.to_owned(),
            ns,
        }));
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_word_names_all_ways_to_use_a_runtime() {
        let among = |only: &[&str]| {
            let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
            RUNTIMES.iter().filter(|one| one.is_among(&only)).count()
        };
        assert_eq!(among(&[]), RUNTIMES.len());
        assert_eq!(among(&["evloop streams", "tokio"]), 3);
        assert_eq!(among(&["libuv"]), 0);
    }
}
