//! Which pod is behind which interface, once found and then kept.
//!
//! A pod is bound to an interface at first sight and stays so until it goes, or the interface does: what
//! shows where it is may later be what somebody else has sent. A port of a bridge has one pod; whoever
//! else seems to be behind it is not bound. Host routes are made by the network plugin and by no pod, so
//! that an interface that is routed to may have several.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cluster::{Addresses, Age};
use policy_compiler::config::InterfaceName;
use policy_compiler::name::ObjectKey;

use super::kernel::Links;

/// A pod, and not its namesake that comes after it.
pub(crate) type Owner = (ObjectKey, Age);

/// The pods of this node that are to be bound, with their addresses.
pub(crate) type Pods = BTreeMap<Owner, Addresses>;

/// How packets of a pod come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// They are routed from the interface on.
    Routed,
    /// It is a port of a bridge.
    Port,
}

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) index: u32,
    pub(super) interface: InterfaceName,
    pub(super) way: Way,
}

/// The pods with their interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bindings {
    bound: BTreeMap<Owner, Binding>,
}

/// Interfaces with the addresses that they may send from.
pub(super) type Sources = BTreeMap<InterfaceName, BTreeSet<IpAddr>>;

impl Bindings {
    /// Forgets pods that are gone and interfaces that are, and follows those that were renamed.
    pub(super) fn keep(&mut self, pods: &Pods, links: &Links) {
        self.bound.retain(|owner, binding| {
            let Some(link) = links.get(&binding.index).filter(|_| pods.contains_key(owner)) else {
                return false;
            };
            match InterfaceName::new(&link.name) {
                Ok(name) => binding.interface = name,
                Err(_) => return false,
            }
            true
        });
    }

    /// Where a pod is.
    pub(super) fn of(&self, owner: &Owner) -> Option<&Binding> {
        self.bound.get(owner)
    }

    /// Whose port it is.
    pub(super) fn owner_of_port(&self, index: u32) -> Option<&Owner> {
        let mut ports = self.bound.iter().filter(|(_, binding)| binding.way == Way::Port);
        ports.find(|(_, binding)| binding.index == index).map(|(owner, _)| owner)
    }

    /// Binds a pod that is not bound.
    pub(super) fn bind(&mut self, owner: &Owner, binding: Binding) {
        self.bound.entry(owner.clone()).or_insert(binding);
    }

    /// What each interface of a kind may send from.
    pub(super) fn sources(&self, pods: &Pods, way: Way) -> Sources {
        let mut sources = Sources::new();
        for (owner, binding) in self.bound.iter().filter(|(_, binding)| binding.way == way) {
            let own = sources.entry(binding.interface.clone()).or_default();
            own.extend(pods.get(owner).into_iter().flat_map(|addresses| addresses.iter()));
        }
        sources
    }
}
