//! The figures to reach, as data, and a run held against them.

use crate::report::cell::{Cell, Kind};
use crate::report::figures::{BARE, Figures, PROTOCOL, STREAMS, TIE, family};
use crate::report::markdown::{NOTHING, Table, figure};

/// Computes a figure for one of our two interfaces.
type Measure = fn(&Figures, &str) -> Option<Measured>;

/// What is looked at, how it is computed, and what it may be with protocols and with streams.
type OverSockets = (&'static str, Measure, Option<Limit>, Option<Limit>);

/// What is looked at, the measurement, whose best it is compared with, and what our loop may cost
/// in relation to that.
type WithoutSockets = (&'static str, &'static str, fn(&str) -> bool, Limit);

#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    Below(f64),
}

use Limit::{AtMost, Below};

/// A figure that was found, and in which cell or beside whom, where one of these decides.
struct Measured {
    value: f64,
    place: Option<String>,
}

#[rustfmt::skip] // A table.
const OVER_SOCKETS: &[OverSockets] = &[
    ("CPU ÷ bare, request-response, geometric mean", mean_to_bare, Some(AtMost(1.03)), Some(AtMost(1.08))),
    ("CPU ÷ bare, request-response, worst cell", worst_to_bare, Some(AtMost(1.10)), Some(AtMost(1.15))),
    ("CPU ÷ best peer, request-response, geometric mean", mean_to_best, Some(Below(1.0)), None),
    ("CPU ÷ best peer, all cells, geometric mean", mean_to_best_everywhere, Some(Below(1.0)), None),
    ("CPU ÷ tokio, worst cell", worst_to_tokio, None, Some(AtMost(1.1))),
    ("CPU ÷ uvloop's streams, request-response, geometric mean", to_uvloop, None, Some(Below(0.6))),
    ("CPU ÷ asyncio's streams, request-response, geometric mean", to_asyncio, None, Some(Below(0.45))),
    ("instructions per 1 KiB echo, 100 connections", instructions, Some(AtMost(300.0)), Some(AtMost(550.0))),
    ("system calls per echo, one connection", calls_alone, Some(AtMost(3.0)), Some(AtMost(3.0))),
    ("system calls per echo beyond the bare loop's, worst cell", calls_beyond, Some(AtMost(0.1)), Some(AtMost(0.1))),
    ("pipelined lines, CPU ÷ bare, geometric mean", lines_to_bare, Some(AtMost(1.3)), Some(AtMost(1.8))),
    ("pipelined lines, system calls a line", calls_a_line, Some(AtMost(0.15)), Some(AtMost(0.15))),
    ("bulk upload, CPU ÷ bare, worst cell", upload_to_bare, Some(AtMost(1.1)), Some(AtMost(1.3))),
    ("bulk echo, CPU ÷ bare, worst cell", bulk_echo_to_bare, Some(AtMost(1.1)), Some(AtMost(1.3))),
    ("churn, system calls a connection", churn_calls, Some(AtMost(7.5)), Some(AtMost(7.5))),
    ("resident bytes per idle connection, 10,000", idle_bytes, Some(AtMost(500.0)), Some(AtMost(900.0))),
    ("growth from 10 to 10,000 connections ÷ the bare loop's", growth, Some(AtMost(1.0)), Some(AtMost(1.0))),
];

#[rustfmt::skip] // A table.
const WITHOUT_SOCKETS: &[WithoutSockets] = &[
    ("spawn and await ÷ best of tokio, smol, monoio", "spawn_await", is_three, AtMost(1.0)),
    ("batch spawn ÷ monoio's", "spawn_batch", is_monoio, AtMost(2.0)),
    ("yield ÷ best peer", "yield", is_any, AtMost(1.15)),
    ("`call_soon` ÷ cheapest peer's task chain", "call_soon", is_any, AtMost(0.5)),
    ("timer created and cancelled ÷ best peer", "timer", is_any, AtMost(1.0)),
    ("the same with 10,000 alive ÷ best peer", "timer_10000", is_any, AtMost(1.0)),
    ("100,000 timers firing ÷ best peer", "sleeps", is_any, AtMost(1.0)),
    ("cross-thread burst ÷ best peer", "cross_thread", is_any, AtMost(1.0)),
];

/// All of them, with what the run found.
pub fn table(figures: &Figures) -> String {
    let mut tables = [
        Verdicts::new("protocol API"),
        Verdicts::new("streams API"),
        Verdicts::new("without sockets"),
    ];
    for (words, measure, protocol, streams) in OVER_SOCKETS {
        let limits = [(PROTOCOL, protocol), (STREAMS, streams)];
        for (table, (participant, limit)) in tables.iter_mut().zip(limits) {
            if let Some(limit) = limit {
                table.row(words, *limit, measure(figures, participant));
            }
        }
    }
    for (words, name, among, limit) in WITHOUT_SOCKETS {
        tables[2].row(words, *limit, to_best_task(figures, name, *among));
    }
    tables.map(|table| table.0.to_string()).join("\n")
}

struct Verdicts(Table);

impl Verdicts {
    fn new(title: &str) -> Self {
        Self(Table::new([title, "limit", "measured", "verdict"]))
    }

    fn row(&mut self, words: &str, limit: Limit, measured: Option<Measured>) {
        let verdict = limit.verdict(measured.as_ref().map(|measured| measured.value));
        let found = measured.map_or_else(|| NOTHING.to_owned(), |measured| measured.words());
        self.0
            .row(vec![words.to_owned(), limit.words(), found, verdict]);
    }
}

impl Limit {
    fn value(self) -> f64 {
        match self {
            AtMost(limit) | Below(limit) => limit,
        }
    }

    fn words(self) -> String {
        match self {
            AtMost(limit) => format!("≤ {}", figure(limit)),
            Below(limit) => format!("< {}", figure(limit)),
        }
    }

    /// A count that ought to be 3 is a little more, since it has a beginning and an end: "at most"
    /// is about the figure as it is shown, with two decimals.
    fn verdict(self, measured: Option<f64>) -> String {
        let Some(measured) = measured else {
            return "not measured".to_owned();
        };
        let shown = (measured * 100.0).round() / 100.0;
        let reached = match self {
            AtMost(limit) => shown <= limit,
            Below(limit) => measured < limit,
        };
        if reached {
            return "reached".to_owned();
        }
        let percent = (measured / self.value() - 1.0) * 100.0;
        // Only processor times compared with another participant's have the limit 1.
        let tie = self.value() == 1.0 && TIE.contains(&shown);
        format!(
            "missed by {percent:.0} %{}",
            if tie { " (a tie)" } else { "" }
        )
    }
}

impl Measured {
    fn words(&self) -> String {
        // 0.996 is below 1, and would be shown as 1.00.
        let value = match self.value {
            value if (0.995..1.0).contains(&value) => format!("{value:.3}"),
            value => figure(value),
        };
        match &self.place {
            Some(place) => format!("{value} ({place})"),
            None => value,
        }
    }
}

impl From<f64> for Measured {
    fn from(value: f64) -> Self {
        Self { value, place: None }
    }
}

/// The highest of these.
fn worst(found: impl Iterator<Item = (String, f64)>) -> Option<Measured> {
    let worst = found.max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Measured {
        value: worst.1,
        place: Some(worst.0),
    })
}

fn worst_ratio(figures: &Figures, cells: &[&Cell], who: &str, to: &str) -> Option<Measured> {
    worst(cells.iter().filter_map(|cell| {
        let ratio = figures.ratio(&cell.name, who, to)?;
        Some((cell.name.clone(), ratio))
    }))
}

fn over_tcp<'a>(figures: &'a Figures) -> Vec<&'a Cell> {
    figures.cells_where(|cell| cell.transport == "tcp")
}

fn mean_to_bare(figures: &Figures, who: &str) -> Option<Measured> {
    let cells = figures.cells_of(Kind::RequestResponse);
    figures.mean_ratio(&cells, who, BARE).map(Measured::from)
}

fn worst_to_bare(figures: &Figures, who: &str) -> Option<Measured> {
    worst_ratio(figures, &figures.cells_of(Kind::RequestResponse), who, BARE)
}

fn mean_to_best(figures: &Figures, who: &str) -> Option<Measured> {
    figures
        .mean_to_best(&figures.cells_of(Kind::RequestResponse), who)
        .map(Measured::from)
}

fn mean_to_best_everywhere(figures: &Figures, who: &str) -> Option<Measured> {
    figures
        .mean_to_best(&over_tcp(figures), who)
        .map(Measured::from)
}

fn worst_to_tokio(figures: &Figures, who: &str) -> Option<Measured> {
    worst_ratio(figures, &over_tcp(figures), who, "tokio")
}

fn to_uvloop(figures: &Figures, who: &str) -> Option<Measured> {
    let cells = figures.cells_of(Kind::RequestResponse);
    figures
        .mean_ratio(&cells, who, "uvloop streams")
        .map(Measured::from)
}

fn to_asyncio(figures: &Figures, who: &str) -> Option<Measured> {
    let cells = figures.cells_of(Kind::RequestResponse);
    figures
        .mean_ratio(&cells, who, "asyncio streams")
        .map(Measured::from)
}

fn instructions(figures: &Figures, who: &str) -> Option<Measured> {
    figures
        .count("c100-1K", who)?
        .instructions
        .map(Measured::from)
}

/// 2 + 1/k with k = 1: a connection alone is alone in its turn.
fn calls_alone(figures: &Figures, who: &str) -> Option<Measured> {
    worst(small_echoes(figures, who).filter(|(cell, _)| Cell::parse(cell).connections == Some(1)))
}

/// 2 + 1/k with other k: nobody counts the events of a turn, but the bare loop, which has nothing
/// to make an extra call with, meets about as many.
fn calls_beyond(figures: &Figures, who: &str) -> Option<Measured> {
    worst(small_echoes(figures, who).filter_map(|(cell, calls)| {
        let bare = figures.count(&cell, BARE)?.system_calls?;
        Some((cell, calls - bare))
    }))
}

/// System calls per echo, where an echo fits a single receive.
fn small_echoes<'a>(
    figures: &'a Figures,
    who: &'a str,
) -> impl Iterator<Item = (String, f64)> + 'a {
    calls(figures, who, |cell| {
        cell.is_request_response() && cell.bytes.is_none_or(|bytes| bytes <= 10 << 10)
    })
}

fn calls<'a>(
    figures: &'a Figures,
    who: &'a str,
    condition: fn(&Cell) -> bool,
) -> impl Iterator<Item = (String, f64)> + 'a {
    let counts = figures.run.counts.iter();
    counts
        .filter(move |count| count.participant == who && condition(&Cell::parse(&count.cell)))
        .filter_map(|count| Some((count.cell.clone(), count.system_calls?)))
}

fn lines_to_bare(figures: &Figures, who: &str) -> Option<Measured> {
    let cells = figures.cells_of(Kind::Lines);
    figures.mean_ratio(&cells, who, BARE).map(Measured::from)
}

fn calls_a_line(figures: &Figures, who: &str) -> Option<Measured> {
    worst(calls(figures, who, |cell| cell.kind == Kind::Lines))
}

fn upload_to_bare(figures: &Figures, who: &str) -> Option<Measured> {
    bulk_to_bare(figures, who, "upload")
}

fn bulk_echo_to_bare(figures: &Figures, who: &str) -> Option<Measured> {
    bulk_to_bare(figures, who, "bulkecho")
}

fn bulk_to_bare(figures: &Figures, who: &str, direction: &str) -> Option<Measured> {
    let cells = figures.cells_where(|cell| {
        cell.kind == Kind::Bulk && cell.transport == "tcp" && cell.name.starts_with(direction)
    });
    worst_ratio(figures, &cells, who, BARE)
}

fn churn_calls(figures: &Figures, who: &str) -> Option<Measured> {
    worst(calls(figures, who, |cell| cell.kind == Kind::Churn))
}

fn idle_bytes(figures: &Figures, who: &str) -> Option<Measured> {
    let mut idle = figures.run.idle.iter();
    let idle = idle.find(|idle| idle.participant == who && idle.connections == 10_000)?;
    Some(idle.bytes.into())
}

fn growth(figures: &Figures, who: &str) -> Option<Measured> {
    let ratio = figures.growth(who)? / figures.growth(BARE)?;
    Some(ratio.into())
}

fn to_best_task(figures: &Figures, name: &str, among: fn(&str) -> bool) -> Option<Measured> {
    let (who, best) = figures.best_task(name, among)?;
    Some(Measured {
        value: figures.our_task(name)? / best,
        place: Some(family(who).to_owned()),
    })
}

fn is_three(peer: &str) -> bool {
    matches!(peer, "tokio" | "smol" | "monoio")
}

fn is_monoio(peer: &str) -> bool {
    peer == "monoio"
}

fn is_any(_: &str) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::results::Run;

    fn rows(run: &Run, words: &str) -> Vec<String> {
        let text = table(&Figures::new(run));
        let rows: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with(&format!("| {words}")))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert!(!rows.is_empty(), "no row {words} in\n{text}");
        rows
    }

    #[test]
    fn a_run_in_which_all_is_well_reaches_everything() {
        let text = table(&Figures::new(&sample::run()));
        assert!(
            !text.contains("missed") && !text.contains("not measured"),
            "\n{text}"
        );
    }

    #[test]
    fn a_single_slow_cell_is_named() {
        let mut run = sample::run();
        sample::set(&mut run, "c10-10K", PROTOCOL, &[8_400.0; 7]);
        sample::set(&mut run, "c10-10K", STREAMS, &[9_600.0; 7]);
        assert_eq!(
            rows(&run, "CPU ÷ bare, request-response, worst cell"),
            [
                "| CPU ÷ bare, request-response, worst cell | ≤ 1.10 | 1.05 (c10-10K) | reached |",
                "| CPU ÷ bare, request-response, worst cell | ≤ 1.15 | 1.20 (c10-10K) | missed by 4 % |"
            ]
        );
    }

    #[test]
    fn what_was_not_measured_is_not_reached() {
        let mut run = sample::run();
        run.idle.clear();
        run.cells
            .retain(|result| !result.participant.starts_with("uvloop"));
        for words in ["resident bytes", "CPU ÷ uvloop's"] {
            for row in rows(&run, words) {
                assert!(row.ends_with("| – | not measured |"), "{row}");
            }
        }
    }

    #[test]
    fn a_peer_that_is_ahead_by_a_little_is_a_tie_and_by_much_is_not() {
        assert_eq!(AtMost(1.0).verdict(Some(1.004)), "reached");
        assert_eq!(AtMost(3.0).verdict(Some(3.004)), "reached");
        assert_eq!(AtMost(1.0).verdict(Some(1.06)), "missed by 6 % (a tie)");
        assert_eq!(Below(1.0).verdict(Some(0.998)), "reached");
        assert_eq!(Below(1.0).verdict(Some(1.0)), "missed by 0 % (a tie)");
        assert_eq!(AtMost(1.0).verdict(Some(1.25)), "missed by 25 %");
        assert_eq!(AtMost(1.03).verdict(Some(1.06)), "missed by 3 %");
        assert_eq!(AtMost(0.5).verdict(Some(1.0)), "missed by 100 %");
    }
}
