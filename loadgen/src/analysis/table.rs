//! Tables for a person at a terminal: aligned columns, numbers with the unit that fits them.

use std::fmt;

/// A duration in the unit that keeps it readable: `950 ns`, `16.2 us`, `3.40 ms`, `12.0 s`.
pub fn duration(ns: f64) -> String {
    let magnitude = ns.abs();
    if !ns.is_finite() {
        return "-".to_owned();
    }
    let (value, unit) = match magnitude {
        _ if magnitude < 999.5 => return format!("{ns:.0} ns"),
        _ if magnitude < 999.5e3 => (ns / 1e3, "us"),
        _ if magnitude < 999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A count or a rate with a decimal prefix: `950`, `12.3 k`, `4.56 M`, `7.00 G`.
pub fn count(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        return "-".to_owned();
    }
    let (value, prefix) = match magnitude {
        _ if magnitude < 999.5 => {
            return if magnitude.fract() == 0.0 {
                format!("{value:.0}")
            } else {
                three_digits(value)
            };
        }
        _ if magnitude < 999.5e3 => (value / 1e3, "k"),
        _ if magnitude < 999.5e6 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    format!("{} {prefix}", three_digits(value))
}

/// A factor: `0.53`, `2.35`, `0.0045`; two significant digits below 0.1, two decimals above.
pub fn ratio(value: f64) -> String {
    if !value.is_finite() {
        "-".to_owned()
    } else if value == 0.0 || value.abs() >= 0.1 {
        format!("{value:.2}")
    } else {
        let decimals = (1.0 - value.abs().log10().floor()) as usize;
        format!("{value:.decimals$}")
    }
}

/// A share as a percentage: `12.5 %`.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", share * 100.0) } else { "-".to_owned() }
}

fn three_digits(value: f64) -> String {
    // Decided on the rounded value: 99.96 has one decimal too many if it becomes 100.0.
    let magnitude = value.abs();
    if magnitude < 9.995 {
        format!("{value:.2}")
    } else if magnitude < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Rows under a heading, printed with aligned columns. The first column is text and stands left;
/// the others stand right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(
        title: impl Into<String>,
        head: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            title: title.into(),
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a row; missing cells stay empty, surplus ones get a column without a heading.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a line below the table.
    pub fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.notes.push(note.into());
        self
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all_rows = || std::iter::once(&self.head).chain(&self.rows);
        let columns = all_rows().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                all_rows()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        if !self.title.is_empty() {
            writeln!(f, "{}", self.title)?;
        }
        for (index, row) in all_rows().enumerate() {
            let mut line = String::from(" ");
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                line.push(' ');
                line += &if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!(" {cell:>width$}")
                };
            }
            writeln!(f, "{}", line.trim_end())?;
            if index == 0 {
                let width = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
                writeln!(f, "  {}", "-".repeat(width))?;
            }
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_choose_their_unit() {
        for (ns, text) in [
            (0.0, "0 ns"),
            (999.0, "999 ns"),
            (999.6, "1.00 us"),
            (16_240.0, "16.2 us"),
            (999_400.0, "999 us"),
            (999_600.0, "1.00 ms"),
            (3_400_000.0, "3.40 ms"),
            (12e9, "12.0 s"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn counts_choose_their_prefix() {
        for (value, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (0.25, "0.25"),
            (950.0, "950"),
            (12_345.0, "12.3 k"),
            (99_960.0, "100 k"),
            (4_560_000.0, "4.56 M"),
            (7e9, "7.00 G"),
        ] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn ratios_keep_two_digits() {
        for (value, text) in
            [(0.53, "0.53"), (2.348, "2.35"), (0.0045, "0.0045"), (0.038, "0.038"), (0.0, "0.00")]
        {
            assert_eq!(ratio(value), text);
        }
        assert_eq!(percent(0.021), "2.1 %");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new("floors", ["figure", "value", "of floor"]);
        table.row(["echo p50", "16.2 us", "1.00"]);
        table.row(["one-way", "4.56 M"]).note("two cores");
        assert_eq!(
            table.to_string(),
            "floors\n\
             \x20 figure      value  of floor\n\
             \x20 ---------------------------\n\
             \x20 echo p50  16.2 us      1.00\n\
             \x20 one-way    4.56 M\n\
             \x20 two cores\n"
        );
    }
}
