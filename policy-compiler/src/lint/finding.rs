//! What the lint says.

use std::collections::BTreeSet;

use super::rule::Rule;
use crate::diagnostic::{ObjectRef, Severity};
use crate::document::Location;

/// Something in the input that is hardly meant. Ordered by place, so that sorted findings read as the
/// files do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub location: Location,
    /// By which rule.
    pub rule: Rule,
    /// In which object; absent where it is about a comment.
    pub object: Option<ObjectRef>,
    /// The field in that object, such as `spec.ingress[0].ports[1]`; empty for the whole.
    pub field: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, and what follows from it.
    pub message: String,
    /// How to mend it.
    pub fix: Option<String>,
    /// Other places that have a part in it.
    pub related: Vec<Related>,
}

/// A place that has a part in a finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Related {
    /// Where.
    pub location: Location,
    /// Which part.
    pub message: String,
}

/// What a rule could not decide, since the input lacks something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unchecked {
    /// Which rule.
    pub rule: Rule,
    /// What is missing.
    pub reason: String,
    /// Where it would have looked: objects, fields and places.
    pub at: BTreeSet<Spot>,
}

/// An object's field and its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Where.
    pub location: Location,
    /// The object.
    pub object: ObjectRef,
    /// The field in it.
    pub field: String,
}

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was found, in order of place.
    pub findings: Vec<Finding>,
    /// What was found and a comment suppresses, in order of place.
    pub suppressed: Vec<Finding>,
    /// What could not be decided, by rule and reason.
    pub unchecked: Vec<Unchecked>,
}

impl Report {
    /// How many findings are of `severity`.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether anything found is of `threshold` or worse.
    #[must_use]
    pub fn reaches(&self, threshold: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity >= threshold)
    }
}
