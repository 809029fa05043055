//! The cluster as one node's rules see it: who is live, who owns which address, and which local
//! pods are isolated by what.
//!
//! Pods on the host's network, finished pods and templates are nobody here. Where several live pods
//! claim an address, the newest is its subject, wherever it runs, and each is a peer. The address of
//! a node is the node's, whatever pod claims it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cidr::Family;
use crate::cluster::{Pod, Snapshot};
use crate::diagnostic::{Diagnostic, ObjectRef, Severity};
use crate::labels::Labels;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::policy::{Direction, Policy};
use crate::ruleset::Member;
use crate::selector::Operator;

/// How many of the pods that claim an address are named.
const NAMED: usize = 5;

/// A namespace with its labels, declared or not.
pub(super) struct NamespaceView<'a> {
    /// Its name.
    pub(super) name: &'a NamespaceName,
    /// Its labels.
    pub(super) labels: Labels,
}

/// Live pods, their namespaces and the addresses of nodes.
pub(super) struct ClusterView<'a> {
    pods: Vec<&'a Pod>,
    /// In the order of their names.
    namespaces: Vec<(NamespaceView<'a>, Vec<usize>)>,
    /// Which of them each pod is in.
    of_pods: Vec<usize>,
    owners: BTreeMap<IpAddr, Vec<usize>>,
    /// The newest of them.
    newest: BTreeMap<IpAddr, usize>,
    node_addresses: BTreeSet<IpAddr>,
}

/// A local pod that some policy isolates, or would isolate and is audited only.
pub(super) struct Subject<'a> {
    /// The pod.
    pub(super) pod: &'a Pod,
    /// The policies that isolate it, by direction; never without any.
    pub(super) policies: BTreeMap<Direction, Vec<&'a Policy>>,
    /// The policies that are audited only, in the directions in which none isolates it; never without
    /// any. Where one isolates, those that are audited could deny nothing more.
    pub(super) audited: BTreeMap<Direction, Vec<&'a Policy>>,
}

impl<'a> ClusterView<'a> {
    /// The view of a snapshot.
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let pods: Vec<&Pod> =
            snapshot.pods.values().filter(|pod| pod.is_live() && !pod.template).collect();
        let node_addresses = node_addresses(snapshot);
        let mut by_namespace: BTreeMap<&NamespaceName, Vec<usize>> = BTreeMap::new();
        let mut owners: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
        for (index, pod) in pods.iter().enumerate() {
            by_namespace.entry(&pod.key.namespace).or_default().push(index);
            for address in pod.addresses.iter().filter(|a| !node_addresses.contains(a)) {
                owners.entry(address).or_default().push(index);
            }
        }
        let namespaces: Vec<(NamespaceView<'_>, Vec<usize>)> = by_namespace
            .into_iter()
            .map(|(name, pods)| {
                (NamespaceView { name, labels: snapshot.namespace_labels(name) }, pods)
            })
            .collect();
        let mut of_pods = vec![0; pods.len()];
        for (at, (_, inside)) in namespaces.iter().enumerate() {
            for index in inside {
                of_pods[*index] = at;
            }
        }
        let age = |index: &usize| (&pods[*index].age, &pods[*index].key);
        let newest = owners.iter().filter_map(|(address, owners)| {
            Some((*address, owners.iter().copied().max_by_key(age)?))
        });
        let newest = newest.collect();
        Self { pods, namespaces, of_pods, owners, newest, node_addresses }
    }

    /// The live pod of that index.
    pub(super) fn pod(&self, index: usize) -> &'a Pod {
        self.pods[index]
    }

    /// All live pods, as indices.
    pub(super) fn indices(&self) -> std::ops::Range<usize> {
        0..self.pods.len()
    }

    /// The namespaces that have live pods, with these.
    pub(super) fn namespaces_with_pods(
        &self,
    ) -> impl Iterator<Item = (&NamespaceView<'a>, &[usize])> {
        self.namespaces.iter().map(|(namespace, pods)| (namespace, pods.as_slice()))
    }

    /// The live pods of a namespace, as indices.
    pub(super) fn pods_in(&self, namespace: &NamespaceName) -> &[usize] {
        self.find(namespace).map_or(&[], |(_, pods)| pods.as_slice())
    }

    /// The namespace of a live pod.
    pub(super) fn namespace_of(&self, index: usize) -> &NamespaceView<'a> {
        let (namespace, _) = &self.namespaces[self.of_pods[index]];
        namespace
    }

    fn find(&self, namespace: &NamespaceName) -> Option<&(NamespaceView<'a>, Vec<usize>)> {
        let found = self.namespaces.binary_search_by(|(one, _)| one.name.cmp(namespace)).ok()?;
        self.namespaces.get(found)
    }

    /// The set member that a pod is in `family`; none for one without an address there, and none for
    /// the address of a node.
    pub(super) fn member(&self, index: usize, family: Family) -> Option<Member> {
        let address = self.pods[index].addresses.of(family)?;
        (!self.node_addresses.contains(&address)).then(|| Member::address(address))
    }

    /// Whether a pod is the one whose policies count for `address`.
    pub(super) fn is_subject_of(&self, pod: &Pod, address: IpAddr) -> bool {
        self.newest(address).is_some_and(|newest| newest.key == pod.key)
    }

    fn newest(&self, address: IpAddr) -> Option<&'a Pod> {
        self.newest.get(&address).map(|index| self.pods[*index])
    }

    /// The addresses in `networks` that belong to somebody: to a live pod, on whatever node, or to a
    /// node, which no pod can be given. That of a finished pod is nobody's.
    pub(super) fn known_in(&self, networks: &[IpNet]) -> BTreeSet<IpAddr> {
        let known = self.owners.keys().chain(&self.node_addresses);
        known.filter(|a| networks.iter().any(|net| net.contains(*a))).copied().collect()
    }

    /// The isolated and the audited pods of a node, in the order of their keys.
    pub(super) fn subjects(&self, snapshot: &'a Snapshot, node: &NodeName) -> Vec<Subject<'a>> {
        let mut policies: BTreeMap<&NamespaceName, Selecting<'a>> = BTreeMap::new();
        for policy in snapshot.policies.values() {
            policies.entry(&policy.key.namespace).or_default().add(policy);
        }
        let local = self.pods.iter().filter(|pod| pod.node.as_ref() == Some(node));
        let mut subjects = Vec::new();
        for pod in local {
            let of_namespace = policies.get(&pod.key.namespace);
            let selecting = of_namespace.map_or_else(Vec::new, |policies| policies.of(pod));
            let mut subject = Subject { pod, policies: BTreeMap::new(), audited: BTreeMap::new() };
            for direction in Direction::ALL {
                let (audited, isolating): (Vec<&Policy>, Vec<&Policy>) = selecting
                    .iter()
                    .filter(|policy| policy.isolates(direction))
                    .partition(|policy| snapshot.audits(policy));
                if !isolating.is_empty() {
                    subject.policies.insert(direction, isolating);
                } else if !audited.is_empty() {
                    subject.audited.insert(direction, audited);
                }
            }
            if !subject.policies.is_empty() || !subject.audited.is_empty() {
                subjects.push(subject);
            }
        }
        subjects
    }

    /// A warning for each address of a local pod that is not, or not only, its own.
    pub(super) fn contested_addresses(&self, node: &NodeName) -> Vec<Diagnostic> {
        let mut diagnostics = self.shared_addresses(node);
        for pod in self.pods.iter().filter(|pod| pod.node.as_ref() == Some(node)) {
            for address in pod.addresses.iter().filter(|a| self.node_addresses.contains(a)) {
                diagnostics.push(Diagnostic {
                    location: pod.location.clone(),
                    object: Some(object_ref("Pod", &pod.key)),
                    field: "status.podIPs".to_owned(),
                    severity: Severity::Warning,
                    message: format!("{address} is a node's address; no policy applies to it"),
                    help: Some("a pod on its node's network has `hostNetwork: true`".to_owned()),
                });
            }
        }
        diagnostics
    }

    /// A warning for each address that several live pods claim, if one of them is local.
    fn shared_addresses(&self, node: &NodeName) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        for (address, owners) in &self.owners {
            let local = owners.iter().any(|index| self.pods[*index].node.as_ref() == Some(node));
            let (true, true, Some(newest)) = (local, owners.len() > 1, self.newest(*address))
            else {
                continue;
            };
            let mut others = owners.iter().map(|index| self.pods[*index].key.to_string());
            let others = others.by_ref().filter(|key| *key != newest.key.to_string());
            let mut named: Vec<String> = others.take(NAMED).collect();
            let more = owners.len() - 1 - named.len();
            if more > 0 {
                named.push(format!("{more} more pods"));
            }
            diagnostics.push(Diagnostic {
                location: newest.location.clone(),
                object: Some(object_ref("Pod", &newest.key)),
                field: "status.podIPs".to_owned(),
                severity: Severity::Warning,
                message: format!(
                    "{address} is also the address of {}; the policies of {}, the newest, apply to it",
                    named.join(", "),
                    newest.key
                ),
                help: None,
            });
        }
        diagnostics
    }
}

/// The policies of a namespace by a label that they ask for: there may be thousands, of which most select
/// no pod of this node.
#[derive(Default)]
struct Selecting<'a> {
    by_label: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Policy>>>,
    /// Those that ask for no value.
    others: Vec<&'a Policy>,
}

impl<'a> Selecting<'a> {
    fn add(&mut self, policy: &'a Policy) {
        let mut asked = policy.pod_selector.requirements().filter_map(|one| match &one.operator {
            Operator::In(values) => Some((&*one.key, values)),
            _ => None,
        });
        match asked.next() {
            Some((key, values)) => {
                let by_value = self.by_label.entry(key).or_default();
                for value in values {
                    by_value.entry(value).or_default().push(policy);
                }
            }
            None => self.others.push(policy),
        }
    }

    /// Those that select a pod, in the order of their keys.
    fn of(&self, pod: &Pod) -> Vec<&'a Policy> {
        let labelled = pod.labels.iter();
        let asking = labelled.filter_map(|(key, value)| self.by_label.get(key)?.get(value));
        let all = asking.flatten().chain(&self.others).copied();
        let mut selecting: Vec<&Policy> =
            all.filter(|policy| policy.pod_selector.matches(&pod.labels)).collect();
        selecting.sort_by_key(|policy| &policy.key);
        selecting
    }
}

/// The addresses of nodes, from wherever the snapshot tells them.
fn node_addresses(snapshot: &Snapshot) -> BTreeSet<IpAddr> {
    let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
    for node in snapshot.nodes.values() {
        addresses.extend(&node.addresses);
    }
    for pod in snapshot.pods.values() {
        addresses.extend(&pod.host_addresses);
        if pod.host_network && !pod.template {
            addresses.extend(pod.addresses.iter());
        }
    }
    addresses
}

/// How diagnostics name an object.
pub(super) fn object_ref(kind: &str, key: &ObjectKey) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: Some(key.namespace.to_string()),
        name: key.name.to_string(),
    }
}
