//! Made-up runs for the tests of the report.

use crate::results::{CellResult, Count, Idle, Latency, Run, TaskResult};

/// Who takes part, with what it costs compared with the bare loop.
pub const PARTICIPANTS: [(&str, f64); 12] = [
    ("bare", 1.0),
    ("mio", 1.02),
    ("evloop protocol", 1.01),
    ("evloop streams", 1.06),
    ("tokio", 1.08),
    ("smol", 1.45),
    ("monoio uring", 1.15),
    ("libuv", 1.05),
    ("uvloop protocol", 1.3),
    ("uvloop streams", 1.9),
    ("asyncio protocol", 1.5),
    ("asyncio streams", 2.6),
];

const CELLS: [(&str, f64); 18] = [
    ("c1-64", 9_000.0),
    ("c10-64", 5_600.0),
    ("c100-64", 5_400.0),
    ("c1000-64", 7_100.0),
    ("c10000-64", 9_500.0),
    ("c1-1K", 9_100.0),
    ("c10-1K", 5_690.0),
    ("c100-1K", 5_510.0),
    ("c10-10K", 8_000.0),
    ("c10-64K", 20_000.0),
    ("c10-100K", 29_600.0),
    ("c10-1M", 310_000.0),
    ("c10-64-p16", 350.0),
    ("lines-c10", 360.0),
    ("upload-c1", 90_000.0),
    ("bulkecho-c1", 210_000.0),
    ("churn-c10", 33_600.0),
    ("c100-10K", 7_900.0),
];

const TASKS: [(&str, f64); 8] = [
    ("spawn_await", 110.0),
    ("spawn_batch", 80.0),
    ("yield", 20.0),
    ("call_soon", 30.0),
    ("timer", 60.0),
    ("timer_10000", 160.0),
    ("sleeps", 900.0),
    ("cross_thread", 50.0),
];

/// All cells, all participants, and every figure reached.
pub fn run() -> Run {
    let mut run = Run {
        rounds: 7,
        seconds: 1800.0,
        ..Run::default()
    };
    for (cell, bare) in CELLS {
        for (participant, ratio) in PARTICIPANTS {
            let slow = cell.starts_with("lines") && !is_ours(participant);
            let factor = if slow { 11.0 * ratio } else { ratio };
            set(&mut run, cell, participant, &[bare * factor; 7]);
        }
    }
    for (participant, calls, instructions) in [
        ("bare", 2.15, 132.0),
        ("evloop protocol", 2.15, 290.0),
        ("evloop streams", 2.16, 540.0),
        ("tokio", 2.14, 887.0),
    ] {
        count(&mut run, participant, "c1-1K", 3.0, instructions);
        count(&mut run, participant, "c100-1K", calls, instructions);
        count(&mut run, participant, "lines-c10", 0.14, 90.0);
        count(&mut run, participant, "churn-c10", 7.0, 9000.0);
        let bytes = if participant == "tokio" {
            2372.0
        } else {
            480.0
        };
        run.idle.push(Idle {
            participant: participant.to_owned(),
            connections: 10_000,
            bytes,
        });
    }
    for (name, ns) in TASKS {
        let ours = if name == "call_soon" { ns * 0.4 } else { ns };
        for (participant, ns) in [("evloop", ours), ("tokio", ns * 1.5), ("monoio", ns * 1.1)] {
            run.tasks.push(TaskResult {
                name: name.to_owned(),
                participant: participant.to_owned(),
                ns: vec![ns; 7],
            });
        }
    }
    run
}

/// Replaces or adds the rounds of one participant in one cell.
pub fn set(run: &mut Run, cell: &str, participant: &str, rounds: &[f64]) {
    run.cells
        .retain(|result| result.cell != cell || result.participant != participant);
    run.cells.push(CellResult {
        cell: cell.to_owned(),
        participant: participant.to_owned(),
        cpu_ns: rounds.to_vec(),
        latency: cell.starts_with('c').then_some(Latency {
            p50: 21.0,
            p99: 48.5,
            p999: 130.0,
        }),
    });
}

fn is_ours(participant: &str) -> bool {
    participant == "bare" || participant.starts_with("evloop")
}

fn count(run: &mut Run, participant: &str, cell: &str, system_calls: f64, instructions: f64) {
    run.counts.push(Count {
        participant: participant.to_owned(),
        cell: cell.to_owned(),
        system_calls: Some(system_calls),
        instructions: Some(instructions),
        allocations: None,
    });
}
