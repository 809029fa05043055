//! `policyc lint`: what is legal and hardly meant, from `policy_compiler::lint`, written for people, for
//! programs and as SARIF.
//!
//! Findings are the result and go to standard output; what could not be read, and diagnostics about
//! objects other than policies, go to standard error as with every command. Beside a cluster that
//! manifests are laid over, only what stands in the manifests is reported.

mod answer;
mod explain;
mod sarif;
mod text;

use std::collections::BTreeSet;
use std::sync::Arc;

use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::Location;
use policy_compiler::lint::{self, Finding, Material, Report, Rule};

use crate::args::{Lint, LintFormat, Threshold};
use crate::error::CommandError;
use crate::input::{self, Input};
use crate::live::LIVE;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::status::Status;

pub use answer::LintReport;
pub use explain::{explain, reference};

/// Lints what the command line names, or explains rules.
///
/// # Errors
/// Where the cluster cannot be read, a rule is unknown, or the result cannot be written.
pub fn run(args: &Lint, verbose: bool, output: Output) -> Result<Status, CommandError> {
    if let Some(rule) = &args.explain {
        return output.result(&explain(rule)?).map(|()| Status::Fine);
    }
    let chosen = Chosen::of(args)?;
    let input = input::load(&args.input, true, output)?;
    let progress = Progress::spin("linting");
    let report = report(&input, args, &chosen);
    drop(progress);
    input.report(verbose, output, |diagnostic| !is_told(diagnostic, &report));
    output.result(&match args.output {
        LintFormat::Text => text::text(&report, &input.loaded.sources),
        LintFormat::Sarif => output::json(&sarif::log(&report)),
        LintFormat::Json => output::json(&output::document("LintReport", &LintReport::of(&report))),
        LintFormat::Yaml => output::yaml(&output::document("LintReport", &LintReport::of(&report))),
    })?;
    Ok(input.status().and(status(&report, args.fail_on)))
}

fn status(report: &Report, threshold: Threshold) -> Status {
    let fails = match threshold {
        Threshold::Error => report.reaches(Severity::Error),
        Threshold::Warning => report.reaches(Severity::Warning),
        Threshold::Note => report.reaches(Severity::Note),
        Threshold::Never => false,
    };
    if fails { Status::Denied } else { Status::Fine }
}

/// Which rules are looked at.
struct Chosen(BTreeSet<Rule>);

impl Chosen {
    fn of(args: &Lint) -> Result<Self, CommandError> {
        let only = rules(&args.only)?;
        let ignored = rules(&args.ignore)?;
        let all = Rule::ALL.iter().copied();
        Ok(Self(
            all.filter(|rule| (only.is_empty() || only.contains(rule)) && !ignored.contains(rule))
                .collect(),
        ))
    }
}

fn rules(ids: &[String]) -> Result<BTreeSet<Rule>, CommandError> {
    ids.iter().map(|id| rule(id)).collect()
}

/// The rule of that id.
fn rule(id: &str) -> Result<Rule, CommandError> {
    id.parse().map_err(|unknown: lint::UnknownRule| {
        CommandError::usage(
            unknown.to_string(),
            match unknown.nearest {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`policyc lint --explain` lists them".to_owned(),
            },
        )
    })
}

fn report(input: &Input, args: &Lint, chosen: &Chosen) -> Report {
    let texts: Vec<(Arc<str>, Arc<str>)> = input
        .loaded
        .sources
        .iter()
        .map(|(name, text)| (Arc::from(name), Arc::from(text)))
        .collect();
    let mut report = lint::lint(&Material {
        snapshot: input.snapshot(),
        diagnostics: input.findings(),
        written: &input.loaded.written,
        texts: &texts,
        whole: args.input.is_live(),
    });
    // The cluster under an overlay is what the manifests meet, not what is looked through.
    let overlay = args.input.is_live() && !args.input.files.is_empty();
    let asked = |location: &Location| !overlay || location.file.as_deref() != Some(LIVE);
    let kept = |finding: &Finding| chosen.0.contains(&finding.rule) && asked(&finding.location);
    report.findings.retain(kept);
    report.suppressed.retain(kept);
    for unchecked in &mut report.unchecked {
        unchecked.at.retain(|spot| asked(&spot.location));
    }
    report
        .unchecked
        .retain(|unchecked| chosen.0.contains(&unchecked.rule) && !unchecked.at.is_empty());
    report
}

/// Whether a finding says what `diagnostic` does.
fn is_told(diagnostic: &Diagnostic, report: &Report) -> bool {
    let of_policy = diagnostic.object.as_ref().is_some_and(|o| o.kind == "NetworkPolicy");
    // Of two policies with one name each was diagnosed at its beginning, and the missing spec as well.
    let whole = |finding: &Finding| {
        matches!(finding.rule, Rule::Duplicate | Rule::TypesOmitted)
            && diagnostic.severity == Severity::Warning
            && matches!(diagnostic.field.as_str(), "" | "spec")
    };
    let same = |finding: &Finding| {
        finding.object == diagnostic.object
            && (whole(finding)
                || (finding.location == diagnostic.location && finding.field == diagnostic.field))
    };
    of_policy && report.findings.iter().chain(&report.suppressed).any(same)
}
