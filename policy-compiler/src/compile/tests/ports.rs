//! Ports by number, by name, and all of them.

use super::builders::*;
use super::reading::allows;
use crate::compile::compile;
use crate::policy::{Direction, Peers, Policy, Ports};

const IN: Direction = Direction::Ingress;
const OUT: Direction = Direction::Egress;

fn said(policy: Policy) -> Vec<String> {
    let snapshot = cluster(
        [pod("shop/db", "app=db", 1), declare(pod("shop/web", "app=web", 2), "http", 8080)],
        [policy],
    );
    compile(&snapshot, &config()).diagnostics.iter().map(ToString::to_string).collect()
}

#[test]
fn every_udp_port_is_no_tcp_port_and_no_ports_is_every_protocol() {
    for (list, rule) in [
        (ports(&["any/UDP"]), "-p udp"),
        (ports(&["any"]), "-p tcp"),
        (ports(&["1-65535"]), "-p tcp -m tcp --dport 1:65535"),
        (Ports::Any, ""),
    ] {
        let policy = ingress(policy("shop/a", ""), vec![(Peers::Any, list)]);
        let compiled = compile(&cluster([pod("shop/db", "", 1)], [policy]), &config());
        assert_eq!(allows(&compiled, IN, 1), [rule]);
    }
}

#[test]
fn an_ingress_port_by_name_is_the_number_that_the_pod_itself_declares() {
    let policy = ingress(policy("shop/a", ""), vec![(Peers::Any, ports(&["http", "admin"]))]);
    let old = declare(declare(pod("shop/old", "", 1), "http", 8080), "admin", 9000);
    let new = declare(declare(pod("shop/new", "", 2), "http", 80), "admin", 9001);
    let compiled = compile(&cluster([old, new, pod("shop/none", "", 3)], [policy]), &config());
    assert_eq!(allows(&compiled, IN, 1), ["-p tcp -m multiport --dports 8080,9000"]);
    assert_eq!(allows(&compiled, IN, 2), ["-p tcp -m multiport --dports 80,9001"]);
    assert_eq!(allows(&compiled, IN, 3), Vec::<String>::new());
    assert_eq!(compiled.diagnostics, []);
}

#[test]
fn every_container_that_declares_a_name_counts_and_the_protocol_must_agree() {
    let twice = declare(declare(pod("shop/a", "", 1), "http", 8080), "http", 8443);
    let named = |list| ingress(policy("shop/a", ""), vec![(Peers::Any, ports(list))]);
    let compiled = compile(&cluster([twice.clone()], [named(&["http"])]), &config());
    assert_eq!(allows(&compiled, IN, 1), ["-p tcp -m multiport --dports 8080,8443"]);
    let compiled = compile(&cluster([twice], [named(&["http/UDP"])]), &config());
    assert_eq!(allows(&compiled, IN, 1), Vec::<String>::new());
}

#[test]
fn an_egress_port_by_name_is_one_set_for_each_number_and_no_cross_product() {
    let ports_of = |name, host, http, admin| {
        declare(declare(pod(name, "app=web", host), "http", http), "admin", admin)
    };
    let pods_of = [
        pod("shop/client", "app=client", 1),
        ports_of("shop/old", 2, 8080, 9000),
        ports_of("shop/new", 3, 80, 9000),
        pod("shop/none", "app=web", 4),
    ];
    let to_web = (listed(vec![pods("app=web")]), ports(&["http", "admin"]));
    let policy = egress(policy("shop/a", "app=client"), vec![to_web]);
    assert_eq!(
        allows(&compile(&cluster(pods_of, [policy]), &config()), OUT, 1),
        [
            "-p tcp -m tcp --dport 9000 {10.244.1.2 10.244.1.3} dst",
            "-p tcp -m tcp --dport 80 {10.244.1.3} dst",
            "-p tcp -m tcp --dport 8080 {10.244.1.2} dst",
        ]
    );
}

#[test]
fn an_egress_name_with_any_peer_or_a_block_means_pods_there_and_nobody_else() {
    let web = |name, host| declare(pod(name, "app=web", host), "http", 8080);
    let to = |peers| egress(policy("shop/a", "app=client"), vec![(peers, ports(&["http"]))]);
    for (peers, members) in [
        (Peers::Any, "10.244.1.2 10.244.1.3"),
        (listed(vec![block("0.0.0.0/0", &[])]), "10.244.1.2 10.244.1.3"),
        (listed(vec![block("10.244.1.0/24", &["10.244.1.3/32"])]), "10.244.1.2"),
        (listed(vec![block("10.244.1.3/32", &[]), pods("app=db")]), "10.244.1.3"),
    ] {
        let all = [pod("shop/client", "app=client", 1), web("shop/web", 2), web("x/web", 3)];
        let compiled = compile(&cluster(all, [to(peers)]), &config());
        assert_eq!(
            allows(&compiled, OUT, 1),
            [format!("-p tcp -m tcp --dport 8080 {{{members}}} dst")]
        );
    }
}

#[test]
fn a_name_that_resolves_nowhere_yields_no_rule_and_a_warning() {
    let nowhere = |direction: &str, whom: &str| {
        format!(
            "warning: NetworkPolicy shop/a: spec.{direction}[0].ports[1].port: {whom} declares a \
             TCP port `sql`, so this port allows nothing"
        )
    };
    let list = || ports(&["80", "sql"]);
    assert_eq!(
        said(ingress(policy("shop/a", "app=db"), vec![(Peers::Any, list())])),
        [nowhere("ingress", "no pod that the policy selects on this node")]
    );
    let to_web = (listed(vec![pods("app=web")]), list());
    assert_eq!(
        said(egress(policy("shop/a", "app=db"), vec![to_web])),
        [nowhere("egress", "no pod that the rule leads to")]
    );
    let resolves = (listed(vec![pods("app=web")]), ports(&["http"]));
    assert_eq!(said(egress(policy("shop/a", "app=db"), vec![resolves])), Vec::<String>::new());
}

#[test]
fn a_named_port_is_left_to_a_rule_that_allows_its_whole_protocol() {
    let client = pod("shop/client", "app=client", 1);
    let web = declare(pod("shop/web", "app=web", 2), "http", 8080);
    let rules = vec![
        (listed(vec![pods("app=web")]), ports(&["http"])),
        (listed(vec![pods("app=web")]), ports(&["any"])),
    ];
    let snapshot = cluster([client, web], [egress(policy("shop/a", "app=client"), rules)]);
    assert_eq!(allows(&compile(&snapshot, &config()), OUT, 1), ["-p tcp {10.244.1.2} dst"]);
}
