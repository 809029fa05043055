//! Definitions by what a pod must have for them to mean it: a group that is new is compared with the
//! few that may mean it, however many there are.
//!
//! Each is kept once, with the groups that it was found to mean: a membership that is new compares only
//! those of its definitions with groups that no other has.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::sync::Arc;

use super::definition::{PodDefinition, Scope, Values};
use super::groups::Group;
use super::memberships::MembershipId;
use super::namespaces::Namespaces;
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
    /// By which of the labels it is found that it asks of namespaces.
    label: Option<usize>,
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
    /// Whether it means every group that is told it by where it is.
    is_told: bool,
    /// By which of the labels it is found that it asks of namespaces: the one that the fewest had when it came.
    label: Option<usize>,
}

impl Entry {
    fn new(id: DefinitionId, definition: &Arc<PodDefinition>, namespaces: &Namespaces) -> Self {
        let is_told = definition.asks_for_values_alone();
        let asked = definition.namespace_values_asked().enumerate();
        let rarest = asked.min_by_key(|(_, values)| namespaces.having_one(*values));
        let label = rarest.map(|(label, _)| label);
        Self { id, definition: Arc::clone(definition), is_told, label }
    }

    /// The label of namespaces by which it is found, and the values.
    fn namespace_values(&self) -> Option<Values<'_>> {
        self.definition.namespace_values_asked().nth(self.label?)
    }
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

/// Takes a definition from those of a place, which is no more if it was the only one.
fn take_out<K: Eq + Hash>(places: &mut Lookup<K, ByLabel>, key: &K, entry: &Entry) {
    if let Some(place) = places.get_mut(key) {
        place.remove(entry);
        if place.is_empty() {
            places.remove(key);
        }
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
    /// Those in namespaces with a label, by each value of it that they take. Only looked up.
    labelled: Lookup<Arc<str>, Lookup<Arc<str>, ByLabel>>,
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
        namespaces: &Namespaces,
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
        let entry = Entry::new(id, &definition, namespaces);
        let label = entry.label;
        self.list(&entry);
        let memberships = vec![membership];
        self.slots[id.0] = Some(Defined { definition, label, memberships, found: None });
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
        let entry =
            Entry { id, definition: Arc::clone(definition), is_told: false, label: defined.label };
        self.ids.remove(definition);
        self.slots[id.0] = None;
        self.free.push(id);
        self.unlist(&entry);
    }

    /// Puts a definition where it is looked for.
    fn list(&mut self, entry: &Entry) {
        if let Scope::Named(name) = &entry.definition.scope {
            return self.named.entry(name.clone()).or_default().add(entry);
        }
        let Some((key, values)) = entry.namespace_values() else {
            return self.anywhere.add(entry);
        };
        let places = self.labelled.entry(Arc::clone(key)).or_default();
        for value in values {
            places.entry(Arc::clone(value)).or_default().add(entry);
        }
    }

    /// Takes a definition from where it is looked for.
    fn unlist(&mut self, entry: &Entry) {
        if let Scope::Named(name) = &entry.definition.scope {
            return take_out(&mut self.named, name, entry);
        }
        let Some((key, values)) = entry.namespace_values() else {
            return self.anywhere.remove(entry);
        };
        let Some(places) = self.labelled.get_mut(key) else { return };
        for value in values {
            take_out(places, value, entry);
        }
        if places.is_empty() {
            self.labelled.remove(key);
        }
    }

    /// The definitions that mean a group in a namespace with these labels, and how many were compared with it.
    pub(super) fn meaning(&self, group: &Group, namespace: &Labels) -> (Vec<&Defined>, usize) {
        let named = self.named.get(&group.namespace);
        let labelled =
            namespace.iter().filter_map(|(key, value)| self.labelled.get(key)?.get(value));
        let places = named.into_iter().chain(labelled).chain([&self.anywhere]);
        let (mut meaning, mut compared) = (Vec::new(), 0);
        for entry in places.flat_map(|place| place.candidates(&group.labels)) {
            compared += usize::from(!entry.is_told);
            let means = |definition: &PodDefinition| {
                definition.means(&group.namespace, || namespace, &group.labels)
            };
            if entry.is_told || means(&entry.definition) {
                meaning.extend(self.get(entry.id));
            }
        }
        (meaning, compared)
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
