//! Made-up runs for the tests of the report.

use crate::cells::{self, Shape};
use crate::results::{CellResult, Count, Idle, Latency, Profile, ProfilePart, Run, TaskResult};

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
    for cell in cells::without_tls() {
        let bare = bare_cost(cell.connections, cell.shape);
        let cell = &*cell.name;
        for (participant, ratio) in PARTICIPANTS {
            let slow = cell.starts_with("lines") && !is_ours(participant);
            let mut factor = if slow { 11.0 * ratio } else { ratio };
            if cell == "c10000-64" && participant.starts_with("evloop") {
                factor *= 0.98;
            }
            set(&mut run, cell, participant, &[bare * factor; 7]);
        }
    }
    for (participant, polls, instructions) in [
        ("bare", 0.01, 132.0),
        ("evloop protocol", 0.01, 290.0),
        ("evloop streams", 0.011, 540.0),
        ("tokio", 0.01, 887.0),
    ] {
        count(&mut run, participant, "c1-1K", 2.0, 1.0, instructions);
        count(&mut run, participant, "c100-1K", 2.0, polls, instructions);
        count(&mut run, participant, "lines-c1", 0.125, 0.0625, 90.0);
        count(&mut run, participant, "lines-c10", 0.13, 0.01, 90.0);
        count(&mut run, participant, "churn-c10", 6.0, 1.0, 9000.0);
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
    for participant in ["evloop protocol", "evloop streams"] {
        let part = |n| ProfilePart {
            floor: format!("floor {}", n % 5),
            file: format!("src/floor/file_{n}.rs"),
            instructions: 20.0,
        };
        run.profiles.push(Profile {
            participant: participant.to_owned(),
            cell: "c100-1K".to_owned(),
            parts: (0..26).map(part).collect(),
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

/// All cells over TLS, with a fifth less spent than tokio-rustls spends.
pub fn run_over_tls() -> Run {
    let mut run = Run {
        rounds: 7,
        ..Run::default()
    };
    run.scope.cells = vec!["tls".to_owned()];
    for cell in cells::over_tls() {
        let theirs = 10_000.0;
        for (participant, ns) in [
            ("evloop protocol", theirs * 0.8),
            ("evloop streams", theirs * 0.8),
            ("tokio-rustls", theirs),
        ] {
            set(&mut run, &cell.name, participant, &[ns; 7]);
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

/// What the bare loop costs: the figures need only be plausible.
fn bare_cost(connections: usize, shape: Shape) -> f64 {
    let crowd = 1.0 + connections as f64 / 50_000.0;
    crowd
        * match shape {
            Shape::Echo { bytes, pipelined } => 5_000.0 / pipelined as f64 + bytes as f64 * 0.3,
            Shape::Lines => 360.0,
            Shape::Upload | Shape::Download { .. } => 90_000.0,
            Shape::BulkEcho => 210_000.0,
            Shape::Churn | Shape::Resumed => 33_600.0,
        }
}

/// `others` are the system calls that are no polls.
pub fn count(
    run: &mut Run,
    participant: &str,
    cell: &str,
    others: f64,
    polls: f64,
    instructions: f64,
) {
    run.counts.push(Count {
        participant: participant.to_owned(),
        cell: cell.to_owned(),
        system_calls: Some(others + polls),
        polls: Some(polls),
        instructions: Some(instructions),
        allocations: None,
    });
}
