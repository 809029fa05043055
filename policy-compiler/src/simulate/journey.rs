//! Which nodes' rules the first packet of a flow meets, and as what packet.
//!
//! A pod is policed on its node, so a packet from pod to pod comes by the rules of the source's node
//! and then by those of the destination's, once where they are the same; a node end is policed by
//! nobody, its own pods see it without any forwarding, others as an ordinary address. What comes from
//! elsewhere, or goes there, meets the rules of the pod's node. A packet that never leaves its pod, or
//! that concerns no pod, meets no rules: its journey is empty. On a bridge a packet whose ends are no
//! pods, but which only a bridge can carry (link-local, multicast, broadcast), may be anywhere: it
//! meets the rules of every node that has pods.
//!
//! An address that a node has is that node; any other belongs to the newest of the live pods that
//! claim it, wherever the others run. One that belongs to nobody and lies in a network of a node's pods
//! is behind that node, where the node denies such: elsewhere it may be anything.
//!
//! Where a flow has no packets to follow (a template, a pod without an address of the family or
//! without a node, an object that the snapshot lacks), the journey is empty as well, and [`decide`]
//! says [`Decision::Unknown`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Outcome, simulate};
use crate::cidr::Family;
use crate::cluster::{Phase, Pod, Snapshot};
use crate::config::{InterfaceName, PodNetworks};
use crate::flow::{End, Flow, Wire};
use crate::name::NodeName;
use crate::packet::{Packet, Path};
use crate::ruleset::Ruleset;
use crate::verdict::Decision;

/// The bridge that carries the pods of every node, where no other is named: the one that the
/// reference CNI plugin makes. A ruleset has to be compiled for it to see bridged packets.
pub const DEFAULT_BRIDGE: &str = "cni0";

/// What the way of a packet depends on that no object tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// The bridge that bridged packets come by.
    pub bridge: Option<InterfaceName>,
    /// The networks of their pods, of the nodes that deny unknown addresses in them.
    pub pod_networks: PodNetworks,
}

impl Default for Ways {
    /// By [`DEFAULT_BRIDGE`], and no node denies unknown addresses.
    fn default() -> Self {
        let bridge = InterfaceName::new(DEFAULT_BRIDGE).ok();
        Self { bridge, pod_networks: PodNetworks::new() }
    }
}

/// The rules of one node, met by one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Whose rules.
    pub node: NodeName,
    /// The packet as they see it.
    pub packet: Packet,
}

/// The hops of the first packet of `flow`, in order; bridged packets come by [`DEFAULT_BRIDGE`].
#[must_use]
pub fn journey(snapshot: &Snapshot, flow: &Flow) -> Vec<Hop> {
    journey_over(snapshot, flow, &Ways::default())
}

/// The hops of the first packet of `flow`, in order, by `ways`.
#[must_use]
pub fn journey_over(snapshot: &Snapshot, flow: &Flow, ways: &Ways) -> Vec<Hop> {
    hops(&Places::new(snapshot), flow, ways).unwrap_or_default()
}

/// Whether the first packet of `flow` passes on every hop, given the ruleset of every node.
///
/// [`Decision::Unknown`] where the flow has no packets, where a hop's node has no ruleset, and where
/// a ruleset is malformed. Bridged packets come by [`DEFAULT_BRIDGE`].
#[must_use]
pub fn decide(
    rulesets: &BTreeMap<NodeName, Ruleset>,
    snapshot: &Snapshot,
    flow: &Flow,
) -> Decision {
    decide_over(rulesets, snapshot, flow, &Ways::default())
}

/// As [`decide`], by `ways`.
#[must_use]
pub fn decide_over(
    rulesets: &BTreeMap<NodeName, Ruleset>,
    snapshot: &Snapshot,
    flow: &Flow,
    ways: &Ways,
) -> Decision {
    Places::new(snapshot).decide_over(rulesets, flow, ways)
}

/// Where the addresses of a snapshot are, for those who ask about many flows.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    snapshot: &'a Snapshot,
    /// The nodes that are declared or that a pod runs on, with their addresses, those of the node's own
    /// object first.
    nodes: BTreeMap<&'a NodeName, Vec<IpAddr>>,
    /// The nodes that have an address.
    having: BTreeMap<IpAddr, BTreeSet<&'a NodeName>>,
    /// The newest live pod that claims an address.
    owners: BTreeMap<IpAddr, &'a Pod>,
}

impl<'a> Places<'a> {
    /// Those of `snapshot`.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let nodes = nodes(snapshot);
        let mut having: BTreeMap<IpAddr, BTreeSet<&NodeName>> = BTreeMap::new();
        for (name, addresses) in &nodes {
            for address in addresses {
                having.entry(*address).or_default().insert(name);
            }
        }
        let mut owners: BTreeMap<IpAddr, &Pod> = BTreeMap::new();
        for pod in snapshot.pods.values().filter(|pod| pod.is_live()) {
            for address in pod.addresses.iter() {
                let owner = owners.entry(address).or_insert(pod);
                if (&owner.age, &owner.key) < (&pod.age, &pod.key) {
                    *owner = pod;
                }
            }
        }
        Self { snapshot, nodes, having, owners }
    }

    /// As [`journey_over`], with the snapshot that this is of.
    #[must_use]
    pub fn journey_over(&self, flow: &Flow, ways: &Ways) -> Vec<Hop> {
        hops(self, flow, ways).unwrap_or_default()
    }

    /// As [`decide_over`], with the snapshot that this is of.
    #[must_use]
    pub fn decide_over(
        &self,
        rulesets: &BTreeMap<NodeName, Ruleset>,
        flow: &Flow,
        ways: &Ways,
    ) -> Decision {
        let Some(hops) = hops(self, flow, ways) else {
            return Decision::Unknown;
        };
        hops.iter().fold(Decision::Allowed, |so_far, hop| {
            let here =
                rulesets.get(&hop.node).map(|ruleset| simulate(ruleset, &hop.packet).outcome);
            so_far.and(match here {
                Some(Outcome::Passes) => Decision::Allowed,
                Some(Outcome::Denied { .. }) => Decision::Denied,
                Some(Outcome::Malformed { .. }) | None => Decision::Unknown,
            })
        })
    }
}

/// Where an end of a flow is.
enum Place<'a> {
    /// A pod with a network of its own, on this node.
    Pod(&'a NodeName),
    /// In the pod networks of these nodes, and nobody's; of several only where networks overlap.
    Unknown(BTreeSet<&'a NodeName>),
    /// A node's own stack; of several nodes only where the snapshot contradicts itself.
    Node(BTreeSet<&'a NodeName>),
    /// Anywhere else.
    World,
}

impl<'a> Place<'a> {
    /// The nodes whose rules meet what comes from here or goes here.
    fn routers(&self) -> Vec<&'a NodeName> {
        match self {
            Place::Pod(node) => vec![node],
            Place::Unknown(nodes) => nodes.iter().copied().collect(),
            Place::Node(_) | Place::World => Vec::new(),
        }
    }

    /// Whether one of `nodes` is its own.
    fn is_behind_any(&self, nodes: &BTreeSet<&NodeName>) -> bool {
        self.routers().iter().any(|node| nodes.contains(node))
    }
}

struct Located<'a> {
    /// Absent for a node of which no address is known.
    address: Option<IpAddr>,
    place: Place<'a>,
}

/// `None` where there are no packets to follow.
fn hops(places: &Places<'_>, flow: &Flow, ways: &Ways) -> Option<Vec<Hop>> {
    let from = locate(places, &flow.from, flow.family, ways)?;
    let to = locate(places, &flow.to, flow.family, ways)?;
    let path = match (&from.place, &to.place) {
        (pod, Place::Node(nodes)) if pod.is_behind_any(nodes) => Path::ForNode { from: None },
        (Place::Node(nodes), pod) if pod.is_behind_any(nodes) => {
            Path::SentByNode { from_local: true }
        }
        _ if flow.wire == Wire::Bridged => {
            Path::Forwarded { from: ways.bridge.clone(), bridged: true }
        }
        _ => Path::Forwarded { from: None, bridged: false },
    };
    let forwarded = matches!(path, Path::Forwarded { .. });
    // Only between a pod and its own node is the address of no account.
    let address = |end: &Located<'_>| match end.address {
        None if !forwarded => Some(unspecified(flow.family)),
        known => known,
    };
    let (source, destination) = (address(&from)?, address(&to)?);
    if source == destination && matches!(flow.wire, Wire::Routed | Wire::Bridged) {
        return Some(Vec::new());
    }
    let original_destination = match flow.wire {
        Wire::Translated => service_address(destination),
        Wire::Routed | Wire::Bridged | Wire::Spoofed => destination,
    };
    let packet = Packet {
        original_destination: Some(original_destination),
        path,
        to_broadcast: destination == IpAddr::V4(Ipv4Addr::BROADCAST),
        ..Packet::opening(source, destination, flow.traffic)
    };
    let mut nodes = from.place.routers();
    let further = to.place.routers();
    nodes.extend(further.into_iter().filter(|node| !from.place.routers().contains(node)));
    let anywhere = nodes.is_empty() && flow.wire == Wire::Bridged;
    if anywhere && on_segment_alone(source, destination) {
        nodes = nodes_with_pods(places.snapshot);
    }
    let hop = |node: &NodeName| Hop { node: node.clone(), packet: packet.clone() };
    Some(nodes.into_iter().map(hop).collect())
}

/// Whether a packet between these never leaves its segment, and so is met by bridges alone.
fn on_segment_alone(source: IpAddr, destination: IpAddr) -> bool {
    let link_local =
        |address: IpAddr| matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
    link_local(source)
        || link_local(destination)
        || destination.is_multicast()
        || destination == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The nodes whose bridges carry pods: a packet that says nothing of where it is may be on any.
fn nodes_with_pods(snapshot: &Snapshot) -> Vec<&NodeName> {
    let of_pods = snapshot.pods.values().filter(|pod| pod.is_live() && !pod.addresses.is_empty());
    of_pods.filter_map(|pod| pod.node.as_ref()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// An address that a service could have, other than `target`: of the ranges for documentation.
fn service_address(target: IpAddr) -> IpAddr {
    let candidates = match Family::of(target) {
        Family::V4 => [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)].map(IpAddr::V4),
        Family::V6 => {
            [1, 2].map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)).map(IpAddr::V6)
        }
    };
    if candidates[0] == target { candidates[1] } else { candidates[0] }
}

fn locate<'a>(
    places: &Places<'a>,
    end: &End,
    family: Family,
    ways: &'a Ways,
) -> Option<Located<'a>> {
    match end {
        End::Pod(key) => {
            let pod = places.snapshot.pods.get(key)?;
            if pod.host_network && pod.phase != Phase::Finished {
                return locate_host_network(places, pod, family);
            }
            locate_address(places, pod.addresses.of(family)?, ways)
        }
        End::Node(name) => locate_node(places, name, family),
        End::Address(address) if Family::of(*address) == family => {
            locate_address(places, *address, ways)
        }
        End::Address(_) => None,
    }
}

fn locate_node<'a>(places: &Places<'a>, name: &NodeName, family: Family) -> Option<Located<'a>> {
    let (name, addresses) = places.nodes.get_key_value(name)?;
    let address = addresses.iter().copied().find(|address| Family::of(*address) == family);
    Some(Located { address, place: Place::Node(BTreeSet::from([*name])) })
}

/// A hostNetwork pod is its node, under its own address where it has one.
fn locate_host_network<'a>(
    places: &Places<'a>,
    pod: &'a Pod,
    family: Family,
) -> Option<Located<'a>> {
    let own = pod.addresses.of(family);
    match &pod.node {
        Some(name) => {
            let node = locate_node(places, name, family)?;
            Some(Located { address: own.or(node.address), ..node })
        }
        None => own.map(|address| Located { address: Some(address), place: Place::World }),
    }
}

/// Whose `address` is: a node's, a live pod's (the newest owner's), or nobody's that is known.
fn locate_address<'a>(places: &Places<'a>, address: IpAddr, ways: &'a Ways) -> Option<Located<'a>> {
    if let Some(names) = places.having.get(&address) {
        return Some(Located { address: Some(address), place: Place::Node(names.clone()) });
    }
    let place = if let Some(pod) = places.owners.get(&address) {
        Place::Pod(pod.node.as_ref()?)
    } else {
        let networks = ways.pod_networks.iter();
        let having = networks.filter(|(_, nets)| nets.iter().any(|net| net.contains(&address)));
        let nodes: BTreeSet<&NodeName> = having.map(|(name, _)| name).collect();
        if nodes.is_empty() { Place::World } else { Place::Unknown(nodes) }
    };
    Some(Located { address: Some(address), place })
}

/// The nodes that are declared or that a pod runs on, with their addresses, those of the node's own
/// object first.
fn nodes(snapshot: &Snapshot) -> BTreeMap<&NodeName, Vec<IpAddr>> {
    let mut nodes: BTreeMap<&NodeName, Vec<IpAddr>> = BTreeMap::new();
    for node in snapshot.nodes.values() {
        nodes.entry(&node.name).or_default().extend(&node.addresses);
    }
    for pod in snapshot.pods.values() {
        if let Some(name) = &pod.node {
            let addresses = nodes.entry(name).or_default();
            addresses.extend(&pod.host_addresses);
            if pod.host_network {
                addresses.extend(pod.addresses.iter());
            }
        }
    }
    nodes
}
