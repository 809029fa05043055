//! Its ports, against what pods declare and Services map.

use policy_compiler::lint::Rule;

use super::{finds, finds_in_cluster, pod, pod_of, policy, ports};

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
