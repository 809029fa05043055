//! What the lint says about a text.

use std::fmt::Write as _;
use std::sync::Arc;

use policy_compiler::lint::{Finding, Material, Report, Rule, lint};
use policy_manifest::input::{Loaded, Options, merge, parse_file};

pub(crate) fn load(text: &str) -> Loaded {
    let options = Options { keep_policies: true, ..Options::default() };
    let file = parse_file("in.yaml", text, &options);
    let loaded = merge([&file]);
    assert!(loaded.unreadable.is_empty(), "{:?}\n{text}", loaded.unreadable);
    loaded
}

pub(crate) fn report_of(loaded: &Loaded, whole: bool) -> Report {
    let texts: Vec<(Arc<str>, Arc<str>)> =
        loaded.sources.iter().map(|(name, text)| (Arc::from(name), Arc::from(text))).collect();
    lint(&Material {
        snapshot: &loaded.snapshot,
        diagnostics: &loaded.diagnostics,
        written: &loaded.written,
        texts: &texts,
        whole,
    })
}

/// The report on manifests that may be a part of a cluster.
pub(crate) fn report(text: &str) -> Report {
    report_of(&load(text), false)
}

/// Everything that a finding says, in lines.
pub(crate) fn whole(finding: &Finding) -> String {
    let object = finding.object.as_ref().map(|o| format!("{o}: ")).unwrap_or_default();
    let mut text = format!(
        "{} {} {}: {object}{}: {}\n",
        finding.location, finding.rule, finding.severity, finding.field, finding.message
    );
    if let Some(fix) = &finding.fix {
        let _ = writeln!(text, "  fix: {fix}");
    }
    for related in &finding.related {
        let _ = writeln!(text, "  see {}: {}", related.location, related.message);
    }
    text
}

/// The findings of `rule` as `field: message`, and what it leaves unchecked as `? field: reason`.
pub(crate) fn of(rule: Rule, report: &Report) -> Vec<String> {
    let findings = report.findings.iter().filter(|f| f.rule == rule);
    let mut said: Vec<String> = findings.map(|f| format!("{}: {}", f.field, f.message)).collect();
    for unchecked in report.unchecked.iter().filter(|u| u.rule == rule) {
        said.extend(unchecked.at.iter().map(|s| format!("? {}: {}", s.field, unchecked.reason)));
    }
    said
}
