//! Which steps lead from one ruleset to another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::course::{FRESH, denying_unknown, hook, idle, ingress, nothing, safe_steps};
use crate::cidr::Family;
use crate::ruleset::{AddressSet, Chain, MemberSet, Rule, Ruleset, SetName, Target};
use crate::simulate::fixture::*;
use crate::update::{ChainsUpdate, Step};

fn allow(set: &SetName, number: u16) -> Rule {
    rule([tcp(), port(number), from_set(set)], Target::Return)
}

/// The set `p` as it is in the kernel, and as it is when made anew.
fn p() -> SetName {
    pods("p", 3)
}

fn p_anew() -> SetName {
    pods("p", FRESH)
}

fn q() -> SetName {
    pods("q", 3)
}

fn addresses(texts: &[&str]) -> MemberSet {
    members(texts).members
}

fn edited(set: &SetName, texts: &[&str]) -> BTreeMap<SetName, MemberSet> {
    [(set.clone(), addresses(texts))].into()
}

fn created(set: &SetName, texts: &[&str]) -> BTreeMap<SetName, AddressSet> {
    [(set.clone(), members(texts))].into()
}

fn chain(ruleset: &Ruleset, text: &str) -> Arc<Chain> {
    ruleset.v4.chains[&name(text)].clone()
}

/// What is asked of an update, in brief: the chains that it declares and deletes, and the sets that it
/// creates, edits and destroys.
#[derive(Debug, Default, PartialEq, Eq)]
struct Brief {
    creates: BTreeSet<String>,
    adds_to: BTreeSet<String>,
    replaces: BTreeSet<String>,
    deletes: BTreeSet<String>,
    removes_from: BTreeSet<String>,
    destroys: BTreeSet<String>,
}

fn brief(steps: &[Step]) -> Brief {
    fn names<'a, T: ToString + 'a>(names: impl Iterator<Item = &'a T>) -> BTreeSet<String> {
        names.map(ToString::to_string).collect()
    }
    let mut brief = Brief::default();
    for step in steps {
        match step {
            Step::CreateSets(sets) => brief.creates = names(sets.keys()),
            Step::AddMembers(sets) => brief.adds_to = names(sets.keys()),
            Step::ReplaceChains(update) => {
                brief.replaces = names(update.replace.keys());
                brief.deletes = names(update.delete.iter());
            }
            Step::RemoveMembers(sets) => brief.removes_from = names(sets.keys()),
            Step::DestroySets(sets) => brief.destroys = names(sets.iter()),
        }
    }
    brief
}

fn texts(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_changes_nothing() {
    let rules =
        ingress(&[("10.0.0.1", "NPC-I-a", vec![allow(&p(), 80)])], &[], &[(p(), &["10.0.0.2"])]);
    assert_eq!(safe_steps(&rules, &rules), []);
    let compiled_again = pods("p", 0);
    let same = ingress(
        &[("10.0.0.1", "NPC-I-a", vec![allow(&compiled_again, 80)])],
        &[],
        &[(compiled_again, &["10.0.0.2"])],
    );
    assert_eq!(safe_steps(&rules, &same), []);
}

#[test]
fn a_pod_elsewhere_that_comes_and_one_that_goes_are_two_edits() {
    let with = |content: &[&str]| {
        ingress(&[("10.0.0.1", "NPC-I-a", vec![allow(&p(), 80)])], &[], &[(p(), content)])
    };
    assert_eq!(
        safe_steps(&with(&["10.0.0.2", "10.0.0.3"]), &with(&["10.0.0.3", "10.0.0.4"])),
        [
            Step::AddMembers(edited(&p(), &["10.0.0.4"])),
            Step::RemoveMembers(edited(&p(), &["10.0.0.2"])),
        ]
    );
}

#[test]
fn the_first_isolated_pod_brings_sets_before_chains() {
    let new = ingress(
        &[("10.0.0.1", "NPC-I-a", vec![allow(&pods("p", 0), 80)])],
        &[],
        &[(pods("p", 0), &["10.0.0.2"])],
    );
    let rules = vec![allow(&p_anew(), 80), rule([], goto("NPC-DENY-I"))];
    let allowing = Arc::new(Chain { rules });
    let mut sets = created(&p_anew(), &["10.0.0.2"]);
    sets.insert(isolated(), members(&["10.0.0.1"]));
    let replace = ["NPC-FORWARD", "NPC-INGRESS", "NPC-MIDSTREAM", "NPC-DENY-I"]
        .map(|text| (name(text), chain(&new, text)));
    let mut update = ChainsUpdate {
        family: Family::V4,
        replace: replace.into_iter().chain([(name("NPC-I-a"), allowing)]).collect(),
        delete: BTreeSet::new(),
        hook: BTreeMap::new(),
        unhook: BTreeMap::new(),
    };
    assert_eq!(
        safe_steps(&idle(), &new),
        [Step::CreateSets(sets.clone()), Step::ReplaceChains(update.clone())]
    );
    update.hook = hook();
    assert_eq!(safe_steps(&nothing(), &new), [Step::CreateSets(sets), Step::ReplaceChains(update)]);
}

#[test]
fn the_last_isolated_pod_takes_chains_before_sets() {
    let old =
        ingress(&[("10.0.0.1", "NPC-I-a", vec![allow(&p(), 80)])], &[], &[(p(), &["10.0.0.2"])]);
    let mut update = ChainsUpdate {
        family: Family::V4,
        replace: [(name("NPC-FORWARD"), Arc::default())].into(),
        delete: ["NPC-INGRESS", "NPC-MIDSTREAM", "NPC-DENY-I", "NPC-I-a"].map(name).into(),
        hook: BTreeMap::new(),
        unhook: BTreeMap::new(),
    };
    let destroyed = Step::DestroySets([p(), isolated()].into());
    assert_eq!(safe_steps(&old, &idle()), [Step::ReplaceChains(update.clone()), destroyed.clone()]);
    update.replace.clear();
    update.delete.insert(name("NPC-FORWARD"));
    update.unhook = hook();
    assert_eq!(safe_steps(&old, &nothing()), [Step::ReplaceChains(update), destroyed]);
}

#[test]
fn a_member_that_joins_while_its_rule_moves_waits_for_the_rule() {
    // From "p on 80" to "p on 443", while 10.0.0.3 joins p: it must never reach 80.
    let with = |number: u16, content: &[&str]| {
        ingress(&[("10.0.0.1", "NPC-I-a", vec![allow(&p(), number)])], &[], &[(p(), content)])
    };
    let old = with(80, &["10.0.0.2"]);
    let new = with(443, &["10.0.0.2", "10.0.0.3"]);
    let rules = vec![allow(&p_anew(), 443), rule([], goto("NPC-DENY-I"))];
    let allowing = Arc::new(Chain { rules });
    assert_eq!(
        safe_steps(&old, &new),
        [
            Step::CreateSets(created(&p_anew(), &["10.0.0.2", "10.0.0.3"])),
            Step::ReplaceChains(ChainsUpdate {
                family: Family::V4,
                replace: [(name("NPC-I-a"), allowing)].into(),
                delete: BTreeSet::new(),
                hook: BTreeMap::new(),
                unhook: BTreeMap::new(),
            }),
            Step::DestroySets([p()].into()),
        ]
    );
}

#[test]
fn a_rule_that_moves_keeps_a_set_whose_members_stay() {
    let with = |number: u16| {
        ingress(&[("10.0.0.1", "NPC-I-a", vec![allow(&p(), number)])], &[], &[(p(), &["10.0.0.2"])])
    };
    let expected = Brief { replaces: texts(&["NPC-I-a"]), ..Brief::default() };
    assert_eq!(brief(&safe_steps(&with(80), &with(443))), expected);
}

#[test]
fn a_set_made_anew_is_repointed_in_programs_that_stay() {
    // a's rule moves while p changes; b also asks p, and is edited nowhere.
    let with = |number: u16, content: &[&str]| {
        let on_a = ("10.0.0.1", "NPC-I-a", vec![allow(&p(), number)]);
        let on_b = ("10.0.0.2", "NPC-I-b", vec![allow(&p(), 80), allow(&q(), 443)]);
        ingress(&[on_a, on_b], &[], &[(p(), content), (q(), content)])
    };
    let steps = safe_steps(&with(80, &["10.0.0.3"]), &with(443, &["10.0.0.4"]));
    let expected = Brief {
        creates: texts(&["npc4-p-p-9"]),
        adds_to: texts(&["npc4-p-q-3"]),
        replaces: texts(&["NPC-I-a", "NPC-I-b"]),
        removes_from: texts(&["npc4-p-q-3"]),
        destroys: texts(&["npc4-p-p-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
}

#[test]
fn an_address_that_changes_sets_of_a_standing_program_reaches_old_or_new_ports() {
    let rules = || vec![allow(&p(), 80), allow(&q(), 443)];
    let with = |in_p: &[&str], in_q: &[&str]| {
        ingress(&[("10.0.0.1", "NPC-I-a", rules())], &[], &[(p(), in_p), (q(), in_q)])
    };
    assert_eq!(
        safe_steps(&with(&["10.0.0.2"], &[]), &with(&[], &["10.0.0.2"])),
        [
            Step::AddMembers(edited(&q(), &["10.0.0.2"])),
            Step::RemoveMembers(edited(&p(), &["10.0.0.2"])),
        ]
    );
}

#[test]
fn sets_that_a_rule_needs_together_change_together() {
    let both = || {
        let twice = [from_set(&p()), from_set(&q())];
        vec![rule(twice, Target::Return)]
    };
    let with = |in_p: &[&str], in_q: &[&str]| {
        ingress(&[("10.0.0.1", "NPC-I-a", both())], &[], &[(p(), in_p), (q(), in_q)])
    };
    let steps = safe_steps(&with(&["10.0.0.2"], &[]), &with(&[], &["10.0.0.2"]));
    let expected = Brief {
        creates: texts(&["npc4-p-p-9", "npc4-p-q-9"]),
        replaces: texts(&["NPC-I-a"]),
        destroys: texts(&["npc4-p-p-3", "npc4-p-q-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
}

#[test]
fn where_a_set_denies_all_sets_of_the_program_change_together() {
    // Who joins p and q at once is denied before, being in neither, and after, being in p.
    let with = |in_p: &[&str], in_q: &[&str]| {
        let tiers = vec![rule([from_set(&p())], goto("NPC-DENY-I")), allow(&q(), 80)];
        ingress(&[("10.0.0.1", "NPC-I-a", tiers)], &[], &[(p(), in_p), (q(), in_q)])
    };
    let steps = safe_steps(&with(&["10.0.0.2"], &[]), &with(&["10.0.0.3"], &["10.0.0.3"]));
    let expected = Brief {
        creates: texts(&["npc4-p-p-9", "npc4-p-q-9"]),
        replaces: texts(&["NPC-I-a"]),
        destroys: texts(&["npc4-p-p-3", "npc4-p-q-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
}

#[test]
fn an_entry_chain_that_asks_for_pods_leaves_no_set_to_edit() {
    let with = |content: &[&str]| {
        let pods = [("10.0.0.1", "NPC-I-a", vec![allow(&q(), 80)])];
        let mut ruleset = ingress(&pods, &[], &[(p(), content), (q(), content)]);
        let rules = vec![rule([from_set(&p())], goto("NPC-DENY-I")), rule([], jump("NPC-INGRESS"))];
        ruleset.v4.chains.insert(name("NPC-FORWARD"), Chain { rules }.into());
        ruleset.v4.chains.remove(&name("NPC-MIDSTREAM"));
        ruleset.v4.sets.remove(&isolated());
        ruleset
    };
    let expected = Brief {
        creates: texts(&["npc4-p-p-9", "npc4-p-q-9"]),
        replaces: texts(&["NPC-FORWARD", "NPC-I-a"]),
        destroys: texts(&["npc4-p-p-3", "npc4-p-q-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&safe_steps(&with(&[]), &with(&["10.0.0.2"]))), expected);
}

#[test]
fn a_pod_that_changes_bodies_freezes_the_sets_of_both() {
    let with = |body: &str, content: &[&str]| {
        let leads = |text: &str| vec![rule([], goto(text))];
        let bodies = [("NPC-IB-x", vec![allow(&p(), 80)]), ("NPC-IB-y", vec![allow(&q(), 443)])];
        let pods = [
            ("10.0.0.1", "NPC-I-a", leads(body)),
            ("10.0.0.2", "NPC-I-b", leads("NPC-IB-x")),
            ("10.0.0.3", "NPC-I-c", leads("NPC-IB-y")),
        ];
        ingress(&pods, &bodies, &[(p(), content), (q(), content)])
    };
    let steps = safe_steps(&with("NPC-IB-x", &["10.0.0.4"]), &with("NPC-IB-y", &["10.0.0.5"]));
    let expected = Brief {
        creates: texts(&["npc4-p-p-9", "npc4-p-q-9"]),
        replaces: texts(&["NPC-I-a", "NPC-IB-x", "NPC-IB-y"]),
        destroys: texts(&["npc4-p-p-3", "npc4-p-q-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
}

#[test]
fn an_address_that_another_pod_takes_over_freezes_the_sets_of_both() {
    let with = |owner: &str, content: &[&str]| {
        let pods = [
            ("10.0.0.1", owner, vec![]),
            ("10.0.0.2", "NPC-I-a", vec![allow(&p(), 80)]),
            ("10.0.0.3", "NPC-I-b", vec![allow(&q(), 80)]),
        ];
        let mut ruleset = ingress(&pods, &[], &[(p(), content), (q(), content)]);
        let allowing =
            |set: SetName| Chain { rules: vec![allow(&set, 80), rule([], goto("NPC-DENY-I"))] };
        ruleset.v4.chains.insert(name("NPC-I-a"), allowing(p()).into());
        ruleset.v4.chains.insert(name("NPC-I-b"), allowing(q()).into());
        ruleset
    };
    let steps = safe_steps(&with("NPC-I-a", &["10.0.0.4"]), &with("NPC-I-b", &["10.0.0.5"]));
    let expected = Brief {
        creates: texts(&["npc4-p-p-9", "npc4-p-q-9"]),
        replaces: texts(&["NPC-INGRESS", "NPC-I-a", "NPC-I-b"]),
        destroys: texts(&["npc4-p-p-3", "npc4-p-q-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
}

#[test]
fn a_tree_that_grows_around_a_leaf_is_no_change_of_its_program() {
    let leaf = |address: &str, text: &str| rule([dst(address)], goto(text));
    let with = |others: bool, content: &[&str]| {
        let mut pods = vec![("10.0.0.1", "NPC-I-a", vec![allow(&p(), 80)])];
        if others {
            pods.push(("10.0.0.3", "NPC-I-b", vec![allow(&q(), 80)]));
        }
        let sets: &[(SetName, &[&str])] = &[(p(), content), (q(), &["10.0.0.5"])];
        let mut ruleset = ingress(&pods, &[], &sets[..pods.len()]);
        if others {
            let top = vec![rule([dst("10.0.0.0/30")], goto("NPC-IT-0a000000-30"))];
            let inner = vec![leaf("10.0.0.1", "NPC-I-a"), leaf("10.0.0.3", "NPC-I-b")];
            ruleset.v4.chains.insert(name("NPC-INGRESS"), Chain { rules: top }.into());
            ruleset.v4.chains.insert(name("NPC-IT-0a000000-30"), Chain { rules: inner }.into());
        }
        ruleset
    };
    let steps = safe_steps(&with(false, &["10.0.0.4"]), &with(true, &["10.0.0.2"]));
    let expected = Brief {
        creates: texts(&["npc4-p-q-9"]),
        adds_to: texts(&["npc4-iso", "npc4-p-p-3"]),
        replaces: texts(&["NPC-INGRESS", "NPC-IT-0a000000-30", "NPC-I-b"]),
        removes_from: texts(&["npc4-p-p-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
    let back = safe_steps(&with(true, &["10.0.0.4"]), &with(false, &["10.0.0.2"]));
    let expected = Brief {
        adds_to: texts(&["npc4-p-p-3"]),
        replaces: texts(&["NPC-INGRESS"]),
        deletes: texts(&["NPC-IT-0a000000-30", "NPC-I-b"]),
        removes_from: texts(&["npc4-iso", "npc4-p-p-3"]),
        destroys: texts(&["npc4-p-q-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&back), expected);
}

#[test]
fn a_pod_that_comes_or_goes_shares_sets_that_are_edited() {
    // 10.0.0.4 leaves p and 10.0.0.2 joins it while the pod comes, and while it goes.
    let with = |both: bool, content: &[&str]| {
        let mut pods = vec![("10.0.0.1", "NPC-I-a", vec![allow(&p(), 80)])];
        if both {
            pods.push(("10.0.0.3", "NPC-I-b", vec![allow(&p(), 443)]));
        }
        ingress(&pods, &[], &[(p(), content)])
    };
    let comes = safe_steps(&with(false, &["10.0.0.4"]), &with(true, &["10.0.0.2", "10.0.0.3"]));
    let expected = Brief {
        adds_to: texts(&["npc4-iso", "npc4-p-p-3"]),
        replaces: texts(&["NPC-INGRESS", "NPC-I-b"]),
        removes_from: texts(&["npc4-p-p-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&comes), expected);
    let goes = safe_steps(&with(true, &["10.0.0.4", "10.0.0.3"]), &with(false, &["10.0.0.2"]));
    let expected = Brief {
        adds_to: texts(&["npc4-p-p-3"]),
        replaces: texts(&["NPC-INGRESS"]),
        deletes: texts(&["NPC-I-b"]),
        removes_from: texts(&["npc4-iso", "npc4-p-p-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&goes), expected);
}

#[test]
fn an_address_that_a_wider_leaf_judges_otherwise_has_a_program_on_both_sides() {
    let with = |leaf: &str, number: u16, content: &[&str]| {
        ingress(&[(leaf, "NPC-I-a", vec![allow(&p(), number)])], &[], &[(p(), content)])
    };
    let old = with("10.0.0.1", 80, &["10.0.0.4"]);
    let mut new = with("10.0.0.1", 443, &["10.0.0.5"]);
    let wide = Chain { rules: vec![rule([dst("10.0.0.0/30")], goto("NPC-I-a"))] };
    new.v4.chains.insert(name("NPC-INGRESS"), wide.into());
    let expected = Brief {
        creates: texts(&["npc4-p-p-9"]),
        replaces: texts(&["NPC-INGRESS", "NPC-I-a"]),
        destroys: texts(&["npc4-p-p-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&safe_steps(&old, &new)), expected);
}

#[test]
fn a_body_goes_and_with_it_the_set_that_only_it_asked() {
    let with = |body: &str, set: SetName, content: &[&str]| {
        let leads = vec![rule([], goto(body))];
        ingress(
            &[("10.0.0.1", "NPC-I-a", leads)],
            &[(body, vec![allow(&set, 80)])],
            &[(set.clone(), content)],
        )
    };
    let old = with("NPC-IB-x", p(), &["10.0.0.2"]);
    let steps = safe_steps(&old, &with("NPC-IB-y", pods("q", 0), &["10.0.0.3"]));
    let expected = Brief {
        creates: texts(&["npc4-p-q-9"]),
        replaces: texts(&["NPC-I-a", "NPC-IB-y"]),
        deletes: texts(&["NPC-IB-x"]),
        destroys: texts(&["npc4-p-p-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
}

#[test]
fn a_change_of_the_frame_freezes_every_set() {
    // The mid-stream check goes: who leaves p must not slip through between the chains and the edit.
    let with = |midstream: bool, content: &[&str]| {
        let pods = [("10.0.0.1", "NPC-I-a", vec![allow(&p(), 80)])];
        let mut ruleset = ingress(&pods, &[], &[(p(), content)]);
        if !midstream {
            ruleset.v4.chains.remove(&name("NPC-MIDSTREAM"));
            ruleset.v4.sets.remove(&isolated());
            let rules = vec![rule([], jump("NPC-INGRESS"))];
            ruleset.v4.chains.insert(name("NPC-FORWARD"), Chain { rules }.into());
        }
        ruleset
    };
    let steps = safe_steps(&with(true, &["10.0.0.2"]), &with(false, &["10.0.0.3"]));
    let expected = Brief {
        creates: texts(&["npc4-p-p-9"]),
        replaces: texts(&["NPC-FORWARD", "NPC-I-a"]),
        deletes: texts(&["NPC-MIDSTREAM"]),
        destroys: texts(&["npc4-iso", "npc4-p-p-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
}

#[test]
fn an_address_is_forgotten_before_all_else_and_admitted_after() {
    let with = |content: &[&str], known: &[&str]| {
        let pods = [("10.0.0.1", "NPC-I-a", vec![allow(&p(), 80)])];
        let ruleset = ingress(&pods, &[], &[(p(), content)]);
        denying_unknown(ruleset, "10.0.0.0/29", known, 3)
    };
    let old = with(&["10.0.0.2", "10.0.0.3"], &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let new = with(&["10.0.0.3", "10.0.0.4"], &["10.0.0.1", "10.0.0.3", "10.0.0.4"]);
    assert_eq!(
        safe_steps(&old, &new),
        [
            Step::RemoveMembers(edited(&known(3), &["10.0.0.2"])),
            Step::AddMembers(edited(&p(), &["10.0.0.4"])),
            Step::RemoveMembers(edited(&p(), &["10.0.0.2"])),
            Step::AddMembers(edited(&known(3), &["10.0.0.4"])),
        ]
    );
}

#[test]
fn who_is_known_is_asked_of_a_new_set_where_the_rules_that_ask_change() {
    let with = |network: &str, known: &[&str]| {
        let pods = [("10.0.0.1", "NPC-I-a", vec![allow(&p(), 80)])];
        let ruleset = ingress(&pods, &[], &[(p(), &["10.0.0.2"])]);
        denying_unknown(ruleset, network, known, 3)
    };
    let everybody = ["10.0.0.1", "10.0.0.2", "10.0.0.5"];
    // 10.0.0.5 is outside of the new network, and so in the set no more: it is allowed all the time.
    let steps = safe_steps(&with("10.0.0.0/29", &everybody), &with("10.0.0.0/30", &everybody[..2]));
    let expected = Brief {
        creates: texts(&["npc4-known-9"]),
        replaces: texts(&["NPC-FORWARD"]),
        destroys: texts(&["npc4-known-3"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
}

#[test]
fn networks_are_created_and_destroyed_and_never_edited() {
    let with = |hash: &str, content: &[&str]| {
        let set = networks(hash);
        let pods = [("10.0.0.1", "NPC-I-a", vec![rule([from_set(&set)], Target::Return)])];
        ingress(&pods, &[], &[(set.clone(), content)])
    };
    let steps = safe_steps(&with("x", &["10.0.0.2"]), &with("y", &["10.0.0.0/29", "!10.0.0.4"]));
    let expected = Brief {
        creates: texts(&["npc4-n-y"]),
        replaces: texts(&["NPC-I-a"]),
        destroys: texts(&["npc4-n-x"]),
        ..Brief::default()
    };
    assert_eq!(brief(&steps), expected);
}

#[test]
fn each_family_has_a_transaction_of_its_own() {
    let old = idle();
    let both = Ruleset { v6: table([("NPC-FORWARD", vec![rule([], DROP)])], []), ..nothing() };
    let families: Vec<Family> = safe_steps(&old, &both)
        .iter()
        .map(|step| match step {
            Step::ReplaceChains(update) => update.family,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(families, [Family::V4, Family::V6]);
}
