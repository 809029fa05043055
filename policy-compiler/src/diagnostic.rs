//! What is wrong with an input, said so that a person can mend it.

use std::fmt;

use crate::document::Location;

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Probably not what was meant, or taken in one of several possible ways.
    Warning,
    /// Invalid; what it says is taken in the safe way, which denies.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// The object a [`Diagnostic`] speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The Kubernetes kind, such as `NetworkPolicy`.
    pub kind: String,
    /// The namespace as written, absent for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// The name as written, valid or not.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    /// `NetworkPolicy shop/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// One finding about the input. Ordered by place, so that sorted findings read as the files do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic {
    /// Where.
    pub location: Location,
    /// About which object.
    pub object: Option<ObjectRef>,
    /// The field in that object, such as `spec.ingress[0].from[1].ipBlock.cidr`; empty for the whole.
    pub field: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, and what follows from it.
    pub message: String,
    /// How to mend it, where that is known: "did you mean `from`?".
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    /// One line: `base.yaml:3:5: error: NetworkPolicy shop/web: spec.ingress[0].form: unknown field
    /// (did you mean `from`?)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.location.to_string();
        if !location.is_empty() {
            write!(f, "{location}: ")?;
        }
        write!(f, "{}: ", self.severity)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}
