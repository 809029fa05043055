//! The case format: clusters, flows and the verdicts expected of them, in one file that is pleasant
//! to write by hand.
//!
//! ```text
//!  file ──reader──> base: manifests, pods, policies, objects
//!                   cases: the same, laid over the base ──> Snapshot
//!                          lines "x/a -> x/b on 80"     ──> Flows, each family that both ends have
//! ```
//!
//! Reading is strict: an unknown key, a line that does not parse, an end that the cluster lacks are
//! errors with file, line and the nearest known word, and the file is refused as a whole. What is
//! wrong in a *policy* is no error here: it may be just what a case is about; its diagnostics are
//! those of the [`Case`].

mod cluster;
mod flows;
mod line;
mod reader;
mod reading;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use policy_compiler::cluster::Snapshot;
use policy_compiler::config::PodNetworks;
use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::document::Location;
use policy_compiler::flow::Flow;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::Direction;
use policy_compiler::verdict::Decision;

pub use crate::judge::judge;

use crate::input::{self, InputError};
use crate::source::Sources;

/// A file of cases.
#[derive(Clone, Debug)]
pub struct CaseFile {
    /// Its name as the user wrote it.
    pub name: Arc<str>,
    /// What its cases show.
    pub description: Option<String>,
    /// The cases, in order; never empty.
    pub cases: Vec<Case>,
    /// The texts of the file and of the manifests that it names, for quoting.
    pub sources: Sources,
}

/// One case: a cluster and what is expected of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Where it stands.
    pub location: Location,
    /// The cluster.
    pub snapshot: Snapshot,
    /// The networks of their pods, of the nodes that deny unknown addresses in them.
    pub pod_networks: PodNetworks,
    /// What reading the cluster's objects had to say.
    pub diagnostics: Vec<Diagnostic>,
    /// The flow lines: those allowed, denied, unknown, and audited.
    pub expectations: Vec<Expectation>,
    /// Whether the specification decides all these flows, or a ruling does; if the case says so.
    pub certainty: Option<Certainty>,
    /// Rules that must be among those that allow a flow.
    pub because: Vec<Because>,
    /// The diagnostics expected. `None`: the case says nothing of them. Otherwise each text must be
    /// part of some diagnostic, and every error must be expected.
    pub expected_diagnostics: Option<Vec<ExpectedDiagnostic>>,
    /// Whether real packets can show this.
    pub kernel: bool,
}

/// One flow line: every one of its flows must have the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The line as written.
    pub text: String,
    /// Where it stands.
    pub location: Location,
    /// What is expected.
    pub decision: Decision,
    /// Whether some policy that is audited only would deny its flows; if the case says so.
    pub audited: Option<bool>,
    /// Its flows: sources by destinations by ports by families. Never empty.
    pub flows: Vec<Flow>,
}

/// Whether a verdict follows from the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// The specification says so.
    Specified,
    /// It rests on a ruling of this project.
    Undefined,
}

impl fmt::Display for Certainty {
    /// `specified` or `undefined`, as in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Certainty::Specified => "specified",
            Certainty::Undefined => "undefined",
        })
    }
}

/// A flow line and rules that must be among those that allow each of its flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// The flow line as written.
    pub text: String,
    /// Where it stands.
    pub location: Location,
    /// Its flows.
    pub flows: Vec<Flow>,
    /// The rules.
    pub rules: Vec<RuleReference>,
}

/// A rule as people name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleReference {
    /// The policy.
    pub policy: ObjectKey,
    /// In which of its lists.
    pub direction: Direction,
    /// At which place, from 0.
    pub index: usize,
}

impl fmt::Display for RuleReference {
    /// `shop/web ingress[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.index)
    }
}

/// A text that some diagnostic must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedDiagnostic {
    /// The text.
    pub text: String,
    /// Where the case says so.
    pub location: Location,
}

/// Why a case file cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CaseError {
    /// It, or a manifest that it names, cannot be read.
    #[error("{}", joined(errors))]
    Unreadable {
        /// Why; never empty.
        errors: Vec<InputError>,
    },
    /// It breaks the format.
    #[error("{}", quoted(diagnostics, sources))]
    Invalid {
        /// What is wrong; never empty.
        diagnostics: Vec<Diagnostic>,
        /// The texts, for quoting.
        sources: Sources,
    },
}

fn joined(errors: &[InputError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn quoted(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let one = |diagnostic: &Diagnostic| match sources.excerpt(&diagnostic.location) {
        Some(excerpt) => format!("{diagnostic}\n{excerpt}"),
        None => diagnostic.to_string(),
    };
    diagnostics.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Reads the case file at `path`, and the manifests that it names.
///
/// # Errors
/// Where one of them cannot be read, or the file breaks the format.
pub fn load(path: &Path) -> Result<CaseFile, CaseError> {
    let text =
        input::read_text(path).map_err(|error| CaseError::Unreadable { errors: vec![error] })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&path.display().to_string(), &text, directory)
}

/// Reads a case file from standard input; manifests are looked for from the working directory.
///
/// # Errors
/// As [`load`].
pub fn load_stdin() -> Result<CaseFile, CaseError> {
    let text = input::read_stdin().map_err(|e| CaseError::Unreadable { errors: vec![e] })?;
    parse(input::STDIN, &text, Path::new(""))
}

/// The cases in `text`, which was read from `name`; manifests are looked for from `directory`.
///
/// # Errors
/// Where a manifest cannot be read, or the text breaks the format.
pub fn parse(name: &str, text: &str, directory: &Path) -> Result<CaseFile, CaseError> {
    reading::read(name, text, directory)
}

#[cfg(test)]
mod tests;
