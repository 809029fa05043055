//! Laying a cluster onto a lab: which slot, node or outside host has which address, and which
//! packets put a flow to the test.
//!
//! A cluster keeps its nodes where the lab has as many. Otherwise its pods move: all onto one node,
//! or, where they are all on one, alternately onto two. Moved pods may not be asked about nodes,
//! whose flows mean something else then; such flows are left to the labs where nobody moves.

mod route;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::config::PodNetworks;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Wire};
use policy_compiler::name::NodeName;

use crate::lab::{Lab, Slot, StationId};
use crate::probe::Probe;

pub use wire::Translation;

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// In a slot.
    Slot {
        /// The lab's node.
        node: usize,
        /// Its slot.
        slot: usize,
    },
    /// On a node itself.
    Node(usize),
    /// Beyond the first node.
    Outside,
}

/// Why something cannot be put to the test in a lab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unmapped {
    /// More pods than slots.
    #[error("a node has {pods} pods and the lab {slots} slots")]
    TooManyPods {
        /// Pods on one node.
        pods: usize,
        /// Slots of a lab's node.
        slots: usize,
    },
    /// Pods on different nodes claim one address: routes lead to one place.
    #[error("pods on two nodes claim {0}")]
    AddressOnTwoNodes(IpAddr),
    /// The lab needs that address for itself.
    #[error("{0} is the lab's own")]
    Reserved(IpAddr),
    /// The flow is about nodes, and the lab has not as many as the cluster.
    #[error("it is about nodes and needs {0} of them")]
    NeedsNodes(usize),
    /// The flow is about a bridge, and the lab has none.
    #[error("it needs a bridge")]
    NeedsBridge,
    /// An end has no address, so there is nothing to send or nobody to send it.
    #[error("{0} has no address to send from or to")]
    NoAddress(String),
    /// An end that runs on no node, where nobody polices it.
    #[error("{0} is on no node")]
    NoNode(String),
    /// No router passes this on.
    #[error("no router forwards from or to {0}")]
    Unroutable(IpAddr),
    /// Both ends lie outside: nobody polices that.
    #[error("the flow passes no node")]
    PassesNoNode,
    /// No slot is left to play a part.
    #[error("no slot is left for the stranger on the bridge")]
    NoSpareSlot,
}

/// One flow, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Its packets: all must meet the same fate.
    pub probes: Vec<Probe>,
    /// Whether those that arrive must be answered.
    pub answer: bool,
}

/// A cluster on a lab.
#[derive(Debug)]
pub struct Placement<'l> {
    lab: &'l Lab,
    /// The cluster with its pods on the lab's nodes.
    pub snapshot: Snapshot,
    /// The names of the lab's nodes in this cluster.
    pub nodes: Vec<NodeName>,
    /// The networks in which the lab's nodes deny unknown addresses.
    pub pod_networks: PodNetworks,
    /// How many nodes the cluster has pods on, where pods have moved.
    moved: Option<usize>,
    homes: BTreeMap<IpAddr, Home>,
    translations: Vec<Translation>,
    strangers: BTreeSet<IpAddr>,
}

/// Whether a flow is about a node as such.
fn about_nodes(evaluator: &Evaluator<'_>, flow: &Flow) -> bool {
    [&flow.from, &flow.to].into_iter().any(|end| match end {
        End::Node(_) => true,
        End::Address(address) => !evaluator.nodes_with(*address).is_empty(),
        End::Pod(_) => false,
    })
}

impl<'l> Placement<'l> {
    /// Lays `snapshot` onto `lab` so that `flows` can be asked, as many as possible.
    ///
    /// # Errors
    /// Where the lab has no room for it.
    pub fn new(lab: &'l Lab, snapshot: &Snapshot, flows: &[Flow]) -> Result<Self, Unmapped> {
        Self::isolating(lab, snapshot, &PodNetworks::new(), flows)
    }

    /// As [`Placement::new`], where nodes deny unknown addresses in these networks of their pods.
    ///
    /// # Errors
    /// Where the lab has no room for it.
    pub fn isolating(
        lab: &'l Lab,
        snapshot: &Snapshot,
        networks: &PodNetworks,
        flows: &[Flow],
    ) -> Result<Self, Unmapped> {
        let (nodes, assignment) = assign(lab, snapshot, flows);
        let pod_networks = move_networks(networks, &nodes, assignment.moved.is_some());
        let mut placed = snapshot.clone();
        for (key, node) in &assignment.pods {
            if let Some(pod) = placed.pods.get_mut(key) {
                pod.node = nodes.get(*node).cloned();
            }
        }
        let mut placement = Self {
            lab,
            snapshot: placed,
            nodes,
            pod_networks,
            moved: assignment.moved,
            homes: BTreeMap::new(),
            translations: Vec::new(),
            strangers: BTreeSet::new(),
        };
        placement.settle_pods()?;
        placement.settle_nodes();
        placement.settle_unknown(flows)?;
        match placement.homes.keys().find(|address| Lab::reserves(**address)) {
            Some(address) => Err(Unmapped::Reserved(*address)),
            None => Ok(placement),
        }
    }

    /// The lab's node of that name.
    fn node_index(&self, name: &NodeName) -> Option<usize> {
        self.nodes.iter().position(|node| node == name)
    }

    /// Gives every address of a pod a slot; pods that share an address share the slot.
    fn settle_pods(&mut self) -> Result<(), Unmapped> {
        let mut used = vec![0; self.lab.nodes.len()];
        let mut pods: Vec<&Pod> =
            self.snapshot.pods.values().filter(|pod| !pod.host_network && !pod.template).collect();
        // The living first: an address that a finished pod had may be another's now.
        pods.sort_by_key(|pod| !pod.is_live());
        let mut homes = BTreeMap::new();
        for pod in pods {
            let Some(node) = pod.node.as_ref().and_then(|name| self.node_index(name)) else {
                continue;
            };
            let known: Vec<Home> =
                pod.addresses.iter().filter_map(|a| homes.get(&a).copied()).collect();
            if let (Some(Home::Slot { node: other, .. }), true) = (known.first(), pod.is_live())
                && *other != node
                && let Some(address) = pod.addresses.iter().next()
            {
                return Err(Unmapped::AddressOnTwoNodes(address));
            }
            if known.len() == pod.addresses.iter().count() {
                continue;
            }
            let home = Home::Slot { node, slot: used[node] };
            used[node] += 1;
            for address in pod.addresses.iter() {
                homes.entry(address).or_insert(home);
            }
        }
        for (count, node) in used.iter().zip(&self.lab.nodes) {
            if *count > node.slots.len() {
                return Err(Unmapped::TooManyPods { pods: *count, slots: node.slots.len() });
            }
        }
        self.homes = homes;
        Ok(())
    }

    /// Gives the nodes their addresses; nodes that the lab lacks are outside.
    fn settle_nodes(&mut self) {
        let evaluator = Evaluator::new(&self.snapshot);
        let mut names: BTreeSet<&NodeName> = self.snapshot.nodes.keys().collect();
        names.extend(self.snapshot.pods.values().filter_map(|pod| pod.node.as_ref()));
        let mut homes = Vec::new();
        for name in names {
            let home = self.node_index(name).map_or(Home::Outside, Home::Node);
            homes.extend(evaluator.node_addresses(name).into_iter().map(|a| (a, home)));
        }
        for (address, home) in homes {
            self.homes.entry(address).or_insert(home);
        }
    }

    /// Gives the addresses that are asked about, lie in a network of pods and belong to nobody a slot
    /// each: they are those of pods that no object tells of.
    fn settle_unknown(&mut self, flows: &[Flow]) -> Result<(), Unmapped> {
        let ends = flows.iter().flat_map(|flow| [&flow.from, &flow.to]);
        let asked: BTreeSet<IpAddr> = ends
            .filter_map(|end| match end {
                End::Address(address) => Some(*address),
                End::Pod(_) | End::Node(_) => None,
            })
            .filter(|address| !self.homes.contains_key(address))
            .collect();
        for address in asked {
            let around = |name: &NodeName| {
                let own = self.pod_networks.get(name);
                own.is_some_and(|networks| networks.iter().any(|net| net.contains(&address)))
            };
            let Some(node) = self.nodes.iter().position(around) else { continue };
            let used = self.homes.values().filter_map(|home| match home {
                Home::Slot { node: of, slot } if *of == node => Some(*slot),
                _ => None,
            });
            let slot = used.max().map_or(0, |last| last + 1);
            let slots = self.lab.nodes[node].slots.len();
            if slot >= slots {
                return Err(Unmapped::TooManyPods { pods: slot + 1, slots });
            }
            self.homes.insert(address, Home::Slot { node, slot });
        }
        Ok(())
    }

    fn home(&self, address: IpAddr) -> Home {
        self.homes.get(&address).copied().unwrap_or(Home::Outside)
    }

    /// The station of an address.
    #[must_use]
    pub fn station_of(&self, address: IpAddr) -> StationId {
        self.station(self.home(address))
    }

    /// The slot of an address, if it is a pod's.
    #[must_use]
    pub fn slot_of(&self, address: IpAddr) -> Option<&Slot> {
        match self.home(address) {
            Home::Slot { node, slot } => Some(self.slot(node, slot)),
            Home::Node(_) | Home::Outside => None,
        }
    }

    /// Gives the world outside an address, besides those of the trials.
    pub fn invite(&mut self, stranger: IpAddr) {
        self.strangers.insert(stranger);
    }

    fn slot(&self, node: usize, slot: usize) -> &'l Slot {
        &self.lab.nodes[node].slots[slot]
    }

    /// The address and the place of an end.
    fn locate(&self, end: &End, family: Family) -> Result<(IpAddr, Home), Unmapped> {
        let nowhere = || Unmapped::NoAddress(end.to_string());
        match end {
            End::Pod(key) => {
                let pod = self.snapshot.pods.get(key).ok_or_else(nowhere)?;
                let address = pod.addresses.of(family).ok_or_else(nowhere)?;
                if pod.node.is_none() {
                    return Err(Unmapped::NoNode(end.to_string()));
                }
                Ok((address, self.home(address)))
            }
            End::Node(name) => {
                let known = Evaluator::new(&self.snapshot).node_addresses(name);
                let index = self.node_index(name);
                // A node's own stack is what counts, whatever the address that it uses.
                let own = index.map(|node| match family {
                    Family::V4 => self.lab.nodes[node].v4.into(),
                    Family::V6 => self.lab.nodes[node].v6.into(),
                });
                let address = known.into_iter().find(|a| Family::of(*a) == family).or(own);
                let home = index.map_or(Home::Outside, Home::Node);
                Ok((address.ok_or_else(nowhere)?, home))
            }
            End::Address(address) => Ok((*address, self.home(*address))),
        }
    }

    /// The packets that put `flow` to the test.
    ///
    /// # Errors
    /// Where this lab cannot.
    pub fn trial(&mut self, flow: &Flow) -> Result<Trial, Unmapped> {
        if let Some(nodes) = self.moved
            && about_nodes(&Evaluator::new(&self.snapshot), flow)
        {
            return Err(Unmapped::NeedsNodes(nodes));
        }
        let from = self.locate(&flow.from, flow.family)?;
        let to = self.locate(&flow.to, flow.family)?;
        for (address, home) in [from, to] {
            if home == Home::Outside && Lab::reserves(address) {
                return Err(Unmapped::Reserved(address));
            }
        }
        match flow.wire {
            Wire::Routed => self.routed(flow, from, to),
            Wire::Bridged => self.bridged(flow, from, to),
            Wire::Translated => self.translated(flow, from),
            Wire::Spoofed => self.spoofed(flow, from),
        }
    }
}

/// The networks by the lab's nodes: where pods have moved, any may have come to any.
fn move_networks(networks: &PodNetworks, nodes: &[NodeName], moved: bool) -> PodNetworks {
    if moved {
        let all: BTreeSet<_> = networks.values().flatten().copied().collect();
        return nodes.iter().map(|name| (name.clone(), all.clone())).collect();
    }
    networks
        .iter()
        .filter(|(name, _)| nodes.contains(name))
        .map(|(n, s)| (n.clone(), s.clone()))
        .collect()
}

/// On which of the lab's nodes each pod goes.
struct Assignment {
    pods: BTreeMap<policy_compiler::name::ObjectKey, usize>,
    moved: Option<usize>,
}

/// Names the lab's nodes after those of the cluster, and says where each pod goes.
fn assign(lab: &Lab, snapshot: &Snapshot, flows: &[Flow]) -> (Vec<NodeName>, Assignment) {
    let hosting: BTreeSet<&NodeName> = snapshot
        .pods
        .values()
        .filter(|pod| !pod.host_network)
        .filter_map(|pod| pod.node.as_ref())
        .collect();
    let others = snapshot
        .pods
        .values()
        .filter_map(|pod| pod.node.as_ref())
        .chain(snapshot.nodes.keys())
        .collect::<BTreeSet<_>>();
    let mut nodes: Vec<NodeName> = hosting
        .iter()
        .copied()
        .chain(others.into_iter().filter(|name| !hosting.contains(name)))
        .take(lab.nodes.len())
        .cloned()
        .collect();
    for spare in ["lab-node-1", "lab-node-2", "lab-node-3"] {
        if let Ok(name) = NodeName::new(spare)
            && nodes.len() < lab.nodes.len()
            && !nodes.contains(&name)
        {
            nodes.push(name);
        }
    }
    let evaluator = Evaluator::new(snapshot);
    let spreadable =
        flows.iter().all(|flow| flow.wire == Wire::Routed && !about_nodes(&evaluator, flow));
    let spread = hosting.len() == 1 && lab.nodes.len() == 2 && spreadable;
    let moved = (spread || hosting.len() > lab.nodes.len()).then_some(hosting.len());
    let mut pods = BTreeMap::new();
    let mut owners: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let mut turn = 0;
    for (key, pod) in &snapshot.pods {
        let Some(name) = &pod.node else { continue };
        let natural = nodes.iter().position(|node| node == name);
        let node = if spread && !pod.host_network {
            // Pods that claim one address stay together.
            let shared = pod.addresses.iter().find_map(|a| owners.get(&a).copied());
            turn += 1;
            shared.unwrap_or((turn - 1) % lab.nodes.len())
        } else if let Some(node) = natural {
            node
        } else if pod.host_network {
            continue;
        } else {
            lab.nodes.len() - 1
        };
        owners.extend(pod.addresses.iter().map(|a| (a, node)));
        pods.insert(key.clone(), node);
    }
    (nodes, Assignment { pods, moved })
}
