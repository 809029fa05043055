//! Follows an update edit by edit and judges every state on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::{Plan, members, plan};
use crate::packet::Packet;
use crate::policy::Direction;
use crate::ruleset::{
    FamilyRules, Generation, Hook, Match, MemberSet, Rule, Ruleset, SetName, SetRole, Side,
};
use crate::simulate::fixture::*;
use crate::simulate::{Outcome, check, simulate_half};
use crate::update::{Step, Update};

/// The generation in which the tests' plans make sets.
pub(super) const FRESH: u32 = 9;

/// IPv4 rules of a node where these pods are isolated for ingress: address, chain and rules, behind
/// which the chain denies; with bodies to go to, and sets with their members.
pub(super) fn ingress(
    pods: &[(&str, &str, Vec<Rule>)],
    bodies: &[(&str, Vec<Rule>)],
    sets: &[(crate::ruleset::SetName, &[&str])],
) -> Ruleset {
    let chain = |rules: Vec<Rule>| Arc::new(crate::ruleset::Chain { rules });
    let denying = |rules: &[Rule]| {
        let mut rules = rules.to_vec();
        rules.push(rule([], goto("NPC-DENY-I")));
        chain(rules)
    };
    let mut rules = table(
        [
            (
                "NPC-FORWARD",
                vec![
                    rule([Match::NotSyn, Match::New], jump("NPC-MIDSTREAM")),
                    rule([], jump("NPC-INGRESS")),
                ],
            ),
            ("NPC-MIDSTREAM", vec![rule([to_set(&isolated())], goto("NPC-DENY-I"))]),
            ("NPC-DENY-I", vec![rule([], DROP)]),
        ],
        [],
    );
    let leaves = pods.iter().map(|(address, name, _)| rule([dst(address)], goto(name)));
    rules.chains.insert(name("NPC-INGRESS"), chain(leaves.collect()));
    let named = pods.iter().map(|(_, name, rules)| (*name, rules));
    for (chain_name, content) in named.chain(bodies.iter().map(|(name, rules)| (*name, rules))) {
        rules.chains.insert(name(chain_name), denying(content));
    }
    rules.sets = sets.iter().map(|(name, texts)| (name.clone(), members(texts))).collect();
    let addresses: Vec<&str> = pods.iter().map(|(address, ..)| *address).collect();
    rules.sets.insert(isolated(), members(&addresses));
    v4(rules)
}

/// The same, where what lies in `network` and is not among `known` is denied; that set is in this
/// generation.
pub(super) fn denying_unknown(
    mut ruleset: Ruleset,
    network: &str,
    known_addresses: &[&str],
    generation: u32,
) -> Ruleset {
    let set = known(generation);
    let not_known = |side| Match::NotInSet { set: set.clone(), side };
    let denials = [
        rule([src(network), not_known(Side::Source)], goto("NPC-DENY-E")),
        rule([dst(network), not_known(Side::Destination)], goto("NPC-DENY-I")),
    ];
    let chains = &mut ruleset.v4.chains;
    let forward = chains.entry(name("NPC-FORWARD")).or_default();
    Arc::make_mut(forward).rules.splice(0..0, denials);
    for chain in ["NPC-DENY-E", "NPC-DENY-I"] {
        chains.insert(name(chain), Arc::new(crate::ruleset::Chain { rules: vec![rule([], DROP)] }));
    }
    ruleset.v4.sets.insert(set, members(known_addresses));
    ruleset
}

/// The rules of a node without isolated pods.
pub(super) fn idle() -> Ruleset {
    v4(table([("NPC-FORWARD", vec![])], []))
}

/// The steps from `old` to `new`. Asserts that they lead there, and that no single edit on the way
/// says of any packet what neither ruleset says.
pub(super) fn safe_steps(old: &Ruleset, new: &Ruleset) -> Vec<Step> {
    let plan = plan(old, new, Generation(FRESH));
    assert_eq!(check(&plan.ruleset), Ok(()));
    assert_eq!(without_generations(&plan.ruleset), without_generations(new));
    for backwards in [false, true] {
        assert_eq!(follow(old, new, &plan.update, backwards), plan.ruleset);
        assert_eq!(follow(old, new, &members_first(old, &plan), backwards), plan.ruleset);
    }
    plan.update.steps
}

/// The update with all ahead that may go ahead while its chains wait. What stays behind of members of
/// sets of pods leaves for a set that is made anew.
pub(super) fn members_first(old: &Ruleset, plan: &Plan) -> Update {
    let mut rest = plan.clone();
    let mut steps = members::take(old, &mut rest.update, &plan.held).steps;
    let mut anew = MemberSet::default();
    for step in &rest.update.steps {
        match step {
            Step::CreateSets(sets) => {
                for set in sets.values() {
                    anew.add(&set.members);
                }
            }
            Step::AddMembers(sets) => {
                let waits = |set: &SetName| set.role.generation().is_none() || is_known(set);
                assert!(sets.keys().all(|set| waits(set) || plan.held.contains(set)));
            }
            Step::RemoveMembers(sets) => {
                let leaving = sets.iter().filter(|(set, _)| {
                    set.role.generation().is_some() && !plan.held.contains(*set)
                });
                for member in leaving.flat_map(|(_, members)| members.iter()) {
                    assert!(anew.contains(&member), "{member:?} stays behind in {:?}", plan.update);
                }
            }
            Step::ReplaceChains(_) | Step::DestroySets(_) => {}
        }
    }
    steps.extend(rest.update.steps);
    Update { steps }
}

fn is_known(set: &SetName) -> bool {
    matches!(set.role, SetRole::Known { .. })
}

/// Asserts the same of a start: the plan takes the kernel to be empty, which has `old`.
pub(super) fn safe_start(old: &Ruleset, new: &Ruleset) {
    let plan = plan(&Ruleset::default(), new, Generation(FRESH));
    let started = follow(old, new, &over_what_is_found(old, plan.update), false);
    assert_eq!(verdicts(&started), verdicts(new));
}

/// The update as a start carries it out, which finds the set of isolated addresses: they join it before
/// the chains change, and leave it after.
fn over_what_is_found(found: &Ruleset, mut update: Update) -> Update {
    let Some(there) = found.v4.sets.get(&isolated()) else { return update };
    let Some(Step::CreateSets(create)) = update.steps.first_mut() else { return update };
    let Some(wanted) = create.remove(&isolated()) else { return update };
    let edited = |members| [(isolated(), members)].into();
    update.steps.insert(1, Step::AddMembers(edited(wanted.members.difference(&there.members))));
    update.steps.push(Step::RemoveMembers(edited(there.members.difference(&wanted.members))));
    update
}

/// Carries `update` out on `old`, edit by edit, comparing each state with `old` and with `new`.
fn follow(old: &Ruleset, new: &Ruleset, update: &Update, backwards: bool) -> Ruleset {
    let (before, after) = (verdicts(old), verdicts(new));
    let mut ruleset = old.clone();
    for edit in edits(update, backwards) {
        ruleset.carry_out(&edit);
        for (question, verdict) in verdicts(&ruleset) {
            assert!(
                before[&question] == verdict || after[&question] == verdict,
                "{question:?} is {verdict:?} after {edit:?} of {update:?}"
            );
        }
    }
    ruleset
}

/// The steps with every member by itself, in either order.
fn edits(update: &Update, backwards: bool) -> Vec<Step> {
    let mut edits = Vec::new();
    for step in &update.steps {
        let (members, make): (_, fn(_) -> Step) = match step {
            Step::AddMembers(members) => (members, Step::AddMembers),
            Step::RemoveMembers(members) => (members, Step::RemoveMembers),
            other => {
                edits.push(other.clone());
                continue;
            }
        };
        let mut single: Vec<Step> = members
            .iter()
            .flat_map(|(set, members)| members.iter().map(move |member| (set, member)))
            .map(|(set, member)| make([(set.clone(), [member].into())].into()))
            .collect();
        if backwards {
            single.reverse();
        }
        edits.extend(single);
    }
    edits
}

/// Each half of every question that the tests' addresses and ports allow; `None` where malformed.
fn verdicts(ruleset: &Ruleset) -> BTreeMap<(String, String, u16, bool, Direction), Option<bool>> {
    let mut verdicts = BTreeMap::new();
    for (from, to) in (1..=5).flat_map(|from| (1..=5).map(move |to| (from, to))) {
        let (from, to) = (format!("10.0.0.{from}"), format!("10.0.0.{to}"));
        for (port, opens) in [(80, true), (443, true), (80, false)] {
            let packet = Packet { syn: opens, ..syn(&from, &to, port) };
            for direction in Direction::ALL {
                let verdict = match simulate_half(ruleset, direction, &packet).outcome {
                    Outcome::Passes => Some(true),
                    Outcome::Denied { .. } => Some(false),
                    Outcome::Malformed { .. } => None,
                };
                verdicts.insert((from.clone(), to.clone(), port, opens, direction), verdict);
            }
        }
    }
    verdicts
}

/// The ruleset as `compile` would have it.
pub(super) fn without_generations(ruleset: &Ruleset) -> Ruleset {
    plan(&Ruleset::default(), ruleset, Generation(0)).ruleset
}

/// The hook of the tests' tables.
pub(super) fn hook() -> BTreeMap<Hook, Rule> {
    idle().v4.hooks
}

/// A ruleset that has nothing.
pub(super) fn nothing() -> Ruleset {
    v4(FamilyRules::default())
}
