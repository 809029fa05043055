//! Workloads, each as the pods that its template makes.

use std::sync::Arc;

use super::metadata;
use super::pod::template;
use super::report::{Field, Mapping, Report};
use super::{Decoded, Decoding, object_ref};
use crate::cluster::{Pod, Workload};
use crate::document::Node;

/// Decodes a Deployment, `StatefulSet`, `DaemonSet`, `ReplicaSet`, Job or `CronJob`.
///
/// The number of replicas is what the manifest asks for, 1 where it says nothing; for a Job its
/// parallelism, for a `DaemonSet` 1, since how many nodes there are is not known here.
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
    let mut spec = required(&object, "spec", report)?;
    if kind == "CronJob" {
        let job = required(&spec, "jobTemplate", report)?;
        spec = required(&job, "spec", report)?;
    }
    let replicas = match kind {
        "Job" | "CronJob" => count(&spec, "parallelism", report),
        "DaemonSet" => Some(1),
        _ => count(&spec, "replicas", report),
    };
    let Some(template_field) = spec.get("template") else {
        report.missing(&spec, "template", "a workload must have a pod template");
        return None;
    };
    let name = Arc::from(key.name.as_str());
    let workload = Workload { kind: Arc::from(kind), name, replicas: replicas? };
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

fn required<'n>(parent: &Mapping<'n>, key: &str, report: &mut Report<'_>) -> Option<Mapping<'n>> {
    let Some(field) = parent.get(key) else {
        report.missing(parent, key, "is missing");
        return None;
    };
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
