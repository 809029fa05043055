//! The part of a cluster that some addresses are about.
//!
//! To judge a few flows of this node's pods, `evaluate` need not see the other pods of the cluster:
//! it gets those that the flows are with, those of this node, and what isolates them. The cost follows
//! the flows and the node, whatever the size of the cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_compiler::cluster::{Node, Pod, Snapshot};
use policy_compiler::document::Location;
use policy_compiler::engine::Engine;
use policy_compiler::name::{NamespaceName, NodeName, ObjectKey, ObjectName};
use policy_compiler::policy::Policy;

/// The name that sorts first of all.
const FIRST_NAME: &str = "0";
/// The node that has all addresses of other nodes: which of them it is decides nothing here.
const ELSEWHERE: &str = "elsewhere";

/// The objects by which the halves of this node's pods are judged in flows between `addresses`, which
/// may be pods' of this node or of others, nodes', or nobody's.
pub(crate) fn excerpt(engine: &Engine, addresses: impl Iterator<Item = IpAddr>) -> Snapshot {
    let all = engine.objects();
    let mut part = Snapshot::default();
    let keep = |pod: &Pod, part: &mut Snapshot| {
        if !part.pods.contains_key(&pod.key) {
            part.pods.insert(pod.key.clone(), pod.clone());
        }
    };
    let addresses: BTreeSet<IpAddr> = addresses.collect();
    let nodes = engine.nodes_among(&addresses);
    for pod in engine.claimants_of(&addresses) {
        keep(&pod, &mut part);
    }
    let mut isolated_in = BTreeSet::new();
    for pod in engine.local_pods() {
        keep(pod, &mut part);
        isolated_in.insert(&pod.key.namespace);
    }
    for namespace in isolated_in {
        let policies = policies_in(all, namespace);
        part.policies.extend(policies.map(|policy| (policy.key.clone(), policy.clone())));
    }
    let named: BTreeSet<NamespaceName> =
        part.pods.keys().map(|key| key.namespace.clone()).collect();
    for name in named {
        if let Some(namespace) = all.namespaces.get(&name) {
            part.namespaces.insert(name, namespace.clone());
        }
    }
    let own = &engine.config().node;
    if let Some(node) = all.nodes.get(own) {
        part.nodes.insert(own.clone(), node.clone());
    }
    if let Ok(name) = NodeName::new(ELSEWHERE)
        && !nodes.is_empty()
    {
        let addresses = nodes.into_iter().collect();
        let (pod_networks, location) = (Vec::new(), Location::default());
        part.nodes.insert(name.clone(), Node { name, addresses, pod_networks, location });
    }
    part
}

/// The policies of a namespace, in the order of their names.
pub(crate) fn policies_in<'s>(
    objects: &'s Snapshot,
    namespace: &'s NamespaceName,
) -> impl Iterator<Item = &'s Policy> {
    let first = ObjectName::new(FIRST_NAME).ok();
    let first = first.map(|name| ObjectKey { namespace: namespace.clone(), name });
    let policies = first.into_iter().flat_map(|first| objects.policies.range(first..));
    policies.map(|(_, policy)| policy).take_while(move |p| p.key.namespace == *namespace)
}

#[cfg(test)]
pub(crate) mod tests {
    use policy_compiler::cidr::Family;
    use policy_compiler::config::NodeConfig;
    use policy_compiler::evaluate::Evaluator;
    use policy_compiler::flow::{End, Flow, Traffic, Wire};
    use policy_compiler::ruleset::Generation;
    use policy_compiler::update::Event;
    use policy_compiler::verdict::Decision;
    use policy_tests::generate::{Cluster, Size};

    use super::*;

    /// The engine of `node` that knows these objects.
    pub(crate) fn engine_of(node: &str, objects: Snapshot) -> Engine {
        let config = NodeConfig::new(NodeName::new(node).unwrap());
        let mut engine = Engine::new(config, Generation(0));
        engine.apply(Event::Relisted(Box::new(objects)));
        engine
    }

    fn generated(size: Size) -> Engine {
        let cluster = Cluster::new(size, 3);
        engine_of(cluster.node().as_str(), cluster.snapshot())
    }

    #[test]
    fn the_halves_of_this_nodes_pods_are_judged_as_by_the_whole_cluster() {
        let engine = generated(Size::SMALL);
        let objects = engine.snapshot();
        let whole = Evaluator::new(&objects);
        let local: Vec<IpAddr> = engine.local_pods().flat_map(|pod| pod.addresses.iter()).collect();
        let pods = objects.pods.values();
        let mut others: Vec<IpAddr> =
            pods.flat_map(|pod| pod.addresses.iter()).step_by(9).collect();
        others.extend(
            ["198.51.105.7", "203.0.113.9", "2001:db8:1::1"].map(|a| a.parse::<IpAddr>().unwrap()),
        );
        let (mut judged, mut denied) = (0, 0);
        for own in &local {
            for other in others.iter().filter(|other| other.is_ipv4() == own.is_ipv4()) {
                let part = excerpt(&engine, [*own, *other].into_iter());
                let part = Evaluator::new(&part);
                for port in [8080, 9090] {
                    let family = if own.is_ipv4() { Family::V4 } else { Family::V6 };
                    let (own, other) = (End::Address(*own), End::Address(*other));
                    let (traffic, wire) = (Traffic::tcp(port), Wire::Routed);
                    let into = Flow { from: other.clone(), to: own.clone(), family, traffic, wire };
                    let out = Flow { from: own, to: other, family, traffic, wire };
                    assert_eq!(
                        part.verdict(&into).ingress,
                        whole.verdict(&into).ingress,
                        "{into:?}"
                    );
                    assert_eq!(part.verdict(&out).egress, whole.verdict(&out).egress, "{out:?}");
                    judged += 2;
                    denied += usize::from(part.verdict(&into).decision == Decision::Denied);
                }
            }
        }
        assert!(judged > 1_000 && denied > 100, "{denied} of {judged} denied");
    }

    #[test]
    fn however_large_the_cluster_is_an_excerpt_has_the_nodes_pods_and_those_that_are_asked_about() {
        let engine = generated(Size::TENTH);
        let local = engine.local_pods().count();
        assert!((250..270).contains(&local), "{local} pods are local");
        let objects = engine.snapshot();
        let pods = objects.pods.values();
        let elsewhere =
            pods.filter(|pod| pod.is_live() && pod.node.as_ref() != Some(&engine.config().node));
        let asked: Vec<IpAddr> =
            elsewhere.filter_map(|pod| pod.addresses.iter().next()).take(10).collect();
        let part = excerpt(&engine, asked.into_iter());
        assert_eq!(part.pods.len(), local + 10);
        let namespaces: BTreeSet<_> = part.pods.keys().map(|key| &key.namespace).collect();
        assert_eq!(part.namespaces.len(), namespaces.len());
        assert!(part.policies.keys().all(|key| namespaces.contains(&key.namespace)));
    }

    #[test]
    fn the_policies_of_a_namespace_are_not_those_of_one_that_sorts_next_to_it() {
        let engine = generated(Size::SMALL);
        let objects = engine.snapshot();
        let mut found = 0;
        for namespace in objects.namespaces.keys() {
            let all = objects.policies.values().filter(|policy| policy.key.namespace == *namespace);
            let all: Vec<&Policy> = all.collect();
            found += all.len();
            assert_eq!(policies_in(&objects, namespace).collect::<Vec<_>>(), all);
        }
        assert_eq!(found, objects.policies.len());
    }
}
