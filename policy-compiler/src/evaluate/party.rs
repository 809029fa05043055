//! Who stands at an end of a flow.
//!
//! An address may have several live owners (one has finished without the input saying so, or two
//! claims overlap): all of them count as peers, the newest is the one that is judged. Finished pods
//! own nothing. hostNetwork pods are their node, and so is whatever else claims a node's address.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cidr::Family;
use crate::cluster::{Phase, Pod, Snapshot};
use crate::config::PodNetworks;
use crate::flow::End;
use crate::labels::Labels;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::policy::{Direction, Policy};

/// One end of a flow, resolved for the flow's family.
#[derive(Clone, Debug, Default)]
pub(super) struct Party<'a> {
    /// The pods that it is, the one that is judged first; none where it is no pod.
    pub(super) pods: Vec<&'a Pod>,
    /// The addresses that it may have on the wire: one where that is known, several for a node with
    /// several, none where the input does not say.
    pub(super) addresses: Vec<IpAddr>,
    /// The nodes that it is; one, unless the input contradicts itself.
    pub(super) nodes: BTreeSet<&'a NodeName>,
    /// The hostNetwork pod that was asked for; its node stands here for it.
    pub(super) host_pod: Option<&'a Pod>,
    /// The live pod that was asked for by name.
    pub(super) asked: Option<&'a ObjectKey>,
    /// Whether there can be no packet from or to it: no such pod, or no address of this family.
    pub(super) absent: Option<ObjectKey>,
    /// The nodes in whose pod networks it lies, where it belongs to nobody and they isolate such; one,
    /// unless networks overlap.
    pub(super) unknown_on: BTreeSet<&'a NodeName>,
}

impl<'a> Party<'a> {
    /// The pod that is judged.
    pub(super) fn subject(&self) -> Option<&'a Pod> {
        self.pods.first().copied()
    }

    /// The node of the pod that is judged.
    pub(super) fn pod_node(&self) -> Option<&'a NodeName> {
        self.subject()?.node.as_ref()
    }

    /// The node that it is behind: its own, of a pod; else the one in whose pod network it lies.
    pub(super) fn behind(&self) -> Option<&'a NodeName> {
        self.pod_node().or_else(|| self.unknown_on.first().copied())
    }

    /// The same party, were `pod` alone behind it.
    pub(super) fn as_only(&self, pod: &'a Pod) -> Party<'a> {
        Party {
            pods: vec![pod],
            addresses: self.addresses.clone(),
            nodes: BTreeSet::new(),
            host_pod: self.host_pod,
            asked: self.asked,
            absent: self.absent.clone(),
            unknown_on: self.unknown_on.clone(),
        }
    }
}

/// The objects of a snapshot by what flows ask for.
#[derive(Clone, Debug)]
pub(super) struct Index<'a> {
    snapshot: &'a Snapshot,
    /// Live pods by address, the newest first.
    owners: BTreeMap<IpAddr, Vec<&'a Pod>>,
    /// Node addresses, of every node that is mentioned.
    nodes: BTreeMap<&'a NodeName, BTreeSet<IpAddr>>,
    /// The nodes by address.
    nodes_by_address: BTreeMap<IpAddr, BTreeSet<&'a NodeName>>,
    /// Policies of each namespace, in key order.
    policies: BTreeMap<&'a NamespaceName, Vec<&'a Policy>>,
    /// The labels of every namespace that has a pod.
    labels: BTreeMap<&'a NamespaceName, Labels>,
    /// The networks in which addresses that belong to nobody are isolated, by node.
    pub(super) pod_networks: Option<&'a PodNetworks>,
}

impl<'a> Index<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let nodes = node_addresses(snapshot);
        let mut nodes_by_address: BTreeMap<IpAddr, BTreeSet<&NodeName>> = BTreeMap::new();
        for (name, addresses) in &nodes {
            for address in addresses {
                nodes_by_address.entry(*address).or_default().insert(*name);
            }
        }
        let mut owners: BTreeMap<IpAddr, Vec<&Pod>> = BTreeMap::new();
        for pod in snapshot.pods.values().filter(|pod| pod.is_live()) {
            for address in
                pod.addresses.iter().filter(|address| !nodes_by_address.contains_key(address))
            {
                owners.entry(address).or_default().push(pod);
            }
        }
        for claims in owners.values_mut() {
            claims.sort_by(|a, b| (&b.age, &b.key).cmp(&(&a.age, &a.key)));
        }
        let mut policies: BTreeMap<&NamespaceName, Vec<&Policy>> = BTreeMap::new();
        for policy in snapshot.policies.values() {
            policies.entry(&policy.key.namespace).or_default().push(policy);
        }
        let names: BTreeSet<&NamespaceName> =
            snapshot.pods.keys().map(|key| &key.namespace).collect();
        let labels =
            names.into_iter().map(|name| (name, snapshot.namespace_labels(name))).collect();
        Self { snapshot, owners, nodes, nodes_by_address, policies, labels, pod_networks: None }
    }

    /// The live pods that have `address`, the newest first.
    pub(super) fn owners(&self, address: IpAddr) -> &[&'a Pod] {
        self.owners.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The nodes that have `address`.
    pub(super) fn nodes_with(&self, address: IpAddr) -> BTreeSet<&'a NodeName> {
        self.nodes_by_address.get(&address).cloned().unwrap_or_default()
    }

    /// The addresses of a node, of one family if that is given.
    pub(super) fn node_addresses(
        &self,
        node: &NodeName,
        family: Option<Family>,
    ) -> impl Iterator<Item = IpAddr> {
        self.nodes
            .get(node)
            .into_iter()
            .flatten()
            .copied()
            .filter(move |address| family.is_none_or(|family| Family::of(*address) == family))
    }

    /// The labels of a namespace that has a pod.
    pub(super) fn namespace_labels(&self, namespace: &NamespaceName) -> Cow<'_, Labels> {
        match self.labels.get(namespace) {
            Some(labels) => Cow::Borrowed(labels),
            None => Cow::Owned(self.snapshot.namespace_labels(namespace)),
        }
    }

    /// The policies that select `pod` and isolate it in `direction`, in key order.
    pub(super) fn isolating(&self, pod: &Pod, direction: Direction) -> Vec<&'a Policy> {
        self.selecting(pod, direction).0
    }

    /// The policies that would isolate `pod` in `direction` and are audited only, in key order.
    pub(super) fn auditing(&self, pod: &Pod, direction: Direction) -> Vec<&'a Policy> {
        self.selecting(pod, direction).1
    }

    /// The policies that isolate `pod` in `direction`, and those that would and are audited only.
    pub(super) fn selecting(
        &self,
        pod: &Pod,
        direction: Direction,
    ) -> (Vec<&'a Policy>, Vec<&'a Policy>) {
        let of_namespace = self.policies.get(&pod.key.namespace).into_iter().flatten().copied();
        of_namespace
            .filter(|p| p.isolates(direction) && p.pod_selector.matches(&pod.labels))
            .partition(|policy| !self.snapshot.audits(policy))
    }

    /// Whether `node` runs a pod that is isolated in any direction and has an address of `family`, or
    /// may run one, since it isolates unknown addresses.
    pub(super) fn has_isolated_pod(&self, node: &NodeName, family: Family) -> bool {
        let mut networks = self.isolating_networks();
        networks.any(|(of, network)| of == node && Family::of_net(network) == family)
            || self.has_pod_isolated_by_policy(node, family)
    }

    fn has_pod_isolated_by_policy(&self, node: &NodeName, family: Family) -> bool {
        self.owners
            .iter()
            .filter(|(address, _)| Family::of(**address) == family)
            .filter_map(|(_, owners)| owners.first())
            .filter(|pod| pod.node.as_ref() == Some(node))
            .any(|pod| Direction::ALL.into_iter().any(|d| !self.isolating(pod, d).is_empty()))
    }

    /// Resolves an end.
    pub(super) fn party(&self, end: &End, family: Family) -> Party<'a> {
        match end {
            End::Address(address) => self.at_address(*address),
            End::Node(name) => self.node(name, family),
            End::Pod(key) => match self.snapshot.pods.get_key_value(key) {
                Some((key, pod)) => {
                    let asked = pod.is_live().then_some(key);
                    Party { asked, ..self.pod(pod, family) }
                }
                None => Party { absent: Some(key.clone()), ..Party::default() },
            },
        }
    }

    /// An address is the node that has it, else the pods that own it, else the world.
    fn at_address(&self, address: IpAddr) -> Party<'a> {
        let pods = self.owners(address).to_vec();
        let nodes = self.nodes_with(address);
        let unknown_on = if pods.is_empty() && nodes.is_empty() {
            self.isolating_networks()
                .filter(|(_, network)| network.contains(&address))
                .map(|(node, _)| node)
                .collect()
        } else {
            BTreeSet::new()
        };
        Party { pods, addresses: vec![address], nodes, unknown_on, ..Party::default() }
    }

    fn isolating_networks(&self) -> impl Iterator<Item = (&'a NodeName, &'a IpNet)> {
        let networks = self.pod_networks.into_iter().flatten();
        networks.flat_map(|(node, networks)| networks.iter().map(move |network| (node, network)))
    }

    fn node(&self, name: &NodeName, family: Family) -> Party<'a> {
        let nodes = self.nodes.get_key_value(name).map(|(known, _)| *known).into_iter().collect();
        let addresses = self.node_addresses(name, Some(family)).collect();
        Party { addresses, nodes, ..Party::default() }
    }

    fn pod(&self, pod: &'a Pod, family: Family) -> Party<'a> {
        let address = pod.addresses.of(family);
        if pod.host_network && pod.phase != Phase::Finished {
            return self.host_pod(pod, address, family);
        }
        match address {
            // Packets know addresses, not names: who shares the address is meant too, and a finished
            // pod's may be somebody else's by now.
            Some(address) => self.at_address(address),
            None if !pod.is_live() => Party::default(),
            None if pod.addresses.is_empty() => Party { pods: vec![pod], ..Party::default() },
            None => Party { pods: vec![pod], absent: Some(pod.key.clone()), ..Party::default() },
        }
    }

    fn host_pod(&self, pod: &'a Pod, address: Option<IpAddr>, family: Family) -> Party<'a> {
        let mut party = match &pod.node {
            Some(node) => self.node(node, family),
            None => Party::default(),
        };
        if let Some(address) = address {
            party.addresses = vec![address];
        }
        Party { host_pod: Some(pod), ..party }
    }
}

/// What Node objects, the status of the pods on a node and its hostNetwork pods tell of its addresses.
fn node_addresses(snapshot: &Snapshot) -> BTreeMap<&NodeName, BTreeSet<IpAddr>> {
    let mut nodes: BTreeMap<&NodeName, BTreeSet<IpAddr>> = BTreeMap::new();
    for node in snapshot.nodes.values() {
        nodes.entry(&node.name).or_default().extend(&node.addresses);
    }
    for pod in snapshot.pods.values() {
        if let Some(node) = &pod.node {
            let addresses = nodes.entry(node).or_default();
            addresses.extend(&pod.host_addresses);
            if pod.host_network {
                addresses.extend(pod.addresses.iter());
            }
        }
    }
    nodes
}
