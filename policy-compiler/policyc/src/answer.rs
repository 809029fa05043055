//! The parts that all answers are made of, ready to be written as text, JSON or YAML.
//!
//! These types are the output format: a field's name or meaning changes only with
//! [`crate::output::API_VERSION`], and the schemas in `schemas/` describe them.

use std::collections::BTreeSet;

use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::document::Location;
use policy_compiler::verdict::{Decision, Ruling};
use serde::Serialize;

/// Where something stands in the input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file as it was named on the command line.
    pub file: String,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Place {
    /// The place, where one is known.
    #[must_use]
    pub fn of(location: &Location) -> Option<Self> {
        location.file.as_ref().map(|file| Self {
            file: file.to_string(),
            line: location.position.map(|p| p.line),
            column: location.position.map(|p| p.column),
        })
    }
}

/// What is said of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Every packet of it passes.
    Allowed,
    /// It is dropped.
    Denied,
    /// Some of its replicas or families pass.
    Partly,
    /// The input does not tell.
    Unknown,
}

impl From<Decision> for Outcome {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allowed => Outcome::Allowed,
            Decision::Denied => Outcome::Denied,
            Decision::Unknown => Outcome::Unknown,
        }
    }
}

/// Whether the specification settles an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Certainty {
    /// It does.
    Specified,
    /// It leaves a choice; another implementation may differ.
    Undefined,
}

impl Certainty {
    /// What it is with these rulings.
    #[must_use]
    pub fn of<T>(rulings: &[T]) -> Self {
        if rulings.is_empty() { Certainty::Specified } else { Certainty::Undefined }
    }

    /// Whether it is the specification that decides.
    #[must_use]
    pub fn is_undefined(self) -> bool {
        self == Certainty::Undefined
    }
}

/// A choice that the specification leaves open and that an answer rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RulingNote {
    /// Its name.
    pub ruling: &'static str,
    /// What is chosen here.
    pub explanation: &'static str,
}

/// The rulings as notes, in order.
#[must_use]
pub fn rulings(rulings: &BTreeSet<Ruling>) -> Vec<RulingNote> {
    let note = |ruling: &Ruling| RulingNote {
        ruling: match ruling {
            Ruling::OtherProtocols => "otherProtocols",
            Ruling::HostNetwork => "hostNetwork",
            Ruling::SharedAddress => "sharedAddress",
            Ruling::Hairpin => "hairpin",
            Ruling::LinkLocal => "linkLocal",
            Ruling::Translated => "translated",
            Ruling::UnknownAddress => "unknownAddress",
        },
        explanation: ruling.explanation(),
    };
    rulings.iter().map(note).collect()
}

/// Something about the input that a reader of the answer should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Warning {
    /// `note`, `warning` or `error`.
    pub severity: &'static str,
    /// What it is.
    pub message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Whether standard error has it already.
    #[serde(skip)]
    pub reported: bool,
}

impl Warning {
    /// A warning at a place.
    #[must_use]
    pub fn new(message: String, location: &Location) -> Self {
        Self {
            severity: "warning",
            message,
            help: None,
            place: Place::of(location),
            reported: false,
        }
    }

    /// This warning with advice.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl From<&Diagnostic> for Warning {
    fn from(diagnostic: &Diagnostic) -> Self {
        use policy_compiler::diagnostic::Severity;
        let object = diagnostic.object.as_ref().map(|o| format!("{o}: ")).unwrap_or_default();
        let field = &diagnostic.field;
        let colon = if field.is_empty() { "" } else { ": " };
        Self {
            severity: match diagnostic.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            message: format!("{object}{field}{colon}{}", diagnostic.message),
            help: diagnostic.help.clone(),
            place: Place::of(&diagnostic.location),
            reported: true,
        }
    }
}
