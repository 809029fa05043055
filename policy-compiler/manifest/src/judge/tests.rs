use std::path::Path;

use super::*;
use crate::case;

const BASE: &str = "
nodes: {n1: [192.0.2.11], n2: [192.0.2.12]}
namespaces: {x: {}}
pods:
  x/a: {labels: {app: a}, node: n1, ipv4Only: true}
  x/b: {labels: {app: b}, node: n2, ipv4Only: true}
policies:
  x/p:
    podSelector: {matchLabels: {app: b}}
    ingress: [{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}]
";

/// The judgement of one case over the base, whose lines are given.
fn judged(case: &str) -> Judgement {
    let text = format!("{BASE}cases:\n- name: c\n{case}");
    match case::parse("t.yaml", &text, Path::new("")) {
        Ok(file) => judge(&file.cases[0]),
        Err(error) => panic!("{error}"),
    }
}

/// Every fault in words.
fn faults(judgement: &Judgement) -> Vec<String> {
    let flows = judgement.outcomes.iter().flat_map(|o| o.faults.iter().map(ToString::to_string));
    flows.chain(judgement.faults.iter().map(ToString::to_string)).collect()
}

#[test]
fn what_is_as_the_table_says_passes_by_both_judges() {
    let judgement = judged(
        "  allow: [x/a -> x/b on 80, x/b -> x/a, 192.0.2.12 -> x/b]\n  deny: ['x/a -> x/b on 81, 80/udp, icmp', 203.0.113.7 -> x/b]\n  diagnostics: []\n  because: {x/a -> x/b on 80: 'x/p ingress[0]'}\n",
    );
    assert_eq!(faults(&judgement), Vec::<String>::new());
    assert!(judgement.passed());
    assert!(judgement.outcomes.iter().all(|o| o.simulated == Some(o.expected)));
}

#[test]
fn what_is_not_so_fails_by_both_judges() {
    let judgement = judged("  deny: [x/a -> x/b on 80]\n  allow: [x/a -> x/b on 81]\n");
    assert!(!judgement.passed());
    assert_eq!(
        faults(&judgement),
        [
            "expected allowed, evaluated denied",
            "expected allowed, the compiled rules: denied",
            "expected denied, evaluated allowed",
            "expected denied, the compiled rules: allowed",
        ]
    );
    assert_eq!(judgement.outcomes[0].location.to_string(), "t.yaml:14:11");
}

#[test]
fn certainty_is_asserted_where_it_is_given() {
    let case = |certainty: &str, port: &str| {
        faults(&judged(&format!("  certainty: {certainty}\n  deny: [x/a -> x/b on {port}]\n")))
    };
    assert_eq!(case("specified", "81"), Vec::<String>::new());
    assert_eq!(case("undefined", "icmp"), Vec::<String>::new());
    assert_eq!(
        case("undefined", "81"),
        ["expected to be undefined, but the specification decides it"]
    );
    assert_eq!(
        case("specified", "icmp"),
        [
            "expected to be specified, but it rests on: protocols other than TCP, UDP and SCTP are allowed only by rules without ports"
        ]
    );
}

#[test]
fn a_reason_must_be_among_those_that_allow() {
    let case = |flow: &str| {
        faults(&judged(&format!(
            "  because: {{'{flow}': 'x/p ingress[1]'}}\n  allow: [x/a -> x/b on 80]\n"
        )))
    };
    assert_eq!(
        case("x/a -> x/b on 80"),
        ["x/a -> x/b on 80/TCP (IPv4) is not allowed by x/p ingress[1], but by x/p ingress[0]"]
    );
    assert_eq!(
        case("x/a -> x/b on 81"),
        ["x/a -> x/b on 81/TCP (IPv4) is not allowed by x/p ingress[1]; no rule allows it"]
    );
}

#[test]
fn diagnostics_are_asserted_where_they_are_given() {
    let broken =
        "  policies: {x/q: {podSelector: {}, ingress: [{form: []}]}}\n  deny: [x/b -> x/a]\n";
    let with = |diagnostics: &str| faults(&judged(&format!("{broken}{diagnostics}")));
    assert_eq!(with(""), Vec::<String>::new());
    assert_eq!(with("  diagnostics: ['spec.ingress[0].form']\n"), Vec::<String>::new());
    let found = with("  diagnostics: [no such thing]\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], "no diagnostic contains `no such thing`");
    assert!(found[1].starts_with("not expected: t.yaml:"), "{}", found[1]);
}

#[test]
fn a_template_has_no_packets_and_is_judged_by_the_evaluator_alone() {
    let judgement = judged(
        "  families: [ipv4]\n  objects:\n  - {apiVersion: apps/v1, kind: Deployment, metadata: {namespace: x, name: w}, spec: {template: {metadata: {labels: {app: a}}}}}\n  allow: [x/w -> x/b on 80]\n",
    );
    assert_eq!(faults(&judgement), Vec::<String>::new());
    assert_eq!(judgement.outcomes[0].simulated, None);
}

const AUDITED: &str = "
  objects:
  - apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: q, namespace: x, annotations: {policyd.dev/audit: \"true\"}}
    spec: {podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 90}]}]}
";

#[test]
fn what_an_audit_would_deny_passes_and_is_told_of_by_both_judges() {
    let judgement =
        judged(&format!("  audit: [x/b -> x/a on 80]\n  allow: [x/b -> x/a on 90]{AUDITED}"));
    assert_eq!(faults(&judgement), Vec::<String>::new());
    let judgement =
        judged(&format!("  audit: [x/b -> x/a on 90]\n  allow: [x/b -> x/a on 80]{AUDITED}"));
    assert_eq!(
        faults(&judgement),
        [
            "expected no audited policy that would deny it, and there is one",
            "expected an audited policy that would deny it, and there is none",
        ]
    );
    let judgement = judged(&format!("  allow: [x/b -> x/a on 80]{AUDITED}"));
    assert_eq!(faults(&judgement), Vec::<String>::new(), "a case need not speak of audits");
    let judgement = judged("  audit: [x/a -> x/b on 81]\n");
    assert!(faults(&judgement).contains(&"expected allowed, evaluated denied".to_owned()));
}
