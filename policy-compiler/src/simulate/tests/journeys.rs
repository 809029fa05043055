//! Which rules a flow's first packet meets.

use std::collections::BTreeMap;

use super::super::fixture::*;
use super::super::{DEFAULT_BRIDGE, Hop, Ways, decide, journey, journey_over};
use crate::cidr::Family;
use crate::cluster::{Addresses, Age, Node, Phase, Pod, Snapshot};
use crate::config::InterfaceName;
use crate::document::Location;
use crate::flow::{End, Flow, Traffic, Wire};
use crate::labels::Labels;
use crate::name::{NodeName, ObjectKey};
use crate::packet::Path;
use crate::ruleset::{Ruleset, Target};
use crate::verdict::Decision;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn pod(name: &str, on: &str, address: &str) -> Pod {
    let mut addresses = Addresses::default();
    addresses.offer(ip(address));
    Pod {
        key: ObjectKey::new("x", name).unwrap(),
        labels: Labels::default(),
        node: Some(node(on)),
        host_network: false,
        phase: Phase::Running,
        addresses,
        ports: Vec::new(),
        host_addresses: Vec::new(),
        age: Age::default(),
        workload: None,
        template: false,
        location: Location::default(),
    }
}

/// x/a and x/b on n1, x/c on n2, the hostNetwork pod x/h on n2; n1 has 192.0.2.11.
fn cluster() -> Snapshot {
    let host = Pod { host_network: true, ..pod("h", "n2", "192.0.2.12") };
    with([pod("a", "n1", "10.1.0.1"), pod("b", "n1", "10.1.0.2"), pod("c", "n2", "10.2.0.1"), host])
}

fn with<const N: usize>(pods: [Pod; N]) -> Snapshot {
    let n1 = Node {
        name: node("n1"),
        addresses: vec![ip("192.0.2.11")],
        pod_networks: Vec::new(),
        location: Location::default(),
    };
    Snapshot {
        pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
        nodes: [(n1.name.clone(), n1)].into(),
        ..Snapshot::default()
    }
}

/// `a` is a pod of namespace x, `node/n1` a node, anything with a dot or colon an address.
fn end(text: &str) -> End {
    match text.strip_prefix("node/") {
        Some(name) => End::Node(node(name)),
        None => {
            text.parse().map_or_else(|_| End::Pod(ObjectKey::new("x", text).unwrap()), End::Address)
        }
    }
}

fn flow(from: &str, to: &str, wire: Wire) -> Flow {
    let family = if to.contains(':') || from.contains(':') { Family::V6 } else { Family::V4 };
    Flow { from: end(from), to: end(to), family, traffic: Traffic::tcp(80), wire }
}

fn hop(on: &str, source: &str, destination: &str) -> Hop {
    Hop { node: node(on), packet: syn(source, destination, 80) }
}

fn along(mut hop: Hop, path: Path) -> Hop {
    hop.packet.path = path;
    hop
}

fn bridged() -> Path {
    Path::Forwarded { from: InterfaceName::new(DEFAULT_BRIDGE).ok(), bridged: true }
}

#[test]
fn a_routed_packet_meets_the_nodes_of_both_pods() {
    for (from, to, hops) in [
        ("a", "b", vec![hop("n1", "10.1.0.1", "10.1.0.2")]),
        ("a", "c", vec![hop("n1", "10.1.0.1", "10.2.0.1"), hop("n2", "10.1.0.1", "10.2.0.1")]),
        ("10.1.0.1", "10.1.0.2", vec![hop("n1", "10.1.0.1", "10.1.0.2")]),
        ("a", "203.0.113.7", vec![hop("n1", "10.1.0.1", "203.0.113.7")]),
        ("203.0.113.7", "c", vec![hop("n2", "203.0.113.7", "10.2.0.1")]),
        ("a", "a", vec![]),
        ("203.0.113.7", "203.0.113.8", vec![]),
        ("node/n1", "203.0.113.8", vec![]),
    ] {
        assert_eq!(journey(&cluster(), &flow(from, to, Wire::Routed)), hops, "{from} {to}");
    }
}

#[test]
fn a_node_reaches_its_own_pods_unforwarded_and_others_as_an_address() {
    let sent = Path::SentByNode { from_local: true };
    for (from, to, hops) in [
        ("node/n1", "a", vec![along(hop("n1", "192.0.2.11", "10.1.0.1"), sent.clone())]),
        ("192.0.2.11", "a", vec![along(hop("n1", "192.0.2.11", "10.1.0.1"), sent.clone())]),
        (
            "a",
            "node/n1",
            vec![along(hop("n1", "10.1.0.1", "192.0.2.11"), Path::ForNode { from: None })],
        ),
        ("node/n1", "c", vec![hop("n2", "192.0.2.11", "10.2.0.1")]),
        ("c", "node/n1", vec![hop("n2", "10.2.0.1", "192.0.2.11")]),
        ("h", "c", vec![along(hop("n2", "192.0.2.12", "10.2.0.1"), sent)]),
        ("a", "h", vec![hop("n1", "10.1.0.1", "192.0.2.12")]),
        ("node/n1", "h", vec![]),
    ] {
        assert_eq!(journey(&cluster(), &flow(from, to, Wire::Routed)), hops, "{from} {to}");
    }
}

#[test]
fn equal_ends_are_on_the_wire_only_if_translated_or_spoofed() {
    let plain = hop("n1", "10.1.0.1", "10.1.0.1");
    let mut translated = plain.clone();
    translated.packet.original_destination = Some(ip("192.0.2.1"));
    for (wire, hops) in [
        (Wire::Routed, vec![]),
        (Wire::Bridged, vec![]),
        (Wire::Spoofed, vec![plain]),
        (Wire::Translated, vec![translated]),
    ] {
        assert_eq!(journey(&cluster(), &flow("a", "a", wire)), hops, "{wire:?}");
    }
}

#[test]
fn a_bridged_packet_comes_by_the_bridge() {
    let broadcast = || {
        let mut hop = along(hop("n1", "10.1.0.1", "255.255.255.255"), bridged());
        hop.packet.to_broadcast = true;
        hop
    };
    for (from, to, hops) in [
        ("a", "b", vec![along(hop("n1", "10.1.0.1", "10.1.0.2"), bridged())]),
        ("a", "255.255.255.255", vec![broadcast()]),
        ("a", "224.0.0.251", vec![along(hop("n1", "10.1.0.1", "224.0.0.251"), bridged())]),
        (
            "fe80::1",
            "ff02::1",
            vec![
                along(hop("n1", "fe80::1", "ff02::1"), bridged()),
                along(hop("n2", "fe80::1", "ff02::1"), bridged()),
            ],
        ),
        ("203.0.113.7", "203.0.113.8", vec![]),
    ] {
        assert_eq!(journey(&cluster(), &flow(from, to, Wire::Bridged)), hops, "{from} {to}");
    }
}

#[test]
fn an_address_is_where_its_newest_owner_runs() {
    let aged = |pod: Pod, started: &str| {
        let age = Age { started: Some(started.into()), ..Age::default() };
        Pod { age, ..pod }
    };
    let old = aged(pod("a", "n1", "10.1.0.1"), "2026-01-01T00:00:00Z");
    let new = aged(pod("b", "n2", "10.1.0.1"), "2026-01-02T00:00:00Z");
    let to_world = |from: &str| flow(from, "203.0.113.7", Wire::Routed);
    let claimed = with([old.clone(), new.clone()]);
    for from in ["a", "b", "10.1.0.1"] {
        let hops = journey(&claimed, &to_world(from));
        assert_eq!(hops, [hop("n2", "10.1.0.1", "203.0.113.7")], "{from}");
    }
    let finished = with([old, Pod { phase: Phase::Finished, ..new }]);
    for from in ["a", "b", "10.1.0.1"] {
        let hops = journey(&finished, &to_world(from));
        assert_eq!(hops, [hop("n1", "10.1.0.1", "203.0.113.7")], "{from}");
    }
}

fn drops_all() -> Ruleset {
    v4(table([("NPC-FORWARD", vec![rule([], DROP)])], []))
}

fn passes_all() -> Ruleset {
    v4(table([("NPC-FORWARD", vec![rule([], Target::Return)])], []))
}

fn refused() -> Ruleset {
    v4(table([], []))
}

#[test]
fn a_flow_is_allowed_where_every_hop_lets_it_pass() {
    let decided = |n1: Ruleset, n2: Ruleset, from: &str, to: &str| {
        let rulesets: BTreeMap<_, _> = [(node("n1"), n1), (node("n2"), n2)].into();
        decide(&rulesets, &cluster(), &flow(from, to, Wire::Routed))
    };
    assert_eq!(decided(passes_all(), passes_all(), "a", "c"), Decision::Allowed);
    assert_eq!(decided(passes_all(), drops_all(), "a", "c"), Decision::Denied);
    assert_eq!(decided(drops_all(), passes_all(), "a", "c"), Decision::Denied);
    assert_eq!(decided(passes_all(), drops_all(), "a", "b"), Decision::Allowed);
    assert_eq!(decided(drops_all(), drops_all(), "a", "a"), Decision::Allowed);
    assert_eq!(decided(refused(), passes_all(), "a", "c"), Decision::Unknown);
    assert_eq!(decided(refused(), drops_all(), "a", "c"), Decision::Denied);
}

#[test]
fn what_has_no_packets_cannot_be_decided() {
    let addressless = Pod { addresses: Addresses::default(), ..pod("t", "n1", "10.1.0.9") };
    let nowhere = Pod { node: None, ..pod("u", "n1", "10.1.0.8") };
    let mut snapshot = cluster();
    snapshot.pods.extend([addressless, nowhere].map(|pod| (pod.key.clone(), pod)));
    let rulesets: BTreeMap<_, _> = [(node("n1"), passes_all()), (node("n2"), passes_all())].into();
    for (from, to) in [
        ("a", "t"),
        ("u", "a"),
        ("absent", "a"),
        ("a", "fd00::9"),
        ("node/absent", "a"),
        ("node/n1", "fd00::9"),
    ] {
        let flow = flow(from, to, Wire::Routed);
        assert_eq!(journey(&snapshot, &flow), [], "{from} {to}");
        assert_eq!(decide(&rulesets, &snapshot, &flow), Decision::Unknown, "{from} {to}");
    }
    let missing = BTreeMap::from([(node("n1"), passes_all())]);
    let to_n2 = flow("a", "c", Wire::Routed);
    assert_eq!(decide(&missing, &snapshot, &to_n2), Decision::Unknown);
}

#[test]
fn a_node_without_known_addresses_still_reaches_its_own_pods() {
    let sent = Path::SentByNode { from_local: true };
    let without = with([pod("c", "n2", "10.2.0.1"), pod("a", "n1", "10.1.0.1")]);
    let own = journey(&without, &flow("node/n2", "c", Wire::Routed));
    assert_eq!(own, [along(hop("n2", "0.0.0.0", "10.2.0.1"), sent)]);
    let rulesets: BTreeMap<_, _> = [(node("n1"), passes_all()), (node("n2"), passes_all())].into();
    let to_other = flow("node/n2", "a", Wire::Routed);
    assert_eq!(decide(&rulesets, &without, &to_other), Decision::Unknown);
}

#[test]
fn what_lies_in_a_pod_network_and_is_nobodys_is_behind_the_nodes_that_deny_such() {
    let nets = |nets: &[&str]| nets.iter().map(|text| net(text)).collect();
    let pod_networks =
        [(node("n1"), nets(&["10.1.0.0/24"])), (node("n2"), nets(&["10.1.0.128/25"]))].into();
    let ways = Ways { pod_networks, ..Ways::default() };
    let sent = Path::SentByNode { from_local: true };
    for (from, to, hops) in [
        ("10.1.0.9", "a", vec![hop("n1", "10.1.0.9", "10.1.0.1")]),
        ("10.1.0.9", "10.1.0.8", vec![hop("n1", "10.1.0.9", "10.1.0.8")]),
        ("10.1.0.9", "203.0.113.7", vec![hop("n1", "10.1.0.9", "203.0.113.7")]),
        (
            "c",
            "10.1.0.9",
            vec![hop("n2", "10.2.0.1", "10.1.0.9"), hop("n1", "10.2.0.1", "10.1.0.9")],
        ),
        (
            "10.1.0.200",
            "c",
            vec![hop("n1", "10.1.0.200", "10.2.0.1"), hop("n2", "10.1.0.200", "10.2.0.1")],
        ),
        ("node/n1", "10.1.0.9", vec![along(hop("n1", "192.0.2.11", "10.1.0.9"), sent)]),
        (
            "10.1.0.9",
            "node/n1",
            vec![along(hop("n1", "10.1.0.9", "192.0.2.11"), Path::ForNode { from: None })],
        ),
        ("h", "10.1.0.9", vec![hop("n1", "192.0.2.12", "10.1.0.9")]),
        ("10.1.0.9", "10.1.0.9", vec![]),
        ("10.1.1.9", "203.0.113.7", vec![]),
    ] {
        let found = journey_over(&cluster(), &flow(from, to, Wire::Routed), &ways);
        assert_eq!(found, hops, "{from} {to}");
    }
}
