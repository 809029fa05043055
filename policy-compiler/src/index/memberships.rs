//! Which memberships a group feeds, which groups feed a membership, and which addresses have joined or left
//! since that was last taken.
//!
//! Either is found out when it is asked, and kept: a group that comes or goes changes nothing here, nor
//! does a membership that comes change any group.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::asking::{Asking, DefinitionId};
use super::definition::PodDefinition;
use super::delta::Delta;
use super::groups::{GroupId, Groups};
use super::search::Search;
use crate::labels::Labels;

/// A membership, for as long as it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MembershipId(usize);

/// Definitions united.
pub(crate) type Definitions = BTreeSet<Arc<PodDefinition>>;

/// The memberships that a group was found to feed.
#[derive(Clone, Debug, Default)]
pub(super) struct Feeds {
    /// In which state of the memberships.
    state: u64,
    /// Sorted.
    memberships: Arc<[MembershipId]>,
}

/// The memberships that a group fed, and those that it feeds now.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    pub(super) was: Arc<[MembershipId]>,
    pub(super) is: Arc<[MembershipId]>,
}

impl Judged {
    /// Those that it begins to feed.
    pub(super) fn begun(&self) -> Vec<MembershipId> {
        without(&self.is, &self.was)
    }

    /// Those that it ceases to feed.
    pub(super) fn ceased(&self) -> Vec<MembershipId> {
        without(&self.was, &self.is)
    }
}

/// Those of some that are not among others, which are in their order.
fn without(some: &[MembershipId], others: &[MembershipId]) -> Vec<MembershipId> {
    some.iter().filter(|id| others.binary_search(id).is_err()).copied().collect()
}

/// The pods that some definitions together mean.
#[derive(Clone, Debug)]
struct Membership {
    definitions: Arc<Definitions>,
    /// Sorted.
    numbers: Box<[DefinitionId]>,
    delta: Delta,
}

/// All memberships that are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Memberships {
    ids: BTreeMap<Arc<Definitions>, MembershipId>,
    slots: Vec<Option<Membership>>,
    free: Vec<MembershipId>,
    asking: Asking,
    search: Search,
    /// Another one after every membership that came or went.
    state: u64,
    /// Those with a delta.
    changed: BTreeSet<MembershipId>,
    /// How often a definition was compared where nothing can be kept.
    compared: Counter,
}

/// What is counted by who may only read: an index can be shared.
#[derive(Debug, Default)]
struct Counter(AtomicUsize);

impl Counter {
    fn add(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn take(&mut self) -> usize {
        std::mem::take(self.0.get_mut())
    }
}

impl Clone for Counter {
    fn clone(&self) -> Self {
        Self(AtomicUsize::new(self.0.load(Ordering::Relaxed)))
    }
}

impl Memberships {
    pub(super) fn find(&self, definitions: &Definitions) -> Option<MembershipId> {
        self.ids.get(definitions).copied()
    }

    fn get(&self, id: MembershipId) -> Option<&Membership> {
        self.slots.get(id.0)?.as_ref()
    }

    fn get_mut(&mut self, id: MembershipId) -> Option<&mut Membership> {
        self.slots.get_mut(id.0)?.as_mut()
    }

    /// How often a definition was compared with a group or a namespace since this was last asked.
    pub(super) fn take_compared(&mut self) -> usize {
        std::mem::take(&mut self.search.compared) + self.compared.take()
    }

    /// Adds one that is not there.
    pub(super) fn add(&mut self, definitions: Arc<Definitions>, groups: &Groups) -> MembershipId {
        let id = self.free.pop().unwrap_or(MembershipId(self.slots.len()));
        if id.0 == self.slots.len() {
            self.slots.push(None);
        }
        self.state += 1;
        let numbers = definitions.iter();
        let numbers = numbers.map(|one| self.asking.add(id, one, groups.namespaces()));
        let mut numbers: Box<[DefinitionId]> = numbers.collect();
        numbers.sort();
        for number in &numbers {
            let Some(defined) = self.asking.get_mut(*number) else { continue };
            let found = self.search.follow(defined.found.take(), &defined.definition, groups);
            defined.found = Some(found);
        }
        self.ids.insert(Arc::clone(&definitions), id);
        self.slots[id.0] = Some(Membership { definitions, numbers, delta: Delta::default() });
        id
    }

    /// How many definitions one of two has and the other has not, and how many both have.
    pub(super) fn compared(&self, one: MembershipId, other: MembershipId) -> (usize, usize) {
        let [one, other] = [one, other].map(|id| self.get(id).map(|entry| &*entry.numbers));
        let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
        let shared = one.iter().filter(|number| other.binary_search(number).is_ok()).count();
        (one.len() + other.len() - 2 * shared, shared)
    }

    /// The groups that feed one, in their order.
    pub(super) fn groups(&self, id: MembershipId, groups: &Groups) -> Vec<GroupId> {
        let mut search = Search::default();
        let numbers = self.get(id).into_iter().flat_map(|entry| &entry.numbers);
        let mut all = Vec::new();
        for defined in numbers.filter_map(|number| self.asking.get(*number)) {
            match &defined.found {
                Some(found) if found.is_of(groups) => all.extend_from_slice(&found.groups),
                old => {
                    let found = search.follow(old.clone(), &defined.definition, groups);
                    all.extend(found.groups);
                }
            }
        }
        self.compared.add(search.compared);
        all.sort();
        all.dedup();
        all
    }

    /// The memberships that a group feeds, in their order.
    pub(super) fn fed_by(&mut self, id: GroupId, groups: &mut Groups) -> Arc<[MembershipId]> {
        let Some(group) = groups.get(id) else { return Arc::default() };
        if group.feeds.state == self.state {
            return Arc::clone(&group.feeds.memberships);
        }
        let (meaning, compared) = self.asking.meaning(group, groups.namespace_labels(group));
        self.search.compared += compared;
        let memberships = united(meaning.into_iter().flat_map(|defined| &defined.memberships));
        self.keep(id, groups, Arc::clone(&memberships));
        memberships
    }

    fn keep(&self, id: GroupId, groups: &mut Groups, memberships: Arc<[MembershipId]>) {
        if let Some(group) = groups.get_mut(id) {
            group.feeds = Feeds { state: self.state, memberships };
        }
    }

    /// Judges a group anew whose namespace had these labels before.
    pub(super) fn judge(&mut self, id: GroupId, groups: &mut Groups, before: &Labels) -> Judged {
        let Some(group) = groups.get(id) else { return Judged::default() };
        let labels = [before, groups.namespace_labels(group)];
        let [was, is] = labels.map(|labels| {
            let (meaning, compared) = self.asking.meaning(group, labels);
            self.search.compared += compared;
            united(meaning.into_iter().flat_map(|defined| &defined.memberships))
        });
        let judged = Judged { was, is };
        self.keep(id, groups, Arc::clone(&judged.is));
        judged
    }

    /// These addresses have joined, or left.
    pub(super) fn note(&mut self, id: MembershipId, addresses: &[IpAddr], joined: bool) {
        let Some(entry) = self.slots.get_mut(id.0).and_then(Option::as_mut) else { return };
        if entry.delta.is_empty() {
            self.changed.insert(id);
        }
        entry.delta.note(addresses, joined);
    }

    /// What has come about since it was last taken.
    pub(super) fn delta(&self, id: MembershipId) -> Option<&Delta> {
        self.get(id).map(|entry| &entry.delta)
    }

    /// What has come about of some addresses, which are sorted, was taken.
    pub(super) fn settle(&mut self, id: MembershipId, addresses: &[IpAddr]) {
        if let Some(entry) = self.get_mut(id) {
            entry.delta.settle(addresses);
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
        self.search.forget();
        for id in std::mem::take(&mut self.changed) {
            if let Some(entry) = self.get_mut(id) {
                entry.delta = Delta::default();
            }
        }
    }

    /// Drops all but these.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<MembershipId>) {
        let gone: Vec<MembershipId> =
            self.ids.values().filter(|id| !wanted.contains(id)).copied().collect();
        for id in gone {
            let Some(entry) = self.slots.get_mut(id.0).and_then(Option::take) else { continue };
            self.state += 1;
            self.ids.remove(&entry.definitions);
            self.changed.remove(&id);
            for definition in &*entry.definitions {
                self.asking.remove(id, definition);
            }
            self.free.push(id);
        }
    }

    /// The labels of pods that some definition asks about.
    pub(super) fn asked(&self) -> BTreeSet<Arc<str>> {
        self.asking.asked()
    }

    /// There are no groups any more; the same pods will be grouped anew.
    pub(super) fn forget_groups(&mut self) {
        self.asking.forget_groups();
        self.search.forget();
    }
}

/// Each once, in their order.
fn united<'m>(memberships: impl IntoIterator<Item = &'m MembershipId>) -> Arc<[MembershipId]> {
    let mut memberships: Vec<MembershipId> = memberships.into_iter().copied().collect();
    memberships.sort_unstable();
    memberships.dedup();
    memberships.into()
}
