//! One line of styled text.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;

use super::PLAIN;

/// A line made of spans, each with one style. Its width is what a terminal shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    spans: Vec<(Style, String)>,
}

impl Line {
    /// A line of one span.
    #[must_use]
    pub fn of(style: Style, text: impl Into<String>) -> Self {
        Self::default().with(style, text)
    }

    /// A line without style.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self::of(PLAIN, text)
    }

    /// This line and one more span.
    #[must_use]
    pub fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.push(style, text);
        self
    }

    /// Appends the spans of another line.
    pub fn append(&mut self, other: Line) {
        self.spans.extend(other.spans);
    }

    /// Appends a span.
    pub fn push(&mut self, style: Style, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.spans.push((style, text));
        }
    }

    /// This line between `before` and `after`, which no line end parts from it.
    #[must_use]
    pub fn between(mut self, before: &str, after: &str) -> Self {
        if let Some((_, text)) = self.spans.first_mut() {
            text.insert_str(0, before);
        }
        if let Some((_, text)) = self.spans.last_mut() {
            text.push_str(after);
        }
        self
    }

    /// How many spaces it begins with.
    #[must_use]
    pub fn leading_spaces(&self) -> usize {
        let mut chars = self.spans.iter().flat_map(|(_, text)| text.chars());
        chars.by_ref().take_while(|c| *c == ' ').count()
    }

    /// Columns that it takes on a terminal.
    #[must_use]
    pub fn width(&self) -> usize {
        self.spans.iter().map(|(_, text)| text.width()).sum()
    }

    /// Whether nothing is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Appends it to `out` with its escape codes, without a line end.
    pub fn write(&self, out: &mut String) {
        for (style, text) in &self.spans {
            // Writing to a String does not fail.
            let _ = write!(out, "{style}{text}{style:#}");
        }
    }

    /// The same text in lines no wider than `width`, broken at spaces and behind commas; a longer
    /// word stays whole. Continuation lines begin with `indent` spaces.
    #[must_use]
    pub fn wrapped(&self, width: usize, indent: usize) -> Vec<Line> {
        self.laid_out(self.words(), width, indent)
    }

    /// As [`Self::wrapped`], but a longer word is broken too.
    #[must_use]
    pub fn broken(&self, width: usize, indent: usize) -> Vec<Line> {
        let room = width.saturating_sub(indent).max(1);
        let pieces = |(style, word): (Style, String)| {
            let mut pieces = vec![(style, String::new())];
            for c in word.chars() {
                let full = pieces.last().is_some_and(|(_, piece)| piece.width() >= room);
                if full && c != ' ' {
                    pieces.push((style, String::new()));
                }
                if let Some((_, piece)) = pieces.last_mut() {
                    piece.push(c);
                }
            }
            pieces
        };
        self.laid_out(self.words().into_iter().flat_map(pieces).collect(), width, indent)
    }

    /// The width of the longest part that [`Self::wrapped`] keeps whole.
    #[must_use]
    pub fn longest_word(&self) -> usize {
        let width = |(_, word): &(Style, String)| word.trim_end_matches(' ').width();
        self.words().iter().map(width).max().unwrap_or(0)
    }

    fn laid_out(&self, words: Vec<(Style, String)>, width: usize, indent: usize) -> Vec<Line> {
        if self.width() <= width {
            return vec![self.clone()];
        }
        let mut lines = Vec::new();
        let mut line = Line::default();
        let mut used = 0;
        for (style, word) in words {
            let bare = word.trim_end_matches(' ').width();
            if used + bare > width && used > indent {
                lines.push(std::mem::take(&mut line).trimmed());
                line.push(PLAIN, " ".repeat(indent));
                used = indent;
            }
            used += word.width();
            line.push(style, word);
        }
        lines.push(line.trimmed());
        lines
    }

    /// The words, each with the spaces behind it.
    fn words(&self) -> Vec<(Style, String)> {
        let mut words = Vec::new();
        for (style, text) in &self.spans {
            let mut word = String::new();
            let mut after_break = false;
            for c in text.chars() {
                if after_break && c != ' ' {
                    words.push((*style, std::mem::take(&mut word)));
                    after_break = false;
                }
                after_break |= c == ' ' || c == ',';
                word.push(c);
            }
            words.push((*style, word));
        }
        words
    }

    fn trimmed(mut self) -> Self {
        while let Some((_, text)) = self.spans.last_mut() {
            text.truncate(text.trim_end_matches(' ').len());
            if !text.is_empty() {
                break;
            }
            self.spans.pop();
        }
        self
    }
}

/// Appends `line` to `out`, wrapped to `width` behind `margin` spaces; continuation lines stand
/// `hang` further in.
pub fn wrap(out: &mut String, line: &Line, margin: usize, hang: usize, width: usize) {
    for part in line.wrapped(width.saturating_sub(margin).max(20), hang) {
        out.push_str(&" ".repeat(margin));
        part.write(out);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<String> {
        lines
            .iter()
            .map(|line| line.spans.iter().map(|(_, text)| text.as_str()).collect())
            .collect()
    }

    #[test]
    fn a_long_line_breaks_at_spaces_and_behind_commas() {
        let line = Line::plain("app=cart,tier=be").with(super::super::DIM, " one two");
        assert_eq!(texts(&line.wrapped(10, 2)), ["app=cart,", "  tier=be", "  one two"]);
    }

    #[test]
    fn a_word_wider_than_the_line_stays_whole() {
        assert_eq!(texts(&Line::plain("abcdefgh ij").wrapped(4, 0)), ["abcdefgh", "ij"]);
    }

    #[test]
    fn a_word_wider_than_the_line_can_be_broken() {
        assert_eq!(texts(&Line::plain("abcdefgh ij").broken(5, 1)), ["abcd", " efgh", " ij"]);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(Line::plain("日本").width(), 4);
    }
}
