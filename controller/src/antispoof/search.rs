//! Finding out by which interface a pod is, by proofs of different worth.
//!
//! A host route is the network plugin's. Of the ports of a bridge, the one where the pod was when policyd
//! last ended is believed first, then what the network namespace at the other end tells, and what the
//! bridge has learned from frames only where nothing else tells: anybody on it can send those. All pods
//! are sought by a better proof before any is by a worse one, so that who is proved to be behind a port is not
//! kept from it by who merely seems to be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cluster::Addresses;
use policy_compiler::config::InterfaceName;

use super::bindings::{Binding, Bindings, Way};
use super::kernel::{Kernel, Learned, Link, LinkKind, Links};
use crate::dataplane::links::LinkError;

/// A look at the kernel, in which nothing is asked twice.
pub(super) struct Search<'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) links: &'k Links,
    behind: BTreeMap<u32, BTreeSet<IpAddr>>,
    learned: Option<Learned>,
}

/// What is taken for a proof of where a pod is, the better before the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// A host route, or the table that stood when policyd began.
    Standing,
    /// What the other end of a port tells.
    Told,
    /// What a bridge has learned from frames.
    Learned,
}

impl Proof {
    pub(super) const ALL: [Self; 3] = [Self::Standing, Self::Told, Self::Learned];
}

/// Where a pod is, or why nobody knows.
type Found = Result<Binding, String>;

impl<'k> Search<'k> {
    pub(super) fn new(kernel: &'k Kernel, links: &'k Links) -> Self {
        Self { kernel, links, behind: BTreeMap::new(), learned: None }
    }

    /// Where a pod with these addresses is by a proof as good as `proof`. What ports were in the table
    /// that stood is `remembered`; where that could not be read, no port is found.
    pub(super) fn place(
        &mut self,
        bindings: &Bindings,
        remembered: Option<&BTreeMap<IpAddr, String>>,
        addresses: Addresses,
        proof: Proof,
    ) -> Result<Found, LinkError> {
        let mut why = "no route leads to it".to_owned();
        for address in addresses.iter() {
            let Some(route) = self.kernel.route(address)? else { continue };
            let Some(link) = self.links.get(&route.index) else { continue };
            match link.kind {
                LinkKind::Own if route.exact && link.controller.is_none() => {
                    match InterfaceName::new(&link.name) {
                        Ok(interface) => {
                            let way = Way::Routed;
                            return Ok(Ok(Binding { index: route.index, interface, way }));
                        }
                        Err(error) => why = error.to_string(),
                    }
                }
                LinkKind::Bridge => {
                    let Some(remembered) = remembered else {
                        why = String::from("the bridges' table that stands cannot be read");
                        continue;
                    };
                    let ports = self.candidates(route.index, remembered, addresses, proof)?;
                    match self.choose(bindings, &ports) {
                        Ok(binding) => return Ok(Ok(binding)),
                        Err(reason) => why = reason,
                    }
                }
                _ => {
                    why = format!("it is reached by {}, which is not for one pod alone", link.name);
                }
            }
        }
        Ok(Err(why))
    }

    /// The ports of a bridge behind which the best proof up to `proof` shows one of these addresses.
    fn candidates(
        &mut self,
        bridge: u32,
        remembered: &BTreeMap<IpAddr, String>,
        addresses: Addresses,
        proof: Proof,
    ) -> Result<Vec<u32>, LinkError> {
        let names: BTreeSet<&str> =
            addresses.iter().filter_map(|a| remembered.get(&a)).map(String::as_str).collect();
        let stood = self.ports(bridge).filter(|(_, link)| names.contains(link.name.as_str()));
        let mut ports: Vec<u32> = stood.map(|(index, _)| index).collect();
        if ports.is_empty() && proof >= Proof::Told {
            ports = self.told(bridge, addresses);
        }
        if ports.is_empty() && proof >= Proof::Learned {
            ports = self.learned(bridge, addresses)?;
        }
        Ok(ports)
    }

    /// The one of these ports that is nobody's yet.
    fn choose(&self, bindings: &Bindings, ports: &[u32]) -> Found {
        let is_free = |index: &&u32| bindings.owner_of_port(**index).is_none();
        let free: Vec<&u32> = ports.iter().filter(is_free).collect();
        let name = |index: &u32| self.links.get(index).map_or("", |link| link.name.as_str());
        match (&free[..], ports) {
            ([index], _) => InterfaceName::new(name(index))
                .map(|interface| Binding { index: **index, interface, way: Way::Port })
                .map_err(|error| error.to_string()),
            ([], []) => Err("nothing tells by which port of its bridge it is".to_owned()),
            ([], [taken, ..]) => {
                let other = bindings.owner_of_port(*taken);
                let other = other.map_or_else(String::new, |(pod, _)| pod.to_string());
                Err(format!("it seems to be behind {}, which is the port of {other}", name(taken)))
            }
            (several, _) => {
                let names: Vec<&str> = several.iter().map(|index| name(index)).collect();
                Err(format!("its address is behind several ports: {}", names.join(", ")))
            }
        }
    }

    /// The ports of a bridge that can be a pod's.
    fn ports(&self, bridge: u32) -> impl Iterator<Item = (u32, &Link)> {
        let ports = self.links.iter().map(|(index, link)| (*index, link));
        ports.filter(move |(_, link)| link.controller == Some(bridge) && link.kind == LinkKind::Own)
    }

    /// The ports at whose other end one of these addresses is.
    fn told(&mut self, bridge: u32, addresses: Addresses) -> Vec<u32> {
        let peers: Vec<(u32, Option<(i32, u32)>)> =
            self.ports(bridge).map(|(index, link)| (index, link.peer)).collect();
        for (index, peer) in &peers {
            let kernel = self.kernel;
            self.behind.entry(*index).or_insert_with(|| {
                peer.map(|peer| kernel.addresses_behind(peer)).unwrap_or_default()
            });
        }
        let has = |index: &u32| {
            let behind = self.behind.get(index);
            behind.is_some_and(|behind| addresses.iter().any(|address| behind.contains(&address)))
        };
        peers.iter().map(|(index, _)| *index).filter(has).collect()
    }

    /// The ports by which a bridge has learned that one of these addresses is.
    fn learned(&mut self, bridge: u32, addresses: Addresses) -> Result<Vec<u32>, LinkError> {
        let mut found = BTreeSet::new();
        for address in addresses.iter() {
            found.extend(self.learned_of(bridge, address)?);
        }
        let ports: BTreeSet<u32> = self.ports(bridge).map(|(index, _)| index).collect();
        Ok(found.intersection(&ports).copied().collect())
    }

    /// The port by which a bridge has learned that an address is.
    pub(super) fn learned_of(
        &mut self,
        bridge: u32,
        address: IpAddr,
    ) -> Result<Option<u32>, LinkError> {
        let learned = match &self.learned {
            Some(learned) => learned,
            None => self.learned.insert(self.kernel.learned()?),
        };
        Ok(learned.port(bridge, address))
    }
}
