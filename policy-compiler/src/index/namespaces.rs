//! Namespaces by their labels, with the groups of pods in each: who asks for namespaces with a label is
//! told those that have it, and no other is looked at.
//!
//! A namespace is here for as long as it has groups. Namespaces have a number, by which lists of them are kept
//! in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definition::Values;
use super::groups::GroupId;
use crate::cluster::METADATA_NAME_LABEL;
use crate::labels::Labels;
use crate::lookup::Lookup;
use crate::name::NamespaceName;
use crate::selector::{Operator, Requirement, Selector};

/// The number of a namespace, for as long as it has groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NamespaceId(u32);

/// A namespace that has groups.
#[derive(Clone, Debug)]
pub(super) struct Populated {
    name: NamespaceName,
    pub(super) labels: Labels,
    /// Sorted.
    pub(super) groups: Vec<GroupId>,
}

/// The namespaces that have a label, by its value; each list is sorted.
#[derive(Clone, Debug, Default)]
struct Labelled {
    values: BTreeMap<Arc<str>, Vec<NamespaceId>>,
    count: usize,
}

/// All namespaces that have groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespaces {
    /// Only looked up, so that its order does not matter.
    ids: Lookup<NamespaceName, NamespaceId>,
    slots: Vec<Option<Populated>>,
    free: Vec<NamespaceId>,
    /// By the key of a label, but for the one with their name. Only looked up.
    labelled: Lookup<Arc<str>, Labelled>,
}

/// The namespaces that a selector means.
#[derive(Clone, Debug, Default)]
pub(super) struct Selected {
    /// Sorted.
    pub(super) namespaces: Vec<NamespaceId>,
    /// How many groups they have.
    pub(super) groups: usize,
    /// How many namespaces were looked at.
    pub(super) looked_at: usize,
}

impl Namespaces {
    pub(super) fn find(&self, name: &NamespaceName) -> Option<NamespaceId> {
        self.ids.get(name).copied()
    }

    pub(super) fn get(&self, id: NamespaceId) -> Option<&Populated> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, id: NamespaceId) -> Option<&mut Populated> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    /// A group is in a namespace, whose labels are asked for if it is the first.
    pub(super) fn add(
        &mut self,
        name: &NamespaceName,
        labels_of: impl FnOnce() -> Labels,
        group: GroupId,
    ) -> NamespaceId {
        let known = self.find(name);
        let id = known.unwrap_or_else(|| self.populate(name.clone(), labels_of()));
        if let Some(place) = self.get_mut(id) {
            insert(&mut place.groups, group);
        }
        id
    }

    fn populate(&mut self, name: NamespaceName, labels: Labels) -> NamespaceId {
        let next = NamespaceId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let id = self.free.pop().unwrap_or(next);
        if id == next {
            self.slots.push(None);
        }
        self.list(id, &labels);
        self.ids.insert(name.clone(), id);
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = Some(Populated { name, labels, groups: Vec::new() });
        }
        id
    }

    /// A group is in a namespace no more.
    pub(super) fn remove(&mut self, id: NamespaceId, group: GroupId) {
        let Some(place) = self.get_mut(id) else { return };
        remove(&mut place.groups, &group);
        if !place.groups.is_empty() {
            return;
        }
        let Some(gone) = self.slots.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.ids.remove(&gone.name);
        self.unlist(id, &gone.labels);
        self.free.push(id);
    }

    /// A namespace has these labels now; which it had, if they are others.
    pub(super) fn relabel(&mut self, id: NamespaceId, labels: &Labels) -> Option<Labels> {
        let place = self.get_mut(id)?;
        if place.labels == *labels {
            return None;
        }
        let before = std::mem::replace(&mut place.labels, labels.clone());
        self.unlist(id, &before);
        self.list(id, labels);
        Some(before)
    }

    fn list(&mut self, id: NamespaceId, labels: &Labels) {
        for (key, value) in labels.shared().filter(|(key, _)| is_listed(key)) {
            let labelled = self.labelled.entry(Arc::clone(key)).or_default();
            insert(labelled.values.entry(Arc::clone(value)).or_default(), id);
            labelled.count += 1;
        }
    }

    fn unlist(&mut self, id: NamespaceId, labels: &Labels) {
        for (key, value) in labels.shared().filter(|(key, _)| is_listed(key)) {
            let Some(labelled) = self.labelled.get_mut(key) else { continue };
            if let Some(list) = labelled.values.get_mut(value) {
                remove(list, &id);
                labelled.count -= 1;
                if list.is_empty() {
                    labelled.values.remove(value);
                }
            }
            if labelled.values.is_empty() {
                self.labelled.remove(key);
            }
        }
    }

    /// The namespaces that `selector` means: looked for among those that have one of the labels that it
    /// asks for, whichever is the rarest, and among all where it asks for none.
    pub(super) fn selected(&self, selector: &Selector) -> Selected {
        let mut candidates = match self.rarest(selector) {
            Some((_, requirement)) => self.having(requirement),
            None => self.all(),
        };
        let looked_at = candidates.len();
        let mut groups = 0;
        candidates.retain(|id| {
            let meant = self.get(*id).filter(|place| selector.matches(&place.labels));
            groups += meant.map_or(0, |place| place.groups.len());
            meant.is_some()
        });
        candidates.sort();
        Selected { namespaces: candidates, groups, looked_at }
    }

    /// How many namespaces are looked at to find those that `selector` means.
    pub(super) fn at_most(&self, selector: &Selector) -> usize {
        self.rarest(selector).map_or(self.ids.len(), |(count, _)| count)
    }

    /// Of the labels that a selector asks for the one that the fewest have, and how many that are.
    fn rarest<'s>(&self, selector: &'s Selector) -> Option<(usize, &'s Requirement)> {
        let asked = selector.requirements();
        let asked = asked.filter_map(|requirement| Some((self.count(requirement)?, requirement)));
        asked.min_by_key(|(count, _)| *count)
    }

    /// How many namespaces at most have the label that is asked for; `None` where those are asked for that
    /// have it not.
    fn count(&self, requirement: &Requirement) -> Option<usize> {
        match &requirement.operator {
            Operator::In(values) => Some(self.having_one((&requirement.key, values))),
            Operator::Exists if is_listed(&requirement.key) => {
                Some(self.labelled.get(&requirement.key).map_or(0, |labelled| labelled.count))
            }
            Operator::Exists => Some(self.ids.len()),
            Operator::NotIn(_) | Operator::DoesNotExist => None,
        }
    }

    /// How many namespaces at most have one of some values of a label.
    pub(super) fn having_one(&self, (key, values): Values<'_>) -> usize {
        if !is_listed(key) {
            return values.len();
        }
        let Some(labelled) = self.labelled.get(key) else { return 0 };
        values.iter().filter_map(|value| labelled.values.get(value)).map(Vec::len).sum()
    }

    /// The namespaces with the label that is asked for, and perhaps others.
    fn having(&self, requirement: &Requirement) -> Vec<NamespaceId> {
        let labelled = self.labelled.get(&requirement.key);
        let lists = labelled.map(|labelled| &labelled.values);
        match &requirement.operator {
            Operator::In(values) if is_listed(&requirement.key) => {
                values.iter().filter_map(|value| lists?.get(value)).flatten().copied().collect()
            }
            Operator::In(names) => {
                let names = names.iter().filter_map(|name| NamespaceName::new(name).ok());
                names.filter_map(|name| self.find(&name)).collect()
            }
            Operator::Exists if is_listed(&requirement.key) => {
                lists.into_iter().flat_map(BTreeMap::values).flatten().copied().collect()
            }
            Operator::Exists | Operator::NotIn(_) | Operator::DoesNotExist => self.all(),
        }
    }

    fn all(&self) -> Vec<NamespaceId> {
        let slots = (0..).map(NamespaceId).zip(&self.slots);
        slots.filter_map(|(id, slot)| slot.as_ref().map(|_| id)).collect()
    }
}

/// Whether namespaces are listed by a label. Each has another value of the one with its name.
fn is_listed(key: &str) -> bool {
    key != METADATA_NAME_LABEL
}

/// Puts one to others that are sorted.
fn insert<T: Ord>(sorted: &mut Vec<T>, one: T) {
    if let Err(at) = sorted.binary_search(&one) {
        sorted.insert(at, one);
    }
}

/// Takes one out of others that are sorted.
fn remove<T: Ord>(sorted: &mut Vec<T>, one: &T) {
    if let Ok(at) = sorted.binary_search(one) {
        sorted.remove(at);
    }
}
