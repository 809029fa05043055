//! Listing one kind of object in pages.
//!
//! A list that changes for longer than the API server remembers expires under the reader (410); it is
//! then begun anew, a few times.

use kube::api::ListParams;
use kube::core::Request;
use policy_compiler::document::Node;
use policy_manifest::input::{self, Options, ParsedFile};
use serde::Deserialize;
use serde_json::Value;

use super::LIVE;
use super::connect::Connection;
use super::workload;
use crate::progress::Progress;

/// How many objects a page has.
const PAGE: u32 = 500;
/// How often a list that expired is begun.
const BEGINNINGS: usize = 3;

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Namespaces,
    Policies,
    Pods,
    Nodes,
    Services,
    Deployments,
    StatefulSets,
    DaemonSets,
    ReplicaSets,
    Jobs,
    CronJobs,
}

impl Resource {
    pub(super) const ALL: [Self; 11] = [
        Self::Namespaces,
        Self::Policies,
        Self::Pods,
        Self::Nodes,
        Self::Services,
        Self::Deployments,
        Self::StatefulSets,
        Self::DaemonSets,
        Self::ReplicaSets,
        Self::Jobs,
        Self::CronJobs,
    ];

    /// As roles and paths have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Resource::Namespaces => "namespaces",
            Resource::Policies => "networkpolicies",
            Resource::Pods => "pods",
            Resource::Nodes => "nodes",
            Resource::Services => "services",
            Resource::Deployments => "deployments",
            Resource::StatefulSets => "statefulsets",
            Resource::DaemonSets => "daemonsets",
            Resource::ReplicaSets => "replicasets",
            Resource::Jobs => "jobs",
            Resource::CronJobs => "cronjobs",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Resource::Namespaces => "Namespace",
            Resource::Policies => "NetworkPolicy",
            Resource::Pods => "Pod",
            Resource::Nodes => "Node",
            Resource::Services => "Service",
            Resource::Deployments => "Deployment",
            Resource::StatefulSets => "StatefulSet",
            Resource::DaemonSets => "DaemonSet",
            Resource::ReplicaSets => "ReplicaSet",
            Resource::Jobs => "Job",
            Resource::CronJobs => "CronJob",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Resource::Policies => "networking.k8s.io/v1",
            Resource::Deployments
            | Resource::StatefulSets
            | Resource::DaemonSets
            | Resource::ReplicaSets => "apps/v1",
            Resource::Jobs | Resource::CronJobs => "batch/v1",
            Resource::Namespaces | Resource::Pods | Resource::Nodes | Resource::Services => "v1",
        }
    }

    fn path(self) -> String {
        let root = if self.version().contains('/') { "/apis" } else { "/api" };
        format!("{root}/{}/{}", self.version(), self.name())
    }

    /// What a list is narrowed to. Of the `ReplicaSets` most are what Deployments were before, and all of
    /// these have this label.
    fn labels(self) -> Option<&'static str> {
        (self == Resource::ReplicaSets).then_some("!pod-template-hash")
    }

    /// Whether these make pods.
    pub(super) fn is_workload(self) -> bool {
        matches!(self.version(), "apps/v1" | "batch/v1")
    }

    /// Whether no answer can do without.
    pub(super) fn is_needed(self) -> bool {
        matches!(self, Resource::Namespaces | Resource::Policies | Resource::Pods)
    }

    /// What an answer lacks without it.
    pub(super) fn lack(self) -> &'static str {
        match self {
            Resource::Nodes => "node addresses are taken from the pods alone",
            Resource::Services => "questions about Services cannot be answered",
            Resource::Namespaces | Resource::Policies | Resource::Pods => "nothing can be said",
            _ => "workloads of these kinds without pods are not found",
        }
    }
}

/// Why a kind cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API server does not allow it.
    #[error("{server} does not let you list {resource} in all namespaces: {message}")]
    Forbidden {
        /// What.
        resource: &'static str,
        /// Who said so.
        server: String,
        /// In its own words.
        message: String,
    },
    /// The API server does not know who asks.
    #[error("{server} does not accept your credentials: {message}")]
    Unauthorized {
        /// Who said so.
        server: String,
        /// In its own words.
        message: String,
    },
    /// It answers that it cannot.
    #[error("{server} does not list {resource}: {message} ({code})")]
    Refused {
        /// What.
        resource: &'static str,
        /// Who said so.
        server: String,
        /// In its own words.
        message: String,
        /// The HTTP status.
        code: u16,
    },
    /// It cannot be asked, or answers with something else.
    #[error("cannot list {resource} from {server}")]
    Failed {
        /// What.
        resource: &'static str,
        /// From whom.
        server: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// The list changed faster than it could be read.
    #[error("the list of {resource} expired {BEGINNINGS} times while it was being read")]
    Expired {
        /// What.
        resource: &'static str,
    },
}

impl ListError {
    fn new(resource: Resource, connection: &Connection, error: kube::Error) -> Self {
        let (resource, server) = (resource.name(), connection.server.clone());
        match error {
            kube::Error::Api(status) => {
                let message = super::shown(&status.message);
                match status.code {
                    401 => ListError::Unauthorized { server, message },
                    403 => ListError::Forbidden { resource, server, message },
                    code => ListError::Refused { resource, server, message, code },
                }
            }
            error => ListError::Failed { resource, server, source: Box::new(error) },
        }
    }

    /// Whether it is only that one may not, or that there is no such resource.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, ListError::Forbidden { .. } | ListError::Refused { code: 404, .. })
    }

    /// What to do about it.
    pub(super) fn help(&self) -> Option<String> {
        Some(match self {
            ListError::Forbidden { resource, .. } => format!(
                "verdicts depend on all namespaces: ask for a role that may list namespaces, pods and \
                 networkpolicies; `kubectl auth can-i list {resource} -A` shows whether you may"
            ),
            ListError::Unauthorized { .. } => {
                "`kubectl auth whoami` shows whether kubectl is known there".to_owned()
            }
            ListError::Refused { .. } | ListError::Failed { .. } => {
                "`kubectl cluster-info` shows whether kubectl reaches it; manifests are read with \
                 `-f PATH`"
                    .to_owned()
            }
            ListError::Expired { .. } => return None,
        })
    }
}

/// A page of a list, its items as the server wrote them: an unknown key in a policy must not be lost.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    r#continue: Option<String>,
    remaining_item_count: Option<usize>,
}

/// All objects of a kind.
pub(super) async fn list(
    connection: &Connection,
    resource: Resource,
    progress: &Progress,
) -> Result<ParsedFile, ListError> {
    for _ in 0..BEGINNINGS {
        match pages(connection, resource, progress).await {
            Err(kube::Error::Api(status)) if status.code == 410 => {}
            other => return other.map_err(|error| ListError::new(resource, connection, error)),
        }
    }
    Err(ListError::Expired { resource: resource.name() })
}

async fn pages(
    connection: &Connection,
    resource: Resource,
    progress: &Progress,
) -> Result<ParsedFile, kube::Error> {
    let mut parsed = ParsedFile::listed(LIVE);
    let (request, mut params) = (Request::new(resource.path()), ListParams::default().limit(PAGE));
    params.label_selector = resource.labels().map(str::to_owned);
    let mut read = 0;
    progress.say(reading(resource, read, None));
    loop {
        let question = request.list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page = connection.client.request(question).await?;
        let items = page.items.unwrap_or_default();
        read += items.len();
        let remaining = page.metadata.remaining_item_count;
        progress.say(reading(resource, read, remaining.map(|n| n.saturating_add(read))));
        for mut item in items {
            if resource.is_workload() && !workload::stands(&mut item) {
                continue;
            }
            input::add(&mut parsed, document(resource, item), &Options::default());
        }
        match page.metadata.r#continue.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(parsed),
        }
    }
}

/// So many of so many (where the server says) have come.
fn reading(resource: Resource, read: usize, total: Option<usize>) -> String {
    let of = total.map_or_else(String::new, |total| format!(" of {total}"));
    format!("reading {}: {read}{of}", resource.name())
}

/// An item as a document of its own; in a list the type stands once for all.
fn document(resource: Resource, mut item: Value) -> Node {
    if let Value::Object(fields) = &mut item {
        fields.insert("apiVersion".to_owned(), resource.version().into());
        fields.insert("kind".to_owned(), resource.kind().into());
        // Who wrote which field when is half of an object, and nothing to us.
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.remove("managedFields");
        }
    }
    Node::from(item)
}
