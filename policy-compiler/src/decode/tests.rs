use serde_json::{Value as Json, json};

use super::*;

fn of(json: Json) -> Object {
    object(&Node::from(json), None)
}

/// What a document was taken for.
fn taken_for(object: &Object) -> &'static str {
    match object {
        Object::Policy(_) => "policy",
        Object::Pod(_) => "pod",
        Object::Namespace(_) => "namespace",
        Object::Node(_) => "node",
        Object::Service(_) => "service",
        Object::Workload(_) => "workload",
        Object::Other { warning: None, .. } => "other",
        Object::Other { warning: Some(_), .. } => "other, with a warning",
        Object::Unrecognised(_) => "unrecognised",
    }
}

#[test]
fn a_document_is_decoded_by_its_kind_and_group() {
    for (version, kind, wanted) in [
        (json!("networking.k8s.io/v1"), json!("NetworkPolicy"), "policy"),
        (json!("extensions/v1beta1"), json!("NetworkPolicy"), "policy"),
        (json!(null), json!("NetworkPolicy"), "policy"),
        (json!("v1"), json!("NetworkPolicy"), "policy"),
        (json!("crd.projectcalico.org/v1"), json!("NetworkPolicy"), "other, with a warning"),
        (json!("networking.k8s.io/v1"), json!("networkPolicy"), "unrecognised"),
        (json!("networking.k8s.io/v1"), json!("NetworkPolicies"), "unrecognised"),
        (json!("networking.k8s.io/v1"), json!("NetworkPolicyList"), "other"),
        (json!("networking.k8s.io/v1"), json!("Ingress"), "other"),
        (json!("policy.networking.k8s.io/v1alpha1"), json!("AdminNetworkPolicy"), "other"),
        (json!("v1"), json!("Pod"), "pod"),
        (json!("v1"), json!("pod"), "unrecognised"),
        (json!("v1"), json!("PodList"), "other"),
        (json!("v1"), json!("List"), "other"),
        (json!("v1"), json!("Secret"), "other"),
        (json!("v1"), json!("ServiceAccount"), "other"),
        (json!("v1"), json!("Endpoints"), "other"),
        (json!(null), json!("Pod"), "unrecognised"),
        (json!("pods/v1"), json!("Pod"), "unrecognised"),
        (json!("v1"), json!("Namespace"), "namespace"),
        (json!("v1"), json!("Node"), "node"),
        (json!("v1"), json!("Service"), "service"),
        (json!("serving.knative.dev/v1"), json!("Service"), "other"),
        (json!("apps/v1"), json!("Deployment"), "workload"),
        (json!("extensions/v1beta1"), json!("Deployment"), "workload"),
        (json!("apps/v1"), json!("StatefulSet"), "workload"),
        (json!("apps/v1"), json!("DaemonSet"), "workload"),
        (json!("apps/v1"), json!("ReplicaSet"), "workload"),
        (json!("batch/v1"), json!("Job"), "workload"),
        (json!("batch/v1"), json!("CronJob"), "workload"),
        (json!("batch.volcano.sh/v1"), json!("Job"), "other"),
        (json!("v1"), json!("Deployment"), "unrecognised"),
        (json!("v1"), json!(7), "unrecognised"),
        (json!("v1"), json!(null), "unrecognised"),
    ] {
        let document = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}});
        assert_eq!(taken_for(&of(document)), wanted, "{version} {kind}");
    }
    for document in [json!(null), json!([]), json!("text"), json!({}), json!({"a": 1})] {
        assert_eq!(taken_for(&of(document.clone())), "unrecognised", "{document}");
    }
}

#[test]
fn a_kind_that_was_hardly_meant_is_not_passed_over_in_silence() {
    let document = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Networkpolicy", "metadata": {"name": "a"},
    });
    let Object::Unrecognised(finding) = of(document) else { panic!("it was taken for something") };
    assert_eq!(
        finding.to_string(),
        "error: Networkpolicy a: kind: `Networkpolicy` is no kind of this group; the object is not read (did you mean \
         `NetworkPolicy`?)"
    );
}

#[test]
fn a_reference_names_an_object_as_it_is_written() {
    let reference = |json: Json| object_ref(&Node::from(json)).map(|r| r.to_string());
    let named = |kind: &str, metadata: Json| reference(json!({"kind": kind, "metadata": metadata}));
    assert_eq!(named("Pod", json!({"name": "a", "namespace": "x"})).as_deref(), Some("Pod x/a"));
    assert_eq!(named("Pod", json!({"name": "A_"})).as_deref(), Some("Pod default/A_"));
    assert_eq!(named("Pod", json!({"generateName": "a-"})).as_deref(), Some("Pod default/a-"));
    assert_eq!(named("Node", json!({"name": "n", "namespace": "x"})).as_deref(), Some("Node n"));
    assert_eq!(named("ConfigMap", json!({"name": "n"})).as_deref(), Some("ConfigMap n"));
    assert_eq!(reference(json!({"metadata": {"name": "a"}})), None);
    assert_eq!(reference(json!("Pod")), None);
}

#[test]
fn an_object_that_names_no_namespace_can_be_put_into_one() {
    let team = NamespaceName::new("team").unwrap();
    let put = |json: Json| {
        let mut node = Node::from(json);
        put_in_namespace(&mut node, &team);
        object_ref(&node).map(|r| r.to_string()).unwrap_or_default()
    };
    let pod = |metadata: Json| put(json!({"kind": "Pod", "metadata": metadata}));
    assert_eq!(pod(json!({"name": "a"})), "Pod team/a");
    assert_eq!(pod(json!({"name": "a", "namespace": null})), "Pod team/a");
    assert_eq!(pod(json!({"name": "a", "namespace": ""})), "Pod team/a");
    assert_eq!(pod(json!({"name": "a", "namespace": "x"})), "Pod x/a");
    assert_eq!(put(json!({"kind": "Node", "metadata": {"name": "n"}})), "Node n");
    assert_eq!(put(json!({"kind": "Pod", "metadata": "a"})), "Pod default/");
}
