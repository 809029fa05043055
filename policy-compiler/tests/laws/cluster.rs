//! Random clusters, made to collide: few namespaces, labels, port names and addresses, so that
//! policies overlap, selectors share sets, and addresses change hands.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use policy_compiler::cidr::{Family, IpBlock};
use policy_compiler::cluster::{
    Addresses, Age, ContainerPort, Namespace, Node, Phase, Pod, Snapshot,
};
use policy_compiler::document::Location;
use policy_compiler::labels::Labels;
use policy_compiler::name::{NamespaceName, NodeName, ObjectKey};
use policy_compiler::policy::{
    Grant, NamespaceScope, Peer, PeerSelects, Peers, Policy, PortMatch, PortNumbers, Ports, Rule,
};
use policy_compiler::port::{PortName, PortRange, Protocol};
use policy_compiler::selector::{Operator, Requirement, Selector};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// The namespaces; the last is never declared.
pub(crate) const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// The nodes, with an address of each family.
pub(crate) const NODES: [(&str, &str, &str); 3] = [
    ("n1", "192.0.2.1", "2001:db8::1"),
    ("n2", "192.0.2.2", "2001:db8::2"),
    ("n3", "192.0.2.3", "2001:db8::3"),
];
/// The addresses that pods have, some of which nobody has at a given time.
pub(crate) const POD_ADDRESSES: [(&str, &str); 10] = [
    ("10.0.0.1", "fd00::1"),
    ("10.0.0.2", "fd00::2"),
    ("10.0.0.3", "fd00::3"),
    ("10.0.0.9", "fd00::9"),
    ("10.0.1.1", "fd00::1:1"),
    ("10.0.1.129", "fd00:0:0:1::1"),
    ("10.64.0.1", "fd00:8000::1"),
    ("10.64.0.2", "fd00:8000::2"),
    ("172.16.5.4", "fd99::4"),
    ("192.168.7.200", "fc00::c8"),
];
/// Addresses that nobody in the cluster has.
pub(crate) const WORLD: [&str; 8] = [
    "203.0.113.7",
    "10.0.0.77",
    "1.1.1.1",
    "128.0.0.1",
    "2001:db8:ffff::7",
    "fd00::77",
    "64:ff9b::101:101",
    "::5",
];
/// Port numbers that rules, containers and flows all draw from.
pub(crate) const NUMBERS: [u16; 8] = [1, 53, 80, 81, 443, 8080, 9090, 65535];

const APPS: [&str; 3] = ["a", "b", "c"];
const TIERS: [&str; 2] = ["fe", "be"];
const PORT_NAMES: [&str; 4] = ["http", "http", "dns", "metrics"];

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn node_name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// Every address that some flow could have at an end and a block could cover, of both families.
pub(crate) fn known_addresses() -> Vec<IpAddr> {
    POD_ADDRESSES
        .iter()
        .flat_map(|(v4, v6)| [*v4, *v6])
        .chain(NODES.iter().flat_map(|(_, v4, v6)| [*v4, *v6]))
        .chain(WORLD)
        .map(ip)
        .collect()
}

fn labels(
    first: &'static str,
    values: &'static [&'static str],
    second: &'static str,
    others: &'static [&'static str],
) -> impl Strategy<Value = Labels> {
    (option::weighted(0.85, select(values)), option::weighted(0.6, select(others))).prop_map(
        move |(one, other)| {
            one.map(|value| (first, value))
                .into_iter()
                .chain(other.map(|value| (second, value)))
                .collect()
        },
    )
}

pub(crate) fn pod_labels() -> impl Strategy<Value = Labels> {
    labels("app", &APPS, "tier", &TIERS)
}

fn requirement(
    keys: &'static [(&'static str, &'static [&'static str])],
) -> impl Strategy<Value = Requirement> {
    select(keys).prop_flat_map(|(key, values)| {
        let some = proptest::collection::btree_set(select(values), 1..=2)
            .prop_map(|values| values.into_iter().map(Arc::from).collect());
        (0..10_u8, some).prop_map(move |(kind, values)| Requirement {
            key: Arc::from(key),
            operator: match kind {
                0..=4 => Operator::In(values),
                5..=7 => Operator::NotIn(values),
                8 => Operator::Exists,
                _ => Operator::DoesNotExist,
            },
        })
    })
}

const POD_KEYS: &[(&str, &[&str])] = &[("app", &APPS), ("tier", &TIERS)];
const NAMESPACE_KEYS: &[(&str, &[&str])] =
    &[("team", &TIERS), ("kubernetes.io/metadata.name", &NAMESPACES)];

fn selector(
    keys: &'static [(&'static str, &'static [&'static str])],
) -> impl Strategy<Value = Selector> {
    prop_oneof![
        2 => Just(Selector::everything()),
        4 => requirement(keys).prop_map(|one| Selector::new([one])),
        3 => vec(requirement(keys), 2).prop_map(Selector::new),
    ]
}

fn container_port() -> impl Strategy<Value = ContainerPort> {
    (option::weighted(0.9, select(&PORT_NAMES)), protocol(), number()).prop_map(
        |(name, protocol, number)| ContainerPort {
            name: name.map(|name| PortName::new(name).unwrap()),
            protocol,
            number,
        },
    )
}

pub(crate) fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![6 => Just(Protocol::Tcp), 2 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

fn number() -> impl Strategy<Value = NonZeroU16> {
    select(&NUMBERS).prop_map(|number| NonZeroU16::new(number).unwrap())
}

pub(crate) fn key() -> impl Strategy<Value = ObjectKey> {
    (select(&NAMESPACES), select(&["p0", "p1", "p2", "p3"]))
        .prop_map(|(namespace, name)| ObjectKey::new(namespace, name).unwrap())
}

fn age() -> impl Strategy<Value = Age> {
    let time = || {
        option::of(select(&["2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z"]).prop_map(Arc::from))
    };
    (time(), time(), option::of(select(&["0a", "0b"]).prop_map(Arc::from)))
        .prop_map(|(started, created, uid)| Age { started, created, uid })
}

/// A pod: mostly running, with an address of at least one family that others may claim as well.
pub(crate) fn pod() -> impl Strategy<Value = Pod> {
    let on = prop_oneof![2 => Just(0_usize), 1 => 1..NODES.len()];
    let place = (on, 0..POD_ADDRESSES.len(), 0..12_u8, any::<bool>());
    (key(), pod_labels(), place, 0..10_u8, 0..24_u8, vec(container_port(), 0..4), age()).prop_map(
        |(key, labels, (node, address, families, told), phase, host, ports, age)| {
            let (name, node4, node6) = NODES[node];
            let host_network = host == 0 || host == 3;
            // Some claim a node's address without being on its network.
            let (v4, v6) = match host {
                0 | 1 | 3 => (node4, node6),
                2 => {
                    let (_, other4, other6) = NODES[(node + 1) % NODES.len()];
                    (other4, other6)
                }
                _ => POD_ADDRESSES[address],
            };
            let mut addresses = Addresses::default();
            if families != 0 && families != 1 {
                addresses.offer(ip(v4));
            }
            if families != 0 && families != 2 {
                addresses.offer(ip(v6));
            }
            Pod {
                key,
                labels,
                node: Some(node_name(name)),
                host_network,
                phase: match phase {
                    0 => Phase::Finished,
                    1 => Phase::Pending,
                    _ => Phase::Running,
                },
                addresses,
                ports,
                host_addresses: if told { vec![ip(node4), ip(node6)] } else { Vec::new() },
                age,
                workload: None,
                template: false,
                location: Location::default(),
            }
        },
    )
}

fn net() -> impl Strategy<Value = IpNet> {
    let length = prop_oneof![
        2 => 0..=100_u8,
        2 => 0..=40_u8,
        1 => select(&[0_u8, 4, 97, 99, 100]),
    ];
    (select(known_addresses()), length).prop_map(|(address, percent)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = u16::from(percent) * most / 100;
        IpNet::new(address, u8::try_from(length).unwrap()).unwrap().trunc()
    })
}

/// A block; its excepts nest and overlap as chance has it.
fn block() -> impl Strategy<Value = IpBlock> {
    (net(), vec(net(), 0..8)).prop_map(|(cidr, except)| {
        let except = except.into_iter().filter(|e| cidr.contains(e) && *e != cidr).collect();
        IpBlock::new(cidr, except).unwrap()
    })
}

fn peer() -> impl Strategy<Value = Peer> {
    let scope = prop_oneof![
        Just(NamespaceScope::Own),
        selector(NAMESPACE_KEYS).prop_map(NamespaceScope::Matching),
    ];
    let pods = (scope, selector(POD_KEYS))
        .prop_map(|(namespaces, pods)| PeerSelects::Pods { namespaces, pods });
    prop_oneof![3 => pods, 2 => block().prop_map(PeerSelects::Block)]
        .prop_map(|selects| Peer { selects, location: Location::default() })
}

fn port() -> impl Strategy<Value = PortMatch> {
    let numbers = prop_oneof![
        1 => Just(PortNumbers::Any),
        3 => number().prop_map(PortNumbers::single),
        2 => (number(), number()).prop_map(|(a, b)| {
            PortNumbers::Range(PortRange::new(a.min(b), a.max(b)).unwrap())
        }),
        5 => select(&PORT_NAMES).prop_map(|name| PortNumbers::Named(PortName::new(name).unwrap())),
    ];
    (protocol(), numbers).prop_map(|(protocol, numbers)| PortMatch {
        protocol,
        numbers,
        location: Location::default(),
    })
}

/// Ports enough that one multiport match does not hold them.
fn many_ports() -> impl Strategy<Value = Vec<PortMatch>> {
    (protocol(), vec((1..2000_u16, 0..3_u16), 16..40)).prop_map(|(protocol, spans)| {
        let at = |number| NonZeroU16::new(number).unwrap();
        spans
            .into_iter()
            .map(|(first, more)| {
                let range = PortRange::new(at(first * 7), at(first * 7 + more)).unwrap();
                let numbers = PortNumbers::Range(range);
                PortMatch { protocol, numbers, location: Location::default() }
            })
            .collect()
    })
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let peers = prop_oneof![
        1 => Just(Peers::Any),
        5 => vec(peer(), 1..4).prop_map(Peers::Listed),
    ];
    let ports = prop_oneof![
        9 => Just(Ports::Any),
        14 => vec(port(), 1..5).prop_map(Ports::Listed),
        1 => many_ports().prop_map(Ports::Listed),
    ];
    let grant = prop_oneof![
        1 => Just(Grant::Nothing { reason: "invalid".into() }),
        12 => (peers, ports).prop_map(|(peers, ports)| Grant::Traffic { peers, ports }),
    ];
    grant.prop_map(|grant| Rule { grant, location: Location::default() })
}

/// A policy of any types; rules of a type that it lacks are there and must be inert.
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let rules = (vec(rule(), 0..4), vec(rule(), 0..4));
    (key(), selector(POD_KEYS), 0..4_u8, rules, any::<bool>(), any::<bool>()).prop_map(
        |(key, pod_selector, types, (ingress, egress), one, other)| Policy {
            key,
            pod_selector,
            isolates_ingress: types != 1,
            isolates_egress: types != 0,
            ingress,
            egress,
            audit: one && other,
            flawed: false,
            location: Location::default(),
        },
    )
}

/// A declared namespace.
pub(crate) fn namespace() -> impl Strategy<Value = Namespace> {
    let labels = labels("team", &TIERS, "app", &APPS);
    (select(&NAMESPACES[..2]), labels, 0..6_u8).prop_map(|(name, labels, audit)| {
        let name = NamespaceName::new(name).unwrap();
        let mut namespace = Namespace::new(name, labels, Location::default());
        namespace.audit = audit == 0;
        namespace
    })
}

/// A node object with its addresses.
pub(crate) fn node() -> impl Strategy<Value = Node> {
    (0..NODES.len()).prop_map(|index| {
        let (name, v4, v6) = NODES[index];
        Node {
            name: node_name(name),
            addresses: vec![ip(v4), ip(v6)],
            pod_networks: Vec::new(),
            location: Location::default(),
        }
    })
}

/// A whole cluster.
pub(crate) fn cluster() -> impl Strategy<Value = Snapshot> {
    (vec(namespace(), 0..3), vec(pod(), 3..11), vec(policy(), 2..8), vec(node(), 0..4)).prop_map(
        |(namespaces, pods, policies, nodes)| Snapshot {
            namespaces: namespaces.into_iter().map(|n| (n.name().clone(), n)).collect(),
            pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
            policies: policies.into_iter().map(|policy| (policy.key.clone(), policy)).collect(),
            nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
            services: BTreeMap::new(),
        },
    )
}

/// The address of `family` among a pair.
pub(crate) fn of_family((v4, v6): (&str, &str), family: Family) -> IpAddr {
    ip(if family == Family::V4 { v4 } else { v6 })
}
