//! Which steps lead from one ruleset to another where pods are audited.

use std::sync::Arc;

use super::course::{ingress, safe_steps};
use crate::policy::Direction;
use crate::ruleset::{Chain, Notice, Rule, Ruleset, SetName, Target};
use crate::simulate::fixture::*;
use crate::update::Step;

fn allow(set: &SetName, number: u16) -> Rule {
    rule([tcp(), port(number), from_set(set)], Target::Return)
}

/// 10.0.0.1 is isolated by these rules, and 10.0.0.5 audited by those; both may look `p` up, which has
/// these members.
fn rules(isolating: Rule, auditing: Rule, content: &[&str]) -> Ruleset {
    let pods = [("10.0.0.1", "NPC-I-a", vec![isolating])];
    let mut ruleset = ingress(&pods, &[], &[(pods_set(), content)]);
    let chains = &mut ruleset.v4.chains;
    let leaf = rule([dst("10.0.0.5")], goto("NPC-AI-b"));
    Arc::make_mut(chains.get_mut(&name("NPC-INGRESS")).unwrap()).rules.push(leaf);
    let tell = rule([], Target::Log(Notice::Audited(Direction::Ingress)));
    for (chain, rules) in [
        ("NPC-AI-b", vec![rule([], jump("NPC-AIB-c"))]),
        ("NPC-AIB-c", vec![auditing, rule([], goto("NPC-AUDIT-I"))]),
        ("NPC-AUDIT-I", vec![tell, rule([], Target::Return)]),
    ] {
        chains.insert(name(chain), Chain { rules }.into());
    }
    ruleset
}

fn pods_set() -> SetName {
    pods("p", 3)
}

fn edits_members(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::AddMembers(_)))
}

fn makes_sets(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::CreateSets(_)))
}

#[test]
fn an_audit_that_changes_with_the_members_of_its_set_has_the_set_edited() {
    let anybody = || rule([tcp(), port(22)], Target::Return);
    let old = rules(anybody(), allow(&pods_set(), 80), &["10.0.0.2"]);
    let new = rules(anybody(), allow(&pods_set(), 443), &["10.0.0.3"]);
    let steps = safe_steps(&old, &new);
    assert!(edits_members(&steps) && !makes_sets(&steps), "{steps:#?}");
}

#[test]
fn a_set_that_an_isolated_pod_needs_is_made_anew_whoever_audits_by_it() {
    let old = rules(allow(&pods_set(), 80), allow(&pods_set(), 80), &["10.0.0.2"]);
    let new = rules(allow(&pods_set(), 443), allow(&pods_set(), 443), &["10.0.0.3"]);
    let steps = safe_steps(&old, &new);
    assert!(makes_sets(&steps) && !edits_members(&steps), "{steps:#?}");
}

#[test]
fn a_pod_that_is_isolated_after_it_was_audited_or_before_has_its_set_edited() {
    let anybody = || rule([tcp(), port(22)], Target::Return);
    let old = rules(anybody(), allow(&pods_set(), 80), &["10.0.0.2"]);
    let isolated = [
        ("10.0.0.1", "NPC-I-a", vec![anybody()]),
        ("10.0.0.5", "NPC-I-b", vec![allow(&pods_set(), 443)]),
    ];
    let new = ingress(&isolated, &[], &[(pods_set(), &["10.0.0.3"])]);
    for (old, new) in [(&old, &new), (&new, &old)] {
        let steps = safe_steps(old, new);
        assert!(edits_members(&steps) && !makes_sets(&steps), "{steps:#?}");
    }
}
