//! Random flows over a cluster, and what a node is told besides.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{ContainerPort, Snapshot};
use policy_compiler::config::{DenyAction, Hairpin, InterfaceName, NodeConfig, PodNetworks};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::{NodeName, ObjectKey};
use policy_compiler::policy::{Grant, PortNumbers, Ports};
use policy_compiler::simulate::{DEFAULT_BRIDGE, Ways};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::cluster::{NODES, NUMBERS, POD_ADDRESSES, WORLD, ip, node_name, of_family, protocol};

/// Link-local, broadcast and multicast.
const NOBODY: [&str; 6] =
    ["255.255.255.255", "224.0.0.251", "fe80::1", "fe80::2:1", "ff02::1", "ff05::2"];

/// Networks in which pods, and others, have addresses. That of most pods comes most often.
const POD_NETWORKS: [&str; 12] = [
    "10.0.0.0/24",
    "10.0.0.0/24",
    "10.0.0.0/30",
    "10.0.0.0/9",
    "10.0.1.0/25",
    "0.0.0.0/0",
    "192.0.2.0/31",
    "fd00::/64",
    "fd00::/64",
    "fd00::/126",
    "fd00::/8",
    "::/0",
];

/// An end before the cluster is known.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Pod(Index),
    /// A pod with an address of the family that counts as one.
    LivePod(Index),
    PodAddress(usize),
    Node(usize),
    NodeAddress(usize),
    World(Index),
    Nobody(Index),
}

/// A flow before the cluster is known.
#[derive(Clone, Debug)]
pub(crate) struct Sketch {
    from: Wanted,
    to: Wanted,
    to_itself: bool,
    family: Family,
    traffic: Traffic,
    /// Which of the ports that rules and containers speak of to ask for instead.
    spoken_of: Option<Index>,
    wire: Wire,
}

/// The choices of an operator, without the node's name.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own, as in NodeConfig")]
pub(crate) struct Options {
    pub(crate) bridged: bool,
    ipvs: bool,
    keep_established: bool,
    pub(crate) hairpin: Hairpin,
    deny: DenyAction,
    pub(crate) pod_networks: PodNetworks,
    log_denied: bool,
}

impl Options {
    pub(crate) fn on(&self, node: &str) -> NodeConfig {
        let bridges: BTreeSet<InterfaceName> = if self.bridged {
            [InterfaceName::new(DEFAULT_BRIDGE).unwrap()].into()
        } else {
            BTreeSet::new()
        };
        NodeConfig {
            bridges,
            ipvs: self.ipvs,
            keep_established: self.keep_established,
            hairpin: self.hairpin,
            deny: self.deny,
            pod_networks: self.pod_networks.get(&node_name(node)).cloned().unwrap_or_default(),
            log_denied: self.log_denied,
            ..NodeConfig::new(node_name(node))
        }
    }

    /// What the way of packets depends on.
    pub(crate) fn ways(&self) -> Ways {
        Ways { pod_networks: self.pod_networks.clone(), ..Ways::default() }
    }

    /// The evaluator of a cluster whose nodes have these options.
    pub(crate) fn evaluator<'a>(&'a self, snapshot: &'a Snapshot) -> Evaluator<'a> {
        Evaluator::new(snapshot).with_hairpin(self.hairpin).with_pod_networks(&self.pod_networks)
    }
}

pub(crate) fn options() -> impl Strategy<Value = Options> {
    let choices = (any::<[bool; 3]>(), 0..4_u8, any::<bool>(), any::<bool>());
    (choices, pod_networks()).prop_map(
        |(([bridged, ipvs, keep_established], hairpin, reject, log_denied), pod_networks)| {
            Options {
                bridged,
                ipvs,
                keep_established,
                hairpin: if hairpin == 0 { Hairpin::Police } else { Hairpin::Allow },
                deny: if reject { DenyAction::Reject } else { DenyAction::Drop },
                pod_networks,
                log_denied,
            }
        },
    )
}

/// None in half of all cases; else of each node, of which some lie in each other, and some hold the
/// addresses of nodes or everything.
pub(crate) fn pod_networks() -> impl Strategy<Value = PodNetworks> {
    let some = vec(btree_set(select(&POD_NETWORKS), 0..4), NODES.len()).prop_map(|networks| {
        let parsed = |texts: BTreeSet<&str>| texts.iter().map(|t| t.parse().unwrap()).collect();
        let names = NODES.iter().map(|(name, ..)| node_name(name));
        names.zip(networks.into_iter().map(parsed)).collect()
    });
    prop_oneof![Just(PodNetworks::new()), some]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        8 => any::<Index>().prop_map(Wanted::Pod),
        3 => (0..POD_ADDRESSES.len()).prop_map(Wanted::PodAddress),
        1 => (0..NODES.len()).prop_map(Wanted::Node),
        1 => (0..NODES.len()).prop_map(Wanted::NodeAddress),
        2 => any::<Index>().prop_map(Wanted::World),
        1 => any::<Index>().prop_map(Wanted::Nobody),
    ]
}

pub(crate) fn family() -> impl Strategy<Value = Family> {
    select(&Family::ALL)
}

/// Transport mostly; every ICMP type that any rule names, and some that none does.
pub(crate) fn traffic() -> impl Strategy<Value = Traffic> {
    let port = prop_oneof![4 => select(&NUMBERS), 1 => 0..=16_000_u16];
    prop_oneof![
        8 => (protocol(), port).prop_map(|(protocol, port)| Traffic::Port { protocol, port }),
        2 => select(&[8_u8, 128, 130, 131, 132, 133, 134, 135, 136, 137, 143])
            .prop_map(|kind| Traffic::Icmp { kind }),
        1 => select(&[2_u8, 47, 50]).prop_map(|protocol| Traffic::Other { protocol }),
    ]
}

pub(crate) fn sketch() -> impl Strategy<Value = Sketch> {
    let wire = prop_oneof![
        6 => Just(Wire::Routed),
        5 => Just(Wire::Bridged),
        1 => Just(Wire::Translated),
        1 => Just(Wire::Spoofed),
    ];
    let mostly_pod = prop_oneof![12 => any::<Index>().prop_map(Wanted::LivePod), 1 => wanted()];
    let ends = (mostly_pod, wanted(), any::<bool>(), 0..16_u8);
    let spoken_of = option::weighted(0.6, any::<Index>());
    (ends, family(), traffic(), spoken_of, wire).prop_map(
        |((one, other, turned, itself), family, traffic, spoken_of, wire)| {
            let (from, to) = if turned { (other, one) } else { (one, other) };
            Sketch { from, to, to_itself: itself == 0, family, traffic, spoken_of, wire }
        },
    )
}

/// The ports at which the rules of a cluster change their mind, and those just beside them.
pub(crate) fn ports_spoken_of(snapshot: &Snapshot) -> Vec<Traffic> {
    let mut ports = BTreeSet::new();
    let declared: Vec<&ContainerPort> = snapshot.pods.values().flat_map(|pod| &pod.ports).collect();
    let rules =
        snapshot.policies.values().flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
    for rule in rules {
        let Grant::Traffic { ports: Ports::Listed(items), .. } = &rule.grant else { continue };
        for item in items {
            let numbers = match &item.numbers {
                PortNumbers::Any => vec![80],
                PortNumbers::Range(range) => {
                    let last = range.last().get();
                    vec![range.first().get(), last, last.saturating_add(1)]
                }
                PortNumbers::Named(name) => declared
                    .iter()
                    .filter(|port| port.name.as_ref() == Some(name))
                    .map(|port| port.number.get())
                    .collect(),
            };
            ports.extend(
                numbers.into_iter().map(|n| Traffic::Port { protocol: item.protocol, port: n }),
            );
        }
    }
    ports.into_iter().collect()
}

fn end(snapshot: &Snapshot, wanted: &Wanted, family: Family) -> Option<End> {
    let of_pool = |pool: &[&str], index: &Index| {
        let pool: Vec<IpAddr> =
            pool.iter().map(|text| ip(text)).filter(|a| Family::of(*a) == family).collect();
        End::Address(*index.get(&pool))
    };
    Some(match wanted {
        Wanted::LivePod(index) => {
            let live = snapshot
                .pods
                .values()
                .filter(|pod| pod.is_live() && pod.addresses.of(family).is_some());
            let keys: Vec<&ObjectKey> = live.map(|pod| &pod.key).collect();
            if keys.is_empty() {
                return None;
            }
            End::Pod((*index.get(&keys)).clone())
        }
        Wanted::Pod(index) => {
            let keys: Vec<&ObjectKey> = snapshot.pods.keys().collect();
            if keys.is_empty() {
                return None;
            }
            End::Pod((*index.get(&keys)).clone())
        }
        Wanted::PodAddress(index) => End::Address(of_family(POD_ADDRESSES[*index], family)),
        Wanted::Node(index) => End::Node(node_name(NODES[*index].0)),
        Wanted::NodeAddress(index) => {
            let (_, v4, v6) = NODES[*index];
            End::Address(of_family((v4, v6), family))
        }
        Wanted::World(index) => of_pool(&WORLD, index),
        Wanted::Nobody(index) => of_pool(&NOBODY, index),
    })
}

/// What is known of an end: the address on the wire, and the node that it is behind.
struct Known {
    address: Option<IpAddr>,
    pod_on: Option<NodeName>,
    /// Whether it is on no bridge: a node, or in the networks of several.
    node: bool,
}

fn known(
    snapshot: &Snapshot,
    evaluator: &Evaluator<'_>,
    end: &End,
    family: Family,
    networks: &PodNetworks,
) -> Known {
    let at = |address: IpAddr| {
        let owner = evaluator.owners(address).first();
        let nobody = owner.is_none() && evaluator.nodes_with(address).is_empty();
        let networks = networks.iter().filter(|_| nobody);
        let around: Vec<&NodeName> = networks
            .filter(|(_, networks)| networks.iter().any(|net| net.contains(&address)))
            .map(|(node, _)| node)
            .collect();
        Known {
            address: Some(address),
            pod_on: owner
                .and_then(|pod| pod.node.clone())
                .or_else(|| around.first().map(|node| (*node).clone())),
            node: owner.is_none() && !nobody || around.len() > 1,
        }
    };
    match end {
        End::Address(address) => at(*address),
        End::Node(name) => Known {
            address: evaluator.node_addresses(name).into_iter().find(|a| Family::of(*a) == family),
            pod_on: None,
            node: true,
        },
        End::Pod(key) => match snapshot.pods[key].addresses.of(family) {
            Some(address) => at(address),
            None => Known { address: None, pod_on: None, node: false },
        },
    }
}

impl Sketch {
    /// The flow in `snapshot`, if packets of it can exist there. Bridged only within one node, where
    /// pods are on a bridge at all, and where some end is a pod or may be one, else routed.
    pub(crate) fn draw(&self, snapshot: &Snapshot, options: &Options) -> Option<Flow> {
        let evaluator = Evaluator::new(snapshot);
        let from = end(snapshot, &self.from, self.family)?;
        let to = if self.to_itself { from.clone() } else { end(snapshot, &self.to, self.family)? };
        let here = known(snapshot, &evaluator, &from, self.family, &options.pod_networks);
        let there = known(snapshot, &evaluator, &to, self.family, &options.pod_networks);
        here.address?;
        there.address?;
        // By chance alone, flows of a pod to itself would be half of all.
        if here.address == there.address && !self.to_itself {
            return None;
        }
        let one_node = match (&here.pod_on, &there.pod_on) {
            (None, None) => false,
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let can_bridge = options.bridged && one_node && !here.node && !there.node;
        let wire = match self.wire {
            Wire::Bridged if !can_bridge => Wire::Routed,
            wire => wire,
        };
        let spoken_of = ports_spoken_of(snapshot);
        let traffic = match &self.spoken_of {
            Some(index) if !spoken_of.is_empty() => *index.get(&spoken_of),
            _ => self.traffic,
        };
        Some(Flow { from, to, family: self.family, traffic, wire })
    }
}
