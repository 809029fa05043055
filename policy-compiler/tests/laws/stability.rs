//! The same input makes the same bytes, in whatever order it comes.

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::engine::Engine;
use policy_compiler::policy::{Grant, Peers, Policy, Ports, Rule};
use policy_compiler::render;
use policy_compiler::ruleset::{Generation, Ruleset};
use policy_compiler::update::Event;
use proptest::prelude::*;

use crate::cluster::cluster;
use crate::config;
use crate::flows::options;

/// The ruleset as text, both families.
fn text(ruleset: &Ruleset) -> String {
    let texts = Family::ALL.map(|family| {
        let sets = render::ipset_restore(&ruleset.family(family).sets);
        [render::ruleset(ruleset, family), sets].concat()
    });
    texts.concat()
}

fn events(snapshot: &Snapshot) -> Vec<Event> {
    let namespaces = snapshot.namespaces.values().cloned().map(Event::NamespaceApplied);
    let pods = snapshot.pods.values().cloned().map(Box::new).map(Event::PodApplied);
    let policies = snapshot.policies.values().cloned().map(Box::new).map(Event::PolicyApplied);
    let nodes = snapshot.nodes.values().cloned().map(Event::NodeApplied);
    namespaces.chain(pods).chain(policies).chain(nodes).collect()
}

/// Puts a list into the order of `keys`.
fn shuffle<T>(list: &mut Vec<T>, keys: &[u32]) {
    let mut keyed: Vec<(u32, T)> = list
        .drain(..)
        .enumerate()
        .map(|(i, item)| (keys[i % keys.len()] ^ hash(i), item))
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    list.extend(keyed.into_iter().map(|(_, item)| item));
}

/// Spreads small numbers, so that lists longer than the keys are shuffled too.
fn hash(index: usize) -> u32 {
    u32::try_from(index).unwrap().wrapping_mul(2_654_435_761)
}

fn shuffle_policy(policy: &mut Policy, keys: &[u32]) {
    for rules in [&mut policy.ingress, &mut policy.egress] {
        shuffle(rules, keys);
        for Rule { grant, .. } in rules {
            if let Grant::Traffic { peers, ports } = grant {
                if let Peers::Listed(list) = peers {
                    shuffle(list, keys);
                }
                if let Ports::Listed(list) = ports {
                    shuffle(list, keys);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(config("stability", 2_000))]

    #[test]
    fn the_order_of_objects_and_of_what_they_list_does_not_show(
        snapshot in cluster(),
        options in options(),
        keys in proptest::collection::vec(any::<u32>(), 24),
    ) {
        let expected = compile(&snapshot, &options.on("n1")).ruleset;
        let mut engine = Engine::new(options.on("n1"), Generation(0));
        let mut events = events(&snapshot);
        shuffle(&mut events, &keys);
        for event in events {
            engine.apply(event);
        }
        engine.flush();
        prop_assert_eq!(text(engine.ruleset()), text(&expected));

        let mut shuffled = snapshot;
        for policy in shuffled.policies.values_mut() {
            shuffle_policy(policy, &keys);
        }
        for pod in shuffled.pods.values_mut() {
            shuffle(&mut pod.ports, &keys);
            shuffle(&mut pod.host_addresses, &keys);
        }
        prop_assert_eq!(text(&compile(&shuffled, &options.on("n1")).ruleset), text(&expected));
    }
}
