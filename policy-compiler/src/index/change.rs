//! What a change of one object does to the index.
//!
//! A pod is taken out as it was and put in as it is, and what joins again what it has just left cancels
//! out. An address leaves a membership only where no other pod holds it there: two pods may claim one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::groups::GroupId;
use super::named::NamedId;
use super::pods::{PodId, Record};
use super::{Index, MembershipId, Touched, is_somebody, owners};
use crate::cidr::Family;
use crate::cluster::{Node, Pod, Snapshot};
use crate::name::{NamespaceName, ObjectKey};
use crate::policy::Policy;

/// Whose holding of an address does not count.
#[derive(Clone, Copy)]
enum But {
    Pod(PodId),
    Group(GroupId),
}

impl Index {
    /// A pod was `old` and is `new`; `objects` have it as it is.
    pub(crate) fn pod(
        &mut self,
        objects: &Snapshot,
        old: Option<&Pod>,
        new: Option<&Pod>,
    ) -> Touched {
        let on_node = |pod: Option<&Pod>| usize::from(pod.is_some_and(|pod| self.is_local(pod)));
        self.scheduled = self.scheduled + on_node(new) - on_node(old);
        let was = old.filter(|pod| is_somebody(pod));
        let is = new.filter(|pod| is_somebody(pod));
        let mut touched = Touched { local: self.concerns_local(was, is), ..Touched::default() };
        if self.is_same_peer(was, is) {
            touched |= self.told_of_nodes(objects, old, new);
            let moved = is.filter(|is| was.is_some_and(|was| was.node != is.node));
            if let Some(pod) = moved
                && let Some(id) = self.find(pod)
            {
                let local = self.is_local(pod);
                if let Some(record) = self.pods.get_mut(id) {
                    record.local = local;
                }
            }
        } else {
            if let Some(pod) = was {
                touched.numbers |= self.withdraw(pod);
            }
            touched |= self.told_of_nodes(objects, old, new);
            if let Some(pod) = is {
                touched.numbers |= self.put_forward(objects, pod);
            }
        }
        if let Some(pod) = was.filter(|pod| self.is_local(pod)) {
            self.local.remove(&pod.key);
        }
        if let Some(pod) = is.filter(|pod| self.is_local(pod)) {
            self.local.insert(pod.key.clone());
        }
        touched
    }

    /// A node was `old` and is `new`.
    pub(crate) fn node(
        &mut self,
        objects: &Snapshot,
        old: Option<&Node>,
        new: Option<&Node>,
    ) -> Touched {
        let come = self.owners.add_node(new.into_iter().flat_map(owners::of_node));
        let gone = self.owners.remove_node(old.into_iter().flat_map(owners::of_node));
        self.nodes_changed(objects, &come, &gone)
    }

    /// A namespace may have other labels than it had.
    pub(crate) fn namespace(&mut self, objects: &Snapshot, name: &NamespaceName) -> Touched {
        let labels = objects.namespace_labels(name);
        let mut changed = BTreeSet::new();
        for id in self.groups.of_namespace(name).clone() {
            let Some(group) = self.groups.get_mut(id) else { continue };
            let (begun, ceased) = self.memberships.judge(id, group, &labels);
            if begun.is_empty() && ceased.is_empty() {
                continue;
            }
            self.looked_at += group.pods.len();
            let pods = group.pods.iter().filter_map(|pod| self.pods.get(*pod));
            let addresses: BTreeSet<IpAddr> = pods.flat_map(|pod| pod.addresses.iter()).collect();
            for address in addresses {
                for membership in &begun {
                    self.join(*membership, address, But::Group(id));
                }
                for membership in &ceased {
                    self.leave(*membership, address, But::Group(id));
                }
            }
            changed.extend(begun.into_iter().chain(ceased));
        }
        let mut numbers = false;
        for id in self.named.among(&changed) {
            numbers |= self.recount(objects, id);
        }
        Touched { numbers, ..Touched::default() }
    }

    /// A policy was `old` and is `new`; whether that concerns a pod of the node.
    pub(crate) fn policy(
        &mut self,
        objects: &Snapshot,
        old: Option<&Policy>,
        new: Option<&Policy>,
    ) -> Touched {
        if let Some(policy) = old {
            self.policies.remove(policy);
        }
        if let Some(policy) = new {
            self.policies.add(policy);
        }
        let selects = |key: &ObjectKey, policy: &Policy| {
            policy.key.namespace == key.namespace
                && objects.pods.get(key).is_some_and(|pod| policy.pod_selector.matches(&pod.labels))
        };
        let local = [old, new]
            .into_iter()
            .flatten()
            .any(|policy| self.local.iter().any(|key| selects(key, policy)));
        Touched { local, ..Touched::default() }
    }

    fn is_local(&self, pod: &Pod) -> bool {
        pod.node.is_some() && pod.node == self.node
    }

    /// Whether a pod is the node's, or claims what a pod of the node claims.
    fn concerns_local(&self, was: Option<&Pod>, is: Option<&Pod>) -> bool {
        [was, is].into_iter().flatten().any(|pod| {
            let claimants = pod.addresses.iter().flat_map(|address| self.owners.of(address));
            self.is_local(pod) || claimants.into_iter().any(|id| self.is_local_id(*id))
        })
    }

    fn is_local_id(&self, id: PodId) -> bool {
        self.pods.get(id).is_some_and(|record| record.local)
    }

    fn is_same_peer(&self, was: Option<&Pod>, is: Option<&Pod>) -> bool {
        match (was, is) {
            (None, None) => true,
            (Some(was), Some(is)) => {
                was.addresses == is.addresses
                    && was.ports == is.ports
                    && self.groups.are_alike(was, is)
            }
            _ => false,
        }
    }

    /// Takes a pod out; whether that took a number away.
    fn withdraw(&mut self, pod: &Pod) -> bool {
        let Some(id) = self.find(pod) else { return false };
        let feeds = self.leave_group(id);
        let mut numbers = false;
        for (question, family) in self.asking_about(pod, &feeds) {
            let address = self.visible(pod.addresses, family);
            numbers |= self.named.discount(question, pod, address);
        }
        self.named.retract(pod, id);
        for address in pod.addresses.iter() {
            self.owners.release(address, id);
            for membership in feeds.iter() {
                self.leave(*membership, address, But::Pod(id));
            }
        }
        self.pods.remove(id);
        numbers
    }

    /// Puts a pod in; whether that brought a number.
    fn put_forward(&mut self, objects: &Snapshot, pod: &Pod) -> bool {
        let local = self.is_local(pod);
        let (key, addresses) = (pod.key.clone(), pod.addresses);
        let id = self.pods.add(Record { key, addresses, local, group: None, place: 0 });
        let feeds = self.join_group(objects, id, pod);
        let mut numbers = false;
        for (question, family) in self.asking_about(pod, &feeds) {
            let address = self.visible(pod.addresses, family);
            numbers |= self.named.count(question, pod, address);
        }
        self.named.declare(pod, id);
        for address in pod.addresses.iter() {
            self.owners.claim(address, id);
            for membership in feeds.iter() {
                self.join(*membership, address, But::Pod(id));
            }
        }
        numbers
    }

    /// The questions that mean a pod which feeds these memberships.
    fn asking_about(&self, pod: &Pod, feeds: &[MembershipId]) -> Vec<(NamedId, Family)> {
        let asked = self.named.about(pod).into_iter();
        asked
            .filter(|(_, question)| {
                question.means(pod.addresses, feeds.binary_search(&question.pods).is_ok())
            })
            .map(|(id, question)| (id, question.family))
            .collect()
    }

    /// Takes note of what a pod says of its node's addresses.
    fn told_of_nodes(
        &mut self,
        objects: &Snapshot,
        old: Option<&Pod>,
        new: Option<&Pod>,
    ) -> Touched {
        if old
            .into_iter()
            .flat_map(owners::of_its_node)
            .eq(new.into_iter().flat_map(owners::of_its_node))
        {
            return Touched::default();
        }
        let come = self.owners.add_node(new.into_iter().flat_map(owners::of_its_node));
        let gone = self.owners.remove_node(old.into_iter().flat_map(owners::of_its_node));
        self.nodes_changed(objects, &come, &gone)
    }

    /// Pods that claim a node's address have none, and those have it whose address is a node's no more.
    fn nodes_changed(&mut self, objects: &Snapshot, come: &[IpAddr], gone: &[IpAddr]) -> Touched {
        let mut touched = Touched::default();
        let mut claimed = false;
        for (list, joins) in [(come, false), (gone, true)] {
            for address in list {
                let claimants = self.owners.of(*address);
                claimed |= !claimants.is_empty();
                touched.local |= claimants.iter().any(|id| self.is_local_id(*id));
                let feeds: BTreeSet<MembershipId> =
                    claimants.iter().flat_map(|id| self.fed_by(*id)).copied().collect();
                for membership in feeds {
                    if joins {
                        self.memberships.join(membership, *address);
                    } else {
                        self.memberships.leave(membership, *address);
                    }
                }
            }
        }
        for id in if claimed { self.named.all() } else { Vec::new() } {
            touched.numbers |= self.recount(objects, id);
        }
        touched
    }

    fn fed_by(&self, id: PodId) -> &[MembershipId] {
        let group = self.pods.get(id).and_then(|record| self.groups.get(record.group?));
        group.map(|group| &*group.feeds).unwrap_or_default()
    }

    fn recount(&mut self, objects: &Snapshot, id: NamedId) -> bool {
        let Some(question) = self.named.question(id).cloned() else { return false };
        let meant = self.meant(objects, &question);
        self.looked_at += meant.len();
        self.named.recount(id, meant.into_iter())
    }

    fn join(&mut self, id: MembershipId, address: IpAddr, but: But) {
        if !self.owners.is_node(address) && !self.is_held(id, address, but) {
            self.memberships.join(id, address);
        }
    }

    fn leave(&mut self, id: MembershipId, address: IpAddr, but: But) {
        if !self.owners.is_node(address) && !self.is_held(id, address, but) {
            self.memberships.leave(id, address);
        }
    }

    /// Whether a pod of the membership claims an address, but for some that do not count.
    fn is_held(&self, id: MembershipId, address: IpAddr, but: But) -> bool {
        self.owners.of(address).iter().any(|claimant| {
            let counts = match but {
                But::Pod(own) => *claimant != own,
                But::Group(own) => {
                    self.pods.get(*claimant).is_some_and(|record| record.group != Some(own))
                }
            };
            counts && self.fed_by(*claimant).binary_search(&id).is_ok()
        })
    }
}
