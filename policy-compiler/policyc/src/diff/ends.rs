//! The ends that are on both sides, in classes that neither side tells apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{ContainerPort, Namespace, Pod, Snapshot};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::End;
use policy_compiler::name::{NodeName, ObjectKey, ObjectName};
use policy_compiler::policy::{Direction, Grant, PeerSelects, Peers};
use policy_compiler::reach::{Partition, WorldClass, instances};

use crate::phrase;

use super::pair::{Pair, Pairing};
use super::unit;

/// Ends that no policy of either side tells apart.
#[derive(Clone, Debug)]
pub(super) enum Class<'a> {
    /// Pods of one workload.
    Pods(Vec<Pair<'a>>),
    /// Nodes, but for each node's own pods.
    Nodes(Vec<&'a NodeName>),
    /// Addresses that are no pod's and no node's on either side.
    World(&'a WorldClass),
}

/// One end of a connection by what each side calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TwoNamed {
    pub(super) old: End,
    pub(super) new: End,
}

impl TwoNamed {
    fn same(end: End) -> Self {
        Self { old: end.clone(), new: end }
    }

    fn pod(pair: &Pair<'_>) -> Self {
        Self { old: End::Pod(pair.old.clone()), new: End::Pod(pair.new.clone()) }
    }
}

impl<'a> Class<'a> {
    /// An end of each of two classes that are different ends on both sides, and no pod with its own
    /// node; `None` where there are none, or nothing polices what passes between them.
    pub(super) fn representatives(
        &self,
        to: &Class<'a>,
        old: &Snapshot,
        new: &Snapshot,
    ) -> Option<(TwoNamed, TwoNamed)> {
        let beside = |pair: &Pair<'_>, nodes: &[&NodeName]| {
            let own = |side: &Snapshot, key| side.pods.get(key).and_then(|pod| pod.node.clone());
            let own = [own(old, pair.old), own(new, pair.new)];
            let other = nodes.iter().find(|node| !own.iter().flatten().any(|own| own == **node))?;
            Some(TwoNamed::same(End::Node((*other).clone())))
        };
        let outside = |class: &WorldClass| TwoNamed::same(End::Address(class.representative()));
        match (self, to) {
            (Class::Pods(from), Class::Pods(to)) => {
                let first = from.first()?;
                let apart = |pair: &&Pair<'_>| pair.old != first.old && pair.new != first.new;
                Some((TwoNamed::pod(first), TwoNamed::pod(to.iter().find(apart)?)))
            }
            (Class::Pods(from), Class::Nodes(nodes)) => {
                from.iter().find_map(|pair| Some((TwoNamed::pod(pair), beside(pair, nodes)?)))
            }
            (Class::Nodes(nodes), Class::Pods(to)) => {
                to.iter().find_map(|pair| Some((beside(pair, nodes)?, TwoNamed::pod(pair))))
            }
            (Class::Pods(from), Class::World(class)) => {
                Some((TwoNamed::pod(from.first()?), outside(class)))
            }
            (Class::World(class), Class::Pods(to)) => {
                Some((outside(class), TwoNamed::pod(to.first()?)))
            }
            _ => None,
        }
    }

    /// Whether two different pods of it can speak with each other.
    pub(super) fn is_alone(&self, old: &Snapshot, new: &Snapshot) -> bool {
        self.representatives(self, old, new).is_none()
    }
}

/// `snapshot` with a second pod for each template that is to make several: its replicas are different
/// pods, and what one of them may send another is a question of its own.
pub(super) fn with_replicas(snapshot: &Snapshot) -> (Snapshot, BTreeSet<ObjectKey>) {
    let mut all = snapshot.clone();
    let mut added = BTreeSet::new();
    for pod in snapshot.pods.values().filter(|pod| pod.template && instances(pod) > 1) {
        let name = |n: usize| ObjectName::new(&format!("{}.{n}", pod.key.name)).ok();
        let free = |name: &ObjectName| {
            let key = ObjectKey { namespace: pod.key.namespace.clone(), name: name.clone() };
            !all.pods.contains_key(&key)
        };
        let Some(name) = (2..100).filter_map(name).find(free) else { continue };
        let key = ObjectKey { namespace: pod.key.namespace.clone(), name };
        all.pods.insert(key.clone(), Pod { key: key.clone(), ..pod.clone() });
        added.insert(key);
    }
    (all, added)
}

/// One side with what classes are told by.
pub(super) struct Telling<'a> {
    snapshot: &'a Snapshot,
    evaluator: &'a Evaluator<'a>,
    world: &'a [WorldClass],
    keys: &'a BTreeSet<&'a str>,
}

/// What a side can tell a pod by. Workloads are apart anyway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Signature<'a> {
    labels: Vec<(&'a str, &'a str)>,
    ports: BTreeSet<&'a ContainerPort>,
    addresses: Vec<Option<usize>>,
    host_network: bool,
    /// Which pod it is, where it shares an address with another.
    shared: Option<&'a ObjectKey>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        evaluator: &'a Evaluator<'a>,
        partition: &'a Partition<'_>,
        keys: &'a BTreeSet<&'a str>,
    ) -> Self {
        Self { snapshot, evaluator, world: partition.world(), keys }
    }

    fn class_of(&self, address: IpAddr) -> usize {
        self.world.iter().position(|class| class.contains(address)).unwrap_or(usize::MAX)
    }

    fn pod(&self, key: &ObjectKey) -> Option<Signature<'a>> {
        let pod = self.snapshot.pods.get(key)?;
        let class = |family| pod.addresses.of(family).map(|address| self.class_of(address));
        Some(Signature {
            labels: pod.labels.iter().filter(|(key, _)| self.keys.contains(key)).collect(),
            ports: pod.ports.iter().collect(),
            addresses: Family::ALL.map(class).to_vec(),
            host_network: pod.host_network,
            shared: (!self.is_alone(pod)).then_some(&pod.key),
        })
    }

    fn is_alone(&self, pod: &Pod) -> bool {
        let alone =
            |address| matches!(self.evaluator.owners(address), [only] if only.key == pod.key);
        pod.addresses.iter().all(alone)
    }

    fn node(&self, name: &NodeName) -> BTreeSet<(bool, usize)> {
        let addresses = self.evaluator.node_addresses(name);
        addresses.into_iter().map(|address| (address.is_ipv4(), self.class_of(address))).collect()
    }
}

/// The classes of all ends that both sides have: pods in the order of their workloads, nodes, the world.
pub(super) fn classes<'a>(
    pairing: &Pairing<'a>,
    old: &Telling<'a>,
    new: &Telling<'a>,
    partition: &'a Partition<'_>,
) -> Vec<Class<'a>> {
    let mut classes: Vec<Class<'a>> = Vec::new();
    let mut index = BTreeMap::new();
    for pair in &pairing.both {
        let (Some(was), Some(is)) =
            (old.snapshot.pods.get(pair.old), new.snapshot.pods.get(pair.new))
        else {
            continue;
        };
        // A pod of the host's network is its node, which is an end of its own.
        if was.host_network && is.host_network {
            continue;
        }
        let told = (phrase::workload_of(is), old.pod(pair.old), new.pod(pair.new));
        let at = *index.entry(told).or_insert_with(|| {
            classes.push(Class::Pods(Vec::new()));
            classes.len() - 1
        });
        if let Some(Class::Pods(pairs)) = classes.get_mut(at) {
            pairs.push(pair.clone());
        }
    }
    let mut nodes: BTreeMap<_, Vec<&'a NodeName>> = BTreeMap::new();
    let of_new: BTreeSet<&NodeName> = known_nodes(new.snapshot).collect();
    for name in known_nodes(old.snapshot).collect::<BTreeSet<_>>() {
        if of_new.contains(name) {
            nodes.entry((old.node(name), new.node(name))).or_default().push(name);
        }
    }
    let mut nodes: Vec<_> = nodes.into_values().collect();
    nodes.sort();
    classes.extend(nodes.into_iter().map(Class::Nodes));
    classes.extend(partition.world().iter().map(Class::World));
    classes
}

fn known_nodes(snapshot: &Snapshot) -> impl Iterator<Item = &NodeName> {
    let scheduled = snapshot.pods.values().filter_map(|pod| pod.node.as_ref());
    snapshot.nodes.keys().chain(scheduled)
}

/// The label keys that some selector of pods asks for.
pub(super) fn asked_keys(snapshot: &Snapshot) -> BTreeSet<&str> {
    let mut keys = BTreeSet::new();
    for policy in snapshot.policies.values() {
        keys.extend(policy.pod_selector.requirements().map(|r| &*r.key));
        for rule in policy.ingress.iter().chain(&policy.egress) {
            let Grant::Traffic { peers: Peers::Listed(peers), .. } = &rule.grant else { continue };
            for peer in peers {
                if let PeerSelects::Pods { pods, .. } = &peer.selects {
                    keys.extend(pods.requirements().map(|r| &*r.key));
                }
            }
        }
    }
    keys
}

/// What about an end is the same on both sides, so that a pair of ends of which enough is the same need
/// not be asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Same {
    /// All that the policies of others can ask.
    pub(super) peer: bool,
    /// The policies that isolate it for ingress.
    pub(super) ingress: bool,
    /// The policies that isolate it for egress.
    pub(super) egress: bool,
}

impl Same {
    const ALL: Same = Same { peer: true, ingress: true, egress: true };
}

/// What is the same of the ends of `class`.
pub(super) fn same<'a>(
    class: &Class<'a>,
    old: &Telling<'a>,
    new: &Telling<'a>,
    changed: &BTreeSet<&ObjectKey>,
) -> Same {
    match class {
        Class::World(_) => Same::ALL,
        Class::Nodes(nodes) => {
            let addresses = |node: &&&NodeName| {
                old.evaluator.node_addresses(node) == new.evaluator.node_addresses(node)
            };
            Same { peer: nodes.iter().all(|node| addresses(&node)), ..Same::ALL }
        }
        Class::Pods(pairs) => {
            let Some(Pair { old: was, new: is }) = pairs.first() else { return Same::default() };
            let both = old.snapshot.pods.get(was).zip(new.snapshot.pods.get(is));
            let Some((was, is)) = both else { return Same::default() };
            let isolating = |direction| {
                let keys = |side: &Telling<'a>, pod| -> Vec<&ObjectKey> {
                    let policies = side.evaluator.isolating(pod, direction);
                    policies.into_iter().map(|policy| &policy.key).collect()
                };
                let (before, after) = (keys(old, was), keys(new, is));
                before == after && !before.iter().any(|key| changed.contains(key))
            };
            Same {
                peer: pairs.iter().all(|pair| same_peer(pair, old, new)),
                ingress: isolating(Direction::Ingress),
                egress: isolating(Direction::Egress),
            }
        }
    }
}

fn same_peer(pair: &Pair<'_>, old: &Telling<'_>, new: &Telling<'_>) -> bool {
    let namespace = &pair.old.namespace;
    old.pod(pair.old).zip(new.pod(pair.new)).is_some_and(|(was, is)| {
        was == is
            && was.shared.is_none()
            && old.snapshot.namespace_labels(namespace) == new.snapshot.namespace_labels(namespace)
    })
}

/// The policies that are not the same on both sides, whatever the reason.
pub(super) fn changed_policies<'a>(
    old: &'a Snapshot,
    new: &'a Snapshot,
) -> BTreeSet<&'a ObjectKey> {
    let keys: BTreeSet<&ObjectKey> = old.policies.keys().chain(new.policies.keys()).collect();
    let audited = |side: &Snapshot, key: &ObjectKey| {
        let namespace: Option<&Namespace> = side.namespaces.get(&key.namespace);
        namespace.is_some_and(|namespace| namespace.audit)
    };
    keys.into_iter()
        .filter(|key| match (old.policies.get(*key), new.policies.get(*key)) {
            (Some(was), Some(is)) => {
                !unit::same_policy(was, is) || audited(old, key) != audited(new, key)
            }
            _ => true,
        })
        .collect()
}
