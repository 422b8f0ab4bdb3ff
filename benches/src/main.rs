//! The benchmark command: what a run does, in order.
#![forbid(unsafe_code)]

mod arguments;
mod callgrind;
mod cells;
mod check;
mod counts;
mod idle;
mod load;
mod machine;
mod participants;
mod processors;
mod programs;
mod report;
mod results;
mod rounds;
mod server_process;
mod without_sockets;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use evloop_benches::{contract, foreign};

use crate::arguments::Arguments;
use crate::cells::Cell;
use crate::counts::{Counted, Counter};
use crate::participants::Participant;
use crate::processors::Processors;
use crate::programs::Programs;
use crate::results::Run;
use crate::rounds::{Bench, Effort};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.list {
        return list();
    }
    if arguments.check || arguments.accept {
        return check_counts(&arguments);
    }
    arguments.refuse_unknown_cells()?;
    if cfg!(debug_assertions) && arguments.render.is_none() {
        return Err("what a debug build costs says nothing: `cargo run --release`".into());
    }
    let run = match &arguments.render {
        Some(file) => serde_json::from_slice(&fs::read(file)?)?,
        None => measure(&arguments)?,
    };
    io::stdout().write_all(report::markdown(&run).as_bytes())?;
    if let Some(file) = &arguments.save {
        fs::write(file, serde_json::to_vec_pretty(&run)?)?;
    }
    if arguments.write_docs {
        report::write_docs(&run, &foreign::source(".."))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A whole run, or as much of it as was asked for.
fn measure(arguments: &Arguments) -> Result<Run, Box<dyn Error>> {
    let began = Instant::now();
    let stage = Stage::set(arguments)?;
    let mut run = Run {
        machine: machine::describe(&stage.programs),
        rounds: arguments.rounds(),
        ..Run::default()
    };
    if !arguments.counts {
        stage.processors.pin_load()?;
        measure_cells(arguments, &stage, &mut run, began);
        if arguments.wants("idle") {
            eprintln!("idle connections ({} s)", began.elapsed().as_secs());
            run.idle = idle::measure(
                &stage.participants,
                &stage.programs,
                &stage.processors,
                processors::descriptors(),
                &mut run.left_out,
            );
        }
    }
    if arguments.counts || arguments.wants("counts") {
        let counted = stage.count(arguments.quick, &mut run.left_out)?;
        run.counts = counted.into_iter().map(|counted| counted.count).collect();
    }
    if !arguments.counts && arguments.wants("tasks") {
        stage.processors.unpin()?;
        let (folder, core) = (stage.programs.folder(), stage.processors.server);
        run.tasks = without_sockets::run(arguments, folder, core, &mut run.left_out);
    }
    run.seconds = began.elapsed().as_secs_f64();
    Ok(run)
}

fn measure_cells(arguments: &Arguments, stage: &Stage, run: &mut Run, began: Instant) {
    let cells: Vec<Cell> = cells::all()
        .into_iter()
        .filter(|cell| arguments.wants_cell(cell))
        .collect();
    let mut bench = Bench {
        programs: &stage.programs,
        processors: &stage.processors,
        effort: Effort::new(arguments.rounds(), arguments.quick),
        descriptors: processors::descriptors(),
        left_out: &mut run.left_out,
    };
    for (index, cell) in cells.iter().enumerate() {
        let (number, seconds) = (index + 1, began.elapsed().as_secs());
        eprintln!("{number}/{}: {} ({seconds} s)", cells.len(), cell.name);
        run.cells.extend(bench.cell(cell, &stage.participants));
    }
}

/// `--counts --check` and `--counts --accept`.
fn check_counts(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Err("the committed counts are those of `cargo run --release`".into());
    }
    let stage = Stage::set(arguments)?;
    let mut left_out = Vec::new();
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
    programs: Programs,
    processors: Processors,
}

impl Stage {
    /// Chooses the participants and builds their servers.
    fn set(arguments: &Arguments) -> Result<Self, Box<dyn Error>> {
        contract::raise_descriptor_limit();
        let only = if arguments.check || arguments.accept {
            &check::PARTICIPANTS.map(str::to_owned)[..]
        } else {
            &arguments.only
        };
        let participants: Vec<_> = participants::ALL
            .into_iter()
            .filter(|one| one.is_among(only))
            .collect();
        if participants.is_empty() {
            return Err("no participant is called that; --list shows them".into());
        }
        Ok(Self {
            programs: Programs::prepare(&participants)?,
            processors: Processors::find()?,
            participants,
        })
    }

    /// Counts what can be counted. A quick run spares the Python servers.
    fn count(&self, quick: bool, left_out: &mut Vec<String>) -> io::Result<Vec<Counted>> {
        Processors::pin(self.processors.server)?;
        let counter = Counter::new(&self.programs, self.processors.server, left_out)?;
        let cells = cells::all();
        let mut counted = Vec::new();
        for participant in &self.participants {
            if !(quick && participant.is_python()) {
                counted.extend(counter.count(participant, &cells, left_out));
            }
        }
        Ok(counted)
    }
}

fn list() -> Result<ExitCode, Box<dyn Error>> {
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
    Ok(ExitCode::SUCCESS)
}
