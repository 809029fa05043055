//! `policyc test`: files of expected verdicts, judged.
//!
//! A case is judged by `evaluate` and by the compiled rules, as `policy_manifest::judge` does; this
//! module counts, and shows why a flow fares otherwise than expected. A file that cannot be used
//! counts as failed and makes the exit status 2; the other files are judged all the same.

mod formats;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::flow::Flow;
use policy_manifest::case::{self, Case, CaseError};
use policy_manifest::input::STDIN;
use policy_manifest::judge::{FlowFault, Judgement, Outcome, judge};
use policy_manifest::source::Sources;
use serde::Serialize;

use crate::answer::Place;
use crate::args::{Test, TestFormat};
use crate::can::Answer;
use crate::error::CommandError;
use crate::output::{self, Output};
use crate::report;
use crate::status::Status;
use crate::text::{Layout, join};

/// What became of all files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestReport {
    /// How many cases passed.
    pub passed: usize,
    /// How many cases failed, and files that could not be used.
    pub failed: usize,
    /// The files in the order in which they were named.
    pub files: Vec<TestFile>,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestFile {
    /// Its name.
    pub file: String,
    /// What it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether all of its cases passed.
    pub passed: bool,
    /// Its cases in order.
    pub cases: Vec<TestCase>,
    /// Why it could not be used.
    pub errors: Vec<String>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestCase {
    /// Its name.
    pub case: String,
    /// Whether everything is as it says.
    pub passed: bool,
    /// How many flows it asks.
    pub flows: usize,
    /// What is not as it says.
    pub failures: Vec<Failure>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// One thing that is not as a case says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// What was expected and what was found.
    pub message: String,
    /// The flow line as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// What the policies say to the flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Where the case says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Judges the files and writes the report.
///
/// # Errors
/// Where a report cannot be written.
pub fn run(args: &Test, output: Output) -> Result<Status, CommandError> {
    let files: Vec<TestFile> = args.files.iter().map(|path| judged(path, output)).collect();
    let cases = || files.iter().flat_map(|file| &file.cases);
    let unusable = files.iter().filter(|file| !file.errors.is_empty()).count();
    let passed = cases().filter(|case| case.passed).count();
    let failed = cases().count() - passed + unusable;
    let report = TestReport { passed, failed, files };
    if let Some(path) = &args.junit {
        std::fs::write(path, formats::junit(&report)).map_err(|source| CommandError::Write {
            what: format!("the JUnit report {}", path.display()),
            source,
        })?;
    }
    let layout = Layout { width: output.width, directory: String::new() };
    output.result(&match args.output {
        TestFormat::Text => text::report(&report, &layout),
        TestFormat::Json => output::json(&output::document("TestReport", &report)),
        TestFormat::Yaml => output::yaml(&output::document("TestReport", &report)),
        TestFormat::Junit => formats::junit(&report),
        TestFormat::Tap => formats::tap(&report),
    })?;
    Ok(match (unusable, failed) {
        (0, 0) => Status::Fine,
        (0, _) => Status::Denied,
        _ => Status::Failed,
    })
}

/// The file at `path`; of a directory its `test.yaml`.
fn judged(path: &Path, output: Output) -> TestFile {
    let path: PathBuf = if path.is_dir() { path.join("test.yaml") } else { path.to_owned() };
    let name = path.display().to_string();
    let loaded = if path == Path::new(STDIN) { case::load_stdin() } else { case::load(&path) };
    match loaded {
        Ok(file) => {
            for diagnostic in untold(&file.cases) {
                output.diagnostic(&report::diagnostic(diagnostic, &file.sources));
            }
            let cases: Vec<TestCase> = file.cases.iter().map(judged_case).collect();
            TestFile {
                file: name,
                description: file.description,
                passed: cases.iter().all(|case| case.passed),
                cases,
                errors: Vec::new(),
            }
        }
        Err(error) => TestFile {
            file: name,
            description: None,
            passed: false,
            cases: Vec::new(),
            errors: unusable(&error, output),
        },
    }
}

/// Reports why a file cannot be used, and says it in a line each.
fn unusable(error: &CaseError, output: Output) -> Vec<String> {
    match error {
        CaseError::Unreadable { errors } => errors
            .iter()
            .map(|error| {
                output.diagnostic(&report::input_error(error, &Sources::default()));
                error.to_string().lines().next().unwrap_or_default().to_owned()
            })
            .collect(),
        CaseError::Invalid { diagnostics, sources } => diagnostics
            .iter()
            .map(|diagnostic| {
                output.diagnostic(&report::diagnostic(diagnostic, sources));
                diagnostic.to_string()
            })
            .collect(),
    }
}

/// The errors and warnings about the objects of cases, each once, without those that the case itself
/// speaks of.
fn untold(cases: &[Case]) -> BTreeSet<&Diagnostic> {
    let findings = cases.iter().flat_map(|case| {
        let expected = case.expected_diagnostics.as_deref().unwrap_or_default();
        case.diagnostics.iter().filter(move |diagnostic| {
            let text = diagnostic.to_string();
            !expected.iter().any(|expected| text.contains(&expected.text))
        })
    });
    findings.filter(|diagnostic| diagnostic.severity > Severity::Note).collect()
}

fn judged_case(case: &Case) -> TestCase {
    let judgement = judge(case);
    TestCase {
        case: case.name.clone(),
        passed: judgement.passed(),
        flows: judgement.outcomes.len(),
        failures: failures(case, &judgement),
        place: Place::of(&case.location),
    }
}

fn failures(case: &Case, judgement: &Judgement) -> Vec<Failure> {
    let mut failures: Vec<Failure> = Vec::new();
    for outcome in judgement.outcomes.iter().filter(|outcome| !outcome.passed()) {
        let Flow { from, to, traffic, family, .. } = &outcome.flow;
        let failure = Failure {
            message: format!("{from} -> {to} on {traffic}: {}", said(outcome)),
            line: Some(outcome.text.clone()),
            answer: Some(Answer::of(&case.snapshot, &outcome.flow, &outcome.verdict)),
            place: Place::of(&outcome.location),
        };
        let alike = |known: &&mut Failure| {
            (&known.message, &known.line, &known.place)
                == (&failure.message, &failure.line, &failure.place)
        };
        match failures.iter_mut().find(alike).and_then(|known| known.answer.as_mut()) {
            Some(answer) => answer.families.push(family.to_string()),
            None => failures.push(failure),
        }
    }
    for failure in &mut failures {
        if let Some(answer) = &failure.answer {
            let families = join(&answer.families, "and");
            failure.message = format!("{} ({families})", failure.message);
        }
    }
    failures.extend(judgement.faults.iter().map(|fault| Failure {
        message: fault.to_string(),
        line: None,
        answer: None,
        place: Place::of(&fault.location()),
    }));
    failures
}

/// What is wrong with a flow. That evaluator and rules are of one mind against the case is said once;
/// that they are of two minds is said as what it is.
fn said(outcome: &Outcome) -> String {
    let (expected, evaluated) = (outcome.expected, outcome.verdict.decision);
    let mut said: Vec<String> = match outcome.simulated {
        Some(simulated) if simulated != evaluated => vec![format!(
            "expected {expected}; the policies say {evaluated}, but the compiled rules {simulated}: \
             they ought to agree, so this is a defect of policyc"
        )],
        _ if evaluated != expected => vec![format!("expected {expected}, is {evaluated}")],
        _ => Vec::new(),
    };
    let others = outcome.faults.iter().filter(|fault| {
        !matches!(fault, FlowFault::Evaluated { .. } | FlowFault::Simulated { .. })
    });
    said.extend(others.map(ToString::to_string));
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::verdict::Decision;

    #[test]
    fn that_policies_and_compiled_rules_disagree_is_said() {
        let text = "pods: {x/a: {}, x/b: {}}\ncases: [{name: c, families: ipv4, deny: [x/a -> x/b on 80]}]\n";
        let file = case::parse("t.yaml", text, Path::new("")).expect("a case file");
        let mut outcome = judge(&file.cases[0]).outcomes.remove(0);
        assert_eq!(said(&outcome), "expected denied, is allowed");
        outcome.simulated = Some(Decision::Denied);
        outcome.faults.push(FlowFault::NoPacket);
        assert_eq!(
            said(&outcome),
            "expected denied; the policies say allowed, but the compiled rules denied: they ought to \
             agree, so this is a defect of policyc; no packet can be made of it"
        );
    }
}
