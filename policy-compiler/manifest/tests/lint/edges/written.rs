//! How a policy is written: its types, protocols, names and indentation.

use policy_compiler::diagnostic::Severity;
use policy_compiler::lint::Rule;

use super::{finds, namespace, pod, pod_of, policy, ports};
use crate::said::report;

#[test]
fn omitted_types_are_a_warning_where_ingress_is_denied_by_accident() {
    let severities = |spec: &str| -> Vec<Severity> {
        let report = report(&policy("p", spec));
        report
            .findings
            .iter()
            .filter(|f| f.rule == Rule::TypesOmitted)
            .map(|f| f.severity)
            .collect()
    };
    let egress = "egress: [{to: [{podSelector: {}}]}]";
    for (spec, said) in [
        (format!("{{podSelector: {{}}, {egress}}}"), vec![Severity::Warning]),
        (format!("{{podSelector: {{}}, policyTypes: [], {egress}}}"), vec![Severity::Warning]),
        (format!("{{podSelector: {{}}, ingress: [{{}}], {egress}}}"), vec![Severity::Note]),
        ("{podSelector: {}, ingress: [{}]}".to_owned(), vec![Severity::Note]),
        (String::new(), vec![Severity::Warning]),
        (format!("{{podSelector: {{}}, policyTypes: [Egress], {egress}}}"), vec![]),
        ("{podSelector: {}, egress: []}".to_owned(), vec![]),
    ] {
        assert_eq!(severities(&spec), said, "{spec}");
    }
}

#[test]
fn an_empty_egress_isolates_only_with_its_type() {
    for (spec, said) in [
        ("{podSelector: {}, egress: []}", &["spec.egress"][..]),
        ("{podSelector: {}, policyTypes: [Ingress], egress: []}", &["spec.egress"]),
        ("{podSelector: {}, policyTypes: [Egress], egress: []}", &[]),
        ("{podSelector: {}, egress: }", &[]),
    ] {
        finds(Rule::EmptyEgress, &policy("p", spec), said);
    }
}

#[test]
fn rules_without_their_type_are_inert_one_by_one_direction() {
    let spec = "{podSelector: {}, policyTypes: [Egress], ingress: [{}], egress: [{}]}";
    finds(Rule::InertRules, &policy("p", spec), &["spec.ingress"]);
    let spec = "{podSelector: {}, policyTypes: [Ingress], ingress: [{}], egress: []}";
    finds(Rule::InertRules, &policy("p", spec), &[]);
}

#[test]
fn an_omitted_protocol_is_told_where_it_has_a_consequence() {
    let of = |ports: &str| {
        policy("p", &format!("{{podSelector: {{}}, ingress: [{{ports: [{ports}]}}]}}"))
    };
    let dns = pod("dns", &ports("{containerPort: 5353, protocol: UDP}"));
    let both = pod("both", &ports("{containerPort: 5353, protocol: TCP}"));
    let at = "spec.ingress[0].ports[0]";
    for (text, said) in [
        (of("{}"), &[at][..]),
        (of("{protocol: TCP}"), &[]),
        (of("{port: 53}"), &[at]),
        (of("{port: 53}, {port: 53, protocol: UDP}"), &[]),
        (of("{port: 53, protocol: TCP}"), &[]),
        (of("{port: 50, endPort: 60}"), &[]),
        (of("{port: 8080}"), &[]),
        (format!("{dns}{}", of("{port: 5353}")), &[at]),
        (format!("{dns}{}", of("{port: 5354}")), &[]),
        (format!("{dns}{both}{}", of("{port: 5353}")), &[]),
        (format!("{dns}{}", of("{port: 5353, protocol: null}")), &[at]),
    ] {
        finds(Rule::ProtocolOmitted, &text, said);
    }
}

#[test]
fn one_name_in_two_namespaces_or_by_generation_is_no_duplicate() {
    let generated = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {generateName: p-, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n---\n";
    let other = policy("p", "{podSelector: {}}").replace("shop", "other");
    let one = policy("p", "{podSelector: {}}");
    finds(Rule::Duplicate, &format!("{one}{other}{generated}{generated}"), &[]);
    finds(Rule::Duplicate, &format!("{one}{one}{one}"), &["metadata.name", "metadata.name"]);
}

#[test]
fn a_null_peer_and_a_null_namespace_selector_are_the_indentations() {
    let of = |from: &str| {
        policy(
            "p",
            &format!(
                "{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{from}]}}]}}"
            ),
        )
    };
    let at = "spec.ingress[0].from[0]";
    finds(Rule::Indentation, &of("null"), &[at]);
    finds(Rule::Invalid, &of("null"), &[]);
    finds(Rule::Invalid, &of("{}"), &[at]);
    finds(
        Rule::Indentation,
        &of("{namespaceSelector: null, podSelector: {}}"),
        &["spec.ingress[0].from[0].namespaceSelector"],
    );
    finds(Rule::Indentation, &of("{namespaceSelector: {}, podSelector: {}}"), &[]);
}

#[test]
fn two_items_are_told_apart_from_one_by_the_pods_that_there_are() {
    let of = |from: &str| {
        policy(
            "p",
            &format!(
                "{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{from}]}}]}}"
            ),
        )
    };
    let obs = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: obs}}";
    let prom = "podSelector: {matchLabels: {app: prom}}";
    let base = format!(
        "{}{}{}",
        namespace("shop"),
        namespace("obs"),
        pod_of("obs", "prom", "app: prom", "")
    );
    let two = of(&format!("{{{obs}}}, {{{prom}}}"));
    let at = "spec.ingress[0].from[1]";
    finds(Rule::Indentation, &format!("{base}{}{two}", pod("web", "")), &[at]);
    // Somebody here is called so: either may be meant.
    finds(Rule::Indentation, &format!("{base}{}{two}", pod("prom", "")), &[]);
    finds(Rule::Indentation, &format!("{base}{two}"), &["? spec.ingress[0].from[1]"]);
    finds(Rule::NoSuchPeer, &format!("{base}{}{two}", pod("web", "")), &[]);
    let one = of(&format!("{{{obs}, podSelector: {{matchLabels: {{app: web}}}}}}"));
    finds(
        Rule::Indentation,
        &format!("{base}{}{one}", pod("web", "")),
        &["spec.ingress[0].from[0]"],
    );
    finds(Rule::Indentation, &format!("{base}{}{one}", pod("api", "")), &[]);
    finds(
        Rule::NoSuchPeer,
        &format!("{base}{}{one}", pod("api", "")),
        &["spec.ingress[0].from[0]"],
    );
}
