//! YAML and JSON text to [`Node`]s that know their line and column.
//!
//! The types that scalars get are those of Kubernetes' own YAML to JSON conversion (YAML 1.1 as
//! `sigs.k8s.io/yaml` speaks it), so that a manifest means here what it means to `kubectl apply`.
//! Duplicate keys are kept for decoders to judge. A document with nothing in it is no document.
//!
//! Invariants: no text makes this panic, recurse deeper than [`MAX_DEPTH`], or expand aliases to
//! more than a small multiple of its own size. On failure the whole text is refused, with the place.

mod compose;
mod json;
mod scalar;

use std::fmt;

use policy_compiler::document::{Node, Position};

use crate::source;

/// How deep lists and mappings may nest. Kubernetes objects stay far below; the bound keeps
/// everything recursive off the end of the stack.
pub const MAX_DEPTH: usize = 100;

/// Why a text is neither YAML nor JSON that can be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct YamlError {
    /// What is wrong.
    pub kind: YamlErrorKind,
    /// Where.
    pub position: Position,
    /// The offending line, if the place has one.
    pub line: Option<String>,
}

impl fmt::Display for YamlError {
    /// `line 3, column 5: tabs cannot indent`, then the line with a caret under the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        write!(f, "line {line}, column {column}: {}", self.kind)?;
        match &self.line {
            Some(text) => write!(f, "\n{}", source::quote(text, self.position)),
            None => Ok(()),
        }
    }
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlErrorKind {
    /// It breaks the grammar of YAML.
    #[error("not YAML: {0}")]
    Syntax(String),
    /// It is meant as JSON and breaks the grammar of JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// A character that YAML forbids, such as NUL.
    #[error("the character U+{:04X} is not allowed in YAML", u32::from(*.0))]
    Control(char),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// An alias whose anchor does not stand before it in the same document.
    #[error("an alias (`*name`) without a finished anchor (`&name`) before it in this document")]
    UnknownAlias,
    /// The aliases together stand for too much text.
    #[error("the aliases stand for too much text")]
    AliasBomb,
    /// A mapping key that is a list or a mapping.
    #[error("a mapping key must be a plain value")]
    Key,
    /// A merge key (`<<`) over something other than mappings.
    #[error("`<<` merges a mapping or a list of mappings, not {0}")]
    Merge(&'static str),
    /// A scalar whose tag it does not fit, such as `!!int web`.
    #[error("`{text}` is not what its tag `!!{tag}` says")]
    Tag {
        /// The tag's name.
        tag: String,
        /// The scalar.
        text: String,
    },
}

/// Which plain words are booleans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// As Kubernetes reads manifests: `y`, `yes`, `on`, `n`, `no` and `off` too (YAML 1.1).
    #[default]
    Kubernetes,
    /// `true` and `false` alone (the core schema of YAML 1.2), so that a label may be `y`.
    Core,
}

/// All documents of `text`, in order, as Kubernetes takes them. JSON is read too, several values one
/// after another included.
///
/// # Errors
/// Where some part is neither; nothing of the text is returned then.
pub fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    parse_as(text, Dialect::Kubernetes)
}

/// As [`parse`], in a dialect.
///
/// # Errors
/// As [`parse`].
pub fn parse_as(text: &str, dialect: Dialect) -> Result<Vec<Node>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let located = |(kind, position): Failure| YamlError {
        kind,
        position,
        line: source::line(text, position.line).map(str::to_owned),
    };
    check_characters(text).map_err(located)?;
    let yaml = match compose::documents(text, dialect) {
        Ok(nodes) => return Ok(nodes),
        Err(failure) => failure,
    };
    // What YAML reads and refuses for its size stays refused.
    let grammar = matches!(yaml.0, YamlErrorKind::Syntax(_));
    if !grammar || !text.trim_start().starts_with(['{', '[']) {
        return Err(located(yaml));
    }
    // YAML's grammar refuses some JSON (surrogate pairs, tabs in odd places, several values in a
    // row). Whichever reading got further says what is wrong.
    json::documents(text).map_err(|json| located(if json.1 >= yaml.1 { json } else { yaml }))
}

/// What went wrong and where, before the line is quoted.
type Failure = (YamlErrorKind, Position);

/// Refuses the characters that YAML does not allow anywhere. NUL above all: the scanner would take
/// it for the end of the text.
fn check_characters(text: &str) -> Result<(), Failure> {
    let is_allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..)
            && !matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    let Some((at, c)) = text.char_indices().find(|(_, c)| !is_allowed(*c)) else { return Ok(()) };
    let before = text.get(..at).unwrap_or_default();
    let last = before.rsplit('\n').next().unwrap_or_default();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = count(before.matches('\n').count()).saturating_add(1);
    let column = count(last.chars().count()).saturating_add(1);
    Err((YamlErrorKind::Control(c), Position { line, column }))
}

#[cfg(test)]
mod tests;
