//! Whether a run is a whole one: nothing is said to be reached or missed by a part of it.

use crate::cells::{self, Cell};
use crate::report::figures::{BARE, PROTOCOL, STREAMS};
use crate::report::tls::{self, TOKIO_RUSTLS};
use crate::results::{ROUNDS, Run};

/// How much of a run is there, in words, where it is not the whole.
pub fn shortfall(run: &Run) -> Option<String> {
    let (all, who) = if tls::is_all_of(run) {
        (cells::over_tls(), [PROTOCOL, STREAMS, TOKIO_RUSTLS])
    } else {
        (cells::without_tls(), [BARE, PROTOCOL, STREAMS])
    };
    let is_there = |cell: &Cell| is_there(run, &cell.name, &who);
    let cells = all.iter().filter(|cell| is_there(cell)).count();
    let mut words = vec![
        format!("{cells} of {} cells", all.len()),
        format!("{} rounds", run.rounds),
    ];
    if !run.scope.only.is_empty() {
        words.push(format!("only {}", run.scope.only.join(" and ")));
    }
    if run.scope.quick {
        words.push("short slices".to_owned());
    }
    let whole = cells == all.len() && run.rounds >= ROUNDS && words.len() == 2;
    (!whole).then(|| format!("{}: no verdict", words.join(", ")))
}

/// A cell is measured when those are whom the figures are about.
fn is_there(run: &Run, cell: &str, who: &[&str]) -> bool {
    who.iter().all(|who| {
        let mut results = run.cells.iter();
        results.any(|result| {
            result.cell == cell && result.participant == *who && !result.cpu_ns.is_empty()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_whole_run_falls_short_of_nothing() {
        assert_eq!(shortfall(&sample::run()), None);
        assert_eq!(shortfall(&sample::run_over_tls()), None);
    }

    #[test]
    fn what_is_missing_is_told() {
        let all = cells::without_tls().len();
        let told = |change: fn(&mut Run)| {
            let mut run = sample::run();
            change(&mut run);
            shortfall(&run).expect("a part")
        };
        assert_eq!(
            told(|run| run.rounds = 6),
            format!("{all} of {all} cells, 6 rounds: no verdict")
        );
        assert_eq!(
            told(|run| run.cells.retain(|result| result.cell != "c1-1K")),
            format!("{} of {all} cells, 7 rounds: no verdict", all - 1)
        );
        assert_eq!(
            told(|run| run.scope.only = vec!["bare".to_owned(), "evloop".to_owned()]),
            format!("{all} of {all} cells, 7 rounds, only bare and evloop: no verdict")
        );
        assert!(told(|run| run.scope.quick = true).contains("short slices: no verdict"));
    }
}
