//! What there is to say of the policies in force that have ports by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::body::BodyMaker;
use super::chosen::{Chosen, state};
use super::unresolved::unresolved;
use crate::diagnostic::Diagnostic;
use crate::index::{NamedId, PolicyState, Stamp};
use crate::name::ObjectKey;
use crate::policy::Direction;
use crate::port::{PortName, Protocol};

/// A policy in one state of it, in a direction.
type Naming = (Direction, Stamp);

/// What is said of it.
#[derive(Clone, Debug)]
struct Warned {
    policy: Arc<PolicyState>,
    /// The local pods that it isolates or audits.
    pods: BTreeSet<ObjectKey>,
    asked: BTreeSet<NamedId>,
    said: Vec<Diagnostic>,
}

/// All that have ports by name and isolate or audit a local pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Warnings {
    of: BTreeMap<Naming, Warned>,
    /// Those of which something else may be to be said.
    stale: BTreeSet<Naming>,
}

impl Warnings {
    /// Of a pod that was this and is this now, whether it `declares` other ports or not.
    pub(super) fn changed(
        &mut self,
        key: &ObjectKey,
        was: Option<&Chosen>,
        is: Option<&Chosen>,
        declares: bool,
    ) {
        for naming in was.into_iter().flat_map(|was| was.naming_beyond(is)).map(state) {
            if let Some(warned) = self.of.get_mut(&naming) {
                warned.pods.remove(key);
                self.stale.insert(naming);
            }
        }
        for naming in is.into_iter().flat_map(|is| is.naming_beyond(was)) {
            let warned = self.of.entry(state(naming)).or_insert_with(|| Warned {
                policy: Arc::clone(&naming.1),
                pods: BTreeSet::new(),
                asked: BTreeSet::new(),
                said: Vec::new(),
            });
            warned.pods.insert(key.clone());
            self.stale.insert(state(naming));
        }
        if declares {
            let all = is.into_iter().flat_map(Chosen::naming).map(state);
            self.stale.extend(all.filter(|(direction, _)| *direction == Direction::Ingress));
        }
    }

    /// Looks at those of which something else may be to be said, and at all toward others where other
    /// numbers may be found; whether there is anything else to say.
    pub(super) fn follow(&mut self, maker: &mut BodyMaker<'_, '_>, numbers: bool) -> bool {
        let mut stale = std::mem::take(&mut self.stale);
        if numbers {
            stale.extend(self.of.keys().filter(|(of, _)| *of == Direction::Egress));
        }
        let mut differs = false;
        for naming in stale {
            let Some(warned) = self.of.get_mut(&naming) else { continue };
            if warned.pods.is_empty() {
                differs |= !warned.said.is_empty();
                self.of.remove(&naming);
                continue;
            }
            let objects = maker.objects;
            let Some(policy) = objects.policies.get(&warned.policy.key) else { continue };
            let declared = |protocol: Protocol, name: &PortName| {
                let pods = warned.pods.iter().filter_map(|key| objects.pods.get(key));
                let mut ports = pods.flat_map(|pod| &pod.ports);
                ports.any(|port| port.protocol == protocol && port.name.as_ref() == Some(name))
            };
            let mut asked = BTreeSet::new();
            let said = unresolved(policy, naming.0, &declared, maker, &mut asked);
            warned.asked = asked;
            differs |= said != warned.said;
            warned.said = said;
        }
        differs
    }

    /// The names that they ask about.
    pub(super) fn asked(&self) -> impl Iterator<Item = NamedId> {
        self.of.values().flat_map(|warned| warned.asked.iter().copied())
    }

    /// What is said of all of them.
    pub(super) fn said(&self) -> impl Iterator<Item = &Diagnostic> {
        self.of.values().flat_map(|warned| &warned.said)
    }
}
