//! Pods by namespace and by those of their labels that some definition asks about.
//!
//! Whatever a selector says of one pod of a group it says of all of them. There are as many groups as
//! kinds of pods, however many pods there are. A group has no pods of its own: it has those of workloads
//! that cannot be told apart, so that to group pods takes a look at each workload and none at a pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::memberships::MembershipId;
use super::pods::{CommonId, PodId};
use crate::labels::Labels;
use crate::lookup::Lookup;
use crate::name::NamespaceName;
use crate::packed::Common;

/// A group, for as long as it has pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(u32);

/// Pods that no selector tells apart.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Where they are.
    pub(super) namespace: NamespaceName,
    /// Those of their labels that are asked about.
    pub(super) labels: Labels,
    /// What they have in common, for each of their workloads.
    pub(super) commons: Vec<CommonId>,
    /// The memberships that they belong to, sorted.
    pub(super) feeds: Arc<[MembershipId]>,
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
    of_namespace: BTreeMap<NamespaceName, BTreeSet<GroupId>>,
    /// Only looked up.
    labelled: Lookup<Arc<str>, Lookup<Arc<str>, BTreeSet<GroupId>>>,
    /// No groups.
    none: BTreeSet<GroupId>,
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
    pub(super) fn of_common(&self, common: CommonId) -> Option<&Group> {
        self.get(self.id_of(common)?)
    }

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

    /// The groups of each namespace that has any.
    pub(super) fn namespaces(&self) -> &BTreeMap<NamespaceName, BTreeSet<GroupId>> {
        &self.of_namespace
    }

    /// The groups of a namespace.
    pub(super) fn of_namespace(&self, namespace: &NamespaceName) -> &BTreeSet<GroupId> {
        self.of_namespace.get(namespace).unwrap_or(&self.none)
    }

    /// The groups whose pods have this label.
    pub(super) fn labelled(&self, key: &str, value: &str) -> &BTreeSet<GroupId> {
        let groups = self.labelled.get(key).and_then(|values| values.get(value));
        groups.unwrap_or(&self.none)
    }

    /// Puts the pods that have this in common into their group; says which, and whether there was none
    /// before.
    pub(super) fn join(&mut self, common: &Common, common_id: CommonId) -> (GroupId, bool) {
        let traits = (common.namespace.clone(), common.labels.only(&self.asked));
        let known = self.ids.get(&traits).copied();
        let id = known.unwrap_or_else(|| self.found(traits));
        let Some(group) = self.slots.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return (id, false);
        };
        group.commons.push(common_id);
        if let Some(alike) = self.alike.get_mut(common_id.place()) {
            let place = u32::try_from(group.commons.len() - 1).unwrap_or(u32::MAX);
            (alike.group, alike.place) = (Some(id), place);
        }
        (id, known.is_none())
    }

    /// Makes a group.
    fn found(&mut self, traits: (NamespaceName, Labels)) -> GroupId {
        let (namespace, labels) = traits.clone();
        let (commons, feeds) = (Vec::new(), Arc::default());
        let group = Group { namespace: namespace.clone(), labels, commons, feeds };
        let next = GroupId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let id = self.free.pop().unwrap_or(next);
        if id == next {
            self.slots.push(None);
        }
        for (key, value) in group.labels.shared() {
            let values = self.labelled.entry(Arc::clone(key)).or_default();
            values.entry(Arc::clone(value)).or_default().insert(id);
        }
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = Some(group);
        }
        self.of_namespace.entry(namespace).or_default().insert(id);
        self.ids.insert(traits, id);
        id
    }

    /// Takes the pods that have this in common out of their group; says which that was, and the group
    /// itself if nobody is left in it.
    pub(super) fn leave(&mut self, common: CommonId) -> Option<(GroupId, Option<Group>)> {
        let alike = self.alike.get_mut(common.place())?;
        let (id, place) = (alike.group.take()?, alike.place);
        let group = self.slots.get_mut(id.0 as usize)?.as_mut()?;
        if (place as usize) < group.commons.len() {
            group.commons.swap_remove(place as usize);
        }
        if let Some(moved) = group.commons.get(place as usize)
            && let Some(alike) = self.alike.get_mut(moved.place())
        {
            alike.place = place;
        }
        if !group.commons.is_empty() {
            return Some((id, None));
        }
        let group = self.slots.get_mut(id.0 as usize)?.take()?;
        self.dissolve(id, &group);
        Some((id, Some(group)))
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
        if let Some(groups) = self.of_namespace.get_mut(&traits.0) {
            groups.remove(&id);
            if groups.is_empty() {
                self.of_namespace.remove(&traits.0);
            }
        }
    }
}
