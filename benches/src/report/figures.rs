//! A run, looked up: one figure for each participant in each cell, and ratios of these.

use std::collections::HashMap;

use crate::report::cell::{Cell, Kind};
use crate::report::reduce::{geometric_mean, lower_quartile};
use crate::results::{Count, Run};

pub const BARE: &str = "bare";
pub const PROTOCOL: &str = "evloop protocol";
pub const STREAMS: &str = "evloop streams";

/// A ratio of processor times between these says nothing: the machine is not quieter than that.
pub const TIE: std::ops::RangeInclusive<f64> = 0.9..=1.1;

/// Those whose best is compared with in each cell, by the first word of their names.
const PEERS: [&str; 4] = ["tokio", "smol", "monoio", "libuv"];

/// The order of columns and legends; who is not in it comes last.
pub const ORDER: [&str; 10] = [
    BARE, "mio", "evloop", "tokio", "smol", "monoio", "glommio", "libuv", "uvloop", "asyncio",
];

/// A run with its rounds reduced.
pub struct Figures<'a> {
    pub run: &'a Run,
    /// In the order in which the run has them.
    pub cells: Vec<Cell>,
    /// Processor nanoseconds per operation, by cell and participant.
    costs: HashMap<(&'a str, &'a str), f64>,
    /// The same without sockets.
    tasks: HashMap<(&'a str, &'a str), f64>,
}

impl<'a> Figures<'a> {
    pub fn new(run: &'a Run) -> Self {
        let costs = run.cells.iter().filter_map(|result| {
            let cost = lower_quartile(&result.cpu_ns)?;
            Some(((&*result.cell, &*result.participant), cost))
        });
        let tasks = run.tasks.iter().filter_map(|result| {
            let cost = lower_quartile(&result.ns)?;
            Some(((&*result.name, &*result.participant), cost))
        });
        let names = distinct(run.cells.iter().map(|result| &*result.cell));
        Self {
            run,
            cells: names.into_iter().map(Cell::parse).collect(),
            costs: costs.collect(),
            tasks: tasks.collect(),
        }
    }

    /// Processor nanoseconds per operation.
    pub fn cost(&self, cell: &str, participant: &str) -> Option<f64> {
        self.costs.get(&(cell, participant)).copied()
    }

    /// The same in microseconds.
    pub fn micros(&self, cell: &str, participant: &str) -> Option<f64> {
        Some(self.cost(cell, participant)? / 1_000.0)
    }

    pub fn ratio(&self, cell: &str, participant: &str, to: &str) -> Option<f64> {
        Some(self.cost(cell, participant)? / self.cost(cell, to)?)
    }

    /// The cheapest of the peers in this cell, each as its documentation would write it: one
    /// whose buffering is written by hand is shown in the tables and not compared with here.
    pub fn best_peer(&self, cell: &str) -> Option<&'a str> {
        let costs = self.costs.iter().filter(|((at, participant), _)| {
            *at == cell && PEERS.contains(&family(participant)) && !is_buffered(participant)
        });
        let best = costs.min_by(|a, b| a.1.total_cmp(b.1))?;
        Some(best.0.1)
    }

    pub fn cells_where(&self, condition: impl Fn(&Cell) -> bool) -> Vec<&Cell> {
        self.cells.iter().filter(|cell| condition(cell)).collect()
    }

    pub fn cells_of(&self, kind: Kind) -> Vec<&Cell> {
        self.cells_where(|cell| cell.kind == kind && cell.transport == "tcp")
    }

    /// Of the ratios in these cells, where both ran.
    pub fn mean_ratio(&self, cells: &[&Cell], participant: &str, to: &str) -> Option<f64> {
        let ratios = cells
            .iter()
            .filter_map(|cell| self.ratio(&cell.name, participant, to));
        geometric_mean(ratios)
    }

    /// The same against the best peer of each cell.
    pub fn mean_to_best(&self, cells: &[&Cell], participant: &str) -> Option<f64> {
        let ratios = cells.iter().filter_map(|cell| {
            let best = self.best_peer(&cell.name)?;
            self.ratio(&cell.name, participant, best)
        });
        geometric_mean(ratios)
    }

    /// Who has a figure in one of these cells.
    pub fn participants(&self, cells: &[&Cell]) -> Vec<&'a str> {
        let results = self.run.cells.iter();
        let names = results
            .filter(|result| cells.iter().any(|cell| cell.name == result.cell))
            .filter(|result| self.cost(&result.cell, &result.participant).is_some())
            .map(|result| &*result.participant);
        in_order(names)
    }

    /// Cells of 10 and of 10,000 connections that are the same otherwise.
    pub fn growth_cells(&self) -> Option<(&Cell, &Cell)> {
        let with = |connections| {
            self.cells_where(move |cell| {
                cell.is_request_response() && cell.connections == Some(connections)
            })
        };
        let few = with(10);
        with(10_000).into_iter().find_map(|many| {
            let few = few.iter().find(|few| few.bytes == many.bytes)?;
            Some((*few, many))
        })
    }

    /// By how much an operation costs more with 10,000 connections than with 10.
    pub fn growth(&self, participant: &str) -> Option<f64> {
        let (few, many) = self.growth_cells()?;
        Some(self.cost(&many.name, participant)? / self.cost(&few.name, participant)?)
    }

    pub fn task(&self, name: &str, participant: &str) -> Option<f64> {
        self.tasks.get(&(name, participant)).copied()
    }

    /// The same of evloop.
    pub fn our_task(&self, name: &str) -> Option<f64> {
        let ours = self.task_participants();
        let mut ours = ours.into_iter().filter(|who| family(who) == "evloop");
        ours.find_map(|who| self.task(name, who))
    }

    pub fn task_participants(&self) -> Vec<&'a str> {
        in_order(self.run.tasks.iter().map(|result| &*result.participant))
    }

    /// The cheapest of the others in a measurement without sockets, by the first word.
    pub fn best_task(&self, name: &str, among: impl Fn(&str) -> bool) -> Option<(&'a str, f64)> {
        let costs = self.tasks.iter().filter(|((at, participant), _)| {
            *at == name && family(participant) != "evloop" && among(family(participant))
        });
        let best = costs.min_by(|a, b| a.1.total_cmp(b.1))?;
        Some((best.0.1, *best.1))
    }

    pub fn count(&self, cell: &str, participant: &str) -> Option<&'a Count> {
        let mut counts = self.run.counts.iter();
        counts.find(|count| count.cell == cell && count.participant == participant)
    }
}

/// The first word of a participant's name.
pub fn family(participant: &str) -> &str {
    participant.split(' ').next().unwrap_or_default()
}

/// Whether it puts a buffer of its own around the runtime's writer.
pub fn is_buffered(participant: &str) -> bool {
    participant.to_lowercase().contains("buf")
}

/// Each once, in the order of columns.
pub fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names = distinct(names);
    names.sort_by_key(|name| {
        let place = ORDER.iter().position(|word| *word == family(name));
        (place.unwrap_or(ORDER.len()), *name)
    });
    names
}

/// Each once, in the order of their first appearance.
pub fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn ratios_are_of_the_lower_quartiles() {
        let mut run = sample::run();
        sample::set(&mut run, "c1-1K", BARE, &[100.0, 100.0, 900.0]);
        sample::set(&mut run, "c1-1K", "tokio", &[150.0, 150.0, 150.0]);
        let figures = Figures::new(&run);
        assert_eq!(figures.ratio("c1-1K", "tokio", BARE), Some(1.5));
        assert_eq!(figures.ratio("c1-1K", "nobody", BARE), None);
    }

    #[test]
    fn the_best_peer_is_one_that_is_written_the_ordinary_way() {
        let mut run = sample::run();
        sample::set(&mut run, "lines-c1", "tokio", &[500.0]);
        sample::set(&mut run, "lines-c1", "tokio buffered", &[50.0]);
        sample::set(&mut run, "lines-c1", "monoio uring", &[400.0]);
        sample::set(&mut run, "lines-c1", "mio", &[30.0]);
        let figures = Figures::new(&run);
        assert_eq!(figures.best_peer("lines-c1"), Some("monoio uring"));
    }

    #[test]
    fn columns_have_an_order() {
        let names = ["uvloop streams", "tokio", "evloop streams", "bare", "x"];
        assert_eq!(
            in_order(names.into_iter()),
            ["bare", "evloop streams", "tokio", "uvloop streams", "x"]
        );
    }
}
