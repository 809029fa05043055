//! Whose addresses are whose: what who looks at this node's pods has to know of the others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Engine;
use crate::cluster::Pod;
use crate::name::ObjectKey;

impl Engine {
    /// The pods with a network of their own, not finished, that claim one of these addresses, wherever
    /// they are, in the order of their keys. An address that is a node's is not theirs to claim.
    #[must_use]
    pub fn claimants_of(&self, addresses: &BTreeSet<IpAddr>) -> Vec<Pod> {
        let claimants = addresses.iter().flat_map(|address| self.index.claimants(*address));
        let keys: BTreeSet<ObjectKey> = claimants.collect();
        keys.iter().filter_map(|key| self.index.get(key)).collect()
    }

    /// Which of these addresses are nodes', whatever pods claim them.
    #[must_use]
    pub fn nodes_among(&self, addresses: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        addresses.iter().copied().filter(|address| self.index.is_node(*address)).collect()
    }
}
