//! The cluster as sets of pods see it, kept up with every change of an object.
//!
//! ```text
//!  Pod ──┬─> what it has in common with others of its workload
//!        │     ├─> group (namespace, labels that are asked about) ──> memberships ──> addresses that join or leave
//!        │     └─> declared port names that are asked about       ──> numbers, and who has them
//!        └─> owners of its addresses, and of nodes'
//! ```
//!
//! All pods are kept here, each in little room, and only here: whoever needs one is given it whole.
//!
//! A rule's peers are a membership: the union of what some definitions select. Selectors are
//! evaluated once for each group and not for each pod, and a pod that changes concerns the memberships of
//! its old group and of its new one. What joins and leaves is kept until it is taken, so that members of
//! sets follow without a look at who stayed.
//!
//! Nothing is grouped before the first membership is asked for, and only labels and names that some
//! definition mentions are looked at. What a membership holds is always what its definitions select
//! among the live pods: a law compares it with a search through all of them.
//!
//! Pods on the host's network, finished pods and templates are nobody here. The address of a node is the
//! node's, whatever pod claims it.

mod asking;
mod change;
mod claims;
mod definition;
mod delta;
mod groups;
mod memberships;
mod named;
mod namespaces;
mod nearest;
mod owners;
mod pods;
mod policies;
mod search;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

pub(crate) use self::claims::Claimant;
pub(crate) use self::definition::{PodDefinition, Scope};
pub(crate) use self::delta::Delta;
use self::groups::{GroupId, Groups};
use self::memberships::Memberships;
pub(crate) use self::memberships::{Definitions, MembershipId};
use self::named::NamedPorts;
pub(crate) use self::named::{NamedId, NamedQuestion};
use self::owners::Owners;
use self::pods::{CommonId, Facts, PodId, Pods};
use self::policies::Policies;
pub(crate) use self::policies::{PolicyChange, PolicyState, Stamp};
use crate::cidr::Family;
use crate::cluster::{Addresses, Namespace, Pod, Snapshot};
use crate::compile::networks::Coverage;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::packed::{Common, PackedPod};
use crate::port::{PortName, Protocol};
use crate::update::PodList;

/// How many labels that nobody asks about any more may go on telling pods apart.
const STALE: usize = if cfg!(test) { 0 } else { 64 };

/// What a change has touched besides memberships.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(crate) struct Touched {
    /// A pod of the node, or one that claims an address of such a pod.
    pub(crate) local: bool,
    /// Which numbers are found under a name.
    pub(crate) numbers: bool,
    /// A pod that is on the node, or was, in whatever state.
    pub(crate) here: bool,
    /// Whose an address of a pod of the node is that another pod claims too, or a node.
    pub(crate) owners: bool,
}

impl std::ops::BitOrAssign for Touched {
    fn bitor_assign(&mut self, other: Self) {
        self.local |= other.local;
        self.numbers |= other.numbers;
        self.here |= other.here;
        self.owners |= other.owners;
    }
}

/// The index of one node's view of a cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Whose pods are local; no pods are where there is none.
    node: Option<NodeName>,
    /// Whether pods are grouped yet.
    grouped: bool,
    pods: Pods,
    groups: Groups,
    memberships: Memberships,
    named: NamedPorts,
    owners: Owners,
    policies: Policies,
    local: BTreeSet<ObjectKey>,
    /// How many pods are on the node, live or not.
    scheduled: usize,
    /// How many pods, or kinds of pods, were looked at besides those that changed.
    looked_at: usize,
}

impl Index {
    /// The index of an empty cluster, for `node`.
    pub(crate) fn new(node: NodeName) -> Self {
        Self { node: Some(node), ..Self::default() }
    }

    /// The index of these objects, for `node`.
    pub(crate) fn of(objects: &Snapshot, node: NodeName) -> Self {
        let mut index = Self::new(node);
        for node in objects.nodes.values() {
            index.owners.add_node(owners::of_node(node));
        }
        for pod in objects.pods.values() {
            index.put_pod(objects, PackedPod::new(pod.clone()));
        }
        for policy in objects.policies.values() {
            index.policies.add(policy);
        }
        index.forget_deltas();
        index
    }

    /// The index of the same pods and of these other objects, for another node.
    pub(crate) fn moved_to(&self, objects: &Snapshot, node: NodeName) -> Self {
        let mut index = Self::of(&Snapshot { pods: BTreeMap::new(), ..objects.clone() }, node);
        for pod in self.packed() {
            index.put_pod(objects, pod);
        }
        index.forget_deltas();
        index
    }

    /// How many pods there are, of whatever kind and in whatever state.
    pub(crate) fn count(&self) -> usize {
        self.pods.len()
    }

    /// A pod.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<Pod> {
        self.pods.pod(self.pods.find(&key.namespace, key.name.as_str())?)
    }

    /// All pods in the order of their keys.
    pub(crate) fn all(&self) -> impl Iterator<Item = Pod> {
        self.pods.ids().filter_map(|id| self.pods.pod(id))
    }

    /// Packs a pod that comes alone.
    pub(crate) fn pack(&mut self, pod: Pod) -> PackedPod {
        self.pods.pack(pod)
    }

    /// Makes a namespace share with others, and with pods, what they have in common.
    pub(crate) fn share_namespace(&mut self, namespace: &mut Namespace) {
        self.pods.share_namespace(namespace);
    }

    /// Makes a policy share with others what they have in common.
    pub(crate) fn share_policy(&mut self, policy: &mut crate::policy::Policy) {
        self.pods.share_policy(policy);
    }

    /// Which pods are in neither part of a list, and those of it that are not as they were.
    pub(crate) fn differing(&self, listed: PodList) -> (Vec<ObjectKey>, Vec<PackedPod>) {
        self.pods.differing(listed)
    }

    /// All pods, in little room.
    pub(crate) fn packed(&self) -> impl Iterator<Item = PackedPod> {
        self.pods.ids().filter_map(|id| self.pods.packed(id))
    }

    /// The pods of the node that are somebody, in the order of their keys.
    pub(crate) fn local(&self) -> impl Iterator<Item = &ObjectKey> {
        self.local.iter()
    }

    /// How many pods are on the node, live or not.
    pub(crate) fn scheduled(&self) -> usize {
        self.scheduled
    }

    /// The policies that select a pod, in the order of their keys.
    pub(crate) fn selecting(&self, objects: &Snapshot, pod: &Pod) -> Vec<Arc<PolicyState>> {
        self.policies.selecting(objects, pod)
    }

    /// What tells the policies of a namespace from those in every other state; `None` where there are
    /// none.
    pub(crate) fn state_of_policies(&self, namespace: &NamespaceName) -> Option<Stamp> {
        self.policies.state(namespace)
    }

    /// What has changed in a namespace since its policies were in this state, as far back as is known.
    pub(crate) fn policy_changes_since(
        &self,
        namespace: &NamespaceName,
        state: Stamp,
    ) -> Option<impl Iterator<Item = &PolicyChange>> {
        self.policies.changes_since(namespace, state)
    }

    /// Whether a pod is the node's, and somebody.
    pub(crate) fn is_local(&self, key: &ObjectKey) -> bool {
        self.local.contains(key)
    }

    /// The membership that some definitions make.
    pub(crate) fn membership(
        &mut self,
        objects: &Snapshot,
        definitions: &Arc<Definitions>,
    ) -> MembershipId {
        if let Some(known) = self.memberships.find(definitions) {
            return known;
        }
        let labels: BTreeSet<Arc<str>> =
            definitions.iter().flat_map(|one| one.asked()).cloned().collect();
        self.tell_apart(objects, &labels);
        self.memberships.add(Arc::clone(definitions), &self.groups)
    }

    /// Its members of a family, in their order.
    pub(crate) fn members(&self, id: MembershipId, family: Family) -> Vec<IpAddr> {
        self.addresses(&self.memberships.groups(id, &self.groups), family)
    }

    /// The addresses that the pods of some groups have in a family, in their order.
    fn addresses(&self, groups: &[GroupId], family: Family) -> Vec<IpAddr> {
        let groups = groups.iter().filter_map(|group| self.groups.get(*group));
        let commons = groups.flat_map(|group| &group.commons);
        let pods = commons.flat_map(|common| self.groups.pods(*common));
        let addresses = pods.filter_map(|pod| Some(self.pods.facts(*pod)?.addresses()));
        let mut members = match family {
            Family::V4 => in_order(addresses.filter_map(|addresses| addresses.v4)),
            Family::V6 => in_order(addresses.filter_map(|addresses| addresses.v6)),
        };
        members.retain(|address| !self.owners.is_claimed_of_node(*address));
        members
    }

    /// Prepares for questions about these names.
    pub(crate) fn ask_names(&mut self, mut names: BTreeSet<(Protocol, PortName)>) {
        names.retain(|(protocol, name)| self.named.declaring(*protocol, name).is_none());
        if names.is_empty() {
            return;
        }
        self.looked_at += self.pods.kinds();
        self.named.ask(names);
        for (id, common) in self.pods.commons() {
            if !self.groups.pods(id).is_empty() {
                self.named.declare(&common.ports, id);
            }
        }
    }

    /// The answer to a question about a name.
    pub(crate) fn named(&mut self, question: NamedQuestion) -> NamedId {
        if let Some(known) = self.named.find(&question) {
            return known;
        }
        self.ask_names([(question.protocol, question.name.clone())].into());
        let meant = self.meant(&question);
        self.named.add(question, meant)
    }

    /// The numbers of that answer, in their order.
    pub(crate) fn numbers_found(&self, id: NamedId) -> impl Iterator<Item = NonZeroU16> + '_ {
        self.named.numbers(id)
    }

    /// The addresses at which one of them is found.
    pub(crate) fn found_at(&self, id: NamedId, number: NonZeroU16) -> BTreeSet<IpAddr> {
        self.named.found_at(id, number).collect()
    }

    /// Prepares for definitions that ask about these labels.
    pub(crate) fn ask(&mut self, objects: &Snapshot, labels: &BTreeSet<Arc<str>>) {
        if !labels.is_empty() {
            self.tell_apart(objects, labels);
        }
    }

    /// What has joined and left memberships since the deltas were last forgotten.
    pub(crate) fn deltas(&self) -> impl Iterator<Item = (MembershipId, &Delta)> {
        self.memberships.deltas()
    }

    /// The same, of the addresses at which numbers are found.
    pub(crate) fn number_deltas(&self) -> impl Iterator<Item = (NamedId, NonZeroU16, &Delta)> {
        self.named.deltas()
    }

    /// What has joined and left a membership since that was last taken.
    pub(crate) fn delta(&self, id: MembershipId) -> Option<&Delta> {
        self.memberships.delta(id)
    }

    /// The same, of the addresses at which a number is found.
    pub(crate) fn number_delta(&self, id: NamedId, number: NonZeroU16) -> Option<&Delta> {
        self.named.delta(id, number)
    }

    /// What has come about of some addresses in a membership, which are sorted, was taken.
    pub(crate) fn settle(&mut self, id: MembershipId, addresses: &[IpAddr]) {
        self.memberships.settle(id, addresses);
    }

    /// The same, of addresses at which a number is found.
    pub(crate) fn settle_number(&mut self, id: NamedId, number: NonZeroU16, addresses: &[IpAddr]) {
        self.named.settle(id, number, addresses);
    }

    /// What has come about so far was taken.
    pub(crate) fn forget_deltas(&mut self) {
        self.memberships.forget_deltas();
        self.named.forget_deltas();
        self.owners.forget_moved();
    }

    /// How often a definition was compared with a group, and how many pods were looked at besides those
    /// that changed, since this was last asked.
    pub(crate) fn take_work(&mut self) -> (usize, usize) {
        (self.memberships.take_compared(), std::mem::take(&mut self.looked_at))
    }

    /// Drops all but these memberships and answers, and the memberships that the answers are about.
    pub(crate) fn retain(
        &mut self,
        objects: &Snapshot,
        memberships: &BTreeSet<MembershipId>,
        named: &BTreeSet<NamedId>,
    ) {
        self.named.retain(named);
        let asked_of = self.named.asked_of().chain(memberships.iter().copied()).collect();
        self.memberships.retain(&asked_of);
        let asked = self.memberships.asked();
        if self.groups.asked().len() > 2 * asked.len() + STALE {
            self.regroup(objects, asked);
        }
    }

    /// The address of a pod that is nobody else's by right.
    fn visible(&self, addresses: Addresses, family: Family) -> Option<IpAddr> {
        addresses.of(family).filter(|address| !self.owners.is_node(*address))
    }

    /// The numbers that pods declare which a question means, and where each is found. They are looked for
    /// among those that declare the name, or among those of the membership where no others are meant.
    fn meant(&self, question: &NamedQuestion) -> Vec<(NonZeroU16, Option<IpAddr>)> {
        let Some(declaring) = self.named.declaring(question.protocol, &question.name) else {
            return Vec::new();
        };
        let groups = self.memberships.groups(question.pods, &self.groups);
        let commons = || groups.iter().filter_map(|id| self.groups.get(*id)).map(|g| &*g.commons);
        let few = *question.coverage == Coverage::Nothing
            && commons().map(<[CommonId]>::len).sum::<usize>() < declaring.len();
        let mut meant = Vec::new();
        if few {
            for id in commons().flatten() {
                self.count_meant(question, *id, true, &mut meant);
            }
            return meant;
        }
        for id in declaring {
            let group = self.groups.id_of(*id);
            let is_member = group.is_some_and(|group| groups.binary_search(&group).is_ok());
            self.count_meant(question, *id, is_member, &mut meant);
        }
        meant
    }

    /// The same, of the pods that have this in common.
    fn count_meant(
        &self,
        question: &NamedQuestion,
        id: CommonId,
        is_member: bool,
        meant: &mut Vec<(NonZeroU16, Option<IpAddr>)>,
    ) {
        let Some(common) = self.pods.common(id) else { return };
        let numbers = question.declared_by(&common.ports);
        if numbers.is_empty() || !is_member && *question.coverage == Coverage::Nothing {
            return;
        }
        let pods = self.groups.pods(id).iter().filter_map(|pod| self.pods.facts(*pod));
        for pod in pods.filter(|pod| question.means(pod.addresses(), is_member)) {
            let address = self.visible(pod.addresses(), question.family);
            meant.extend(numbers.iter().map(|number| (*number, address)));
        }
    }

    /// Groups pods by these labels too.
    fn tell_apart(&mut self, objects: &Snapshot, labels: &BTreeSet<Arc<str>>) {
        let new: BTreeSet<Arc<str>> = labels.difference(self.groups.asked()).cloned().collect();
        if !self.grouped {
            return self.regroup(objects, new);
        }
        if new.is_empty() {
            return;
        }
        self.looked_at += self.pods.kinds();
        let concerned =
            |common: &Common| new.iter().any(|label| common.labels.get(label).is_some());
        let commons = self.inhabited().filter(|(_, common)| concerned(common));
        let commons: Vec<(CommonId, Arc<Common>)> = commons.collect();
        for (id, _) in &commons {
            self.groups.leave(*id);
        }
        self.groups.ask(new);
        for (id, common) in commons {
            self.join_group(objects, id, &common);
        }
    }

    /// Groups all pods by these labels and no others.
    fn regroup(&mut self, objects: &Snapshot, labels: BTreeSet<Arc<str>>) {
        self.grouped = true;
        self.groups.disband();
        self.groups.ask(labels);
        self.memberships.forget_groups();
        self.looked_at += self.pods.kinds();
        let commons: Vec<(CommonId, Arc<Common>)> = self.inhabited().collect();
        for (id, common) in commons {
            self.join_group(objects, id, &common);
        }
    }

    /// What live pods have in common.
    fn inhabited(&self) -> impl Iterator<Item = (CommonId, Arc<Common>)> {
        let commons = self.pods.commons().filter(|(id, _)| !self.groups.pods(*id).is_empty());
        commons.map(|(id, common)| (id, Arc::clone(common)))
    }

    /// Puts the pods that have this in common into their group.
    fn join_group(&mut self, objects: &Snapshot, id: CommonId, common: &Common) {
        self.groups.join(common, id, || objects.namespace_labels(&common.namespace));
    }

    /// Counts a live pod among those with which it has all in common.
    fn come(&mut self, objects: &Snapshot, id: PodId, facts: &Facts) {
        let rank = self.groups.add_pod(facts.common, id);
        self.pods.set_rank(id, u32::try_from(rank).unwrap_or(u32::MAX));
        if rank == 0
            && let Some(common) = self.pods.common(facts.common).cloned()
        {
            self.named.declare(&common.ports, facts.common);
            if self.grouped {
                self.join_group(objects, facts.common, &common);
            }
        }
    }

    /// Does not count a pod any more that was live.
    fn go(&mut self, facts: &Facts) {
        let moved = self.groups.remove_pod(facts.common, facts.rank as usize);
        if let Some(moved) = moved {
            self.pods.set_rank(moved, facts.rank);
        }
        if self.groups.pods(facts.common).is_empty() {
            self.groups.leave(facts.common);
            self.named.retract(&self.pods.ports(facts), facts.common);
        }
    }

    /// The memberships that pods feed which have this in common, in their order.
    fn feeds_of(&mut self, common: CommonId) -> Arc<[MembershipId]> {
        match self.groups.id_of(common) {
            Some(group) => self.memberships.fed_by(group, &mut self.groups),
            None => Arc::default(),
        }
    }
}

/// Each once, in their order.
fn in_order<A: Ord + Into<IpAddr>>(addresses: impl Iterator<Item = A>) -> Vec<IpAddr> {
    let mut addresses: Vec<A> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(Into::into).collect()
}
