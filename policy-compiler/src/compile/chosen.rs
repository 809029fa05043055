//! Which policies isolate or audit the local pods.
//!
//! What policies make of a pod depends on which select it, and pods that the same ones select share it. A
//! policy that changes is looked at for each pod of its namespace; what it makes of them is worked out once
//! for all of those that were the same before and to which it does the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::{Pod, Snapshot};
use crate::index::{Index, PolicyState, Stamp};
use crate::labels::Labels;
use crate::name::{NamespaceName, ObjectKey};
use crate::policy::{Direction, Policy};

/// Policies whose rules are united, in the order of their keys.
#[derive(Debug)]
pub(super) struct United {
    pub(super) policies: Vec<Arc<PolicyState>>,
    /// Their states, in the same order.
    pub(super) stamps: Arc<[Stamp]>,
}

impl United {
    fn new(policies: Vec<Arc<PolicyState>>) -> Self {
        let stamps = stamps(&policies).collect();
        Self { policies, stamps }
    }
}

fn stamps(policies: &[Arc<PolicyState>]) -> impl Iterator<Item = Stamp> {
    policies.iter().map(|policy| policy.stamp)
}

/// A policy in a direction, in which it has ports by name.
pub(super) type Naming = (Direction, Arc<PolicyState>);

/// What policies make of pods: it depends on the policies that select them, and whether all of these are
/// audited, and on nothing else.
#[derive(Debug)]
pub(super) struct Chosen {
    all_audited: bool,
    /// The policies that select them, in the order of their keys.
    selecting: Vec<Arc<PolicyState>>,
    /// The policies that isolate them, by direction; never without any.
    pub(super) policies: BTreeMap<Direction, United>,
    /// The policies that are audited only, each for itself, in the directions in which none isolates them;
    /// never without any. Where one isolates, those that are audited could deny nothing more.
    pub(super) audited: BTreeMap<Direction, Vec<United>>,
    /// Those of both that have ports by name in the direction, in the order of their states.
    naming: Vec<Naming>,
}

impl Chosen {
    fn of(all_audited: bool, selecting: Vec<Arc<PolicyState>>) -> Self {
        let (mut policies, mut audited) = (BTreeMap::new(), BTreeMap::new());
        let mut naming = Vec::new();
        for direction in Direction::ALL {
            let (audits, isolating): (Vec<_>, Vec<_>) = selecting
                .iter()
                .filter(|policy| policy.isolates(direction))
                .cloned()
                .partition(|policy| all_audited || policy.audit);
            let chosen = if isolating.is_empty() { &audits } else { &isolating };
            let named = chosen.iter().filter(|policy| policy.names_ports(direction));
            naming.extend(named.map(|policy| (direction, Arc::clone(policy))));
            if !isolating.is_empty() {
                policies.insert(direction, United::new(isolating));
            } else if !audits.is_empty() {
                let alone = audits.into_iter().map(|policy| United::new(vec![policy]));
                audited.insert(direction, alone.collect());
            }
        }
        naming.sort_by_key(state);
        Self { all_audited, selecting, policies, audited, naming }
    }

    /// Whether what it allows in a direction depends on the ports that a pod declares.
    pub(super) fn names_ports(&self, direction: Direction) -> bool {
        self.naming.iter().any(|(of, _)| *of == direction)
    }

    /// The policies that have ports by name in a direction, in the order of their states.
    pub(super) fn naming(&self) -> &[Naming] {
        &self.naming
    }

    /// Those of them that another has not.
    pub(super) fn naming_beyond<'c>(
        &'c self,
        other: Option<&'c Self>,
    ) -> impl Iterator<Item = &'c Naming> {
        let mut rest = other.map(|other| &*other.naming).unwrap_or_default();
        self.naming.iter().filter(move |naming| {
            let before = rest.iter().take_while(|other| state(other) < state(naming)).count();
            rest = &rest[before..];
            rest.first().map(state) != Some(state(naming))
        })
    }
}

/// What tells a policy in a direction from every other, and from what it was or will be.
pub(super) fn state((direction, policy): &Naming) -> (Direction, Stamp) {
    (*direction, policy.stamp)
}

/// What policies make of one pod, and of which pod that was found out when.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    labels: Labels,
    /// The state of the policies of its namespace.
    policies: Option<Stamp>,
    pub(super) chosen: Arc<Chosen>,
}

/// Policies that came to select a local pod.
pub(super) type News = BTreeMap<Stamp, Arc<PolicyState>>;

/// A policy that has changed since some time, and is now so.
struct Changed<'o> {
    key: &'o ObjectKey,
    now: Option<(&'o Arc<PolicyState>, &'o Policy)>,
}

/// How a choice came about: from which one, by which changes since which state of a namespace, and whether
/// all is audited now.
type Course = (*const Chosen, Option<Stamp>, Vec<bool>, bool);

/// Who chooses, for pods whose last choices are there for as long.
pub(super) struct Choices<'o> {
    objects: &'o Snapshot,
    index: &'o Index,
    /// What may be new to a pod.
    pub(super) news: News,
    /// For how many pods there was something to choose.
    pub(super) worked_out: usize,
    /// By what they are made of.
    made: BTreeMap<(bool, Vec<Stamp>), Arc<Chosen>>,
    followed: BTreeMap<Course, Arc<Chosen>>,
    /// The namespace that was last asked about, and its state: many pods of one come after each other.
    asked: Option<(NamespaceName, (bool, Option<Stamp>))>,
    /// By the state of the namespace before them, where that is known.
    changes: BTreeMap<Stamp, Option<Arc<[Changed<'o>]>>>,
}

impl<'o> Choices<'o> {
    pub(super) fn new(objects: &'o Snapshot, index: &'o Index) -> Self {
        Self {
            objects,
            index,
            news: News::new(),
            worked_out: 0,
            made: BTreeMap::new(),
            followed: BTreeMap::new(),
            asked: None,
            changes: BTreeMap::new(),
        }
    }

    /// What policies make of a local pod, of which `last` was found out before. Where its labels stay only
    /// those policies are looked at that have changed in its namespace.
    pub(super) fn of(&mut self, pod: &Pod, last: Option<&Choice>) -> Choice {
        let known = last.filter(|last| last.labels == pod.labels);
        known.and_then(|last| self.after(&pod.key.namespace, last)).unwrap_or_else(|| {
            self.worked_out += 1;
            let namespace = &pod.key.namespace;
            let selecting = self.index.selecting(self.objects, pod);
            self.news.extend(selecting.iter().map(|policy| (policy.stamp, Arc::clone(policy))));
            let (audited, policies) = self.state_of(namespace);
            let chosen = self.make(audited, selecting);
            Choice { labels: pod.labels.clone(), policies, chosen }
        })
    }

    /// What policies make of a pod of a namespace that is the same as when `last` was found out; `None`
    /// where it is not known what has changed.
    pub(super) fn after(&mut self, namespace: &NamespaceName, last: &Choice) -> Option<Choice> {
        let (audited, policies) = self.state_of(namespace);
        if (audited, policies) == (last.chosen.all_audited, last.policies) {
            return Some(last.clone());
        }
        let changes = if policies == last.policies {
            Arc::default()
        } else {
            self.changes_since(namespace, last.policies?)?
        };
        self.worked_out += 1;
        let selects = |change: &Changed<'_>| {
            change.now.is_some_and(|(_, policy)| policy.pod_selector.matches(&last.labels))
        };
        let selects: Vec<bool> = changes.iter().map(selects).collect();
        let course = (Arc::as_ptr(&last.chosen), last.policies, selects, audited);
        let chosen = if let Some(known) = self.followed.get(&course) {
            Arc::clone(known)
        } else {
            let chosen = self.follow(&last.chosen, &changes, &course.2, audited);
            self.followed.insert(course, Arc::clone(&chosen));
            chosen
        };
        Some(Choice { labels: last.labels.clone(), policies, chosen })
    }

    /// What becomes of `last` by these changes, of those that select pods.
    fn follow(
        &mut self,
        last: &Arc<Chosen>,
        changes: &[Changed<'o>],
        selects: &[bool],
        audited: bool,
    ) -> Arc<Chosen> {
        let mut selecting = last.selecting.clone();
        for (change, selects) in changes.iter().zip(selects) {
            let found = selecting.binary_search_by(|policy| policy.key.cmp(change.key));
            if let Ok(at) = found {
                selecting.remove(at);
            }
            let (Ok(at) | Err(at)) = found;
            if let (Some((now, _)), true) = (change.now, selects) {
                self.news.insert(now.stamp, Arc::clone(now));
                selecting.insert(at, Arc::clone(now));
            }
        }
        if audited == last.all_audited && stamps(&selecting).eq(stamps(&last.selecting)) {
            return Arc::clone(last);
        }
        self.make(audited, selecting)
    }

    fn make(&mut self, audited: bool, selecting: Vec<Arc<PolicyState>>) -> Arc<Chosen> {
        let made = self.made.entry((audited, stamps(&selecting).collect()));
        Arc::clone(made.or_insert_with(|| Arc::new(Chosen::of(audited, selecting))))
    }

    /// Whether all policies of a namespace are audited, and their state.
    fn state_of(&mut self, namespace: &NamespaceName) -> (bool, Option<Stamp>) {
        if let Some((_, state)) = self.asked.as_ref().filter(|(of, _)| of == namespace) {
            return *state;
        }
        let object = self.objects.namespaces.get(namespace);
        let audited = object.is_some_and(|namespace| namespace.audit);
        let state = (audited, self.index.state_of_policies(namespace));
        self.asked = Some((namespace.clone(), state));
        state
    }

    /// The policies of a namespace that have changed since it was in that state.
    fn changes_since(
        &mut self,
        namespace: &NamespaceName,
        state: Stamp,
    ) -> Option<Arc<[Changed<'o>]>> {
        let (objects, index) = (self.objects, self.index);
        let found = || {
            let changes = index.policy_changes_since(namespace, state)?;
            let last: BTreeMap<&ObjectKey, _> =
                changes.map(|change| (&change.key, change.now.as_ref())).collect();
            let last = last.into_iter().map(|(key, now)| {
                let now = now.and_then(|now| Some((now, objects.policies.get(key)?)));
                Changed { key, now }
            });
            Some(last.collect())
        };
        self.changes.entry(state).or_insert_with(found).clone()
    }
}
