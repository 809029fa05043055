//! Which pods claim an address, and which addresses are nodes'.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::pods::PodId;
use crate::cluster::Node;

/// Owners of addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    /// Who claims an address; of several, any.
    v4: BTreeMap<Ipv4Addr, PodId>,
    v6: BTreeMap<Ipv6Addr, PodId>,
    /// All claimants, where there are several.
    contested: BTreeMap<IpAddr, Vec<PodId>>,
    /// How many objects say that an address is a node's.
    nodes: BTreeMap<IpAddr, usize>,
    /// Nodes' addresses that pods claim.
    claimed_of_nodes: BTreeSet<IpAddr>,
    /// Addresses that somebody began to have or ceased to, some of them more than once.
    moved: Vec<IpAddr>,
}

impl Owners {
    fn any(&self, address: IpAddr) -> Option<&PodId> {
        match address {
            IpAddr::V4(address) => self.v4.get(&address),
            IpAddr::V6(address) => self.v6.get(&address),
        }
    }

    fn put(&mut self, address: IpAddr, id: Option<PodId>) {
        match (address, id) {
            (IpAddr::V4(address), Some(id)) => drop(self.v4.insert(address, id)),
            (IpAddr::V6(address), Some(id)) => drop(self.v6.insert(address, id)),
            (IpAddr::V4(address), None) => drop(self.v4.remove(&address)),
            (IpAddr::V6(address), None) => drop(self.v6.remove(&address)),
        }
    }

    /// The pods that claim an address.
    pub(super) fn of(&self, address: IpAddr) -> &[PodId] {
        match self.any(address) {
            None => &[],
            Some(_) if self.is_contested(address) => &self.contested[&address],
            Some(one) => std::slice::from_ref(one),
        }
    }

    pub(super) fn moved(&self) -> &[IpAddr] {
        &self.moved
    }

    pub(super) fn forget_moved(&mut self) {
        self.moved = Vec::new();
    }

    pub(super) fn claim(&mut self, address: IpAddr, id: PodId) {
        self.moved.push(address);
        if self.is_node(address) {
            self.claimed_of_nodes.insert(address);
        }
        match self.any(address) {
            None => self.put(address, Some(id)),
            Some(first) => {
                let first = *first;
                self.contested.entry(address).or_insert_with(|| vec![first]).push(id);
            }
        }
    }

    pub(super) fn release(&mut self, address: IpAddr, id: PodId) {
        self.moved.push(address);
        let Some(claimants) = self.contested.get_mut(&address) else {
            self.put(address, None);
            self.claimed_of_nodes.remove(&address);
            return;
        };
        claimants.retain(|other| *other != id);
        let left = claimants.first().copied();
        if claimants.len() < 2 {
            self.contested.remove(&address);
        }
        self.put(address, left);
    }

    /// Whether it is a node's address, whatever pods claim it.
    pub(super) fn is_node(&self, address: IpAddr) -> bool {
        self.nodes.contains_key(&address)
    }

    /// Whether an address that a pod claims is a node's.
    pub(super) fn is_claimed_of_node(&self, address: IpAddr) -> bool {
        !self.claimed_of_nodes.is_empty() && self.claimed_of_nodes.contains(&address)
    }

    /// Whether several pods claim an address.
    pub(super) fn is_contested(&self, address: IpAddr) -> bool {
        !self.contested.is_empty() && self.contested.contains_key(&address)
    }

    /// One more object says that these are a node's; the addresses of which none said so before.
    pub(super) fn add_node(&mut self, addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
        let mut new = Vec::new();
        for address in addresses {
            let count = self.nodes.entry(address).or_default();
            *count += 1;
            if *count == 1 {
                self.moved.push(address);
                new.push(address);
            }
        }
        for address in &new {
            if self.any(*address).is_some() {
                self.claimed_of_nodes.insert(*address);
            }
        }
        new
    }

    /// One object less says that these are a node's; the addresses of which none says so any more.
    pub(super) fn remove_node(&mut self, addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
        let mut gone = Vec::new();
        for address in addresses {
            if let Some(count) = self.nodes.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    self.nodes.remove(&address);
                    self.claimed_of_nodes.remove(&address);
                    self.moved.push(address);
                    gone.push(address);
                }
            }
        }
        gone
    }

    /// The addresses in these networks that belong to a pod or a node.
    pub(super) fn known_in(&self, networks: &[IpNet]) -> BTreeSet<IpAddr> {
        let mut known = BTreeSet::new();
        for network in networks {
            let nodes = self.nodes.range(network.network()..=network.broadcast());
            known.extend(nodes.map(|(address, _)| *address));
            match network {
                IpNet::V4(net) => {
                    let pods = self.v4.range(net.network()..=net.broadcast());
                    known.extend(pods.map(|(address, _)| IpAddr::V4(*address)));
                }
                IpNet::V6(net) => {
                    let pods = self.v6.range(net.network()..=net.broadcast());
                    known.extend(pods.map(|(address, _)| IpAddr::V6(*address)));
                }
            }
        }
        known
    }
}

/// The addresses of a node by its own object.
pub(super) fn of_node(node: &Node) -> impl Iterator<Item = IpAddr> + '_ {
    node.addresses.iter().copied()
}
