//! Whose an address is: a node's before a pod's, and of several pods the newest one's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Index;
use super::pods::PodId;
use crate::cluster::Pod;
use crate::document::Location;
use crate::name::ObjectKey;

/// A pod that claims an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimant {
    /// Which.
    pub(crate) key: ObjectKey,
    /// Where it stands.
    pub(crate) location: Location,
}

impl Index {
    /// The newest pod that claims an address which is no node's.
    pub(crate) fn newest(&self, address: IpAddr) -> Option<Claimant> {
        let newest = match self.claiming(address) {
            [] => None,
            [only] => self.pods.pod(*only),
            several => {
                let pods = several.iter().filter_map(|id| self.pods.pod(*id));
                pods.max_by(|a, b| (&a.age, &a.key).cmp(&(&b.age, &b.key)))
            }
        };
        newest.map(|Pod { key, location, .. }| Claimant { key, location })
    }

    /// Whether a pod is the newest that claims an address which is no node's.
    pub(crate) fn is_newest(&self, address: IpAddr, key: &ObjectKey) -> bool {
        match self.claiming(address) {
            [] => false,
            [only] => self.pods.find(&key.namespace, key.name.as_str()) == Some(*only),
            _ => self.newest(address).is_some_and(|newest| newest.key == *key),
        }
    }

    /// The pods that claim an address which is no node's.
    pub(crate) fn claimants(&self, address: IpAddr) -> impl Iterator<Item = ObjectKey> {
        self.claiming(address).iter().filter_map(|id| self.pods.key(*id))
    }

    fn claiming(&self, address: IpAddr) -> &[PodId] {
        if self.owners.is_node(address) { &[] } else { self.owners.of(address) }
    }

    /// Whether an address is a node's.
    pub(crate) fn is_node(&self, address: IpAddr) -> bool {
        self.owners.is_node(address)
    }

    /// Whether an address belongs to somebody.
    pub(crate) fn is_known(&self, address: IpAddr) -> bool {
        self.owners.is_node(address) || !self.owners.of(address).is_empty()
    }

    /// The addresses that came to belong to somebody or ceased to, since the deltas were last forgotten.
    /// There may be others among them, and some more than once.
    pub(crate) fn moved(&self) -> &[IpAddr] {
        self.owners.moved()
    }

    /// The addresses in `networks`, which are disjoint, that belong to somebody.
    pub(crate) fn known_in(&self, networks: &[ipnet::IpNet]) -> BTreeSet<IpAddr> {
        self.owners.known_in(networks)
    }
}
