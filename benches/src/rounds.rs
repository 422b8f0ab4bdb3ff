//! The measuring of cells: interleaved rounds, so that whatever else the machine does while a
//! cell is measured is shared by all participants; each round in an order of its own.

use std::io;
use std::time::Duration;

use evloop_benches::contract::Transport;

use crate::cells::{Cell, MIB, Shape};
use crate::load::{self, Check, Load, Until};
use crate::participants::{Participant, Takes};
use crate::processors::Processors;
use crate::programs::Programs;
use crate::results::CellResult;
use crate::server_process::{Launch, ServerProcess};
use crate::shuffle::Shuffle;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    /// How long a participant is measured in a round.
    pub slice: Duration,
    /// Bytes moved in a slice of a bulk cell.
    pub bulk: usize,
}

impl Effort {
    pub fn new(rounds: usize, quick: bool) -> Self {
        Self {
            rounds,
            slice: Duration::from_millis(if quick { 120 } else { 200 }),
            bulk: if quick { 128 } else { 256 } * MIB,
        }
    }
}

/// What the run of one cell needs to know.
pub struct Bench<'a> {
    pub programs: &'a Programs,
    pub processors: &'a Processors,
    pub effort: Effort,
    pub shuffle: &'a mut Shuffle,
    /// Descriptors that this process may have open.
    pub descriptors: usize,
    /// Who or what is left out, and why.
    pub left_out: &'a mut Vec<String>,
}

/// A participant while its cell is measured.
struct Entrant {
    name: &'static str,
    server: ServerProcess,
    /// Those that the server has open without a connection.
    sockets: usize,
    load: Box<dyn Load>,
    cpu_ns: Vec<f64>,
}

/// Descriptors that are open for other reasons than connections.
const OTHER_DESCRIPTORS: usize = 200;

impl Bench<'_> {
    /// Measures a cell. Who cannot take part is left out with a sentence.
    pub fn cell(&mut self, cell: &Cell, participants: &[Participant]) -> Vec<CellResult> {
        let needed = cell.connections + OTHER_DESCRIPTORS;
        if needed > self.descriptors {
            self.left_out.push(format!(
                "Cell {} needs {needed} descriptors, and the limit is {}.",
                cell.name, self.descriptors
            ));
            return Vec::new();
        }
        let mut entrants: Vec<_> = participants
            .iter()
            .filter_map(|participant| self.enter(cell, participant))
            .collect();
        let all_open = cell.connections * entrants.len() + OTHER_DESCRIPTORS;
        let keep_open = all_open <= self.descriptors;

        self.each(cell, &mut entrants, |entrant, effort| {
            // Everything is looked at once, and nothing of it counts.
            entrant.slice(effort.slice, Check::Contents)?;
            entrant.cpu_ns.clear();
            if let Some(times) = entrant.load.times() {
                times.clear();
            }
            entrant.rest(keep_open)
        });
        for _ in 0..self.effort.rounds {
            self.shuffle.shuffle(&mut entrants);
            self.each(cell, &mut entrants, |entrant, effort| {
                entrant.slice(effort.slice, Check::Lengths)?;
                entrant.rest(keep_open)
            });
        }
        let mut results: Vec<_> = entrants
            .into_iter()
            .map(|entrant| entrant.result(cell))
            .collect();
        results.sort_by_key(|result| {
            participants
                .iter()
                .position(|one| one.name == result.participant)
        });
        results
    }

    /// Starts a participant's server for this cell.
    fn enter(&mut self, cell: &Cell, participant: &Participant) -> Option<Entrant> {
        if participant.takes == Takes::CountsOfEcho {
            return None;
        }
        participant.work(cell.transport, cell.shape)?;
        let start = || -> Result<Entrant, String> {
            let command_line =
                self.programs
                    .command_line(participant, cell.transport, cell.shape)?;
            let launch = Launch::plain(self.processors.server, command_line);
            let server = ServerProcess::start(&launch).map_err(|error| error.to_string())?;
            let limit = server
                .descriptor_limit()
                .map_err(|error| error.to_string())?;
            if limit < (cell.connections + OTHER_DESCRIPTORS) as u64 {
                return Err(format!("may open {limit} descriptors only"));
            }
            let load = load::of(cell, &server.address, self.effort.bulk)
                .map_err(|error| error.to_string())?;
            Ok(Entrant {
                name: participant.name,
                sockets: server.sockets().map_err(|error| error.to_string())?,
                server,
                load,
                cpu_ns: Vec::new(),
            })
        };
        start()
            .map_err(|reason| self.leave_out(cell, participant.name, &reason))
            .ok()
    }

    /// Does something with every entrant; who fails is out.
    fn each(
        &mut self,
        cell: &Cell,
        entrants: &mut Vec<Entrant>,
        mut action: impl FnMut(&mut Entrant, Effort) -> io::Result<()>,
    ) {
        let effort = self.effort;
        entrants.retain_mut(|entrant| match action(entrant, effort) {
            Ok(()) => true,
            Err(error) => {
                let words = entrant.server.last_words();
                let reason = match words.lines().next_back() {
                    Some(line) => format!("{error} ({line})"),
                    None => error.to_string(),
                };
                self.leave_out(cell, entrant.name, &reason);
                false
            }
        });
    }

    fn leave_out(&mut self, cell: &Cell, name: &str, reason: &str) {
        let sentence = format!("{name} in {}: {reason}.", cell.name);
        eprintln!("left out: {sentence}");
        self.left_out.push(sentence);
    }
}

/// Starts a participant's server once, before the clock does: whoever cannot run here is left out
/// with one sentence and not with one for each cell.
pub fn try_out(
    participant: &Participant,
    programs: &Programs,
    processors: &Processors,
) -> Result<(), String> {
    let shape = match participant.takes {
        Takes::LinesBuffered => Shape::Lines,
        // Any echo will do.
        Takes::Everything | Takes::CountsOfEcho | Takes::Tls => Shape::Churn,
    };
    let listen = match participant.takes {
        Takes::Tls => Transport::Tls,
        _ => Transport::Tcp,
    };
    let command_line = programs.command_line(participant, listen, shape)?;
    ServerProcess::start(&Launch::plain(processors.server, command_line))
        .map(drop)
        .map_err(|error| error.to_string())
}

impl Entrant {
    /// One measurement: opening is not part of it, and it ends when the server has gone silent.
    fn slice(&mut self, time: Duration, check: Check) -> io::Result<()> {
        self.load.open()?;
        let before = self.server.settled_cpu()?;
        let operations = self.load.run(Until::Elapsed(time), check)?;
        let spent = self.server.settled_cpu()? - before;
        self.cpu_ns
            .push(spent.as_nanos() as f64 / operations as f64);
        Ok(())
    }

    /// Gives the processor to the next one: closing thousands of connections takes a while, and
    /// none of it may fall into another's slice.
    fn rest(&mut self, keep_open: bool) -> io::Result<()> {
        if keep_open {
            return Ok(());
        }
        self.load.close();
        self.server.close_all_but(self.sockets)
    }

    fn result(mut self, cell: &Cell) -> CellResult {
        // Bulk is counted in bytes and shown in MiB.
        let unit = match cell.shape {
            Shape::Upload | Shape::Download { .. } | Shape::BulkEcho => MIB as f64,
            Shape::Echo { .. } | Shape::Lines | Shape::Churn | Shape::Resumed => 1.0,
        };
        CellResult {
            cell: cell.name.clone(),
            participant: self.name.to_owned(),
            cpu_ns: self.cpu_ns.iter().map(|ns| ns * unit).collect(),
            latency: self.load.times().and_then(|times| times.latency()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_measures_for_a_shorter_time_and_not_in_another_way() {
        let (whole, quick) = (Effort::new(9, false), Effort::new(4, true));
        assert_eq!((whole.rounds, quick.rounds), (9, 4));
        assert_eq!(whole.slice, Duration::from_millis(200));
        assert_eq!(quick.slice, Duration::from_millis(120));
        assert!(quick.bulk < whole.bulk);
    }
}
