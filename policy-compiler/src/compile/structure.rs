//! A ruleset without the addresses of pods: chains, and what each set is filled from.
//!
//! It changes with policies and with the pods of the node. A pod elsewhere that comes or goes is a
//! member more or less of sets that stand, and the structure stays what it is. It knows what it was when
//! it was last settled, which is what stands in the kernel, so that whoever plans the way from there looks
//! at what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

use super::tracked::Tracked;
use crate::cidr::Family;
use crate::index::{Index, MembershipId, NamedId};
use crate::lookup::Lookup;
use crate::policy::Direction;
use crate::ruleset::{AddressSet, Chain, ChainName, FamilyRules, Hook, Rule, Ruleset, SetName};

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The addresses of the pods of a membership.
    Pods(MembershipId),
    /// The addresses at which a number is found under a name.
    Number(NamedId, NonZeroU16),
    /// The addresses in these networks, which are disjoint, that belong to somebody.
    Known(Arc<[IpNet]>),
    /// These.
    Fixed(Arc<AddressSet>),
}

impl Source {
    /// All members of the set, in a family.
    pub(crate) fn members(&self, index: &Index, family: Family) -> AddressSet {
        let addresses = match self {
            Source::Pods(id) => {
                return AddressSet { members: index.members(*id, family).into_iter().collect() };
            }
            Source::Number(id, number) => index.found_at(*id, *number),
            Source::Known(networks) => index.known_in(networks),
            Source::Fixed(set) => return AddressSet::clone(set),
        };
        AddressSet { members: addresses.into_iter().collect() }
    }
}

/// A leaf of a tree: which tree, and for whose packets.
pub(crate) type Leaf = (Direction, IpAddr);

/// Chains, hooks and sets of one family, every set in generation 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct FamilyStructure {
    /// The rule of ours that stands first in each built-in chain.
    pub(crate) hooks: Tracked<Hook, Rule>,
    /// Our chains. Those that are the same as before are shared with what was before.
    pub(crate) chains: Tracked<ChainName, Arc<Chain>>,
    /// Our sets.
    sets: Tracked<SetName, Source>,
    /// Where the leaves of the trees lead.
    pub(crate) leaves: Tracked<Leaf, ChainName>,
    /// The leaves whose own chain may be another.
    pub(crate) touched: BTreeSet<Leaf>,
    fed: Fed,
}

/// The sets of a family, by what they are filled from.
#[derive(Clone, Debug, Default)]
struct Fed {
    /// Only looked up, so that its order does not matter.
    by_membership: BTreeMap<MembershipId, Vec<SetName>>,
    by_number: Lookup<(NamedId, NonZeroU16), SetName>,
    known: BTreeSet<SetName>,
}

impl Fed {
    fn add(&mut self, set: &SetName, source: &Source) {
        match source {
            Source::Pods(id) => self.by_membership.entry(*id).or_default().push(set.clone()),
            Source::Number(id, number) => {
                self.by_number.insert((*id, *number), set.clone());
            }
            Source::Known(_) => drop(self.known.insert(set.clone())),
            Source::Fixed(_) => {}
        }
    }

    fn remove(&mut self, set: &SetName, source: &Source) {
        match source {
            Source::Pods(id) => {
                let Some(sets) = self.by_membership.get_mut(id) else { return };
                sets.retain(|other| other != set);
                if sets.is_empty() {
                    self.by_membership.remove(id);
                }
            }
            Source::Number(id, number) => drop(self.by_number.remove(&(*id, *number))),
            Source::Known(_) => drop(self.known.remove(set)),
            Source::Fixed(_) => {}
        }
    }
}

impl FamilyStructure {
    /// What has these hooks, chains and sets, and had none.
    pub(crate) fn new(
        hooks: BTreeMap<Hook, Rule>,
        chains: BTreeMap<ChainName, Arc<Chain>>,
        sets: BTreeMap<SetName, Source>,
    ) -> Self {
        let (hooks, chains) = (Tracked::new(hooks), Tracked::new(chains));
        let mut structure = Self { hooks, chains, ..Self::default() };
        for (set, source) in sets {
            structure.put_set(set, source);
        }
        structure
    }

    /// Our sets, with what each is filled from.
    pub(crate) fn sets(&self) -> &Tracked<SetName, Source> {
        &self.sets
    }

    /// Puts a set in, or fills it from something else.
    pub(crate) fn put_set(&mut self, set: SetName, source: Source) {
        match self.sets.get(&set) {
            Some(same) if *same == source => return,
            Some(other) => self.fed.remove(&set, other),
            None => {}
        }
        self.fed.add(&set, &source);
        self.sets.put(set, source);
    }

    /// Takes a set out.
    pub(crate) fn remove_set(&mut self, set: &SetName) {
        if let Some(source) = self.sets.get(set) {
            self.fed.remove(set, source);
        }
        self.sets.remove(set);
    }

    /// The sets that are filled from a membership.
    pub(crate) fn fed_by(&self, id: MembershipId) -> &[SetName] {
        self.fed.by_membership.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The set that is filled with the addresses of a number.
    pub(crate) fn fed_by_number(&self, id: NamedId, number: NonZeroU16) -> Option<&SetName> {
        self.fed.by_number.get(&(id, number))
    }

    /// The sets of known addresses.
    pub(crate) fn known(&self) -> impl Iterator<Item = &SetName> {
        self.fed.known.iter()
    }

    /// The memberships from which sets are filled.
    pub(crate) fn memberships(&self) -> impl Iterator<Item = MembershipId> {
        self.fed.by_membership.keys().copied()
    }

    /// Whether it is what it was, but for members of its sets.
    pub(crate) fn is_settled(&self) -> bool {
        self.hooks.changed() + self.chains.changed() + self.sets.changed() == 0
            && self.leaves.changed() == 0
            && self.touched.is_empty()
    }

    fn settle(&mut self) {
        self.hooks.settle();
        self.chains.settle();
        self.sets.settle();
        self.leaves.settle();
        self.touched.clear();
    }

    fn follow(&mut self, other: Self) {
        self.hooks.follow(other.hooks);
        self.chains.follow(other.chains);
        self.sets.follow(other.sets);
        self.leaves.follow(other.leaves);
    }
}

/// The structure of a ruleset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Structure {
    /// IPv4.
    pub(crate) v4: FamilyStructure,
    /// IPv6.
    pub(crate) v6: FamilyStructure,
    /// Whether any leaf may have been another, and lead elsewhere, whatever leaves tell.
    pub(crate) whole: bool,
}

impl Structure {
    /// That of one family.
    pub(crate) fn family(&self, family: Family) -> &FamilyStructure {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// That of one family, to change.
    pub(crate) fn family_mut(&mut self, family: Family) -> &mut FamilyStructure {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// What it is now it is to have been.
    pub(crate) fn settle(&mut self) {
        self.v4.settle();
        self.v6.settle();
        self.whole = false;
    }

    /// Lets it have been what `other` was.
    pub(crate) fn follow(&mut self, other: Self) {
        self.v4.follow(other.v4);
        self.v6.follow(other.v6);
        self.whole = true;
    }

    /// The ruleset of this structure, with the members of its sets.
    pub(crate) fn filled(&self, index: &Index) -> Ruleset {
        let [v4, v6] = Family::ALL.map(|family| {
            let FamilyStructure { hooks, chains, sets, .. } = self.family(family);
            let sets = sets.now().iter();
            let sets = sets.map(|(name, source)| (name.clone(), source.members(index, family)));
            FamilyRules {
                hooks: hooks.now().clone(),
                chains: chains.now().clone(),
                sets: sets.collect(),
            }
        });
        Ruleset { v4, v6 }
    }
}
