//! Definitions by what a pod must have for them to mean it: a group that is new is compared with the
//! few that may mean it, however many there are.
//!
//! Each is kept once, with the groups that it was found to mean: a membership that is new compares only
//! those of its definitions with groups that no other has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::definition::{PodDefinition, Scope};
use super::groups::Group;
use super::memberships::MembershipId;
use super::search::Found;
use crate::labels::Labels;
use crate::lookup::Lookup;
use crate::name::NamespaceName;

/// The number of a definition, for as long as a membership has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DefinitionId(usize);

/// A definition of memberships.
#[derive(Clone, Debug)]
pub(super) struct Defined {
    pub(super) definition: Arc<PodDefinition>,
    /// Those that have it, sorted.
    pub(super) memberships: Vec<MembershipId>,
    /// The groups that it means, as far as that was asked.
    pub(super) found: Option<Found>,
}

/// A definition where it is looked for.
#[derive(Clone, Debug)]
struct Entry {
    id: DefinitionId,
    definition: Arc<PodDefinition>,
}

/// Definitions by a label of which they ask for a value. Only looked up, so that no order of it matters.
#[derive(Clone, Debug, Default)]
struct ByLabel {
    /// Those that ask for one, by each value that they take.
    labelled: Lookup<Arc<str>, Lookup<Arc<str>, Vec<Entry>>>,
    /// Those that do not.
    others: Vec<Entry>,
}

impl ByLabel {
    fn add(&mut self, entry: &Entry) {
        let Some((key, values)) = entry.definition.value_asked() else {
            return self.others.push(entry.clone());
        };
        let places = self.labelled.entry(Arc::clone(key)).or_default();
        for value in values {
            places.entry(Arc::clone(value)).or_default().push(entry.clone());
        }
    }

    fn remove(&mut self, entry: &Entry) {
        let Some((key, values)) = entry.definition.value_asked() else {
            return remove(&mut self.others, entry);
        };
        let Some(places) = self.labelled.get_mut(key) else { return };
        for value in values {
            if let Some(place) = places.get_mut(value) {
                remove(place, entry);
                if place.is_empty() {
                    places.remove(value);
                }
            }
        }
        if places.is_empty() {
            self.labelled.remove(key);
        }
    }

    fn is_empty(&self) -> bool {
        self.labelled.is_empty() && self.others.is_empty()
    }

    /// Among which all are that mean pods with these labels.
    fn candidates<'s>(&'s self, labels: &'s Labels) -> impl Iterator<Item = &'s Entry> {
        let asked = labels.iter().filter_map(|(key, value)| self.labelled.get(key)?.get(value));
        asked.flatten().chain(&self.others)
    }
}

fn remove(place: &mut Vec<Entry>, entry: &Entry) {
    if let Some(at) = place.iter().position(|e| e.id == entry.id) {
        place.swap_remove(at);
    }
}

/// The definitions of all memberships.
#[derive(Clone, Debug, Default)]
pub(super) struct Asking {
    ids: BTreeMap<Arc<PodDefinition>, DefinitionId>,
    slots: Vec<Option<Defined>>,
    free: Vec<DefinitionId>,
    /// Those in one namespace, by that. Only looked up.
    named: Lookup<NamespaceName, ByLabel>,
    /// The others.
    anywhere: ByLabel,
}

impl Asking {
    pub(super) fn get(&self, id: DefinitionId) -> Option<&Defined> {
        self.slots.get(id.0)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: DefinitionId) -> Option<&mut Defined> {
        self.slots.get_mut(id.0)?.as_mut()
    }

    /// Lets a membership have a definition.
    pub(super) fn add(
        &mut self,
        membership: MembershipId,
        definition: &Arc<PodDefinition>,
    ) -> DefinitionId {
        if let Some(id) = self.ids.get(definition).copied() {
            if let Some(defined) = self.get_mut(id) {
                let at = defined.memberships.partition_point(|other| *other < membership);
                defined.memberships.insert(at, membership);
            }
            return id;
        }
        let id = self.free.pop().unwrap_or(DefinitionId(self.slots.len()));
        if id.0 == self.slots.len() {
            self.slots.push(None);
        }
        let definition = Arc::clone(definition);
        self.ids.insert(Arc::clone(&definition), id);
        let entry = Entry { id, definition: Arc::clone(&definition) };
        match &definition.scope {
            Scope::Named(name) => self.named.entry(name.clone()).or_default().add(&entry),
            Scope::All | Scope::Matching(_) => self.anywhere.add(&entry),
        }
        let memberships = vec![membership];
        self.slots[id.0] = Some(Defined { definition, memberships, found: None });
        id
    }

    /// A membership has a definition no more.
    pub(super) fn remove(&mut self, membership: MembershipId, definition: &Arc<PodDefinition>) {
        let Some(id) = self.ids.get(definition).copied() else { return };
        let Some(defined) = self.get_mut(id) else { return };
        defined.memberships.retain(|other| *other != membership);
        if !defined.memberships.is_empty() {
            return;
        }
        self.ids.remove(definition);
        self.slots[id.0] = None;
        self.free.push(id);
        let entry = Entry { id, definition: Arc::clone(definition) };
        let Scope::Named(name) = &definition.scope else {
            return self.anywhere.remove(&entry);
        };
        if let Some(place) = self.named.get_mut(name) {
            place.remove(&entry);
            if place.is_empty() {
                self.named.remove(name);
            }
        }
    }

    /// The definitions among which all are that mean a group, whatever labels its namespace has.
    pub(super) fn candidates(&self, group: &Group) -> Vec<DefinitionId> {
        let named = self.named.get(&group.namespace);
        let places = named.into_iter().chain([&self.anywhere]);
        places.flat_map(|place| place.candidates(&group.labels)).map(|entry| entry.id).collect()
    }

    /// The labels of pods that some definition asks about.
    pub(super) fn asked(&self) -> BTreeSet<Arc<str>> {
        self.ids.keys().flat_map(|definition| definition.asked()).cloned().collect()
    }

    /// There are no groups any more.
    pub(super) fn forget_groups(&mut self) {
        for defined in self.slots.iter_mut().flatten() {
            defined.found = None;
        }
    }
}
