//! A run, looked up: one figure for each participant in each cell, and ratios of these.

use std::collections::HashMap;

use crate::participants::Participant;
use crate::report::cell_name::{CellName, Kind, TCP};
use crate::report::reduce::{geometric_mean, lower_quartile, quantile, spread};
use crate::results::{Count, Run};

pub const BARE: &str = "bare";
pub const PROTOCOL: &str = "evloop protocol";
pub const STREAMS: &str = "evloop streams";

/// Us, without sockets.
const OURS: &str = "evloop";

/// A ratio of processor times between these says nothing: the machine is not quieter than that.
pub const TIE: std::ops::RangeInclusive<f64> = 0.9..=1.1;

/// Those whose best is compared with in each cell, by the first word of their names.
const PEERS: [&str; 4] = ["tokio", "smol", "monoio", "libuv"];

/// The order of columns and legends; who is not in it comes last.
pub const ORDER: [&str; 10] = [
    BARE, "mio", "evloop", "tokio", "smol", "monoio", "glommio", "libuv", "uvloop", "asyncio",
];

/// Rounds whose middle half is further apart than this are no single figure: something of the
/// machine or of the participant was not the same in all of them.
const WIDE: f64 = 1.25;

/// The rounds of each participant in each cell, or in each measurement without sockets.
type Rounds<'a> = HashMap<(&'a str, &'a str), &'a [f64]>;

/// A ratio, and the limits between which the middle half of its rounds is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// What stands for all rounds is between the limits too: it is the ratio of two quartiles, and
    /// the rounds are ratios of what was measured one shortly after the other.
    fn of(value: f64, rounds: &[f64]) -> Self {
        Self {
            value,
            low: quantile(rounds, 0.25).map_or(value, |low| low.min(value)),
            high: quantile(rounds, 0.75).map_or(value, |high| high.max(value)),
        }
    }
}

/// A run with its rounds reduced.
pub struct Figures<'a> {
    pub run: &'a Run,
    /// In the order in which the run has them.
    pub cells: Vec<CellName>,
    /// Processor nanoseconds per operation, by cell and participant.
    costs: Rounds<'a>,
    /// The same without sockets.
    tasks: Rounds<'a>,
}

impl<'a> Figures<'a> {
    pub fn new(run: &'a Run) -> Self {
        let costs = run
            .cells
            .iter()
            .map(|result| ((&*result.cell, &*result.participant), &*result.cpu_ns));
        let tasks = run
            .tasks
            .iter()
            .map(|result| ((&*result.name, &*result.participant), &*result.ns));
        let names = distinct(run.cells.iter().map(|result| &*result.cell));
        Self {
            run,
            cells: names.into_iter().map(CellName::parse).collect(),
            costs: costs.collect(),
            tasks: tasks.collect(),
        }
    }

    /// Processor nanoseconds per operation.
    pub fn cost(&self, cell: &str, participant: &str) -> Option<f64> {
        lower_quartile(self.costs.get(&(cell, participant))?)
    }

    /// The same in microseconds.
    pub fn micros(&self, cell: &str, participant: &str) -> Option<f64> {
        Some(self.cost(cell, participant)? / 1_000.0)
    }

    pub fn ratio(&self, cell: &str, participant: &str, to: &str) -> Option<f64> {
        Some(self.cost(cell, participant)? / self.cost(cell, to)?)
    }

    /// Whether the rounds of one of the two are too far apart for a plain ratio.
    pub fn is_wide(&self, cell: &str, participant: &str, to: &str) -> bool {
        [participant, to].iter().any(|who| {
            let rounds = self.costs.get(&(cell, who)).copied().unwrap_or_default();
            spread(rounds).is_some_and(|spread| spread > WIDE)
        })
    }

    /// The geometric mean over cells of the participant's cost ÷ somebody's, each cell with its
    /// own somebody; round by round, too.
    pub fn mean(&self, participant: &str, cells: &[(&str, &str)]) -> Option<Ratio> {
        let ratios = cells.iter();
        let value = ratios.filter_map(|(cell, to)| self.ratio(cell, participant, to));
        let rounds = (0..self.run.rounds).filter_map(|round| {
            let at = |cell: &str, who: &str| self.costs.get(&(cell, who))?.get(round).copied();
            let ratios = cells.iter();
            geometric_mean(
                ratios.filter_map(|(cell, to)| Some(at(cell, participant)? / at(cell, to)?)),
            )
        });
        Some(Ratio::of(
            geometric_mean(value)?,
            &rounds.collect::<Vec<_>>(),
        ))
    }

    /// The cheapest of the peers in this cell, each as its documentation would write it: one
    /// whose buffering is written by hand is shown in the tables and not compared with here.
    pub fn best_peer(&self, cell: &str) -> Option<&'a str> {
        let peers = self.costs.keys().filter(|(at, participant)| {
            *at == cell
                && PEERS.contains(&family(participant))
                && !Participant::is_buffered(participant)
        });
        let costs = peers.filter_map(|(_, who)| Some((*who, self.cost(cell, who)?)));
        let best = costs.min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(best.0)
    }

    pub fn cells_where(&self, condition: impl Fn(&CellName) -> bool) -> Vec<&CellName> {
        self.cells.iter().filter(|cell| condition(cell)).collect()
    }

    pub fn cells_of(&self, kind: Kind) -> Vec<&CellName> {
        self.cells_where(|cell| cell.kind == kind && cell.transport == TCP)
    }

    /// Those that the figures to reach are about.
    pub fn cells_over_tcp(&self) -> Vec<&CellName> {
        self.cells_where(|cell| cell.transport == TCP)
    }

    /// What stands beside TCP, each with all of its cells.
    pub fn other_transports(&self) -> Vec<(&'static str, Vec<&CellName>)> {
        let transports = distinct(self.cells.iter().map(|cell| cell.transport));
        let others = transports.into_iter().filter(|transport| *transport != TCP);
        others
            .map(|name| (name, self.cells_where(|cell| cell.transport == name)))
            .collect()
    }

    /// Of the ratios in these cells, where both ran.
    pub fn mean_ratio(&self, cells: &[&CellName], participant: &str, to: &str) -> Option<f64> {
        let ratios = cells
            .iter()
            .filter_map(|cell| self.ratio(&cell.name, participant, to));
        geometric_mean(ratios)
    }

    /// The same against the best peer of each cell.
    pub fn mean_to_best(&self, cells: &[&CellName], participant: &str) -> Option<f64> {
        let ratios = cells.iter().filter_map(|cell| {
            let best = self.best_peer(&cell.name)?;
            self.ratio(&cell.name, participant, best)
        });
        geometric_mean(ratios)
    }

    /// Who has a figure in one of these cells.
    pub fn participants(&self, cells: &[&CellName]) -> Vec<&'a str> {
        let results = self.run.cells.iter();
        let names = results
            .filter(|result| cells.iter().any(|cell| cell.name == result.cell))
            .filter(|result| self.cost(&result.cell, &result.participant).is_some())
            .map(|result| &*result.participant);
        in_order(names)
    }

    /// Cells of 10 and of 10,000 connections that are the same otherwise.
    pub fn growth_cells(&self) -> Option<(&CellName, &CellName)> {
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

    /// The same ÷ the bare loop's growth.
    pub fn growth_to_bare(&self, participant: &str) -> Option<Ratio> {
        let (few, many) = self.growth_cells()?;
        let value = self.growth(participant)? / self.growth(BARE)?;
        let at = |cell: &CellName, who, round| {
            let rounds = self.costs.get(&(&*cell.name, who))?;
            rounds.get(round).copied()
        };
        let growth = |who, round| Some(at(many, who, round)? / at(few, who, round)?);
        let rounds = (0..self.run.rounds)
            .filter_map(|round| Some(growth(participant, round)? / growth(BARE, round)?));
        Some(Ratio::of(value, &rounds.collect::<Vec<_>>()))
    }

    pub fn task(&self, name: &str, participant: &str) -> Option<f64> {
        lower_quartile(self.tasks.get(&(name, participant))?)
    }

    /// What it costs us ÷ what it costs somebody else.
    pub fn task_ratio(&self, name: &str, to: &str) -> Option<Ratio> {
        let value = self.task(name, OURS)? / self.task(name, to)?;
        let rounds = |who| self.tasks.get(&(name, who)).copied().unwrap_or_default();
        let pairs = rounds(OURS).iter().zip(rounds(to));
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        Some(Ratio::of(value, &ratios))
    }

    pub fn task_participants(&self) -> Vec<&'a str> {
        in_order(self.run.tasks.iter().map(|result| &*result.participant))
    }

    /// The cheapest of the others in a measurement without sockets, by the first word.
    pub fn best_task(&self, name: &str, among: impl Fn(&str) -> bool) -> Option<&'a str> {
        let others = self.tasks.keys().filter(|(at, participant)| {
            *at == name && *participant != OURS && among(family(participant))
        });
        let costs = others.filter_map(|(_, who)| Some((*who, self.task(name, who)?)));
        let best = costs.min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(best.0)
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
    fn a_ratio_lies_among_those_of_its_rounds() {
        let mut run = sample::run();
        sample::set(&mut run, "c1-1K", BARE, &[100.0; 7]);
        let rounds = [90.0, 90.0, 90.0, 90.0, 140.0, 140.0, 140.0];
        sample::set(&mut run, "c1-1K", PROTOCOL, &rounds);
        let figures = Figures::new(&run);
        let ratio = Ratio {
            value: 0.9,
            low: 0.9,
            high: 1.4,
        };
        assert_eq!(figures.mean(PROTOCOL, &[("c1-1K", BARE)]), Some(ratio));
        assert!(figures.is_wide("c1-1K", PROTOCOL, BARE));
        assert!(!figures.is_wide("c1-1K", STREAMS, BARE));
        assert_eq!(figures.mean(PROTOCOL, &[("c1-1K", "nobody")]), None);
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
