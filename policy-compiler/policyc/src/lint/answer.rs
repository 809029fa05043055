//! The report as data: what JSON and YAML show.

use policy_compiler::diagnostic::Severity;
use policy_compiler::lint::{Finding, Report, Unchecked};
use serde::Serialize;

use crate::answer::Place;

/// What the lint says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LintReport {
    /// What was found, in order of place.
    pub findings: Vec<LintFinding>,
    /// What was found and comments suppress.
    pub suppressed: Vec<LintFinding>,
    /// What the input does not tell.
    pub unchecked: Vec<LintUnchecked>,
    /// How much that is.
    pub summary: Summary,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LintFinding {
    /// The rule's id.
    pub rule: &'static str,
    /// `error`, `warning` or `note`.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The object, such as `NetworkPolicy shop/web`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The field in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Other places that have a part in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<LintRelated>,
}

/// A place that has a part in a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LintRelated {
    /// Which part.
    pub message: String,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// What a rule could not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LintUnchecked {
    /// The rule's id.
    pub rule: &'static str,
    /// What the input lacks.
    pub reason: String,
    /// Where it would have looked.
    pub at: Vec<LintSpot>,
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LintSpot {
    /// The object.
    pub object: String,
    /// The field in it.
    pub field: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Findings that are errors.
    pub errors: usize,
    /// Findings that are warnings.
    pub warnings: usize,
    /// Findings that are notes.
    pub notes: usize,
    /// Findings that comments suppress.
    pub suppressed: usize,
    /// Places that could not be judged.
    pub unchecked: usize,
}

impl LintReport {
    /// The report as data.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        Self {
            findings: report.findings.iter().map(finding).collect(),
            suppressed: report.suppressed.iter().map(finding).collect(),
            unchecked: report.unchecked.iter().map(unchecked).collect(),
            summary: Summary {
                errors: report.count(Severity::Error),
                warnings: report.count(Severity::Warning),
                notes: report.count(Severity::Note),
                suppressed: report.suppressed.len(),
                unchecked: report.unchecked.iter().map(|unchecked| unchecked.at.len()).sum(),
            },
        }
    }
}

fn finding(finding: &Finding) -> LintFinding {
    LintFinding {
        rule: finding.rule.id(),
        severity: finding.severity.to_string(),
        message: finding.message.clone(),
        fix: finding.fix.clone(),
        object: finding.object.as_ref().map(ToString::to_string),
        field: finding.field.clone(),
        place: Place::of(&finding.location),
        related: finding
            .related
            .iter()
            .map(|related| LintRelated {
                message: related.message.clone(),
                place: Place::of(&related.location),
            })
            .collect(),
    }
}

fn unchecked(unchecked: &Unchecked) -> LintUnchecked {
    LintUnchecked {
        rule: unchecked.rule.id(),
        reason: unchecked.reason.clone(),
        at: unchecked
            .at
            .iter()
            .map(|spot| LintSpot {
                object: spot.object.to_string(),
                field: spot.field.clone(),
                place: Place::of(&spot.location),
            })
            .collect(),
    }
}
