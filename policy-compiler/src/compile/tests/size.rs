//! How many rules a full node has.

use super::builders::*;
use crate::cidr::Family;
use crate::cluster::Snapshot;
use crate::compile::compile;
use crate::policy::{Direction, Policy};

/// 250 pods, each isolated by the same ten policies in these directions.
fn full_node(directions: &[Direction]) -> Snapshot {
    let pods_of = (0..250).map(|i| pod(&format!("shop/web-{i}"), "app=web", i));
    let policies = (0..10).map(|i| {
        let peers = || listed(vec![pods(&format!("app=peer-{i}"))]);
        let rules = || vec![(peers(), ports(&[&*format!("{}", 8000 + i)]))];
        directions.iter().fold(policy(&format!("shop/p{i}"), "app=web"), |policy, direction| {
            let with: fn(Policy, Vec<_>) -> Policy = match direction {
                Direction::Ingress => ingress,
                Direction::Egress => egress,
            };
            with(policy, rules())
        })
    });
    cluster(pods_of, policies)
}

fn rules(snapshot: &Snapshot, family: Family) -> usize {
    let compiled = compile(snapshot, &config());
    let chains = &compiled.ruleset.family(family).chains;
    chains.values().map(|chain| chain.rules.len()).sum()
}

#[test]
fn two_hundred_and_fifty_pods_with_ten_policies_have_few_rules() {
    for family in Family::ALL {
        let ingress = rules(&full_node(&[Direction::Ingress]), family);
        assert!(ingress <= 1_100, "{family}: {ingress} rules with ingress policies");
        let both = rules(&full_node(&Direction::ALL), family);
        assert!(both <= 2_150, "{family}: {both} rules with both");
    }
}

#[test]
fn ten_policies_more_with_the_same_ports_and_peers_are_no_rule_more() {
    let once = full_node(&[Direction::Ingress]);
    let mut twice = once.clone();
    for policy in once.policies.values() {
        let mut again = policy.clone();
        again.key = key(&format!("shop/again-{}", policy.key.name));
        twice.policies.insert(again.key.clone(), again);
    }
    assert_eq!(compile(&once, &config()).ruleset, compile(&twice, &config()).ruleset);
}
