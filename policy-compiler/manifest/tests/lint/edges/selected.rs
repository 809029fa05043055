//! What its selectors find.

use policy_compiler::lint::Rule;

use super::{finds, finds_in_cluster, namespace, pod, pod_of, policy};

#[test]
fn a_policy_without_pods_is_a_defect_only_where_the_pods_are_known() {
    let web = policy("p", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}");
    let all = policy("p", "{podSelector: {}, policyTypes: [Ingress]}");
    let host = pod("web", "spec: {hostNetwork: true}");
    let template = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w, namespace: shop}\nspec: {template: {metadata: {labels: {app: web}}}}\n---\n";
    let at = "spec.podSelector";
    finds(Rule::SelectsNoPod, &web, &["? spec.podSelector"]);
    finds(
        Rule::SelectsNoPod,
        &format!("{}{web}", pod_of("other", "web", "app: web", "")),
        &["? spec.podSelector"],
    );
    finds(Rule::SelectsNoPod, &format!("{}{web}", pod("api", "")), &[at]);
    finds(
        Rule::SelectsNoPod,
        &format!("{}{web}", pod("api", "status: {phase: Succeeded}")),
        &["? spec.podSelector"],
    );
    finds(Rule::SelectsNoPod, &format!("{template}{web}"), &[]);
    finds(Rule::SelectsNoPod, &format!("{host}{web}"), &[]);
    finds(Rule::HostNetwork, &format!("{host}{web}"), &[at]);
    finds_in_cluster(Rule::SelectsNoPod, &web, &[at]);
    finds_in_cluster(Rule::SelectsNoPod, &all, &[]);
    finds(Rule::HostNetwork, &format!("{}{web}", pod("api", "spec: {hostNetwork: true}")), &[]);
}

#[test]
fn a_peers_namespace_is_looked_for_where_namespaces_are_declared() {
    let of = |selector: &str| {
        policy(
            "p",
            &format!(
                "{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{{namespaceSelector: {selector}}}]}}]}}"
            ),
        )
    };
    let named =
        |name: &str| of(&format!("{{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}"));
    let shop = namespace("shop");
    let at = "spec.ingress[0].from[0].namespaceSelector";
    finds(Rule::NoSuchNamespace, &format!("{shop}{}", named("obs")), &[at]);
    finds(Rule::NoSuchNamespace, &named("obs"), &[&format!("? {at}")]);
    finds_in_cluster(Rule::NoSuchNamespace, &named("obs"), &[at]);
    for there in ["kube-system", "default", "shop"] {
        finds(Rule::NoSuchNamespace, &format!("{shop}{}", named(there)), &[]);
    }
    finds(Rule::NoSuchNamespace, &format!("{shop}{}", of("{}")), &[]);
    finds(Rule::NoSuchNamespace, &format!("{shop}{}", of("{matchLabels: {team: a}}")), &[at]);
    // A namespace that only pods tell of is there.
    finds(
        Rule::NoSuchNamespace,
        &format!("{shop}{}{}", pod_of("obs", "a", "a: b", ""), named("obs")),
        &[],
    );
}

#[test]
fn a_peer_is_looked_for_in_all_namespaces_that_it_may_mean() {
    let of = |peer: &str| {
        policy(
            "p",
            &format!(
                "{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{peer}]}}]}}"
            ),
        )
    };
    let prom = "podSelector: {matchLabels: {app: prom}}";
    let at = "spec.ingress[0].from[0]";
    let base = format!("{}{}{}", namespace("shop"), namespace("obs"), pod("web", ""));
    finds(Rule::NoSuchPeer, &format!("{base}{}", of(&format!("{{{prom}}}"))), &[at]);
    let anywhere = of(&format!("{{namespaceSelector: {{}}, {prom}}}"));
    finds(Rule::NoSuchPeer, &format!("{base}{anywhere}"), &["? spec.ingress[0].from[0]"]);
    finds_in_cluster(Rule::NoSuchPeer, &format!("{base}{anywhere}"), &[at]);
    let there = pod_of("obs", "prom", "app: prom", "");
    finds(Rule::NoSuchPeer, &format!("{base}{there}{anywhere}"), &[]);
    let host = pod_of("shop", "prom", "app: prom", "spec: {hostNetwork: true}");
    finds(Rule::NoSuchPeer, &format!("{base}{host}{}", of(&format!("{{{prom}}}"))), &[at]);
}
