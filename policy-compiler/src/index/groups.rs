//! Pods by namespace and by those of their labels that some definition asks about.
//!
//! Whatever a selector says of one pod of a group it says of all of them. There are as many groups as
//! kinds of pods, however many pods there are. A group has no pods of its own: it has those of workloads
//! that cannot be told apart, so that to group pods takes a look at each workload and none at a pod.
//!
//! Which groups came to be otherwise is kept for a while: who knows which groups something means need
//! look at no others to know it again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::memberships::Feeds;
use super::namespaces::{NamespaceId, Namespaces};
use super::pods::{CommonId, PodId};
use crate::labels::Labels;
use crate::lookup::Lookup;
use crate::name::NamespaceName;
use crate::packed::Common;

/// A group, for as long as it has pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(u32);

/// How many changes of groups are kept.
const KEPT: usize = if cfg!(test) { 8 } else { 4_096 };

/// How many changes of groups there had been.
pub(super) type Moment = u64;

/// Pods that no selector tells apart.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Where they are.
    pub(super) namespace: NamespaceName,
    /// The number of that.
    pub(super) namespace_id: NamespaceId,
    /// Those of their labels that are asked about.
    pub(super) labels: Labels,
    /// What they have in common, for each of their workloads.
    pub(super) commons: Vec<CommonId>,
    /// The memberships that they belong to, as far as that was asked.
    pub(super) feeds: Feeds,
}

/// The live pods that have all in common.
#[derive(Clone, Debug, Default)]
struct Alike {
    pods: Vec<PodId>,
    group: Option<GroupId>,
    /// Their place there.
    place: u32,
}

/// All groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// By what they have in common.
    alike: Vec<Alike>,
    asked: BTreeSet<Arc<str>>,
    /// Only looked up, so that its order does not matter.
    ids: Lookup<(NamespaceName, Labels), GroupId>,
    slots: Vec<Option<Group>>,
    free: Vec<GroupId>,
    namespaces: Namespaces,
    /// Only looked up.
    labelled: Lookup<Arc<str>, Lookup<Arc<str>, BTreeSet<GroupId>>>,
    /// The groups that came, went, or have other labels of their namespace now: the last of these changes.
    changed: Vec<GroupId>,
    /// How many changes there were before those.
    before: Moment,
    /// No groups.
    none: BTreeSet<GroupId>,
    /// No labels.
    unlabelled: Labels,
}

impl Groups {
    /// The labels that are asked about.
    pub(super) fn asked(&self) -> &BTreeSet<Arc<str>> {
        &self.asked
    }

    /// Tells pods apart by these labels too. Pods that have one of them must leave their group before,
    /// and join again after.
    pub(super) fn ask(&mut self, labels: impl IntoIterator<Item = Arc<str>>) {
        self.asked.extend(labels);
    }

    /// A group.
    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    /// Whether pods that have this in common are, or would be, in the group of others.
    pub(super) fn are_alike(&self, one: &Common, other: &Common) -> bool {
        one.namespace == other.namespace
            && self.asked.iter().all(|label| one.labels.get(label) == other.labels.get(label))
    }

    /// The live pods that have this in common.
    pub(super) fn pods(&self, common: CommonId) -> &[PodId] {
        self.alike.get(common.place()).map(|alike| &*alike.pods).unwrap_or_default()
    }

    /// How many pods a group has.
    pub(super) fn count(&self, group: &Group) -> usize {
        group.commons.iter().map(|common| self.pods(*common).len()).sum()
    }

    /// The group of the pods that have this in common, once they are grouped.
    pub(super) fn id_of(&self, common: CommonId) -> Option<GroupId> {
        self.alike.get(common.place())?.group
    }

    /// Puts a pod to those with which it has all in common; its place there.
    pub(super) fn add_pod(&mut self, common: CommonId, pod: PodId) -> usize {
        if common.place() >= self.alike.len() {
            if common.place() >= self.alike.capacity() {
                self.alike.reserve_exact((self.alike.len() / 8).max(16));
            }
            self.alike.resize(common.place() + 1, Alike::default());
        }
        let Some(alike) = self.alike.get_mut(common.place()) else { return 0 };
        alike.pods.push(pod);
        alike.pods.len() - 1
    }

    /// Takes the pod out that has this place; who has it now, if anyone.
    pub(super) fn remove_pod(&mut self, common: CommonId, place: usize) -> Option<PodId> {
        let pods = &mut self.alike.get_mut(common.place())?.pods;
        if place < pods.len() {
            pods.swap_remove(place);
        }
        if pods.is_empty() {
            *pods = Vec::new();
        }
        pods.get(place).copied()
    }

    /// No pods are grouped any more, and no label is asked about.
    pub(super) fn disband(&mut self) {
        let mut alike = std::mem::take(&mut self.alike);
        for alike in &mut alike {
            alike.group = None;
        }
        *self = Self { alike, ..Self::default() };
    }

    /// All groups, with their pods.
    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let slots = (0..).map(GroupId).zip(&self.slots);
        slots.filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    /// The namespaces that have groups.
    pub(super) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The labels of the namespace that a group is in.
    pub(super) fn namespace_labels(&self, group: &Group) -> &Labels {
        let namespace = self.namespaces.get(group.namespace_id);
        namespace.map_or(&self.unlabelled, |namespace| &namespace.labels)
    }

    /// The groups of a namespace, in their order.
    pub(super) fn of_namespace(&self, namespace: &NamespaceName) -> &[GroupId] {
        let namespace = self.namespaces.find(namespace).and_then(|id| self.namespaces.get(id));
        namespace.map(|namespace| &*namespace.groups).unwrap_or_default()
    }

    /// A namespace has these labels now; which it had, if they are others and it has groups.
    pub(super) fn relabel(&mut self, namespace: &NamespaceName, labels: &Labels) -> Option<Labels> {
        let before = self.namespaces.relabel(self.namespaces.find(namespace)?, labels)?;
        for group in self.of_namespace(namespace).to_vec() {
            self.note(group);
        }
        Some(before)
    }

    fn note(&mut self, group: GroupId) {
        if self.changed.len() == KEPT {
            self.before += self.changed.len() as Moment;
            self.changed.clear();
        }
        self.changed.push(group);
    }

    /// How many changes of groups there have been.
    pub(super) fn now(&self) -> Moment {
        self.before + self.changed.len() as Moment
    }

    /// The groups that are not as they were then, some of them more than once; `None` where that is not
    /// known any more.
    pub(super) fn changed_since(&self, then: Moment) -> Option<&[GroupId]> {
        let known = usize::try_from(then.checked_sub(self.before)?).ok()?;
        self.changed.get(known..)
    }

    /// The groups whose pods have this label.
    pub(super) fn labelled(&self, key: &str, value: &str) -> &BTreeSet<GroupId> {
        let groups = self.labelled.get(key).and_then(|values| values.get(value));
        groups.unwrap_or(&self.none)
    }

    /// Puts the pods that have this in common into their group. The labels of their namespace are asked
    /// for if they are the first there.
    pub(super) fn join(
        &mut self,
        common: &Common,
        common_id: CommonId,
        labels_of: impl FnOnce() -> Labels,
    ) {
        let traits = (common.namespace.clone(), common.labels.only(&self.asked));
        let known = self.ids.get(&traits).copied();
        let id = known.unwrap_or_else(|| self.found(traits, labels_of));
        let Some(group) = self.slots.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        group.commons.push(common_id);
        if let Some(alike) = self.alike.get_mut(common_id.place()) {
            let place = u32::try_from(group.commons.len() - 1).unwrap_or(u32::MAX);
            (alike.group, alike.place) = (Some(id), place);
        }
    }

    /// Makes a group.
    fn found(
        &mut self,
        traits: (NamespaceName, Labels),
        labels_of: impl FnOnce() -> Labels,
    ) -> GroupId {
        let next = GroupId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let id = self.free.pop().unwrap_or(next);
        if id == next {
            self.slots.push(None);
        }
        let namespace_id = self.namespaces.add(&traits.0, labels_of, id);
        let (namespace, labels) = traits.clone();
        let (commons, feeds) = (Vec::new(), Feeds::default());
        let group = Group { namespace, namespace_id, labels, commons, feeds };
        for (key, value) in group.labels.shared() {
            let values = self.labelled.entry(Arc::clone(key)).or_default();
            values.entry(Arc::clone(value)).or_default().insert(id);
        }
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = Some(group);
        }
        self.ids.insert(traits, id);
        self.note(id);
        id
    }

    /// Takes the pods that have this in common out of their group, which is no more if nobody is left in
    /// it.
    pub(super) fn leave(&mut self, common: CommonId) {
        let Some(alike) = self.alike.get_mut(common.place()) else { return };
        let (Some(id), place) = (alike.group.take(), alike.place) else { return };
        let slot = self.slots.get_mut(id.0 as usize);
        let Some(group) = slot.and_then(Option::as_mut) else { return };
        if (place as usize) < group.commons.len() {
            group.commons.swap_remove(place as usize);
        }
        if let Some(moved) = group.commons.get(place as usize)
            && let Some(alike) = self.alike.get_mut(moved.place())
        {
            alike.place = place;
        }
        if group.commons.is_empty()
            && let Some(gone) = self.slots.get_mut(id.0 as usize).and_then(Option::take)
        {
            self.dissolve(id, &gone);
        }
    }

    /// Forgets where a group was found.
    fn dissolve(&mut self, id: GroupId, group: &Group) {
        let traits = (group.namespace.clone(), group.labels.clone());
        self.ids.remove(&traits);
        self.free.push(id);
        for (key, value) in traits.1.iter() {
            let Some(values) = self.labelled.get_mut(key) else { continue };
            if let Some(groups) = values.get_mut(value) {
                groups.remove(&id);
                if groups.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.labelled.remove(key);
            }
        }
        self.namespaces.remove(group.namespace_id, id);
        self.note(id);
    }
}
