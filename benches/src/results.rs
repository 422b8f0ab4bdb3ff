//! What a run found out, as plain data.
//!
//! The measuring half of the command fills it and can save it; the reporting half draws tables
//! and plots from it, at once or later from the file. Figures are per operation, one for each
//! round, and are reduced to one number only where they are shown.

use serde::{Deserialize, Serialize};

/// Rounds below which nothing is said to be reached or missed.
pub const ROUNDS: usize = 7;

/// Everything that one run of the command measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    pub machine: Machine,
    #[serde(default)]
    pub scope: Scope,
    /// Interleaved rounds for each cell.
    pub rounds: usize,
    /// What the orders of the participants were drawn from.
    #[serde(default)]
    pub seed: u64,
    /// Wall-clock seconds that the whole run took.
    pub seconds: f64,
    pub cells: Vec<CellResult>,
    pub counts: Vec<Count>,
    #[serde(default)]
    pub profiles: Vec<Profile>,
    pub idle: Vec<Idle>,
    pub tasks: Vec<TaskResult>,
    /// Who or what was left out, and why, each a sentence.
    pub left_out: Vec<String>,
}

/// What was asked for, where it was less than everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    pub quick: bool,
    /// `--cell`.
    pub cells: Vec<String>,
    /// `--only`.
    pub only: Vec<String>,
}

/// Where it ran.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub rustc: String,
    /// The commit that was built, its date, and whether files had been changed since.
    #[serde(default)]
    pub commit: String,
    /// Name and version of each peer: `("tokio", "1.54.0")`.
    pub versions: Vec<(String, String)>,
    pub date: String,
}

/// One participant in one cell over sockets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellResult {
    /// The cell's name, as `--cell` takes it: `c100-1K`, `c10-64-p16`, `lines-c10`, `upload-c1`, …
    pub cell: String,
    /// The participant's name: `bare`, `mio`, `evloop protocol`, `tokio`, `asyncio streams`, …
    pub participant: String,
    /// The server's processor time per operation in nanoseconds, user and kernel, a figure for
    /// each round. An operation is an echo, a line, a connection (churn), or a MiB (bulk).
    pub cpu_ns: Vec<f64>,
    /// Round-trip times in microseconds over all rounds, where the cell has round trips.
    pub latency: Option<Latency>,
}

/// Round-trip times in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// Deterministic figures, per operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Count {
    pub participant: String,
    pub cell: String,
    /// `None` where the tool cannot run the participant, or is not there.
    pub system_calls: Option<f64>,
    /// Those of them that ask for events.
    #[serde(default)]
    pub polls: Option<f64>,
    pub instructions: Option<f64>,
    /// Calls of malloc and its kin; nothing where a runtime has a memory pool of its own.
    #[serde(default)]
    pub allocations: Option<f64>,
}

/// Where a server's user instructions for an operation of one cell are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Profile {
    pub participant: String,
    pub cell: String,
    pub parts: Vec<ProfilePart>,
}

/// Instructions per operation in one file, or in one function of the system's library.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProfilePart {
    /// A floor of the library, or `libc`, or `crate mio`.
    pub floor: String,
    pub file: String,
    pub instructions: f64,
}

/// Resident bytes for each of many idle connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Idle {
    pub participant: String,
    pub connections: usize,
    pub bytes: f64,
}

/// One participant in one measurement without sockets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskResult {
    /// As the programs' `--measure` takes it.
    pub name: String,
    pub participant: String,
    /// Processor nanoseconds per operation, a figure for each round.
    pub ns: Vec<f64>,
}
