//! The figures to reach, as data, and a run held against them.

use crate::report::cell_name::{CellName, Kind};
use crate::report::complete::shortfall;
use crate::report::figures::{BARE, Figures, PROTOCOL, Ratio, STREAMS, TIE};
use crate::report::markdown::{NOTHING, Table, figure};
use crate::results::Count;

/// Computes figures for one of our two interfaces: the one that is worst off decides.
type Measure = fn(&Figures, &str) -> Vec<Measured>;

/// What is looked at, how it is computed, and what it may be with protocols and with streams.
type OverSockets = (&'static str, Measure, Option<Limit>, Option<Limit>);

/// What is looked at, the measurement, whose best it is compared with, and what our loop may cost
/// in relation to that.
type WithoutSockets = (&'static str, &'static str, fn(&str) -> bool, Limit);

#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    Below(f64),
    /// A count that ought to be 3 is a little more, since it has a beginning and an end: it is
    /// looked at as it is shown, with two decimals.
    CountAtMost(f64),
}

use Limit::{AtMost, Below, CountAtMost};

/// A figure that was found, with the limits between which the rounds found it, and in which cell
/// or beside whom, where there are several.
#[derive(Clone)]
struct Measured {
    ratio: Ratio,
    place: Option<String>,
}

/// What may be said about a figure, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Reached,
    /// The limit lies among the rounds.
    NotDecided,
    Missed,
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
    ("system calls per echo that are no polls, worst cell", calls_beside_polls, Some(CountAtMost(2.0)), Some(CountAtMost(2.0))),
    ("polls per echo beyond one for each turn, worst cell", polls_beyond_turns, Some(CountAtMost(0.0)), Some(CountAtMost(0.0))),
    ("pipelined lines, CPU ÷ bare, worst cell", lines_to_bare, Some(AtMost(1.3)), Some(AtMost(1.8))),
    ("pipelined lines on 10 connections, system calls a line", calls_a_line, Some(CountAtMost(0.15)), Some(CountAtMost(0.15))),
    ("bulk upload, CPU ÷ bare, worst cell", upload_to_bare, Some(AtMost(1.1)), Some(AtMost(1.3))),
    ("bulk echo, CPU ÷ bare, worst cell", bulk_echo_to_bare, Some(AtMost(1.1)), Some(AtMost(1.3))),
    ("churn of 10 connections at a time, system calls for each", churn_calls, Some(CountAtMost(7.5)), Some(CountAtMost(7.5))),
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

/// All of them, with what the run found. A part of a run has figures and no verdicts.
pub fn table(figures: &Figures) -> String {
    let shortfall = shortfall(figures.run);
    let verdicts = shortfall.is_none();
    let mut tables = [
        Verdicts::new("protocol API", verdicts),
        Verdicts::new("streams API", verdicts),
        Verdicts::new("without sockets", verdicts),
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
    let tables = tables.iter().filter(|table| !table.is_empty);
    let tables: Vec<String> = tables.map(|table| table.rows.to_string()).collect();
    let tables = tables.join("\n");
    match shortfall {
        Some(words) => format!("{words}.\n\n{tables}"),
        None => tables,
    }
}

struct Verdicts {
    rows: Table,
    is_empty: bool,
    /// Whether there may be any.
    allowed: bool,
}

impl Verdicts {
    fn new(title: &str, allowed: bool) -> Self {
        Self {
            rows: Table::new([title, "limit", "measured", "verdict"]),
            is_empty: true,
            allowed,
        }
    }

    fn row(&mut self, words: &str, limit: Limit, measured: Vec<Measured>) {
        let worst = measured.into_iter().max_by(|a, b| {
            let standings = limit.standing(a.ratio).cmp(&limit.standing(b.ratio));
            standings.then(a.ratio.value.total_cmp(&b.ratio.value))
        });
        if worst.is_none() && !self.allowed {
            // What was not asked for is not missing.
            return;
        }
        let verdict = match &worst {
            None => "not measured".to_owned(),
            Some(_) if !self.allowed => "no verdict".to_owned(),
            Some(worst) => limit.verdict(worst.ratio),
        };
        let found = worst.map_or_else(|| NOTHING.to_owned(), |worst| worst.words(limit));
        self.is_empty = false;
        self.rows
            .row(vec![words.to_owned(), limit.words(), found, verdict]);
    }
}

impl Limit {
    fn value(self) -> f64 {
        match self {
            AtMost(limit) | Below(limit) | CountAtMost(limit) => limit,
        }
    }

    fn words(self) -> String {
        match self {
            AtMost(limit) | CountAtMost(limit) => format!("≤ {}", figure(limit)),
            Below(limit) => format!("< {}", figure(limit)),
        }
    }

    fn holds(self, value: f64) -> bool {
        match self {
            AtMost(limit) => value <= limit,
            Below(limit) => value < limit,
            CountAtMost(limit) => hundredths(value) <= limit,
        }
    }

    fn standing(self, found: Ratio) -> Standing {
        match (self.holds(found.low), self.holds(found.high)) {
            (_, true) => Standing::Reached,
            (true, false) => Standing::NotDecided,
            (false, false) => Standing::Missed,
        }
    }

    fn verdict(self, found: Ratio) -> String {
        match self.standing(found) {
            Standing::Reached => "reached".to_owned(),
            Standing::NotDecided => {
                let limits = [found.low, found.high].map(|value| precisely(value, self));
                format!("not decided ({} to {})", limits[0], limits[1])
            }
            Standing::Missed if self.value() == 0.0 => "missed".to_owned(),
            Standing::Missed => {
                let percent = (found.value / self.value() - 1.0) * 100.0;
                let decimals = usize::from(percent < 0.95);
                // Only processor times compared with another participant's have the limit 1.
                let tie = self.value() == 1.0 && TIE.contains(&found.value);
                let tie = if tie { " (a tie)" } else { "" };
                format!("missed by {percent:.decimals$} %{tie}")
            }
        }
    }
}

impl Measured {
    fn words(&self, limit: Limit) -> String {
        let value = precisely(self.ratio.value, limit);
        match &self.place {
            Some(place) => format!("{value} ({place})"),
            None => value,
        }
    }
}

impl From<Ratio> for Measured {
    fn from(ratio: Ratio) -> Self {
        Self { ratio, place: None }
    }
}

/// A count, which is the same each time.
fn counted(value: f64, place: Option<String>) -> Measured {
    let ratio = Ratio {
        value,
        low: value,
        high: value,
    };
    Measured { ratio, place }
}

fn hundredths(value: f64) -> f64 {
    // No zero has a sign.
    (value * 100.0).round() / 100.0 + 0.0
}

/// 0.996 is below 1, and would be shown as 1.00.
fn precisely(value: f64, limit: Limit) -> String {
    match limit {
        CountAtMost(_) => figure(hundredths(value)),
        _ if value != limit.value() && figure(value) == figure(limit.value()) => {
            format!("{value:.3}")
        }
        _ => figure(value),
    }
}

fn mean(figures: &Figures, who: &str, cells: &[(&str, &str)]) -> Vec<Measured> {
    let mean = figures.mean(who, cells);
    mean.map(Measured::from).into_iter().collect()
}

fn mean_to(figures: &Figures, who: &str, to: &str) -> Vec<Measured> {
    let cells = figures.cells_of(Kind::RequestResponse);
    let cells: Vec<_> = cells.iter().map(|cell| (&*cell.name, to)).collect();
    mean(figures, who, &cells)
}

fn mean_to_peers(figures: &Figures, who: &str, cells: &[&CellName]) -> Vec<Measured> {
    let cells = cells.iter().filter_map(|cell| {
        let best = figures.best_peer(&cell.name)?;
        Some((&*cell.name, best))
    });
    mean(figures, who, &cells.collect::<Vec<_>>())
}

/// The ratio in each of these cells.
fn each(figures: &Figures, cells: &[&CellName], who: &str, to: &str) -> Vec<Measured> {
    let ratios = cells.iter().filter_map(|cell| {
        Some(Measured {
            ratio: figures.mean(who, &[(&cell.name, to)])?,
            place: Some(cell.name.clone()),
        })
    });
    ratios.collect()
}

fn mean_to_bare(figures: &Figures, who: &str) -> Vec<Measured> {
    mean_to(figures, who, BARE)
}

fn worst_to_bare(figures: &Figures, who: &str) -> Vec<Measured> {
    each(figures, &figures.cells_of(Kind::RequestResponse), who, BARE)
}

fn mean_to_best(figures: &Figures, who: &str) -> Vec<Measured> {
    mean_to_peers(figures, who, &figures.cells_of(Kind::RequestResponse))
}

fn mean_to_best_everywhere(figures: &Figures, who: &str) -> Vec<Measured> {
    mean_to_peers(figures, who, &figures.cells_over_tcp())
}

fn worst_to_tokio(figures: &Figures, who: &str) -> Vec<Measured> {
    each(figures, &figures.cells_over_tcp(), who, "tokio")
}

fn to_uvloop(figures: &Figures, who: &str) -> Vec<Measured> {
    mean_to(figures, who, "uvloop streams")
}

fn to_asyncio(figures: &Figures, who: &str) -> Vec<Measured> {
    mean_to(figures, who, "asyncio streams")
}

fn instructions(figures: &Figures, who: &str) -> Vec<Measured> {
    let count = figures.count("c100-1K", who);
    let instructions = count.and_then(|count| count.instructions);
    instructions
        .map(|count| counted(count, None))
        .into_iter()
        .collect()
}

/// The 2 of 2 + 1/k: one receive and one send.
fn calls_beside_polls(figures: &Figures, who: &str) -> Vec<Measured> {
    of_counts(figures, who, is_small_echo, |count, _| {
        Some(count.system_calls? - count.polls?)
    })
}

/// The 1/k: where calls are counted all connections send before the server wakes, so a turn has as
/// many events as there are connections.
fn polls_beyond_turns(figures: &Figures, who: &str) -> Vec<Measured> {
    of_counts(figures, who, is_small_echo, |count, cell| {
        Some(count.polls? - 1.0 / cell.connections? as f64)
    })
}

/// An echo that fits a single receive.
fn is_small_echo(cell: &CellName) -> bool {
    cell.is_request_response() && cell.bytes.is_none_or(|bytes| bytes <= 10 << 10)
}

/// A figure of each cell in which the participant was counted.
fn of_counts(
    figures: &Figures,
    who: &str,
    condition: fn(&CellName) -> bool,
    of: fn(&Count, &CellName) -> Option<f64>,
) -> Vec<Measured> {
    let counts = figures.run.counts.iter();
    let counts = counts.filter(|count| count.participant == who);
    let found = counts.filter_map(|count| {
        let cell = CellName::parse(&count.cell);
        let value = condition(&cell).then(|| of(count, &cell))??;
        Some(counted(value, Some(cell.name)))
    });
    found.collect()
}

fn lines_to_bare(figures: &Figures, who: &str) -> Vec<Measured> {
    each(figures, &figures.cells_of(Kind::Lines), who, BARE)
}

/// Not of one connection: sixteen lines are three calls there at the very least, 0.19 a line.
fn calls_a_line(figures: &Figures, who: &str) -> Vec<Measured> {
    let condition = |cell: &CellName| cell.kind == Kind::Lines && cell.connections == Some(10);
    of_counts(figures, who, condition, |count, _| count.system_calls)
}

fn upload_to_bare(figures: &Figures, who: &str) -> Vec<Measured> {
    bulk_to_bare(figures, who, "upload")
}

fn bulk_echo_to_bare(figures: &Figures, who: &str) -> Vec<Measured> {
    bulk_to_bare(figures, who, "bulkecho")
}

fn bulk_to_bare(figures: &Figures, who: &str, direction: &str) -> Vec<Measured> {
    let mut cells = figures.cells_of(Kind::Bulk);
    cells.retain(|cell| cell.name.starts_with(direction));
    each(figures, &cells, who, BARE)
}

/// Not of one connection at a time: there each of its events is a turn with a poll of its own.
fn churn_calls(figures: &Figures, who: &str) -> Vec<Measured> {
    let condition = |cell: &CellName| cell.kind == Kind::Churn && cell.connections == Some(10);
    of_counts(figures, who, condition, |count, _| count.system_calls)
}

fn idle_bytes(figures: &Figures, who: &str) -> Vec<Measured> {
    let idle = figures.run.idle.iter();
    let of_all = idle.filter(|idle| idle.participant == who && idle.connections == 10_000);
    of_all.map(|idle| counted(idle.bytes, None)).collect()
}

fn growth(figures: &Figures, who: &str) -> Vec<Measured> {
    let ratio = figures.growth_to_bare(who);
    ratio.map(Measured::from).into_iter().collect()
}

fn to_best_task(figures: &Figures, name: &str, among: fn(&str) -> bool) -> Vec<Measured> {
    let best = figures.best_task(name, among);
    let ratio = best.and_then(|best| {
        Some(Measured {
            ratio: figures.task_ratio(name, best)?,
            place: Some(best.to_owned()),
        })
    });
    ratio.into_iter().collect()
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
        sample::set(&mut run, "c10-10K", BARE, &[8_000.0; 7]);
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

    fn verdict(limit: Limit, value: f64) -> String {
        limit.verdict(counted(value, None).ratio)
    }

    #[test]
    fn processor_times_are_held_against_the_limit_as_they_are_and_counts_as_they_are_shown() {
        assert_eq!(verdict(AtMost(1.15), 1.15), "reached");
        assert_eq!(verdict(AtMost(1.15), 1.1504), "missed by 0.0 %");
        assert_eq!(verdict(CountAtMost(3.0), 3.004), "reached");
        assert_eq!(verdict(CountAtMost(3.0), 3.006), "missed by 0.2 %");
        assert_eq!(verdict(CountAtMost(0.0), -0.001), "reached");
        assert_eq!(verdict(CountAtMost(0.0), 0.01), "missed");
    }

    #[test]
    fn a_peer_that_is_ahead_by_a_little_is_a_tie_and_by_much_is_not() {
        assert_eq!(verdict(AtMost(1.0), 1.004), "missed by 0.4 % (a tie)");
        assert_eq!(verdict(AtMost(1.0), 1.06), "missed by 6 % (a tie)");
        assert_eq!(verdict(Below(1.0), 0.998), "reached");
        assert_eq!(verdict(Below(1.0), 1.0), "missed by 0.0 % (a tie)");
        assert_eq!(verdict(AtMost(1.0), 1.25), "missed by 25 %");
        assert_eq!(verdict(AtMost(1.03), 1.06), "missed by 3 %");
        assert_eq!(verdict(AtMost(0.5), 1.0), "missed by 100 %");
    }

    #[test]
    fn rounds_on_both_sides_of_the_limit_decide_nothing() {
        let mut run = sample::run();
        let bare = [100.0; 7];
        let rounds = [97.0, 97.0, 97.0, 97.0, 153.0, 153.0, 153.0];
        sample::set(&mut run, "upload-c1", BARE, &bare);
        sample::set(&mut run, "upload-c1", PROTOCOL, &rounds);
        let of_protocol = &rows(&run, "bulk upload")[0];
        assert!(
            of_protocol.ends_with("| ≤ 1.10 | 0.97 (upload-c1) | not decided (0.97 to 1.53) |"),
            "{of_protocol}"
        );
        // A cell that is surely above comes before one that may be, however high.
        sample::set(&mut run, "upload-c10", BARE, &bare);
        sample::set(&mut run, "upload-c10", PROTOCOL, &[120.0; 7]);
        let of_protocol = &rows(&run, "bulk upload")[0];
        assert!(
            of_protocol.ends_with("| 1.20 (upload-c10) | missed by 9 % |"),
            "{of_protocol}"
        );
    }

    #[test]
    fn a_part_of_a_run_has_figures_and_no_verdicts() {
        let mut run = sample::run();
        run.rounds = 4;
        let text = table(&Figures::new(&run));
        assert!(text.contains(" cells, 4 rounds: no verdict.\n"), "{text}");
        for word in ["reached", "missed", "decided"] {
            assert!(!text.contains(word), "{word} in\n{text}");
        }
    }

    #[test]
    fn a_call_or_a_poll_too_many_is_seen() {
        let mut run = sample::run();
        run.counts.retain(|count| count.cell != "c100-1K");
        sample::count(&mut run, PROTOCOL, "c100-1K", 2.0, 0.02, 290.0);
        sample::count(&mut run, STREAMS, "c100-1K", 2.3, 0.01, 540.0);
        let calls = rows(&run, "system calls per echo");
        assert!(calls[0].ends_with("reached |"), "{calls:?}");
        assert!(
            calls[1].ends_with("| 2.30 (c100-1K) | missed by 15 % |"),
            "{calls:?}"
        );
        let polls = rows(&run, "polls per echo");
        assert!(
            polls[0].ends_with("| 0.01 (c100-1K) | missed |"),
            "{polls:?}"
        );
        assert!(polls[1].ends_with("reached |"), "{polls:?}");
    }
}
