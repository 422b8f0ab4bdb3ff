//! Counts against the committed ones, so that waste is noticed when it comes in and not when
//! somebody measures.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::PathBuf;

use evloop_benches::foreign;
use serde::{Deserialize, Serialize};

use crate::counts::Counted;
use crate::machine;
use crate::results::Count;

/// How much above the committed figure is too much, and how much below is worth a new figure.
const SLACK: f64 = 0.1;

/// Who is checked: our own code, and the loop by which it is divided.
pub const PARTICIPANTS: [&str; 2] = ["bare", "evloop"];

/// What a comparison found.
pub struct Verdict {
    /// A table and some sentences, in Markdown.
    pub text: String,
    pub passed: bool,
}

fn file() -> PathBuf {
    foreign::source("counts.json")
}

/// What `counts.json` holds.
#[derive(Serialize, Deserialize)]
struct Committed {
    /// The compiler that built what was counted: with another one instructions differ.
    rustc: String,
    counts: Vec<Count>,
}

/// Writes the committed figures anew.
pub fn accept(counted: &[Counted]) -> io::Result<()> {
    let committed = Committed {
        rustc: machine::rustc(),
        counts: counted
            .iter()
            .map(|counted| counted.count.clone())
            .collect(),
    };
    let mut text = serde_json::to_string_pretty(&committed)?;
    text.push('\n');
    fs::write(file(), text)
}

/// Compares with the committed figures.
pub fn compare(counted: &[Counted]) -> io::Result<Verdict> {
    let committed: Committed = serde_json::from_slice(&fs::read(file())?)?;
    let mut verdict = judge(counted, &committed.counts);
    verdict
        .text
        .push_str(&about_compilers(&committed.rustc, &machine::rustc()));
    Ok(verdict)
}

/// A word about the compiler, where it is another one.
fn about_compilers(committed: &str, now: &str) -> String {
    if committed == now {
        return String::new();
    }
    format!(
        "\nThe committed figures are those of {committed}, and this is {now}: instructions may \
         differ for that alone, system calls and allocations may not.\n"
    )
}

/// One kind of figure and where it stands in a [`Count`].
type Part = (&'static str, fn(&Count) -> Option<f64>);

const PARTS: [Part; 3] = [
    ("system calls", |count| count.system_calls),
    ("instructions", |count| count.instructions),
    ("allocations", |count| count.allocations),
];

fn judge(counted: &[Counted], committed: &[Count]) -> Verdict {
    let mut text = String::from(
        "| participant | cell | per operation | committed | now | |\n|---|---|---|--:|--:|---|\n",
    );
    let (mut passed, mut stale) = (true, false);
    for Counted { count, epoll_ctl } in counted {
        let known = committed
            .iter()
            .find(|known| known.participant == count.participant && known.cell == count.cell);
        for (name, part) in PARTS {
            let Some(now) = part(count) else { continue };
            let before = known.and_then(part);
            let word = match before {
                None => "not committed yet",
                Some(before) if is_above(now, before) => "too much",
                Some(before) if is_above(before, now) => "less",
                Some(_) => "",
            };
            passed &= word.is_empty() || word == "less";
            stale |= !word.is_empty();
            let before = before.map_or("–".to_owned(), |before| format!("{before:.2}"));
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "| {} | {} | {name} | {before} | {now:.2} | {word} |",
                count.participant, count.cell
            );
        }
        let registers = epoll_ctl.is_some_and(|calls| calls > 0.0);
        if registers && !count.cell.starts_with("churn") {
            passed = false;
            let _ = writeln!(
                text,
                "| {} | {} | epoll_ctl | 0 | {:.2} | after registration |",
                count.participant,
                count.cell,
                epoll_ctl.unwrap_or_default()
            );
        }
    }
    for known in committed {
        let counted = counted.iter().any(|Counted { count, .. }| {
            count.participant == known.participant && count.cell == known.cell
        });
        if !counted {
            passed = false;
            let _ = writeln!(
                text,
                "| {} | {} | everything | | | not counted |",
                known.participant, known.cell
            );
        }
    }
    if stale {
        text.push_str(
            "\n`--counts --accept` writes the figures of now, if there is a reason for them.\n",
        );
    }
    Verdict { text, passed }
}

/// More than the slack above. A figure near zero has a slack of its own: a tenth of nothing would
/// be nothing.
fn is_above(figure: f64, limit: f64) -> bool {
    figure > limit + (limit * SLACK).max(0.02)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(instructions: f64) -> Count {
        Count {
            participant: "evloop protocol".to_owned(),
            cell: "c1-1K".to_owned(),
            system_calls: Some(3.0),
            polls: Some(1.0),
            instructions: Some(instructions),
            allocations: Some(0.0),
        }
    }

    fn verdict(instructions: f64, epoll_ctl: f64) -> Verdict {
        let counted = Counted {
            count: count(instructions),
            epoll_ctl: Some(epoll_ctl),
        };
        judge(&[counted], &[count(300.0)])
    }

    #[test]
    fn a_tenth_is_allowed_and_no_more() {
        assert!(verdict(329.0, 0.0).passed);
        assert!(!verdict(331.0, 0.0).passed);
        assert!(verdict(100.0, 0.0).passed);
        assert!(verdict(100.0, 0.0).text.contains("less"));
    }

    #[test]
    fn another_compiler_is_named() {
        assert_eq!(about_compilers("rustc 1.95.0", "rustc 1.95.0"), "");
        let words = about_compilers("rustc 1.95.0", "rustc 1.96.0");
        assert!(
            words.contains("those of rustc 1.95.0, and this is rustc 1.96.0"),
            "{words}"
        );
    }

    #[test]
    fn the_committed_file_can_be_read() {
        let committed: Committed = serde_json::from_slice(&fs::read(file()).unwrap()).unwrap();
        assert!(!committed.counts.is_empty());
    }

    #[test]
    fn what_was_not_counted_fails() {
        assert!(!judge(&[], &[count(300.0)]).passed);
    }

    #[test]
    fn registering_again_is_refused() {
        assert!(!verdict(300.0, 0.5).passed);
    }
}
