//! Everyone and everyone: `matrix`, `graph`.

use clap::{Args, ValueEnum};
use policy_compiler::reach::Level;

use super::{Asked, Families, Input};

/// `policyc matrix`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc matrix -f examples/shop\n  \
    policyc matrix -f examples/shop -o html > shop.html\n  \
    policyc matrix --by namespace -A\n  \
    policyc matrix -n shop -f examples/shop              # between the pods of shop, and the world\n  \
    policyc matrix --to ns/shop --port 8080 -f examples/shop\n  \
    policyc matrix --port http -f examples/shop          # at each pod the port that it calls so\n  \
    policyc matrix --from world --networks -o csv -f examples/shop\n\n\
    A pod always reaches itself and its own node, and its node reaches it. `partly` is said of what some\n\
    of the pods may send and others not, `unknown` of what the input does not tell.\n\n\
    Where the input has no pods, rows and columns are the selectors of its policies, each for every pod\n\
    that it would mean (--to shop/app=web; --by pod: each kind of pod that they tell apart).\n\n\
    Exit status: 0 printed, 2 usage or an invalid policy that bears on it, 3 selectors of which the input\n\
    does not tell all.")]
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
    /// Only whether this port may be reached: 8080, 53/UDP, icmp; or what each pod calls so: http.
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
    /// Of what, and in which form; with -n only pods of that namespace are rows and columns.
    #[command(flatten)]
    pub asked: Asked<MatrixFormat>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MatrixFormat {
    /// For people.
    #[default]
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

/// `policyc graph`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    policyc graph -f examples/shop -o svg > shop.svg\n  \
    policyc graph -f examples/shop -o html > shop.html\n  \
    policyc graph -f examples/shop -o mermaid\n  \
    policyc graph -f examples/shop | dot -Tpng > shop.png\n  \
    policyc graph -6 -f examples/dual-stack -o mermaid\n  \
    policyc graph --by namespace -o dot             # the cluster of the kubeconfig\n\n\
    Drawn is what policies have a say in. Pods that no policy limits are drawn with a dashed outline;\n\
    between two of them everything passes, and no arrow is drawn. Where the input has no pods, the selectors\n\
    of its policies are drawn, each for every pod that it would mean; the exit status is 3 where it does not\n\
    tell of all.")]
pub struct Graph {
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// What a node of the picture is: a pod, the pods of a workload that fare alike, or a namespace.
    #[arg(long, value_name = "LEVEL", default_value = "workload")]
    pub by: By,
    /// Families to draw.
    #[command(flatten)]
    pub families: Families,
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
