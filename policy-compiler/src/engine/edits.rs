//! What joins a standing set and what leaves it.
//!
//! Where the set is filled from what it was filled from before, the index has kept what has come about,
//! and nobody else is looked at. Else all members are compared.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::plan::Members;
use crate::cidr::Family;
use crate::compile::Source;
use crate::index::{Delta, Index};
use crate::ruleset::{AddressSet, Member, SetName};

/// Edits of one set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edits {
    join: BTreeSet<Member>,
    leave: BTreeSet<Member>,
}

impl Edits {
    pub(super) fn is_empty(&self) -> bool {
        self.join.is_empty() && self.leave.is_empty()
    }

    /// Puts them to those of other sets.
    pub(super) fn put(self, name: &SetName, join: &mut Members, leave: &mut Members) {
        if !self.join.is_empty() {
            join.insert(name.clone(), self.join);
        }
        if !self.leave.is_empty() {
            leave.insert(name.clone(), self.leave);
        }
    }

    /// What a delta comes to in a set of `family` that holds `kernel`.
    pub(super) fn of_delta(family: Family, kernel: &AddressSet, delta: &Delta) -> Self {
        let members = |addresses: &BTreeSet<IpAddr>, held: bool| {
            let addresses = addresses.iter().filter(|address| Family::of(**address) == family);
            let members = addresses.map(|address| Member::address(*address));
            members.filter(|member| kernel.members.contains(member) == held).collect()
        };
        Self { join: members(&delta.joined, false), leave: members(&delta.left, true) }
    }

    /// What has come about in a set of known addresses that holds `kernel`.
    pub(super) fn of_known(kernel: &AddressSet, networks: &[ipnet::IpNet], index: &Index) -> Self {
        let mut edits = Self::default();
        for address in index.moved() {
            if !networks.iter().any(|network| network.contains(address)) {
                continue;
            }
            let member = Member::address(*address);
            match (index.is_known(*address), kernel.members.contains(&member)) {
                (true, false) => edits.join.insert(member),
                (false, true) => edits.leave.insert(member),
                _ => false,
            };
        }
        edits
    }
}

/// How a set that holds `kernel`, and was filled from `old`, comes to hold what `new` says.
pub(super) fn edits(
    family: Family,
    kernel: &AddressSet,
    old: Option<&Source>,
    new: &Source,
    index: &Index,
) -> Edits {
    if old == Some(new) {
        let delta = match new {
            Source::Pods(id) => index.delta(*id),
            Source::Number(id, number) => index.number_delta(*id, *number),
            Source::Known(networks) => return Edits::of_known(kernel, networks, index),
            Source::Fixed(_) => None,
        };
        return delta.map(|delta| Edits::of_delta(family, kernel, delta)).unwrap_or_default();
    }
    let AddressSet { members } = new.members(index, family);
    Edits {
        join: members.difference(&kernel.members).copied().collect(),
        leave: kernel.members.difference(&members).copied().collect(),
    }
}
