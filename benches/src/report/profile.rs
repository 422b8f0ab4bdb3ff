//! The table of a profile: where our own instructions for an echo are.

use std::collections::BTreeMap;

use crate::report::figures::{distinct, in_order};
use crate::report::markdown::Table;
use crate::report::tables::NOT_MEASURED;
use crate::results::Run;

/// A floor that is less than this for everybody stands in the row of the rest.
const LEAST: f64 = 5.0;

/// A file that is less than this for everybody has no row, but counts for its floor.
const LEAST_OF_FILES: f64 = 15.0;

/// Instructions of each participant.
type Row = Vec<f64>;

/// Floors, the dearest first, with those of their files that count.
pub fn table(run: &Run) -> String {
    let participants = in_order(run.profiles.iter().map(|profile| &*profile.participant));
    if participants.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    let cells = distinct(run.profiles.iter().map(|profile| &*profile.cell)).join(", ");
    let head = [
        format!("user instructions per echo, {cells}"),
        "file or function".to_owned(),
    ];
    let columns = participants.iter().map(|who| (*who).to_owned());
    let mut table = Table::new(head.into_iter().chain(columns)).words(2);

    let floors = floors(run, &participants);
    let mut little = vec![0.0; participants.len()];
    let sums = floors
        .iter()
        .map(|(floor, files)| (floor, sum(files.values())));
    for (floor, figures) in dearest_first(sums) {
        if is_below(LEAST, &figures) {
            little = sum([&little, &figures]);
            continue;
        }
        table.row(row(floor, "", &figures));
        let files = floors[floor]
            .iter()
            .filter(|(file, row)| !file.is_empty() && !is_below(LEAST_OF_FILES, row));
        for (file, figures) in dearest_first(files.map(|(file, row)| (file, row.clone()))) {
            table.row(row("", &format!("`{file}`"), &figures));
        }
    }
    table.row(row("what is less than 5 each", "", &little));
    let all = sum(floors.values().flat_map(BTreeMap::values));
    table.row(row("all", "", &all));
    table.to_string()
}

/// By floor and by file, a figure for each participant.
fn floors(run: &Run, participants: &[&str]) -> BTreeMap<String, BTreeMap<String, Row>> {
    let mut floors: BTreeMap<_, BTreeMap<_, Row>> = BTreeMap::new();
    for profile in &run.profiles {
        let column = participants
            .iter()
            .position(|who| *who == profile.participant);
        for part in &profile.parts {
            let files = floors.entry(part.floor.clone()).or_default();
            let row = files
                .entry(part.file.clone())
                .or_insert_with(|| vec![0.0; participants.len()]);
            row[column.unwrap_or_default()] += part.instructions;
        }
    }
    floors
}

fn sum<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Row {
    let mut rows = rows.into_iter();
    let first = rows.next().cloned().unwrap_or_default();
    rows.fold(first, |sum, row| {
        sum.iter().zip(row).map(|(a, b)| a + b).collect()
    })
}

fn dearest_first<'a>(rows: impl Iterator<Item = (&'a String, Row)>) -> Vec<(&'a String, Row)> {
    let mut rows: Vec<_> = rows.collect();
    let cost = |row: &Row| row.iter().sum::<f64>();
    rows.sort_by(|(_, a), (_, b)| cost(b).total_cmp(&cost(a)));
    rows
}

fn is_below(least: f64, row: &Row) -> bool {
    row.iter().all(|count| count.abs() < least)
}

/// Whole instructions: these are counts.
fn row(floor: &str, file: &str, figures: &Row) -> Vec<String> {
    let figures = figures.iter().map(|count| format!("{count:.0}"));
    [floor.to_owned(), file.to_owned()]
        .into_iter()
        .chain(figures)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Profile, ProfilePart};

    fn profile(participant: &str, parts: &[(&str, &str, f64)]) -> Profile {
        let part = |&(floor, file, instructions): &(&str, &str, f64)| ProfilePart {
            floor: floor.to_owned(),
            file: file.to_owned(),
            instructions,
        };
        Profile {
            participant: participant.to_owned(),
            cell: "c100-1K".to_owned(),
            parts: parts.iter().map(part).collect(),
        }
    }

    #[test]
    fn floors_add_up_and_the_dearest_comes_first() {
        let run = Run {
            profiles: vec![
                profile(
                    "evloop protocol",
                    &[("sys", "src/sys/mio.rs", 40.0), ("crate mio", "", 2.0)],
                ),
                profile(
                    "evloop streams",
                    &[
                        ("streams", "src/streams/a.rs", 60.0),
                        ("streams", "src/streams/b.rs", 30.0),
                        ("sys", "src/sys/mio.rs", 45.0),
                    ],
                ),
            ],
            ..Run::default()
        };
        let text = table(&run);
        let rows = text
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().collect::<String>());
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [
                "|streams||0|90|",
                "||`src/streams/a.rs`|0|60|",
                "||`src/streams/b.rs`|0|30|",
                "|sys||40|45|",
                "||`src/sys/mio.rs`|40|45|",
                "|whatislessthan5each||2|0|",
                "|all||42|135|",
            ]
        );
        assert_eq!(table(&Run::default()), NOT_MEASURED);
    }
}
