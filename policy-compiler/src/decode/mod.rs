//! Decodes objects from documents: strictly where policy depends on it, tolerantly elsewhere.
//!
//! ```text
//!  document::Node ──> object() ──┬──> policy     strict: every key known, the rest denies
//!                                ├──> pod, workload, namespace, node, service    the fields that matter
//!                                └──> Other      not ours
//! ```
//!
//! A NetworkPolicy always becomes a [`Policy`] where its namespace is known: what is wrong in it is
//! reported, and taken so that it denies. Any other object with an invalid field that matters is an
//! error, for half of a pod would be another pod. Every [`Diagnostic`] names the object, the JSON
//! field, the place in the input, what is wrong, and what follows from it.

use std::sync::Arc;

use crate::cluster::{self, Namespace, Pod, Service};
use crate::diagnostic::{Diagnostic, ObjectRef, Severity};
use crate::document::{Entry, Node, Value};
use crate::name::NamespaceName;
use crate::policy::Policy;

mod address;
mod audit;
mod block;
mod labels;
mod metadata;
mod namespace;
mod node;
mod pod;
mod policy;
mod port;
mod report;
mod rule;
mod selector;
mod service;
mod suggest;
mod workload;

pub use namespace::namespace;
pub use node::node;
pub use pod::pod;
pub use policy::{policy, policy_spec};
pub use report::QUOTE_IT;
pub use service::service;
pub use suggest::nearest;
pub use workload::workload;

use report::{Report, plain};

/// An object, and what there is to say about how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<T> {
    /// The object.
    pub object: T,
    /// What was found, in the order of the document. Errors only for a policy, which
    /// [`flawed`](Policy::flawed) then says.
    pub diagnostics: Vec<Diagnostic>,
}

/// An object, or why there is none: at least one error.
pub type Decoding<T> = Result<Decoded<T>, Vec<Diagnostic>>;

impl<T> Decoded<T> {
    /// The object unless an error was found.
    fn or_errors(object: Option<T>, report: Report<'_>) -> Decoding<T> {
        let diagnostics = report.into_diagnostics();
        match object {
            Some(object) if diagnostics.iter().all(|d| d.severity < Severity::Error) => {
                Ok(Decoded { object, diagnostics })
            }
            _ => Err(diagnostics),
        }
    }
}

/// One document, decoded by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A NetworkPolicy.
    Policy(Decoding<Policy>),
    /// A Pod.
    Pod(Decoding<Pod>),
    /// A Namespace.
    Namespace(Decoding<Namespace>),
    /// A Node.
    Node(Decoding<cluster::Node>),
    /// A Service.
    Service(Decoding<Service>),
    /// A Deployment, `StatefulSet`, `DaemonSet`, `ReplicaSet`, Job or `CronJob`, as its template's pods.
    Workload(Decoding<Pod>),
    /// A kind that has no part in this, a `List` among them.
    Other {
        /// The kind as written.
        kind: String,
        /// A warning where it looks like something that is enforced and is not.
        warning: Option<Diagnostic>,
    },
    /// No Kubernetes object, or one whose kind and `apiVersion` do not belong together.
    Unrecognised(Diagnostic),
}

/// The kinds that are decoded, each with its API group.
const KINDS: [(&str, &str); 11] = [
    ("NetworkPolicy", "networking.k8s.io"),
    ("Pod", ""),
    ("Namespace", ""),
    ("Node", ""),
    ("Service", ""),
    ("Deployment", "apps"),
    ("StatefulSet", "apps"),
    ("DaemonSet", "apps"),
    ("ReplicaSet", "apps"),
    ("Job", "batch"),
    ("CronJob", "batch"),
];

/// Decodes a document by its `kind` and `apiVersion`. `file` is the input's name for locations.
#[must_use]
pub fn object(node: &Node, file: Option<&Arc<str>>) -> Object {
    let kind = match kind_of(node) {
        Ok(kind) => kind,
        Err((field, message)) => {
            let finding = finding(Severity::Error, field, &message, node, file);
            return Object::Unrecognised(finding);
        }
    };
    let group = group_of(node);
    let Some((_, own_group)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        return unknown_kind(kind, &group, node, file);
    };
    if group.is_foreign_to(own_group) {
        let warning = (kind == "NetworkPolicy").then(|| foreign_policy(node, file));
        return Object::Other { kind: kind.to_owned(), warning };
    }
    if kind != "NetworkPolicy" && !group.fits(own_group) {
        let wanted = if own_group.is_empty() { "v1".to_owned() } else { format!("{own_group}/v1") };
        let message = format!("a {kind} must have the apiVersion `{wanted}`; it is not read");
        return Object::Unrecognised(finding(Severity::Error, "apiVersion", &message, node, file));
    }
    match kind {
        "NetworkPolicy" => Object::Policy(policy(node, file)),
        "Pod" => Object::Pod(pod(node, file)),
        "Namespace" => Object::Namespace(namespace(node, file)),
        "Node" => Object::Node(self::node(node, file)),
        "Service" => Object::Service(service(node, file)),
        _ => Object::Workload(workload(node, file)),
    }
}

/// Which object a document is about, as far as it says and can be told: `None` where it has no kind.
#[must_use]
pub fn object_ref(node: &Node) -> Option<ObjectRef> {
    let kind = node.get("kind")?.as_str()?.to_owned();
    let metadata = node.get("metadata");
    let text = |key: &str| {
        metadata.and_then(|m| m.get(key)?.as_str()).filter(|t| !t.is_empty()).map(plain)
    };
    let namespace =
        is_namespaced(&kind).then(|| text("namespace").unwrap_or_else(|| "default".to_owned()));
    let name = text("name").or_else(|| text("generateName")).unwrap_or_default();
    Some(ObjectRef { kind: plain(&kind), namespace, name })
}

/// Puts an object of a namespaced kind that names no namespace into `namespace`, as `kubectl -n`
/// does. Objects of other kinds, and what is no object, are left as they are.
pub fn put_in_namespace(node: &mut Node, namespace: &NamespaceName) {
    let kind = node.get("kind").and_then(Node::as_str);
    if !kind.is_some_and(is_namespaced) {
        return;
    }
    let Value::Map(fields) = &mut node.value else { return };
    let Some(metadata) = fields.iter_mut().rev().find(|entry| entry.key == "metadata") else {
        return;
    };
    let Value::Map(entries) = &mut metadata.node.value else { return };
    let named = |entry: &Entry| entry.key == "namespace" && entry.node.as_str() != Some("");
    if entries.iter().any(|entry| named(entry) && !entry.node.is_null()) {
        return;
    }
    entries.retain(|entry| entry.key != "namespace");
    let value = Value::String(namespace.to_string());
    let node = Node { value, position: metadata.node.position };
    entries.push(Entry { key: "namespace".to_owned(), position: None, node });
}

/// Whether objects of a kind that is decoded here live in namespaces.
fn is_namespaced(kind: &str) -> bool {
    !matches!(kind, "Namespace" | "Node") && KINDS.iter().any(|(known, _)| *known == kind)
}

fn finding(
    severity: Severity,
    field: &str,
    message: &str,
    node: &Node,
    file: Option<&Arc<str>>,
) -> Diagnostic {
    let position = node.get(field).map_or(node.position, |field| field.position);
    let location = Report::new(None, file).location(position);
    let object = object_ref(node);
    let (field, message) = (field.to_owned(), plain(message));
    Diagnostic { location, object, field, severity, message, help: None }
}

/// The kind of a document, or in which field it lacks one and how.
fn kind_of(node: &Node) -> Result<&str, (&'static str, String)> {
    if !matches!(node.value, Value::Map(_)) {
        return Err(("", format!("is no Kubernetes object but {}; it is not read", node.kind())));
    }
    let Some(kind) = node.get("kind") else {
        let message = "is missing: this is no Kubernetes object; it is not read";
        return Err(("kind", message.to_owned()));
    };
    kind.as_str()
        .ok_or_else(|| ("kind", format!("must be text, is {}; it is not read", kind.kind())))
}

/// What `apiVersion` says about the group.
enum Group<'n> {
    /// Nothing that can be read.
    Absent,
    /// This group; empty for the core one.
    Named(&'n str),
}

impl Group<'_> {
    fn fits(&self, own: &str) -> bool {
        match self {
            Group::Absent => false,
            // The workloads lived in `extensions` before they had groups of their own.
            Group::Named(group) => *group == own || (own == "apps" && *group == "extensions"),
        }
    }

    /// Whether it is `own`, or left out.
    fn may_be(&self, own: &str) -> bool {
        matches!(self, Group::Absent) || self.fits(own)
    }

    /// Whether it is the group of somebody's own kinds, which may be called like those of Kubernetes.
    fn is_foreign_to(&self, own: &str) -> bool {
        match self {
            Group::Absent => false,
            Group::Named(group) => {
                *group != own && group.contains('.') && !group.ends_with(".k8s.io")
            }
        }
    }
}

fn group_of(node: &Node) -> Group<'_> {
    match node.get("apiVersion").and_then(Node::as_str) {
        None | Some("") => Group::Absent,
        Some(version) => Group::Named(version.split_once('/').map_or("", |(group, _)| group)),
    }
}

/// A kind that is not decoded; one that was hardly meant so is not passed over in silence.
fn unknown_kind(kind: &str, group: &Group<'_>, node: &Node, file: Option<&Arc<str>>) -> Object {
    let other = || Object::Other { kind: kind.to_owned(), warning: None };
    if kind.ends_with("List") {
        return other();
    }
    let meant = nearest(kind, &KINDS.map(|(known, _)| known));
    let plausible = meant.and_then(|meant| KINDS.iter().find(|(known, _)| *known == meant));
    let Some((meant, _)) = plausible.filter(|(_, own)| group.may_be(own)) else {
        return other();
    };
    let message = format!("`{kind}` is no kind of this group; the object is not read");
    let mut diagnostic = finding(Severity::Error, "kind", &message, node, file);
    diagnostic.help = Some(format!("did you mean `{meant}`?"));
    Object::Unrecognised(diagnostic)
}

fn foreign_policy(node: &Node, file: Option<&Arc<str>>) -> Diagnostic {
    let message = "this is another project's NetworkPolicy, which is not enforced here".to_owned();
    finding(Severity::Warning, "apiVersion", &message, node, file)
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
