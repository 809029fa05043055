//! Random histories: what happens to the objects of a cluster, several things in one flush.

use std::collections::BTreeMap;

use policy_compiler::cluster::{Namespace, Node, Phase, Pod, Snapshot};
use policy_compiler::labels::Labels;
use policy_compiler::packed::PackedPod;
use policy_compiler::policy::{Policy, Rule};
use policy_compiler::update::{Event, PodList, Relist};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::cluster::{cluster, namespace, node, pod, pod_labels, policy, rule};

/// Something that happens, before the objects that it happens to are known.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Pod(Pod),
    PodGone(Index),
    Relabelled(Index, Labels),
    /// Two pods change labels with one another: one leaves what the other joins.
    LabelsSwapped(Index, Index),
    /// The first pod ends, or vanishes, and the second has its addresses.
    Inherits(Index, Index, bool),
    Policy(Policy),
    PolicyGone(Index),
    /// A rule of a policy is another now.
    RuleEdited(Index, Index, Rule),
    /// A policy is audited that was enforced, or the other way round.
    AuditTurned(Index),
    /// A policy selects what another one selects.
    SelectorTaken(Index, Index),
    Namespace(Namespace),
    NamespaceGone(Index),
    Node(Node),
    NodeGone(Index),
    Relisted(Snapshot),
    /// Each kind for itself, with one pod and one policy that cannot be read.
    KindsRelisted(Snapshot, Index, Index),
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        4 => pod().prop_map(Change::Pod),
        3 => index().prop_map(Change::PodGone),
        6 => (index(), pod_labels()).prop_map(|(pod, labels)| Change::Relabelled(pod, labels)),
        5 => (index(), index()).prop_map(|(one, other)| Change::LabelsSwapped(one, other)),
        3 => (index(), index(), any::<bool>())
            .prop_map(|(from, to, ends)| Change::Inherits(from, to, ends)),
        3 => policy().prop_map(Change::Policy),
        2 => index().prop_map(Change::PolicyGone),
        4 => (index(), index(), rule())
            .prop_map(|(policy, place, rule)| Change::RuleEdited(policy, place, rule)),
        3 => index().prop_map(Change::AuditTurned),
        2 => (index(), index()).prop_map(|(to, from)| Change::SelectorTaken(to, from)),
        2 => namespace().prop_map(Change::Namespace),
        1 => index().prop_map(Change::NamespaceGone),
        1 => node().prop_map(Change::Node),
        1 => index().prop_map(Change::NodeGone),
        1 => cluster().prop_map(Change::Relisted),
        1 => (cluster(), any::<Index>(), any::<Index>())
            .prop_map(|(cluster, pod, policy)| Change::KindsRelisted(cluster, pod, policy)),
    ]
}

fn nth<K, V>(map: &BTreeMap<K, V>, index: Index) -> Option<(&K, &V)> {
    map.iter().nth(index.index(map.len().max(1)))
}

impl Change {
    /// The events that it is, given what there is.
    pub(crate) fn events(&self, now: &Snapshot) -> Vec<Event> {
        let applied = |pod: Pod| Event::PodApplied(Box::new(pod));
        let found: Option<Vec<Event>> = match self {
            Change::Pod(pod) => Some(vec![applied(pod.clone())]),
            Change::PodGone(index) => {
                nth(&now.pods, *index).map(|(key, _)| vec![Event::PodDeleted(key.clone())])
            }
            Change::Relabelled(index, labels) => nth(&now.pods, *index)
                .map(|(_, pod)| vec![applied(Pod { labels: labels.clone(), ..pod.clone() })]),
            Change::LabelsSwapped(one, other) => {
                nth(&now.pods, *one).zip(nth(&now.pods, *other)).map(|((_, one), (_, other))| {
                    vec![
                        applied(Pod { labels: other.labels.clone(), ..one.clone() }),
                        applied(Pod { labels: one.labels.clone(), ..other.clone() }),
                    ]
                })
            }
            Change::Inherits(from, to, ends) => {
                nth(&now.pods, *from).zip(nth(&now.pods, *to)).map(|((key, from), (_, to))| {
                    let leaves = if *ends {
                        applied(Pod { phase: Phase::Finished, ..from.clone() })
                    } else {
                        Event::PodDeleted(key.clone())
                    };
                    let heir = Pod { addresses: from.addresses, ..to.clone() };
                    if from.key == to.key || from.host_network || to.host_network {
                        Vec::new()
                    } else {
                        vec![leaves, applied(heir)]
                    }
                })
            }
            Change::Policy(policy) => Some(vec![Event::PolicyApplied(Box::new(policy.clone()))]),
            Change::PolicyGone(index) => {
                nth(&now.policies, *index).map(|(key, _)| vec![Event::PolicyDeleted(key.clone())])
            }
            Change::RuleEdited(index, place, rule) => {
                nth(&now.policies, *index).map(|(_, policy)| {
                    let mut policy = policy.clone();
                    for rules in [&mut policy.ingress, &mut policy.egress] {
                        if !rules.is_empty() {
                            let at = place.index(rules.len());
                            rules[at] = rule.clone();
                        }
                    }
                    vec![Event::PolicyApplied(Box::new(policy))]
                })
            }
            Change::AuditTurned(index) => nth(&now.policies, *index).map(|(_, policy)| {
                let audit = !policy.audit;
                vec![Event::PolicyApplied(Box::new(Policy { audit, ..policy.clone() }))]
            }),
            Change::SelectorTaken(to, from) => nth(&now.policies, *to)
                .zip(nth(&now.policies, *from))
                .map(|((_, to), (_, from))| {
                    let pod_selector = from.pod_selector.clone();
                    vec![Event::PolicyApplied(Box::new(Policy { pod_selector, ..to.clone() }))]
                }),
            Change::Namespace(namespace) => Some(vec![Event::NamespaceApplied(namespace.clone())]),
            Change::NamespaceGone(index) => nth(&now.namespaces, *index)
                .map(|(name, _)| vec![Event::NamespaceDeleted(name.clone())]),
            Change::Node(node) => Some(vec![Event::NodeApplied(node.clone())]),
            Change::NodeGone(index) => {
                nth(&now.nodes, *index).map(|(name, _)| vec![Event::NodeDeleted(name.clone())])
            }
            Change::Relisted(snapshot) => Some(vec![Event::Relisted(Box::new(snapshot.clone()))]),
            Change::KindsRelisted(snapshot, pods, policies) => Some(vec![
                Event::PodsRelisted(PodList::new(
                    snapshot.pods.values().cloned().map(PackedPod::new).collect(),
                    nth(&now.pods, *pods).map(|(key, _)| key.clone()).into_iter().collect(),
                )),
                Event::NamespacesRelisted(whole(&snapshot.namespaces)),
                Event::PoliciesRelisted(Relist {
                    objects: snapshot.policies.clone(),
                    unread: nth(&now.policies, *policies)
                        .map(|(k, _)| k.clone())
                        .into_iter()
                        .collect(),
                }),
                Event::NodesRelisted(whole(&snapshot.nodes)),
            ]),
        };
        found.unwrap_or_default()
    }
}

fn whole<K: Ord + Clone, V: Clone>(objects: &BTreeMap<K, V>) -> Relist<K, V> {
    Relist { objects: objects.clone(), ..Relist::default() }
}

/// What an event makes of the objects, said once more and without the engine.
pub(crate) fn happen(objects: &mut Snapshot, event: Event) {
    match event {
        Event::PodApplied(pod) => drop(objects.pods.insert(pod.key.clone(), *pod)),
        Event::PodDeleted(key) => drop(objects.pods.remove(&key)),
        Event::NamespaceApplied(namespace) => {
            objects.namespaces.insert(namespace.name().clone(), namespace);
        }
        Event::NamespaceDeleted(name) => drop(objects.namespaces.remove(&name)),
        Event::PolicyApplied(policy) => {
            objects.policies.insert(policy.key.clone(), *policy);
        }
        Event::PolicyDeleted(key) => drop(objects.policies.remove(&key)),
        Event::NodeApplied(node) => drop(objects.nodes.insert(node.name.clone(), node)),
        Event::NodeDeleted(name) => drop(objects.nodes.remove(&name)),
        Event::Relisted(listed) => *objects = *listed,
        Event::PodsRelisted(listed) => {
            objects.pods.retain(|key, _| listed.unread.contains(key));
            let pods = listed.pods().iter().map(PackedPod::unpack);
            objects.pods.extend(pods.map(|pod| (pod.key.clone(), pod)));
        }
        Event::NamespacesRelisted(listed) => relist(&mut objects.namespaces, listed),
        Event::PoliciesRelisted(listed) => relist(&mut objects.policies, listed),
        Event::NodesRelisted(listed) => relist(&mut objects.nodes, listed),
    }
}

fn relist<K: Ord, V>(objects: &mut BTreeMap<K, V>, listed: Relist<K, V>) {
    objects.retain(|key, _| listed.unread.contains(key));
    objects.extend(listed.objects);
}
