//! What is skipped while parsing is nothing that matters: the law of the slim objects.

use std::sync::Arc;

use policy_compiler::cluster::Pod;
use policy_compiler::decode::{self, Decoded, Decoding};
use policy_compiler::document::Node;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::source::api::kinds::{Namespaces, Nodes, Pods, Policies};
use crate::source::api::slim::{Object, Served};

/// A pod with every field that is read, and many that are not.
fn whole_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-1", "namespace": "shop", "generateName": "web-", "uid": "u", "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": null,
            "labels": {"app": "web", "pod-template-hash": "abc"},
            "annotations": {"labels": "x", "name": "y"},
            "managedFields": [{"fieldsV1": {"f:metadata": {"f:labels": {"app": 1}}}}],
        },
        "spec": {
            "nodeName": "node-a", "hostNetwork": false, "restartPolicy": "Never",
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 15001, "name": "proxy"}]},
                {"name": "once", "ports": [{"containerPort": 1}]},
            ],
            "containers": [
                {"name": "web", "env": [{"name": "ports", "value": "[]"}], "ports": [
                    {"name": "http", "containerPort": 8080, "protocol": "TCP", "hostPort": 80},
                    {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                ]},
                {"name": "side", "ports": null},
            ],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
            "startTime": "2026-01-01T00:00:01Z",
            "containerStatuses": [{"name": "web", "state": {"running": {"startedAt": "x"}}}],
        },
    })
}

fn whole_policy() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {
            "name": "web", "namespace": "shop", "resourceVersion": "7", "labels": {"team": "a"},
            "annotations": {"policyd.dev/audit": "true", "audit": "false"},
            "managedFields": [{"fieldsV1": {}}],
        },
        "spec": {
            "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{
                "from": [{"namespaceSelector": {}, "podSelector": {"matchExpressions": [
                    {"key": "app", "operator": "In", "values": ["a"]},
                ]}}],
                "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}],
            }],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}],
        },
    })
}

fn whole_namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": "shop", "uid": "u", "resourceVersion": "7", "labels": {"team": "a"},
            "annotations": {"policyd.dev/audit": "true", "audit": "false"},
            "managedFields": [{"fieldsV1": {}}],
        },
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    })
}

/// The values in `value` that a pointer leads to, except what makes an object that object: the server
/// never has one without.
fn pointers(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(value, String::new(), &mut found);
    found.retain(|path| {
        !["", "/kind", "/apiVersion", "/metadata", "/metadata/name"].contains(&path.as_str())
    });
    found
}

fn collect(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                collect(value, format!("{path}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect(value, format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(path);
}

/// What somebody might put in the place of something else.
fn anything() -> impl Strategy<Value = Value> {
    const TEXTS: [&str; 10] = [
        "",
        "true",
        "Always",
        "Failed",
        "10.0.0.9",
        "::ffff:10.0.0.1",
        "010.0.0.1",
        "http",
        "x y",
        "SCTP",
    ];
    const KEYS: [&str; 7] = ["ip", "name", "containerPort", "labels", "phase", "ports", "x"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-10.0..1e20f64).prop_map(Value::from),
        proptest::sample::select(&TEXTS[..]).prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((proptest::sample::select(&KEYS[..]), inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

/// An object in which up to three values are something else.
fn damaged(whole: &Value) -> impl Strategy<Value = Value> + use<> {
    let whole = whole.clone();
    let paths = pointers(&whole);
    proptest::collection::vec((proptest::sample::select(paths), anything()), 0..=3).prop_map(
        move |damages| {
            let mut object = whole.clone();
            for (path, value) in damages {
                if let Some(place) = object.pointer_mut(&path) {
                    *place = value;
                }
            }
            object
        },
    )
}

fn slim<T: Served>(json: &Value) -> Object<T> {
    serde_json::from_str(&json.to_string()).expect("whatever is JSON can be taken in")
}

/// The decoded pod without its owner, which is not kept.
fn ownerless(decoding: Decoding<Pod>) -> Decoding<Pod> {
    decoding.map(|decoded| Decoded {
        object: Pod { workload: None, ..decoded.object },
        diagnostics: decoded.diagnostics,
    })
}

proptest! {
    #[test]
    fn a_slim_pod_is_decoded_as_the_whole_one_except_for_its_owner(json in damaged(&whole_pod())) {
        let whole = ownerless(decode::pod(&Node::from(json.clone()), None));
        prop_assert_eq!(decode::pod(&slim::<Pods>(&json).node, None), whole);
    }

    #[test]
    fn a_policy_is_decoded_as_if_nothing_were_left_out(json in damaged(&whole_policy())) {
        let whole = decode::policy(&Node::from(json.clone()), None);
        prop_assert_eq!(decode::policy(&slim::<Policies>(&json).node, None), whole);
    }

    #[test]
    fn a_namespace_is_decoded_as_if_nothing_were_left_out(json in damaged(&whole_namespace())) {
        let whole = decode::namespace(&Node::from(json.clone()), None);
        prop_assert_eq!(decode::namespace(&slim::<Namespaces>(&json).node, None), whole);
    }

    #[test]
    fn whatever_is_json_is_taken_in(json in anything()) {
        slim::<Pods>(&json);
        slim::<Policies>(&json);
        slim::<Namespaces>(&json);
        slim::<Nodes>(&json);
    }
}

#[test]
fn only_what_is_read_is_kept() {
    let object = slim::<Pods>(&whole_pod());
    let container = |name: &str| {
        let ports = object.node.get("spec").and_then(|spec| spec.get(name)).unwrap().clone();
        format!("{ports:?}")
    };
    assert!(!container("containers").contains("env"));
    assert!(!format!("{:?}", object.node).contains("managedFields"));
    let pod = decode::pod(&object.node, None).unwrap().object;
    assert_eq!(pod.ports.len(), 3, "{:?}", pod.ports);
    assert_eq!(pod.age.uid, Some(Arc::from("u")));
}

#[test]
fn what_can_be_audited_keeps_the_annotation_that_says_so_and_no_other() {
    for node in
        [slim::<Policies>(&whole_policy()).node, slim::<Namespaces>(&whole_namespace()).node]
    {
        let annotations = node.get("metadata").and_then(|m| m.get("annotations")).unwrap();
        assert_eq!(*annotations, Node::from(json!({"policyd.dev/audit": "true"})));
    }
    let policy = decode::policy(&slim::<Policies>(&whole_policy()).node, None).unwrap();
    let namespace = decode::namespace(&slim::<Namespaces>(&whole_namespace()).node, None).unwrap();
    assert!(policy.object.audit && namespace.object.audit);
}

#[test]
fn an_object_knows_the_version_from_which_a_watch_goes_on() {
    use kube::Resource as _;
    assert_eq!(slim::<Pods>(&whole_pod()).meta().resource_version.as_deref(), Some("7"));
    assert_eq!(slim::<Pods>(&json!({"metadata": 1})).meta().resource_version, None);
}

#[test]
fn a_node_keeps_its_addresses_and_the_networks_of_its_pods() {
    let json = json!({
        "metadata": {"name": "node-a", "resourceVersion": "1"},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"], "taints": [{}]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}], "images": [{}]},
    });
    let slim = decode::node(&slim::<Nodes>(&json).node, None).unwrap();
    let networks: Vec<String> = slim.object.pod_networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.1.0.0/24", "fd00:1::/64"]);
    let mut whole = json.clone();
    whole["kind"] = "Node".into();
    assert_eq!(Ok(slim), decode::node(&Node::from(whole), None));
}
