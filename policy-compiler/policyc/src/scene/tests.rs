//! What is said of a selector holds for every pod that it means.

use std::path::PathBuf;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Pod;
use policy_compiler::flow::End;
use policy_compiler::labels::Labels;
use policy_compiler::name::ObjectKey;
use policy_compiler::reach::{Connections, TrafficSet, Who};
use policy_manifest::input::{Options, merge, parse_file};

use super::*;
use crate::subject;

const FIXTURES: [&str; 2] = ["policies.yaml", "overlaps.yaml"];

/// Selectors of every operator, that exclude, imply and overlap one another.
const OPERATORS: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {env: prod}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: tier, operator: Exists}, {key: app, operator: NotIn, values: [db]}]}
  ingress:
  - from: [{namespaceSelector: {matchExpressions: [{key: env, operator: DoesNotExist}]}, podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 80}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: b, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [db, web]}]}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}]}]
  egress: [{to: [{namespaceSelector: {matchLabels: {env: test}}}], ports: [{port: 1, endPort: 9}]}]
";

fn read(text: &str) -> Snapshot {
    let parsed = parse_file("a.yaml", text, &Options::default());
    assert!(parsed.is_sound(), "{:?}", parsed.diagnostics);
    merge([&parsed]).snapshot
}

fn inputs() -> Vec<(String, Snapshot)> {
    let fixture = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        std::fs::read_to_string(path).expect("the fixture")
    };
    let mut inputs: Vec<(String, Snapshot)> =
        FIXTURES.into_iter().map(|name| (name.to_owned(), read(&fixture(name)))).collect();
    inputs.push(("operators".to_owned(), read(OPERATORS)));
    inputs
}

/// All that pods may be labelled, with values that no policy speaks of.
fn labels() -> Vec<Labels> {
    let mut all = Vec::new();
    for app in [None, Some("web"), Some("db"), Some("prom"), Some("unheard-of")] {
        for tier in [None, Some("be"), Some("unheard-of")] {
            let pairs = [("app", app), ("tier", tier), ("serial", Some("1"))];
            all.push(pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect());
        }
    }
    all
}

fn kinds_in<'a>(laid: &'a Snapshot, namespace: &str) -> Vec<&'a Pod> {
    laid.pods.values().filter(|pod| pod.key.namespace.as_str() == namespace).collect()
}

/// What a pod like `end` may send to one like each of `others`, and receive from it.
fn told(reach: &Reach<'_>, end: &End, others: &[End]) -> Vec<[Connections; 2]> {
    let party = |end: &End| {
        let who = Who::Pod(ObjectKey::new("x", "x").expect("a key"));
        Party { who, members: vec![end.clone()] }
    };
    let between = |from: &End, to: &End| {
        let between = reach.between(&party(from), &party(to), Family::V4);
        assert_eq!(between.all, between.some, "{from} and {to} are one kind each");
        Connections::new(between.all, &between.unknown)
    };
    others.iter().map(|other| [between(end, other), between(other, end)]).collect()
}

#[test]
fn every_pod_that_there_could_be_fares_as_a_kind_of_its_namespace_and_as_its_selectors_say() {
    let mut compared = 0;
    for (name, policies) in inputs() {
        let scene = Scene::of(&policies);
        let laid = scene.snapshot();
        let first = laid.pods.values().next().expect("a kind").clone();
        for labels in labels() {
            let key = ObjectKey::new("shop", "real").expect("a key");
            let mut with = laid.clone();
            with.pods.insert(key.clone(), Pod { key: key.clone(), labels, ..first.clone() });
            let bounds = scene.bounds(&with);
            let reach = bounds.reach(&Partition::of(&[bounds.sure()]));
            let others: Vec<End> = laid.pods.keys().map(|key| End::Pod(key.clone())).collect();
            let labels = &with.pods[&key].labels;
            let real = told(&reach, &End::Pod(key.clone()), &others);
            let kind = |pod: &&Pod| told(&reach, &End::Pod(pod.key.clone()), &others) == real;
            let like = kinds_in(laid, "shop").into_iter().filter(kind).count();
            assert!(like > 0, "{name}: no kind is like {labels}");
            for row in scene.kinds.iter().flat_map(|kinds| kinds.parties(Level::Workload)) {
                let Who::Selected { place, pods, .. } = &row.who else { panic!("{row}") };
                let means = |text: &str| subject::selector(text).is_ok_and(|s| s.matches(labels));
                if &**place != "shop" || !pods.contains('=') || !means(pods) {
                    continue;
                }
                for (other, [out, into]) in others.iter().zip(&real) {
                    let other = Party { who: row.who.clone(), members: vec![other.clone()] };
                    for (sure, one) in [
                        (reach.between(&row, &other, Family::V4), out),
                        (reach.between(&other, &row, Family::V4), into),
                    ] {
                        assert!(sure.all.is_within(one.allowed()), "{name}: {row}, {labels}");
                        let most = sure.some.union(&sure.unknown);
                        assert!(one.possible().is_within(&most), "{name}: {row}, {labels}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 300, "only {compared}");
}

#[test]
fn a_named_port_and_a_namespace_without_labels_are_in_doubt_until_they_are_known() {
    let policy = |extra: &str| {
        read(&format!(
            "{extra}{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, \
             namespace: shop}}, spec: {{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: \
             [{{namespaceSelector: {{matchLabels: {{team: obs}}}}}}], ports: [{{port: 80}}, {{port: \
             http, protocol: UDP}}]}}]}}}}"
        ))
    };
    let own = |snapshot: &Snapshot| {
        let scene = Scene::of(snapshot);
        let bounds = scene.bounds(scene.snapshot());
        let reach = bounds.reach(&Partition::of(&[bounds.sure()]));
        let rows = scene.parties(&reach, Level::Workload);
        let row = |name: &str| rows.iter().find(|row| row.to_string() == name).expect(name);
        let between = reach.between(row("shop/other pods"), row("shop/app=db"), Family::V4);
        (between.all.to_string(), between.unknown.to_string())
    };
    let nothing = TrafficSet::nothing().to_string();
    let undeclared = own(&policy(""));
    assert_eq!(undeclared, (nothing.clone(), "80/TCP; every UDP port".to_owned()));
    let namespace = |labels: &str| {
        format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {labels}}}}}\n---\n"
        )
    };
    let meant = own(&policy(&namespace("{team: obs}")));
    assert_eq!(meant, ("80/TCP".to_owned(), "every UDP port".to_owned()));
    let other = own(&policy(&namespace("{team: web}")));
    assert_eq!(other, (nothing.clone(), nothing));
}

#[test]
fn selectors_that_overlap_in_too_many_ways_are_said_to() {
    let selector = |n: usize| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p{n}, \
             namespace: shop}}, spec: {{podSelector: {{matchLabels: {{k{n}: v}}}}}}}}"
        )
    };
    let policies = |n: usize| {
        let all: Vec<String> = (0..n).map(selector).collect();
        read(&all.join("\n---\n"))
    };
    let few = policies(6);
    let scene = Scene::of(&few);
    assert_eq!(kinds_in(scene.snapshot(), "shop").len(), 64);
    assert!(!scene.notes().iter().any(|note| note.contains("overlap")), "{:?}", scene.notes());
    assert!(!scene.is_crowded());
    let many = policies(40);
    let scene = Scene::of(&many);
    assert_eq!(kinds_in(scene.snapshot(), "shop").len(), 41);
    assert!(scene.notes().iter().any(|note| note.contains("overlap in more than 128 ways")));
    assert!(scene.is_crowded());
}
