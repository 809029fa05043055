//! Tables: columns that line up and rows that fit the width, whatever the cells hold. Where even the
//! longest words do not fit beside each other, the cells of a row stand below each other instead.

use anstyle::Style;

use super::{DIM, Line};

/// One column of a [`Table`].
#[derive(Clone, Debug)]
pub struct Column {
    title: &'static str,
    /// Whether its cells may be broken into several lines where the table is too wide.
    wraps: bool,
}

impl Column {
    /// A column whose cells stay on one line.
    #[must_use]
    pub fn fixed(title: &'static str) -> Self {
        Self { title, wraps: false }
    }

    /// A column whose cells may be wrapped.
    #[must_use]
    pub fn wrapping(title: &'static str) -> Self {
        Self { title, wraps: true }
    }
}

/// Rows of cells, each cell one or more lines.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Vec<Line>>>,
}

/// What stands between two columns.
const GAP: usize = 3;
/// No column is squeezed below this.
const NARROWEST: usize = 12;
/// How far in the further cells of a row stand where they are below the first.
const INSET: usize = 4;

impl Table {
    /// A table without rows. Where every title is empty, no line of titles is written.
    #[must_use]
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row; a cell is its lines. Missing cells are empty.
    pub fn row(&mut self, mut cells: Vec<Vec<Line>>) {
        cells.resize(self.columns.len(), Vec::new());
        self.rows.push(cells);
    }

    /// How wide it is where nothing is wrapped.
    #[must_use]
    pub fn natural_width(&self) -> usize {
        let widths = (0..self.columns.len()).map(|i| self.natural(i)).filter(|w| *w > 0);
        let (columns, all) = widths.fold((0_usize, 0), |(n, sum), w| (n + 1, sum + w));
        all + columns.saturating_sub(1) * GAP
    }

    /// Appends the table to `out`, behind `margin` spaces and no wider than `width`, if it can be.
    pub fn write(&self, out: &mut String, margin: usize, width: usize) {
        let Some(widths) = self.widths(width.saturating_sub(margin)) else {
            return self.write_stacked(out, margin, width);
        };
        if self.columns.iter().any(|c| !c.title.is_empty()) {
            let titles: Vec<Line> = self.columns.iter().map(|c| Line::of(TITLE, c.title)).collect();
            write_line(out, margin, &widths, &titles);
        }
        for row in &self.rows {
            let cells: Vec<Vec<Line>> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| cell.iter().flat_map(|l| l.wrapped(*width, 2)).collect())
                .collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(0);
            for i in 0..height {
                let line: Vec<Line> =
                    cells.iter().map(|cell| cell.get(i).cloned().unwrap_or_default()).collect();
                write_line(out, margin, &widths, &line);
            }
        }
    }

    /// Each row as its first cell with the others below it, each behind the title of its column.
    fn write_stacked(&self, out: &mut String, margin: usize, width: usize) {
        for row in &self.rows {
            let own = row.iter().flatten().next().map_or(0, Line::leading_spaces);
            for (i, (cell, column)) in row.iter().zip(&self.columns).enumerate() {
                let inset = if i == 0 { margin } else { margin + own + INSET };
                let room = width.saturating_sub(inset).max(1);
                for line in cell.iter().filter(|line| !line.is_empty()) {
                    let mut titled = Line::default();
                    if i > 0 && !column.title.is_empty() {
                        titled = Line::of(TITLE, format!("{} ", column.title));
                    }
                    titled.append(line.clone());
                    for part in titled.broken(room, 2) {
                        out.push_str(&" ".repeat(inset));
                        part.write(out);
                        out.push('\n');
                    }
                }
            }
        }
    }

    /// How wide each column becomes: as its widest line, then the widest that may wrap are narrowed
    /// until all fit, but no word is broken; `None` where that does not suffice. A column without
    /// content takes no place at all.
    fn widths(&self, room: usize) -> Option<Vec<usize>> {
        let least: Vec<usize> = (0..self.columns.len()).map(|i| self.least(i)).collect();
        let mut widths: Vec<usize> = (0..self.columns.len()).map(|i| self.natural(i)).collect();
        loop {
            let used = widths.iter().filter(|w| **w > 0).count().saturating_sub(1) * GAP
                + widths.iter().sum::<usize>();
            if used <= room {
                return Some(widths);
            }
            let widest = self
                .columns
                .iter()
                .zip(widths.iter_mut().zip(&least))
                .filter(|(column, (width, least))| column.wraps && **width > **least)
                .map(|(column, (width, _))| (column, width))
                .map(|(_, width)| width)
                .max_by_key(|width| **width);
            match widest {
                Some(width) => *width -= 1,
                None => return None,
            }
        }
    }

    /// The least width of a column in which every word stays whole.
    fn least(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        // Continuation lines stand in a little.
        let longest = cells.flatten().map(|line| line.longest_word() + 2).max().unwrap_or(0);
        longest.max(NARROWEST).min(self.natural(column))
    }

    fn natural(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        match cells.flatten().map(Line::width).max() {
            None | Some(0) => 0,
            Some(width) => width.max(self.columns[column].title.len()),
        }
    }
}

/// Titles of columns.
const TITLE: Style = DIM;

fn write_line(out: &mut String, margin: usize, widths: &[usize], cells: &[Line]) {
    let mut line = String::new();
    let mut behind = margin;
    for (cell, width) in cells.iter().zip(widths) {
        if *width == 0 {
            continue;
        }
        if !cell.is_empty() {
            line.push_str(&" ".repeat(behind));
            cell.write(&mut line);
            behind = 0;
        }
        behind += width.saturating_sub(cell.width()) + GAP;
    }
    out.push_str(&line);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(table: &Table, width: usize) -> String {
        let mut out = String::new();
        table.write(&mut out, 1, width);
        anstream::adapter::strip_str(&out).to_string()
    }

    fn cell(lines: &[&str]) -> Vec<Line> {
        lines.iter().map(|l| Line::plain(*l)).collect()
    }

    #[test]
    fn columns_line_up_and_empty_ones_vanish() {
        let mut table =
            Table::new(vec![Column::fixed("A"), Column::fixed("NONE"), Column::wrapping("B")]);
        table.row(vec![cell(&["x", "yy"]), cell(&[]), cell(&["one"])]);
        table.row(vec![cell(&["z"]), cell(&[]), cell(&["two"])]);
        assert_eq!(plain(&table, 80), " A    B\n x    one\n yy\n z    two\n");
    }

    #[test]
    fn where_words_do_not_fit_beside_each_other_cells_stand_below_each_other() {
        let mut table = Table::new(vec![Column::wrapping("FROM"), Column::wrapping("PORT")]);
        table.row(vec![cell(&["a-long-name-that-stays"]), cell(&["8080/TCP"])]);
        assert_eq!(plain(&table, 24), " a-long-name-that-stays\n     PORT 8080/TCP\n");
        assert_eq!(plain(&table, 15), " a-long-name-\n   that-stays\n     PORT\n       8080/TCP\n");
    }

    #[test]
    fn a_table_too_wide_wraps_the_columns_that_may() {
        let mut table = Table::new(vec![Column::fixed(""), Column::wrapping("")]);
        table.row(vec![cell(&["abc"]), cell(&["one two three four five"])]);
        assert_eq!(plain(&table, 23), " abc   one two three\n         four five\n");
    }
}
