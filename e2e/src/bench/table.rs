//! What was measured, as a Markdown table: medians with the least and the most of the samples, and how columns
//! compare.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::peers::Peer;

/// Who or what is compared.
pub(super) trait Column: Copy + Ord + 'static {
    /// In the order of the table.
    const ALL: &'static [Self];
    /// How many times the first is the second, at the table's end.
    const RATIOS: &'static [(Self, Self)];

    /// The column's head.
    fn name(self) -> &'static str;
}

/// Rows in the order in which they were first added, those of one thing together.
#[derive(Debug)]
pub(super) struct Table<C = Peer> {
    rows: Vec<Row<C>>,
}

#[derive(Debug)]
struct Row<C> {
    what: String,
    unit: &'static str,
    samples: BTreeMap<C, Vec<f64>>,
}

/// One figure of one sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    /// The row.
    pub(super) what: String,
    /// Its unit.
    pub(super) unit: &'static str,
    pub(super) value: f64,
}

impl<C> Default for Table<C> {
    fn default() -> Self {
        Self { rows: Vec::new() }
    }
}

impl<C: Column> Table<C> {
    /// Adds a figure to its row.
    pub(super) fn add(&mut self, column: C, reading: Reading) {
        let Reading { what, unit, value } = reading;
        let known = self.rows.iter().position(|row| row.what == what && row.unit == unit);
        let at = known.unwrap_or_else(|| {
            // Not every column has every figure; those of one thing stand together all the same.
            let last = self.rows.iter().rposition(|row| row.what == what);
            let at = last.map_or(self.rows.len(), |last| last + 1);
            self.rows.insert(at, Row { what, unit, samples: BTreeMap::new() });
            at
        });
        self.rows[at].samples.entry(column).or_default().push(value);
    }

    /// The whole table.
    pub(super) fn markdown(&self) -> String {
        let ratios = C::RATIOS.iter().map(|(one, other)| format!("{} ÷ {}", one.name(), other.name()));
        let heads: Vec<String> = C::ALL.iter().map(|column| column.name().to_owned()).chain(ratios).collect();
        let mut text = format!("| | | {} |\n|---|---|{}\n", heads.join(" | "), "--:|".repeat(heads.len()));
        let mut before = "";
        for row in &self.rows {
            // A row that only has another unit does not say its name again.
            let what = if row.what == before { "" } else { row.what.as_str() };
            before = &row.what;
            let _ = write!(text, "| {what} | {} |", row.unit);
            for column in C::ALL {
                let samples = row.samples.get(column);
                let _ = write!(text, " {} |", samples.map_or_else(String::new, |it| spread(it)));
            }
            for (one, other) in C::RATIOS {
                let ratio = row.ratio(*one, *other);
                let _ = write!(text, " {} |", ratio.map_or_else(String::new, |it| format!("{it:.2}")));
            }
            text.push('\n');
        }
        text
    }
}

impl<C: Column> Row<C> {
    fn ratio(&self, one: C, other: C) -> Option<f64> {
        let (one, other) = (median(self.samples.get(&one)?)?, median(self.samples.get(&other)?)?);
        (other > 0.0).then(|| one / other)
    }
}

/// `MEDIAN (LEAST–MOST)`
fn spread(samples: &[f64]) -> String {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = median(samples).map_or_else(String::new, number);
    format!("{middle} ({}–{})", number(least), number(most))
}

fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = (sorted.get((sorted.len().checked_sub(1)?) / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*lower, *upper))
}

/// Three figures, which is more than the machine's noise deserves, and commas between thousands.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.9995 || value == 0.0 => 2,
        value if value >= 0.09995 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let whole = text.split('.').next().unwrap_or(&text);
    let mut grouped = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &text[whole.len()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_medians_spreads_and_ratios() {
        let mut table = Table::default();
        for (peer, value) in [
            (Peer::Berth, 60_000.0),
            (Peer::Berth, 61_234.0),
            (Peer::Berth, 80_000.0),
            (Peer::Nginx, 120_000.0),
        ] {
            table.add(peer, Reading { what: "GET".into(), unit: "requests/s", value });
        }
        table.add(Peer::Nginx, Reading { what: "PUT".into(), unit: "requests/s", value: 1.0 });
        table.add(Peer::Berth, Reading { what: "GET".into(), unit: "µs CPU each", value: 12.34 });
        let text = table.markdown();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        let first = "| GET | requests/s | 61,234 (60,000–80,000) |  | 120,000 (120,000–120,000) |  | 0.51 |";
        let second = "|  | µs CPU each | 12.3 (12.3–12.3) |  |  |  |  |";
        assert_eq!(rows, [first, second, "| PUT | requests/s |  |  | 1.00 (1.00–1.00) |  |  |"]);
    }

    #[test]
    fn numbers_have_three_figures() {
        let written = [1_234_567.8, 123.4, 12.34, 1.234, 0.1234, 0.0123, 0.0].map(number);
        assert_eq!(written, ["1,234,568", "123", "12.3", "1.23", "0.123", "0.0123", "0.00"]);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
