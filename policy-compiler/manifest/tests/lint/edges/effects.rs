//! What it comes to beside the other policies.

use policy_compiler::diagnostic::Severity;
use policy_compiler::lint::Rule;

use super::{fields, finds, namespace, pod, pod_of, policy, ports};
use crate::said::{of, report};

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
