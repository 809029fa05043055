//! Pods that come and go.

use policy_compiler::cidr::Family;
use policy_compiler::compile::compile;
use policy_compiler::engine::Engine;
use policy_compiler::ruleset::Generation;
use policy_compiler::update::{Event, Reach};
use serde_json::json;

use crate::cluster::{config, pod, policy};
use crate::in_time;

/// A minute of a pod that flaps a hundred times a second.
const FLAPS: usize = 6_000;

#[test]
fn a_pod_elsewhere_that_flaps_changes_members_alone_and_leaves_nothing_behind() {
    let mut engine = Engine::new(config(), Generation(0));
    let spec = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "flaps"}}}]}]});
    engine.apply(Event::PolicyApplied(Box::new(policy("x", "p", spec))));
    engine.apply(Event::PodApplied(Box::new(pod("x", "web", "10.0.0.1", &json!({"app": "web"})))));
    engine.flush();
    let mut flapping = pod("x", "flaps", "10.0.0.2", &json!({"app": "flaps"}));
    flapping.node = None;
    let before = engine.ruleset().clone();
    in_time("flapping", || {
        for _ in 0..FLAPS {
            for event in [
                Event::PodApplied(Box::new(flapping.clone())),
                Event::PodDeleted(flapping.key.clone()),
            ] {
                engine.apply(event);
                assert_eq!(engine.pending(), Reach::Members);
                assert_eq!(engine.flush().steps.len(), 1);
            }
        }
    });
    assert_eq!(*engine.ruleset(), before);
}

#[test]
fn a_local_pod_that_flaps_with_its_policy_leaves_the_rules_of_a_fresh_start() {
    let mut engine = Engine::new(config(), Generation(0));
    let spec = |port: usize| {
        json!({"podSelector": {"matchLabels": {"app": "flaps"}}, "ingress": [
            {"from": [{"podSelector": {}}], "ports": [{"port": 1 + port % 2}]},
        ]})
    };
    engine.apply(Event::PodApplied(Box::new(pod("x", "web", "10.0.0.1", &json!({"app": "web"})))));
    let flapping = pod("x", "flaps", "10.0.0.2", &json!({"app": "flaps"}));
    in_time("flapping", || {
        for round in 0..FLAPS / 2 {
            engine.apply(Event::PolicyApplied(Box::new(policy("x", "p", spec(round)))));
            engine.apply(Event::PodApplied(Box::new(flapping.clone())));
            engine.flush();
            engine.apply(Event::PodDeleted(flapping.key.clone()));
            engine.flush();
            assert!(engine.ruleset().v4.chains.len() <= 1 && engine.ruleset().v4.sets.is_empty());
        }
        engine.apply(Event::PodApplied(Box::new(flapping.clone())));
        engine.flush();
    });
    let fresh = compile(&engine.snapshot(), &config()).ruleset;
    for family in Family::ALL {
        let (is, fresh) = (engine.ruleset().family(family), fresh.family(family));
        assert_eq!(is.sets.len(), fresh.sets.len());
        assert_eq!(is.chains.len(), fresh.chains.len());
    }
}
