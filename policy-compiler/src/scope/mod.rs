//! Which pods of other nodes the rules of one node can depend on.
//!
//! ```text
//!  local pods ──> policies that select them ──> peers ──> [`Scope`]   what is to be watched
//!  pods as several watches tell of them ──> [`Claims`] ──> Event      what the engine is told
//! ```
//!
//! The law: where no address has two owners, the ruleset compiled from the pods of the node, those of
//! its scope, and the nodes, is the ruleset compiled from all pods; and whoever owns what, it lets
//! nothing pass that the other denies. A pod outside of the scope is the peer of no local pod, so that
//! nothing is granted to it by its labels either way. It can be missed only as the second owner of an
//! address: as the newer owner of a local pod's, which then stays isolated though it should be nobody's
//! here; as one who makes an address known in the networks where unknown ones are denied; and as one
//! who tells an address of its node, for which the nodes' own objects stand in.
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
use self::hull::{bundles, hull};

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
        Self { namespaces: 100, wide: 32, across: 4 }
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
    /// Of namespaces that policies are in.
    own: Wanted<'a>,
    /// Of the namespaces that a selector selects, with a policy that asks for that.
    peers: BTreeMap<(&'a Selector, &'a Selector), &'a ObjectKey>,
    whole: Option<Whole>,
}

/// Selectors of pods by namespaces.
type Wanted<'a> = BTreeMap<&'a NamespaceName, BTreeSet<&'a Selector>>;

/// Namespaces by their selector; `None` where they are too many.
type Selected<'a> = BTreeMap<&'a Selector, Option<Vec<&'a NamespaceName>>>;

impl<'a> Demand<'a> {
    fn new(snapshot: &'a Snapshot, limits: Limits) -> Self {
        Self { snapshot, limits, own: BTreeMap::new(), peers: BTreeMap::new(), whole: None }
    }

    fn add(&mut self, policy: &'a Policy, direction: Direction) {
        for rule in policy.rules(direction) {
            let Grant::Traffic { peers, ports } = &rule.grant else { continue };
            // On ingress a name is one of the local pod's.
            let named = direction == Direction::Egress && has_names(ports);
            match peers {
                Peers::Any => self.add_anybody(policy, named),
                Peers::Listed(peers) => {
                    for peer in peers {
                        self.add_peer(policy, peer, named);
                    }
                }
            }
        }
    }

    /// Whose addresses do not depend on pods, but whose ports may.
    fn add_anybody(&mut self, policy: &Policy, named: bool) {
        if named {
            self.whole.get_or_insert_with(|| Whole::NamedPorts(policy.key.clone()));
        }
    }

    fn add_peer(&mut self, policy: &'a Policy, peer: &'a Peer, named: bool) {
        match &peer.selects {
            PeerSelects::Block(_) => self.add_anybody(policy, named),
            PeerSelects::Pods { namespaces: NamespaceScope::Own, pods } => {
                self.own.entry(&policy.key.namespace).or_default().insert(pods);
            }
            PeerSelects::Pods { namespaces: NamespaceScope::Matching(selector), pods } => {
                self.peers.entry((selector, pods)).or_insert(&policy.key);
            }
        }
    }

    fn scope(mut self) -> Scope {
        if let Some(why) = self.whole.take() {
            return Scope::whole(why);
        }
        let selected = self.selected();
        let mut wide = self.limits.wide;
        loop {
            match self.scope_at(&selected, wide) {
                // Less is watched where fewer namespaces are watched whole, and one watch each.
                Err(Whole::Namespaces(_)) if wide > 0 => wide /= 2,
                Err(why) => return Scope::whole(why),
                Ok(scope) => return scope,
            }
        }
    }

    fn selected(&self) -> Selected<'a> {
        let (snapshot, limits) = (self.snapshot, self.limits);
        let mut selected = Selected::new();
        for (selector, _) in self.peers.keys() {
            selected.entry(selector).or_insert_with(|| {
                let all = snapshot.namespaces.values();
                let meant = all.filter(|one| selector.matches(one.labels())).map(Namespace::name);
                let some: Vec<&NamespaceName> = meant.take(limits.wide + 1).collect();
                (!selector.is_everything() && some.len() <= limits.wide).then_some(some)
            });
        }
        selected
    }

    /// The scope where what more than `wide` namespaces are asked for is watched across all of them, as
    /// far as labels say which pods.
    fn scope_at(&self, selected: &Selected<'a>, wide: usize) -> Result<Scope, Whole> {
        let (mut wanted, mut across) = (self.own.clone(), BTreeSet::new());
        for ((selector, pods), policy) in &self.peers {
            match selected.get(selector).and_then(Option::as_ref) {
                Some(names) if names.len() <= wide || pods.is_everything() => {
                    for name in names {
                        wanted.entry(name).or_default().insert(pods);
                    }
                }
                None if pods.is_everything() => return Err(Whole::AllPods((*policy).clone())),
                _ => drop(across.insert(*pods)),
            }
        }
        if wanted.len() > self.limits.namespaces {
            return Err(Whole::Namespaces(wanted.len()));
        }
        let bundles = bundles(&across).filter(|bundles| bundles.len() <= self.limits.across);
        let across = bundles.ok_or(Whole::Selectors(across.len()))?;
        let namespaces = wanted
            .into_iter()
            .map(|(name, selectors)| (name.clone(), hull(selectors).unwrap_or_default()));
        Ok(Scope { namespaces: namespaces.collect(), across, whole: None })
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
