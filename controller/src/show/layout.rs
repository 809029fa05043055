//! Lines and tables that fit a terminal.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::DIM;

/// How wide text may be where the output is no terminal.
const DEFAULT_WIDTH: usize = 100;
/// The narrowest that anything is laid out for.
const NARROWEST: usize = 60;
/// Spaces between columns.
const GAP: usize = 3;

/// The width of the terminal that standard output is, or what `COLUMNS` says where it is none.
#[must_use]
pub fn width_of_stdout() -> usize {
    let terminal = terminal_size::terminal_size_of(std::io::stdout()).map(|(w, _)| w.0.into());
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.or_else(told).unwrap_or(DEFAULT_WIDTH).max(NARROWEST)
}

/// Text with its control characters, and those that turn the direction of writing or do not show,
/// written out.
#[must_use]
pub fn visible(text: &str) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if hides(c) {
            visible.extend(c.escape_default());
        } else {
            visible.push(c);
        }
    }
    visible
}

/// `1,234,567`.
#[must_use]
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 policy`, `2 policies`.
#[must_use]
pub fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `12 s`, `3 min 5 s`, `2 h 7 min`, `4 d 1 h`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Text in lines no wider than `width`, broken at spaces, and inside a word that is wider by itself.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ').flat_map(|word| pieces(word, width)) {
        let wide = word.width();
        if used > 0 && used + 1 + wide > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(&word);
            used += wide;
        }
    }
    lines
}

fn pieces(word: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for c in word.chars() {
        let full = pieces.last().is_some_and(|p| !p.is_empty() && p.width() >= width);
        if full {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

/// Appends `text` behind `first`, wrapped; further lines are indented as far as `first` is wide.
pub fn paragraph(out: &mut String, first: &str, style: Style, text: &str, width: usize) {
    let indent = first.width();
    for (index, line) in wrapped(text, width.saturating_sub(indent)).into_iter().enumerate() {
        if index == 0 {
            out.push_str(first);
        } else {
            out.push_str(&" ".repeat(indent));
        }
        put(out, style, &line);
        out.push('\n');
    }
}

/// Appends text in a style.
pub fn put(out: &mut String, style: Style, text: &str) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{style}{text}{style:#}");
}

/// What is in one place of a table: lines in one style, each of which may be wrapped.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    style: Style,
    lines: Vec<String>,
}

impl Cell {
    /// One line.
    #[must_use]
    pub fn line(style: Style, text: impl Into<String>) -> Self {
        Self { style, lines: vec![text.into()] }
    }

    /// Several, without style.
    #[must_use]
    pub fn lines(lines: Vec<String>) -> Self {
        Self { style: Style::new(), lines }
    }
}

/// A table with titles.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// How a column is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What stands above it.
    pub title: &'static str,
    /// Whether its lines stand at its right side.
    pub right: bool,
}

impl Table {
    /// A table without rows. A title that begins with `>` is of a column of numbers.
    #[must_use]
    pub fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| match title.strip_prefix('>') {
            Some(title) => Column { title, right: true },
            None => Column { title, right: false },
        };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Appends it, no wider than `width` wherever that can be.
    pub fn write(&self, out: &mut String, width: usize) {
        let widths = self.widths(width);
        let titles = self.columns.iter().map(|column| Cell::line(DIM, column.title)).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            self.write_row(out, &widths, row);
        }
    }

    fn write_row(&self, out: &mut String, widths: &[usize], row: &[Cell]) {
        let wrap = |(cell, width): (&Cell, &usize)| -> Vec<String> {
            cell.lines.iter().flat_map(|line| wrapped(line, *width)).collect()
        };
        let cells: Vec<Vec<String>> = row.iter().zip(widths).map(wrap).collect();
        for index in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut behind = 0;
            for (place, lines) in cells.iter().enumerate() {
                let (Some(width), Some(column), Some(cell)) =
                    (widths.get(place), self.columns.get(place), row.get(place))
                else {
                    continue;
                };
                let line = lines.get(index).map_or("", String::as_str);
                let free = width.saturating_sub(line.width());
                if !line.is_empty() {
                    let before = if column.right { free } else { 0 };
                    out.push_str(&" ".repeat(behind + before));
                    put(out, cell.style, line);
                    behind = 0;
                }
                let after = if line.is_empty() {
                    *width
                } else if column.right {
                    0
                } else {
                    free
                };
                behind += after + GAP;
            }
            out.push('\n');
        }
    }

    /// The widths in which all fits: the widest columns give way first, those before others whose words
    /// stay whole.
    fn widths(&self, width: usize) -> Vec<usize> {
        let mut widths = self.widest(UnicodeWidthStr::width);
        let words =
            self.widest(|line| line.split(' ').map(UnicodeWidthStr::width).max().unwrap_or(0));
        let room = width.saturating_sub(GAP * widths.len().saturating_sub(1));
        for least in [words, vec![8; widths.len()]] {
            while widths.iter().sum::<usize>() > room {
                let wide = widths.iter_mut().zip(&least).filter(|(width, least)| **width > **least);
                let Some((widest, _)) = wide.max() else { break };
                *widest -= 1;
            }
        }
        widths
    }

    /// The greatest measure of any line of each column, its title included.
    fn widest(&self, measure: impl Fn(&str) -> usize) -> Vec<usize> {
        let widest = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let lines = cells.flat_map(|cell| &cell.lines).map(|line| measure(line));
            lines.chain([measure(column.title)]).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(widest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn what_could_write_on_a_terminal_is_written_out() {
        assert_eq!(
            visible("a\u{1b}[31mb\r\nc\u{9b}d\u{202e}é日"),
            "a\\u{1b}[31mb\\r\\nc\\u{9b}d\\u{202e}é日"
        );
    }

    #[test]
    fn numbers_and_times_are_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let times = [5, 65, 3600, 90_000].map(duration);
        assert_eq!(times, ["5 s", "1 min 5 s", "1 h 0 min", "1 d 1 h"]);
    }

    #[test]
    fn text_is_broken_at_spaces_and_long_words_where_they_end() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn a_table_lines_up_and_the_widest_column_gives_way() {
        let mut table = Table::new(&["POD", ">RULES", "BY"]);
        let cell = |text: &str| Cell::line(Style::new(), text);
        table.row(vec![
            Cell::lines(vec!["shop/a".to_owned(), "shop/b".to_owned()]),
            cell("12"),
            cell("one, two, three"),
        ]);
        table.row(vec![cell("x"), cell(""), cell("y")]);
        let mut out = String::new();
        table.write(&mut out, 80);
        assert_eq!(
            plain(&out),
            "POD      RULES   BY\nshop/a      12   one, two, three\nshop/b\nx                y\n"
        );
        out.clear();
        table.write(&mut out, 28);
        assert_eq!(
            plain(&out),
            "POD      RULES   BY\nshop/a      12   one, two,\nshop/b           three\nx                y\n"
        );
        let mut table = Table::new(&["POD", "BY"]);
        table.row(vec![cell("a-name-of-20-letters"), cell("one, two, three")]);
        out.clear();
        table.write(&mut out, 30);
        let expected = "POD                    BY\na-name-of-20-letters   one,\n\
                        \u{20}                      two,\n\u{20}                      three\n";
        assert_eq!(plain(&out), expected);
    }
}
