//! Jump, goto and return; both directions and each alone.

use super::super::fixture::*;
use super::super::{Fate, Outcome, simulate, simulate_half};
use crate::packet::{ConnState, Packet, Path};
use crate::policy::Direction;
use crate::ruleset::{FamilyRules, Hook, Match, Ruleset, Target};

fn denied(by: &str) -> Outcome {
    Outcome::Denied { by: name(by) }
}

fn fate(outcome: Outcome, evaluated: usize) -> Fate {
    Fate { outcome, evaluated, audited: Vec::new() }
}

/// 10.0.0.1 may send to port 80, 10.0.0.2 may be reached from 10.0.0.1 alone.
fn two_pods() -> Ruleset {
    v4(table(
        [
            (
                "NPC-FORWARD",
                vec![
                    rule([Match::NotSyn, Match::New], jump("NPC-MIDSTREAM")),
                    rule([], jump("NPC-EGRESS")),
                    rule([], jump("NPC-INGRESS")),
                ],
            ),
            (
                "NPC-MIDSTREAM",
                vec![
                    rule([from_set(&isolated())], goto("NPC-DENY-E")),
                    rule([to_set(&isolated())], goto("NPC-DENY-I")),
                ],
            ),
            ("NPC-EGRESS", vec![rule([src("10.0.0.1")], goto("NPC-E-one"))]),
            (
                "NPC-E-one",
                vec![rule([tcp(), port(80)], Target::Return), rule([], goto("NPC-DENY-E"))],
            ),
            ("NPC-INGRESS", vec![rule([dst("10.0.0.2")], goto("NPC-I-two"))]),
            (
                "NPC-I-two",
                vec![
                    rule([from_set(&pods("one", 4))], Target::Return),
                    rule([], goto("NPC-DENY-I")),
                ],
            ),
            ("NPC-DENY-E", vec![rule([], DROP)]),
            ("NPC-DENY-I", vec![rule([], DROP)]),
        ],
        [(pods("one", 4), &["10.0.0.1"]), (isolated(), &["10.0.0.1", "10.0.0.2"])],
    ))
}

#[test]
fn an_allowed_direction_goes_on_to_the_other() {
    for (source, destination, port, outcome) in [
        ("10.0.0.1", "10.0.0.2", 80, Outcome::Passes),
        ("10.0.0.1", "10.0.0.2", 81, denied("NPC-DENY-E")),
        ("10.0.0.3", "10.0.0.2", 80, denied("NPC-DENY-I")),
        ("10.0.0.1", "10.0.0.3", 80, Outcome::Passes),
        ("10.0.0.2", "10.0.0.3", 81, Outcome::Passes),
    ] {
        let packet = syn(source, destination, port);
        assert_eq!(
            simulate(&two_pods(), &packet).outcome,
            outcome,
            "{source} {destination} {port}"
        );
    }
}

#[test]
fn every_rule_looked_at_is_counted() {
    let packet = syn("10.0.0.1", "10.0.0.2", 80);
    // The hook, three of NPC-FORWARD, and per direction the leaf and the rule that returns.
    assert_eq!(simulate(&two_pods(), &packet), fate(Outcome::Passes, 8));
    let established = Packet { state: ConnState::Established, ..packet };
    assert_eq!(simulate(&two_pods(), &established), fate(Outcome::Passes, 1));
}

#[test]
fn each_direction_alone_ignores_the_denials_of_the_other() {
    let halves = |packet: &Packet| {
        (
            simulate_half(&two_pods(), Direction::Egress, packet).outcome,
            simulate_half(&two_pods(), Direction::Ingress, packet).outcome,
        )
    };
    assert_eq!(halves(&syn("10.0.0.1", "10.0.0.2", 81)), (denied("NPC-DENY-E"), Outcome::Passes));
    assert_eq!(halves(&syn("10.0.0.3", "10.0.0.2", 80)), (Outcome::Passes, denied("NPC-DENY-I")));
    let midstream = Packet { syn: false, ..syn("10.0.0.1", "10.0.0.3", 80) };
    assert_eq!(halves(&midstream), (denied("NPC-DENY-E"), Outcome::Passes));
    let midstream = Packet { syn: false, ..syn("10.0.0.1", "10.0.0.2", 80) };
    assert_eq!(halves(&midstream), (denied("NPC-DENY-E"), denied("NPC-DENY-I")));
}

#[test]
fn a_return_after_gotos_resumes_behind_the_last_jump() {
    let rules = v4(table(
        [
            (
                "NPC-FORWARD",
                vec![rule([], jump("NPC-A")), rule([], goto("NPC-LAST")), rule([], DROP)],
            ),
            ("NPC-A", vec![rule([], goto("NPC-B")), rule([], DROP)]),
            ("NPC-B", vec![rule([], jump("NPC-C")), rule([], goto("NPC-D")), rule([], DROP)]),
            ("NPC-C", vec![]),
            ("NPC-D", vec![rule([], Target::Return), rule([], DROP)]),
            ("NPC-LAST", vec![rule([], Target::Return), rule([], DROP)]),
        ],
        [],
    ));
    // Hook, FORWARD 1, A 1, B 1, (C is empty), B 2, D 1, FORWARD 2, LAST 1.
    assert_eq!(simulate(&rules, &syn("10.0.0.1", "10.0.0.2", 80)), fate(Outcome::Passes, 8));
}

#[test]
fn the_end_of_a_chain_entered_by_goto_from_the_hook_passes() {
    let mut rules = two_pods();
    rules.v4.hooks = [(Hook::Forward, rule([], goto("NPC-EGRESS")))].into();
    assert_eq!(simulate(&rules, &syn("10.0.0.1", "10.0.0.2", 80)), fate(Outcome::Passes, 3));
    assert_eq!(simulate(&rules, &syn("10.0.0.9", "10.0.0.2", 80)), fate(Outcome::Passes, 2));
}

#[test]
fn each_path_meets_its_own_hook() {
    let mut rules = two_pods();
    let denied_when_forwarded = syn("10.0.0.3", "10.0.0.2", 80);
    let by = |path: Path| Packet { path, ..denied_when_forwarded.clone() };
    assert_eq!(simulate(&rules, &by(Path::ForNode { from: None })), fate(Outcome::Passes, 0));
    let sent = |from_local| by(Path::SentByNode { from_local });
    assert_eq!(simulate(&rules, &sent(false)), fate(Outcome::Passes, 0));

    let output = vec![rule([Match::FromLocal], Target::Return), rule([], goto("NPC-FORWARD"))];
    rules.v4.chains.insert(name("NPC-OUTPUT"), crate::ruleset::Chain { rules: output }.into());
    let hook = rule([Match::NotEstablished], jump("NPC-OUTPUT"));
    rules.v4.hooks.insert(Hook::Output, hook);
    assert_eq!(simulate(&rules, &sent(true)), fate(Outcome::Passes, 2));
    assert_eq!(simulate(&rules, &sent(false)).outcome, denied("NPC-DENY-I"));
    assert_eq!(simulate(&rules, &by(Path::ForNode { from: None })), fate(Outcome::Passes, 0));
}

#[test]
fn a_family_without_hooks_passes_everything() {
    let rules = Ruleset { v6: FamilyRules::default(), ..two_pods() };
    assert_eq!(simulate(&rules, &syn("fd00::1", "fd00::2", 81)), fate(Outcome::Passes, 0));
}
