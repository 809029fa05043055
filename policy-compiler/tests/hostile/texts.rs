//! Text that means something to a shell, to iptables or to a terminal.

use policy_compiler::cidr::Family;
use policy_compiler::compile::compile;
use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_compiler::render;
use serde_json::json;

use crate::cluster::{any_policy, config, pod, snapshot};
use crate::in_time;

const TEXTS: [&str; 10] = [
    "x\n-A FORWARD -j ACCEPT",
    "x\nCOMMIT",
    "x\" -j ACCEPT #",
    "$(reboot)",
    "`reboot`",
    "x; reboot",
    "x\u{0}y",
    "x\u{1b}[2Jy",
    "x -j ACCEPT",
    "\u{202e}x",
];

#[test]
fn what_could_be_syntax_is_no_name() {
    for text in TEXTS {
        for (namespace, name) in [(text, "web"), ("x", text)] {
            let metadata = json!({"namespace": namespace, "name": name});
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
            let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata});
            assert!(decode::pod(&Node::from(pod), None).is_err(), "{text:?}");
            let policy = decode::policy(&Node::from(policy), None);
            // One whose name cannot be read isolates all the same, under a name that can.
            if let Ok(policy) = policy {
                assert!(policy.object.flawed, "{text:?}");
                assert!(!policy.object.key.to_string().contains(text), "{text:?}");
            }
        }
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": text}});
        assert!(decode::namespace(&Node::from(namespace), None).is_err(), "{text:?}");
    }
}

#[test]
fn whatever_stands_in_a_policy_nothing_of_it_is_written_but_what_was_understood() {
    let web = pod("x", "web", "10.0.0.1", &json!({"app": "web"}));
    for text in TEXTS {
        let peer = |selector: serde_json::Value| json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": selector}]}]});
        for spec in [
            peer(json!({"matchLabels": {"app": text}})),
            peer(json!({"matchLabels": {text: "web"}})),
            peer(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": [text]}]})),
            peer(json!({"matchExpressions": [{"key": "app", "operator": text}]})),
            json!({"podSelector": {"matchLabels": {"app": text}}, "policyTypes": [text]}),
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": text, "protocol": text}]}]}),
            json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": text}}]}]}),
            json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [text]}}]}]}),
            json!({"podSelector": {}, text: []}),
        ] {
            let policy = any_policy("x", "p", spec.clone());
            assert!(policy.flawed, "{spec}");
            let ruleset = compile(&snapshot([web.clone()], [policy]), &config()).ruleset;
            for family in Family::ALL {
                let written = render::ruleset(&ruleset, family);
                let is_plain =
                    |letter: char| letter == '\n' || letter.is_ascii_graphic() || letter == ' ';
                assert!(written.chars().all(is_plain), "{spec}");
                assert!(!written.contains("ACCEPT") && !written.contains("reboot"), "{spec}");
            }
        }
    }
}

/// A diagnostic is one line of a terminal or a log.
#[test]
fn whatever_is_wrong_is_told_in_plain_text_of_a_bounded_length() {
    let long = "x".repeat(1 << 20);
    for text in TEXTS.into_iter().chain([&*long]) {
        let metadata = json!({"namespace": "x", "name": "p", "labels": {text: text}});
        let selector = json!({"matchLabels": {text: text}, text: text});
        let rules = json!([
            {"from": [{"podSelector": selector}, {"ipBlock": {"cidr": text, "except": [text]}}], text: 1},
            {"ports": [{"port": text, "protocol": text, text: text}]},
            text,
        ]);
        let spec =
            json!({"podSelector": selector, "ingress": rules, "policyTypes": [text], text: 1});
        let mut objects = vec![
            json!({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1", "metadata": metadata, "spec": spec}),
            json!({"kind": "NetworkPolicy", "apiVersion": text, "metadata": metadata}),
            json!({"kind": text, "apiVersion": "v1", "metadata": metadata}),
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": text}),
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"namespace": "x", "name": "p"},
                "spec": {"nodeName": text}, "status": {"podIP": text, "phase": text}}),
            json!({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}),
        ];
        for name in [text, ""] {
            for kind in ["Pod", "NetworkPolicy", "Namespace", "Node", "Service"] {
                let metadata = json!({"namespace": text, "name": name});
                let version = if kind == "NetworkPolicy" { "networking.k8s.io/v1" } else { "v1" };
                objects.push(json!({"kind": kind, "apiVersion": version, "metadata": metadata}));
            }
        }
        for object in objects {
            for told in told(&Node::from(object)) {
                let lines = told.to_string();
                assert!(lines.chars().count() < 3_000, "{} characters", lines.len());
                assert!(!lines.chars().any(|c| c.is_control() || c == '\u{202e}'), "{lines:?}");
            }
        }
    }
}

fn told(node: &Node) -> Vec<policy_compiler::diagnostic::Diagnostic> {
    use decode::Object;
    match decode::object(node, None) {
        Object::Policy(decoded) => decoded.map_or_else(|errors| errors, |one| one.diagnostics),
        Object::Pod(decoded) => decoded.map_or_else(|errors| errors, |one| one.diagnostics),
        Object::Namespace(decoded) => decoded.map_or_else(|errors| errors, |one| one.diagnostics),
        Object::Node(decoded) => decoded.map_or_else(|errors| errors, |one| one.diagnostics),
        Object::Service(decoded) => decoded.map_or_else(|errors| errors, |one| one.diagnostics),
        Object::Unrecognised(diagnostic) => vec![diagnostic],
        _ => Vec::new(),
    }
}

#[test]
fn a_megabyte_of_annotations_is_forgotten() {
    let manifest = |annotation: String| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "x", "name": "web", "annotations": {"a": annotation}},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        })
    };
    let long = Node::from(manifest("a".repeat(1 << 20)));
    let long = in_time("decoding", || decode::pod(&long, None)).unwrap();
    assert_eq!(long, decode::pod(&Node::from(manifest(String::new())), None).unwrap());
}
