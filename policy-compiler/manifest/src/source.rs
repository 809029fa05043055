//! The texts that were read, kept so that a message can quote the line it speaks of.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy_compiler::document::{Location, Position};

/// The texts of a run by the names under which they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<Arc<str>, Arc<str>>);

impl Sources {
    /// Keeps the text of `name`, replacing what was there.
    pub fn insert(&mut self, name: Arc<str>, text: Arc<str>) {
        self.0.insert(name, text);
    }

    /// Takes over what `other` keeps.
    pub fn extend(&mut self, other: Sources) {
        self.0.extend(other.0);
    }

    /// The text of `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|text| &**text)
    }

    /// Names and texts in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (&**name, &**text))
    }

    /// The line at `location` with a caret under the place, as [`quote`] shows it; `None` where the
    /// place is not known.
    #[must_use]
    pub fn excerpt(&self, location: &Location) -> Option<String> {
        let position = location.position?;
        let text = self.text(location.file.as_deref()?)?;
        Some(quote(line(text, position.line)?, position))
    }
}

/// Line `number` (from 1) of `text`, without its end.
#[must_use]
pub fn line(text: &str, number: u32) -> Option<&str> {
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    text.strip_prefix('\u{feff}').unwrap_or(text).lines().nth(index)
}

/// The plain word that begins at `position` of `text`; `None` where something else does.
pub(crate) fn word(text: &str, position: Position) -> Option<&str> {
    let line = line(text, position.line)?;
    let column = usize::try_from(position.column.checked_sub(1)?).ok()?;
    let (start, _) = line.char_indices().nth(column)?;
    let rest = &line[start..];
    let end = rest.find(|c: char| c.is_whitespace() || ",[]{}\"'".contains(c));
    let word = rest[..end.unwrap_or(rest.len())].trim_end_matches(':');
    (!word.is_empty()).then_some(word)
}

/// What a quoted line shows for `c`: a tab would move the caret under it, and a control character the
/// terminal.
#[must_use]
pub fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '?',
        c => c,
    }
}

/// The longest part of a line that is worth showing, in characters.
const WIDTH: usize = 120;

/// A line as a message shows it, with a caret under the place:
///
/// ```text
///  52 |     - podSelectr: {}
///     |       ^
/// ```
///
/// A long line is cut to what surrounds the place; control characters are shown as `?`.
#[must_use]
pub fn quote(line: &str, position: Position) -> String {
    let number = position.line.to_string();
    let column = usize::try_from(position.column).unwrap_or(usize::MAX).saturating_sub(1);
    let length = line.chars().count();
    let column = column.min(length);
    let start = if column < WIDTH { 0 } else { column - WIDTH / 2 };
    let shown: String = line.chars().skip(start).take(WIDTH).map(printable).collect();
    let margin = " ".repeat(number.len());
    format!(
        " {number} | {}\n {margin} | {}^",
        shown.trim_end(),
        " ".repeat(column.saturating_sub(start))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Position {
        Position { line, column }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        assert_eq!(quote("  form: x", at(52, 3)), " 52 |   form: x\n    |   ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let quoted = quote(&line, at(1, 301));
        let rows: Vec<&str> = quoted.lines().collect();
        let caret = rows[1].find('^').unwrap();
        assert_eq!(rows[0].as_bytes()[caret], b'X');
        assert!(rows[0].len() < 130);
    }

    #[test]
    fn a_tab_or_an_escape_does_not_move_the_caret() {
        assert_eq!(quote("\t\u{1b}[31mx", at(1, 3)), " 1 |  ?[31mx\n   |   ^");
    }

    #[test]
    fn a_word_ends_where_plain_text_does() {
        let text = "namespace: y # why\nx: {a: 0o17, b: \"c\"}\n";
        assert_eq!(word(text, at(1, 12)), Some("y"));
        assert_eq!(word(text, at(2, 8)), Some("0o17"));
        assert_eq!(word(text, at(2, 17)), None);
        assert_eq!(word(text, at(9, 1)), None);
    }

    #[test]
    fn an_excerpt_needs_a_file_that_was_read_and_a_line_in_it() {
        let mut sources = Sources::default();
        sources.insert(Arc::from("a.yaml"), Arc::from("\u{feff}kind: Pod\r\nx: y\r\n"));
        let location = |file: &str, line| Location {
            file: Some(Arc::from(file)),
            position: Some(at(line, 1)),
        };
        assert_eq!(
            sources.excerpt(&location("a.yaml", 1)).as_deref(),
            Some(" 1 | kind: Pod\n   | ^")
        );
        assert_eq!(sources.excerpt(&location("a.yaml", 9)), None);
        assert_eq!(sources.excerpt(&location("b.yaml", 1)), None);
    }
}
