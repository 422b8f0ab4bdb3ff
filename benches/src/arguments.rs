//! The command line.

use std::path::PathBuf;

use clap::Parser;

use evloop_benches::contract::Transport;

use crate::cells::{self, Cell};
use crate::participants::{Participant, Takes};
use crate::results::{ROUNDS, Scope};

/// What `--cell` takes besides the cells' names.
pub const PARTS: [&str; 5] = ["idle", "counts", "profile", "tasks", TLS];

/// The name of all cells over TLS, which are a run of their own with a page of its own.
pub const TLS: &str = "tls";

/// Measures evloop beside a bare epoll loop and its peers, and prints the tables as Markdown.
///
/// Servers run on the first processor, the load on the last one. For each cell the servers of all
/// participants are started once; each round measures every one of them for a moment, in an order
/// that is drawn anew. Cells over sockets come first, then resident bytes of idle
/// connections, then counts (system calls, instructions, allocations) and a profile of our own
/// instructions, then what needs no socket.
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

    /// Measure this cell only; may be given more than once. `idle`, `counts`, `profile` and
    /// `tasks` name the other parts of a run; `tls` all cells over TLS, which no other run has.
    #[arg(long = "cell", value_name = "NAME")]
    pub cells: Vec<String>,

    /// Measure these participants only. The first word is enough: `evloop` is both of its APIs.
    #[arg(long, value_name = "PARTICIPANT", value_delimiter = ',')]
    pub only: Vec<String>,

    /// Show the names of all cells and participants, and measure nothing.
    #[arg(long)]
    pub list: bool,

    /// Interleaved rounds for each cell; 7 unless `--quick` makes it 4.
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,

    /// The seed of the orders, to repeat those of another run.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Keep what was measured in this file, as JSON: after each part, and at the end.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,

    /// Measure nothing and show what `--save` kept.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "cells", "only", "rounds", "seed", "save", "counts", "profile"])]
    pub render: Option<PathBuf>,

    /// The counts alone: they are the same in every run, however busy the machine is.
    #[arg(long)]
    pub counts: bool,

    /// The profile alone: where our own instructions for an echo are.
    #[arg(long, conflicts_with_all = ["counts", "cells", "only"])]
    pub profile: bool,

    /// Compare the counts of evloop and the bare loop with `counts.json`; more than a tenth above
    /// is a failure.
    #[arg(long, requires = "counts", conflicts_with = "only")]
    pub check: bool,

    /// Write the counts of evloop and the bare loop to `counts.json`.
    #[arg(long, requires = "counts", conflicts_with_all = ["check", "only"])]
    pub accept: bool,

    /// Put tables and plots into the repository's docs/performance.md: those of a whole run only,
    /// of seven rounds at least; with `--cell tls` into docs/performance-tls.md.
    #[arg(long)]
    pub write_docs: bool,
}

impl Arguments {
    pub fn rounds(&self) -> usize {
        let usual = if self.quick { 4 } else { ROUNDS };
        self.rounds.unwrap_or(usual).max(1)
    }

    /// What the tables will have to say about themselves.
    pub fn scope(&self) -> Scope {
        Scope {
            quick: self.quick,
            cells: self.cells.clone(),
            only: self.only.clone(),
        }
    }

    /// A part of a run is no run to be published. Said before anything is measured.
    pub fn refuse_partial_docs(&self) -> Result<(), String> {
        if !self.write_docs || self.render.is_some() {
            return Ok(());
        }
        let reason = if self.quick {
            "--quick leaves cells out"
        } else if !self.cells.is_empty() && self.cells != [TLS] {
            "--cell leaves cells out"
        } else if !self.only.is_empty() {
            "--only leaves participants out"
        } else if self.counts {
            "--counts measures nothing else"
        } else if self.profile {
            "--profile measures nothing else"
        } else if self.rounds() < ROUNDS {
            "it has too few rounds"
        } else {
            return Ok(());
        };
        Err(format!(
            "--write-docs is for a whole run of {ROUNDS} rounds or more, and this is none: {reason}"
        ))
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
        if cell.transport == Transport::Tls {
            let named = |name: &str| self.cells.iter().any(|cell| cell == name);
            return named(TLS) || named(&cell.name);
        }
        self.wants(&cell.name) && (cell.quick || !self.quick || !self.cells.is_empty())
    }

    /// Whether somebody is needed for a run: where cells over TLS are all of it, who has TLS, and
    /// where none are, who has something else.
    pub fn needs(&self, participant: &Participant) -> bool {
        let over_tls = |name: &String| name.starts_with(TLS);
        let nothing_else = !self.cells.is_empty() && self.cells.iter().all(over_tls);
        match participant.takes {
            Takes::Tls => self.cells.iter().any(over_tls),
            _ => participant.has_tls() || !nothing_else,
        }
    }

    /// Whether a part of the run, or a cell, was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.cells.is_empty() || self.cells.iter().any(|cell| cell == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Arguments {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        Arguments::try_parse_from(words).expect(line)
    }

    #[test]
    fn a_quick_run_spares_cells_and_one_that_is_asked_for_is_measured_all_the_same() {
        let cells = cells::all();
        let wanted = |line: &str| {
            let arguments = parse(line);
            let wanted = cells.iter().filter(|cell| arguments.wants_cell(cell));
            wanted.map(|cell| &*cell.name).collect::<Vec<_>>()
        };
        assert_eq!(wanted("").len(), cells::without_tls().len());
        assert_eq!(wanted("--cell tls").len(), cells::over_tls().len());
        assert_eq!(wanted("--cell tls-c1-1K"), ["tls-c1-1K"]);
        let quick = wanted("--quick");
        assert!(
            quick.contains(&"c100-1K") && !quick.contains(&"c10000-64"),
            "{quick:?}"
        );
        assert_eq!(wanted("--quick --cell c10000-64"), ["c10000-64"]);
        assert!(wanted("--cell idle").is_empty());
        assert!(parse("--cell idle").wants("idle") && !parse("--cell idle").wants("tasks"));
    }

    #[test]
    fn rounds_are_fewer_in_a_quick_run_and_never_none() {
        let rounds = |line| parse(line).rounds();
        assert_eq!(rounds(""), 7);
        assert_eq!(rounds("--quick"), 4);
        assert_eq!(rounds("--quick --rounds 2"), 2);
        assert_eq!(rounds("--rounds 0"), 1);
    }

    #[test]
    fn a_name_that_nothing_has_is_refused() {
        assert!(
            parse("--cell c1-1K --cell tasks")
                .refuse_unknown_cells()
                .is_ok()
        );
        let refused = parse("--cell c1-1k").refuse_unknown_cells().unwrap_err();
        assert_eq!(refused, "no cell is called c1-1k; --list shows them");
    }

    #[test]
    fn pages_are_written_from_whole_runs_only() {
        let refusal = |line: &str| parse(line).refuse_partial_docs();
        assert_eq!(refusal("--write-docs"), Ok(()));
        assert_eq!(refusal("--write-docs --rounds 7"), Ok(()));
        assert_eq!(refusal("--write-docs --cell tls"), Ok(()));
        assert_eq!(refusal("--quick --cell c1-1K"), Ok(()));
        for (line, reason) in [
            ("--quick", "--quick leaves cells out"),
            ("--cell idle", "--cell leaves cells out"),
            ("--only bare,evloop", "--only leaves participants out"),
            ("--rounds 6", "it has too few rounds"),
            ("--counts", "--counts measures nothing else"),
            ("--profile", "--profile measures nothing else"),
        ] {
            let refused = refusal(&format!("--write-docs {line}")).unwrap_err();
            assert!(refused.ends_with(reason), "{line}: {refused}");
        }
    }
}
