//! The benchmark command: what a run does, in order.
#![forbid(unsafe_code)]

mod arguments;
mod callgrind;
mod cells;
mod check;
mod counts;
mod idle;
mod keep;
mod load;
mod machine;
mod participants;
mod processors;
mod profile;
mod programs;
mod report;
mod results;
mod rounds;
mod server_process;
mod shuffle;
mod without_sockets;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use evloop_benches::{contract, foreign, tools};

use crate::arguments::Arguments;
use crate::cells::Cell;
use crate::counts::{Counted, Counter};
use crate::keep::Keep;
use crate::participants::Participant;
use crate::processors::Processors;
use crate::programs::Programs;
use crate::results::Run;
use crate::rounds::{Bench, Effort};
use crate::shuffle::Shuffle;
use crate::without_sockets::{Entrant, Runtime};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.list {
        list();
        Ok(ExitCode::SUCCESS)
    } else {
        run(&arguments)
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    arguments.refuse_unknown_cells()?;
    arguments.refuse_partial_docs()?;
    if cfg!(debug_assertions) && arguments.render.is_none() {
        return Err("what a debug build costs says nothing: `cargo run --release`".into());
    }
    if arguments.check || arguments.accept {
        return check_counts(arguments);
    }
    let run = match &arguments.render {
        Some(file) => serde_json::from_slice(&fs::read(file)?)?,
        None => measure(arguments)?,
    };
    io::stdout().write_all(report::markdown(&run).as_bytes())?;
    if arguments.write_docs {
        report::write_docs(&run, &foreign::source(".."))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A whole run, or as much of it as was asked for. It is kept after each part.
fn measure(arguments: &Arguments) -> Result<Run, Box<dyn Error>> {
    let keep = Keep::at(arguments.save.as_deref())?;
    let mut left_out = Vec::new();
    let stage = Stage::set(arguments, &mut left_out)?;
    let began = Instant::now();
    let seed = arguments.seed.unwrap_or_else(Shuffle::fresh_seed);
    eprintln!("orders are drawn from --seed {seed}");
    let mut shuffle = Shuffle::new(seed);
    let mut run = Run {
        machine: machine::describe(&stage.programs),
        scope: arguments.scope(),
        rounds: arguments.rounds(),
        seed,
        left_out,
        ..Run::default()
    };
    let keep = |run: &mut Run| {
        run.seconds = began.elapsed().as_secs_f64();
        eprintln!("{:.0} s", run.seconds);
        keep.save(run)
    };
    let everything = !arguments.counts && !arguments.profile;
    if everything {
        stage.processors.pin_load()?;
        for cell in cells::all() {
            if arguments.wants_cell(&cell) {
                eprint!("{}: ", cell.name);
                stage.measure_cell(&cell, arguments, &mut shuffle, &mut run);
                keep(&mut run)?;
            }
        }
        if arguments.wants("idle") {
            eprint!("idle connections: ");
            stage.measure_idle(&mut run);
            keep(&mut run)?;
        }
    }
    if arguments.counts || everything && arguments.wants("counts") {
        let counted = stage.count(arguments.quick, &mut run.left_out)?;
        run.counts = counted.into_iter().map(|counted| counted.count).collect();
        keep(&mut run)?;
    }
    if arguments.profile || everything && arguments.wants("profile") {
        stage.profile(&mut run)?;
        keep(&mut run)?;
    }
    if everything && arguments.wants("tasks") {
        stage.processors.unpin()?;
        run.tasks = without_sockets::run(
            &stage.runtimes,
            run.rounds,
            stage.processors.server,
            &mut shuffle,
            &mut run.left_out,
        );
        keep(&mut run)?;
    }
    Ok(run)
}

/// `--counts --check` and `--counts --accept`.
fn check_counts(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let mut left_out = Vec::new();
    let stage = Stage::set(arguments, &mut left_out)?;
    let counted = stage.count(arguments.quick, &mut left_out)?;
    for sentence in &left_out {
        println!("{sentence}");
    }
    if arguments.accept {
        if !left_out.is_empty() {
            return Err("counts with gaps are not accepted".into());
        }
        check::accept(&counted)?;
        return Ok(ExitCode::SUCCESS);
    }
    let verdict = check::compare(&counted)?;
    print!("{}", verdict.text);
    Ok(if verdict.passed && left_out.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What every part of a run needs.
struct Stage {
    participants: Vec<Participant>,
    runtimes: Vec<Entrant>,
    programs: Programs,
    processors: Processors,
}

impl Stage {
    /// Chooses who takes part, builds every program, and starts each of them once. Who cannot run
    /// here is told in one sentence.
    fn set(arguments: &Arguments, left_out: &mut Vec<String>) -> Result<Self, Box<dyn Error>> {
        for tool in ["setpriv", "taskset", "chrt", "timeout"] {
            tools::find(tool)?;
        }
        contract::raise_descriptor_limit();
        let checked = check::PARTICIPANTS.map(str::to_owned);
        let only = if arguments.check || arguments.accept {
            &checked[..]
        } else if arguments.profile {
            &checked[1..]
        } else {
            &arguments.only
        };
        let mut participants = participants::ALL.to_vec();
        participants.retain(|one| one.is_among(only) && arguments.needs(one));
        if participants.is_empty() {
            return Err("no participant is called that; --list shows them".into());
        }
        let mut runtimes = without_sockets::RUNTIMES.to_vec();
        let tasks = arguments.wants("tasks") && !arguments.counts && !arguments.profile;
        runtimes.retain(|one| tasks && one.is_among(only));

        let servers = participants.iter().map(|one| one.program);
        let needed: Vec<_> = servers
            .chain(runtimes.iter().map(|one| one.program))
            .collect();
        let programs = Programs::prepare(&needed)?;
        let processors = Processors::find()?;
        participants.retain(|one| {
            rounds::try_out(one, &programs, &processors)
                .map_err(|reason| left_out.push(format!("{}: {reason}.", one.name)))
                .is_ok()
        });
        let entrant = |runtime: Runtime| {
            Entrant::try_out(runtime, &programs, processors.server)
                .map_err(|reason| {
                    left_out.push(format!("{} without sockets: {reason}.", runtime.name));
                })
                .ok()
        };
        Ok(Self {
            runtimes: runtimes.into_iter().filter_map(entrant).collect(),
            participants,
            programs,
            processors,
        })
    }

    fn measure_cell(
        &self,
        cell: &Cell,
        arguments: &Arguments,
        shuffle: &mut Shuffle,
        run: &mut Run,
    ) {
        let mut bench = Bench {
            programs: &self.programs,
            processors: &self.processors,
            effort: Effort::new(arguments.rounds(), arguments.quick),
            shuffle,
            descriptors: processors::descriptors(),
            left_out: &mut run.left_out,
        };
        run.cells.extend(bench.cell(cell, &self.participants));
    }

    fn measure_idle(&self, run: &mut Run) {
        run.idle = idle::measure(
            &self.participants,
            &self.programs,
            &self.processors,
            processors::descriptors(),
            &mut run.left_out,
        );
    }

    /// Counts what can be counted. A quick run spares the Python servers.
    fn count(&self, quick: bool, left_out: &mut Vec<String>) -> io::Result<Vec<Counted>> {
        Processors::pin(self.processors.server)?;
        let counter = Counter::new(&self.programs, self.processors.server, left_out)?;
        let cells = cells::without_tls();
        let mut counted = Vec::new();
        for participant in &self.participants {
            if !(quick && participant.is_python()) {
                counted.extend(counter.count(participant, &cells, left_out));
            }
        }
        Ok(counted)
    }

    /// Where our own instructions for an echo are.
    fn profile(&self, run: &mut Run) -> io::Result<()> {
        Processors::pin(self.processors.server)?;
        let counter = Counter::new(&self.programs, self.processors.server, &mut Vec::new())?;
        for participant in self.participants.iter().filter(|one| one.is_profiled()) {
            eprint!("profiling {}: ", participant.name);
            match counter.profile(participant) {
                Ok(profile) => run.profiles.push(profile),
                Err(reason) => run
                    .left_out
                    .push(format!("{}, profile: {reason}.", participant.name)),
            }
        }
        Ok(())
    }
}

fn list() {
    println!("Cells:");
    for cell in cells::all() {
        println!("  {}", cell.name);
    }
    println!("Other parts of a run:");
    for part in arguments::PARTS {
        println!("  {part}");
    }
    println!("Participants:");
    for participant in participants::ALL {
        println!("  {}", participant.name);
    }
}
