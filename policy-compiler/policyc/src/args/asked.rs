//! What most commands are asked: of which objects and families, and in which form they answer.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What a question is asked of, and the form of its answer.
#[derive(Args, Clone, Debug)]
pub struct Asked<F = Format>
where
    F: ValueEnum + Default + Send + Sync + 'static,
{
    /// Objects to read.
    #[command(flatten)]
    pub input: Input,
    /// Families to ask.
    #[command(flatten)]
    pub families: Families,
    /// The form of the answer.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: F,
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
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The namespace of names and objects that name none [default: the context's, or `default`].
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// Which cluster to read.
#[derive(Args, Clone, Debug, Default)]
pub struct Cluster {
    /// The kubeconfig of the cluster; else `KUBECONFIG`, else ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl Cluster {
    /// Whether one was named.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs; see `policyc schema`.
    Json,
    /// As JSON, in YAML.
    Yaml,
}
