//! The command line: a file for each group of commands, and one for what most of them share.

mod asked;
mod check;
mod explain;
mod mistake;
mod picture;
mod render;

use clap::{Parser, Subcommand, ValueEnum};

pub use self::asked::{Asked, Cluster, Families, Format, Input};
pub use self::check::{
    ChangeKind, Diff, DiffFormat, Lint, LintFormat, Test, TestFormat, Threshold,
};
pub use self::explain::{Can, Explain, ExplainPod, ExplainPolicy, WhoCan};
pub use self::mistake::with_hint;
pub use self::picture::{By, Graph, GraphFormat, Matrix, MatrixFormat};
pub use self::render::Render;

/// Says what Kubernetes NetworkPolicies allow, and why.
#[derive(Debug, Parser)]
#[command(
    name = "policyc",
    version,
    about,
    long_about = "Says what Kubernetes NetworkPolicies allow, and why.\n\n\
        Reads manifests: files, directories, standard input; multi-document YAML, JSON, `kind: List`\n\
        and the output of `kubectl get -o yaml`. Every answer names the policy, the rule and the line\n\
        that it rests on.",
    after_help = EXIT_HELP,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// When to colour: auto (on a terminal, unless `NO_COLOR` is set), always, never.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub color: Color,
    /// Say more: which kinds of objects were passed over, and how many.
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

const EXIT_HELP: &str = "Exit status: 0 allowed, passed, clean or printed; 1 denied, only partly allowed, findings, or a case failed;\n\
    2 usage, input not read in full, an unknown name, or an invalid policy that bears on the answer;\n\
    3 the input does not tell.";

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What applies to a pod: who may reach it, whom it may reach, by which rule.
    #[command(subcommand, arg_required_else_help = true)]
    Explain(Explain),
    /// One connection: is it allowed, and by which rule or why not.
    Can(Can),
    /// The allow list of a pod alone, for machines: who may reach it, and whom it may reach.
    WhoCan(WhoCan),
    /// What everyone may send to everyone.
    Matrix(Matrix),
    /// The iptables and ipset rules of a node, or of one pod.
    Render(Render),
    /// The connections that policies allow, as a picture.
    Graph(Graph),
    /// Mistakes in policies: what is legal and hardly meant, and what is invalid.
    Lint(Lint),
    /// Which connections open and close between two inputs, and because of what.
    Diff(Diff),
    /// Run files of expected verdicts.
    Test(Test),
    /// Print the JSON schema of an output kind, or list the kinds.
    #[command(after_help = "Example:\n  policyc schema PodExplanation")]
    Schema {
        /// The kind, as in the `kind` field of an answer; all kinds are listed without it.
        kind: Option<String>,
    },
    /// Print a shell's completion script.
    #[command(after_help = "Examples:\n  \
        source <(policyc completions bash)\n  \
        policyc completions kubectl > ~/.local/bin/kubectl_complete-policyc    # then chmod +x it")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// What could stand in the place of the last word; kubectl asks.
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete {
        /// The words behind `kubectl policyc`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// The shells that completions can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
    /// kubectl, which asks a program `kubectl_complete-policyc` on the PATH.
    Kubectl,
}
