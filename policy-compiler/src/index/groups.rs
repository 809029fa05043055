//! Pods by namespace and by those of their labels that some definition asks about.
//!
//! Whatever a selector says of one pod of a group it says of all of them. There are as many groups as
//! kinds of pods, however many pods there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::memberships::MembershipId;
use super::pods::PodId;
use crate::cluster::Pod;
use crate::labels::Labels;
use crate::lookup::Lookup;
use crate::name::NamespaceName;

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
    /// Which they are.
    pub(super) pods: Vec<PodId>,
    /// The memberships that they belong to, sorted.
    pub(super) feeds: Arc<[MembershipId]>,
}

/// All groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
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

    /// Whether two pods are, or would be, in one group.
    pub(super) fn are_alike(&self, one: &Pod, other: &Pod) -> bool {
        one.key.namespace == other.key.namespace
            && self.asked.iter().all(|label| one.labels.get(label) == other.labels.get(label))
    }

    /// All groups, with their pods.
    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let slots = (0..).map(GroupId).zip(&self.slots);
        slots.filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
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

    /// Puts a pod into its group; says which, its place there, and whether there was none before.
    pub(super) fn join(&mut self, pod: &Pod, pod_id: PodId) -> (GroupId, usize, bool) {
        let traits = self.traits(pod);
        if let Some(id) = self.ids.get(&traits).copied()
            && let Some(group) = self.get_mut(id)
        {
            group.pods.push(pod_id);
            return (id, group.pods.len() - 1, false);
        }
        let (namespace, labels) = traits.clone();
        let (pods, feeds) = (vec![pod_id], Arc::default());
        let group = Group { namespace: namespace.clone(), labels, pods, feeds };
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
        (id, 0, true)
    }

    /// Takes the pod out that has this place in a group; says who has it now, if anyone, and the group if
    /// it was the last.
    pub(super) fn leave(&mut self, id: GroupId, place: usize) -> (Option<PodId>, Option<Group>) {
        let Some(group) = self.get_mut(id) else { return (None, None) };
        if place < group.pods.len() {
            group.pods.swap_remove(place);
        }
        if !group.pods.is_empty() {
            return (group.pods.get(place).copied(), None);
        }
        let group = self.slots.get_mut(id.0 as usize).and_then(Option::take);
        let Some(group) = group else { return (None, None) };
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
        (None, Some(group))
    }

    fn traits(&self, pod: &Pod) -> (NamespaceName, Labels) {
        (pod.key.namespace.clone(), pod.labels.only(&self.asked))
    }
}
