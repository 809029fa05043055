//! Label selectors: which pods or namespaces are meant.
//!
//! Source: Kubernetes "Labels and Selectors" and `metav1.LabelSelector`: all requirements must hold;
//! `NotIn` and `DoesNotExist` hold where the key is absent; no requirement selects everything.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::labels::Labels;

/// A conjunction of requirements on labels. Canonical: two selectors that list the same requirements
/// in another order, or twice, are equal. The empty one selects everything.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// In their order, each once. There are very many selectors, of a requirement or two.
    requirements: Arc<[Requirement]>,
}

/// One condition on one label key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label key.
    pub key: Arc<str>,
    /// What must hold of its value.
    pub operator: Operator,
}

/// What a [`Requirement`] asks of a label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// The key is there with one of these values. Never empty. `matchLabels` is this with one value.
    In(BTreeSet<Arc<str>>),
    /// The key is absent, or has none of these values. Never empty.
    NotIn(BTreeSet<Arc<str>>),
    /// The key is there.
    Exists,
    /// The key is absent.
    DoesNotExist,
}

impl Selector {
    /// The selector that asks for all of `requirements`.
    #[must_use]
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut requirements: Vec<Requirement> = requirements.into_iter().collect();
        requirements.sort();
        requirements.dedup();
        Self { requirements: requirements.into() }
    }

    /// The selector that selects everything: `{}`.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// The requirements, in canonical order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.iter()
    }

    /// All of them, to be replaced by equal ones.
    pub(crate) fn shared(&mut self) -> &mut Arc<[Requirement]> {
        &mut self.requirements
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether `labels` meet every requirement.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.holds(labels))
    }

    /// The requirements that `labels` do not meet, in canonical order; none where it matches.
    pub fn misses<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a Requirement> {
        self.requirements.iter().filter(|r| !r.holds(labels))
    }
}

impl Requirement {
    /// Whether `labels` meet it.
    #[must_use]
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match (&self.operator, value) {
            (Operator::In(values), Some(value)) => values.contains(value),
            (Operator::NotIn(values), Some(value)) => !values.contains(value),
            (Operator::In(_), None) => false,
            (Operator::NotIn(_), None) => true,
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
        }
    }
}

impl fmt::Display for Selector {
    /// As `kubectl -l` writes it: `app=web,tier in (a,b),!debug`; `everything` where it asks nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("everything");
        }
        for (i, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |values: &BTreeSet<Arc<str>>| values.iter().map(|v| &**v).collect::<Vec<_>>().join(",");
        let key = &self.key;
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl fmt::Debug for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}
