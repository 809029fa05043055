//! Strict access to the tree of a case file: whatever is not as it should be is remembered with its
//! place and taken as absent, so that one run tells everything that is wrong.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use policy_compiler::decode::nearest;
use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::{Entry, Location, Node, Position, Value};

use crate::input::ParsedFile;

/// Collects what is wrong with one file.
pub(super) struct Reader {
    pub(super) file: Arc<str>,
    text: Arc<str>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// A mapping whose keys are all known and stand there once.
#[derive(Clone, Copy)]
pub(super) struct Section<'n>(&'n [Entry]);

impl<'n> Section<'n> {
    /// What is behind `key`; `None` where it is absent or null.
    pub(super) fn get(self, key: &str) -> Option<&'n Node> {
        self.0.iter().find(|e| e.key == key).map(|e| &e.node).filter(|node| !node.is_null())
    }

    /// The value behind `key` as `read` takes it.
    pub(super) fn map<T>(self, key: &str, read: impl FnOnce(&'n Node) -> T) -> Option<T> {
        self.get(key).map(read)
    }
}

impl Reader {
    pub(super) fn new(file: &str, text: &str) -> Self {
        Self { file: Arc::from(file), text: Arc::from(text), diagnostics: Vec::new() }
    }

    /// A place for the objects that stand in the file itself.
    pub(super) fn inline(&self) -> ParsedFile {
        ParsedFile::empty(self.file.clone(), self.text.clone())
    }

    pub(super) fn location(&self, position: Option<Position>) -> Location {
        Location { file: Some(self.file.clone()), position }
    }

    pub(super) fn error(&mut self, at: Option<Position>, message: impl Display) {
        self.error_with_help(at, message, None);
    }

    pub(super) fn error_with_help(
        &mut self,
        at: Option<Position>,
        message: impl Display,
        help: Option<String>,
    ) {
        self.diagnostics.push(Diagnostic {
            location: self.location(at),
            object: None,
            field: String::new(),
            severity: Severity::Error,
            message: message.to_string(),
            help,
        });
    }

    /// The mapping at `node`, called `what`, which may have the keys `known`.
    pub(super) fn section<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &[&'static str],
    ) -> Section<'n> {
        let entries = self.entries(node, what);
        for entry in entries.iter().filter(|e| !known.contains(&&*e.key)) {
            let help = match nearest(&entry.key, known) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("{what} has {}", known.join(", ")),
            };
            let message = format!("unknown key `{}` in {what}", entry.key);
            self.error_with_help(entry.position, message, Some(help));
        }
        Section(entries)
    }

    /// The entries of the mapping at `node`, whose keys are the user's own. Null has none.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Entry] {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                self.wrong_kind(node, what, "a mapping");
                &[]
            }
        };
        let mut seen = BTreeSet::new();
        for entry in entries {
            if !seen.insert(&entry.key) {
                self.error(entry.position, format!("`{}` stands in {what} twice", entry.key));
            }
        }
        entries
    }

    /// The items of the list at `node`. Null has none.
    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => {
                self.wrong_kind(node, what, "a list");
                &[]
            }
        }
    }

    /// The items of the list at `node`, or the one text that stands there instead.
    pub(super) fn texts<'n>(&mut self, node: &'n Node, what: &str) -> Vec<(&'n Node, &'n str)> {
        let items = match &node.value {
            Value::String(_) => std::slice::from_ref(node),
            _ => self.list(node, what),
        };
        let text = |item| self.text(item, &format!("an item of {what}")).map(|text| (item, text));
        items.iter().filter_map(text).collect()
    }

    /// The text at `node`.
    pub(super) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        if node.as_str().is_none() {
            self.wrong_kind(node, what, "text");
        }
        node.as_str()
    }

    /// The boolean at `node`.
    pub(super) fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Value::Bool(flag) = node.value {
            return Some(flag);
        }
        self.wrong_kind(node, what, "`true` or `false`");
        None
    }

    /// The one of `words` that stands at `node`, by its place among them.
    pub(super) fn word(
        &mut self,
        node: &Node,
        what: &str,
        words: &[&'static str],
    ) -> Option<usize> {
        let text = self.text(node, what)?;
        let found = words.iter().position(|word| word.eq_ignore_ascii_case(text));
        if found.is_none() {
            let help = nearest(text, words).map(|word| format!("did you mean `{word}`?"));
            let message = format!("`{text}` is no {what}: one of {}", words.join(", "));
            self.error_with_help(node.position, message, help);
        }
        found
    }

    fn wrong_kind(&mut self, node: &Node, what: &str, wanted: &str) {
        self.error(node.position, format!("{what} must be {wanted}, is {}", node.kind()));
    }
}
