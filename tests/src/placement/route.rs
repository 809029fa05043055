//! What a placement changes in the lab, and takes back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;

use policy_compiler::cidr::Family;

use super::{Home, Placement};
use crate::enforcement::Backend;
use crate::error::LabError;

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
                self.lab.namespace(node).run(flush.args(["-w", "-t", "nat", "-F"]), "")?;
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
                    .extend(self.line(index, *address, *home, back));
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

    /// What the lab's node `index` has to know of an address.
    fn line(&self, index: usize, address: IpAddr, home: Home, back: bool) -> Option<String> {
        let verb = if back { "del" } else { "replace" };
        match home {
            Home::Slot { node, slot } if node == index => {
                let slot = self.slot(node, slot);
                let via = slot.address_like(address);
                Some(format!("route {verb} {address} via {via} dev {} onlink", slot.device))
            }
            // The second node sends everything that it does not know to the first.
            Home::Slot { node, .. } | Home::Node(node) if node > index => {
                let via = self.lab.peer_address(node, address);
                Some(format!("route {verb} {address} via {via} dev peer onlink"))
            }
            Home::Slot { .. } | Home::Node(_) | Home::Outside => None,
        }
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
