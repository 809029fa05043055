//! Lists of thousands.

use std::net::Ipv4Addr;

use policy_compiler::flow::Traffic;
use policy_compiler::verdict::Decision::{Allowed, Denied};
use serde_json::{Value, json};

use crate::cluster::{Enforced, pod, policy, snapshot};
use crate::in_time;

const WEB: &str = "10.0.0.1";

fn address(number: u32) -> String {
    Ipv4Addr::from(number).to_string()
}

/// Pods x/c0, x/c1 and so on, each with a label of its own; addresses from 10.1.0.0 on.
fn clients(count: u32) -> impl Iterator<Item = policy_compiler::cluster::Pod> {
    (0..count).map(|number| {
        let labels = json!({"app": format!("c{number}"), "tier": "client"});
        pod("x", &format!("c{number}"), &address(0x0a01_0000 + number), &labels)
    })
}

fn web() -> policy_compiler::cluster::Pod {
    pod("x", "web", WEB, &json!({"app": "web"}))
}

/// Isolates the pod x/web for ingress.
#[allow(clippy::needless_pass_by_value, reason = "rules are written where they are handed over")]
fn for_web(rules: Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": rules})
}

fn app(name: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": name}}})
}

#[test]
fn a_block_with_100_000_excepts_is_one_set_and_exact() {
    // Every second address of 172.16.0.0/14 up to the 100,000th.
    let except: Vec<String> =
        (0..100_000).map(|n| format!("{}/32", address(0xac10_0000 + 2 * n))).collect();
    let rules = json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": except}}]}]);
    let policy = in_time("decoding", || policy("x", "p", for_web(rules)));
    let enforced = Enforced::new(snapshot([web()], [policy]));
    let (rules, sets) = enforced.sizes();
    assert!(rules < 20 && sets < 4, "{rules} rules, {sets} sets");
    let members: usize = enforced.v4().sets.values().map(|set| set.members.len()).sum();
    assert!(members < 100_010, "{members} members");
    let flows = ["172.16.0.0", "172.16.0.1", "172.19.13.62", "172.19.13.64", "8.8.8.8"]
        .map(|from| (from, WEB, Traffic::tcp(80)));
    assert_eq!(enforced.decide(&flows), [Denied, Allowed, Denied, Allowed, Allowed]);
}

#[test]
fn blocks_that_overlap_by_the_thousand_are_united_exactly() {
    // Each /20 begins a /24 after the last, and leaves out its second /24 and its last address, which
    // others of them grant; but for the ends.
    let blocks: Vec<Value> = (0..4_000)
        .map(|n| {
            let cidr = 0x0b00_0000 + 256 * n;
            let aligned = cidr & !0xfff;
            json!({"ipBlock": {"cidr": format!("{}/20", address(aligned)), "except": [
                format!("{}/24", address(aligned + 256)),
                format!("{}/32", address(aligned + 4095 - n % 16)),
            ]}})
        })
        .collect();
    let rules = json!([{"from": blocks}]);
    let policy = in_time("decoding", || policy("x", "p", for_web(rules)));
    let enforced = Enforced::new(snapshot([web()], [policy]));
    let (rules, sets) = enforced.sizes();
    assert!(rules < 20 && sets < 4, "{rules} rules, {sets} sets");
    let flows =
        ["11.0.0.1", "11.0.1.1", "11.0.15.255", "11.15.159.1", "11.15.160.1", "10.255.255.255"]
            .map(|from| (from, WEB, Traffic::tcp(80)));
    assert_eq!(enforced.decide(&flows), [Allowed, Denied, Allowed, Allowed, Denied, Denied]);
}

#[test]
fn a_thousand_ports_for_ten_thousand_peers_are_a_set_and_some_multiports() {
    let peers: Vec<Value> = (0..10_000).map(|n| app(&format!("c{n}"))).collect();
    let ports: Vec<Value> = (1..=1_000).map(|n| json!({"port": 2 * n})).collect();
    let rules = json!([{"from": peers, "ports": ports}]);
    let policy = in_time("decoding", || policy("x", "p", for_web(rules)));
    let pods = clients(10_050).chain([web()]);
    let enforced = Enforced::new(snapshot(pods, [policy]));
    let (rules, sets) = enforced.sizes();
    // Fifteen ports a rule.
    assert!(rules < 67 + 20 && sets < 4, "{rules} rules, {sets} sets");
    let (first, last, stranger) =
        ("10.1.0.0", address(0x0a01_0000 + 9_999), address(0x0a01_0000 + 10_000));
    assert_eq!(
        enforced.decide(&[
            (first, WEB, Traffic::tcp(2)),
            (&last, WEB, Traffic::tcp(2_000)),
            (&last, WEB, Traffic::tcp(1_999)),
            (&last, WEB, Traffic::udp(2_000)),
            (&stranger, WEB, Traffic::tcp(2_000)),
        ]),
        [Allowed, Allowed, Denied, Denied, Denied]
    );
}

#[test]
fn ten_thousand_peers_by_namespace_and_pod_are_one_set() {
    // Of each namespace every pod, of some one pod more, which the others cover.
    let peers: Vec<Value> = (0..5_000)
        .flat_map(|n| {
            let namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": format!("n{n}")}});
            let one = json!({"namespaceSelector": namespace, "podSelector": {"matchLabels": {"app": "a"}}});
            [json!({"namespaceSelector": namespace}), one]
        })
        .collect();
    let policy = policy("x", "p", for_web(json!([{"from": peers}])));
    let pods = (0..5_001)
        .map(|n| pod(&format!("n{n}"), "a", &address(0x0a01_0000 + n), &json!({"app": "a"})));
    let enforced = Enforced::new(snapshot(pods.chain([web()]), [policy]));
    let (rules, sets) = enforced.sizes();
    assert!(rules < 20 && sets < 4, "{rules} rules, {sets} sets");
    let (last, stranger) = (address(0x0a01_0000 + 4_999), address(0x0a01_0000 + 5_000));
    let flows = [&*last, &*stranger].map(|from| (from, WEB, Traffic::tcp(80)));
    assert_eq!(enforced.decide(&flows), [Allowed, Denied]);
}

#[test]
fn ranges_within_ranges_by_the_thousand_are_one_rule() {
    let ports: Vec<Value> =
        (0..20_000).map(|n| json!({"port": 1 + n, "endPort": 50_000 - n})).collect();
    let rules = json!([{"ports": ports}, {"from": [app("c0")], "ports": [{"port": 50_001, "endPort": 60_000}]}]);
    let policy = in_time("decoding", || policy("x", "p", for_web(rules)));
    let enforced = Enforced::new(snapshot(clients(1).chain([web()]), [policy]));
    let (rules, sets) = enforced.sizes();
    assert!(rules < 20 && sets < 4, "{rules} rules, {sets} sets");
    let flows = [1, 50_000, 50_001].map(|port| ("192.0.2.1", WEB, Traffic::tcp(port)));
    assert_eq!(enforced.decide(&flows), [Allowed, Allowed, Denied]);
    assert_eq!(enforced.decide(&[("10.1.0.0", WEB, Traffic::tcp(50_001))]), [Allowed]);
}

#[test]
fn five_thousand_policies_that_select_one_pod_are_one_body() {
    let policies = (0..5_000).map(|n| {
        let rule = json!([{"from": [app(&format!("c{n}"))], "ports": [{"port": 1 + n, "endPort": 10_000}]}]);
        policy("x", &format!("p{n}"), for_web(rule))
    });
    let enforced = Enforced::new(snapshot(clients(5_000).chain([web()]), policies));
    let (rules, sets) = enforced.sizes();
    assert!(rules < 5_050 && sets < 5_010, "{rules} rules, {sets} sets");
    let last = address(0x0a01_0000 + 4_999);
    assert_eq!(
        enforced.decide(&[
            ("10.1.0.0", WEB, Traffic::tcp(1)),
            ("10.1.0.1", WEB, Traffic::tcp(1)),
            (&last, WEB, Traffic::tcp(4_999)),
            (&last, WEB, Traffic::tcp(5_000)),
            (&last, WEB, Traffic::tcp(10_001)),
        ]),
        [Allowed, Denied, Denied, Allowed, Denied]
    );
}

#[test]
fn five_thousand_policies_alike_are_one_rule() {
    let policies = (0..5_000).map(|n| {
        policy(
            "x",
            &format!("p{n}"),
            for_web(json!([{"from": [app("c0")], "ports": [{"port": 80}]}])),
        )
    });
    let enforced = Enforced::new(snapshot(clients(2).chain([web()]), policies));
    let (rules, sets) = enforced.sizes();
    assert!(rules < 20 && sets < 4, "{rules} rules, {sets} sets");
    let flows = ["10.1.0.0", "10.1.0.1"].map(|from| (from, WEB, Traffic::tcp(80)));
    assert_eq!(enforced.decide(&flows), [Allowed, Denied]);
}

#[test]
fn a_thousand_ports_by_name_toward_ten_thousand_pods() {
    let ports: Vec<Value> = (0..1_000).map(|n| json!({"port": format!("p{n}")})).collect();
    let peers: Vec<Value> = (0..2_000).map(|n| app(&format!("c{n}"))).collect();
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
        "egress": [{"to": peers, "ports": ports}],
    });
    let policy = policy("x", "p", spec);
    let servers = (0..10_000_u32).map(|number| {
        let mut pod = pod(
            "x",
            &format!("c{number}"),
            &address(0x0a01_0000 + number),
            &json!({"app": format!("c{number}")}),
        );
        pod.ports.push(policy_compiler::cluster::ContainerPort {
            name: policy_compiler::port::PortName::new(&format!("p{}", number % 1_000)).ok(),
            protocol: policy_compiler::port::Protocol::Tcp,
            number: std::num::NonZeroU16::new(1_000 + u16::try_from(number % 5).unwrap()).unwrap(),
        });
        pod
    });
    let enforced = Enforced::new(snapshot(servers.chain([web()]), [policy]));
    let (rules, sets) = enforced.sizes();
    assert!(rules < 1_020 && sets < 1_010, "{rules} rules, {sets} sets");
    let stranger = address(0x0a01_0000 + 2_000);
    assert_eq!(
        enforced.decide(&[
            (WEB, "10.1.0.1", Traffic::tcp(1_001)),
            (WEB, "10.1.0.1", Traffic::tcp(1_002)),
            (WEB, &stranger, Traffic::tcp(1_000)),
        ]),
        [Allowed, Denied, Denied]
    );
}

#[test]
fn an_address_that_five_thousand_pods_claim_is_the_newests_and_each_is_a_peer() {
    let shared = (0..5_000).map(|n| {
        let mut pod = pod("x", &format!("c{n}"), "10.1.0.0", &json!({"app": format!("c{n}")}));
        pod.age.started = Some(format!("2026-01-01T00:{:02}:{:02}Z", n / 60 % 60, n % 60).into());
        pod
    });
    let policies = [
        policy("x", "web", for_web(json!([{"from": [app("c7")], "ports": [{"port": 80}]}]))),
        policy(
            "x",
            "newest",
            json!({
                "podSelector": {"matchLabels": {"app": "c3599"}}, "ingress": [{"ports": [{"port": 1}]}],
            }),
        ),
        policy(
            "x",
            "older",
            json!({
                "podSelector": {"matchLabels": {"app": "c3598"}}, "ingress": [{"ports": [{"port": 2}]}],
            }),
        ),
    ];
    let enforced = Enforced::new(snapshot(shared.chain([web()]), policies));
    let (rules, sets) = enforced.sizes();
    assert!(rules < 30 && sets < 6, "{rules} rules, {sets} sets");
    assert_eq!(
        enforced.decide(&[
            ("10.1.0.0", WEB, Traffic::tcp(80)),
            ("10.1.0.0", WEB, Traffic::tcp(81)),
            ("192.0.2.1", "10.1.0.0", Traffic::tcp(1)),
            ("192.0.2.1", "10.1.0.0", Traffic::tcp(2)),
        ]),
        [Allowed, Denied, Allowed, Denied]
    );
}
