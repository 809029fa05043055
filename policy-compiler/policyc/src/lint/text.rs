//! The report for people: each finding as a diagnostic with its line, then what could not be told.

use std::fmt::Write as _;

use policy_compiler::diagnostic::Severity;
use policy_compiler::lint::{Finding, Report, Unchecked};
use policy_manifest::source::Sources;

use crate::report;
use crate::text::{DIM, GOOD, count, join};

/// The report as text.
pub(super) fn text(lint: &Report, sources: &Sources) -> String {
    let mut out = String::new();
    for finding in &lint.findings {
        out.push_str(&of_finding(finding, sources));
        out.push('\n');
    }
    for unchecked in &lint.unchecked {
        let _ = writeln!(out, "{}", of_unchecked(unchecked));
    }
    if !lint.unchecked.is_empty() {
        out.push('\n');
    }
    out.push_str(&summary(lint));
    out
}

fn of_finding(finding: &Finding, sources: &Sources) -> String {
    let mut message = String::new();
    if let Some(object) = finding.object.as_ref().filter(|object| object.kind != "Namespace") {
        let _ = write!(message, "{object}: ");
    }
    if !finding.field.is_empty() {
        let _ = write!(message, "{}: ", finding.field);
    }
    message.push_str(&finding.message);
    let entry = report::Entry {
        severity: finding.severity,
        code: Some(finding.rule.id()),
        message: &message,
        location: Some(&finding.location),
        fix: finding.fix.as_deref(),
    };
    entry.text(sources, &finding.related)
}

/// One line: the rule, why, and how many places that concerns.
fn of_unchecked(unchecked: &Unchecked) -> String {
    let first = unchecked.at.first();
    let whose = first.map(|spot| format!("{} {}", spot.object, spot.field)).unwrap_or_default();
    let more = match unchecked.at.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    format!("{DIM}unchecked {}: {} ({whose}{more}){DIM:#}", unchecked.rule, unchecked.reason)
}

fn summary(lint: &Report) -> String {
    let of = |severity, one, many| {
        let n = lint.count(severity);
        (n > 0).then(|| count(n, one, many))
    };
    let parts: Vec<String> = [
        of(Severity::Error, "error", "errors"),
        of(Severity::Warning, "warning", "warnings"),
        of(Severity::Note, "note", "notes"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let suppressed = match lint.suppressed.len() {
        0 => String::new(),
        n => format!("; {} ignored by comments", count(n, "finding", "findings")),
    };
    if parts.is_empty() {
        format!("{GOOD}no findings{GOOD:#}{suppressed}\n")
    } else {
        format!(
            "{}{suppressed}; `policyc lint --explain PC0xx` explains a rule\n",
            join(&parts, "and")
        )
    }
}
