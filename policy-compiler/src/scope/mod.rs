//! Which pods of other nodes the rules of one node can depend on.
//!
//! ```text
//!  local pods ──> policies that select them ──> peers ──> [`Scope`]   what is to be watched
//!  pods as several watches tell of them ──> [`Claims`] ──> Event      what the engine is told
//! ```
//!
//! The law: where no address has two owners, the ruleset compiled from the pods of the node and those
//! of its scope is the ruleset compiled from all pods. A pod outside of the scope is the peer of no
//! local pod, so that nothing is granted to it by its labels either way. It can be missed only as the
//! second owner of an address: as the newer owner of a local pod's address, which then stays isolated
//! though it should be nobody's here, and where it alone tells an address of its node, which a pod in
//! the scope claims.
//!
//! Nothing here fails. Where a scope cannot be told narrowly it is wider, up to all pods.

mod claims;
mod hull;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::cluster::{Namespace, Pod, Snapshot};
use crate::labels::Labels;
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::policy::{
    Direction, Grant, NamespaceScope, Peer, PeerSelects, Peers, Policy, PortNumbers, Ports,
};
use crate::selector::Selector;

pub use self::claims::{Claims, Rank};
use self::hull::hull;

/// How much may be watched piece by piece. What asks for more is watched as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many namespaces one by one.
    pub namespaces: usize,
    /// How many namespaces one peer may mean before its pods are watched across all namespaces.
    pub wide: usize,
    /// How many selectors across all namespaces.
    pub across: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { namespaces: 64, wide: 16, across: 4 }
    }
}

/// The pods to watch besides those of the node itself: each that one of the parts selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Of these namespaces, those that the selector selects.
    pub namespaces: BTreeMap<NamespaceName, Selector>,
    /// Of all namespaces, those that one of these selects.
    pub across: BTreeSet<Selector>,
    /// Why all pods are to be watched, where that is so.
    pub whole: Option<Whole>,
}

/// Why a scope is all pods of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whole {
    /// This policy allows egress to named ports of pods wherever they are.
    NamedPorts(ObjectKey),
    /// This policy has a peer that is every pod of every namespace, or of very many.
    AllPods(ObjectKey),
    /// The peers are in so many namespaces.
    Namespaces(usize),
    /// Pods are selected across all namespaces in so many ways.
    Selectors(usize),
}

impl Scope {
    /// What the policies of `policies` and the namespaces of `snapshot` ask for, where these are the
    /// pods of the node.
    #[must_use]
    pub fn of<'a>(
        snapshot: &'a Snapshot,
        policies: impl IntoIterator<Item = &'a Policy>,
        local: &[&Pod],
        limits: Limits,
    ) -> Self {
        let mut demand = Demand::new(snapshot, limits);
        for policy in selecting(policies, local) {
            for direction in Direction::ALL {
                demand.add(policy, direction);
            }
        }
        demand.scope()
    }

    /// Whether it holds a pod with these labels.
    #[must_use]
    pub fn holds(&self, namespace: &NamespaceName, labels: &Labels) -> bool {
        self.namespaces.get(namespace).is_some_and(|selector| selector.matches(labels))
            || self.across.iter().any(|selector| selector.matches(labels))
    }
}

/// Whether a pod is one that policies of `node` have as their subject.
#[must_use]
pub fn is_local(pod: &Pod, node: &NodeName) -> bool {
    pod.is_live() && !pod.template && pod.node.as_ref() == Some(node)
}

/// The policies that select one of the pods.
fn selecting<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    local: &[&Pod],
) -> impl Iterator<Item = &'a Policy> {
    let mut labels: BTreeMap<&NamespaceName, BTreeSet<&Labels>> = BTreeMap::new();
    for pod in local {
        labels.entry(&pod.key.namespace).or_default().insert(&pod.labels);
    }
    policies.into_iter().filter(move |policy| {
        let inside = labels.get(&policy.key.namespace);
        inside.is_some_and(|inside| inside.iter().any(|one| policy.pod_selector.matches(one)))
    })
}

/// What was asked for so far.
struct Demand<'a> {
    snapshot: &'a Snapshot,
    limits: Limits,
    namespaces: BTreeMap<&'a NamespaceName, BTreeSet<&'a Selector>>,
    across: BTreeSet<&'a Selector>,
    whole: Option<Whole>,
    /// The namespaces that a selector selects; `None` where they are too many.
    selected: BTreeMap<&'a Selector, Option<Vec<&'a NamespaceName>>>,
}

impl<'a> Demand<'a> {
    fn new(snapshot: &'a Snapshot, limits: Limits) -> Self {
        Self {
            snapshot,
            limits,
            namespaces: BTreeMap::new(),
            across: BTreeSet::new(),
            whole: None,
            selected: BTreeMap::new(),
        }
    }

    fn add(&mut self, policy: &'a Policy, direction: Direction) {
        for rule in policy.rules(direction) {
            let Grant::Traffic { peers, ports } = &rule.grant else { continue };
            // On ingress a name is one of the local pod's.
            let named = direction == Direction::Egress && has_names(ports);
            match peers {
                Peers::Any if named => self.everything(Whole::NamedPorts(policy.key.clone())),
                Peers::Any => {}
                Peers::Listed(peers) => {
                    for peer in peers {
                        self.add_peer(policy, peer, named);
                    }
                }
            }
        }
    }

    fn add_peer(&mut self, policy: &'a Policy, peer: &'a Peer, named: bool) {
        match &peer.selects {
            PeerSelects::Block(_) if named => {
                self.everything(Whole::NamedPorts(policy.key.clone()));
            }
            PeerSelects::Block(_) => {}
            PeerSelects::Pods { namespaces: NamespaceScope::Own, pods } => {
                self.namespaces.entry(&policy.key.namespace).or_default().insert(pods);
            }
            PeerSelects::Pods { namespaces: NamespaceScope::Matching(selector), pods } => {
                let namespaces = self.select(selector);
                match namespaces {
                    Some(namespaces) => {
                        for namespace in namespaces {
                            self.namespaces.entry(namespace).or_default().insert(pods);
                        }
                    }
                    None if pods.is_everything() => {
                        self.everything(Whole::AllPods(policy.key.clone()));
                    }
                    None => {
                        self.across.insert(pods);
                    }
                }
            }
        }
    }

    fn everything(&mut self, why: Whole) {
        self.whole.get_or_insert(why);
    }

    fn select(&mut self, selector: &'a Selector) -> Option<Vec<&'a NamespaceName>> {
        let (snapshot, limits) = (self.snapshot, self.limits);
        let found = self.selected.entry(selector).or_insert_with(|| {
            let all = snapshot.namespaces.values();
            let meant = all.filter(|one| selector.matches(one.labels())).map(Namespace::name);
            let some: Vec<&NamespaceName> = meant.take(limits.wide + 1).collect();
            (!selector.is_everything() && some.len() <= limits.wide).then_some(some)
        });
        found.clone()
    }

    /// The selectors across all namespaces: one for all where they have anything in common, each by
    /// itself where they are few; `None` where that is not narrow.
    fn across(&self) -> Option<BTreeSet<Selector>> {
        if self.across.is_empty() {
            return Some(BTreeSet::new());
        }
        if let Some(one) = hull(self.across.iter().copied()) {
            return Some([one].into());
        }
        let few = self.across.len() <= self.limits.across;
        few.then(|| self.across.iter().map(|selector| hull([*selector])).collect()).flatten()
    }

    fn scope(self) -> Scope {
        if let Some(why) = self.whole {
            return Scope::whole(why);
        }
        if self.namespaces.len() > self.limits.namespaces {
            return Scope::whole(Whole::Namespaces(self.namespaces.len()));
        }
        let Some(across) = self.across() else {
            return Scope::whole(Whole::Selectors(self.across.len()));
        };
        let namespaces = self
            .namespaces
            .into_iter()
            .map(|(namespace, selectors)| (namespace.clone(), hull(selectors).unwrap_or_default()));
        Scope { namespaces: namespaces.collect(), across, whole: None }
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whole::NamedPorts(policy) => {
                write!(f, "{policy} allows egress to named ports of pods wherever they are")
            }
            Whole::AllPods(policy) => {
                write!(f, "a peer of {policy} is all pods of all or many namespaces")
            }
            Whole::Namespaces(count) => write!(f, "the peers are in {count} namespaces"),
            Whole::Selectors(count) => {
                write!(f, "{count} unlike selectors ask for pods of all or many namespaces")
            }
        }
    }
}

impl Scope {
    fn whole(why: Whole) -> Self {
        Self {
            namespaces: BTreeMap::new(),
            across: [Selector::everything()].into(),
            whole: Some(why),
        }
    }
}

fn has_names(ports: &Ports) -> bool {
    match ports {
        Ports::Any => false,
        Ports::Listed(ports) => {
            ports.iter().any(|port| matches!(port.numbers, PortNumbers::Named(_)))
        }
    }
}
