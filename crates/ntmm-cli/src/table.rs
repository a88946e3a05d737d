//! Tables of text: a heading, rows, columns of words to the left and columns of numbers to the
//! right.

use std::fmt;

/// A table being filled.
#[derive(Debug)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
    /// How many of the columns, from the first on, hold words.
    words: usize,
}

impl Table {
    /// A table without rows; its first column holds words, the others hold numbers.
    #[must_use]
    pub fn new<const COLUMNS: usize>(heading: [&str; COLUMNS]) -> Self {
        Self::with_words(1, heading)
    }

    /// A table without rows whose first `words` columns hold words.
    #[must_use]
    pub fn with_words<const COLUMNS: usize>(words: usize, heading: [&str; COLUMNS]) -> Self {
        Self { heading: heading.map(str::to_owned).into(), rows: Vec::new(), words }
    }

    /// Adds a row; it has as many cells as the heading.
    pub fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.into());
    }

    /// The heading.
    #[must_use]
    pub fn heading(&self) -> &[String] {
        &self.heading
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = vec![0; self.heading.len()];
        for row in std::iter::once(&self.heading).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut line = |cells: &[String]| {
            let mut text = String::new();
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let gap = " ".repeat(width - cell.chars().count());
                if column > 0 {
                    text.push_str("  ");
                }
                if column < self.words {
                    text.extend([cell.as_str(), &gap]);
                } else {
                    text.extend([gap.as_str(), cell]);
                }
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(&self.heading)?;
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        line(&rule)?;
        self.rows.iter().try_for_each(|row| line(row))
    }
}

/// A number with its digits in groups of three.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["name", "n"]);
        table.row(["a".into(), "1".into()]);
        table.row(["long name".into(), "22".into()]);
        assert_eq!(
            table.to_string(),
            "name        n\n---------  --\na           1\nlong name  22\n"
        );
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        let texts = [0, 7, 999, 1000, 123_456, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "7", "999", "1,000", "123,456", "1,234,567"]);
    }
}
