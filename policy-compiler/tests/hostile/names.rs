//! Names that are long, or alike.

use std::collections::BTreeSet;

use policy_compiler::flow::Traffic;
use policy_compiler::ruleset::ChainName;
use policy_compiler::verdict::Decision::{Allowed, Denied};
use serde_json::json;

use crate::cluster::{Enforced, any_policy, pod, policy, snapshot};

/// Isolates one pod, which `port` is open to everybody.
fn opens(app: &str, port: u16) -> serde_json::Value {
    json!({"podSelector": {"matchLabels": {"app": app}}, "ingress": [{"ports": [{"port": port}]}]})
}

#[test]
fn names_alike_but_for_the_place_of_their_boundary_keep_their_policies_apart() {
    let names = [("team1", "0web"), ("team10", "web"), ("team1-0", "web"), ("team1", "0-web")];
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    let labels = |host: u16| json!({"app": format!("x{host}")});
    let pods = (1..)
        .zip(names)
        .zip(addresses)
        .map(|((host, (namespace, name)), address)| pod(namespace, name, address, &labels(host)));
    let policies = (1..)
        .zip(names)
        .map(|(port, (namespace, name))| policy(namespace, name, opens(&format!("x{port}"), port)));
    let enforced = Enforced::new(snapshot(pods, policies));
    for (own, to) in (1..).zip(addresses) {
        let ports = [1, 2, 3, 4].map(|port| ("192.0.2.1", to, Traffic::tcp(port)));
        let expected = [1, 2, 3, 4].map(|port| if port == own { Allowed } else { Denied });
        assert_eq!(enforced.decide(&ports), expected, "{to}");
    }
}

#[test]
fn names_of_253_characters_that_differ_in_the_last_keep_their_policies_apart() {
    let long = |last: &str| format!("{}{last}", "n".repeat(253 - last.len()));
    let namespace = "s".repeat(63);
    let ends = ["a", "b", "0", "aa"];
    let pods = ends.iter().zip(1..).map(|(end, host)| {
        pod(&namespace, &long(end), &format!("10.0.0.{host}"), &json!({"app": format!("x{host}")}))
    });
    let policies = ends
        .iter()
        .zip(1..)
        .map(|(end, port)| policy(&namespace, &long(end), opens(&format!("x{port}"), port)));
    let enforced = Enforced::new(snapshot(pods, policies));
    for own in 1..=4 {
        let to = format!("10.0.0.{own}");
        let ports = [1, 2, 3, 4].map(|port| ("192.0.2.1", &*to, Traffic::tcp(port)));
        let expected = [1, 2, 3, 4].map(|port| if port == own { Allowed } else { Denied });
        assert_eq!(enforced.decide(&ports), expected, "{to}");
    }
    let rules = enforced.v4().chains.values().flat_map(|chain| &chain.rules);
    let comments: BTreeSet<usize> =
        rules.filter_map(|rule| rule.comment.as_ref()).map(String::len).collect();
    assert_eq!(comments, [255].into(), "cut to what the kernel takes");
    let longest = enforced.v4().chains.keys().map(|name| name.as_str().len()).max();
    assert!(longest <= Some(ChainName::LIMIT), "{longest:?}");
}

#[test]
fn labels_as_long_as_they_get_select_and_longer_ones_grant_nothing() {
    let key = format!("{}/{}", "p".repeat(253), "n".repeat(63));
    assert_eq!(key.len(), 317);
    let value = "v".repeat(63);
    let other = format!("{}w", "v".repeat(62));
    let by = |key: &str, value: &str| {
        json!({"podSelector": {}, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {key: value}}}]},
        ]})
    };
    let pods = || {
        [
            pod("x", "server", "10.0.0.1", &json!({})),
            pod("x", "meant", "10.0.0.2", &json!({&key: &value})),
            pod("x", "nearly", "10.0.0.3", &json!({&key: &other})),
        ]
    };
    let flows = ["10.0.0.2", "10.0.0.3"].map(|from| (from, "10.0.0.1", Traffic::tcp(1)));
    let enforced = Enforced::new(snapshot(pods(), [policy("x", "p", by(&key, &value))]));
    assert_eq!(enforced.decide(&flows), [Allowed, Denied]);

    for (key, value) in [
        (format!("p{key}"), value.clone()),
        (format!("{key}n"), value.clone()),
        (key.clone(), format!("{value}v")),
        (format!("a/{key}"), value.clone()),
    ] {
        let too_long = any_policy("x", "p", by(&key, &value));
        assert!(too_long.flawed, "{key}={value}");
        let enforced = Enforced::new(snapshot(pods(), [too_long]));
        assert_eq!(enforced.decide(&flows), [Denied, Denied], "{key}={value}");
    }
}
