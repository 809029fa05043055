//! Workloads, each as the pods that its template makes.

use std::sync::Arc;

use super::metadata;
use super::pod::{owner, template};
use super::report::{Field, Mapping, Report};
use super::{Decoded, Decoding, object_ref};
use crate::cluster::{Pod, Workload};
use crate::document::Node;

/// Decodes a Deployment, `StatefulSet`, `DaemonSet`, `ReplicaSet`, Job or `CronJob`.
///
/// The number of replicas is what the manifest asks for, 1 where it says nothing; for a Job its
/// parallelism, for a `DaemonSet` 1, since how many nodes there are is not known here. One that
/// another workload made, as a Deployment makes a `ReplicaSet`, is named as that one's: the pod's
/// [`workload`](Pod::workload) then has another name than its key.
///
/// # Errors
/// Where it has no template, or what policy depends on is invalid.
pub fn workload(node: &Node, file: Option<&Arc<str>>) -> Decoding<Pod> {
    let mut report = Report::new(object_ref(node), file);
    let mark = report.mark();
    let pod = read(node, &mut report);
    report.conclude(mark, "", "the pods of this workload cannot be taken into account");
    Decoded::or_errors(pod, report)
}

fn read(node: &Node, report: &mut Report<'_>) -> Option<Pod> {
    let object = report.lenient(&Field::root(node), &["kind", "metadata", "spec"])?;
    let kind = object.get("kind").and_then(|kind| kind.node.as_str()).unwrap_or_default();
    let metadata = metadata::metadata(&object, report)?;
    let key = metadata::key(&metadata, node, report)?;
    let mut spec = section(&object, "spec", report)?;
    if kind == "CronJob" {
        let job = section(&spec, "jobTemplate", report)?;
        spec = section(&job, "spec", report)?;
    }
    let replicas = match kind {
        "Job" | "CronJob" => count(&spec, "parallelism", report),
        "DaemonSet" => Some(1),
        _ => count(&spec, "replicas", report),
    };
    let message = "a workload must have a pod template";
    let template_field = report.required(&spec, "template", message)?;
    let own =
        || Workload { kind: Arc::from(kind), name: Arc::from(key.name.as_str()), replicas: 1 };
    let labels = metadata::labels_of(&metadata, report);
    let owner = owner(&metadata, &labels).unwrap_or_else(own);
    let workload = Workload { replicas: replicas?, ..owner };
    let mut pod = template(key, workload, &template_field, node, report)?;
    if kind == "Job" {
        add_job_labels(&mut pod);
    }
    Some(pod)
}

/// The labels that the Job controller adds and that can be told beforehand.
fn add_job_labels(pod: &mut Pod) {
    for label in ["job-name", "batch.kubernetes.io/job-name"] {
        if pod.labels.get(label).is_none() {
            pod.labels.insert(label, pod.key.name.as_str());
        }
    }
}

fn section<'n>(parent: &Mapping<'n>, key: &str, report: &mut Report<'_>) -> Option<Mapping<'n>> {
    let field = report.required(parent, key, "is missing")?;
    report.lenient(&field, &["template", "jobTemplate", "spec", "replicas", "parallelism"])
}

fn count(spec: &Mapping<'_>, key: &str, report: &mut Report<'_>) -> Option<u32> {
    let Some(field) = spec.get(key) else { return Some(1) };
    let number = report.integer(&field)?;
    let count = u32::try_from(number).ok();
    if count.is_none() {
        report.error(&field, format!("{number} is no number of pods"), None);
    }
    count
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::cluster::Phase;

    fn of(kind: &str, spec: &Json) -> Decoding<Pod> {
        let metadata = json!({"name": "web", "namespace": "shop", "labels": {"not": "the-pods"}});
        workload(&Node::from(json!({"kind": kind, "metadata": metadata, "spec": spec})), None)
    }

    fn template() -> Json {
        json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        })
    }

    #[test]
    fn a_template_becomes_the_pods_that_it_makes() {
        let job = json!({"parallelism": 4, "template": template()});
        for (kind, spec, replicas, labels) in [
            ("Deployment", json!({"replicas": 3, "template": template()}), 3, "app=web"),
            ("Deployment", json!({"template": template()}), 1, "app=web"),
            ("StatefulSet", json!({"replicas": 0, "template": template()}), 0, "app=web"),
            ("ReplicaSet", json!({"replicas": null, "template": template()}), 1, "app=web"),
            ("DaemonSet", json!({"template": template()}), 1, "app=web"),
            ("Job", job.clone(), 4, "app=web,batch.kubernetes.io/job-name=web,job-name=web"),
            (
                "CronJob",
                json!({"schedule": "* * * * *", "jobTemplate": {"spec": job}}),
                4,
                "app=web",
            ),
        ] {
            let decoded = of(kind, &spec).unwrap();
            assert_eq!(decoded.diagnostics, [], "{kind}");
            let pod = decoded.object;
            assert_eq!(pod.key, crate::name::ObjectKey::new("shop", "web").unwrap(), "{kind}");
            assert_eq!(pod.labels.to_string(), labels, "{kind}");
            assert_eq!(pod.ports[0].number.get(), 8080, "{kind}");
            let workload = Workload { kind: Arc::from(kind), name: Arc::from("web"), replicas };
            assert_eq!(pod.workload, Some(workload), "{kind}");
            assert_eq!((pod.template, pod.phase), (true, Phase::Pending), "{kind}");
            assert!(pod.addresses.is_empty() && pod.is_live(), "{kind}");
        }
    }

    #[test]
    fn a_replica_set_that_a_deployment_made_is_named_as_the_deployments() {
        let object = json!({
            "kind": "ReplicaSet",
            "metadata": {
                "name": "web-7d4b", "labels": {"pod-template-hash": "7d4b"},
                "ownerReferences": [{"kind": "Deployment", "name": "web", "controller": true}],
            },
            "spec": {"replicas": 2, "template": template()},
        });
        let pod = workload(&Node::from(object), None).unwrap().object;
        let owner = Workload { kind: "Deployment".into(), name: "web".into(), replicas: 2 };
        assert_eq!((pod.key.name.as_str(), pod.workload), ("web-7d4b", Some(owner)));
    }

    #[test]
    fn a_workload_without_a_usable_template_is_an_error() {
        for (kind, spec, field) in [
            ("Deployment", json!({}), "spec.template"),
            ("Deployment", json!(null), "spec"),
            ("CronJob", json!({"template": template()}), "spec.jobTemplate"),
            ("CronJob", json!({"jobTemplate": {"spec": {}}}), "spec.jobTemplate.spec.template"),
            ("Deployment", json!({"replicas": -1, "template": template()}), "spec.replicas"),
            ("Deployment", json!({"replicas": "3", "template": template()}), "spec.replicas"),
            (
                "Deployment",
                json!({"template": {"metadata": {"labels": {"a": "b c"}}}}),
                "spec.template.metadata.labels.a",
            ),
        ] {
            let findings = of(kind, &spec).unwrap_err();
            let fields: Vec<&str> = findings.iter().map(|d| d.field.as_str()).collect();
            assert_eq!(fields, [field], "{kind} {spec}");
        }
    }
}
