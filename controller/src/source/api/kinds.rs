//! The kinds that are followed: what is kept of their objects, and what the engine is told of them.
//!
//! Of a pod everything that [`decode::pod`] reads is kept, except who owns it, which no verdict
//! depends on and which would cost memory for every pod of the cluster. What many pods have in common is
//! kept once.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Api, Client};
use policy_compiler::cluster;
use policy_compiler::decode::{self, Decoding};
use policy_compiler::document::{Node, Value};
use policy_compiler::name::{NamespaceName, NodeName, ObjectKey};
use policy_compiler::packed::PackedPod;
use policy_compiler::policy::{self, AUDIT_ANNOTATION};
use policy_compiler::pool::Pool;
use policy_compiler::update::{Event, PodList, Relist};

use super::slim::Keep::{All, But, Only};
use super::slim::{Keep, Object, Served};
use crate::source::Kind;

/// A kind of object whose changes become events.
pub(super) trait Followed: Served {
    /// As the loop calls it.
    const FOLLOWED: Kind;
    /// What names an object.
    type Key: Ord + Clone + Send;
    /// What is said of one.
    type Value: Send;
    /// The same in a list.
    type Listed: Send;

    /// Where its objects are: those of a namespace, as far as it is followed by namespaces.
    fn api(client: Client, _namespace: Option<&str>) -> Api<Object<Self>> {
        Api::all(client)
    }
    /// The key of an object, where it has one that can be.
    fn key(object: &Node) -> Option<Self::Key>;
    /// The only node that is not ready where this cannot be decoded, if it is not every one: as it is
    /// written, and empty where the object has none yet.
    fn only_on(_object: &Node) -> Option<Arc<str>> {
        None
    }
    /// What it says.
    fn decode(object: &Node) -> Decoding<Self::Value>;
    /// What is kept of one until a list has ended, which shares what others of the list have too.
    fn listed(value: Self::Value, pool: &mut Pool) -> Self::Listed;
    /// The key of what was decoded.
    fn key_of(value: &Self::Value) -> Self::Key;
    /// The event that it is now so.
    fn applied(value: Self::Value) -> Event;
    /// The event that it is gone.
    fn deleted(key: Self::Key) -> Event;
    /// The event that all were listed.
    fn relisted(listed: Vec<Self::Listed>, unread: BTreeSet<Self::Key>) -> Event;
}

/// The list of these, by their keys.
fn relist<T: Followed>(
    listed: Vec<T::Value>,
    unread: BTreeSet<T::Key>,
) -> Relist<T::Key, T::Value> {
    let objects = listed.into_iter().map(|value| (T::key_of(&value), value));
    Relist { objects: objects.collect(), unread }
}

/// `NAMESPACE/NAME` or `NAME` of an object as it is written, valid or not.
pub(super) fn written_name(object: &Node) -> Arc<str> {
    match (metadata(object, "namespace"), metadata(object, "name").unwrap_or_default()) {
        (Some(namespace), name) => format!("{namespace}/{name}").into(),
        (None, name) => name.into(),
    }
}

fn metadata<'n>(object: &'n Node, key: &str) -> Option<&'n str> {
    object.get("metadata")?.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn namespaced(object: &Node) -> Option<ObjectKey> {
    ObjectKey::new(metadata(object, "namespace")?, metadata(object, "name")?).ok()
}

const METADATA: Keep = Only(&[
    ("name", All),
    ("namespace", All),
    ("labels", All),
    ("uid", All),
    ("creationTimestamp", All),
    ("resourceVersion", All),
]);

/// Of what can have policies audited the one annotation that says so.
const AUDITABLE: Keep = Only(&[
    ("name", All),
    ("namespace", All),
    ("labels", All),
    ("annotations", Only(&[(AUDIT_ANNOTATION, All)])),
    ("uid", All),
    ("creationTimestamp", All),
    ("resourceVersion", All),
]);

const CONTAINERS: Keep = Only(&[("ports", PORTS), ("restartPolicy", All)]);
const PORTS: Keep = Only(&[("name", All), ("containerPort", All), ("protocol", All)]);
const ADDRESSES: Keep = Only(&[("ip", All)]);

/// Pods.
#[derive(Clone, Debug)]
pub(super) struct Pods;

impl Served for Pods {
    type Scope = NamespaceResourceScope;
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";
    const KEEP: &'static Keep = &Only(&[
        ("metadata", METADATA),
        (
            "spec",
            Only(&[
                ("nodeName", All),
                ("hostNetwork", All),
                ("containers", CONTAINERS),
                ("initContainers", CONTAINERS),
            ]),
        ),
        (
            "status",
            Only(&[
                ("phase", All),
                ("podIP", All),
                ("podIPs", ADDRESSES),
                ("hostIP", All),
                ("hostIPs", ADDRESSES),
                ("startTime", All),
            ]),
        ),
    ]);
}

impl Followed for Pods {
    const FOLLOWED: Kind = Kind::Pod;
    type Key = ObjectKey;
    type Value = cluster::Pod;
    type Listed = PackedPod;

    fn api(client: Client, namespace: Option<&str>) -> Api<Object<Self>> {
        match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }

    fn key(object: &Node) -> Option<ObjectKey> {
        namespaced(object)
    }

    fn only_on(object: &Node) -> Option<Arc<str>> {
        let spec = object.get("spec").filter(|spec| matches!(spec.value, Value::Map(_)))?;
        spec.get("nodeName").map_or(Some(""), Node::as_str).map(Arc::from)
    }

    fn decode(object: &Node) -> Decoding<cluster::Pod> {
        decode::pod(object, None)
    }

    fn listed(pod: cluster::Pod, pool: &mut Pool) -> PackedPod {
        pool.pack(pod)
    }

    fn key_of(pod: &cluster::Pod) -> ObjectKey {
        pod.key.clone()
    }

    fn applied(pod: cluster::Pod) -> Event {
        Event::PodApplied(Box::new(pod))
    }

    fn deleted(key: ObjectKey) -> Event {
        Event::PodDeleted(key)
    }

    fn relisted(listed: Vec<PackedPod>, unread: BTreeSet<ObjectKey>) -> Event {
        Event::PodsRelisted(PodList::new(listed, unread))
    }
}

/// Namespaces, of which the server sends the metadata alone.
#[derive(Clone, Debug)]
pub(super) struct Namespaces;

impl Served for Namespaces {
    type Scope = ClusterResourceScope;
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";
    const METADATA_ONLY: bool = true;
    const KEEP: &'static Keep = &Only(&[("metadata", AUDITABLE)]);
}

impl Followed for Namespaces {
    const FOLLOWED: Kind = Kind::Namespace;
    type Key = NamespaceName;
    type Value = cluster::Namespace;
    type Listed = cluster::Namespace;

    fn key(object: &Node) -> Option<NamespaceName> {
        NamespaceName::new(metadata(object, "name")?).ok()
    }

    fn decode(object: &Node) -> Decoding<cluster::Namespace> {
        decode::namespace(object, None)
    }

    fn listed(namespace: cluster::Namespace, _pool: &mut Pool) -> cluster::Namespace {
        namespace
    }

    fn key_of(namespace: &cluster::Namespace) -> NamespaceName {
        namespace.name().clone()
    }

    fn applied(namespace: cluster::Namespace) -> Event {
        Event::NamespaceApplied(namespace)
    }

    fn deleted(name: NamespaceName) -> Event {
        Event::NamespaceDeleted(name)
    }

    fn relisted(listed: Vec<cluster::Namespace>, unread: BTreeSet<NamespaceName>) -> Event {
        Event::NamespacesRelisted(relist::<Self>(listed, unread))
    }
}

/// NetworkPolicies, with every key that they have: the decoder denies where it does not know one.
#[derive(Clone, Debug)]
pub(super) struct Policies;

impl Served for Policies {
    type Scope = NamespaceResourceScope;
    const GROUP: &'static str = "networking.k8s.io";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "NetworkPolicy";
    const PLURAL: &'static str = "networkpolicies";
    const KEEP: &'static Keep = &But(&[("metadata", AUDITABLE)]);
}

impl Followed for Policies {
    const FOLLOWED: Kind = Kind::Policy;
    type Key = ObjectKey;
    type Value = policy::Policy;
    type Listed = policy::Policy;

    /// As the decoder has it, which makes one up where the name is invalid.
    fn key(object: &Node) -> Option<ObjectKey> {
        decode::policy(object, None).ok().map(|decoded| decoded.object.key)
    }

    fn decode(object: &Node) -> Decoding<policy::Policy> {
        decode::policy(object, None)
    }

    fn key_of(policy: &policy::Policy) -> ObjectKey {
        policy.key.clone()
    }

    fn applied(policy: policy::Policy) -> Event {
        Event::PolicyApplied(Box::new(policy))
    }

    fn deleted(key: ObjectKey) -> Event {
        Event::PolicyDeleted(key)
    }

    fn listed(policy: policy::Policy, _pool: &mut Pool) -> policy::Policy {
        policy
    }

    fn relisted(listed: Vec<policy::Policy>, unread: BTreeSet<ObjectKey>) -> Event {
        Event::PoliciesRelisted(relist::<Self>(listed, unread))
    }
}

/// Nodes, of which each tells that it lives every few minutes: only what says where it is is kept.
#[derive(Clone, Debug)]
pub(super) struct Nodes;

impl Served for Nodes {
    type Scope = ClusterResourceScope;
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    const KEEP: &'static Keep = &Only(&[
        ("metadata", Only(&[("name", All), ("resourceVersion", All)])),
        ("spec", Only(&[("podCIDR", All), ("podCIDRs", All)])),
        ("status", Only(&[("addresses", Only(&[("type", All), ("address", All)]))])),
    ]);
}

impl Followed for Nodes {
    const FOLLOWED: Kind = Kind::Node;
    type Key = NodeName;
    type Value = cluster::Node;
    type Listed = cluster::Node;

    fn key(object: &Node) -> Option<NodeName> {
        NodeName::new(metadata(object, "name")?).ok()
    }

    fn only_on(object: &Node) -> Option<Arc<str>> {
        metadata(object, "name").map(Arc::from)
    }

    fn decode(object: &Node) -> Decoding<cluster::Node> {
        decode::node(object, None)
    }

    fn key_of(node: &cluster::Node) -> NodeName {
        node.name.clone()
    }

    fn applied(node: cluster::Node) -> Event {
        Event::NodeApplied(node)
    }

    fn deleted(name: NodeName) -> Event {
        Event::NodeDeleted(name)
    }

    fn listed(node: cluster::Node, _pool: &mut Pool) -> cluster::Node {
        node
    }

    fn relisted(listed: Vec<cluster::Node>, unread: BTreeSet<NodeName>) -> Event {
        Event::NodesRelisted(relist::<Self>(listed, unread))
    }
}
