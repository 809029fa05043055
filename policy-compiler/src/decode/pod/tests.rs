use std::net::IpAddr;

use serde_json::{Value as Json, json};

use super::*;
use crate::port::Protocol;

/// A running pod of which `change` is merged into the parts.
fn pod_with(metadata: Json, spec: Json, status: Json) -> Decoding<Pod> {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "shop"}, "spec": {}, "status": {"phase": "Running"},
    });
    for (part, change) in [("metadata", metadata), ("spec", spec), ("status", status)] {
        for (key, value) in change.as_object().unwrap() {
            object[part][key] = value.clone();
        }
    }
    pod(&Node::from(object), None)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn port(name: Option<&str>, protocol: Protocol, number: u16) -> ContainerPort {
    let name = name.map(|name| crate::port::PortName::new(name).unwrap());
    ContainerPort { name, protocol, number: number.try_into().unwrap() }
}

#[test]
fn a_pod_is_read_as_far_as_policy_depends_on_it() {
    let decoded = pod_with(
        json!({
            "labels": {"app": "web", "example.com/tier": ""}, "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionTimestamp": "2026-01-02T00:00:00Z", "annotations": {"anything": [1]}, "made": "up",
        }),
        json!({
            "nodeName": "node-a", "hostNetwork": false, "nobody": "knows",
            "containers": [
                {"name": "c", "image": 7, "ports": [
                    {"name": "http", "containerPort": 8080, "hostPort": 80},
                    {"containerPort": 53, "protocol": "UDP"},
                ]},
                {"ports": [{"name": "http", "containerPort": 8081, "protocol": "TCP"}]},
                {"ports": null},
            ],
            "initContainers": [
                {"ports": [{"name": "setup", "containerPort": 1}]},
                {"restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 15001}]},
            ],
        }),
        json!({
            "startTime": "2026-01-01T00:00:01Z", "conditions": "whatever",
            "podIP": "10.244.1.17", "podIPs": [{"ip": "10.244.1.17"}, {"ip": "fd00::17"}, {"ip": "10.9.9.9"}],
            "hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
        }),
    )
    .unwrap();
    assert_eq!(decoded.diagnostics, []);
    let text = |text: &str| Some(Arc::from(text));
    assert_eq!(
        decoded.object,
        Pod {
            key: ObjectKey::new("shop", "web-0").unwrap(),
            labels: Labels::from_iter([("app", "web"), ("example.com/tier", "")]),
            node: Some(NodeName::new("node-a").unwrap()),
            host_network: false,
            phase: Phase::Running,
            addresses: Addresses {
                v4: Some("10.244.1.17".parse().unwrap()),
                v6: Some("fd00::17".parse().unwrap()),
            },
            ports: vec![
                port(Some("http"), Protocol::Tcp, 8080),
                port(None, Protocol::Udp, 53),
                port(Some("http"), Protocol::Tcp, 8081),
                port(Some("mesh"), Protocol::Tcp, 15001),
            ],
            host_addresses: vec![ip("192.0.2.1"), ip("2001:db8::1")],
            age: Age {
                started: text("2026-01-01T00:00:01Z"),
                created: text("2026-01-01T00:00:00Z"),
                uid: text("u1"),
            },
            workload: None,
            template: false,
            location: crate::document::Location::default(),
        }
    );
    assert!(decoded.object.is_live(), "terminating and still running");
}

#[test]
fn the_first_address_of_a_family_counts_and_pod_ip_only_where_there_are_no_pod_ips() {
    for (status, addresses) in [
        (json!({}), vec![]),
        (json!({"podIP": ""}), vec![]),
        (json!({"podIP": null, "podIPs": []}), vec![]),
        (json!({"podIP": "10.0.0.1"}), vec!["10.0.0.1"]),
        (json!({"podIP": "fd00::1", "podIPs": null}), vec!["fd00::1"]),
        (json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}]}), vec!["10.0.0.2"]),
        (
            json!({"podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}, {"ip": "fd00::2"}]}),
            vec!["10.0.0.1", "fd00::1"],
        ),
    ] {
        let pod = pod_with(json!({}), json!({}), status.clone()).unwrap().object;
        let wanted: Vec<IpAddr> = addresses.into_iter().map(ip).collect();
        assert_eq!(pod.addresses.iter().collect::<Vec<_>>(), wanted, "{status}");
    }
}

#[test]
fn the_phase_says_whether_a_pod_has_finished() {
    for (phase, wanted, warnings) in [
        (json!("Pending"), Phase::Pending, 0),
        (json!(null), Phase::Pending, 0),
        (json!("Running"), Phase::Running, 0),
        (json!("Unknown"), Phase::Running, 0),
        (json!("Succeeded"), Phase::Finished, 0),
        (json!("Failed"), Phase::Finished, 0),
        (json!("running"), Phase::Running, 1),
    ] {
        let decoded = pod_with(json!({}), json!({}), json!({"phase": phase})).unwrap();
        assert_eq!(
            (decoded.object.phase, decoded.diagnostics.len()),
            (wanted, warnings),
            "{phase}"
        );
    }
}

#[test]
fn a_pod_belongs_to_its_controller_and_through_a_replica_set_to_the_deployment() {
    let owned = |kind: &str, name: &str, labels: Json| {
        let other = json!({"kind": "Other", "name": "other"});
        let owners = json!([other, {"kind": kind, "name": name, "controller": true}]);
        let decoded =
            pod_with(json!({"ownerReferences": owners, "labels": labels}), json!({}), json!({}));
        let workload = decoded.unwrap().object.workload.unwrap();
        assert_eq!(workload.replicas, 1);
        format!("{} {}", workload.kind, workload.name)
    };
    let hash = json!({"pod-template-hash": "7d4b"});
    assert_eq!(owned("ReplicaSet", "web-7d4b", hash.clone()), "Deployment web");
    assert_eq!(owned("ReplicaSet", "web-7d4b", json!({})), "ReplicaSet web-7d4b");
    assert_eq!(owned("ReplicaSet", "web-ffff", hash.clone()), "ReplicaSet web-ffff");
    assert_eq!(owned("ReplicaSet", "7d4b", hash.clone()), "ReplicaSet 7d4b");
    assert_eq!(owned("ReplicaSet", "-7d4b", hash.clone()), "ReplicaSet -7d4b");
    assert_eq!(owned("StatefulSet", "db-7d4b", hash), "StatefulSet db-7d4b");
    for owners in
        [json!([]), json!(null), json!("web"), json!([{"kind": "ReplicaSet", "name": "a"}])]
    {
        let decoded = pod_with(json!({"ownerReferences": owners}), json!({}), json!({})).unwrap();
        assert_eq!(decoded.object.workload, None, "{owners}");
    }
}

#[test]
fn a_pod_with_an_invalid_field_that_matters_is_an_error() {
    let containers = |port: Json| json!({"containers": [{"ports": [port]}]});
    let none = || json!({});
    for (metadata, spec, status, field) in [
        (json!({"name": "Web"}), none(), none(), "metadata.name"),
        (json!({"name": null}), none(), none(), "metadata.name"),
        (json!({"name": 7}), none(), none(), "metadata.name"),
        (json!({"namespace": "a.b"}), none(), none(), "metadata.namespace"),
        (json!({"labels": {"a b": "c"}}), none(), none(), "metadata.labels[a b]"),
        (json!({"labels": {"a": "-"}}), none(), none(), "metadata.labels.a"),
        (json!({"labels": {"a": 1}}), none(), none(), "metadata.labels.a"),
        (json!({"labels": {"a": null}}), none(), none(), "metadata.labels.a"),
        (json!({"labels": []}), none(), none(), "metadata.labels"),
        (none(), json!({"nodeName": "Node_A"}), none(), "spec.nodeName"),
        (none(), json!({"hostNetwork": "true"}), none(), "spec.hostNetwork"),
        (none(), json!({"containers": {}}), none(), "spec.containers"),
        (none(), containers(json!({})), none(), "spec.containers[0].ports[0].containerPort"),
        (
            none(),
            containers(json!({"containerPort": 0})),
            none(),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            none(),
            containers(json!({"containerPort": 1, "name": "80"})),
            none(),
            "spec.containers[0].ports[0].name",
        ),
        (
            none(),
            containers(json!({"containerPort": 1, "name": 80})),
            none(),
            "spec.containers[0].ports[0].name",
        ),
        (
            none(),
            containers(json!({"containerPort": 1, "protocol": "udp"})),
            none(),
            "spec.containers[0].ports[0].protocol",
        ),
        (none(), none(), json!({"podIP": "10.0.0"}), "status.podIP"),
        (none(), none(), json!({"podIP": "0.0.0.0"}), "status.podIP"),
        (none(), none(), json!({"podIPs": [{"ip": "::ffff:10.0.0.1"}]}), "status.podIPs[0].ip"),
        (none(), none(), json!({"podIPs": ["10.0.0.1"]}), "status.podIPs[0]"),
        (none(), none(), json!({"hostIPs": [{"ip": "x"}]}), "status.hostIPs[0].ip"),
        (none(), none(), json!({"phase": 1}), "status.phase"),
    ] {
        let findings = pod_with(metadata, spec, status).unwrap_err();
        let fields: Vec<&str> = findings.iter().map(|d| d.field.as_str()).collect();
        assert_eq!(fields, [field]);
        assert!(findings[0].message.ends_with("; this pod cannot be taken into account"));
    }
}

#[test]
fn the_empty_text_stands_for_nothing_where_the_api_writes_it() {
    let ports = json!([{"name": "", "containerPort": 80, "protocol": ""}]);
    let spec = json!({"nodeName": "", "containers": [{"ports": ports}]});
    let pod = pod_with(json!({"namespace": ""}), spec, json!({"hostIP": ""})).unwrap().object;
    assert_eq!(pod.key, ObjectKey::new("default", "web-0").unwrap());
    assert_eq!((pod.node, pod.host_addresses), (None, vec![]));
    assert_eq!(pod.ports, [port(None, Protocol::Tcp, 80)]);
}

#[test]
fn a_pod_that_shares_the_network_of_its_node_says_so() {
    let pod = pod_with(json!({}), json!({"hostNetwork": true}), json!({})).unwrap().object;
    assert!(pod.host_network && !pod.is_live());
}
