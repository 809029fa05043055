//! Moving the sets of one family to generations that the kernel has not seen.
//!
//! Whoever starts over, be it a new process or one whose write failed, must not edit a set that it
//! finds: old rules refer to it, and with its members changed they would say what neither the old
//! nor the new policies say. So every set of pods, and that of known addresses, is made anew under a
//! fresh generation. The engine
//! counts generations from its own start; here a constant is added to them, for one family alone, so
//! that the other family, and the engine, need not know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{AddressSet, Chain, FamilyRules, Generation, SetName};
use policy_compiler::update::{ChainsUpdate, Step, Update};

/// What is added to the generations of one family's sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift(u32);

impl Shift {
    /// The shift after which generations from `start` on are all newer than `newest`.
    #[must_use]
    pub fn beyond(newest: Option<Generation>, start: Generation) -> Self {
        let modulus = u64::from(Generation::LIMIT) + 1;
        let first = newest.map_or(start, Generation::next);
        let distance = (u64::from(first.0) + modulus - u64::from(start.0) % modulus) % modulus;
        Self(u32::try_from(distance).unwrap_or(0))
    }

    /// The name that the kernel knows the set by.
    #[must_use]
    pub fn name(self, name: &SetName) -> SetName {
        let modulus = u64::from(Generation::LIMIT) + 1;
        match name.role.generation() {
            Some(generation) => {
                let moved = (u64::from(generation.0) + u64::from(self.0)) % modulus;
                name.in_generation(Generation(u32::try_from(moved).unwrap_or(0)))
            }
            None => name.clone(),
        }
    }

    fn chain(self, chain: &Arc<Chain>) -> Arc<Chain> {
        chain.with_sets_called(&|set| self.name(set))
    }

    /// The rules of a family, with the names that the kernel knows.
    #[must_use]
    pub fn rules(self, rules: &FamilyRules) -> FamilyRules {
        FamilyRules {
            hooks: rules.hooks.clone(),
            chains: rules.chains.iter().map(|(n, c)| (n.clone(), self.chain(c))).collect(),
            sets: rules.sets.iter().map(|(n, s)| (self.name(n), s.clone())).collect(),
        }
    }

    /// The steps of `update` that concern `family`, with the names that the kernel knows.
    #[must_use]
    pub fn steps(self, update: &Update, family: Family) -> Vec<Step> {
        update.steps.iter().filter_map(|step| self.step(step, family)).collect()
    }

    fn step(self, step: &Step, family: Family) -> Option<Step> {
        match step {
            Step::CreateSets(sets) => self.sets(sets, family).map(Step::CreateSets),
            Step::AddMembers(sets) => self.sets(sets, family).map(Step::AddMembers),
            Step::RemoveMembers(sets) => self.sets(sets, family).map(Step::RemoveMembers),
            Step::DestroySets(names) => {
                let names: BTreeSet<SetName> =
                    names.iter().filter(|n| n.family == family).map(|n| self.name(n)).collect();
                (!names.is_empty()).then_some(Step::DestroySets(names))
            }
            Step::ReplaceChains(update) if update.family == family => {
                let replace = update.replace.iter();
                Some(Step::ReplaceChains(ChainsUpdate {
                    family,
                    replace: replace.map(|(n, c)| (n.clone(), self.chain(c))).collect(),
                    delete: update.delete.clone(),
                    hook: update.hook.clone(),
                    unhook: update.unhook.clone(),
                }))
            }
            Step::ReplaceChains(_) => None,
        }
    }

    fn sets<T: Clone>(
        self,
        sets: &BTreeMap<SetName, T>,
        family: Family,
    ) -> Option<BTreeMap<SetName, T>> {
        let ours: BTreeMap<SetName, T> = sets
            .iter()
            .filter(|(name, _)| name.family == family)
            .map(|(name, content)| (self.name(name), content.clone()))
            .collect();
        (!ours.is_empty()).then_some(ours)
    }
}

/// Sets with their members, by name.
pub(super) type Sets = BTreeMap<SetName, AddressSet>;

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::ruleset::{ChainName, Match, Rule, SetHash, SetRole, Side, Target};

    fn known(generation: u32) -> SetName {
        let role = SetRole::Known { generation: Generation(generation) };
        SetName { family: Family::V4, role }
    }

    fn pods(family: Family, generation: u32) -> SetName {
        let hash = SetHash::new("abc").unwrap();
        let role = SetRole::Pods { hash, generation: Generation(generation) };
        SetName { family, role }
    }

    #[test]
    fn a_start_over_found_sets_names_none_of_them() {
        for (newest, start, expected) in [
            (None, 0, 0),
            (None, 7, 7),
            (Some(0), 0, 1),
            (Some(4), 7, 5),
            (Some(9), 7, 10),
            (Some(Generation::LIMIT), 3, 0),
        ] {
            let shift = Shift::beyond(newest.map(Generation), Generation(start));
            assert_eq!(
                shift.name(&pods(Family::V4, start)),
                pods(Family::V4, expected),
                "{newest:?} {start}"
            );
            assert_eq!(shift.name(&known(start)), known(expected), "{newest:?} {start}");
        }
    }

    #[test]
    fn an_update_is_split_by_family_and_rules_follow_their_sets() {
        let shift = Shift::beyond(Some(Generation(4)), Generation(0));
        let looks_up = |generation| {
            Arc::new(Chain {
                rules: vec![Rule {
                    matches: vec![
                        Match::Set { set: pods(Family::V4, generation), side: Side::Source },
                        Match::NotInSet { set: known(generation), side: Side::Source },
                    ],
                    comment: None,
                    target: Target::Return,
                }],
            })
        };
        let body = ChainName::new("NPC-E-abc").unwrap();
        let chains = |generation| {
            Step::ReplaceChains(ChainsUpdate {
                family: Family::V4,
                replace: BTreeMap::from([(body.clone(), looks_up(generation))]),
                delete: BTreeSet::new(),
                hook: BTreeMap::new(),
                unhook: BTreeMap::new(),
            })
        };
        let update = Update {
            steps: vec![
                Step::CreateSets(BTreeMap::from([
                    (pods(Family::V4, 0), AddressSet::default()),
                    (pods(Family::V6, 0), AddressSet::default()),
                ])),
                chains(0),
                Step::DestroySets(BTreeSet::from([pods(Family::V6, 0)])),
            ],
        };
        assert_eq!(
            shift.steps(&update, Family::V4),
            [
                Step::CreateSets(BTreeMap::from([(pods(Family::V4, 5), AddressSet::default())])),
                chains(5),
            ]
        );
    }
}
