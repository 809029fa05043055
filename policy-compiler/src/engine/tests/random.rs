//! The promise of the plan on rulesets made at random: two local pods that share bodies or not, three
//! sets, five addresses, of which some are known where unknown ones are denied, so that rules, members
//! and owners change together all the time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::course::{denying_unknown, ingress, safe_start, safe_steps};
use crate::ruleset::{Member, Rule, Ruleset, SetName, Target};
use crate::simulate::fixture::*;

const CHAINS: [&str; 2] = ["NPC-I-a", "NPC-I-b"];
const BODIES: [&str; 2] = ["NPC-IB-x", "NPC-IB-y"];
const SETS: [&str; 3] = ["p", "q", "r"];

/// A grant: to the set of this index, on this port or all.
fn grants() -> impl Strategy<Value = Vec<(usize, Option<u16>)>> {
    let port = prop_oneof![Just(None), Just(Some(80)), Just(Some(443))];
    prop::collection::vec((0..SETS.len(), port), 0..3)
}

/// What the chain of a pod does: its own rules, or those of a shared body.
#[derive(Clone, Debug)]
enum Content {
    Own(Vec<(usize, Option<u16>)>),
    Body(usize),
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![grants().prop_map(Content::Own), (0..BODIES.len()).prop_map(Content::Body)]
}

/// The network in which unknown addresses are denied, and which are known.
type Known = Option<(&'static str, BTreeSet<u8>)>;

/// Chains of pods, bodies, owners of the two local addresses (if isolated), members of sets, and who is
/// known.
type Parts =
    ([Content; 2], [Vec<(usize, Option<u16>)>; 2], [Option<usize>; 2], [BTreeSet<u8>; 3], Known);

fn parts() -> impl Strategy<Value = Parts> {
    let owner = || prop::option::weighted(0.8, 0..CHAINS.len());
    let content_of_set = || prop::collection::btree_set(1..=5_u8, 0..4);
    (
        [content(), content()],
        [grants(), grants()],
        [owner(), owner()],
        [content_of_set(), content_of_set(), content_of_set()],
        known_addresses(),
    )
}

fn known_addresses() -> impl Strategy<Value = Known> {
    let network = prop_oneof![4 => Just("10.0.0.0/29"), 1 => Just("10.0.0.0/30")];
    prop::option::weighted(0.7, (network, prop::collection::btree_set(1..=5_u8, 0..6)))
}

fn assemble((chains, bodies, owners, sets, known): &Parts, generation: u32) -> Ruleset {
    let set = |index: usize| pods(SETS[index], generation);
    let rules = |grants: &[(usize, Option<u16>)]| -> Vec<Rule> {
        let allow = |(index, number): &(usize, Option<u16>)| match number {
            Some(number) => rule([tcp(), port(*number), from_set(&set(*index))], Target::Return),
            None => rule([from_set(&set(*index))], Target::Return),
        };
        grants.iter().map(allow).collect()
    };
    let addresses = ["10.0.0.1", "10.0.0.2"];
    let owned: Vec<(&str, &str, Vec<Rule>)> = addresses
        .into_iter()
        .zip(owners)
        .filter_map(|(address, owner)| owner.map(|owner| (address, owner)))
        .map(|(address, owner)| {
            let content = match &chains[owner] {
                Content::Own(grants) => rules(grants),
                Content::Body(body) => vec![rule([], goto(BODIES[*body]))],
            };
            (address, CHAINS[owner], content)
        })
        .collect();
    let bodies: Vec<(&str, Vec<Rule>)> =
        BODIES.into_iter().zip(bodies.iter().map(|grants| rules(grants))).collect();
    let mut ruleset = ingress(&owned, &bodies, &[]);
    keep_referenced(&mut ruleset);
    for (index, members) in sets.iter().enumerate() {
        let member = |last: &u8| Member::address(ip(&format!("10.0.0.{last}")));
        let members = members.iter().map(member).collect();
        if mentions(&ruleset, &set(index)) {
            let set = set(index);
            ruleset.v4.sets.insert(set, crate::ruleset::AddressSet { members });
        }
    }
    let Some((network, known)) = known else { return ruleset };
    let known: Vec<String> = known.iter().map(|last| format!("10.0.0.{last}")).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    denying_unknown(ruleset, network, &known, generation)
}

/// Leaves out the bodies to which no chain leads, as `compile` does.
fn keep_referenced(ruleset: &mut Ruleset) {
    let wanted: BTreeSet<_> = ruleset
        .v4
        .chains
        .values()
        .flat_map(|chain| &chain.rules)
        .map(|rule| rule.target.clone())
        .collect();
    for body in BODIES {
        if !wanted.contains(&goto(body)) {
            ruleset.v4.chains.remove(&name(body));
        }
    }
}

fn mentions(ruleset: &Ruleset, set: &SetName) -> bool {
    let wanted = from_set(set);
    let mut rules = ruleset.v4.chains.values().flat_map(|chain| &chain.rules);
    rules.any(|rule| rule.matches.contains(&wanted))
}

proptest! {
    #![proptest_config(crate::laws::config(2000))]

    #[test]
    fn no_step_says_what_neither_ruleset_says(old in parts(), new in parts()) {
        safe_steps(&assemble(&old, 3), &assemble(&new, 0));
    }

    #[test]
    fn nor_where_members_change_and_few_rules_do(old in parts(), new in parts(), chain in 0..2_usize) {
        let mut mixed = new;
        mixed.0[chain].clone_from(&old.0[chain]);
        mixed.1.clone_from(&old.1);
        mixed.2 = old.2;
        mixed.4 = match (&old.4, mixed.4) {
            (Some((network, _)), Some((_, known))) => Some((*network, known)),
            _ => old.4.clone(),
        };
        safe_steps(&assemble(&old, 3), &assemble(&mixed, 0));
    }

    #[test]
    fn nor_does_a_start_over_what_an_earlier_run_wrote(old in parts(), new in parts()) {
        safe_start(&assemble(&old, 3), &assemble(&new, 0));
    }
}
