//! Its blocks of addresses.

use policy_compiler::lint::Rule;

use super::{finds, pod, policy};

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
