//! The members of a membership by those of another one that means nearly the same pods.
//!
//! One policy more or less makes another set of what its rules are united with, which may be most of the
//! cluster. Such a set holds what the other one does, but for the groups that only one of them means: nobody
//! else is looked at, and what both hold is shared.

use std::net::IpAddr;

use super::groups::GroupId;
use super::{Index, MembershipId};
use crate::cidr::Family;
use crate::ruleset::MemberSet;

/// How many times as many groups as differ there are at least where that saves anything. In tests it always
/// does.
const SAVING: usize = if cfg!(test) { 0 } else { 2 };

impl Index {
    /// Of some memberships the one that has the fewest definitions which `id` has not, or the other way
    /// round; none where all do not even share half of them.
    pub(crate) fn nearest<T>(
        &self,
        id: MembershipId,
        others: impl Iterator<Item = (MembershipId, T)>,
    ) -> Option<(MembershipId, T)> {
        let near = others.filter_map(|(other, of)| {
            let (apart, shared) = self.memberships.compared(id, other);
            (apart <= shared).then_some((apart, (other, of)))
        });
        near.min_by_key(|(apart, _)| *apart).map(|(_, nearest)| nearest)
    }

    /// The members of a family, where those of another membership were these before what has come about
    /// there since.
    pub(crate) fn members_beside(
        &self,
        id: MembershipId,
        (other, were): (MembershipId, &MemberSet),
        family: Family,
    ) -> MemberSet {
        let [own, others] = [id, other].map(|id| self.memberships.groups(id, &self.groups));
        let (come, gone) = (without(&own, &others), without(&others, &own));
        if SAVING * (come.len() + gone.len()) > own.len() {
            return self.addresses(&own, family).into_iter().collect();
        }
        let mut members = were.clone();
        if let Some(delta) = self.memberships.delta(other) {
            let (joined, left) = delta.of(family);
            members.remove(&left.into_iter().collect());
            members.add(&joined.into_iter().collect());
        }
        let mut leave = self.addresses(&gone, family);
        leave.retain(|address| !self.is_held_in(*address, &own));
        members.remove(&leave.into_iter().collect());
        members.add(&self.addresses(&come, family).into_iter().collect());
        members
    }

    /// Whether a pod of these groups claims an address that another one claims too.
    fn is_held_in(&self, address: IpAddr, groups: &[GroupId]) -> bool {
        let group = |pod| self.groups.id_of(self.pods.facts(pod)?.common);
        self.owners.is_contested(address)
            && self
                .owners
                .of(address)
                .iter()
                .any(|pod| group(*pod).is_some_and(|group| groups.binary_search(&group).is_ok()))
    }
}

/// Those of some groups that are not among others, both in their order.
fn without(some: &[GroupId], others: &[GroupId]) -> Vec<GroupId> {
    let mut rest = others.iter().peekable();
    let mut left = some.to_vec();
    left.retain(|group| {
        while rest.next_if(|other| *other < group).is_some() {}
        rest.peek() != Some(&group)
    });
    left
}
