//! The cluster as sets of pods see it, kept up with every change of an object.
//!
//! ```text
//!  Pod ──┬─> group (namespace, labels that are asked about) ──> memberships ──> addresses that join or leave
//!        ├─> owners of its addresses, and of nodes'
//!        └─> declared port names that are asked about       ──> numbers, and who has them
//! ```
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
mod definition;
mod groups;
mod memberships;
mod named;
mod owners;
mod pods;
mod policies;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

pub(crate) use self::definition::{PodDefinition, Scope};
use self::groups::Groups;
use self::memberships::Memberships;
pub(crate) use self::memberships::{Definitions, Delta, MembershipId};
use self::named::NamedPorts;
pub(crate) use self::named::{NamedId, NamedQuestion};
use self::owners::Owners;
use self::pods::{PodId, Pods};
use self::policies::Policies;
pub(crate) use self::policies::Stamp;
use crate::cidr::Family;
use crate::cluster::{Addresses, Pod, Snapshot};
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::policy::Policy;
use crate::port::{PortName, Protocol};

/// How many labels that nobody asks about any more may go on telling pods apart.
const STALE: usize = if cfg!(test) { 0 } else { 64 };

/// What a change has touched besides memberships.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// A pod of the node, or one that claims an address of such a pod.
    pub(crate) local: bool,
    /// Which numbers are found under a name.
    pub(crate) numbers: bool,
}

impl std::ops::BitOrAssign for Touched {
    fn bitor_assign(&mut self, other: Self) {
        self.local |= other.local;
        self.numbers |= other.numbers;
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
    /// How many pods were looked at besides those that changed.
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
            index.pod(objects, None, Some(pod));
        }
        for policy in objects.policies.values() {
            index.policies.add(policy);
        }
        index.forget_deltas();
        index
    }

    /// The pods of the node that are somebody, in the order of their keys.
    pub(crate) fn local(&self) -> impl Iterator<Item = &ObjectKey> {
        self.local.iter()
    }

    /// How many pods are on the node, live or not.
    pub(crate) fn scheduled(&self) -> usize {
        self.scheduled
    }

    /// The policies that select a pod, in the order of their keys, each with what tells this state of
    /// it from every other.
    pub(crate) fn selecting<'o>(
        &self,
        objects: &'o Snapshot,
        pod: &Pod,
    ) -> Vec<(Stamp, &'o Policy)> {
        self.policies.selecting(objects, pod)
    }

    /// The newest pod that claims an address which is no node's.
    pub(crate) fn newest<'o>(&self, objects: &'o Snapshot, address: IpAddr) -> Option<&'o Pod> {
        let pods = self.claimants(address).filter_map(|key| objects.pods.get(key));
        pods.max_by_key(|pod| (&pod.age, &pod.key))
    }

    /// The pods that claim an address which is no node's.
    pub(crate) fn claimants(&self, address: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        let claimants: &[PodId] =
            if self.owners.is_node(address) { &[] } else { self.owners.of(address) };
        claimants.iter().filter_map(|id| self.pods.get(*id)).map(|record| &record.key)
    }

    /// Whether an address is a node's.
    pub(crate) fn is_node(&self, address: IpAddr) -> bool {
        self.owners.is_node(address)
    }

    /// Whether an address belongs to somebody.
    pub(crate) fn is_known(&self, address: IpAddr) -> bool {
        self.owners.is_node(address) || !self.owners.of(address).is_empty()
    }

    /// The addresses that came to belong to somebody or ceased to, since the deltas were last forgotten.
    /// There may be others among them, and some more than once.
    pub(crate) fn moved(&self) -> &[IpAddr] {
        self.owners.moved()
    }

    /// The addresses in `networks`, which are disjoint, that belong to somebody.
    pub(crate) fn known_in(&self, networks: &[ipnet::IpNet]) -> BTreeSet<IpAddr> {
        self.owners.known_in(networks)
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
        let labels_of = |name: &NamespaceName| objects.namespace_labels(name);
        self.memberships.add(Arc::clone(definitions), &mut self.groups, &labels_of)
    }

    /// Its members of a family.
    pub(crate) fn members(&self, id: MembershipId, family: Family) -> BTreeSet<IpAddr> {
        let groups = self.memberships.groups(id).filter_map(|group| self.groups.get(group));
        let pods = groups.flat_map(|group| &group.pods).filter_map(|id| self.pods.get(*id));
        pods.filter_map(|record| self.visible(record.addresses, family)).collect()
    }

    /// Prepares for questions about these names.
    pub(crate) fn ask_names(
        &mut self,
        objects: &Snapshot,
        mut names: BTreeSet<(Protocol, PortName)>,
    ) {
        names.retain(|(protocol, name)| self.named.declaring(*protocol, name).is_none());
        if names.is_empty() {
            return;
        }
        self.looked_at += objects.pods.len();
        self.named.ask(names);
        for pod in objects.pods.values().filter(|pod| is_somebody(pod)) {
            if let Some(id) = self.find(pod) {
                self.named.declare(pod, id);
            }
        }
    }

    /// The answer to a question about a name.
    pub(crate) fn named(&mut self, objects: &Snapshot, question: NamedQuestion) -> NamedId {
        if let Some(known) = self.named.find(&question) {
            return known;
        }
        self.ask_names(objects, [(question.protocol, question.name.clone())].into());
        let meant = self.meant(objects, &question);
        self.named.add(question, meant.into_iter())
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

    /// What has come about of an address in a membership was taken.
    pub(crate) fn settle(&mut self, id: MembershipId, address: IpAddr) {
        self.memberships.settle(id, address);
    }

    /// The same, of an address at which a number is found.
    pub(crate) fn settle_number(&mut self, id: NamedId, number: NonZeroU16, address: IpAddr) {
        self.named.settle(id, number, address);
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
        self.memberships.retain(&asked_of, &mut self.groups);
        let asked = self.memberships.asked();
        if self.groups.asked().len() > 2 * asked.len() + STALE {
            self.regroup(objects, asked);
        }
    }

    /// The address of a pod that is nobody else's by right.
    fn visible(&self, addresses: Addresses, family: Family) -> Option<IpAddr> {
        addresses.of(family).filter(|address| !self.owners.is_node(*address))
    }

    /// The pods that a question means, and where they are found.
    fn meant<'p>(
        &self,
        objects: &'p Snapshot,
        question: &NamedQuestion,
    ) -> Vec<(&'p Pod, Option<IpAddr>)> {
        let declaring = self.named.declaring(question.protocol, &question.name);
        let means = |id: &&PodId| {
            let record = self.pods.get(**id)?;
            let group = record.group.and_then(|group| self.groups.get(group));
            let is_member =
                group.is_some_and(|group| group.feeds.binary_search(&question.pods).is_ok());
            question.means(record.addresses, is_member).then_some(record)
        };
        let records = declaring.into_iter().flatten().filter_map(|id| means(&id));
        let pods = records.filter_map(|record| objects.pods.get(&record.key));
        pods.map(|pod| (pod, self.visible(pod.addresses, question.family))).collect()
    }

    /// The number of a pod that is there.
    fn find(&self, pod: &Pod) -> Option<PodId> {
        let Some(address) = pod.addresses.iter().next() else {
            return self.pods.unaddressed(&pod.key);
        };
        let is_it = |id: &&PodId| self.pods.get(**id).is_some_and(|record| record.key == pod.key);
        self.owners.of(address).iter().find(is_it).copied()
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
        self.looked_at += objects.pods.len();
        let concerned = |pod: &&Pod| {
            is_somebody(pod) && new.iter().any(|label| pod.labels.get(label).is_some())
        };
        let pods = objects.pods.values().filter(concerned);
        let pods: Vec<(PodId, &Pod)> =
            pods.filter_map(|pod| Some((self.find(pod)?, pod))).collect();
        for (id, _) in &pods {
            self.leave_group(*id);
        }
        self.groups.ask(new.iter().cloned());
        for (id, pod) in pods {
            self.join_group(objects, id, pod);
        }
    }

    /// Groups all pods by these labels and no others.
    fn regroup(&mut self, objects: &Snapshot, labels: BTreeSet<Arc<str>>) {
        self.grouped = true;
        self.groups = Groups::default();
        self.groups.ask(labels);
        self.memberships.forget_groups();
        self.looked_at += objects.pods.len();
        for pod in objects.pods.values().filter(|pod| is_somebody(pod)) {
            if let Some(id) = self.find(pod) {
                self.join_group(objects, id, pod);
            }
        }
    }

    /// Puts a pod into its group, and says which memberships that feeds.
    fn join_group(&mut self, objects: &Snapshot, id: PodId, pod: &Pod) -> Arc<[MembershipId]> {
        if !self.grouped {
            return Arc::default();
        }
        let (group_id, place, is_new) = self.groups.join(pod, id);
        if let Some(record) = self.pods.get_mut(id) {
            (record.group, record.place) = (Some(group_id), place);
        }
        let Some(group) = self.groups.get_mut(group_id) else { return Arc::default() };
        if is_new && !self.memberships.is_empty() {
            let labels = objects.namespace_labels(&group.namespace);
            self.memberships.admit(group_id, group, &labels);
        }
        Arc::clone(&group.feeds)
    }

    /// Takes a pod out of its group, and says which memberships that fed.
    fn leave_group(&mut self, id: PodId) -> Arc<[MembershipId]> {
        let Some(record) = self.pods.get_mut(id) else { return Arc::default() };
        let (Some(group), place) = (record.group.take(), record.place) else {
            return Arc::default();
        };
        match self.groups.leave(group, place) {
            (_, Some(gone)) => {
                self.memberships.dismiss(group, &gone);
                gone.feeds
            }
            (moved, None) => {
                if let Some(moved) = moved.and_then(|moved| self.pods.get_mut(moved)) {
                    moved.place = place;
                }
                self.groups.get(group).map(|group| Arc::clone(&group.feeds)).unwrap_or_default()
            }
        }
    }
}

/// Whether a pod is subject and peer of policies.
fn is_somebody(pod: &Pod) -> bool {
    pod.is_live() && !pod.template
}
