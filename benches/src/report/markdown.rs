//! A Markdown table whose columns line up, so that it can be read in a terminal as well.

use std::fmt::{self, Display, Formatter};

/// What stands where there is no figure.
pub const NOTHING: &str = "–";

/// The first column is words, the others are figures.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// How many columns from the left are words.
    words: usize,
}

impl Table {
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self {
            rows: vec![head.into_iter().map(Into::into).collect()],
            words: 1,
        }
    }

    pub fn words(mut self, columns: usize) -> Self {
        self.words = columns;
        self
    }

    pub fn row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).max(3)).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                if column < self.words {
                    write!(f, "| {cell:<width$} ")?;
                } else {
                    write!(f, "| {cell:>width$} ")?;
                }
            }
            writeln!(f, "|")?;
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let end = if column < self.words { '-' } else { ':' };
                    write!(f, "|{}{end}", "-".repeat(width + 1))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// Three digits that count, thousands set apart.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (i, digit) in digits.chars().enumerate() {
                if i > 0 && (digits.len() - i) % 3 == 0 {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
    }
}

pub fn figure_or_nothing(value: Option<f64>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["cell", "µs"]);
        table.row(vec!["c10-64".to_owned(), figure(5.6)]);
        table.row(vec!["c10000-64".to_owned(), figure(12_345.6)]);
        let lines = "\
| cell      |     µs |
|-----------|-------:|
| c10-64    |   5.60 |
| c10000-64 | 12,346 |
";
        assert_eq!(table.to_string(), lines);
    }

    #[test]
    fn three_digits_count() {
        let shown = [
            0.14,
            1.006,
            9.99,
            9.999,
            22.15,
            887.4,
            54_781.0,
            1_234_567.0,
        ]
        .map(figure);
        assert_eq!(
            shown,
            [
                "0.14",
                "1.01",
                "9.99",
                "10.0",
                "22.1",
                "887",
                "54,781",
                "1,234,567"
            ]
        );
        assert_eq!(figure_or_nothing(None), "–");
    }
}
