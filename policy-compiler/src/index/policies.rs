//! Policies by namespace and by a label that they ask for: there may be thousands, of which most select
//! no pod of this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::{Pod, Snapshot};
use crate::lookup::Lookup;
use crate::name::{NamespaceName, ObjectKey};
use crate::policy::Policy;
use crate::selector::Operator;

/// One state of one policy: a policy that changes has another afterwards, and none comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp(u64);

/// All policies.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    /// Only looked up, so that its order does not matter.
    of_namespace: Lookup<NamespaceName, OfNamespace>,
    last: u64,
}

type Stamped = BTreeMap<ObjectKey, Stamp>;

/// The policies of a namespace.
#[derive(Clone, Debug, Default)]
struct OfNamespace {
    by_label: Lookup<Arc<str>, Lookup<Arc<str>, Stamped>>,
    /// Those that ask for no value.
    others: Stamped,
}

impl OfNamespace {
    fn each_place(&mut self, policy: &Policy, then: &mut dyn FnMut(&mut Stamped)) {
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
    pub(super) fn add(&mut self, policy: &Policy) {
        self.last += 1;
        let stamp = Stamp(self.last);
        let place = self.of_namespace.entry(policy.key.namespace.clone()).or_default();
        place.each_place(policy, &mut |policies| {
            policies.insert(policy.key.clone(), stamp);
        });
    }

    pub(super) fn remove(&mut self, policy: &Policy) {
        let Some(place) = self.of_namespace.get_mut(&policy.key.namespace) else { return };
        place.each_place(policy, &mut |policies| {
            policies.remove(&policy.key);
        });
        if place.is_empty() {
            self.of_namespace.remove(&policy.key.namespace);
        }
    }

    /// Those that select a pod, in the order of their keys.
    pub(super) fn selecting<'o>(
        &self,
        objects: &'o Snapshot,
        pod: &Pod,
    ) -> Vec<(Stamp, &'o Policy)> {
        let Some(place) = self.of_namespace.get(&pod.key.namespace) else { return Vec::new() };
        let labelled = pod.labels.iter();
        let asking = labelled.filter_map(|(key, value)| place.by_label.get(key)?.get(value));
        let candidates = asking.flatten().chain(&place.others);
        let mut selecting: Vec<(Stamp, &Policy)> = candidates
            .filter_map(|(key, stamp)| Some((*stamp, objects.policies.get(key)?)))
            .filter(|(_, policy)| policy.pod_selector.matches(&pod.labels))
            .collect();
        selecting.sort_by_key(|(_, policy)| &policy.key);
        selecting
    }
}
