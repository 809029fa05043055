use super::*;
use crate::excerpt::tests::engine_of;

use policy_compiler::cidr::Family;
use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_compiler::ruleset::Notice;
use serde_json::{Value, json};

fn pod(name: &str, host: u8) -> Pod {
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "podIP": format!("10.0.0.{host}")},
    });
    decode::pod(&Node::from(manifest), None).unwrap().object
}

fn policy(name: &str, app: &str, rules: &Value) -> Policy {
    let manifest = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"podSelector": {"matchLabels": {"app": app}}, "ingress": rules},
    });
    decode::policy(&Node::from(manifest), None).unwrap().object
}

/// What is said where the kernel takes no SCTP.
fn without_sctp(pods: Vec<Pod>, policies: Vec<Policy>) -> Vec<Refusal> {
    let snapshot = Snapshot {
        pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
        policies: policies.into_iter().map(|policy| (policy.key.clone(), policy)).collect(),
        ..Snapshot::default()
    };
    let mut engine = engine_of("n1", snapshot);
    engine.flush();
    let mut left_out: BTreeMap<Rule, BTreeSet<ChainName>> = BTreeMap::new();
    for (name, chain) in &engine.ruleset().v4.chains {
        for rule in &chain.rules {
            if rule.matches.contains(&Match::Protocol(Protocol::Sctp)) {
                left_out.entry(rule.clone()).or_default().insert(name.clone());
            }
        }
    }
    let left_out: Vec<LeftOut> = left_out
        .into_iter()
        .map(|(rule, chains)| LeftOut { family: Family::V4, rule, chains })
        .collect();
    refusals(&left_out, &engine)
}

fn sctp(port: u16) -> Value {
    json!({"protocol": "SCTP", "port": port})
}

#[test]
fn a_refusal_names_the_policies_that_ask_for_the_rule_and_the_pods_that_lack_it() {
    let told = without_sctp(
        vec![pod("a", 1), pod("b", 2), pod("c", 3)],
        vec![
            policy("asks", "a", &json!([{"ports": [sctp(9)]}])),
            policy("asks-too", "a", &json!([{"ports": [{"port": 80}, sctp(9)]}])),
            policy("asks-for-other-ports", "a", &json!([{"ports": [{"port": 9}]}])),
            policy("asks-for-everything", "b", &json!([{}])),
            policy("asks-elsewhere", "d", &json!([{"ports": [sctp(9)]}])),
        ],
    );
    let lines: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["IPv4: the kernel refuses `-p sctp -m sctp --dport 9`, \
          asked for by shop/asks, shop/asks-too; denied at shop/a"]
    );
    let key = |name| ObjectKey::new("shop", name).unwrap();
    let rule = "IPv4: the kernel refuses `-p sctp -m sctp --dport 9`";
    assert_eq!(
        by_policy(&told),
        [(key("asks"), [rule].into()), (key("asks-too"), [rule].into())].into()
    );
}

#[test]
fn pods_that_share_a_long_body_are_all_found_and_a_few_are_named() {
    let ports = |from: u16| {
        (0..4)
            .map(|n| {
                json!({"ports": [sctp(from + n)], "from": [
                    {"ipBlock": {"cidr": format!("10.9.{n}.0/24")}},
                ]})
            })
            .collect::<Vec<_>>()
    };
    let pods: Vec<Pod> = (1..=5)
        .map(|host| {
            let mut pod = pod("x", host);
            pod.key = ObjectKey::new("shop", &format!("x{host}")).unwrap();
            pod
        })
        .collect();
    let told = without_sctp(pods, vec![policy("long", "x", &json!(ports(100)))]);
    assert_eq!(told.len(), 4);
    for refusal in &told {
        let line = refusal.to_string();
        assert!(line.ends_with("denied at shop/x1, shop/x2, shop/x3 and 2 more"), "{line}");
        assert_eq!(refusal.policies, [ObjectKey::new("shop", "long").unwrap()].into());
    }
}

#[test]
fn a_rule_that_only_tells_of_packets_concerns_nobody_in_particular() {
    let rule = Rule {
        matches: Vec::new(),
        comment: None,
        target: Target::Log(Notice::Denied(Direction::Ingress)),
    };
    let chains = [ChainName::new("NPC-DENY-I").unwrap()].into();
    let left_out = [LeftOut { family: Family::V4, rule, chains }];
    let told = refusals(&left_out, &engine_of("n1", Snapshot::default()));
    let [refusal] = &told[..] else { panic!("{told:?}") };
    assert!(refusal.policies.is_empty() && refusal.pods.is_empty(), "{refusal}");
}
