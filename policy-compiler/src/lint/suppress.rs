//! From what was found to the report: comments are heeded, and looked through themselves.

use std::collections::BTreeSet;

use super::finding::{Finding, Report, Unchecked};
use super::ignore::{Ignore, comments};
use super::rule::Rule;
use super::{Found, Material};
use crate::diagnostic::Severity;
use crate::document::Location;

/// The report: findings without those that comments suppress, and with what is wrong with comments.
pub(super) fn conclude(material: &Material<'_>, found: Found) -> Report {
    let ignores: Vec<Ignore> =
        material.texts.iter().flat_map(|(file, text)| comments(file, text)).collect();
    let mut used: BTreeSet<(usize, Rule)> = BTreeSet::new();
    let mut heed = |rule: Rule, location: &Location| {
        let mut heeded = false;
        for (i, ignore) in ignores.iter().enumerate() {
            if ignore.covers(location) && ignore.rules.contains(&Ok(rule)) {
                used.insert((i, rule));
                heeded = true;
            }
        }
        heeded
    };
    let mut report = Report::default();
    for finding in found.findings {
        let to = if heed(finding.rule, &finding.location) {
            &mut report.suppressed
        } else {
            &mut report.findings
        };
        to.push(finding);
    }
    for ((rule, reason), mut at) in found.unchecked {
        at.retain(|spot| !heed(rule, &spot.location));
        if !at.is_empty() {
            report.unchecked.push(Unchecked { rule, reason, at });
        }
    }
    for (i, ignore) in ignores.iter().enumerate() {
        report.findings.extend(about(ignore, |rule| used.contains(&(i, rule))));
    }
    report.findings.sort();
    report.findings.dedup();
    report.suppressed.sort();
    report.suppressed.dedup();
    report
}

/// What is wrong with a comment.
fn about(ignore: &Ignore, used: impl Fn(Rule) -> bool) -> Vec<Finding> {
    let finding = |severity, message: String, fix: String| Finding {
        location: ignore.location.clone(),
        rule: Rule::Suppression,
        object: None,
        field: String::new(),
        severity,
        message,
        fix: Some(fix),
        related: Vec::new(),
    };
    if ignore.rules.is_empty() {
        let fix = "name them: `# policyc:ignore PC013`".to_owned();
        return vec![finding(
            Severity::Warning,
            "this comment names no rule to ignore".to_owned(),
            fix,
        )];
    }
    let mut findings = Vec::new();
    for rule in &ignore.rules {
        match rule {
            Err(unknown) => findings.push(finding(
                Severity::Warning,
                unknown.to_string(),
                match unknown.nearest {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`policyc lint --explain` lists the rules".to_owned(),
                },
            )),
            Ok(Rule::Suppression) => findings.push(finding(
                Severity::Warning,
                "PC000 is about such comments and cannot be ignored".to_owned(),
                "remove it from the comment".to_owned(),
            )),
            Ok(rule) if !used(*rule) => findings.push(finding(
                Severity::Note,
                format!("{rule} finds nothing here, so that there is nothing to ignore"),
                "remove the comment, or put it where the finding is: on its line, on the line above, or \
                 at the head of the document"
                    .to_owned(),
            )),
            Ok(_) => {}
        }
    }
    findings
}
