//! What a change of one object does to the index.
//!
//! A pod is taken out as it was and put in as it is, and what joins again what it has just left cancels
//! out. An address leaves a membership only where no other pod holds it there: two pods may claim one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::groups::GroupId;
use super::memberships::Judged;
use super::named::NamedId;
use super::pods::{Facts, PodId, Put};
use super::{Index, MembershipId, Touched, owners};
use crate::cidr::Family;
use crate::cluster::{ContainerPort, Node, Snapshot};
use crate::name::{NamespaceName, ObjectKey};
use crate::packed::{PackedPod, Place};
use crate::policy::Policy;

impl Index {
    /// A pod is so; what that has touched, unless it was the same before.
    pub(crate) fn put_pod(&mut self, objects: &Snapshot, said: PackedPod) -> Option<Touched> {
        let known = self.pods.find(&said.common.namespace, said.name.as_str());
        if known.is_some_and(|id| self.pods.is_same(id, &said)) {
            return None;
        }
        let Put { id, old, new, place_is_new } = self.pods.put(known, said);
        let touched = self.pod(objects, id, old.as_ref(), Some((&new, place_is_new)));
        Some(touched)
    }

    /// A pod is gone; what that has touched, unless there was none.
    pub(crate) fn remove_pod(&mut self, objects: &Snapshot, key: &ObjectKey) -> Option<Touched> {
        let id = self.pods.find(&key.namespace, key.name.as_str())?;
        let old = *self.pods.facts(id)?;
        Some(self.pod(objects, id, Some(&old), None))
    }

    /// A pod was `old` and is `new`, which is there already.
    fn pod(
        &mut self,
        objects: &Snapshot,
        id: PodId,
        old: Option<&Facts>,
        new: Option<(&Facts, bool)>,
    ) -> Touched {
        let (new, place_is_new) = new.unzip();
        let is_here = |pod: Option<&Facts>| pod.is_some_and(|pod| self.is_here(pod));
        let (was_here, is_here) = (is_here(old), is_here(new));
        self.scheduled = self.scheduled + usize::from(is_here) - usize::from(was_here);
        let was = old.filter(|pod| self.pods.is_somebody(pod));
        let is = new.filter(|pod| self.pods.is_somebody(pod));
        let (local, owners) = self.concerns_local(id, was, is);
        let here = was_here || is_here;
        let mut touched = Touched { local, here, owners, ..Touched::default() };
        let key = if touched.here { self.pods.key(id) } else { None };
        if let Some((was, is)) = was.zip(is)
            && self.is_same_peer(was, is)
        {
            if was.common != is.common {
                self.come(objects, id, is);
                self.go(was);
            }
            touched |= self.told_of_nodes(id, old, new, place_is_new == Some(true));
        } else if let Some((was, is)) = was.zip(is)
            && was.addresses() == is.addresses()
        {
            touched.numbers |= self.relabel(objects, id, was, is);
            touched |= self.told_of_nodes(id, old, new, place_is_new == Some(true));
        } else {
            if let Some(was) = was {
                touched.numbers |= self.withdraw(id, was);
            }
            touched |= self.told_of_nodes(id, old, new, place_is_new == Some(true));
            if let Some(is) = is {
                touched.numbers |= self.put_forward(objects, id, is);
            }
        }
        // It may itself have told of them.
        let is_node = |pod: &Facts| pod.addresses().iter().any(|own| self.owners.is_node(own));
        touched.owners |= local && is.is_some_and(is_node);
        if let Some(key) = key {
            if is.is_some() && is_here {
                self.local.insert(key);
            } else {
                self.local.remove(&key);
            }
        }
        touched
    }

    /// A node was `old` and is `new`.
    pub(crate) fn node(&mut self, old: Option<&Node>, new: Option<&Node>) -> Touched {
        let come = self.owners.add_node(new.into_iter().flat_map(owners::of_node));
        let gone = self.owners.remove_node(old.into_iter().flat_map(owners::of_node));
        self.nodes_changed(&come, &gone)
    }

    /// A namespace may have other labels than it had.
    pub(crate) fn namespace(&mut self, objects: &Snapshot, name: &NamespaceName) -> Touched {
        let labels = objects.namespace_labels(name);
        let Some(before) = self.groups.relabel(name, &labels) else { return Touched::default() };
        let (mut judged, mut changed) = (BTreeMap::new(), BTreeSet::new());
        for id in self.groups.of_namespace(name).to_vec() {
            let now = self.memberships.judge(id, &mut self.groups, &before);
            if now.was != now.is {
                changed.extend(now.begun().into_iter().chain(now.ceased()));
                judged.insert(id, now);
            }
        }
        let mut contested = BTreeSet::new();
        for (id, judged) in &judged {
            contested.extend(self.feeds_others(*id, judged));
        }
        for address in contested {
            self.held_by_others(address, &judged);
        }
        let mut numbers = false;
        for id in self.named.among(&changed) {
            numbers |= self.recount(id);
        }
        Touched { numbers, ..Touched::default() }
    }

    /// A group feeds other memberships than it did. Most of its addresses nobody else claims: they join
    /// and leave together. The others are left.
    fn feeds_others(&mut self, id: GroupId, judged: &Judged) -> Vec<IpAddr> {
        let Some(group) = self.groups.get(id) else { return Vec::new() };
        self.looked_at += self.groups.count(group);
        let pods = group.commons.iter().flat_map(|common| self.groups.pods(*common));
        let facts = pods.filter_map(|pod| self.pods.facts(*pod));
        let addresses = facts.flat_map(|pod| pod.addresses().iter());
        let visible = addresses.filter(|address| !self.owners.is_claimed_of_node(*address));
        let (contested, alone): (Vec<IpAddr>, Vec<IpAddr>) =
            visible.partition(|address| self.owners.is_contested(*address));
        for membership in judged.begun() {
            self.memberships.note(membership, &alone, true);
        }
        for membership in judged.ceased() {
            self.memberships.note(membership, &alone, false);
        }
        contested
    }

    /// Groups feed other memberships than they did: an address that several pods claim joins those in
    /// which none of them was, and leaves those in which none of them is.
    fn held_by_others(&mut self, address: IpAddr, judged: &BTreeMap<GroupId, Judged>) {
        let (mut was, mut is) = (BTreeSet::new(), BTreeSet::new());
        for pod in self.owners.of(address).to_vec() {
            let common = self.pods.facts(pod).map(|facts| facts.common);
            let group = common.and_then(|common| self.groups.id_of(common));
            if let Some(judged) = group.and_then(|group| judged.get(&group)) {
                was.extend(judged.was.iter().copied());
                is.extend(judged.is.iter().copied());
            } else {
                let feeds = self.fed_by(pod);
                was.extend(feeds.iter().copied());
                is.extend(feeds.iter().copied());
            }
        }
        for membership in is.symmetric_difference(&was) {
            self.memberships.note(*membership, &[address], is.contains(membership));
        }
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

    fn is_here(&self, pod: &Facts) -> bool {
        self.pods.is_on(pod, self.node.as_ref())
    }

    /// Whether a pod is the node's, or claims what a pod of the node claims; and, if so, whether it shares
    /// an address with anybody.
    fn concerns_local(&self, id: PodId, was: Option<&Facts>, is: Option<&Facts>) -> (bool, bool) {
        let (mut local, mut shared) = (false, false);
        for pod in [was, is].into_iter().flatten() {
            local |= self.is_here(pod);
            for address in pod.addresses().iter() {
                let mut others = self.owners.of(address).iter().filter(|other| **other != id);
                shared |= self.owners.is_node(address) || others.clone().next().is_some();
                local |= others.any(|other| self.is_local_id(*other));
            }
        }
        (local, local && shared)
    }

    fn is_local_id(&self, id: PodId) -> bool {
        self.pods.facts(id).is_some_and(|facts| self.is_here(facts))
    }

    fn is_same_peer(&self, was: &Facts, is: &Facts) -> bool {
        let common = |facts: &Facts| self.pods.common(facts.common);
        was.addresses() == is.addresses()
            && (was.common == is.common
                || common(was).zip(common(is)).is_some_and(|(was, is)| {
                    was.ports == is.ports && self.groups.are_alike(was, is)
                }))
    }

    /// Lets a pod have other labels or ports, and the addresses that it has; whether that brought a number or
    /// took one away. Most memberships that it fed it feeds, and nothing is said of them.
    fn relabel(&mut self, objects: &Snapshot, id: PodId, was: &Facts, is: &Facts) -> bool {
        let before = self.feeds_of(was.common);
        let mut numbers = self.discount(was, &before);
        self.come(objects, id, is);
        self.go(was);
        let judged = Judged { was: before, is: self.feeds_of(is.common) };
        numbers |= self.count_numbers(is, &judged.is);
        let (begun, ceased) = (judged.begun(), judged.ceased());
        for address in is.addresses().iter() {
            self.moves(&ceased, address, id, false);
            self.moves(&begun, address, id, true);
        }
        numbers
    }

    /// A pod that feeds these memberships does not count for the numbers that it declares; whether that
    /// took one away.
    fn discount(&mut self, pod: &Facts, feeds: &[MembershipId]) -> bool {
        let ports = self.pods.ports(pod);
        let mut numbers = false;
        for (question, family) in self.asking_about(pod, &ports, feeds) {
            let address = self.visible(pod.addresses(), family);
            numbers |= self.named.discount(question, &ports, address);
        }
        numbers
    }

    /// It does; whether that brought one.
    fn count_numbers(&mut self, pod: &Facts, feeds: &[MembershipId]) -> bool {
        let ports = self.pods.ports(pod);
        let mut numbers = false;
        for (question, family) in self.asking_about(pod, &ports, feeds) {
            let address = self.visible(pod.addresses(), family);
            numbers |= self.named.count(question, &ports, address);
        }
        numbers
    }

    /// Takes a pod out; whether that took a number away.
    fn withdraw(&mut self, id: PodId, pod: &Facts) -> bool {
        let feeds = self.feeds_of(pod.common);
        let numbers = self.discount(pod, &feeds);
        self.go(pod);
        for address in pod.addresses().iter() {
            self.owners.release(address, id);
            self.moves(&feeds, address, id, false);
        }
        numbers
    }

    /// Puts a pod in; whether that brought a number.
    fn put_forward(&mut self, objects: &Snapshot, id: PodId, pod: &Facts) -> bool {
        self.come(objects, id, pod);
        let feeds = self.feeds_of(pod.common);
        let numbers = self.count_numbers(pod, &feeds);
        for address in pod.addresses().iter() {
            self.owners.claim(address, id);
            self.moves(&feeds, address, id, true);
        }
        numbers
    }

    /// The questions that mean a pod which feeds these memberships.
    fn asking_about(
        &self,
        pod: &Facts,
        ports: &[ContainerPort],
        feeds: &[MembershipId],
    ) -> Vec<(NamedId, Family)> {
        let asked = self.named.about(ports).into_iter();
        asked
            .filter(|(_, question)| {
                question.means(pod.addresses(), feeds.binary_search(&question.pods).is_ok())
            })
            .map(|(id, question)| (id, question.family))
            .collect()
    }

    /// Takes note of what a pod says of its node's addresses, and lets go what it was. The addresses of a
    /// node are said once for all of its pods that say the same.
    fn told_of_nodes(
        &mut self,
        id: PodId,
        old: Option<&Facts>,
        new: Option<&Facts>,
        place_is_new: bool,
    ) -> Touched {
        let own = |pod: Option<&Facts>| {
            let pod = pod.filter(|pod| self.pods.has_its_nodes_address(pod));
            pod.map(Facts::addresses).unwrap_or_default()
        };
        let (was, is) = (own(old), own(new));
        let told = new.filter(|_| place_is_new).and_then(|new| self.pods.place(new)).cloned();
        let untold = match (old, new) {
            (Some(old), Some(_)) => self.pods.let_go(old),
            (Some(_), None) => self.pods.remove(id),
            (None, _) => None,
        };
        let (was, is) = if was == is { Default::default() } else { (was, is) };
        let hosts = |place: Option<Arc<Place>>| {
            place.map(|place| place.host_addresses.to_vec()).unwrap_or_default().into_iter()
        };
        let come = self.owners.add_node(hosts(told).chain(is.iter()));
        let gone = self.owners.remove_node(hosts(untold).chain(was.iter()));
        self.nodes_changed(&come, &gone)
    }

    /// Pods that claim a node's address have none, and those have it whose address is a node's no more.
    fn nodes_changed(&mut self, come: &[IpAddr], gone: &[IpAddr]) -> Touched {
        let mut touched = Touched::default();
        let mut claimed = false;
        for (list, joins) in [(come, false), (gone, true)] {
            for address in list {
                let claimants = self.owners.of(*address).to_vec();
                claimed |= !claimants.is_empty();
                touched.local |= claimants.iter().any(|id| self.is_local_id(*id));
                touched.owners |= touched.local;
                let mut feeds = BTreeSet::new();
                for id in claimants {
                    feeds.extend(self.fed_by(id).iter().copied());
                }
                for membership in feeds {
                    self.memberships.note(membership, &[*address], joins);
                }
            }
        }
        for id in if claimed { self.named.all() } else { Vec::new() } {
            touched.numbers |= self.recount(id);
        }
        touched
    }

    fn fed_by(&mut self, id: PodId) -> Arc<[MembershipId]> {
        let common = self.pods.facts(id).map(|facts| facts.common);
        common.map(|common| self.feeds_of(common)).unwrap_or_default()
    }

    fn recount(&mut self, id: NamedId) -> bool {
        let Some(question) = self.named.question(id).cloned() else { return false };
        let meant = self.meant(&question);
        self.looked_at += meant.len();
        self.named.recount(id, meant)
    }

    /// An address that a pod has, or had, joins some memberships or leaves them, but for those in which others
    /// hold it.
    fn moves(&mut self, memberships: &[MembershipId], address: IpAddr, own: PodId, joins: bool) {
        if memberships.is_empty() || self.owners.is_node(address) {
            return;
        }
        let holders = self.owners.of(address).iter().copied();
        let holders: Vec<PodId> = holders.filter(|holder| *holder != own).collect();
        let held: Vec<Arc<[MembershipId]>> =
            holders.into_iter().map(|holder| self.fed_by(holder)).collect();
        for membership in memberships {
            if !held.iter().any(|held| held.binary_search(membership).is_ok()) {
                self.memberships.note(*membership, &[address], joins);
            }
        }
    }
}
