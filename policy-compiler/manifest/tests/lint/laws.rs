//! What findings promise, tried on random policies: a shadowed rule can go, and all of them together;
//! a policy that an allow-all overrides can go; what one side denies whole does not pass.

use std::fmt::Write as _;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::lint::Rule;
use policy_compiler::policy::Policy;
use proptest::prelude::*;

use crate::said::{load, report_of};

const PODS: &str = "\
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {app: a, tier: t}}, spec: {containers: [{ports: [{name: web, containerPort: 3}]}]}, status: {phase: Running, podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x, labels: {app: b}}, spec: {containers: [{ports: [{name: web, containerPort: 4}]}]}, status: {phase: Running, podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: y, labels: {app: a}}, status: {phase: Running, podIP: 10.0.1.3}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {team: t}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: y}}
";

const SELECTORS: [&str; 5] = [
    "{}",
    "{matchLabels: {app: a}}",
    "{matchLabels: {app: b}}",
    "{matchLabels: {tier: t}}",
    "{matchExpressions: [{key: app, operator: NotIn, values: [b]}]}",
];

fn peer() -> impl Strategy<Value = String> {
    let selector = || proptest::sample::select(SELECTORS.to_vec());
    let namespace = proptest::sample::select(vec![
        "{}",
        "{matchLabels: {team: t}}",
        "{matchLabels: {kubernetes.io/metadata.name: y}}",
    ]);
    let block = proptest::sample::select(vec![
        "{cidr: 10.0.0.0/24}",
        "{cidr: 10.0.0.0/23}",
        "{cidr: 10.0.1.0/24}",
        "{cidr: 10.0.0.0/23, except: [10.0.0.2/32]}",
        "{cidr: 10.0.0.2/32}",
        "{cidr: 0.0.0.0/0}",
    ]);
    prop_oneof![
        selector().prop_map(|s| format!("{{podSelector: {s}}}")),
        (namespace, selector())
            .prop_map(|(n, s)| format!("{{namespaceSelector: {n}, podSelector: {s}}}")),
        block.prop_map(|b| format!("{{ipBlock: {b}}}")),
    ]
}

fn port() -> impl Strategy<Value = String> {
    prop_oneof![
        (1..6_u16, 0..3_u16).prop_map(|(p, n)| format!("{{port: {p}, endPort: {}}}", p + n)),
        Just("{port: web}".to_owned()),
        Just("{protocol: TCP}".to_owned()),
        Just("{protocol: UDP, port: 2}".to_owned()),
    ]
}

fn rule(peers: &'static str) -> impl Strategy<Value = String> {
    let list = |key: &'static str, items: Vec<String>| match items.as_slice() {
        [] => String::new(),
        items => format!("{key}: [{}]", items.join(", ")),
    };
    let parts = (proptest::collection::vec(peer(), 0..3), proptest::collection::vec(port(), 0..3));
    parts.prop_map(move |(from, ports)| {
        let parts = [list(peers, from), list("ports", ports)];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{{{}}}", parts.join(", "))
    })
}

fn policy() -> impl Strategy<Value = String> {
    let selector = proptest::sample::select(SELECTORS.to_vec());
    let rules = |peers| proptest::collection::vec(rule(peers), 0..4);
    (selector, rules("from"), rules("to"), 0..3_u8).prop_map(|(selector, ingress, egress, kind)| {
        let types = ["Ingress", "Egress", "Ingress, Egress"][usize::from(kind)];
        format!(
            "podSelector: {selector}, policyTypes: [{types}], ingress: [{}], egress: [{}]",
            ingress.join(", "),
            egress.join(", ")
        )
    })
}

fn input(policies: &[String]) -> String {
    let mut text = PODS.to_owned();
    for (i, spec) in policies.iter().enumerate() {
        let _ = writeln!(
            text,
            "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p{i}, namespace: x}}, spec: {{{spec}}}}}"
        );
    }
    text
}

/// Every verdict that could differ.
fn verdicts(snapshot: &Snapshot) -> Vec<String> {
    let evaluator = Evaluator::new(snapshot);
    let pod = |name: &str| {
        let (namespace, name) = name.split_once('/').unwrap();
        End::Pod(policy_compiler::name::ObjectKey::new(namespace, name).unwrap())
    };
    let address = |text: &str| End::Address(text.parse().unwrap());
    let ends = [pod("x/a"), pod("x/b"), pod("y/c"), address("10.0.0.77"), address("192.0.2.1")];
    let mut traffic: Vec<Traffic> = (1..9).map(Traffic::tcp).collect();
    traffic.extend([Traffic::udp(2), Traffic::udp(3), Traffic::ping(Family::V4)]);
    let mut all = Vec::new();
    for from in &ends {
        for to in &ends {
            for traffic in &traffic {
                let flow = Flow {
                    from: from.clone(),
                    to: to.clone(),
                    family: Family::V4,
                    traffic: *traffic,
                    wire: Wire::Routed,
                };
                let decision = evaluator.verdict(&flow).decision;
                all.push(format!("{from} -> {to} {traffic}: {decision}"));
            }
        }
    }
    all
}

/// The policy and the rule of `spec.ingress[2]`.
fn without_rule(policy: &mut Policy, field: &str) {
    let (list, index) = field.trim_end_matches(']').split_once('[').unwrap();
    let index: usize = index.parse().unwrap();
    let rules = if list == "spec.ingress" { &mut policy.ingress } else { &mut policy.egress };
    rules[index].grant = policy_compiler::policy::Grant::Nothing { reason: "removed".to_owned() };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn all_shadowed_rules_can_go_at_once(policies in proptest::collection::vec(policy(), 1..4)) {
        let loaded = load(&input(&policies));
        let before = verdicts(&loaded.snapshot);
        let mut mended = loaded.snapshot.clone();
        for finding in report_of(&loaded, false).findings {
            if finding.rule == Rule::Shadowed {
                let name = &finding.object.as_ref().unwrap().name;
                let policy = mended.policies.values_mut().find(|p| p.key.name.as_str() == name);
                without_rule(policy.unwrap(), &finding.field);
            }
        }
        prop_assert_eq!(verdicts(&mended), before);
    }

    #[test]
    fn what_an_allow_all_overrides_can_lose_its_rules(policies in proptest::collection::vec(policy(), 1..4)) {
        let loaded = load(&input(&policies));
        let before = verdicts(&loaded.snapshot);
        let mut mended = loaded.snapshot.clone();
        for finding in report_of(&loaded, false).findings {
            if finding.rule == Rule::AllowAll {
                for related in &finding.related {
                    let key = related.message.split(' ').next().unwrap();
                    let policy = mended.policies.values_mut().find(|p| p.key.to_string() == key);
                    let policy = policy.unwrap();
                    if finding.field.starts_with("spec.ingress") {
                        policy.isolates_ingress = false;
                    } else {
                        policy.isolates_egress = false;
                    }
                }
            }
        }
        prop_assert_eq!(verdicts(&mended), before);
    }

    #[test]
    fn a_one_sided_peer_can_go(policies in proptest::collection::vec(policy(), 1..4)) {
        let loaded = load(&input(&policies));
        let before = verdicts(&loaded.snapshot);
        for finding in report_of(&loaded, false).findings {
            if finding.rule == Rule::OneSided {
                let mut mended = loaded.snapshot.clone();
                let name = &finding.object.as_ref().unwrap().name;
                let policy = mended.policies.values_mut().find(|p| p.key.name.as_str() == name);
                let (rule, peer) = finding.field.rsplit_once('.').unwrap();
                without_peer(policy.unwrap(), rule, peer);
                prop_assert_eq!(&verdicts(&mended), &before, "{}", finding.field);
            }
        }
    }
}

/// Removes a peer, and the rule with its last one: an empty list would mean everybody.
fn without_peer(policy: &mut Policy, rule: &str, peer: &str) {
    use policy_compiler::policy::{Grant, Peers};
    let (list, index) = rule.trim_end_matches(']').split_once('[').unwrap();
    let rules = if list == "spec.ingress" { &mut policy.ingress } else { &mut policy.egress };
    let grant = &mut rules[index.parse::<usize>().unwrap()].grant;
    let (_, index) = peer.trim_end_matches(']').split_once('[').unwrap();
    if let Grant::Traffic { peers: Peers::Listed(peers), .. } = grant {
        peers.remove(index.parse().unwrap());
        if peers.is_empty() {
            *grant = Grant::Nothing { reason: "removed".to_owned() };
        }
    }
}
