//! The law of scopes: the pods in scope make the ruleset that all pods make, and whoever tells the
//! engine of them in pieces tells it what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cluster::{Addresses, Namespace, Node, Pod, Snapshot};
use policy_compiler::compile::compile;
use policy_compiler::config::NodeConfig;
use policy_compiler::document::Location;
use policy_compiler::labels::Labels;
use policy_compiler::name::{NamespaceName, ObjectKey};
use policy_compiler::scope::{Claims, Limits, Rank, Scope, is_local};
use policy_compiler::simulate::{Outcome, journey_over, simulate};
use policy_compiler::update::Event;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cluster::{NAMESPACES, NODES, POD_ADDRESSES, cluster, ip, node_name, pod};
use crate::config;
use crate::flows::{Options, options, sketch};

fn limits() -> impl Strategy<Value = Limits> {
    (0..4_usize, 0..4_usize, 0..4_usize).prop_map(|(namespaces, wide, across)| Limits {
        namespaces,
        wide,
        across,
    })
}

/// Gives every address that a pod tells of its node to that node's object, as whoever watches a scope
/// has them.
fn with_nodes(mut snapshot: Snapshot) -> Snapshot {
    for (name, ..) in NODES {
        let name = node_name(name);
        let of_it = snapshot.pods.values().filter(|pod| pod.node.as_ref() == Some(&name));
        let told: BTreeSet<IpAddr> = of_it
            .flat_map(|pod| {
                let own = pod.host_network.then(|| pod.addresses.iter());
                pod.host_addresses.iter().copied().chain(own.into_iter().flatten())
            })
            .collect();
        let node = snapshot.nodes.entry(name.clone()).or_insert_with(|| Node {
            name,
            addresses: Vec::new(),
            pod_networks: Vec::new(),
            location: Location::default(),
        });
        let more = told.into_iter().filter(|address| !node.addresses.contains(address));
        let more: Vec<IpAddr> = more.collect();
        node.addresses.extend(more);
    }
    snapshot
}

/// Declares every namespace, and gives each pod an address that no other pod has: one that a node has
/// it keeps.
fn without_quarrels(mut snapshot: Snapshot) -> Snapshot {
    for name in NAMESPACES {
        let name = NamespaceName::new(name).unwrap();
        let namespace = Namespace::new(name.clone(), Labels::default(), Location::default());
        snapshot.namespaces.entry(name).or_insert(namespace);
    }
    let nodes = snapshot.nodes.values();
    let of_nodes: BTreeSet<IpAddr> =
        nodes.flat_map(|node| node.addresses.iter().copied()).collect();
    let pods = snapshot.pods.values_mut().filter(|pod| !pod.host_network);
    for (pod, (v4, v6)) in pods.zip(POD_ADDRESSES) {
        let has = pod.addresses;
        if has.iter().any(|address| of_nodes.contains(&address)) {
            continue;
        }
        pod.addresses = Addresses::default();
        for address in [has.v4.map(|_| ip(v4)), has.v6.map(|_| ip(v6))].into_iter().flatten() {
            pod.addresses.offer(address);
        }
    }
    snapshot
}

/// What a node is told, of the networks of its pods those in which no other node has pods.
fn on(options: &Options, node: &str, snapshot: &Snapshot) -> NodeConfig {
    let mut config = options.on(node);
    let elsewhere = snapshot.pods.values().filter(|pod| !is_local(pod, &config.node));
    let elsewhere: Vec<IpAddr> = elsewhere.flat_map(|pod| pod.addresses.iter()).collect();
    config.pod_networks.retain(|net| !elsewhere.iter().any(|address| net.contains(address)));
    config
}

/// What of a cluster the node sees that watches its scope.
fn seen(snapshot: &Snapshot, node: &str, limits: Limits) -> Snapshot {
    let node = node_name(node);
    let local: Vec<&Pod> = snapshot.pods.values().filter(|pod| is_local(pod, &node)).collect();
    let scope = Scope::of(snapshot, snapshot.policies.values(), &local, limits);
    let mut seen = snapshot.clone();
    seen.pods.retain(|key, pod| {
        pod.node.as_ref() == Some(&node) || scope.holds(&key.namespace, &pod.labels)
    });
    seen
}

proptest! {
    #![proptest_config(config("scope", 4_000))]

    #[test]
    fn the_pods_in_scope_and_the_nodes_make_the_ruleset_that_all_pods_make(
        snapshot in cluster().prop_map(with_nodes).prop_map(without_quarrels),
        options in options(),
        limits in limits(),
    ) {
        for (node, ..) in NODES {
            let config = on(&options, node, &snapshot);
            let all = compile(&snapshot, &config).ruleset;
            let some = compile(&seen(&snapshot, node, limits), &config).ruleset;
            prop_assert_eq!(some, all, "{}", node);
        }
    }

    #[test]
    fn whoever_sees_a_scope_lets_nothing_pass_that_is_denied_by_whoever_sees_all(
        snapshot in cluster().prop_map(with_nodes),
        options in options(),
        limits in limits(),
        sketches in vec(sketch(), 24),
    ) {
        let ways = options.ways();
        let flows: Vec<_> =
            sketches.iter().filter_map(|sketch| sketch.draw(&snapshot, &options)).collect();
        for (node, ..) in NODES {
            let config = options.on(node);
            let all = compile(&snapshot, &config).ruleset;
            let some = compile(&seen(&snapshot, node, limits), &config).ruleset;
            for flow in &flows {
                let hops = journey_over(&snapshot, flow, &ways);
                for hop in hops.iter().filter(|hop| hop.node == config.node) {
                    let passes = simulate(&some, &hop.packet).outcome == Outcome::Passes;
                    let passed = simulate(&all, &hop.packet).outcome == Outcome::Passes;
                    prop_assert!(passed || !passes, "{} {:?}", node, hop);
                }
            }
        }
    }
}

/// Something that a watch says: of one pod, of all of its pods, or no more.
#[derive(Clone, Debug)]
enum Said {
    Applied(Box<Pod>),
    Deleted(ObjectKey),
    Listed(Vec<Pod>),
    Dropped,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        6 => pod().prop_map(|pod| Said::Applied(Box::new(pod))),
        4 => pod().prop_map(|pod| Said::Deleted(pod.key)),
        1 => vec(pod(), 0..5).prop_map(Said::Listed),
        1 => Just(Said::Dropped),
    ]
}

const WATCHES: [(Rank, u64); 5] = [
    (Rank::Own, 0),
    (Rank::Namespace, 7),
    (Rank::Namespace, 4),
    (Rank::Across, 5),
    (Rank::Across, 6),
];

proptest! {
    #![proptest_config(config("scope", 2_000))]

    #[test]
    fn the_engine_has_each_pod_as_the_best_of_its_watches_has_it(
        course in vec((0..WATCHES.len(), said()), 1..40),
    ) {
        let mut claims = Claims::default();
        let mut engine: BTreeMap<ObjectKey, Pod> = BTreeMap::new();
        let mut watches: BTreeMap<usize, BTreeMap<ObjectKey, Pod>> = BTreeMap::new();
        // Best first: a later watch of a rank knows better.
        let order = [0, 1, 2, 4, 3];
        for (index, said) in course {
            let (rank, watch) = WATCHES[index];
            let known = watches.entry(index).or_default();
            let before = engine.clone();
            let held = |key: &ObjectKey| before.get(key).cloned();
            let events: Vec<Event> = match said {
                Said::Applied(pod) => {
                    known.insert(pod.key.clone(), (*pod).clone());
                    claims.apply(rank, watch, pod, &held).into_iter().collect()
                }
                Said::Deleted(key) => {
                    known.remove(&key);
                    claims.release(rank, watch, &key).into_iter().collect()
                }
                Said::Listed(pods) => {
                    *known = pods.iter().map(|pod| (pod.key.clone(), pod.clone())).collect();
                    claims.relist(rank, watch, &pods.into_iter().collect(), &held)
                }
                Said::Dropped => {
                    known.clear();
                    claims.drop_watch(rank, watch)
                }
            };
            for event in events {
                match event {
                    Event::PodApplied(pod) => drop(engine.insert(pod.key.clone(), *pod)),
                    Event::PodDeleted(key) => prop_assert!(engine.remove(&key).is_some()),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            let mut expected: BTreeMap<ObjectKey, Pod> = BTreeMap::new();
            for index in order.iter().rev() {
                expected.extend(watches.get(index).cloned().unwrap_or_default());
            }
            prop_assert_eq!(&engine, &expected);
        }
    }
}
