//! What a placement changes in the lab, and takes back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;

use policy_compiler::cidr::Family;

use super::{Home, Placement};
use crate::enforcement::{Backend, LOCK_FILE, OWN_NAMESPACE};
use crate::error::LabError;
use crate::lab::{Slot, Wiring};

impl Placement<'_> {
    /// Gives the lab the addresses and Services of the trials made so far.
    ///
    /// # Errors
    /// Where a route or a rule is refused.
    pub fn lay(&self, backend: Backend) -> Result<(), LabError> {
        self.change(false)?;
        self.translate(backend)
    }

    /// Takes them back.
    ///
    /// # Errors
    /// Where something is not there any more.
    pub fn lift(&self, backend: Backend) -> Result<(), LabError> {
        self.change(true)?;
        if self.translations.is_empty() {
            return Ok(());
        }
        for node in &self.lab.nodes {
            for family in Family::ALL {
                let mut flush = Command::new(backend.iptables(family));
                let node = self.lab.namespace(node);
                flush.args(["-w", "-t", "nat", "-F"]).env(LOCK_FILE, OWN_NAMESPACE);
                node.run(&mut flush, "")?;
            }
        }
        Ok(())
    }

    fn change(&self, back: bool) -> Result<(), LabError> {
        for (index, node) in self.lab.nodes.iter().enumerate() {
            let mut scripts: BTreeMap<Family, Vec<String>> = BTreeMap::new();
            for (address, home) in &self.homes {
                scripts
                    .entry(Family::of(*address))
                    .or_default()
                    .extend(self.lines(index, *address, *home, back));
            }
            let namespace = self.lab.namespace(node);
            namespace.ip(scripts.get(&Family::V4).map_or(&[], Vec::as_slice))?;
            namespace.ip6(scripts.get(&Family::V6).map_or(&[], Vec::as_slice))?;
        }
        let outside = self.strangers.iter().map(|address| (*address, Home::Outside));
        for (address, home) in self.homes.iter().map(|(a, home)| (*a, *home)).chain(outside) {
            let addresses = &self.lab.station(self.station(home)).addresses;
            if back { addresses.remove(address)? } else { addresses.add(address)? }
        }
        Ok(())
    }

    /// What the lab's node `index` has to know of an address. A pod's is routed to its device with
    /// no gateway between, as network plugins do it.
    fn lines(&self, index: usize, address: IpAddr, home: Home, back: bool) -> Vec<String> {
        let verb = if back { "del" } else { "replace" };
        match home {
            Home::Slot { node, slot } if node == index => {
                let slot = self.slot(node, slot);
                reach(address, &slot.mac, &slot.device, back)
            }
            // The second node sends everything that it does not know to the first.
            Home::Slot { node, .. } | Home::Node(node) if node > index => {
                let via = self.lab.peer_address(node, address);
                vec![format!("route {verb} {address} via {via} dev peer onlink")]
            }
            Home::Slot { .. } | Home::Node(_) | Home::Outside => Vec::new(),
        }
    }

    /// Lets the sockets of bridged pods find each other on the bridge rather than by its gateway.
    /// Probes need not be told.
    ///
    /// # Errors
    /// Where a route is refused.
    pub fn acquaint_bridged(&self) -> Result<(), LabError> {
        let bridged: Vec<(IpAddr, usize, &Slot)> = self
            .homes
            .iter()
            .filter_map(|(address, home)| match home {
                Home::Slot { node, slot } => Some((*address, *node, self.slot(*node, *slot))),
                Home::Node(_) | Home::Outside => None,
            })
            .filter(|(_, _, slot)| slot.wiring == Wiring::Bridged)
            .collect();
        for (node, slot) in self.bridged_slots() {
            let peers = bridged
                .iter()
                .filter(|(_, other, peer)| *other == node && peer.station != slot.station);
            let (four, six): (Vec<_>, Vec<_>) = peers.partition(|(a, _, _)| a.is_ipv4());
            let lines = |peers: Vec<&(IpAddr, usize, &Slot)>| -> Vec<String> {
                let reach =
                    |(a, _, peer): &(IpAddr, usize, &Slot)| reach(*a, &peer.mac, "eth0", false);
                peers.into_iter().flat_map(reach).collect()
            };
            let namespace = &self.lab.station(slot.station).namespace;
            namespace.ip(&lines(four))?;
            namespace.ip6(&lines(six))?;
        }
        Ok(())
    }

    fn bridged_slots(&self) -> impl Iterator<Item = (usize, &Slot)> {
        let nodes = self.lab.nodes.iter().enumerate();
        nodes
            .flat_map(|(index, node)| node.slots.iter().map(move |slot| (index, slot)))
            .filter(|(_, slot)| slot.wiring == Wiring::Bridged)
    }

    fn translate(&self, backend: Backend) -> Result<(), LabError> {
        let mut tables: BTreeMap<(usize, Family), String> = BTreeMap::new();
        for translation in &self.translations {
            let table = tables.entry((translation.node, Family::of(translation.pod))).or_default();
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "-A PREROUTING -d {} -j DNAT --to-destination {}",
                translation.service, translation.pod
            );
        }
        for ((node, family), rules) in tables {
            let node = self.lab.namespace(&self.lab.nodes[node]);
            let text = format!("*nat\n{rules}COMMIT\n");
            backend.restore(node, family, &text)?;
        }
        Ok(())
    }
}

/// A host route and the neighbour at its end.
fn reach(address: IpAddr, mac: &str, device: &str, back: bool) -> Vec<String> {
    if back {
        return vec![
            format!("route del {address} dev {device}"),
            format!("neighbour del {address} dev {device}"),
        ];
    }
    vec![
        format!("route replace {address} dev {device}"),
        format!("neighbour replace {address} lladdr {mac} dev {device} nud permanent"),
    ]
}
