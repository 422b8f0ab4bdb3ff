//! Figures that come out the same in every run: system calls, user instructions and allocations
//! for each operation.
//!
//! Each is the difference between a server that did so many operations and one that did twice as
//! many, so the start and the first steps of both fall out. The load is the same for every server
//! however slow a tool makes it: all connections send, and send again when all have their answer
//! and the server has gone to sleep. Server and load share a processor, and the server never
//! interrupts the load, so that it finds a whole batch waiting when it gets to run.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use evloop_benches::tools;

use crate::callgrind::{self, Totals};
use crate::cells::{self, Cell, LINES, Shape};
use crate::load::{self, Check, Until};
use crate::participants::Participant;
use crate::profile;
use crate::programs::Programs;
use crate::results::{self, Count, ProfilePart};
use crate::server_process::{Launch, ServerProcess};

/// Cells whose system calls are counted.
const SYSTEM_CALLS: [&str; 7] = [
    "c1-1K",
    "c10-1K",
    "c100-1K",
    "lines-c1",
    "lines-c10",
    "churn-c1",
    "churn-c10",
];

/// The calls by which a server asks for events.
const POLLS: [&str; 4] = [
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "io_uring_enter",
];

/// Cells whose instructions and allocations are counted: they take longer.
const INSTRUCTIONS: [&str; 3] = ["c1-1K", "c100-1K", "lines-c10"];

/// The cell whose instructions are told place by place.
const PROFILED: &str = "c100-1K";

/// Operations of the shorter run, about.
const OPERATIONS: u64 = 1_000;

/// Batches of it at least.
const BATCHES: u64 = 10;

/// A [`Count`] and what `--check` looks at besides.
pub struct Counted {
    pub count: Count,
    /// Calls of `epoll_ctl` for each operation.
    pub epoll_ctl: Option<f64>,
}

/// Who counts, and where.
pub struct Counter<'a> {
    programs: &'a Programs,
    /// The processor of both.
    core: usize,
    /// Where the tools write.
    folder: PathBuf,
    strace: bool,
    valgrind: bool,
}

impl<'a> Counter<'a> {
    /// Looks for the tools; one that is not there is named in `left_out`.
    pub fn new(
        programs: &'a Programs,
        core: usize,
        left_out: &mut Vec<String>,
    ) -> io::Result<Self> {
        let mut has = |tool: &str| match tools::find(tool) {
            Ok(()) => true,
            Err(missing) => {
                left_out.push(format!("{missing}: nothing was counted with it."));
                false
            }
        };
        let folder = programs
            .folder()
            .join(format!("counts-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self {
            programs,
            core,
            folder,
            strace: has("strace"),
            valgrind: has("valgrind"),
        })
    }

    /// Counts a participant in all cells that are counted.
    pub fn count(
        &self,
        participant: &Participant,
        cells: &[Cell],
        left_out: &mut Vec<String>,
    ) -> Vec<Counted> {
        let mut results = Vec::new();
        for cell in cells {
            if participant.work(cell.transport, cell.shape).is_none() {
                continue;
            }
            if !SYSTEM_CALLS.contains(&cell.name.as_str()) {
                continue;
            }
            eprintln!("counting {} in {}", participant.name, cell.name);
            let counted = self
                .programs
                .command_line(participant, cell.transport, cell.shape)
                .and_then(|command_line| {
                    self.count_cell(participant, cell, &command_line)
                        .map_err(|error| error.to_string())
                });
            match counted {
                Ok(counted) => results.push(counted),
                Err(reason) => left_out.push(format!(
                    "{}, counts in {}: {reason}.",
                    participant.name, cell.name
                )),
            }
        }
        results
    }

    fn count_cell(
        &self,
        participant: &Participant,
        cell: &Cell,
        command_line: &[String],
    ) -> io::Result<Counted> {
        let calls = if self.strace {
            Some(self.twice(cell, |batches| {
                self.system_calls(cell, batches, command_line)
            })?)
        } else {
            None
        };
        let instructions = self.valgrind
            && participant.runs_under_valgrind()
            && INSTRUCTIONS.contains(&cell.name.as_str());
        let profile = if instructions {
            Some(self.twice(cell, |batches| self.totals(cell, batches, command_line))?)
        } else {
            None
        };
        let per_operation = |[once, twice]: [u64; 2]| {
            (twice as f64 - once as f64) / operations(cell, batches(cell)) as f64
        };
        let calls_of = |name: &str| {
            let [once, twice] = calls.as_ref()?;
            let of = |calls: &BTreeMap<String, u64>| calls.get(name).copied().unwrap_or(0);
            Some(per_operation([of(once), of(twice)]))
        };
        let profiled = |part: fn(&Totals) -> u64| {
            let runs = profile.as_ref()?;
            Some(per_operation(runs.each_ref().map(part)))
        };
        Ok(Counted {
            count: Count {
                participant: participant.name.to_owned(),
                cell: cell.name.clone(),
                system_calls: calls_of("total"),
                polls: calls
                    .is_some()
                    .then(|| POLLS.iter().filter_map(|name| calls_of(name)).sum()),
                instructions: profiled(|totals| totals.instructions),
                // Python takes memory from a pool of its own; malloc says nothing about it.
                allocations: profiled(|totals| totals.allocations)
                    .filter(|_| !participant.is_python()),
            },
            epoll_ctl: calls_of("epoll_ctl"),
        })
    }

    /// The result after so many batches and after twice as many.
    fn twice<T>(
        &self,
        cell: &Cell,
        mut run: impl FnMut(u64) -> io::Result<T>,
    ) -> io::Result<[T; 2]> {
        let batches = batches(cell);
        Ok([run(batches)?, run(2 * batches)?])
    }

    /// System calls of a server's whole life by name, and their `total`.
    fn system_calls(
        &self,
        cell: &Cell,
        batches: u64,
        command_line: &[String],
    ) -> io::Result<BTreeMap<String, u64>> {
        let file = self.folder.join("strace");
        let tool = ["strace", "-f", "-c", "-U", "calls,name", "-o"];
        let launch = Launch {
            core: self.core,
            tool: with_path(&tool, &file),
            below_tool: true,
            yielding: true,
            command_line: command_line.to_vec(),
        };
        serve(&launch, cell, batches)?;
        let summary = fs::read_to_string(&file)?;
        let calls: BTreeMap<_, _> = summary.lines().filter_map(calls_and_name).collect();
        if calls.contains_key("total") {
            Ok(calls)
        } else {
            Err(io::Error::other("strace wrote no total"))
        }
    }

    fn totals(&self, cell: &Cell, batches: u64, command_line: &[String]) -> io::Result<Totals> {
        let output = self.callgrind(cell, batches, command_line, &[])?;
        callgrind::read(&output)
    }

    /// What callgrind writes about a server that went through so many batches.
    fn callgrind(
        &self,
        cell: &Cell,
        batches: u64,
        command_line: &[String],
        options: &[&str],
    ) -> io::Result<String> {
        let file = self.folder.join("callgrind");
        let option = format!("--callgrind-out-file={}", file.display());
        let tool = ["valgrind", "--quiet", "--tool=callgrind", &option];
        let launch = Launch {
            core: self.core,
            tool: tool
                .iter()
                .chain(options)
                .map(|&word| word.to_owned())
                .collect(),
            below_tool: false,
            yielding: true,
            command_line: command_line.to_vec(),
        };
        serve(&launch, cell, batches)?;
        fs::read_to_string(&file)
    }

    /// Where a participant's instructions for an echo are.
    pub fn profile(&self, participant: &Participant) -> Result<results::Profile, Box<dyn Error>> {
        tools::find("valgrind")?;
        let cell = cells::all().into_iter().find(|cell| cell.name == PROFILED);
        let cell = cell.ok_or("the cell to profile is gone")?;
        let command_line = self
            .programs
            .command_line(participant, cell.transport, cell.shape)?;
        let options = [
            "--dump-instr=yes",
            "--compress-strings=no",
            "--compress-pos=no",
        ];
        let once = batches(&cell);
        let [fewer, more] = [once, 2 * once].map(|batches| {
            let output = self.callgrind(&cell, batches, &command_line, &options)?;
            profile::read(&output, Path::new(&command_line[0]))
        });
        let (fewer, more) = (fewer?, more?);
        let parts = more.into_iter().map(|((floor, file), instructions)| {
            let place = (floor, file);
            let start = fewer.get(&place).copied().unwrap_or_default();
            let (floor, file) = place;
            ProfilePart {
                floor,
                file,
                instructions: (instructions as f64 - start as f64) / operations(&cell, once) as f64,
            }
        });
        Ok(results::Profile {
            participant: participant.name.to_owned(),
            cell: cell.name.clone(),
            parts: parts.filter(|part| part.instructions != 0.0).collect(),
        })
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs a server through so many batches and ends it.
fn serve(launch: &Launch, cell: &Cell, batches: u64) -> io::Result<()> {
    let server = ServerProcess::start(launch)?;
    let mut load = load::of(cell, &server.address, 0)?;
    load.open()?;
    for _ in 0..batches {
        // Else a server that looks for the next request at once might find it, or not.
        server.fall_asleep()?;
        load.run(Until::Batch, Check::Contents)?;
    }
    server.terminate()?;
    Ok(())
}

fn batches(cell: &Cell) -> u64 {
    (OPERATIONS / operations(cell, 1)).max(BATCHES)
}

fn operations(cell: &Cell, batches: u64) -> u64 {
    let of_one = match cell.shape {
        Shape::Lines => LINES,
        Shape::Echo { pipelined, .. } => pipelined,
        Shape::Upload
        | Shape::Download { .. }
        | Shape::BulkEcho
        | Shape::Churn
        | Shape::Resumed => 1,
    };
    batches * (cell.connections * of_one) as u64
}

/// A line of strace's summary.
fn calls_and_name(line: &str) -> Option<(String, u64)> {
    let mut words = line.split_whitespace();
    let calls = words.next()?.parse().ok()?;
    Some((words.next()?.to_owned(), calls))
}

fn with_path(words: &[&str], path: &Path) -> Vec<String> {
    let words = words.iter().map(|&word| word.to_owned());
    words.chain([path.display().to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_line_by_line() {
        let summary =
            "    calls syscall\n--------- ---------\n        3 read\n---------\n        3 total\n";
        let calls: BTreeMap<_, _> = summary.lines().filter_map(calls_and_name).collect();
        assert_eq!(calls.len(), 2);
        assert_eq!(calls["read"], 3);
        assert_eq!(calls["total"], 3);
    }
}
