//! Manifests of a few pods and a policy, all in namespace `x`.

/// A running pod, labelled `app` by its name; a document with its end.
pub(crate) fn pod(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: x, labels: {{app: {name}}}}}
status: {{phase: Running, podIP: {address}}}
---
"
    )
}

/// Several of them, by name and address.
pub(crate) fn pods<const N: usize>(named: [(&str, &str); N]) -> String {
    named.map(|(name, address)| pod(name, address)).concat()
}

/// A policy by which pods `own` accept pods `peer` and nobody else.
pub(crate) fn policy(name: &str, own: &str, peer: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: x}}
spec:
  podSelector: {{matchLabels: {{app: {own}}}}}
  ingress:
  - from: [{{podSelector: {{matchLabels: {{app: {peer}}}}}}}]
"
    )
}
