//! Names: of what they depend, and that no two things share one.

use std::collections::{BTreeMap, BTreeSet};

use super::builders::*;
use super::reading::chain_names;
use crate::cidr::Family;
use crate::cluster::Snapshot;
use crate::compile::body::BodyMaker;
use crate::compile::compile;
use crate::compile::digest::{Collision, Registry};
use crate::compile::grants::{Grants, Unions};
use crate::index::Index;
use crate::policy::{Direction, Policy};
use crate::ruleset::{ChainName, SetName, SetRole};

fn names(snapshot: &Snapshot) -> (Vec<SetName>, Vec<ChainName>) {
    let rules = compile(snapshot, &config()).ruleset.v4;
    (rules.sets.into_keys().collect(), rules.chains.into_keys().collect())
}

#[test]
fn a_pod_that_comes_is_a_member_of_a_set_that_was_there_before() {
    let from_web = vec![(listed(vec![pods("app=web")]), ports(&["80"]))];
    let policy = ingress(policy("shop/a", "app=db"), from_web);
    let db = pod("shop/db", "app=db", 1);
    let before = cluster([db.clone()], [policy.clone()]);
    let after = cluster([db, pod("shop/web", "app=web", 2)], [policy]);
    assert_eq!(names(&before), names(&after));
    let chains = |snapshot| compile(snapshot, &config()).ruleset.v4.chains;
    assert_eq!(chains(&before), chains(&after));
}

#[test]
fn one_definition_has_one_name_however_it_is_written() {
    let named = |selector| {
        let peers = listed(vec![pods_in(selector, "app=web")]);
        let policy = ingress(policy("shop/a", "app=db"), vec![(peers, ports(&["80"]))]);
        names(&cluster([pod("shop/db", "app=db", 1)], [policy])).0
    };
    let own =
        ingress(policy("shop/a", "app=db"), vec![(listed(vec![pods("app=web")]), ports(&["80"]))]);
    assert_eq!(
        named(selector("kubernetes.io/metadata.name=shop")),
        names(&cluster([pod("shop/db", "app=db", 1)], [own])).0
    );
    assert_ne!(
        named(selector("kubernetes.io/metadata.name=shop")),
        named(selector("kubernetes.io/metadata.name=other"))
    );
}

#[test]
fn pods_whose_names_read_alike_have_chains_of_their_own() {
    let long = "a".repeat(252);
    let pods_of = [
        pod("team1/0web", "", 1),
        pod("team10/web", "", 2),
        pod(&format!("team1/{long}b"), "", 3),
        pod(&format!("team1/{long}c"), "", 4),
    ];
    let deny = ["team1/deny", "team10/deny"].map(|name| ingress(policy(name, ""), vec![]));
    let compiled = compile(&cluster(pods_of, deny), &config());
    let own: BTreeSet<String> = chain_names(&compiled, Family::V4)
        .into_iter()
        .filter(|name| name.starts_with("NPC-I-"))
        .collect();
    assert_eq!(own.len(), 4);
}

#[test]
fn every_name_is_one_that_the_kernel_takes() {
    let rules = vec![
        (listed(vec![pods("app=web"), block("10.0.0.0/8", &["10.1.0.0/16"])]), ports(&["80"])),
        (listed(vec![pods("app=job")]), ports(&["81"])),
        (listed(vec![pods("app=job"), pods("app=web")]), ports(&["82"])),
    ];
    let policy = egress(ingress(policy("shop/a", ""), rules.clone()), rules);
    let pods_of = (0..40).map(|i| pod(&format!("shop/p{i}"), "", i * 5));
    let compiled = compile(&cluster(pods_of, [policy]), &config());
    for family in Family::ALL {
        for name in compiled.ruleset.family(family).chains.keys() {
            assert_eq!(ChainName::new(name.as_str()).as_ref(), Some(name));
        }
        for name in compiled.ruleset.family(family).sets.keys() {
            assert!(name.to_string().len() <= 31, "{name}");
        }
    }
}

#[test]
fn a_rule_whose_set_has_no_name_of_its_own_is_left_out_and_the_others_stay() {
    let rules = vec![
        (listed(vec![pods("app=web")]), ports(&["80"])),
        (listed(vec![block("10.0.0.0/8", &["10.1.0.0/16"])]), ports(&["81"])),
        (listed(vec![pods("app=job")]), ports(&["82"])),
    ];
    let policy = ingress(policy("shop/a", ""), rules);
    let snapshot = cluster([pod("shop/db", "app=db", 1)], [policy]);
    let policies: Vec<&Policy> = snapshot.policies.values().collect();
    let mut unions = Unions::default();
    let grants = Grants::of(Direction::Ingress, &policies, &BTreeSet::new(), &mut unions);
    let made = |registry: &mut Registry| {
        let mut index = Index::of(&snapshot, config().node);
        let mut maker = BodyMaker::new(&snapshot, &mut index);
        let body = maker.body(&grants, Direction::Ingress, Family::V4, registry);
        let sets: BTreeMap<_, _> = body.sets.into_iter().collect();
        (body.rules, sets, body.collisions)
    };
    let (all, sets, collisions) = made(&mut Registry::default());
    assert_eq!((all.len(), sets.len(), collisions), (3, 3, vec![]));
    for set in sets.keys() {
        let (kind, hash) = match &set.role {
            SetRole::Pods { hash, .. } => ("pods", hash),
            SetRole::Networks { hash } => ("networks", hash),
            SetRole::Isolated | SetRole::Known { .. } => panic!("a body has no {set}"),
        };
        let mut registry = Registry::default();
        registry.take(kind, hash.as_str());
        let (some, remaining, collisions) = made(&mut registry);
        assert_eq!((some.len(), remaining.len()), (2, 2));
        assert!(!remaining.contains_key(set));
        assert_eq!(collisions, [Collision { name: hash.to_string() }]);
    }
}
