//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::cells::{self, Cell};

/// What `--cell` takes besides the cells' names.
pub const PARTS: [&str; 3] = ["idle", "counts", "tasks"];

/// Measures evloop beside a bare epoll loop and its peers, and prints the tables as Markdown.
///
/// Servers run on the first processor, the load on the last one. For each cell the servers of all
/// participants are started once; each round measures every one of them for a moment, in an order
/// that rotates from round to round. Cells over sockets come first, then resident bytes of idle
/// connections, then counts (system calls, instructions, allocations), then what needs no socket.
///
/// It needs Linux, two processors, and util-linux. strace, valgrind, python3, cc with libuv's
/// headers (Debian package libuv1-dev) and io_uring are used where they are; what had to be left
/// out is named at the end.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub struct Arguments {
    /// Fewer cells, fewer and shorter rounds: at most eight minutes.
    #[arg(long)]
    pub quick: bool,

    /// Measure this cell only; may be given more than once. `idle`, `counts` and `tasks` name the
    /// other parts of a run.
    #[arg(long = "cell", value_name = "NAME")]
    pub cells: Vec<String>,

    /// Measure these participants only. The first word is enough: `evloop` is both of its APIs.
    #[arg(long, value_name = "PARTICIPANT", value_delimiter = ',')]
    pub only: Vec<String>,

    /// Show the names of all cells and participants, and measure nothing.
    #[arg(long)]
    pub list: bool,

    /// Interleaved rounds for each cell; 9 unless `--quick` makes it 4.
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,

    /// Keep what was measured in this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,

    /// Measure nothing and show what `--save` kept.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "cells", "only", "rounds", "save", "counts"])]
    pub render: Option<PathBuf>,

    /// The counts alone: they are the same in every run, however busy the machine is.
    #[arg(long)]
    pub counts: bool,

    /// Compare the counts of evloop and the bare loop with `counts.json`; more than a tenth above
    /// is a failure.
    #[arg(long, requires = "counts", conflicts_with = "only")]
    pub check: bool,

    /// Write the counts of evloop and the bare loop to `counts.json`.
    #[arg(long, requires = "counts", conflicts_with_all = ["check", "only"])]
    pub accept: bool,

    /// Put tables and plots into the repository's docs/performance.md.
    #[arg(long)]
    pub write_docs: bool,
}

impl Arguments {
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 4 } else { 9 }).max(1)
    }

    /// A name that nothing has would be a run that measures nothing.
    pub fn refuse_unknown_cells(&self) -> Result<(), String> {
        let cells = cells::all();
        let known =
            |name: &str| PARTS.contains(&name) || cells.iter().any(|cell| cell.name == name);
        match self.cells.iter().find(|name| !known(name)) {
            Some(name) => Err(format!("no cell is called {name}; --list shows them")),
            None => Ok(()),
        }
    }

    /// Whether a cell is measured: one that was asked for, or all that suit the effort.
    pub fn wants_cell(&self, cell: &Cell) -> bool {
        self.wants(&cell.name) && (cell.quick || !self.quick || !self.cells.is_empty())
    }

    /// Whether a part of the run, or a cell, was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.cells.is_empty() || self.cells.iter().any(|cell| cell == name)
    }
}
