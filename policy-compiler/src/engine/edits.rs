//! What joins a standing set and what leaves it.
//!
//! Where the set is filled from what it was filled from before, the index has kept what has come about,
//! and nobody else is looked at. Else all members are compared.

use super::plan::Members;
use crate::cidr::Family;
use crate::compile::Source;
use crate::index::{Delta, Index};
use crate::ruleset::{AddressSet, Member, MemberSet, SetName};

/// Edits of one set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Edits {
    join: MemberSet,
    leave: MemberSet,
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

    /// What a delta comes to in a set of `family` that has followed it so far.
    pub(super) fn of(family: Family, delta: &Delta) -> Self {
        let (joined, left) = delta.of(family);
        Self { join: joined.into_iter().collect(), leave: left.into_iter().collect() }
    }

    /// What a delta comes to in a set of `family` that holds `kernel`.
    pub(super) fn of_delta(family: Family, kernel: &AddressSet, delta: &Delta) -> Self {
        let (joined, left) = delta.of(family);
        Self {
            join: kernel.members.telling_apart(joined, false),
            leave: kernel.members.telling_apart(left, true),
        }
    }

    /// What has come about in a set of known addresses that holds `kernel`.
    pub(super) fn of_known(kernel: &AddressSet, networks: &[ipnet::IpNet], index: &Index) -> Self {
        let (mut join, mut leave) = (Vec::new(), Vec::new());
        for address in index.moved() {
            if !networks.iter().any(|network| network.contains(address)) {
                continue;
            }
            let member = Member::address(*address);
            match (index.is_known(*address), kernel.members.contains(&member)) {
                (true, false) => join.push(member),
                (false, true) => leave.push(member),
                _ => {}
            }
        }
        Self { join: join.into_iter().collect(), leave: leave.into_iter().collect() }
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
    Edits { join: members.difference(&kernel.members), leave: kernel.members.difference(&members) }
}
