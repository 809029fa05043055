//! Policies by namespace and by a label that they ask for: there may be thousands, of which most select
//! no pod of this node.
//!
//! Who keeps which policies select a pod follows by what has changed in its namespace since: the last few
//! changes of each are kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::cluster::{Pod, Snapshot};
use crate::lookup::Lookup;
use crate::name::{NamespaceName, ObjectKey};
use crate::policy::{Direction, Grant, Policy, PortNumbers, Ports};
use crate::selector::Operator;

/// How many changes of a namespace are kept.
const KEPT: usize = 8;

/// One state of one policy, or of all policies of a namespace: what changes has another afterwards, and
/// none comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp(u64);

/// A policy in one state of it, as far as it matters who it is.
#[derive(Debug)]
pub(crate) struct PolicyState {
    /// Which state.
    pub(crate) stamp: Stamp,
    /// Which policy.
    pub(crate) key: ObjectKey,
    /// Whether it is audited, whatever its namespace says.
    pub(crate) audit: bool,
    isolates: Vec<Direction>,
    names_ports: Vec<Direction>,
}

impl PolicyState {
    fn of(policy: &Policy, stamp: Stamp) -> Self {
        let isolates = Direction::ALL.into_iter().filter(|direction| policy.isolates(*direction));
        let isolates: Vec<Direction> = isolates.collect();
        let naming = isolates.iter().copied().filter(|direction| names_ports(policy, *direction));
        let names_ports = naming.collect();
        Self { stamp, key: policy.key.clone(), audit: policy.audit, isolates, names_ports }
    }

    /// Whether it isolates whom it selects in a direction, if it is not audited.
    pub(crate) fn isolates(&self, direction: Direction) -> bool {
        self.isolates.contains(&direction)
    }

    /// Whether it does so with a rule that has a port by name.
    pub(crate) fn names_ports(&self, direction: Direction) -> bool {
        self.names_ports.contains(&direction)
    }
}

fn names_ports(policy: &Policy, direction: Direction) -> bool {
    policy.rules(direction).iter().any(|rule| match &rule.grant {
        Grant::Traffic { ports: Ports::Listed(list), .. } => {
            list.iter().any(|port| matches!(port.numbers, PortNumbers::Named(_)))
        }
        _ => false,
    })
}

/// A change of a policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyChange {
    /// The state of the namespace before it.
    before: Stamp,
    /// Which policy.
    pub(crate) key: ObjectKey,
    /// What it is now, unless it is gone.
    pub(crate) now: Option<Arc<PolicyState>>,
}

/// All policies.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    /// Only looked up, so that its order does not matter.
    of_namespace: Lookup<NamespaceName, OfNamespace>,
    last: u64,
}

type Stated = BTreeMap<ObjectKey, Arc<PolicyState>>;

/// The policies of a namespace.
#[derive(Clone, Debug, Default)]
struct OfNamespace {
    by_label: Lookup<Arc<str>, Lookup<Arc<str>, Stated>>,
    /// Those that ask for no value.
    others: Stated,
    state: Stamp,
    /// The last changes, each with the state before it.
    changes: VecDeque<PolicyChange>,
}

impl OfNamespace {
    fn changed(&mut self, state: Stamp, key: ObjectKey, now: Option<Arc<PolicyState>>) {
        if self.changes.len() == KEPT {
            self.changes.pop_front();
        }
        let before = std::mem::replace(&mut self.state, state);
        self.changes.push_back(PolicyChange { before, key, now });
    }

    fn each_place(&mut self, policy: &Policy, then: &mut dyn FnMut(&mut Stated)) {
        let mut asked = policy.pod_selector.requirements().filter_map(|one| match &one.operator {
            Operator::In(values) => Some((&one.key, values)),
            _ => None,
        });
        let Some((key, values)) = asked.next() else { return then(&mut self.others) };
        let places = self.by_label.entry(Arc::clone(key)).or_default();
        for value in values {
            then(places.entry(Arc::clone(value)).or_default());
        }
        places.retain(|_, policies| !policies.is_empty());
        if places.is_empty() {
            self.by_label.remove(key);
        }
    }

    fn is_empty(&self) -> bool {
        self.by_label.is_empty() && self.others.is_empty()
    }
}

impl Policies {
    fn next(&mut self) -> Stamp {
        self.last += 1;
        Stamp(self.last)
    }

    pub(super) fn add(&mut self, policy: &Policy) {
        let stamp = self.next();
        let state = Arc::new(PolicyState::of(policy, stamp));
        let place = self.of_namespace.entry(policy.key.namespace.clone()).or_default();
        place.each_place(policy, &mut |policies| {
            policies.insert(policy.key.clone(), Arc::clone(&state));
        });
        place.changed(stamp, policy.key.clone(), Some(state));
    }

    pub(super) fn remove(&mut self, policy: &Policy) {
        let stamp = self.next();
        let Some(place) = self.of_namespace.get_mut(&policy.key.namespace) else { return };
        place.each_place(policy, &mut |policies| {
            policies.remove(&policy.key);
        });
        place.changed(stamp, policy.key.clone(), None);
        if place.is_empty() {
            self.of_namespace.remove(&policy.key.namespace);
        }
    }

    /// The state of the policies of a namespace, where there are any.
    pub(super) fn state(&self, namespace: &NamespaceName) -> Option<Stamp> {
        self.of_namespace.get(namespace).map(|place| place.state)
    }

    /// What has changed in a namespace since its policies were in this state, as far back as is known.
    pub(super) fn changes_since(
        &self,
        namespace: &NamespaceName,
        state: Stamp,
    ) -> Option<impl Iterator<Item = &PolicyChange>> {
        let changes = &self.of_namespace.get(namespace)?.changes;
        let first = changes.iter().position(|change| change.before == state)?;
        Some(changes.range(first..))
    }

    /// Those that select a pod, in the order of their keys.
    pub(super) fn selecting(&self, objects: &Snapshot, pod: &Pod) -> Vec<Arc<PolicyState>> {
        let Some(place) = self.of_namespace.get(&pod.key.namespace) else { return Vec::new() };
        let labelled = pod.labels.iter();
        let asking = labelled.filter_map(|(key, value)| place.by_label.get(key)?.get(value));
        let candidates = asking.flatten().chain(&place.others);
        let selects = |key: &ObjectKey| {
            let policy = objects.policies.get(key);
            policy.is_some_and(|policy| policy.pod_selector.matches(&pod.labels))
        };
        let selecting = candidates.filter(|(key, _)| selects(key));
        let mut selecting: Vec<_> = selecting.map(|(_, state)| Arc::clone(state)).collect();
        selecting.sort_by(|a, b| a.key.cmp(&b.key));
        selecting
    }
}
