//! Comments that suppress findings.
//!
//! ```yaml
//! # policyc:ignore PC023 this namespace is closed by the platform's own policies
//! kind: NetworkPolicy                # at the head of its document: all of it
//! spec:
//!   # policyc:ignore PC013
//!   ingress: ...                     # on a line of its own: the next line that is no comment
//!   egress: []  # policyc:ignore PC005, PC004 we mean ingress
//! ```
//!
//! A comment names one rule or more, then whatever a reader should know. One that stands behind
//! something is about its line. Only comments count that begin so: text about them does not.

use std::sync::Arc;

use super::rule::{Rule, UnknownRule};
use crate::document::{Location, Position};

/// What such a comment begins with.
const MARK: &str = "policyc:ignore";

/// A comment that suppresses findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ignore {
    /// Where the mark stands.
    pub(super) location: Location,
    /// Which rules, in order, or what stands where one should.
    pub(super) rules: Vec<Result<Rule, UnknownRule>>,
    /// The lines that it is about.
    first: u32,
    last: u32,
}

impl Ignore {
    /// Whether it is about what stands at `location`.
    pub(super) fn covers(&self, location: &Location) -> bool {
        let line = location.position.map(|position| position.line);
        self.location.file == location.file
            && line.is_some_and(|line| (self.first..=self.last).contains(&line))
    }
}

/// A document under way.
#[derive(Default)]
struct Document {
    /// The comments that are about all of it, by their place among the ignores.
    head: Vec<usize>,
    /// The comments that wait for the next line.
    waiting: Vec<usize>,
    /// Whether anything but comments has been seen.
    begun: bool,
}

/// The comments of `text`, which was read from `file`.
pub(super) fn comments(file: &Arc<str>, text: &str) -> Vec<Ignore> {
    let mut ignores: Vec<Ignore> = Vec::new();
    if !text.contains(MARK) {
        return ignores;
    }
    let mut document = Document::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut last = 0;
    for (number, line) in (1_u32..).zip(text.lines()) {
        let separator =
            line.strip_prefix("---").filter(|r| r.is_empty() || r.starts_with([' ', '\t']));
        if separator.is_some() {
            close(&mut document, &mut ignores, number.saturating_sub(1));
        }
        let comment = comment(line);
        let content = &line[..comment.map_or(line.len(), |(at, _)| at)];
        let content = if separator.is_some() { content.get(3..).unwrap_or("") } else { content };
        let alone = content.trim().is_empty();
        if !alone {
            for waiting in document.waiting.drain(..) {
                ignores[waiting].first = number;
                ignores[waiting].last = number;
            }
            document.begun = true;
        }
        if let Some((at, rules)) = comment.and_then(|(at, comment)| Some((at, rules(comment)?))) {
            let column = u32::try_from(line[..at].chars().count()).unwrap_or(u32::MAX);
            let position = Position { line: number, column: column.saturating_add(1) };
            let location = Location { file: Some(file.clone()), position: Some(position) };
            ignores.push(Ignore { location, rules, first: number, last: number });
            match (alone, document.begun) {
                (false, _) => {}
                (true, false) => document.head.push(ignores.len() - 1),
                (true, true) => document.waiting.push(ignores.len() - 1),
            }
        }
        last = number;
    }
    close(&mut document, &mut ignores, last);
    ignores
}

/// Ends a document with line `last`.
fn close(document: &mut Document, ignores: &mut [Ignore], last: u32) {
    for head in std::mem::take(document).head {
        ignores[head].last = last;
    }
}

/// The comment of a line behind its `#`, and where that stands. Quotes that open and close on the line
/// are respected.
fn comment(line: &str) -> Option<(usize, &str)> {
    let mut quote: Option<char> = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '#') if before.is_whitespace() => return Some((at, &line[at + 1..])),
            (None, '"' | '\'') if before.is_whitespace() || "[{,:".contains(before) => {
                quote = line[at + 1..].contains(c).then_some(c);
            }
            _ => {}
        }
        before = c;
    }
    None
}

/// The rules that a comment names; `None` where it is another comment.
fn rules(comment: &str) -> Option<Vec<Result<Rule, UnknownRule>>> {
    let rest = comment.trim_start().strip_prefix(MARK)?;
    if !(rest.is_empty() || rest.starts_with([' ', '\t', ',', ':'])) {
        return None;
    }
    let words = rest.split([' ', '\t', ',', ':']).filter(|word| !word.is_empty());
    Some(words.take_while(|word| looks_like_id(word)).map(str::parse).collect())
}

/// Whether a word is meant as an id: letters `PC` in either case, then a digit.
fn looks_like_id(word: &str) -> bool {
    let mut bytes = word.bytes().map(|b| b.to_ascii_uppercase());
    bytes.next() == Some(b'P')
        && bytes.next() == Some(b'C')
        && bytes.next().is_some_and(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each comment as its line, its rules and the lines that it is about.
    fn of(text: &str) -> Vec<(u32, Vec<String>, u32, u32)> {
        comments(&Arc::from("a.yaml"), text)
            .into_iter()
            .map(|ignore| {
                let names = ignore.rules.iter().map(|rule| match rule {
                    Ok(rule) => rule.to_string(),
                    Err(unknown) => format!("? {}", unknown.text),
                });
                let line = ignore.location.position.unwrap().line;
                (line, names.collect(), ignore.first, ignore.last)
            })
            .collect()
    }

    fn one(line: u32, rules: &[&str], first: u32, last: u32) -> (u32, Vec<String>, u32, u32) {
        (line, rules.iter().map(ToString::to_string).collect(), first, last)
    }

    #[test]
    fn a_comment_is_about_its_line_the_next_line_or_its_document() {
        let text = "# why\n# policyc:ignore PC023 closed elsewhere\nkind: A\nspec:\n  # policyc:ignore PC013\n\n  # and so\n  ingress: []\n  egress: []  # policyc:ignore PC005, PC004: meant\n---\n# policyc:ignore pc001\nkind: B\n";
        assert_eq!(
            of(text),
            [
                one(2, &["PC023"], 2, 9),
                one(5, &["PC013"], 8, 8),
                one(9, &["PC005", "PC004"], 9, 9),
                one(11, &["PC001"], 11, 12),
            ]
        );
    }

    #[test]
    fn a_comment_behind_the_separator_is_at_the_head_of_what_follows() {
        let text = "kind: A\n--- # policyc:ignore PC010\nkind: B\nx: y\n";
        assert_eq!(of(text), [one(2, &["PC010"], 2, 4)]);
    }

    #[test]
    fn what_only_looks_like_a_comment_is_none() {
        for text in [
            "x: \"# policyc:ignore PC001\"\n",
            "x: 'a # policyc:ignore PC001'\n",
            "x: a#policyc:ignore PC001\n",
            "# see policyc:ignore PC001\n",
            "# policyc:ignored PC001\n",
        ] {
            assert_eq!(of(text), [], "{text}");
        }
        assert_eq!(of("x: it's # policyc:ignore PC001\n"), [one(1, &["PC001"], 1, 1)]);
    }

    #[test]
    fn unknown_and_missing_ids_are_kept_to_be_reported() {
        assert_eq!(
            of("x: y # policyc:ignore PC999 PC010 Postcode\n# policyc:ignore\n"),
            [one(1, &["? PC999", "PC010"], 1, 1), one(2, &[], 2, 2)]
        );
    }
}
