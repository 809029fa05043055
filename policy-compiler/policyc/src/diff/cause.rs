//! Why a connection differs: the fewest differences between the sides that make the old verdict the new.
//!
//! ```text
//!  what one connection depends on, of both sides ──> units ──each made alone──> evaluate ──> causes
//! ```
//!
//! This is asked of `evaluate`, not read off the objects: a difference is a cause if the old side with
//! it alone decides as the new side does. Where none suffices alone, the cause is a set of them of which
//! none can be left out. Each is then put into words with the places where it stands on either side.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cluster::{Namespace, Node, Pod, Snapshot};
use policy_compiler::evaluate::{Evaluator, evaluate};
use policy_compiler::flow::{End, Flow};
use policy_compiler::name::{NamespaceName, ObjectKey};
use policy_compiler::policy::{Direction, Policy};
use policy_compiler::verdict::{Decision, Half, PeerOutcome, Verdict};
use serde::Serialize;

use crate::answer::Place;

use super::unit::{Both, Field, Unit};

/// A difference between the sides that a connection changes because of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// The kind of object that differs: `NetworkPolicy`, `Pod`, `Deployment`, `Namespace`, `Node`.
    pub kind: String,
    /// Its name: `shop/cart-from-web`.
    pub name: String,
    /// What of it: `ingress[0]`, `spec.podSelector`, `metadata.labels.app`; empty where the object itself
    /// came or went.
    pub field: String,
    /// What happened to it: `added`, `removed` or `changed`.
    pub change: &'static str,
    /// How, in words: `from: + pods app=api in shop`.
    pub text: String,
    /// Where it stands on the old side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Place>,
    /// Where it stands on the new side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Place>,
}

/// Both sides, ready to be asked why they differ.
#[derive(Debug)]
pub(super) struct Sides<'a> {
    pub(super) old: Side<'a>,
    pub(super) new: Side<'a>,
}

/// One side.
#[derive(Debug)]
pub(super) struct Side<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) evaluator: &'a Evaluator<'a>,
}

/// What one connection depends on, on both sides.
pub(super) struct Scene {
    both: Both,
    units: Vec<Unit>,
}

impl Sides<'_> {
    /// What the connection between these ends, as each side calls them, depends on.
    pub(super) fn scene(&self, old: (&End, &End), new: (&End, &End)) -> Scene {
        let old_ends = [old.0, old.1];
        let new_ends = [new.0, new.1];
        let mut names: BTreeMap<&ObjectKey, &ObjectKey> = BTreeMap::new();
        for (was, is) in old_ends.into_iter().zip(new_ends) {
            if let (End::Pod(was), End::Pod(is)) = (was, is) {
                names.insert(is, was);
            }
        }
        let mut policies = self.old.selecting(&old_ends);
        policies.extend(self.new.selecting(&new_ends));
        let same = BTreeMap::new();
        let both = Both {
            old: self.old.small(&old_ends, &policies, &same),
            new: self.new.small(&new_ends, &policies, &names),
        };
        let units = both.units();
        Scene { both, units }
    }
}

impl<'a> Side<'a> {
    /// The policies that select a pod at one of the ends.
    fn selecting(&self, ends: &[&End]) -> BTreeSet<&'a ObjectKey> {
        let pods = ends.iter().flat_map(|end| self.pods_at(end)).collect::<Vec<&Pod>>();
        let of = |pod: &Pod, direction| {
            let mut all = self.evaluator.isolating(pod, direction);
            all.extend(self.evaluator.auditing(pod, direction));
            all
        };
        let both = |pod: &&Pod| Direction::ALL.map(|direction| of(pod, direction));
        pods.iter().flat_map(both).flatten().map(|policy| &policy.key).collect()
    }

    /// The pod that an end is, and whoever shares its addresses.
    fn pods_at(&self, end: &End) -> Vec<&'a Pod> {
        let End::Pod(key) = end else { return Vec::new() };
        let Some(pod) = self.snapshot.pods.get(key) else { return Vec::new() };
        let sharing = pod.addresses.iter().flat_map(|address| self.evaluator.owners(address));
        let others = sharing.copied().filter(|other| other.key != *key);
        std::iter::once(pod).chain(others).collect()
    }

    /// A snapshot of nothing but the ends and what is said of them. Pods are renamed as `names` has it.
    fn small(
        &self,
        ends: &[&End],
        policies: &BTreeSet<&ObjectKey>,
        names: &BTreeMap<&ObjectKey, &ObjectKey>,
    ) -> Snapshot {
        let mut small = Snapshot::default();
        for pod in ends.iter().flat_map(|end| self.pods_at(end)) {
            let mut pod = pod.clone();
            pod.key = names.get(&pod.key).map_or(pod.key.clone(), |key| (*key).clone());
            self.add_namespace(&pod.key.namespace, &mut small);
            if let Some(node) = &pod.node {
                self.add_node(node, &mut small);
            }
            small.pods.insert(pod.key.clone(), pod);
        }
        for end in ends {
            if let End::Node(name) = end {
                self.add_node(name, &mut small);
            }
        }
        for policy in policies.iter().filter_map(|key| self.snapshot.policies.get(*key)) {
            self.add_namespace(&policy.key.namespace, &mut small);
            small.policies.insert(policy.key.clone(), policy.clone());
        }
        small
    }

    fn add_namespace(&self, name: &NamespaceName, small: &mut Snapshot) {
        let known = self.snapshot.namespaces.get(name).cloned();
        let namespace = known.unwrap_or_else(|| Namespace::undeclared(name.clone()));
        small.namespaces.insert(name.clone(), namespace);
    }

    fn add_node(&self, name: &policy_compiler::name::NodeName, small: &mut Snapshot) {
        let location =
            self.snapshot.nodes.get(name).map(|node| node.location.clone()).unwrap_or_default();
        let addresses = self.evaluator.node_addresses(name).into_iter().collect();
        let node = Node { name: name.clone(), addresses, pod_networks: Vec::new(), location };
        small.nodes.insert(name.clone(), node);
    }
}

impl Scene {
    /// The policies of both sides that have a say.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.both.old.policies.values().chain(self.both.new.policies.values())
    }

    /// The pods of both sides.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.both.old.pods.values().chain(self.both.new.pods.values())
    }

    /// Why the decision on `flow`, whose ends are named as the old side does, differs; nothing where it
    /// does not differ by what is in the scene.
    pub(super) fn causes(&self, flow: &Flow) -> Vec<Cause> {
        let decided = |snapshot: &Snapshot| {
            let verdict = evaluate(snapshot, flow);
            (verdict.decision, lacks(&verdict))
        };
        let wanted = decided(&self.both.new);
        let suffices = |units: &[&Unit]| decided(&self.both.with(units.iter().copied())) == wanted;
        let all: Vec<&Unit> = self.units.iter().collect();
        if decided(&self.both.old) == wanted || !suffices(&all) {
            return Vec::new();
        }
        let mut found: Vec<&Unit> = all.iter().copied().filter(|unit| suffices(&[unit])).collect();
        if found.is_empty() {
            // What is left out first is what a person would look at last: see the order of units.
            found = all;
            for i in (0..found.len()).rev() {
                let mut fewer = found.clone();
                fewer.remove(i);
                if suffices(&fewer) {
                    found = fewer;
                }
            }
        }
        let words = words::Words::new(&self.both, flow, wanted.0 == Decision::Allowed);
        let mut causes: Vec<Cause> = found.into_iter().map(|unit| words.cause(unit)).collect();
        causes.sort();
        causes.dedup();
        causes
    }
}

/// The blocks that an unknown verdict would have to know an address against. Two verdicts that lack the
/// same are the same, whatever the address will be.
pub(super) fn lacks(verdict: &Verdict) -> Vec<BTreeSet<String>> {
    if verdict.decision != Decision::Unknown {
        return Vec::new();
    }
    let of = |half: &Half| -> BTreeSet<String> {
        let rules = half.policies.iter().flat_map(|policy| &policy.rules);
        let unknown = rules.filter(|rule| rule.decision == Decision::Unknown);
        let blocks = unknown.flat_map(|rule| &rule.peers).filter_map(|peer| match &peer.outcome {
            PeerOutcome::AddressUnknown { block } => Some(block.to_string()),
            _ => None,
        });
        blocks.collect()
    };
    vec![of(&verdict.egress), of(&verdict.ingress)]
}

/// The differences between two versions of a policy, as they read without any connection to judge.
pub(super) fn of_policy(old: &Snapshot, new: &Snapshot, key: &ObjectKey) -> Vec<Cause> {
    let only = |side: &Snapshot| {
        let policy = side.policies.get(key).cloned();
        let policies = policy.map(|policy| (key.clone(), policy)).into_iter().collect();
        Snapshot { policies, ..Snapshot::default() }
    };
    let both = Both { old: only(old), new: only(new) };
    let rules = |unit: &Unit| match unit {
        Unit::Field(_, Field::Rules(direction)) => Some(words::edits(&both, key, *direction)),
        _ => None,
    };
    let words = words::Words::of_objects(&both);
    let units = both.units();
    units.iter().flat_map(|unit| rules(unit).unwrap_or_else(|| vec![words.cause(unit)])).collect()
}
