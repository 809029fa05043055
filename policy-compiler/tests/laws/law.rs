//! The law: the simulated rulesets of all nodes decide every flow as `evaluate` does.

use std::collections::BTreeMap;

use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::flow::{Flow, Traffic, Wire};
use policy_compiler::name::NodeName;
use policy_compiler::packet::ConnState;
use policy_compiler::policy::{Direction, Policy};
use policy_compiler::port::Protocol;
use policy_compiler::ruleset::Ruleset;
use policy_compiler::simulate::{self, Outcome, simulate_half};
use policy_compiler::verdict::{Because, Decision, Half};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cluster::{NODES, cluster, node_name};
use crate::config;
use crate::flows::{Options, Sketch, options, sketch};

/// The ruleset of every node.
fn rulesets(snapshot: &Snapshot, options: &Options) -> BTreeMap<NodeName, Ruleset> {
    NODES
        .iter()
        .map(|(name, ..)| (node_name(name), compile(snapshot, &options.on(name)).ruleset))
        .collect()
}

fn flows(snapshot: &Snapshot, options: &Options, sketches: &[Sketch]) -> Vec<Flow> {
    sketches.iter().filter_map(|sketch| sketch.draw(snapshot, options)).collect()
}

proptest! {
    #![proptest_config(config("law", 6_000))]

    #[test]
    fn the_simulated_rulesets_decide_every_flow_as_evaluate_does(
        snapshot in cluster(),
        options in options(),
        sketches in vec(sketch(), 48),
    ) {
        let rulesets = rulesets(&snapshot, &options);
        for ruleset in rulesets.values() {
            prop_assert_eq!(simulate::check(ruleset), Ok(()));
        }
        let (evaluator, ways) = (options.evaluator(&snapshot), options.ways());
        for flow in flows(&snapshot, &options, &sketches) {
            let verdict = evaluator.verdict(&flow);
            if verdict.decision == Decision::Unknown {
                continue;
            }
            let simulated = simulate::decide_over(&rulesets, &snapshot, &flow, &ways);
            prop_assert_eq!(simulated, verdict.decision, "{:?}: {:#?}", flow, verdict);
        }
    }

    #[test]
    fn the_simulated_rulesets_tell_of_what_evaluate_says_that_audits_would_deny(
        snapshot in cluster(),
        options in options(),
        sketches in vec(sketch(), 48),
    ) {
        let rulesets = rulesets(&snapshot, &options);
        let (evaluator, ways) = (options.evaluator(&snapshot), options.ways());
        for flow in flows(&snapshot, &options, &sketches) {
            let verdict = evaluator.verdict(&flow);
            let halves = Direction::ALL.map(|direction| verdict.half(direction));
            let unknown = |half: &Half| {
                half.decision == Decision::Unknown
                    || half.audits.iter().any(|audit| audit.decision == Decision::Unknown)
            };
            if halves.into_iter().any(unknown) {
                continue;
            }
            let hops = simulate::journey_over(&snapshot, &flow, &ways);
            for (direction, half) in Direction::ALL.into_iter().zip(halves) {
                let denials = half.audit_denials().count();
                let mut told = 0;
                for hop in &hops {
                    // What a bridge denies in the name of the destination ends both halves.
                    let fate = match half.because {
                        Because::LinkLocal => simulate::simulate(&rulesets[&hop.node], &hop.packet),
                        _ => simulate_half(&rulesets[&hop.node], direction, &hop.packet),
                    };
                    told += fate.audited.into_iter().filter(|d| *d == direction).count();
                }
                // Whoever isolates denies what is spoofed, so that it is told of once for all.
                let spoofed = flow.wire == Wire::Spoofed
                    && hops.iter().any(|hop| hop.packet.source == hop.packet.destination);
                let expected = match denials {
                    _ if hops.is_empty() => 0,
                    some if spoofed => some.min(1),
                    all => all,
                };
                prop_assert_eq!(told, expected, "{:?} {}: {:#?}", flow, direction, half);
            }
        }
    }

    #[test]
    fn audits_have_no_part_in_any_verdict(
        snapshot in cluster(),
        options in options(),
        sketches in vec(sketch(), 24),
    ) {
        let mut without = snapshot.clone();
        without.policies.retain(|_, policy| !snapshot.audits(policy));
        let (evaluator, bare) = (options.evaluator(&snapshot), options.evaluator(&without));
        for flow in flows(&snapshot, &options, &sketches) {
            let (mut verdict, expected) = (evaluator.verdict(&flow), bare.verdict(&flow));
            // By definition: what would be denied with one of them enforced.
            for direction in Direction::ALL {
                let half = verdict.half(direction).clone();
                for audit in &half.audits {
                    let mut joined = without.clone();
                    let policy = &snapshot.policies[&audit.trace.policy];
                    let enforced = Policy { audit: false, ..policy.clone() };
                    for namespace in joined.namespaces.values_mut() {
                        namespace.audit = false;
                    }
                    joined.policies.insert(enforced.key.clone(), enforced);
                    let joined = options.evaluator(&joined).verdict(&flow);
                    // The bridge of a pod that is isolated denies more than its policies.
                    if joined.half(direction).because != Because::LinkLocal {
                        prop_assert_eq!(audit.decision, joined.half(direction).decision);
                    }
                }
            }
            verdict.egress.audits.clear();
            verdict.ingress.audits.clear();
            prop_assert_eq!(verdict, expected, "{:?}", flow);
        }
    }

    #[test]
    fn conntrack_lets_known_flows_pass_and_everything_else_is_judged_as_new(
        snapshot in cluster(),
        options in options(),
        sketches in vec(sketch(), 24),
    ) {
        let rulesets = rulesets(&snapshot, &options);
        let (evaluator, ways) = (options.evaluator(&snapshot), options.ways());
        for flow in flows(&snapshot, &options, &sketches) {
            let verdict = evaluator.verdict(&flow);
            let hops = simulate::journey_over(&snapshot, &flow, &ways);
            // Nobody but conntrack knows that a packet was translated.
            if verdict.decision == Decision::Unknown || flow.wire == Wire::Translated {
                continue;
            }
            for (state, expected) in [
                (ConnState::Established, Decision::Allowed),
                (ConnState::Related, Decision::Allowed),
                (ConnState::Invalid, verdict.decision),
                (ConnState::Untracked, verdict.decision),
            ] {
                let mut most = 0;
                let passes = hops.iter().all(|hop| {
                    let packet = simulate::Hop {
                        packet: policy_compiler::packet::Packet { state, ..hop.packet.clone() },
                        ..hop.clone()
                    };
                    let fate = simulate::simulate(&rulesets[&packet.node], &packet.packet);
                    most = most.max(fate.evaluated);
                    fate.outcome == Outcome::Passes
                });
                if matches!(state, ConnState::Established | ConnState::Related) {
                    prop_assert!(most <= 1, "{most} rules for {flow:?} as {state:?}");
                }
                let decision = if passes { Decision::Allowed } else { Decision::Denied };
                prop_assert_eq!(decision, expected, "{:?} as {:?}", flow, state);
            }
        }
    }

    #[test]
    fn a_segment_in_the_middle_of_no_known_flow_is_dropped_where_an_end_is_isolated(
        snapshot in cluster(),
        options in options(),
        sketches in vec(sketch(), 24),
        port in 1..=u16::MAX,
    ) {
        let rulesets = rulesets(&snapshot, &options);
        let keeps = options.on("n1").keep_established;
        let (evaluator, ways) = (options.evaluator(&snapshot), options.ways());
        for mut flow in flows(&snapshot, &options, &sketches) {
            flow.traffic = Traffic::Port { protocol: Protocol::Tcp, port };
            let verdict = evaluator.verdict(&flow);
            if verdict.decision == Decision::Unknown {
                continue;
            }
            for hop in simulate::journey_over(&snapshot, &flow, &ways) {
                let opening = simulate::simulate(&rulesets[&hop.node], &hop.packet).outcome;
                let mut packet = hop.packet.clone();
                packet.syn = false;
                let later = simulate::simulate(&rulesets[&hop.node], &packet).outcome;
                let isolated = [packet.source, packet.destination].into_iter().any(|address| {
                    evaluator.owners(address).first().is_some_and(|pod| {
                        pod.node.as_ref() == Some(&hop.node)
                            && policy_compiler::policy::Direction::ALL
                                .into_iter()
                                .any(|direction| !evaluator.isolating(pod, direction).is_empty())
                    })
                });
                let met = matches!(
                    packet.path,
                    policy_compiler::packet::Path::Forwarded { .. }
                );
                if keeps || !isolated || !met {
                    prop_assert_eq!(&later, &opening, "{:?}", flow);
                } else {
                    prop_assert!(matches!(later, Outcome::Denied { .. }), "{:?}", flow);
                }
            }
        }
    }
}
