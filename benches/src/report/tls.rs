//! TLS: what a second of the server's processor is good for, beside tokio-rustls.

use crate::report::cell_name::Kind;
use crate::report::complete;
use crate::report::figures::{Figures, PROTOCOL, Ratio, STREAMS};
use crate::report::markdown::{NOTHING, Table, figure, figure_or_nothing};
use crate::results::Run;

pub const TOKIO_RUSTLS: &str = "tokio-rustls";

/// Below this it is more than a tie.
const LEAST: f64 = 0.95;

/// Whether a run has cells over TLS and nothing else.
pub fn is_all_of(run: &Run) -> bool {
    let cells = &run.scope.cells;
    !cells.is_empty() && cells.iter().all(|cell| cell.starts_with("tls"))
}

/// A row for each cell: how much is done in a second of the server's processor time.
pub fn table(figures: &Figures) -> String {
    let head = [
        "cell",
        "operation",
        "tokio-rustls, µs each",
        "protocol",
        "",
        "streams",
        "",
    ];
    let mut table = Table::new(head).words(2);
    let shortfall = complete::shortfall(figures.run);
    for cell in &figures.cells {
        let name = &*cell.name;
        let mut row = vec![
            name.to_owned(),
            operation(name, cell.kind).to_owned(),
            figure_or_nothing(figures.micros(name, TOKIO_RUSTLS)),
        ];
        for ours in [PROTOCOL, STREAMS] {
            // More for the same time, so the other way round.
            let ratio = figures.mean(ours, &[(name, TOKIO_RUSTLS)]).map(inverse);
            row.push(figure_or_nothing(ratio.map(|ratio| ratio.value)));
            row.push(ratio.map_or(NOTHING.to_owned(), |ratio| match shortfall {
                Some(_) => "no verdict".to_owned(),
                None => verdict(ratio),
            }));
        }
        table.row(row);
    }
    let shortfall = shortfall.map(|words| format!("\n{words}.\n"));
    format!("{table}{}", shortfall.unwrap_or_default())
}

fn operation(name: &str, kind: Kind) -> &'static str {
    match kind {
        Kind::Churn if name.contains("resumed") => "resumed handshake, echo, end",
        Kind::Churn => "handshake, echo, end",
        kind => kind.operation(),
    }
}

fn inverse(ratio: Ratio) -> Ratio {
    Ratio {
        value: 1.0 / ratio.value,
        low: 1.0 / ratio.high,
        high: 1.0 / ratio.low,
    }
}

fn verdict(ratio: Ratio) -> String {
    let (low, high) = (figure(ratio.low), figure(ratio.high));
    if ratio.low >= LEAST {
        "reached".to_owned()
    } else if ratio.high < LEAST {
        format!("missed ({low} to {high})")
    } else {
        format!("not decided ({low} to {high})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn more_in_the_same_time_is_more() {
        let run = sample::run_over_tls();
        let text = table(&Figures::new(&run));
        assert!(
            text.contains("| tls-resumed-c10      | resumed handshake, echo, end |"),
            "{text}"
        );
        assert!(text.contains("1.25 | reached |"), "{text}");
    }

    #[test]
    fn what_is_behind_by_more_than_a_tie_is_missed() {
        let mut run = sample::run_over_tls();
        sample::set(&mut run, "tls-c1-1K", STREAMS, &[20_000.0; 7]);
        let text = table(&Figures::new(&run));
        assert!(text.contains(" 0.50 | missed (0.50 to 0.50) |"), "{text}");
        run.rounds = 3;
        let text = table(&Figures::new(&run));
        assert!(
            !text.contains("missed") && text.contains("no verdict"),
            "{text}"
        );
    }
}
