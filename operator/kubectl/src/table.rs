//! Tables as kubectl prints them: columns under a line of capitals, three spaces apart, nothing else.

use std::fmt;

/// Rows under headers. A cell shows no control characters, whatever a registry or a label holds.
#[derive(Debug)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Between two columns.
const GAP: &str = "   ";

/// What stands where there is nothing.
pub(crate) const NONE: &str = "<none>";

impl Table {
    pub(crate) fn new(headers: impl IntoIterator<Item = &'static str>) -> Self {
        Self { headers: headers.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each header.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }
}

/// One line, without what a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    if text.is_empty() {
        return NONE.to_owned();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|header| (*header).to_owned()).collect();
        let lines = || std::iter::once(&headers).chain(&self.rows);
        let width = |column: usize| {
            lines().filter_map(|cells| cells.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.headers.len()).map(width).collect();
        for cells in lines() {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = padded.collect::<Vec<_>>().join(GAP);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["IMAGE", "VERDICT"]);
        table.row(["r.io/app".to_owned(), "Denied".to_owned()]);
        table.row(["ä".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "IMAGE      VERDICT\nr.io/app   Denied\nä          <none>\n");
    }

    #[test]
    fn a_terminal_obeys_nothing_that_a_registry_says() {
        let mut table = Table::new(["A"]);
        table.row(["one\u{1b}[2Jtwo\nthree".to_owned()]);
        assert_eq!(table.to_string(), "A\none [2Jtwo three\n");
    }
}
