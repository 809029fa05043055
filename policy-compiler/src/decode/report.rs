//! Where in an object the decoder stands, and what it has found there.
//!
//! A [`Field`] is a node with its JSON path. A [`Report`] collects diagnostics; a finding is made
//! where it is seen, and what follows from it is added by whoever decides that: see
//! [`Report::conclude`]. A [`Mapping`] is a node known to be a mapping, whose keys have been looked
//! through: nothing can read a field that was written twice without somebody having been told.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use super::suggest::nearest;
use crate::diagnostic::{Diagnostic, ObjectRef, Severity};
use crate::document::{Entry, Location, Node, Position, Value};

/// The advice for a word that YAML takes for something else than text. Whoever has the source can
/// quote the word as it stands there.
pub const QUOTE_IT: &str = "put it in quotes";

/// How much of a text that somebody wrote is told.
const TOLD: usize = 600;

/// A text to be told on one line, whatever was written into the object that it quotes: a terminal and a
/// log are not to be written to by it, nor to be filled.
pub(super) fn plain(text: &str) -> String {
    // What turns the direction of writing hides what is read.
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| if c.is_control() || turns(c) { char::REPLACEMENT_CHARACTER } else { c };
    let mut plain: String = text.chars().take(TOLD).map(shown).collect();
    if text.chars().nth(TOLD).is_some() {
        plain.push_str("...");
    }
    plain
}

/// A node and the path that leads to it, such as `spec.ingress[0].from`.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
}

impl<'a> Field<'a> {
    /// The object itself.
    pub(super) fn root(node: &'a Node) -> Self {
        Self { node, path: String::new() }
    }

    /// A node at a path that is already known.
    pub(super) fn at(node: &'a Node, path: &str) -> Self {
        Self { node, path: path.to_owned() }
    }

    /// Whether there is a list without items here.
    pub(super) fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::List(items) if items.is_empty())
    }

    /// All that stands behind `key`, however often it is written; nothing where this is no mapping.
    pub(super) fn every(&self, key: &str) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let path = join(&self.path, key);
        let entries = match &self.node.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        let key = key.to_owned();
        entries
            .iter()
            .filter(move |entry| entry.key == key)
            .map(move |entry| Field { node: &entry.node, path: path.clone() })
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        Self { node, path: format!("{}[{index}]", self.path) }
    }
}

/// `path.key`, or `path[key]` where the key is no plain word.
fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key}]"),
    }
}

/// The fields that a mapping may have, and where people put others by mistake.
pub(super) struct Schema {
    /// What has these fields: "an ingress rule".
    pub(super) what: &'static str,
    /// Every field that it has.
    pub(super) fields: &'static [&'static str],
    /// Fields of something else that are often written here, and what to do about it.
    pub(super) misplaced: &'static [(&'static str, &'static str)],
}

/// A mapping whose keys have been looked through.
#[derive(Clone, Debug)]
pub(super) struct Mapping<'a> {
    pub(super) field: Field<'a>,
    entries: &'a [Entry],
    /// The keys that nobody knows here, as written.
    pub(super) unknown: BTreeSet<&'a str>,
    /// The keys that stand here more than once.
    pub(super) repeated: Vec<&'a str>,
}

impl<'a> Mapping<'a> {
    /// The field behind `key`; `None` where it is absent or null. The last of several counts.
    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().rev().find(|entry| entry.key == key)?;
        (!entry.node.is_null()).then(|| self.child(entry))
    }

    /// Every entry with its path, in the order of the source.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a Entry, Field<'a>)> {
        self.entries.iter().map(|entry| (entry, self.child(entry)))
    }

    /// The path that `key` has or would have.
    pub(super) fn path(&self, key: &str) -> String {
        join(&self.field.path, key)
    }

    /// Whether `key` stands here more than once.
    pub(super) fn repeats(&self, key: &str) -> bool {
        self.repeated.contains(&key)
    }

    fn child(&self, entry: &'a Entry) -> Field<'a> {
        Field { node: &entry.node, path: self.path(&entry.key) }
    }
}

/// A place in [`Report`] from which findings are looked at again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize);

/// What has been found in one object.
pub(super) struct Report<'a> {
    file: Option<&'a Arc<str>>,
    object: Option<ObjectRef>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(super) fn new(object: Option<ObjectRef>, file: Option<&'a Arc<str>>) -> Self {
        Self { file, object, diagnostics: Vec::new() }
    }

    /// The place of a node in the input.
    pub(super) fn location(&self, position: Option<Position>) -> Location {
        Location { file: self.file.cloned(), position }
    }

    /// Records that something is invalid.
    pub(super) fn error(&mut self, field: &Field<'_>, message: impl Display, help: Option<String>) {
        self.add(Severity::Error, field.node.position, field.path.clone(), message, help);
    }

    /// Records something that is legal and hardly meant.
    pub(super) fn warning(
        &mut self,
        field: &Field<'_>,
        message: impl Display,
        help: Option<String>,
    ) {
        self.add(Severity::Warning, field.node.position, field.path.clone(), message, help);
    }

    /// Records something worth knowing.
    pub(super) fn note(&mut self, field: &Field<'_>, message: impl Display) {
        self.add(Severity::Note, field.node.position, field.path.clone(), message, None);
    }

    /// The field behind `key`, which must be there: else `message` is recorded.
    pub(super) fn required<'n>(
        &mut self,
        mapping: &Mapping<'n>,
        key: &str,
        message: &str,
    ) -> Option<Field<'n>> {
        let field = mapping.get(key);
        if field.is_none() {
            self.missing(mapping, key, message);
        }
        field
    }

    /// Records that `key` of `mapping` is missing.
    pub(super) fn missing(&mut self, mapping: &Mapping<'_>, key: &str, message: impl Display) {
        let position = mapping.field.node.position;
        self.add(Severity::Error, position, mapping.path(key), message, None);
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "what is found is made where it is handed over"
    )]
    fn add(
        &mut self,
        severity: Severity,
        position: Option<Position>,
        field: String,
        message: impl Display,
        help: Option<String>,
    ) {
        self.diagnostics.push(Diagnostic {
            location: self.location(position),
            object: self.object.clone(),
            field: plain(&field),
            severity,
            message: plain(&message.to_string()),
            help: help.as_deref().map(plain),
        });
    }

    /// Remembers how far the report is.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.diagnostics.len())
    }

    /// Whether an error was found since `mark`.
    pub(super) fn failed_since(&self, mark: Mark) -> bool {
        self.errors_since(mark).next().is_some()
    }

    fn errors_since(&self, mark: Mark) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().skip(mark.0).filter(|d| d.severity == Severity::Error)
    }

    /// The first error since `mark` as a reason in one line, its path taken from `within`.
    fn reason_since(&self, mark: Mark, within: &str) -> Option<String> {
        self.errors_since(mark).next().map(|first| {
            let inner = first.field.strip_prefix(within).unwrap_or(&first.field);
            let inner = inner.strip_prefix('.').unwrap_or(inner);
            let separator = if inner.is_empty() { "" } else { ": " };
            format!("{inner}{separator}{}", first.message)
        })
    }

    /// Adds to every error since `mark` what follows from it, and returns the first as a reason in
    /// one line, its path taken from `within`. `None` where there was no error.
    pub(super) fn conclude(
        &mut self,
        mark: Mark,
        within: &str,
        consequence: &str,
    ) -> Option<String> {
        let reason = self.reason_since(mark, within);
        for diagnostic in self.diagnostics.iter_mut().skip(mark.0) {
            if diagnostic.severity == Severity::Error {
                diagnostic.message = format!("{}; {consequence}", diagnostic.message);
            }
        }
        reason
    }

    /// Everything that was found, in the order in which it was.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    /// The mapping at `field`, in which every key must be one of `schema` and stand there once.
    pub(super) fn strict<'n>(&mut self, field: &Field<'n>, schema: &Schema) -> Option<Mapping<'n>> {
        let mut mapping = self.mapping(field, Some(schema.fields))?;
        for (entry, child) in mapping.clone().entries() {
            let key = entry.key.as_str();
            if schema.fields.contains(&key) || !mapping.unknown.insert(key) {
                continue;
            }
            let position = entry.position.or(entry.node.position);
            let help = Some(unknown_field_help(key, schema));
            self.add(Severity::Error, position, child.path, "unknown field", help);
        }
        Some(mapping)
    }

    /// The mapping at `field`, of which only `fields` are read: each must stand there once at most.
    pub(super) fn lenient<'n>(
        &mut self,
        field: &Field<'n>,
        fields: &[&str],
    ) -> Option<Mapping<'n>> {
        self.mapping(field, Some(fields))
    }

    /// The mapping at `field`, whose keys are the user's own: each must stand there once.
    pub(super) fn open<'n>(&mut self, field: &Field<'n>) -> Option<Mapping<'n>> {
        self.mapping(field, None)
    }

    fn mapping<'n>(&mut self, field: &Field<'n>, fields: Option<&[&str]>) -> Option<Mapping<'n>> {
        let Value::Map(entries) = &field.node.value else {
            self.wrong_kind(field, "a mapping");
            return None;
        };
        let mut mapping = Mapping {
            field: field.clone(),
            entries,
            unknown: BTreeSet::new(),
            repeated: Vec::new(),
        };
        let mut seen = BTreeSet::new();
        for entry in entries {
            let key = entry.key.as_str();
            if seen.insert(key) || fields.is_some_and(|fields| !fields.contains(&key)) {
                continue;
            }
            let position = entry.position.or(entry.node.position);
            let path = mapping.path(key);
            let help = Some("keep one of them".to_owned());
            self.add(Severity::Error, position, path, "written more than once", help);
            mapping.repeated.push(key);
        }
        Some(mapping)
    }

    /// The items of the list at `field`.
    pub(super) fn list<'n>(&mut self, field: &Field<'n>) -> Option<Vec<Field<'n>>> {
        let Value::List(items) = &field.node.value else {
            self.wrong_kind(field, "a list");
            return None;
        };
        Some(items.iter().enumerate().map(|(i, node)| field.item(i, node)).collect())
    }

    /// The items of the list behind `key`; none where it is absent or null.
    pub(super) fn list_of<'n>(&mut self, mapping: &Mapping<'n>, key: &str) -> Vec<Field<'n>> {
        mapping.get(key).and_then(|field| self.list(&field)).unwrap_or_default()
    }

    /// The text at `field`.
    pub(super) fn text<'n>(&mut self, field: &Field<'n>) -> Option<&'n str> {
        let text = field.node.as_str();
        if text.is_none() {
            self.wrong_kind(field, "text");
        }
        text
    }

    /// The text behind `key`; `None` where it is absent, null or empty.
    pub(super) fn text_of<'n>(&mut self, mapping: &Mapping<'n>, key: &str) -> Option<&'n str> {
        let field = mapping.get(key)?;
        self.text(&field).filter(|text| !text.is_empty())
    }

    /// The whole number at `field`.
    pub(super) fn integer(&mut self, field: &Field<'_>) -> Option<i64> {
        if let Value::Int(number) = field.node.value {
            return Some(number);
        }
        self.wrong_kind(field, "a whole number");
        None
    }

    /// The boolean behind `key`; `false` where it is absent or null.
    pub(super) fn flag_of(&mut self, mapping: &Mapping<'_>, key: &str) -> bool {
        let Some(field) = mapping.get(key) else { return false };
        if let Value::Bool(flag) = field.node.value {
            return flag;
        }
        self.wrong_kind(&field, "`true` or `false`");
        false
    }

    fn wrong_kind(&mut self, field: &Field<'_>, wanted: &str) {
        let help = match (&field.node.value, wanted) {
            (Value::Int(n), "text") => Some(format!("{QUOTE_IT}: \"{n}\"")),
            (Value::Bool(b), "text") => Some(format!("{QUOTE_IT}: \"{b}\"")),
            (Value::Float(_), "text") => Some(QUOTE_IT.to_owned()),
            (Value::String(text), "a whole number") if text.parse::<i64>().is_ok() => {
                Some(format!("write {text} without quotes"))
            }
            (Value::Map(_), "a list") => Some("begin each item with `- `".to_owned()),
            _ => None,
        };
        let message = format!("must be {wanted}, is {}", field.node.kind());
        self.error(field, message, help);
    }
}

/// What to do about a key that `schema` does not have.
fn unknown_field_help(key: &str, schema: &Schema) -> String {
    if let Some((_, help)) = schema.misplaced.iter().find(|(misplaced, _)| *misplaced == key) {
        return (*help).to_owned();
    }
    if let Some(field) = nearest(key, schema.fields) {
        return format!("did you mean `{field}`?");
    }
    let fields = schema.fields.iter().map(|f| format!("`{f}`")).collect::<Vec<_>>().join(", ");
    format!("{} has {fields}", schema.what)
}
