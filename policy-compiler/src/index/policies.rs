//! Policies by namespace and by a label that they ask for: there may be thousands, of which most select
//! no pod of this node.
//!
//! Who keeps which policies select a pod follows by what has changed in its namespace since: the last few
//! changes of each are kept.

use std::cmp::Ordering;
use std::collections::VecDeque;
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
    /// In each direction.
    isolates: [bool; 2],
    names_ports: [bool; 2],
}

impl PolicyState {
    fn of(policy: &Policy, stamp: Stamp) -> Self {
        let isolates = Direction::ALL.map(|direction| policy.isolates(direction));
        let names_ports = Direction::ALL.map(|direction| names_ports(policy, direction));
        Self { stamp, key: policy.key.clone(), audit: policy.audit, isolates, names_ports }
    }

    /// Whether it isolates whom it selects in a direction, if it is not audited.
    pub(crate) fn isolates(&self, direction: Direction) -> bool {
        self.isolates[direction as usize]
    }

    /// Whether it does so with a rule that has a port by name.
    pub(crate) fn names_ports(&self, direction: Direction) -> bool {
        self.names_ports[direction as usize]
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

/// A policy where it is looked for: by a label and a value of which it asks for one, or by none.
#[derive(Clone, Debug)]
struct Place {
    asked: Option<(Arc<str>, Arc<str>)>,
    policy: Arc<PolicyState>,
}

impl Place {
    fn cmp_asked(&self, asked: Option<(&str, &str)>) -> Ordering {
        self.asked.as_ref().map(|(key, value)| (&**key, &**value)).cmp(&asked)
    }
}

/// The policies of a namespace. Most namespaces have a few.
#[derive(Clone, Debug, Default)]
struct OfNamespace {
    /// In the order of what they ask for, and then of their keys.
    places: Vec<Place>,
    state: Stamp,
    /// The last changes, each with the state before it.
    changes: VecDeque<PolicyChange>,
}

impl OfNamespace {
    fn changed(&mut self, state: Stamp, key: ObjectKey, now: Option<Arc<PolicyState>>) {
        if self.changes.len() == KEPT {
            self.changes.pop_front();
        } else {
            self.changes.reserve_exact(1);
        }
        let before = std::mem::replace(&mut self.state, state);
        self.changes.push_back(PolicyChange { before, key, now });
    }

    /// Where a policy is that asks for this, or would be.
    fn place_of(&self, asked: Option<(&str, &str)>, key: &ObjectKey) -> Result<usize, usize> {
        let order = |place: &Place| place.cmp_asked(asked).then_with(|| place.policy.key.cmp(key));
        self.places.binary_search_by(order)
    }

    /// Puts a policy in, in the place of what it was if that asked for the same.
    fn put(&mut self, asked: Option<(Arc<str>, Arc<str>)>, policy: &Arc<PolicyState>) {
        let policy = Arc::clone(policy);
        let by = asked.as_ref().map(|(key, value)| (&**key, &**value));
        match self.place_of(by, &policy.key) {
            Ok(at) => self.places[at].policy = policy,
            Err(at) => {
                if self.places.len() == self.places.capacity() {
                    self.places.reserve_exact(1 + self.places.len() / 8);
                }
                self.places.insert(at, Place { asked, policy });
            }
        }
    }

    /// Those that ask for this.
    fn asking(&self, asked: Option<(&str, &str)>) -> impl Iterator<Item = &Arc<PolicyState>> {
        let first = self.places.partition_point(|place| place.cmp_asked(asked).is_lt());
        let from = self.places[first..].iter();
        from.take_while(move |place| place.cmp_asked(asked).is_eq()).map(|place| &place.policy)
    }
}

/// What a policy asks for: the values of the first label of which it asks for some.
fn asked(policy: &Policy) -> Vec<Option<(Arc<str>, Arc<str>)>> {
    let mut asked = policy.pod_selector.requirements().filter_map(|one| match &one.operator {
        Operator::In(values) => Some((&one.key, values)),
        _ => None,
    });
    let Some((key, values)) = asked.next() else { return vec![None] };
    values.iter().map(|value| Some((Arc::clone(key), Arc::clone(value)))).collect()
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
        for asked in asked(policy) {
            place.put(asked, &state);
        }
        place.changed(stamp, policy.key.clone(), Some(state));
    }

    pub(super) fn remove(&mut self, policy: &Policy) {
        let stamp = self.next();
        let Some(place) = self.of_namespace.get_mut(&policy.key.namespace) else { return };
        for asked in asked(policy) {
            let asked = asked.as_ref().map(|(key, value)| (&**key, &**value));
            if let Ok(at) = place.place_of(asked, &policy.key) {
                place.places.remove(at);
            }
        }
        place.changed(stamp, policy.key.clone(), None);
        if place.places.is_empty() {
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
        let asked = pod.labels.iter().map(Some).chain([None]);
        let candidates = asked.flat_map(|asked| place.asking(asked));
        let selects = |state: &&Arc<PolicyState>| {
            let policy = objects.policies.get(&state.key);
            policy.is_some_and(|policy| policy.pod_selector.matches(&pod.labels))
        };
        let mut selecting: Vec<_> = candidates.filter(selects).cloned().collect();
        selecting.sort_by(|a, b| a.key.cmp(&b.key));
        selecting
    }
}
