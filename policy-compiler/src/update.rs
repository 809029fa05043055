//! Changes: what happens in the cluster, and the steps that bring the kernel after it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cidr::Family;
use crate::cluster::{Namespace, Node, Pod};
use crate::name::{NamespaceName, NodeName, ObjectKey};
use crate::packed::PackedPod;
use crate::policy::Policy;
use crate::pool::Pool;
use crate::ruleset::{AddressSet, ChainName, Chains, Hook, MemberSet, Rule, Ruleset, SetName};

/// Something happened to an object that verdicts depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A pod is now so.
    PodApplied(Box<Pod>),
    /// A pod is gone.
    PodDeleted(ObjectKey),
    /// A namespace is now so.
    NamespaceApplied(Namespace),
    /// A namespace is gone.
    NamespaceDeleted(NamespaceName),
    /// A policy is now so.
    PolicyApplied(Box<Policy>),
    /// A policy is gone.
    PolicyDeleted(ObjectKey),
    /// A node is now so.
    NodeApplied(Node),
    /// A node is gone.
    NodeDeleted(NodeName),
    /// Everything was listed anew: objects that are not in it are gone.
    Relisted(Box<crate::cluster::Snapshot>),
    /// All pods were listed anew.
    PodsRelisted(PodList),
    /// All namespaces were listed anew.
    NamespacesRelisted(Relist<NamespaceName, Namespace>),
    /// All policies were listed anew.
    PoliciesRelisted(Relist<ObjectKey, Policy>),
    /// All nodes were listed anew.
    NodesRelisted(Relist<NodeName, Node>),
}

/// All objects of a kind at one moment. What is in neither part is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relist<K, V> {
    /// The objects.
    pub objects: BTreeMap<K, V>,
    /// Objects that exist and cannot be decoded: what they last were stays.
    pub unread: BTreeSet<K>,
}

impl<K, V> Default for Relist<K, V> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), unread: BTreeSet::new() }
    }
}

/// All pods at one moment, each in little room. What is in neither part is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodList {
    /// In the order of their keys, each once.
    pods: Vec<PackedPod>,
    /// Pods that exist and cannot be decoded: what they last were stays.
    pub unread: BTreeSet<ObjectKey>,
}

impl PodList {
    /// The list of these pods. Of two with one key the last counts.
    #[must_use]
    pub fn new(mut pods: Vec<PackedPod>, unread: BTreeSet<ObjectKey>) -> Self {
        pods.sort_by(PackedPod::cmp_key);
        pods.dedup_by(|later, earlier| {
            let again = later.cmp_key(earlier).is_eq();
            if again {
                std::mem::swap(later, earlier);
            }
            again
        });
        Self { pods, unread }
    }

    /// The pods in the order of their keys.
    #[must_use]
    pub fn pods(&self) -> &[PackedPod] {
        &self.pods
    }

    /// The same, to be had.
    #[must_use]
    pub fn into_pods(self) -> Vec<PackedPod> {
        self.pods
    }
}

impl FromIterator<Pod> for PodList {
    fn from_iter<T: IntoIterator<Item = Pod>>(pods: T) -> Self {
        let mut pool = Pool::default();
        Self::new(pods.into_iter().map(|pod| pool.pack(pod)).collect(), BTreeSet::new())
    }
}

/// One step of an [`Update`]. The kernel does each as a whole for its family (a transaction or one
/// set at a time, in an order that does not matter); after every step each half of every verdict is
/// the old or the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make sets that nothing refers to yet, with their members.
    CreateSets(BTreeMap<SetName, AddressSet>),
    /// Add members to sets that rules refer to.
    AddMembers(BTreeMap<SetName, MemberSet>),
    /// One transaction: declare chains with these rules, replacing what they had; delete chains;
    /// put each hook's rule first, once, and remove the hooks named.
    ReplaceChains(ChainsUpdate),
    /// Remove members from sets that rules refer to.
    RemoveMembers(BTreeMap<SetName, MemberSet>),
    /// Remove sets that nothing refers to any more.
    DestroySets(BTreeSet<SetName>),
}

/// The chain changes of one family, done in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainsUpdate {
    /// Which family.
    pub family: Family,
    /// Chains that are new or have changed, whole.
    pub replace: Chains,
    /// Chains that go.
    pub delete: BTreeSet<ChainName>,
    /// Hooks that are new or have changed.
    pub hook: BTreeMap<Hook, Rule>,
    /// Hooks that go, with the rule they had.
    pub unhook: BTreeMap<Hook, Rule>,
}

/// What brings the kernel from one ruleset to the next: steps to carry out in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The steps; none where nothing changed.
    pub steps: Vec<Step>,
}

impl Update {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How far it goes.
    #[must_use]
    pub fn reach(&self) -> Reach {
        let reach = |step: &Step| match step {
            Step::AddMembers(_) | Step::RemoveMembers(_) => Reach::Members,
            Step::CreateSets(_) | Step::ReplaceChains(_) | Step::DestroySets(_) => Reach::Chains,
        };
        self.steps.iter().map(reach).max().unwrap_or_default()
    }
}

/// How far an [`Update`] goes, which says what it costs to carry out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// It changes nothing.
    #[default]
    Nothing,
    /// It changes what standing sets hold, and nothing else: that takes microseconds.
    Members,
    /// It changes chains, or which sets there are: that takes a transaction.
    Chains,
}

impl Ruleset {
    /// Carries out one step, as the kernel does.
    pub fn carry_out(&mut self, step: &Step) {
        match step {
            Step::CreateSets(sets) => {
                for (name, set) in sets {
                    self.family_mut(name.family).sets.insert(name.clone(), set.clone());
                }
            }
            Step::AddMembers(sets) => {
                for (name, members) in sets {
                    let set = self.family_mut(name.family).sets.entry(name.clone()).or_default();
                    set.members.add(members);
                }
            }
            Step::ReplaceChains(update) => {
                let rules = self.family_mut(update.family);
                for name in &update.delete {
                    rules.chains.remove(name);
                }
                for (name, chain) in &update.replace {
                    rules.chains.insert(name.clone(), chain.clone());
                }
                for hook in update.unhook.keys() {
                    rules.hooks.remove(hook);
                }
                for (hook, rule) in &update.hook {
                    rules.hooks.insert(*hook, rule.clone());
                }
            }
            Step::RemoveMembers(sets) => {
                for (name, members) in sets {
                    if let Some(set) = self.family_mut(name.family).sets.get_mut(name) {
                        set.members.remove(members);
                    }
                }
            }
            Step::DestroySets(names) => {
                for name in names {
                    self.family_mut(name.family).sets.remove(name);
                }
            }
        }
    }
}
