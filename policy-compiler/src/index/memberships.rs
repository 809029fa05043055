//! Which groups rules mean, and which addresses have joined or left since that was last taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::asking::Asking;
use super::definition::{PodDefinition, Scope};
use super::groups::{Group, GroupId, Groups};
use crate::labels::Labels;
use crate::lookup::Lookup;
use crate::name::NamespaceName;
use crate::selector::Selector;

/// A membership, for as long as it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MembershipId(usize);

/// Definitions united.
pub(crate) type Definitions = BTreeSet<Arc<PodDefinition>>;

/// What has come about since it was last taken: never one address in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    /// Addresses that are members now and were not.
    pub(crate) joined: BTreeSet<IpAddr>,
    /// Addresses that were members and are not now.
    pub(crate) left: BTreeSet<IpAddr>,
}

impl Delta {
    pub(super) fn join(&mut self, address: IpAddr) {
        if !self.left.remove(&address) {
            self.joined.insert(address);
        }
    }

    pub(super) fn leave(&mut self, address: IpAddr) {
        if !self.joined.remove(&address) {
            self.left.insert(address);
        }
    }

    /// What has come about of an address was taken.
    pub(super) fn settle(&mut self, address: IpAddr) {
        self.joined.remove(&address);
        self.left.remove(&address);
    }

    /// Whether nothing has come about.
    pub(crate) fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty()
    }
}

/// The pods that some definitions together mean.
#[derive(Clone, Debug)]
struct Membership {
    definitions: Arc<Definitions>,
    groups: BTreeSet<GroupId>,
    delta: Delta,
}

/// All memberships that are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Memberships {
    ids: BTreeMap<Arc<Definitions>, MembershipId>,
    slots: Vec<Option<Membership>>,
    free: Vec<MembershipId>,
    asking: Asking,
    /// Labels of namespaces, as far as they were asked for. Only looked up.
    labels: Lookup<NamespaceName, Labels>,
    /// Those with a delta.
    changed: BTreeSet<MembershipId>,
    /// How often a definition was compared with a group.
    compared: usize,
}

impl Memberships {
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn find(&self, definitions: &Definitions) -> Option<MembershipId> {
        self.ids.get(definitions).copied()
    }

    fn get(&self, id: MembershipId) -> Option<&Membership> {
        self.slots.get(id.0)?.as_ref()
    }

    fn get_mut(&mut self, id: MembershipId) -> Option<&mut Membership> {
        self.slots.get_mut(id.0)?.as_mut()
    }

    /// How often a definition was compared with a group since this was last asked.
    pub(super) fn take_compared(&mut self) -> usize {
        std::mem::take(&mut self.compared)
    }

    /// Adds one that is not there, and makes the groups feed it that it means.
    pub(super) fn add(
        &mut self,
        definitions: Arc<Definitions>,
        groups: &mut Groups,
        labels_of: &dyn Fn(&NamespaceName) -> Labels,
    ) -> MembershipId {
        let id = self.free.pop().unwrap_or(MembershipId(self.slots.len()));
        if id.0 == self.slots.len() {
            self.slots.push(None);
        }
        let mut meant = Vec::new();
        for definition in &*definitions {
            let (number, is_new) = self.asking.add(id, definition);
            let found = is_new.then(|| self.find_groups(definition, groups, labels_of));
            let Some(defined) = self.asking.get_mut(number) else { continue };
            if let Some(found) = found {
                defined.groups = found;
            }
            meant.extend(&defined.groups);
        }
        let meant: BTreeSet<GroupId> = meant.into_iter().collect();
        for group in &meant {
            let Some(group) = groups.get_mut(*group) else { continue };
            let at = group.feeds.partition_point(|other| *other < id);
            let (before, after) = group.feeds.split_at(at);
            group.feeds = [before, &[id], after].concat().into();
        }
        self.ids.insert(Arc::clone(&definitions), id);
        self.slots[id.0] = Some(Membership { definitions, groups: meant, delta: Delta::default() });
        id
    }

    /// The groups that a definition means which no membership had.
    fn find_groups(
        &mut self,
        definition: &PodDefinition,
        groups: &Groups,
        labels_of: &dyn Fn(&NamespaceName) -> Labels,
    ) -> BTreeSet<GroupId> {
        if let Scope::Matching(selector) = &definition.scope
            && groups.namespaces().len() < count_labelled(definition, groups)
        {
            return self.find_by_namespace(selector, &definition.pods, groups, labels_of);
        }
        let mut found = BTreeSet::new();
        for id in candidates(definition, groups) {
            let Some(group) = groups.get(id) else { continue };
            self.compared += 1;
            let (known, name) = (&mut self.labels, &group.namespace);
            let meant = means(definition, group, || {
                known.entry(name.clone()).or_insert_with(|| labels_of(name))
            });
            if meant {
                found.insert(id);
            }
        }
        found
    }

    /// The groups with such labels in namespaces with such labels, each of which is looked at once
    /// however many groups it has.
    fn find_by_namespace(
        &mut self,
        namespaces: &Selector,
        pods: &Selector,
        groups: &Groups,
        labels_of: &dyn Fn(&NamespaceName) -> Labels,
    ) -> BTreeSet<GroupId> {
        let mut found = Vec::new();
        for (name, here) in groups.namespaces() {
            self.compared += 1;
            let labels = self.labels.entry(name.clone()).or_insert_with(|| labels_of(name));
            if !namespaces.matches(labels) {
                continue;
            }
            self.compared += here.len();
            let meant = |id: &GroupId| groups.get(*id).is_some_and(|g| pods.matches(&g.labels));
            found.extend(here.iter().copied().filter(meant));
        }
        found.into_iter().collect()
    }

    /// A namespace may have other labels than it had.
    pub(super) fn relabelled(&mut self, namespace: &NamespaceName) {
        self.labels.remove(namespace);
    }

    /// Lets a new group feed those that mean it.
    pub(super) fn admit(&mut self, id: GroupId, group: &mut Group, namespace_labels: &Labels) {
        let feeds = self.that_mean(id, group, namespace_labels);
        for membership in feeds.iter() {
            if let Some(entry) = self.get_mut(*membership) {
                entry.groups.insert(id);
            }
        }
        group.feeds = feeds;
    }

    /// A group is no more.
    pub(super) fn dismiss(&mut self, id: GroupId, group: &Group) {
        for number in self.asking.candidates(group) {
            if let Some(defined) = self.asking.get_mut(number) {
                defined.groups.remove(&id);
            }
        }
        for membership in group.feeds.iter() {
            if let Some(entry) = self.get_mut(*membership) {
                entry.groups.remove(&id);
            }
        }
    }

    /// Judges a group anew whose namespace has other labels now: those that it begins to feed, and
    /// those that it ceases to.
    pub(super) fn judge(
        &mut self,
        id: GroupId,
        group: &mut Group,
        namespace_labels: &Labels,
    ) -> (Vec<MembershipId>, Vec<MembershipId>) {
        let feeds = self.that_mean(id, group, namespace_labels);
        let less = |these: &[MembershipId], those: &[MembershipId]| -> Vec<MembershipId> {
            these.iter().filter(|id| those.binary_search(id).is_err()).copied().collect()
        };
        let (begun, ceased) = (less(&feeds, &group.feeds), less(&group.feeds, &feeds));
        for membership in &begun {
            if let Some(entry) = self.get_mut(*membership) {
                entry.groups.insert(id);
            }
        }
        for membership in &ceased {
            if let Some(entry) = self.get_mut(*membership) {
                entry.groups.remove(&id);
            }
        }
        group.feeds = feeds;
        (begun, ceased)
    }

    pub(super) fn groups(&self, id: MembershipId) -> impl Iterator<Item = GroupId> + '_ {
        self.get(id).into_iter().flat_map(|entry| entry.groups.iter().copied())
    }

    pub(super) fn join(&mut self, id: MembershipId, address: IpAddr) {
        self.changed.insert(id);
        if let Some(entry) = self.get_mut(id) {
            entry.delta.join(address);
        }
    }

    pub(super) fn leave(&mut self, id: MembershipId, address: IpAddr) {
        self.changed.insert(id);
        if let Some(entry) = self.get_mut(id) {
            entry.delta.leave(address);
        }
    }

    /// What has come about since it was last taken.
    pub(super) fn delta(&self, id: MembershipId) -> Option<&Delta> {
        self.get(id).map(|entry| &entry.delta)
    }

    /// What has come about of an address was taken.
    pub(super) fn settle(&mut self, id: MembershipId, address: IpAddr) {
        if let Some(entry) = self.get_mut(id) {
            entry.delta.settle(address);
        }
    }

    /// What has come about since the deltas were last forgotten.
    pub(super) fn deltas(&self) -> impl Iterator<Item = (MembershipId, &Delta)> {
        let changed = self.changed.iter();
        changed
            .filter_map(|id| Some((*id, &self.get(*id)?.delta)))
            .filter(|(_, delta)| !delta.is_empty())
    }

    pub(super) fn forget_deltas(&mut self) {
        for id in std::mem::take(&mut self.changed) {
            if let Some(entry) = self.get_mut(id) {
                entry.delta = Delta::default();
            }
        }
    }

    /// Drops all but these.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<MembershipId>, groups: &mut Groups) {
        let gone: Vec<MembershipId> =
            self.ids.values().filter(|id| !wanted.contains(id)).copied().collect();
        for id in gone {
            let Some(entry) = self.slots.get_mut(id.0).and_then(Option::take) else { continue };
            self.ids.remove(&entry.definitions);
            self.changed.remove(&id);
            for definition in &*entry.definitions {
                self.asking.remove(id, definition);
            }
            for group in entry.groups {
                if let Some(group) = groups.get_mut(group) {
                    group.feeds = group.feeds.iter().copied().filter(|of| *of != id).collect();
                }
            }
            self.free.push(id);
        }
    }

    /// The labels of pods that some definition asks about.
    pub(super) fn asked(&self) -> BTreeSet<Arc<str>> {
        self.asking.asked()
    }

    /// There are no groups any more; they will be admitted anew, with the same pods.
    pub(super) fn forget_groups(&mut self) {
        for entry in self.slots.iter_mut().flatten() {
            entry.groups.clear();
        }
        self.asking.forget_groups();
    }

    /// Those that mean a group.
    fn that_mean(
        &mut self,
        id: GroupId,
        group: &Group,
        namespace_labels: &Labels,
    ) -> Arc<[MembershipId]> {
        let mut feeds = Vec::new();
        let candidates = self.asking.candidates(group);
        self.compared += candidates.len();
        for number in candidates {
            let Some(defined) = self.asking.get_mut(number) else { continue };
            if means(&defined.definition, group, || namespace_labels) {
                defined.groups.insert(id);
                feeds.extend(&defined.memberships);
            } else {
                defined.groups.remove(&id);
            }
        }
        feeds.sort_unstable();
        feeds.dedup();
        feeds.into()
    }
}

/// Whether a definition means a group, the labels of whose namespace are asked for where they matter.
fn means<'l>(
    definition: &PodDefinition,
    group: &Group,
    labels: impl FnOnce() -> &'l Labels,
) -> bool {
    definition.means(&group.namespace, labels, &group.labels)
}

/// How many groups have the label that a definition asks for.
fn count_labelled(definition: &PodDefinition, groups: &Groups) -> usize {
    definition.value_asked().map_or(usize::MAX, |(key, values)| {
        values.iter().map(|value| groups.labelled(key, value).len()).sum()
    })
}

/// Groups among which all are that a definition means: as few as can be told apart.
fn candidates(definition: &PodDefinition, groups: &Groups) -> Vec<GroupId> {
    let named = match &definition.scope {
        Scope::Named(name) => Some(groups.of_namespace(name)),
        Scope::All | Scope::Matching(_) => None,
    };
    let Some((key, values)) = definition.value_asked() else {
        return named.map_or_else(
            || groups.iter().map(|(group, _)| group).collect(),
            |groups| groups.iter().copied().collect(),
        );
    };
    let labelled = || values.iter().map(|value| groups.labelled(key, value));
    match named {
        Some(named) if named.len() <= labelled().map(BTreeSet::len).sum() => {
            named.iter().copied().collect()
        }
        _ => labelled().flatten().copied().collect(),
    }
}
