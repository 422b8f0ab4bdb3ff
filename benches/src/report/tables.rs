//! The tables: each a function from the figures to Markdown.

use crate::report::cell_name::{CellName, Kind, TCP};
use crate::report::figures::{BARE, Figures, PROTOCOL, STREAMS, TIE, distinct, family, in_order};
use crate::report::markdown::{NOTHING, Table, figure, figure_or_nothing};
use crate::results::{Count, Run};

pub const NOT_MEASURED: &str = "Not measured.\n";

/// What stands behind a ratio whose rounds are far apart.
const WIDE_MARK: &str = "~";

const WIDE_SENTENCE: &str = "\
~: the rounds of one of the two are far apart, upper quartile ÷ lower quartile above 1.25.
";

/// Where the figures come from.
pub fn machine(run: &Run) -> String {
    if run.machine.cpu.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    let machine = &run.machine;
    let versions: Vec<String> = machine
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let mut table = Table::new(["", ""]).words(2);
    for (name, value) in [
        (
            "machine",
            format!("{}, {} cores", machine.cpu, machine.cores),
        ),
        ("kernel", machine.kernel.clone()),
        ("compiler", machine.rustc.clone()),
        ("commit", or_nothing(&machine.commit)),
        ("versions", versions.join(", ")),
        (
            "run",
            format!(
                "{}, {} interleaved rounds, orders from seed {}, {:.0} minutes",
                machine.date,
                run.rounds,
                run.seed,
                run.seconds / 60.0
            ),
        ),
    ] {
        table.row(vec![name.to_owned(), value]);
    }
    table.to_string()
}

/// Geometric means of server CPU ÷ bare, a row for each participant and a column for each group:
/// the kinds of cells over TCP, and each of the other transports.
pub fn means(figures: &Figures) -> String {
    let kinds = Kind::ALL.map(|kind| (kind.title(), figures.cells_of(kind)));
    let groups: Vec<_> = kinds
        .into_iter()
        .chain(figures.other_transports())
        .filter(|(_, cells)| figures.participants(cells).contains(&BARE))
        .collect();
    if groups.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    let head = groups
        .iter()
        .map(|(title, cells)| format!("{title} ({})", cells.len()));
    let mut table = Table::new(std::iter::once("÷ bare (cells)".to_owned()).chain(head));
    for participant in figures.participants(&figures.cells_where(|_| true)) {
        let mut row = vec![participant.to_owned()];
        let ratios = groups
            .iter()
            .map(|(_, cells)| figures.mean_ratio(cells, participant, BARE));
        row.extend(ratios.map(figure_or_nothing));
        table.row(row);
    }
    table.to_string()
}

/// Server CPU ÷ bare in each cell, a table for each group.
pub fn cells(figures: &Figures) -> String {
    let mut text = String::new();
    for transport in distinct(figures.cells.iter().map(|cell| cell.transport)) {
        for kind in Kind::ALL {
            let cells =
                figures.cells_where(|cell| cell.kind == kind && cell.transport == transport);
            if !cells.is_empty() {
                text.push_str(&group(figures, kind, transport, &cells));
            }
        }
    }
    or_not_measured(explained(text))
}

fn group(figures: &Figures, kind: Kind, transport: &str, cells: &[&CellName]) -> String {
    let participants = figures.participants(cells);
    let title = match transport {
        TCP => format!("**{}**", capital(kind.title())),
        other => format!("**{} over {other}**", capital(kind.title())),
    };
    let unit = format!("µs of server CPU per {}", kind.operation());
    if !participants.contains(&BARE) {
        // There is nothing to divide by: somebody looks at a cell of one participant.
        let table = costs(figures, cells, &participants);
        return format!("{title} ({unit})\n\n{table}\n");
    }
    let others = || participants.iter().filter(|name| **name != BARE);
    let head = ["cell".to_owned(), "bare, µs".to_owned()];
    let mut table = Table::new(head.into_iter().chain(others().map(|name| short(name))));
    for cell in cells {
        let bare = figures.micros(&cell.name, BARE);
        let mut row = vec![cell.name.clone(), figure_or_nothing(bare)];
        row.extend(others().map(|name| ratio(figures, &cell.name, name, BARE)));
        table.row(row);
    }
    if cells.len() > 1 {
        let mut row = vec!["geometric mean".to_owned(), String::new()];
        row.extend(others().map(|name| figure_or_nothing(figures.mean_ratio(cells, name, BARE))));
        table.row(row);
    }
    format!("{title} (bare in {unit}; the others ÷ bare)\n\n{table}\n")
}

fn costs(figures: &Figures, cells: &[&CellName], participants: &[&str]) -> Table {
    let head = participants.iter().map(|name| short(name));
    let mut table = Table::new(std::iter::once("cell".to_owned()).chain(head));
    for cell in cells {
        let costs = participants
            .iter()
            .map(|name| figure_or_nothing(figures.micros(&cell.name, name)));
        table.row(std::iter::once(cell.name.clone()).chain(costs).collect());
    }
    table
}

/// With a word about the mark, where there is one.
fn explained(mut text: String) -> String {
    if text.contains(WIDE_MARK) {
        text.push_str(WIDE_SENTENCE);
    }
    text
}

/// A ratio in a cell, with a mark where the rounds are far apart.
fn ratio(figures: &Figures, cell: &str, who: &str, to: &str) -> String {
    let mark = match figures.is_wide(cell, who, to) {
        true => WIDE_MARK,
        false => "",
    };
    let ratio = figures.ratio(cell, who, to);
    ratio.map_or(NOTHING.to_owned(), |ratio| figure(ratio) + mark)
}

/// evloop ÷ the best peer, and streams ÷ the streams of others, cell by cell.
pub fn best_peers(figures: &Figures) -> String {
    let rivals = ["tokio", "uvloop streams", "asyncio streams"];
    let mut table = Table::new(
        ["cell", "best peer", "protocol ÷ best", "streams ÷ best"]
            .into_iter()
            .map(str::to_owned)
            .chain(rivals.map(|rival| format!("streams ÷ {rival}"))),
    )
    .words(2);
    for cell in &figures.cells {
        let name = &*cell.name;
        let best = figures.best_peer(name);
        let to_best =
            |ours| best.map_or(NOTHING.to_owned(), |best| ratio(figures, name, ours, best));
        let mut row = vec![
            name.to_owned(),
            best.unwrap_or(NOTHING).to_owned(),
            to_best(PROTOCOL),
            to_best(STREAMS),
        ];
        row.extend(rivals.map(|rival| ratio(figures, name, STREAMS, rival)));
        table.row(row);
    }
    if figures.cells.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    let groups = [
        ("request-response", figures.cells_of(Kind::RequestResponse)),
        ("all cells over TCP", figures.cells_over_tcp()),
    ];
    for (title, cells) in groups.into_iter().chain(figures.other_transports()) {
        let to_best = |ours| figure_or_nothing(figures.mean_to_best(&cells, ours));
        let mut row = vec![
            format!("mean, {title}"),
            String::new(),
            to_best(PROTOCOL),
            to_best(STREAMS),
        ];
        row.extend(
            rivals.map(|rival| figure_or_nothing(figures.mean_ratio(&cells, STREAMS, rival))),
        );
        table.row(row);
    }
    explained(format!("{table}\n{}\n", tie_sentence()))
}

pub fn tie_sentence() -> String {
    format!(
        "A ratio between {} and {} is a tie: the machine is not quieter than that.\n",
        TIE.start(),
        TIE.end()
    )
}

/// System calls, instructions and allocations per operation.
pub fn counts(run: &Run) -> String {
    let calls = count_table(run, "system calls", |count| count.system_calls);
    let instructions = count_table(run, "user instructions", |count| count.instructions);
    let allocations = count_table(run, "allocations", |count| count.allocations);
    or_not_measured(
        [calls, instructions, allocations]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

fn count_table(run: &Run, title: &str, of: fn(&Count) -> Option<f64>) -> Option<String> {
    let counted = || run.counts.iter().filter(|count| of(count).is_some());
    let cells = distinct(counted().map(|count| &*count.cell));
    let mut table = Table::new(
        std::iter::once(format!("{title} per operation"))
            .chain(cells.iter().map(|cell| (*cell).to_owned())),
    );
    for participant in in_order(counted().map(|count| &*count.participant)) {
        let mut row = vec![participant.to_owned()];
        row.extend(cells.iter().map(|cell| {
            let mut here = counted();
            let count = here.find(|count| count.cell == *cell && count.participant == participant);
            figure_or_nothing(count.and_then(of))
        }));
        table.row(row);
    }
    (!cells.is_empty()).then(|| table.to_string())
}

/// Round-trip times of a few cells.
pub fn latency(figures: &Figures) -> String {
    let timed = |cell: &str| {
        let mut results = figures.run.cells.iter();
        results.any(|result| result.cell == cell && result.latency.is_some())
    };
    let all = figures.cells.iter().map(|cell| &*cell.name);
    let preferred = ["c1-1K", "c100-1K", "c1000-64", "c10000-64"];
    let mut cells: Vec<&str> = preferred.into_iter().filter(|cell| timed(cell)).collect();
    if cells.is_empty() {
        cells = all.filter(|cell| timed(cell)).take(4).collect();
    }
    if cells.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    let head = cells
        .iter()
        .map(|cell| format!("{cell}: p50 / p99 / p99.9"));
    let mut table = Table::new(std::iter::once("µs".to_owned()).chain(head));
    let shown = figures.cells_where(|cell| cells.contains(&&*cell.name));
    for participant in figures.participants(&shown) {
        let mut row = vec![participant.to_owned()];
        row.extend(cells.iter().map(|cell| {
            let mut results = figures.run.cells.iter();
            let result =
                results.find(|result| result.cell == *cell && result.participant == participant);
            let latency = result.and_then(|result| result.latency);
            latency.map_or_else(
                || NOTHING.to_owned(),
                |at| [at.p50, at.p99, at.p999].map(figure).join(" / "),
            )
        }));
        table.row(row);
    }
    table.to_string()
}

/// Resident bytes for each idle connection.
pub fn idle(run: &Run) -> String {
    if run.idle.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    let mut table = Table::new(["participant", "connections", "bytes for each"]);
    for participant in in_order(run.idle.iter().map(|idle| &*idle.participant)) {
        for idle in run
            .idle
            .iter()
            .filter(|idle| idle.participant == participant)
        {
            table.row(vec![
                participant.to_owned(),
                figure(idle.connections as f64),
                figure(idle.bytes),
            ]);
        }
    }
    table.to_string()
}

/// Processor nanoseconds per operation without sockets.
pub fn tasks(figures: &Figures) -> String {
    let participants = figures.task_participants();
    if participants.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    let head = participants.iter().map(|name| short(name));
    let mut table = Table::new(
        std::iter::once("ns of CPU".to_owned())
            .chain(head)
            .chain(["evloop ÷ best peer".to_owned()]),
    );
    for name in distinct(figures.run.tasks.iter().map(|result| &*result.name)) {
        let mut row = vec![task_words(name).to_owned()];
        row.extend(
            participants
                .iter()
                .map(|who| figure_or_nothing(figures.task(name, who))),
        );
        let best = figures.best_task(name, |_| true);
        let ratio = best.and_then(|best| Some((best, figures.task_ratio(name, best)?)));
        row.push(ratio.map_or(NOTHING.to_owned(), |(best, ratio)| {
            format!("{} ({})", figure(ratio.value), short(best))
        }));
        table.row(row);
    }
    table.to_string()
}

fn task_words(name: &str) -> &str {
    match name {
        "spawn_await" => "spawn and await one",
        "spawn_batch" => "spawn 1,000, await 1,000",
        "yield" => "yield between two tasks",
        "call_soon" => "`call_soon` chain (peers: task spawns task)",
        "timer" => "timer created and cancelled",
        "timer_call_later" => "`call_later` and `cancel` (Python: as above)",
        "timer_10000" => "timer created and cancelled, 10,000 alive",
        "sleeps" => "100,000 sleeps firing, a task each",
        "cross_thread" => "cross-thread burst, per message",
        other => other,
    }
}

/// How the cost of an operation grows from 10 connections to 10,000.
pub fn growth(figures: &Figures) -> String {
    let Some((few, many)) = figures.growth_cells() else {
        return NOT_MEASURED.to_owned();
    };
    let (few, many) = (&*few.name, &*many.name);
    let mut table = Table::new([
        "participant".to_owned(),
        format!("{few}, µs"),
        format!("{many}, µs"),
        "growth".to_owned(),
        "÷ the bare loop's growth".to_owned(),
    ]);
    for participant in figures.participants(&figures.cells_where(|cell| cell.name == many)) {
        let cost = |cell| figures.micros(cell, participant);
        let growth = figures.growth(participant);
        let compared = figures.growth_to_bare(participant).map(|ratio| ratio.value);
        table.row(vec![
            participant.to_owned(),
            figure_or_nothing(cost(few)),
            figure_or_nothing(cost(many)),
            figure_or_nothing(growth),
            figure_or_nothing(compared),
        ]);
    }
    table.to_string()
}

/// Who or what is missing, and why.
pub fn left_out(run: &Run) -> String {
    if run.left_out.is_empty() {
        return "Nothing was left out.\n".to_owned();
    }
    run.left_out
        .iter()
        .map(|what| format!("- {what}\n"))
        .collect()
}

/// A name that fits the head of a column.
pub fn short(participant: &str) -> String {
    let rest = participant
        .strip_prefix(family(participant))
        .unwrap_or_default();
    let rest = match rest.trim() {
        "protocol" => " prot.",
        "streams" => " str.",
        _ => rest,
    };
    format!("{}{rest}", family(participant))
}

fn capital(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

fn or_nothing(text: &str) -> String {
    if text.is_empty() { NOTHING } else { text }.to_owned()
}

fn or_not_measured(text: String) -> String {
    if text.is_empty() {
        NOT_MEASURED.to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_cell_without_the_bare_loop_is_shown_in_microseconds() {
        let mut run = Run::default();
        sample::set(&mut run, "c10-1K", STREAMS, &[6_100.0]);
        let figures = Figures::new(&run);
        let text = cells(&figures);
        assert!(text.contains("| c10-1K |        6.10 |"), "{text}");
        assert_eq!(means(&figures), NOT_MEASURED);
    }

    #[test]
    fn unix_sockets_are_shown_by_themselves() {
        let run = sample::run();
        let figures = Figures::new(&run);
        assert!(means(&figures).contains("| churn (2) | unix sockets (5) |"));
        let cells = cells(&figures);
        assert!(cells.contains("**Request-response over unix sockets** (bare in µs"));
        assert!(best_peers(&figures).contains("| mean, unix sockets "));
    }

    #[test]
    fn a_name_in_the_head_of_a_column_is_short() {
        let names = ["bare", "evloop protocol", "asyncio streams", "monoio uring"];
        assert_eq!(
            names.map(short),
            ["bare", "evloop prot.", "asyncio str.", "monoio uring"]
        );
    }
}
