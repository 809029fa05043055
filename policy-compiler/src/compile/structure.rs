//! A ruleset without the addresses of pods: chains, and what each set is filled from.
//!
//! It changes with policies and with the pods of the node. A pod elsewhere that comes or goes is a
//! member more or less of sets that stand, and the structure stays what it is.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

use crate::cidr::Family;
use crate::index::{Index, MembershipId, NamedId};
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

/// Chains, hooks and sets of one family, every set in generation 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FamilyStructure {
    /// The rule of ours that stands first in each built-in chain.
    pub(crate) hooks: BTreeMap<Hook, Rule>,
    /// Our chains. Those that are the same as before are shared with what was before.
    pub(crate) chains: BTreeMap<ChainName, Arc<Chain>>,
    /// Our sets.
    pub(crate) sets: BTreeMap<SetName, Source>,
}

impl FamilyStructure {
    /// Puts a chain in.
    pub(crate) fn put(&mut self, name: ChainName, chain: Chain) {
        self.chains.insert(name, Arc::new(chain));
    }

    /// Puts chains in.
    pub(crate) fn put_all(&mut self, chains: BTreeMap<ChainName, Chain>) {
        self.chains.extend(chains.into_iter().map(|(name, chain)| (name, Arc::new(chain))));
    }
}

/// The structure of a ruleset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Structure {
    /// IPv4.
    pub(crate) v4: FamilyStructure,
    /// IPv6.
    pub(crate) v6: FamilyStructure,
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

    /// The ruleset of this structure, with the members of its sets.
    pub(crate) fn filled(&self, index: &Index) -> Ruleset {
        let [v4, v6] = Family::ALL.map(|family| {
            let FamilyStructure { hooks, chains, sets } = self.family(family);
            let chains = chains.iter().map(|(name, chain)| (name.clone(), Chain::clone(chain)));
            let sets =
                sets.iter().map(|(name, source)| (name.clone(), source.members(index, family)));
            FamilyRules { hooks: hooks.clone(), chains: chains.collect(), sets: sets.collect() }
        });
        Ruleset { v4, v6 }
    }
}
