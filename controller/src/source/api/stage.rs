//! What objects become: one object an event, a whole list one event at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::Node;
use policy_compiler::pool::Pool;
use policy_compiler::update::Event;

use super::kinds::{Followed, written_name};
use crate::source::{Change, Found, Problem, Subject};

/// An object as far as it could be read.
struct Reading<V> {
    name: Arc<str>,
    /// `None` where it cannot be decoded.
    value: Option<V>,
    found: Found,
}

fn read<T: Followed>(object: &Node) -> Reading<T::Value> {
    let name = written_name(object);
    match T::decode(object) {
        Ok(decoded) => {
            let found = Found { diagnostics: decoded.diagnostics, problems: Vec::new() };
            Reading { name, value: Some(decoded.object), found }
        }
        Err(diagnostics) => {
            let problems = vec![problem::<T>(object, &name, &diagnostics)];
            Reading { name, value: None, found: Found { diagnostics: Vec::new(), problems } }
        }
    }
}

fn problem<T: Followed>(object: &Node, name: &str, diagnostics: &[Diagnostic]) -> Problem {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
    let message = errors.map(ToString::to_string).collect::<Vec<_>>().join("; ");
    // The message says all that is known: as long as it is the same, it need not be told again.
    let input = format!("{} {name}", T::PLURAL).into();
    Problem { input, version: 0, message, node: T::only_on(object) }
}

/// The change that an object is now so. What cannot be decoded is no event.
pub(super) fn applied<T: Followed>(object: &Node) -> Change {
    let Reading { name, value, found } = read::<T>(object);
    let mut findings = BTreeMap::new();
    note(&mut findings, Arc::clone(&name), found);
    change::<T>(Some(name), value.map(T::applied), findings)
}

/// The change that an object is gone.
pub(super) fn deleted<T: Followed>(object: &Node) -> Change {
    let name = written_name(object);
    change::<T>(Some(name), T::key(object).map(T::deleted), BTreeMap::new())
}

fn note(findings: &mut BTreeMap<Arc<str>, Found>, name: Arc<str>, found: Found) {
    if found != Found::default() {
        findings.insert(name, found);
    }
}

fn change<T: Followed>(
    object: Option<Arc<str>>,
    event: Option<Event>,
    found: BTreeMap<Arc<str>, Found>,
) -> Change {
    let subject = Subject { kind: T::FOLLOWED, object };
    Change { subject, event, found, seen: Instant::now() }
}

/// A list that has not ended.
pub(super) struct Stage<T: Followed> {
    listed: Vec<T::Listed>,
    unread: BTreeSet<T::Key>,
    /// What they have in common.
    pool: Pool,
    found: BTreeMap<Arc<str>, Found>,
}

impl<T: Followed> Default for Stage<T> {
    fn default() -> Self {
        let (pool, found) = (Pool::default(), BTreeMap::new());
        Self { listed: Vec::new(), unread: BTreeSet::new(), pool, found }
    }
}

impl<T: Followed> Stage<T> {
    /// Takes one object of the list.
    pub(super) fn add(&mut self, object: &Node) {
        let Reading { name, value, found } = read::<T>(object);
        note(&mut self.found, name, found);
        if let Some(value) = value {
            self.listed.push(T::listed(value, &mut self.pool));
        } else if let Some(key) = T::key(object) {
            self.unread.insert(key);
        }
    }

    /// How many objects it has.
    pub(super) fn len(&self) -> usize {
        self.listed.len() + self.unread.len()
    }

    /// The change that this is all there is.
    pub(super) fn end(self) -> Change {
        change::<T>(None, Some(T::relisted(self.listed, self.unread)), self.found)
    }
}
