//! From the command line and the kubeconfig to a client.
//!
//! As kubectl does it: `--kubeconfig`, else `KUBECONFIG`, else `~/.kube/config`; `--context`, else
//! the current one. Where there is no kubeconfig at all and the process runs in a pod, the pod's
//! service account.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::args;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the API server may say nothing in the middle of an answer.
const SILENCE: Duration = Duration::from_mins(1);

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No `-f`, no kubeconfig, and no service account.
    #[error("no input: no manifests are named, and there is no kubeconfig to find a cluster with")]
    Nowhere,
    /// The process runs in a pod whose service account cannot be used.
    #[error("no kubeconfig is there, and the service account of this pod cannot be used")]
    InCluster(#[source] InClusterError),
    /// A file that was named cannot be read, or means nothing.
    #[error("cannot use the kubeconfig {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// The kubeconfig, wherever it is, has no such context, or the context lacks something.
    #[error("cannot use the kubeconfig{}", context.as_ref().map(|c| format!(" with context `{c}`")).unwrap_or_default())]
    Context {
        /// The context that was asked for.
        context: Option<String>,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// The configuration leads to no client.
    #[error("cannot make a client for {server}")]
    Client {
        /// The API server.
        server: String,
        /// Why not.
        source: Box<kube::Error>,
    },
}

impl ConnectError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            ConnectError::Nowhere => {
                "name manifests with `-f PATH` (files, directories, or `-` for standard input), for \
                 example `policyc explain pod shop/cart-0 -f manifests/`; or a cluster with \
                 `--kubeconfig FILE`"
            }
            ConnectError::InCluster(_) => {
                "a pod has one unless `automountServiceAccountToken` is false"
            }
            ConnectError::File { .. } => "see `kubectl config view --kubeconfig FILE`",
            ConnectError::Context { .. } => "`kubectl config get-contexts` lists what there is",
            ConnectError::Client { .. } => "`kubectl version` shows whether kubectl can use it",
        }
    }
}

/// A cluster to ask.
pub(super) struct Connection {
    pub(super) client: Client,
    /// The namespace of the context.
    pub(super) namespace: String,
    /// Its address, for messages.
    pub(super) server: String,
}

pub(super) async fn connect(args: &args::Cluster) -> Result<Connection, ConnectError> {
    let mut config = configure(args).await?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    let namespace = config.default_namespace.clone();
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| ConnectError::Client {
        server: server.clone(),
        source: Box::new(error),
    })?;
    Ok(Connection { client, namespace, server })
}

async fn configure(args: &args::Cluster) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..Default::default() };
    if let Some(path) = &args.kubeconfig {
        return from_file(path, &options).await;
    }
    match Config::from_kubeconfig(&options).await {
        Ok(config) => Ok(config),
        Err(error) if is_absent(&error) && args.context.is_none() => {
            Config::incluster().map_err(|error| match error {
                InClusterError::ReadEnvironmentVariable(_) => ConnectError::Nowhere,
                error => ConnectError::InCluster(error),
            })
        }
        Err(error) => {
            Err(ConnectError::Context { context: args.context.clone(), source: Box::new(error) })
        }
    }
}

async fn from_file(path: &Path, options: &KubeConfigOptions) -> Result<Config, ConnectError> {
    let failed = |error| ConnectError::File { path: path.to_owned(), source: Box::new(error) };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(file, options).await.map_err(failed)
}

/// Whether there is no kubeconfig, which is something else than a broken one.
fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath | KubeconfigError::CurrentContextNotSet => true,
        KubeconfigError::ReadConfig(source, _) => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}
