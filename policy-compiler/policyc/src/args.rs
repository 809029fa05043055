//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use policy_compiler::reach::Level;

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

/// What can be explained.
#[derive(Debug, Subcommand)]
pub enum Explain {
    /// What selects a pod, what may reach it and what it may reach, with near misses.
    Pod(ExplainPod),
    /// What a policy isolates, what each of its rules means now, and what would be without it.
    Policy(ExplainPolicy),
}

/// Which objects to read.
#[derive(Args, Clone, Debug)]
pub struct Input {
    /// Manifests to read: files, directories, or `-` for standard input. May be repeated. Without it
    /// the cluster of the current kubeconfig context is read.
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., action = clap::ArgAction::Append)]
    pub files: Vec<PathBuf>,
    /// With -f: read the cluster too, and lay the manifests over it: what would be if they were
    /// applied.
    #[arg(long, requires = "files")]
    pub live: bool,
    /// The kubeconfig of the cluster; else `KUBECONFIG`, else ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of names and objects that name none [default: the context's, or `default`].
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

impl Input {
    /// Whether a cluster is read.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live || self.files.is_empty()
    }
}

/// Which address families to ask.
#[derive(Args, Clone, Copy, Debug)]
pub struct Families {
    /// Only IPv4.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Only IPv6.
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

/// The forms of most answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs; see `policyc schema`.
    Json,
    /// As JSON, in YAML.
    Yaml,
}

/// `policyc explain pod`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc explain pod shop/cart-0 -f examples/shop\n  \
    policyc explain pod deploy/web -n shop -f examples/shop\n  \
    policyc explain pod deploy/web -n shop                     # the cluster of the kubeconfig\n  \
    policyc explain pod deploy/web -n shop --live -f new.yaml  # if new.yaml were applied to it\n  \
    kubectl get pods,ns,netpol,nodes -A -o yaml | policyc explain pod -l app=web -n shop -f -")]
pub struct ExplainPod {
    /// NAMESPACE/NAME or NAME of a pod, or a workload: deploy/NAME, sts/, ds/, rs/, job/, cronjob/
    /// (with its namespace: shop/deploy/web).
    #[arg(value_name = "POD", required_unless_present = "selector", conflicts_with = "selector")]
    pub pod: Option<String>,
    /// Every pod of the namespace with these labels, as in `kubectl -l`.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// With -l: the pods of all namespaces.
    #[arg(short = 'A', long, requires = "selector", conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// Families to ask.
    #[command(flatten)]
    pub families: Families,
    /// The form of the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `policyc explain policy`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc explain policy shop/cart-from-web -f examples/shop\n  \
    policyc explain policy cart-from-web -n shop -4 -o json -f examples/shop")]
pub struct ExplainPolicy {
    /// NAMESPACE/NAME or NAME of a NetworkPolicy.
    pub policy: String,
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// Families to ask.
    #[command(flatten)]
    pub families: Families,
    /// The form of the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `policyc who-can`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc who-can shop/cart-0 -f examples/shop\n  \
    policyc who-can deploy/web -n shop --ingress -o json -f examples/shop\n\n\
    Exit status: 0 printed, 2 usage or an invalid policy that selects the pod, 3 the input does not tell of\n\
    some traffic.")]
pub struct WhoCan {
    /// NAMESPACE/NAME or NAME of a pod, or a workload: deploy/NAME, sts/, ds/, rs/, job/, cronjob/.
    pub pod: String,
    /// Only who may reach it.
    #[arg(long)]
    pub ingress: bool,
    /// Only whom it may reach.
    #[arg(long)]
    pub egress: bool,
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// Families to ask.
    #[command(flatten)]
    pub families: Families,
    /// The form of the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `policyc can`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc can shop/web shop/cart-0 8080 -f examples/shop\n  \
    policyc can deploy/api sts/db pg/TCP -n shop -f examples/shop\n  \
    policyc can shop/cart-0 203.0.113.7 443/TCP -f examples/shop\n  \
    policyc can world deploy/web 8080 -n shop -f examples/shop\n  \
    policyc can node/node-a shop/cart-0 icmp -f examples/shop")]
pub struct Can {
    /// Who opens the connection: a pod, a workload, an address, node/NAME, or `world`: every address
    /// that is no pod's and no node's.
    pub from: String,
    /// To whom; or `svc/NAMESPACE/NAME` with the Service's port, answered for each pod behind it.
    pub to: String,
    /// The destination's port: a number or a container port's name, then /TCP (the default), /UDP or
    /// /SCTP; or `icmp`.
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: String,
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// Families to ask.
    #[command(flatten)]
    pub families: Families,
    /// The form of the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `policyc matrix`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc matrix -f examples/shop\n  \
    policyc matrix -f examples/shop -o html > shop.html\n  \
    policyc matrix --by namespace -A\n  \
    policyc matrix -n shop -f examples/shop              # between the pods of shop, and the world\n  \
    policyc matrix --to ns/shop --port 8080 -f examples/shop\n  \
    policyc matrix --from world --networks -o csv -f examples/shop\n\n\
    A pod always reaches itself and its own node, and its node reaches it. `partly` is said of what some\n\
    of the pods may send and others not, `unknown` of what the input does not tell.")]
pub struct Matrix {
    /// How pods are put together: by workload (replicas that fare differently stand apart), by
    /// namespace, or pod by pod.
    #[arg(long, value_name = "LEVEL", default_value = "workload", hide_possible_values = true)]
    pub by: By,
    /// Who opens connections: a pod, a workload, svc/, ns/NAME, node/NAME, `world`.
    #[arg(long, value_name = "WHO")]
    pub from: Option<String>,
    /// To whom.
    #[arg(long, value_name = "WHO")]
    pub to: Option<String>,
    /// Only whether this port may be reached: 8080, 53/UDP, icmp.
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
    /// With the nodes.
    #[arg(long)]
    pub nodes: bool,
    /// With the addresses outside apart, as policies tell them apart.
    #[arg(long)]
    pub networks: bool,
    /// All namespaces, which is so without -n too.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Objects to read; with -n only pods of that namespace are rows and columns.
    #[command(flatten)]
    pub input: Input,
    /// Families to ask.
    #[command(flatten)]
    pub families: Families,
    /// The form of the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: MatrixFormat,
}

/// What `--by` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Each pod.
    Pod,
    /// Each workload.
    Workload,
    /// Each namespace.
    Namespace,
}

impl From<By> for Level {
    fn from(by: By) -> Self {
        match by {
            By::Pod => Level::Pod,
            By::Workload => Level::Workload,
            By::Namespace => Level::Namespace,
        }
    }
}

/// The forms of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MatrixFormat {
    /// For people.
    Text,
    /// For spreadsheets.
    #[value(help = "For spreadsheets: a record a pair")]
    Csv,
    /// For pages.
    #[value(help = "For pages: a table as GitHub reads it")]
    Markdown,
    /// A page of its own.
    #[value(help = "A page of its own: folds by namespace, tells the rules behind each cell")]
    Html,
    /// For programs; see `policyc schema Matrix`.
    Json,
    /// As JSON, in YAML.
    Yaml,
}

/// `policyc render`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc render --node node-a -f examples/shop\n  \
    policyc render --pod shop/cart-0 -4 -f examples/shop -o yaml")]
pub struct Render {
    /// The node whose rules to print; without it every node of the input, in order.
    #[arg(long, value_name = "NODE", conflicts_with = "pod")]
    pub node: Option<String>,
    /// Print the rules as if its node had no pod but this.
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// Families to print.
    #[command(flatten)]
    pub families: Families,
    /// The form of the answer: text is what `ipset restore` and `iptables-restore` read.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

/// `policyc graph`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc graph -f examples/shop -o svg > shop.svg\n  \
    policyc graph -f examples/shop -o html > shop.html\n  \
    policyc graph -f examples/shop -o mermaid\n  \
    policyc graph -f examples/shop | dot -Tpng > shop.png\n  \
    policyc graph --by namespace -o dot             # the cluster of the kubeconfig\n\n\
    Drawn is what policies have a say in. Pods that no policy limits are drawn with a dashed outline;\n\
    between two of them everything passes, and no arrow is drawn.")]
pub struct Graph {
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// What a node of the picture is: a pod, the pods of a workload that fare alike, or a namespace.
    #[arg(long, value_name = "LEVEL", default_value = "workload")]
    pub by: By,
    /// The form of the picture.
    #[arg(short, long, value_name = "FORMAT", default_value = "dot")]
    pub output: GraphFormat,
}

/// The forms of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// For Graphviz.
    Dot,
    /// For Mermaid, which repositories draw in a README.
    Mermaid,
    /// An image of its own, for light and dark.
    #[value(help = "An image of its own, for light and dark")]
    Svg,
    /// A page of its own: opens a namespace at a time, tells the rules behind each arrow.
    #[value(
        help = "A page of its own: opens a namespace at a time, tells the rules behind each arrow"
    )]
    Html,
    /// For programs; see `policyc schema Graph`.
    Json,
    /// As JSON, in YAML.
    Yaml,
}

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
    /// The kubeconfig of the cluster; else `KUBECONFIG`, else ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, for `live`.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
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
