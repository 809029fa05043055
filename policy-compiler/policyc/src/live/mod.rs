//! A live cluster as input: the objects that its API server has now.
//!
//! ```text
//!  kubeconfig ──connect──> Client ──list (pages)──> documents ──decode──> ParsedFile, one for each kind
//! ```
//!
//! Pods, Namespaces, NetworkPolicies, Nodes, Services and workloads of all namespaces are read, page by
//! page; of a page nothing stays but what policy depends on. Nothing is ever written to the cluster.
//! Nodes, Services and workloads may be refused, for not everybody may list them: then a warning says
//! what the answer lacks. Anything else that is refused ends the command, since an answer without it
//! would be about another cluster.
//!
//! Workloads are read whatever is asked, not only where a name has no pods: who else may reach a pod,
//! whom a policy selects and which of two workloads a name means depend on those without pods too.

mod connect;
mod list;
mod workload;

use policy_manifest::input::ParsedFile;
use policy_manifest::source;

pub use self::connect::ConnectError;
use self::connect::Connection;
pub use self::list::ListError;
use self::list::Resource;
use crate::args;
use crate::progress::Progress;
use crate::text::join;

/// What live objects are named by where manifests have a file.
pub const LIVE: &str = "live";

/// Why a cluster cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The process has no means to talk to anybody.
    #[error("cannot start the client")]
    Runtime(#[source] std::io::Error),
    /// Where the cluster is cannot be found out.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Its objects cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
}

impl LiveError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            LiveError::Runtime(_) => None,
            LiveError::Connect(error) => Some(error.help().to_owned()),
            LiveError::List(error) => error.help(),
        }
    }
}

/// What a cluster holds.
#[derive(Debug)]
pub struct Cluster {
    /// Its objects.
    pub objects: Vec<ParsedFile>,
    /// The namespace of names that name none: the context's own, unless another was asked for.
    pub namespace: String,
    /// What could not be listed and may be lacking, a sentence each.
    pub lacking: Vec<String>,
}

/// Reads a cluster. `namespace` is the one of names that name none, where not the context's own is.
///
/// # Errors
/// Where it cannot be reached, or refuses to list what no answer can do without.
pub fn read(args: &args::Cluster, namespace: Option<&str>) -> Result<Cluster, LiveError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LiveError::Runtime)?;
    runtime.block_on(async {
        let connection = connect::connect(args).await?;
        let namespace = namespace.unwrap_or(&connection.namespace).to_owned();
        let (objects, lacking) = list_all(&connection).await?;
        Ok(Cluster { objects, namespace, lacking })
    })
}

async fn list_all(connection: &Connection) -> Result<(Vec<ParsedFile>, Vec<String>), LiveError> {
    let progress = Progress::spin("reading the cluster");
    let mut objects = Vec::new();
    let mut lacking = Vec::new();
    let mut refused: Vec<(Resource, ListError)> = Vec::new();
    for resource in Resource::ALL {
        match list::list(connection, resource, &progress).await {
            Ok(parsed) => objects.push(parsed),
            Err(error) if error.is_refusal() && resource.is_workload() => {
                refused.push((resource, error));
            }
            Err(error) if error.is_refusal() && !resource.is_needed() => {
                lacking.push(lack(&[resource.name()], resource, &error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // Who may not list one kind of workload mostly may list none: that is one warning.
    if let Some((first, error)) = refused.first() {
        let names: Vec<&str> = refused.iter().map(|(resource, _)| resource.name()).collect();
        lacking.push(lack(&names, *first, error));
    }
    Ok((objects, lacking))
}

/// What an answer without these resources lacks.
fn lack(names: &[&str], resource: Resource, error: &ListError) -> String {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    format!("{} are not read, so that {}: {error}", join(&names, "and"), resource.lack())
}

/// Text from elsewhere, fit for a terminal.
fn shown(text: &str) -> String {
    text.chars().map(source::printable).collect()
}
