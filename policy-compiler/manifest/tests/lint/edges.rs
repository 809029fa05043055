//! Where each rule ends: what it leaves alone, and what it cannot tell.

use policy_compiler::diagnostic::Severity;
use policy_compiler::lint::{Report, Rule};

use crate::said::{load, of, report, report_of};

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n"
    )
}

/// A pod of `shop` with `app` as its name.
fn pod(name: &str, more: &str) -> String {
    pod_of("shop", name, &format!("app: {name}"), more)
}

fn pod_of(namespace: &str, name: &str, labels: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n{more}\n---\n"
    )
}

fn ports(ports: &str) -> String {
    format!("spec: {{containers: [{{ports: [{ports}]}}]}}")
}

fn namespace(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n---\n")
}

/// The fields at which `rule` finds something; `? FIELD` where it cannot tell.
fn fields(rule: Rule, report: &Report) -> Vec<String> {
    let mut fields: Vec<String> =
        report.findings.iter().filter(|f| f.rule == rule).map(|f| f.field.clone()).collect();
    let unchecked = report.unchecked.iter().filter(|u| u.rule == rule);
    fields.extend(unchecked.flat_map(|u| u.at.iter().map(|s| format!("? {}", s.field))));
    fields
}

#[track_caller]
fn finds(rule: Rule, text: &str, expected: &[&str]) {
    let report = report(text);
    assert_eq!(fields(rule, &report), expected, "{text}\n{report:#?}");
}

#[track_caller]
fn finds_in_cluster(rule: Rule, text: &str, expected: &[&str]) {
    let report = report_of(&load(text), true);
    assert_eq!(fields(rule, &report), expected, "{text}\n{report:#?}");
}

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

#[test]
fn a_port_name_must_be_declared_somewhere_for_its_protocol() {
    let ingress = |port: &str| {
        policy(
            "p",
            &format!(
                "{{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Ingress], ingress: [{{from: [{{podSelector: {{}}}}], ports: [{port}]}}]}}"
            ),
        )
    };
    let at = "spec.ingress[0].ports[0]";
    let http = pod("web", &ports("{name: http, containerPort: 80}"));
    let more =
        pod_of("shop", "web-2", "app: web, v: two", &ports("{name: admin, containerPort: 9}"));
    for (text, said) in [
        (format!("{http}{}", ingress("{port: http}")), &[][..]),
        (format!("{http}{}", ingress("{port: http, protocol: UDP}")), &[at]),
        (format!("{http}{}", ingress("{port: admin}")), &[at]),
        (format!("{http}{more}{}", ingress("{port: admin}")), &[]),
        (ingress("{port: http}"), &[]),
    ] {
        finds(Rule::UnresolvedPort, &text, said);
    }
    let egress = |to: &str| {
        policy(
            "p",
            &format!(
                "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{{to}ports: [{{port: http}}]}}]}}"
            ),
        )
    };
    let at = "spec.egress[0].ports[0]";
    let block = "to: [{ipBlock: {cidr: 192.0.2.0/24}}], ";
    let pods = "to: [{podSelector: {}}], ";
    finds(Rule::UnresolvedPort, &format!("{http}{}", egress(pods)), &[]);
    finds(Rule::UnresolvedPort, &format!("{}{}", pod("web", ""), egress(pods)), &[at]);
    finds(
        Rule::UnresolvedPort,
        &format!("{}{}", pod("web", ""), egress("")),
        &["? spec.egress[0].ports[0]"],
    );
    finds_in_cluster(Rule::UnresolvedPort, &format!("{}{}", pod("web", ""), egress("")), &[at]);
    finds(
        Rule::UnresolvedPort,
        &format!("{http}{}", egress(block)),
        &["? spec.egress[0].ports[0]"],
    );
    finds_in_cluster(Rule::UnresolvedPort, &format!("{http}{}", egress(block)), &[at]);
}

#[test]
fn a_services_port_counts_where_it_is_the_target_port_too() {
    let of = |port: &str| {
        policy(
            "p",
            &format!(
                "{{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Ingress], ingress: [{{from: [{{podSelector: {{}}}}], ports: [{port}]}}]}}"
            ),
        )
    };
    let service = |ports: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: shop}}\nspec: {{selector: {{app: web}}, ports: [{ports}]}}\n---\n"
        )
    };
    let web = pod("web", &ports("{name: http, containerPort: 8080}"));
    let translated = service("{port: 80, targetPort: http}");
    let at = "spec.ingress[0].ports[0]";
    for (text, said) in [
        (format!("{web}{translated}{}", of("{port: 80}")), &[at][..]),
        (format!("{web}{translated}{}", of("{port: 80}, {port: 8080}")), &[]),
        (format!("{web}{translated}{}", of("{port: 8080}")), &[]),
        (format!("{web}{translated}{}", of("{port: 80, protocol: UDP}")), &[]),
        (format!("{web}{}{}", service("{port: 80}"), of("{port: 80}")), &[]),
        (
            format!(
                "{web}{}{}",
                service("{port: 80, targetPort: 8080}, {name: b, port: 90, targetPort: 80}"),
                of("{port: 80}")
            ),
            &[],
        ),
        (format!("{web}{}", of("{port: 80}")), &["? spec.ingress[0].ports[0]"]),
        (format!("{}{}", pod("web", ""), of("{port: 80}")), &[]),
    ] {
        finds(Rule::ServicePort, &text, said);
    }
}

#[test]
fn blocks_are_held_against_addresses_that_are_known_and_not_excepted() {
    let of = |block: &str| {
        policy(
            "p",
            &format!(
                "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {block}}}]}}]}}"
            ),
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}\n---\n";
    let web = pod("web", "status: {phase: Running, podIP: 10.244.0.9}");
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: node-a}\nspec: {podCIDRs: [10.244.3.0/24]}\n---\n";
    let at = "spec.egress[0].to[0].ipBlock.cidr";
    let unknown = format!("? {at}");
    for (rule, text, said) in [
        (Rule::ServiceRange, format!("{service}{}", of("{cidr: 10.96.0.0/12}")), vec![at]),
        (
            Rule::ServiceRange,
            format!("{service}{}", of("{cidr: 10.96.0.0/12, except: [10.96.0.9/32]}")),
            vec![],
        ),
        (Rule::ServiceRange, format!("{service}{}", of("{cidr: 0.0.0.0/0}")), vec![]),
        (Rule::ServiceRange, format!("{service}{}", of("{cidr: 192.0.2.0/24}")), vec![]),
        (Rule::ServiceRange, of("{cidr: 10.96.0.0/12}"), vec![&unknown]),
        (Rule::PodAddresses, format!("{web}{}", of("{cidr: 10.0.0.0/8}")), vec![at]),
        (
            Rule::PodAddresses,
            format!("{web}{}", of("{cidr: 10.0.0.0/8, except: [10.244.0.0/16]}")),
            vec![],
        ),
        (Rule::PodAddresses, format!("{web}{}", of("{cidr: fd00::/8}")), vec![]),
        (Rule::PodAddresses, format!("{node}{}", of("{cidr: 10.244.3.128/25}")), vec![at]),
        (Rule::PodAddresses, format!("{node}{}", of("{cidr: 10.244.4.0/24}")), vec![]),
        (Rule::PodAddresses, of("{cidr: 10.0.0.0/8}"), vec![&unknown]),
        (Rule::PodAddresses, format!("{web}{}", of("{cidr: \"::/0\"}")), vec![]),
    ] {
        finds(rule, &text, &said);
    }
}

#[test]
fn an_except_is_undone_by_what_reaches_beyond_it_on_a_common_port_for_common_pods() {
    let out = |to: &str| format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{to}]}}");
    let guard =
        "{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 443}]}";
    let with = |other: &str| policy("p", &out(&format!("{guard}, {other}")));
    let at = "spec.egress[0].to[0].ipBlock.except[0]";
    for (other, said) in [
        ("{to: [{ipBlock: {cidr: 10.0.0.0/12}}]}", &[at][..]),
        ("{to: [{ipBlock: {cidr: 10.0.0.0/12}}], ports: [{port: 400, endPort: 500}]}", &[at]),
        ("{to: [{ipBlock: {cidr: 10.0.0.0/12}}], ports: [{port: 80}]}", &[]),
        ("{to: [{ipBlock: {cidr: 10.0.0.0/12}}], ports: [{port: 443, protocol: UDP}]}", &[]),
        ("{to: [{ipBlock: {cidr: 10.0.0.0/12, except: [10.1.0.0/16]}}]}", &[]),
        (
            "{to: [{ipBlock: {cidr: 10.0.0.0/12, except: [10.1.0.0/17]}}]}",
            &["spec.egress[0].to[0].ipBlock.except[0]"],
        ),
        ("{to: [{ipBlock: {cidr: 10.1.0.0/16}}]}", &[]),
        ("{to: [{ipBlock: {cidr: 10.1.2.0/24}}]}", &[]),
        ("{to: [{ipBlock: {cidr: \"::/0\"}}]}", &[]),
        ("{to: [{podSelector: {}}]}", &[]),
        ("{ports: [{port: 443}]}", &[at]),
    ] {
        finds(Rule::ExceptUndone, &with(other), said);
    }
    // Another policy counts where it selects one of the same pods.
    let other = |app: &str| {
        policy(
            "q",
            &format!(
                "{{podSelector: {{matchLabels: {{app: {app}}}}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: 10.0.0.0/12}}}}]}}]}}"
            ),
        )
    };
    let web = policy(
        "p",
        &out(guard).replace("podSelector: {}", "podSelector: {matchLabels: {app: web}}"),
    );
    let pods = format!("{}{}", pod("web", ""), pod("api", ""));
    finds(Rule::ExceptUndone, &format!("{pods}{web}{}", other("web")), &[at]);
    finds(Rule::ExceptUndone, &format!("{pods}{web}{}", other("api")), &[]);
}

#[test]
fn dns_is_allowed_by_a_rule_for_somebody_who_may_answer() {
    let of = |egress: &str| {
        policy("p", &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{egress}]}}"))
    };
    let web = pod("web", "");
    let dns = "ports: [{port: 53, protocol: UDP}]";
    let system =
        "to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]";
    let coredns = pod_of("kube-system", "coredns", "k8s-app: kube-dns", "");
    let other = pod_of("kube-system", "other", "app: other", "");
    let at = "spec.policyTypes";
    for (text, said) in [
        (format!("{web}{}", of(&format!("{{{dns}}}"))), &[][..]),
        (format!("{web}{}", of("{}")), &[]),
        (format!("{web}{}", of(&format!("{{{system}, {dns}}}"))), &[]),
        (format!("{web}{coredns}{}", of(&format!("{{{system}, {dns}}}"))), &[]),
        (format!("{web}{other}{}", of(&format!("{{{system}, {dns}}}"))), &[at]),
        (format!("{web}{}", of("{to: [{podSelector: {}}]}")), &[at]),
        (
            format!(
                "{}{}",
                pod("web", &ports("{containerPort: 53, protocol: UDP}")),
                of("{to: [{podSelector: {}}]}")
            ),
            &[],
        ),
        (format!("{web}{}", of("{to: [{ipBlock: {cidr: 169.254.20.10/32}}]}")), &[]),
        (format!("{web}{}", of("{ports: [{port: 53}]}")), &[at]),
        (of("{to: [{podSelector: {}}]}"), &["? spec.policyTypes"]),
        (of("{ports: [{port: 443}]}"), &[at]),
        (of(""), &[at]),
    ] {
        finds(Rule::NoDns, &text, said);
    }
    // What another policy for the same pods allows is allowed; each group of pods is told once.
    let names = policy(
        "names",
        &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{{dns}}}]}}"),
    );
    let deny = policy("a-deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
    finds(Rule::NoDns, &format!("{web}{deny}{names}"), &[]);
    finds(Rule::NoDns, &format!("{deny}{names}"), &[]);
    finds(
        Rule::NoDns,
        &format!("{web}{}{deny}{}", pod("api", ""), of("{ports: [{port: 1}]}")),
        &[at],
    );
}

#[test]
fn an_allow_all_overrides_those_all_of_whose_pods_it_selects() {
    let of = |name: &str, app: &str, ingress: &str| {
        let selector = if app.is_empty() {
            "{}".to_owned()
        } else {
            format!("{{matchLabels: {{app: {app}}}}}")
        };
        policy(
            name,
            &format!("{{podSelector: {selector}, policyTypes: [Ingress], ingress: [{ingress}]}}"),
        )
    };
    let some = "{from: [{podSelector: {}}], ports: [{port: 80}]}";
    let world = "{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: \"::/0\"}}]}";
    let pods = format!("{}{}", pod("web", ""), pod("api", ""));
    let at = "spec.ingress[0]";
    for (text, said) in [
        // A default deny also waits for pods that are not there yet.
        (format!("{}{}{}", pod("web", ""), of("all", "web", "{}"), of("deny", "", "")), &[][..]),
        (format!("{}{}", of("all", "", "{}"), of("p", "web", some)), &[at][..]),
        (format!("{}{}", of("all", "", world), of("p", "web", some)), &[at]),
        (
            format!(
                "{}{}",
                of("all", "", "{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}"),
                of("p", "web", some)
            ),
            &[],
        ),
        (format!("{}{}", of("all", "", "{ports: [{port: 80}]}"), of("p", "web", some)), &[]),
        (format!("{pods}{}{}", of("all", "web", "{}"), of("deny", "", "")), &[]),
        (format!("{}{}", of("all", "", "{}"), of("deny", "", "")), &[at]),
        (format!("{}{}{}", pod("web", ""), of("all", "web", "{}"), of("p", "", some)), &[at]),
        (format!("{pods}{}{}", of("all", "web", "{}"), of("p", "", some)), &[]),
        (format!("{}{}", of("all", "", "{}"), of("also", "", "{}")), &[]),
    ] {
        finds(Rule::AllowAll, &text, said);
    }
}

#[test]
fn a_rule_is_shadowed_exactly_where_others_allow_all_of_it() {
    let of = |rules: &str| {
        policy("p", &format!("{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{rules}]}}"))
    };
    let from = |blocks: &str, ports: &str| {
        let blocks: Vec<String> =
            blocks.split(' ').map(|b| format!("{{ipBlock: {{cidr: {b}}}}}")).collect();
        format!("{{from: [{}], ports: [{ports}]}}", blocks.join(", "))
    };
    let first = "spec.ingress[0]";
    let last = "spec.ingress[2]";
    let halves = format!(
        "{}, {}",
        from("10.0.0.0/9", "{port: 1, endPort: 9}"),
        from("10.128.0.0/9", "{port: 5, endPort: 9}")
    );
    for (rules, said) in [
        (
            format!(
                "{}, {}, {}",
                from("10.0.0.0/8", "{port: 1, endPort: 5}"),
                from("10.0.0.0/8", "{port: 4, endPort: 9}"),
                from("10.0.0.0/8", "{port: 1, endPort: 9}")
            ),
            &[last][..],
        ),
        (format!("{halves}, {}", from("10.0.0.0/8", "{port: 5, endPort: 9}")), &[last][..]),
        (format!("{halves}, {}", from("10.0.0.0/8", "{port: 4, endPort: 9}")), &["spec.ingress[1]"]),
        (format!("{halves}, {}", from("10.0.0.0/9", "{port: 1, endPort: 5}, {port: 6}")), &[last]),
        (format!("{}, {}", from("10.0.0.0/8", "{port: 1}"), from("10.0.0.0/8", "{port: 1}")), &["spec.ingress[1]"]),
        (format!("{}, {}", from("10.0.0.0/8", "{port: 1}"), "{ports: [{protocol: TCP}]}"), &[first]),
        (format!("{}, {}", from("10.0.0.0/8", ""), "{ports: [{protocol: TCP}]}"), &[]),
        (format!("{}, {}", from("10.0.0.0/8", "{port: http}"), from("10.0.0.0/8", "{port: 1, endPort: 65535}")), &[first]),
        (format!("{}, {}", from("10.0.0.0/8", "{port: http}"), from("10.0.0.0/8", "{port: 80}")), &[]),
        ("{from: [{podSelector: {matchLabels: {app: a, tier: b}}}]}, {from: [{podSelector: {matchLabels: {app: a}}}]}".to_owned(), &[first]),
        ("{from: [{podSelector: {matchLabels: {app: a}}}]}, {from: [{namespaceSelector: {}}]}".to_owned(), &[first]),
        ("{from: [{podSelector: {}}]}, {from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]}".to_owned(), &["spec.ingress[1]"]),
        ("{from: [{podSelector: {matchLabels: {app: a}}}]}, {from: [{podSelector: {matchLabels: {app: b}}}]}".to_owned(), &[]),
    ] {
        finds(Rule::Shadowed, &of(&rules), said);
    }
}

#[test]
fn a_shadow_of_another_policy_is_a_note_and_needs_its_pods() {
    let of = |name: &str, app: &str, ports: &str| {
        policy(
            name,
            &format!(
                "{{podSelector: {app}, policyTypes: [Ingress], ingress: [{{from: [{{podSelector: {{}}}}], ports: [{ports}]}}]}}"
            ),
        )
    };
    let web = "{matchLabels: {app: web}}";
    let text =
        format!("{}{}", of("all", "{}", "{port: 80}, {port: 81}"), of("web", web, "{port: 80}"));
    let report = report(&text);
    let said: Vec<_> = report.findings.iter().filter(|f| f.rule == Rule::Shadowed).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(
        (said[0].severity, said[0].object.as_ref().unwrap().name.as_str()),
        (Severity::Note, "web")
    );
    let text =
        format!("{}{}", of("all", "{}", "{port: 80}"), of("web", web, "{port: 80}, {port: 81}"));
    finds(Rule::Shadowed, &text, &[]);
}

#[test]
fn a_default_deny_selects_every_pod() {
    let web = pod("web", "");
    let closed = policy(
        "p",
        "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}",
    );
    let egress = policy("p", "{podSelector: {}, policyTypes: [Egress], egress: [{}]}");
    let count = |text: &str| of(Rule::NoDefaultDeny, &report(text)).len();
    assert_eq!(count(&format!("{web}{closed}")), 0);
    assert_eq!(count(&format!("{web}{egress}")), 1);
    assert_eq!(count(&web), 1);
    assert_eq!(count(&pod_of("kube-system", "a", "a: b", "")), 0);
    assert_eq!(count(&namespace("empty")), 0);
    assert_eq!(count(&pod("web", "spec: {hostNetwork: true}")), 0);
}

#[test]
fn open_to_the_world_is_a_warning_on_every_port_and_a_note_on_some() {
    let severities = |rule: &str| -> Vec<Severity> {
        let text = policy(
            "p",
            &format!(
                "{{podSelector: {{}}, policyTypes: [Ingress, Egress], ingress: [{rule}], egress: [{{}}]}}"
            ),
        );
        let report = report(&text);
        report.findings.iter().filter(|f| f.rule == Rule::OpenToWorld).map(|f| f.severity).collect()
    };
    for (rule, said) in [
        ("{}", vec![Severity::Warning]),
        ("{ports: [{port: 80}]}", vec![Severity::Note]),
        ("{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}", vec![Severity::Warning]),
        ("{from: [{ipBlock: {cidr: \"::/0\"}}], ports: [{port: 80}]}", vec![Severity::Note]),
        ("{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}", vec![]),
        ("{from: [{namespaceSelector: {}}]}", vec![]),
    ] {
        assert_eq!(severities(rule), said, "{rule}");
    }
}

#[test]
fn an_allowance_is_one_sided_only_where_nothing_of_it_passes() {
    let into = |from: &str, ports: &str| {
        policy(
            "in",
            &format!(
                "{{podSelector: {{matchLabels: {{app: db}}}}, policyTypes: [Ingress], ingress: [{{from: [{from}], ports: [{ports}]}}]}}"
            ),
        )
    };
    let out = |to: &str| {
        policy(
            "out",
            &format!(
                "{{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Egress], egress: [{to}]}}"
            ),
        )
    };
    let pods =
        format!("{}{}", pod("web", ""), pod("db", &ports("{name: pg, containerPort: 5432}")));
    let web = "{podSelector: {matchLabels: {app: web}}}";
    let db =
        "{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 5000, endPort: 6000}]}";
    let at = "spec.ingress[0].from[0]";
    for (text, said) in [
        (format!("{pods}{}{}", into(web, "{port: 1, endPort: 5500}"), out(db)), &[][..]),
        (format!("{pods}{}{}", into(web, "{port: pg}"), out(db)), &[]),
        (format!("{pods}{}{}", into(web, "{port: 7000}"), out("{ports: [{port: 80}]}")), &[at]),
        (format!("{pods}{}", into(web, "{port: 5432}")), &[]),
        (format!("{pods}{}{}", into("{podSelector: {}}", "{port: 5432}"), out("")), &[at]),
        (
            format!(
                "{pods}{}{}{}",
                pod("api", ""),
                into("{podSelector: {}}", "{port: 5432}"),
                out("")
            ),
            &[],
        ),
        (format!("{pods}{}{}", into(web, "{port: 5432}"), out("")), &[at]),
        // Without addresses nobody knows what a block covers.
        (
            format!(
                "{pods}{}{}",
                into(web, "{port: 5432}"),
                out("{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}")
            ),
            &["? spec.ingress[0].from[0]"],
        ),
    ] {
        finds(Rule::OneSided, &text, said);
    }
}

#[test]
fn comments_ignore_on_their_line_above_and_at_the_head() {
    let text = "\
# policyc:ignore PC010, PC099
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  # policyc:ignore PC024 on purpose
  - {}
  - ports: [{port: 53}]  # policyc:ignore PC006, PC013
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop}
";
    let report = report(text);
    let suppressed: Vec<Rule> = report.suppressed.iter().map(|f| f.rule).collect();
    assert_eq!(suppressed, [Rule::SelectsNoPod, Rule::OpenToWorld, Rule::ProtocolOmitted]);
    let comments: Vec<(Severity, String)> = report
        .findings
        .iter()
        .filter(|f| f.rule == Rule::Suppression)
        .map(|f| (f.severity, format!("{} {}", f.location, f.message)))
        .collect();
    assert_eq!(
        comments,
        [
            (Severity::Warning, "in.yaml:1:1: there is no rule `PC099`".to_owned()),
            (
                Severity::Note,
                "in.yaml:11:26: PC013 finds nothing here, so that there is nothing to ignore"
                    .to_owned()
            ),
        ]
        .map(|(severity, text)| (severity, text.replace(":1: ", ":1 ").replace(":26: ", ":26 ")))
    );
}

#[test]
fn a_comment_ignores_what_is_unchecked_too() {
    let text = policy(
        "p",
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]} # policyc:ignore PC010",
    );
    let report = report(&text);
    assert_eq!(of(Rule::SelectsNoPod, &report), [""; 0]);
    assert_eq!(of(Rule::Suppression, &report), [""; 0]);
}

#[test]
fn an_audited_policy_is_told_and_looked_at_as_if_it_were_enforced() {
    let spec = "{podSelector: {}, policyTypes: [Egress]}";
    let own = policy("p", spec)
        .replace("namespace: shop", "namespace: shop, annotations: {policyd.dev/audit: \"true\"}");
    let shop = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, annotations: {policyd.dev/audit: \"true\"}}}\n---\n";
    let web = pod("web", "");
    for text in [format!("{web}{own}"), format!("{web}{shop}{}", policy("p", spec))] {
        let report = report(&text);
        assert_eq!(fields(Rule::AuditOnly, &report), [""], "{report:#?}");
        assert_eq!(fields(Rule::NoDns, &report), ["spec.policyTypes"], "{report:#?}");
    }
    finds(Rule::AuditOnly, &format!("{web}{}", policy("p", spec)), &[]);
}
