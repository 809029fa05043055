//! Definitions by what a pod must have for them to mean it: a group that is new is compared with the
//! few that may mean it, however many there are.

use std::sync::Arc;

use super::definition::{PodDefinition, Scope};
use super::groups::Group;
use super::memberships::MembershipId;
use crate::labels::Labels;
use crate::lookup::Lookup;
use crate::name::NamespaceName;

/// A definition of a membership.
#[derive(Clone, Debug)]
struct Entry {
    id: MembershipId,
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
    let is_it = |e: &Entry| e.id == entry.id && e.definition == entry.definition;
    if let Some(at) = place.iter().position(is_it) {
        place.swap_remove(at);
    }
}

/// The definitions of all memberships.
#[derive(Clone, Debug, Default)]
pub(super) struct Asking {
    /// Those in one namespace, by that. Only looked up.
    named: Lookup<NamespaceName, ByLabel>,
    /// The others.
    anywhere: ByLabel,
}

impl Asking {
    pub(super) fn add(&mut self, id: MembershipId, definition: &Arc<PodDefinition>) {
        let entry = Entry { id, definition: Arc::clone(definition) };
        match &definition.scope {
            Scope::Named(name) => self.named.entry(name.clone()).or_default().add(&entry),
            Scope::All | Scope::Matching(_) => self.anywhere.add(&entry),
        }
    }

    pub(super) fn remove(&mut self, id: MembershipId, definition: &Arc<PodDefinition>) {
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

    /// Calls `found` for each definition that means a group, and returns how many were compared. A
    /// membership may be found more than once.
    pub(super) fn of(
        &self,
        group: &Group,
        namespace_labels: &Labels,
        found: &mut dyn FnMut(MembershipId),
    ) -> usize {
        let named = self.named.get(&group.namespace);
        let places = named.into_iter().chain([&self.anywhere]);
        let mut compared = 0;
        for Entry { id, definition } in places.flat_map(|place| place.candidates(&group.labels)) {
            compared += 1;
            if definition.means(&group.namespace, namespace_labels, &group.labels) {
                found(*id);
            }
        }
        compared
    }
}
