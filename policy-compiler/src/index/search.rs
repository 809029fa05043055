//! Which groups a definition means: looked for among as few as can be told apart beforehand, and kept,
//! so that afterwards only groups that changed are compared.
//!
//! Definitions that mean the same namespaces share the search for these, for as long as no group changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::definition::{PodDefinition, Scope};
use super::groups::{Group, GroupId, Groups, Moment};
use super::namespaces::Selected;
use crate::lookup::Lookup;
use crate::selector::Selector;

/// The groups that a definition meant.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// When.
    then: Moment,
    /// Sorted.
    pub(super) groups: Vec<GroupId>,
}

impl Found {
    /// Whether no group has changed since.
    pub(super) fn is_of(&self, groups: &Groups) -> bool {
        self.then == groups.now()
    }
}

/// What was found out so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// When.
    then: Moment,
    /// Only looked up, so that its order does not matter.
    selected: Lookup<Selector, Arc<Selected>>,
    /// How often a definition was compared with a group or with a namespace.
    pub(super) compared: usize,
}

impl Search {
    /// The groups that a definition means, which meant these before, if that is known.
    pub(super) fn follow(
        &mut self,
        found: Option<Found>,
        definition: &PodDefinition,
        groups: &Groups,
    ) -> Found {
        let then = groups.now();
        let changed = found.as_ref().and_then(|found| groups.changed_since(found.then));
        let (Some(mut found), Some(changed)) = (found, changed) else {
            return Found { then, groups: self.find(definition, groups) };
        };
        found.then = then;
        if changed.is_empty() {
            return found;
        }
        let changed: BTreeSet<GroupId> = changed.iter().copied().collect();
        found.groups.retain(|id| !changed.contains(id));
        let there = changed.into_iter().filter_map(|id| Some((id, groups.get(id)?)));
        for (id, group) in there {
            self.compared += 1;
            if means(definition, group, groups) {
                found.groups.push(id);
            }
        }
        found.groups.sort();
        found
    }

    /// The groups that a definition means, in their order.
    fn find(&mut self, definition: &PodDefinition, groups: &Groups) -> Vec<GroupId> {
        if let Scope::Matching(selector) = &definition.scope
            && groups.namespaces().at_most(selector) <= count_labelled(definition, groups)
        {
            let selected = self.select(selector, groups);
            return self.find_within(&selected, definition, groups);
        }
        let candidates = candidates(definition, groups);
        self.compared += candidates.len();
        let meant = |id: &GroupId| groups.get(*id).is_some_and(|g| means(definition, g, groups));
        sorted(candidates.into_iter().filter(meant).collect())
    }

    /// The same, in namespaces that were found before.
    fn find_within(
        &mut self,
        selected: &Selected,
        definition: &PodDefinition,
        groups: &Groups,
    ) -> Vec<GroupId> {
        let is_meant = |group: &Group| definition.pods.matches(&group.labels);
        if selected.groups <= count_labelled(definition, groups) {
            self.compared += selected.groups;
            let namespaces = selected.namespaces.iter();
            let namespaces = namespaces.filter_map(|id| groups.namespaces().get(*id));
            let there = namespaces.flat_map(|namespace| &namespace.groups).copied();
            return sorted(there.filter(|id| groups.get(*id).is_some_and(is_meant)).collect());
        }
        let candidates = candidates(definition, groups);
        self.compared += candidates.len();
        let is_there = |group: &Group| selected.namespaces.binary_search(&group.namespace_id);
        let meant = |group: &Group| is_there(group).is_ok() && is_meant(group);
        sorted(candidates.into_iter().filter(|id| groups.get(*id).is_some_and(meant)).collect())
    }

    /// The namespaces that a selector means.
    fn select(&mut self, selector: &Selector, groups: &Groups) -> Arc<Selected> {
        if self.then != groups.now() {
            self.forget();
            self.then = groups.now();
        }
        if let Some(known) = self.selected.get(selector) {
            return Arc::clone(known);
        }
        let selected = Arc::new(groups.namespaces().selected(selector));
        self.compared += selected.looked_at;
        self.selected.insert(selector.clone(), Arc::clone(&selected));
        selected
    }

    /// Forgets what was found out of namespaces.
    pub(super) fn forget(&mut self) {
        self.selected = Lookup::default();
    }
}

fn sorted(mut groups: Vec<GroupId>) -> Vec<GroupId> {
    groups.sort();
    groups.dedup();
    groups
}

/// Whether a definition means a group.
fn means(definition: &PodDefinition, group: &Group, groups: &Groups) -> bool {
    definition.means(&group.namespace, || groups.namespace_labels(group), &group.labels)
}

/// How many groups have the label that a definition asks for.
fn count_labelled(definition: &PodDefinition, groups: &Groups) -> usize {
    definition.value_asked().map_or(usize::MAX, |(key, values)| {
        values.iter().map(|value| groups.labelled(key, value).len()).sum()
    })
}

/// Groups among which all are that a definition means, by the name of their namespace and by the label
/// that it asks for.
fn candidates(definition: &PodDefinition, groups: &Groups) -> Vec<GroupId> {
    let named = match &definition.scope {
        Scope::Named(name) => Some(groups.of_namespace(name)),
        Scope::All | Scope::Matching(_) => None,
    };
    let Some((key, values)) = definition.value_asked() else {
        return named
            .map_or_else(|| groups.iter().map(|(group, _)| group).collect(), <[GroupId]>::to_vec);
    };
    match named {
        Some(named) if named.len() <= count_labelled(definition, groups) => named.to_vec(),
        _ => values.iter().flat_map(|value| groups.labelled(key, value)).copied().collect(),
    }
}
