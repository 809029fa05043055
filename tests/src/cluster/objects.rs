//! The objects of a cluster, as the API has them.

#![allow(
    clippy::needless_pass_by_value,
    reason = "callers write objects where they hand them over"
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use super::client::Call;
use super::network::node_v4;

/// The collection of a namespace's pods.
#[must_use]
pub fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// The collection of a namespace's policies.
#[must_use]
pub fn policies(namespace: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
}

/// Namespace and name of `NAMESPACE/NAME`.
#[must_use]
pub fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("default", key))
}

/// The name of an object.
#[must_use]
pub fn name_of(object: &Value) -> String {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn labels_of(labels: &[(impl AsRef<str>, impl AsRef<str>)]) -> Value {
    let pairs = labels.iter().map(|(key, value)| (key.as_ref().to_owned(), json!(value.as_ref())));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// Makes a namespace.
#[must_use]
pub fn create_namespace(name: &str, labels: &[(&str, &str)]) -> Call {
    Call::Create {
        collection: "/api/v1/namespaces".to_owned(),
        object: json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels_of(labels)},
        }),
    }
}

/// Makes a policy.
#[must_use]
pub fn create_policy(key: &str, spec: Value) -> Call {
    let (namespace, name) = split(key);
    Call::Create {
        collection: policies(namespace),
        object: json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace, "name": name}, "spec": spec,
        }),
    }
}

/// Sets labels of a pod.
#[must_use]
pub fn label_pod(key: &str, labels: Value) -> Call {
    let (namespace, name) = split(key);
    Call::Merge {
        collection: pods(namespace),
        name: name.to_owned(),
        subresource: None,
        patch: json!({"metadata": {"labels": labels}}),
    }
}

/// Writes what kubelet would write of a pod.
#[must_use]
pub fn pod_status(key: &str, status: Value) -> Call {
    let (namespace, name) = split(key);
    Call::Merge {
        collection: pods(namespace),
        name: name.to_owned(),
        subresource: Some("status"),
        patch: json!({"status": status}),
    }
}

/// A pod to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// `NAMESPACE/NAME`.
    pub key: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// On which node.
    pub node: usize,
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// Its named ports.
    pub ports: Vec<(String, u16)>,
    /// The last byte of its addresses; the next that is free where it is not given.
    pub host: Option<u8>,
}

impl PodPlan {
    /// A pod with the label `app`, which is its name.
    #[must_use]
    pub fn new(key: &str, node: usize) -> Self {
        let labels = vec![("app".to_owned(), split(key).1.to_owned())];
        let (key, ports) = (key.to_owned(), Vec::new());
        Self { key, labels, node, host_network: false, ports, host: None }
    }

    /// With one more label, or another value of one.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.retain(|(own, _)| own != key);
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With a named port.
    #[must_use]
    pub fn port(mut self, name: &str, number: u16) -> Self {
        self.ports.push((name.to_owned(), number));
        self
    }

    /// With the last byte of its addresses.
    #[must_use]
    pub fn host(mut self, host: u8) -> Self {
        self.host = Some(host);
        self
    }

    /// With the node's network.
    #[must_use]
    pub fn on_host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// Makes the object.
    #[must_use]
    pub fn create(&self, node: &str) -> Call {
        let (namespace, name) = split(&self.key);
        let port = |(name, number): &(String, u16)| json!({"name": name, "containerPort": number});
        let ports: Vec<Value> = self.ports.iter().map(port).collect();
        Call::Create {
            collection: pods(namespace),
            object: json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "namespace": namespace, "name": name, "labels": labels_of(&self.labels),
                },
                "spec": {
                    "nodeName": node,
                    "hostNetwork": self.host_network,
                    "containers": [{"name": "main", "image": "none", "ports": ports}],
                },
            }),
        }
    }

    /// Writes that it runs.
    #[must_use]
    pub fn running(&self, (v4, v6): (Ipv4Addr, Ipv6Addr)) -> Call {
        let host = node_v4(self.node);
        let addresses =
            if self.host_network { json!([{"ip": host}]) } else { json!([{"ip": v4}, {"ip": v6}]) };
        pod_status(
            &self.key,
            json!({
                "phase": "Running",
                "podIP": addresses.pointer("/0/ip"),
                "podIPs": addresses,
                "hostIP": host,
                "startTime": "2026-01-01T00:00:00Z",
            }),
        )
    }
}
