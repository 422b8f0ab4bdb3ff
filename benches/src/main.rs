//! The benchmark command: what a run does, in order.
#![forbid(unsafe_code)]

mod arguments;
mod cells;
mod load;
mod participants;
mod processors;
mod programs;
mod results;
mod rounds;
mod server_process;

use std::error::Error;
use std::fs;
use std::time::Instant;

use clap::Parser;
use evloop_benches::contract;

use crate::arguments::Arguments;
use crate::participants::Participant;
use crate::processors::Processors;
use crate::programs::Programs;
use crate::results::Run;
use crate::rounds::{Bench, Effort};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.list {
        list();
        return Ok(());
    }
    let run = match &arguments.render {
        Some(file) => serde_json::from_slice(&fs::read(file)?)?,
        None => measure(&arguments)?,
    };
    if let Some(file) = &arguments.save {
        fs::write(file, serde_json::to_vec_pretty(&run)?)?;
    }
    for cell in &run.cells {
        let mut sorted = cell.cpu_ns.clone();
        sorted.sort_by(f64::total_cmp);
        println!("{:14} {:18} {:10.0} {:?} {:?}", cell.cell, cell.participant, sorted[sorted.len()/4], cell.latency.map(|l| (l.p50, l.p99)), cell.cpu_ns.iter().map(|x| *x as u64).collect::<Vec<_>>());
    }
    println!("{:#?}", run.left_out);
    Ok(())
}

/// A whole run, or as much of it as was asked for.
fn measure(arguments: &Arguments) -> Result<Run, Box<dyn Error>> {
    let began = Instant::now();
    contract::raise_descriptor_limit();
    let participants: Vec<Participant> = participants::ALL
        .into_iter()
        .filter(|one| one.is_among(&arguments.only))
        .collect();
    let programs = Programs::prepare(&participants)?;
    let processors = Processors::find()?;
    Processors::pin(processors.load)?;

    let mut run = Run {
        rounds: arguments.rounds(),
        ..Run::default()
    };
    let mut bench = Bench {
        programs: &programs,
        processors: &processors,
        effort: Effort::new(arguments.rounds(), arguments.quick),
        descriptors: processors::descriptors(),
        left_out: &mut run.left_out,
    };
    let cells: Vec<_> = cells::all()
        .into_iter()
        .filter(|cell| arguments.wants(&cell.name) && (cell.quick || !arguments.quick))
        .collect();
    for (index, cell) in cells.iter().enumerate() {
        eprintln!("{}/{} {} ({:.0} s)", index + 1, cells.len(), cell.name, began.elapsed().as_secs_f64());
        run.cells.extend(bench.cell(cell, &participants));
    }
    run.seconds = began.elapsed().as_secs_f64();
    Ok(run)
}

fn list() {
    println!("Cells:");
    for cell in cells::all() {
        println!("  {}", cell.name);
    }
    println!("Other parts of a run:\n  idle\n  counts\n  tasks");
    println!("Participants:");
    for participant in participants::ALL {
        println!("  {}", participant.name);
    }
}
