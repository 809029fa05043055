//! What a pipeline asks: `lint`, `diff`, `test`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Cluster, Families, Input};

/// `policyc lint`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc lint -f examples/shop\n  \
    policyc lint                             # the cluster of the kubeconfig\n  \
    policyc lint --live -f new.yaml          # new.yaml, in that cluster\n  \
    policyc lint -f k8s -o sarif --fail-on error > lint.sarif\n  \
    policyc lint --explain PC013\n\n\
    A comment `# policyc:ignore PC013 WHY` on the finding's line, on the line above, or at the head of the\n\
    document ignores findings of that rule.\n\n\
    Exit status: 0 clean, 1 findings (see --fail-on), 2 usage, or input not read in full.")]
pub struct Lint {
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// Look at these rules alone: PC001,PC013.
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Leave these rules out: PC023,PC024.
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// From which severity on a finding makes the exit status 1: error, warning, note, never.
    #[arg(long, value_name = "SEVERITY", default_value = "warning", hide_possible_values = true)]
    pub fail_on: Threshold,
    /// Explain a rule, and read nothing; without a rule, list them all.
    #[arg(long, value_name = "RULE", num_args = 0..=1, default_missing_value = "list", conflicts_with_all = ["files", "live", "only", "ignore"])]
    pub explain: Option<String>,
    /// The form of the report.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: LintFormat,
}

/// What `--fail-on` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Threshold {
    /// Errors.
    Error,
    /// Warnings and errors.
    Warning,
    /// Any finding.
    Note,
    /// Nothing.
    Never,
}

/// The forms of a lint report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LintFormat {
    /// For people.
    Text,
    /// For programs; see `policyc schema LintReport`.
    Json,
    /// As JSON, in YAML.
    Yaml,
    /// SARIF 2.1.0, for code scanning.
    #[value(help = "SARIF 2.1.0, for code scanning")]
    Sarif,
}

/// `policyc diff`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc diff examples/tenants examples/shop         # directories or files\n  \
    policyc diff git:main -- k8s/                       # a revision against the work tree\n  \
    policyc diff git:main git:HEAD -- k8s/ -o markdown  # for a pull request\n  \
    policyc diff live k8s/                              # were k8s/ applied to the cluster\n  \
    policyc diff git:main k8s/ --with live              # policies in git, the pods of the cluster\n  \
    policyc diff live:staging live:production --fail-on widening\n\n\
    A connection is compared where both of its ends are on both sides. Pods that are on one side alone are\n\
    listed apart: a new workload is no change of what was there, and neither widens nor breaks anything.\n\
    Files that are compared with a cluster are laid over it, as if they were applied.\n\n\
    Exit status: 0 no difference, 1 differences (see --fail-on), 2 usage, or input not read in full,\n\
    3 the input does not tell whether there is one.")]
pub struct Diff {
    /// What was: a file, a directory, `-`, git:REVISION, live, or live:CONTEXT.
    #[arg(value_name = "OLD")]
    pub old: String,
    /// What is or would be, likewise; without it, the work tree is compared with git:REVISION.
    #[arg(value_name = "NEW")]
    pub new: Option<String>,
    /// What is read of a git revision [default: the directory on the other side, or the current one].
    #[arg(last = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Objects of both sides, unless one of them has the same: live, or what OLD can be. So policies can
    /// be compared that stand in files without the pods.
    #[arg(long, value_name = "SOURCE")]
    pub with: Option<String>,
    /// Where files are compared with a cluster: its `NetworkPolicies` that the files lack count as deleted.
    #[arg(
        long,
        help = "Where files are compared with a cluster: its NetworkPolicies that the files lack count as deleted"
    )]
    pub prune: bool,
    /// What makes the exit status 1: widening (a connection opens), breaking (one closes), any (pods
    /// that came or went too), never. Several with commas between.
    #[arg(
        long,
        value_name = "CHANGES",
        value_delimiter = ',',
        default_value = "any",
        hide_possible_values = true
    )]
    pub fail_on: Vec<ChangeKind>,
    /// Which cluster `live` is.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The namespace of objects that name none [default: `default`].
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Families to compare.
    #[command(flatten)]
    pub families: Families,
    /// The form of the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: DiffFormat,
}

/// What `diff --fail-on` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ChangeKind {
    /// A connection that was denied is allowed.
    Widening,
    /// A connection that was allowed is denied.
    Breaking,
    /// Either, and pods that came or went.
    Any,
    /// Nothing.
    Never,
}

/// The forms of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people.
    Text,
    /// For programs; see `policyc schema Comparison`.
    Json,
    /// As JSON, in YAML.
    Yaml,
    /// For the comments of a pull request.
    Markdown,
}

/// `policyc test`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc test examples/shop/test.yaml\n  \
    policyc test examples/*/test.yaml --junit report.xml")]
pub struct Test {
    /// Files of cases: flows and the verdicts expected of them. Of a directory, its `test.yaml`; `-` is
    /// standard input, whose manifests are looked for from here.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Where to write a `JUnit` report besides.
    #[arg(long, value_name = "FILE", help = "Also write a JUnit report to this file")]
    pub junit: Option<PathBuf>,
    /// The form of the report on standard output.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: TestFormat,
}

/// The forms of a test report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TestFormat {
    /// For people.
    Text,
    /// For programs; see `policyc schema TestReport`.
    Json,
    /// As JSON, in YAML.
    Yaml,
    /// `JUnit` XML.
    #[value(help = "JUnit XML")]
    Junit,
    /// Test Anything Protocol, version 14.
    Tap,
}
