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

#[cfg(test)]
mod tests {
    use super::super::kernel::{Link, LinkKind};
    use super::*;

    fn owner(name: &str, uid: &str) -> Owner {
        let age = Age { uid: Some(uid.into()), ..Age::default() };
        (ObjectKey::new("x", name).unwrap(), age)
    }

    fn addresses(last: u8) -> Addresses {
        Addresses { v4: Some([10, 0, 0, last].into()), v6: None }
    }

    fn links(names: &[(u32, &str)]) -> Links {
        let link = |(index, name): &(u32, &str)| {
            let name = (*name).to_owned();
            (*index, Link { name, kind: LinkKind::Own, controller: None, peer: None })
        };
        names.iter().map(link).collect()
    }

    fn binding(index: u32, way: Way) -> Binding {
        let interface = InterfaceName::new(&format!("veth{index}")).unwrap();
        Binding { index, interface, way }
    }

    fn sources(bindings: &Bindings, pods: &Pods, way: Way) -> Vec<(String, Vec<String>)> {
        let sources = bindings.sources(pods, way).into_iter();
        sources
            .map(|(name, own)| (name.to_string(), own.iter().map(IpAddr::to_string).collect()))
            .collect()
    }

    #[test]
    fn a_pod_stays_where_it_was_first_found_until_it_or_its_interface_goes() {
        let (a, b) = (owner("a", "1"), owner("b", "2"));
        let pods: Pods = [(a.clone(), addresses(1)), (b.clone(), addresses(2))].into();
        let mut bindings = Bindings::default();
        bindings.bind(&a, binding(1, Way::Port));
        bindings.bind(&b, binding(2, Way::Port));
        bindings.bind(&a, binding(2, Way::Port));
        assert_eq!(bindings.of(&a), Some(&binding(1, Way::Port)), "the first counts");
        assert_eq!(bindings.owner_of_port(2), Some(&b));

        // One with its name that is another pod does not inherit it; a name may change.
        let again: Pods = [(owner("a", "3"), addresses(1)), (b.clone(), addresses(2))].into();
        bindings.keep(&again, &links(&[(1, "veth1"), (2, "other")]));
        assert_eq!(
            sources(&bindings, &again, Way::Port),
            [("other".into(), vec!["10.0.0.2".into()])]
        );
        assert_eq!(bindings.owner_of_port(1), None);

        bindings.keep(&pods, &links(&[(1, "veth1")]));
        assert_eq!(bindings, Bindings::default(), "its interface is gone");
    }

    #[test]
    fn pods_behind_one_routed_interface_may_send_from_the_addresses_of_all() {
        let (a, b) = (owner("a", "1"), owner("b", "2"));
        let pods: Pods = [(a.clone(), addresses(1)), (b.clone(), addresses(2))].into();
        let mut bindings = Bindings::default();
        bindings.bind(&a, binding(1, Way::Routed));
        bindings.bind(&b, binding(1, Way::Routed));
        let both = vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()];
        assert_eq!(sources(&bindings, &pods, Way::Routed), [("veth1".to_owned(), both)]);
        assert_eq!(sources(&bindings, &pods, Way::Port), []);
        assert_eq!(bindings.owner_of_port(1), None, "it is no port");
    }
}
