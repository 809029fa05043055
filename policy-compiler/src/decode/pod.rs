//! Pods, and the pods that a template makes.
//!
//! Unknown keys are ignored: policy depends on a few fields only, and these are checked. An invalid
//! one is an error and there is no pod, for a pod with half of its labels would be another pod.

use std::sync::Arc;

use super::address::address;
use super::metadata;
use super::port::{NumberOrName, declared_protocol, number, number_or_name};
use super::report::{Field, Mapping, Report};
use super::{Decoded, Decoding, object_ref};
use crate::cluster::{Addresses, Age, ContainerPort, Phase, Pod, Workload};
use crate::document::{Node, Value};
use crate::labels::Labels;
use crate::name::{NodeName, ObjectKey};

const SPEC_FIELDS: [&str; 4] = ["nodeName", "hostNetwork", "containers", "initContainers"];
const STATUS_FIELDS: [&str; 6] = ["phase", "podIP", "podIPs", "hostIP", "hostIPs", "startTime"];

/// Decodes a Pod.
///
/// # Errors
/// Where a name, a label, an address or a port that policy depends on is invalid.
pub fn pod(node: &Node, file: Option<&Arc<str>>) -> Decoding<Pod> {
    let mut report = Report::new(object_ref(node), file);
    let mark = report.mark();
    let pod = read(node, &mut report);
    report.conclude(mark, "", "this pod cannot be taken into account");
    Decoded::or_errors(pod, report)
}

fn read(node: &Node, report: &mut Report<'_>) -> Option<Pod> {
    let object = report.lenient(&Field::root(node), &["metadata", "spec", "status"])?;
    let metadata = metadata::metadata(&object, report)?;
    let key = metadata::key(&metadata, node, report);
    let labels = metadata::labels_of(&metadata, report);
    let spec = object.get("spec").and_then(|spec| pod_spec(&spec, report)).unwrap_or_default();
    let status = object.get("status").and_then(|s| pod_status(&s, report)).unwrap_or_default();
    Some(Pod {
        workload: owner(&metadata, &labels),
        key: key?,
        labels,
        node: spec.node,
        host_network: spec.host_network,
        phase: status.phase,
        addresses: status.addresses,
        ports: spec.ports,
        host_addresses: status.host_addresses,
        age: Age {
            started: status.started,
            created: metadata::shared_text(&metadata, "creationTimestamp"),
            uid: metadata::shared_text(&metadata, "uid"),
        },
        template: false,
        location: report.location(node.position),
    })
}

/// The pods that a template makes: as a pod that has neither address nor node yet.
pub(super) fn template(
    key: ObjectKey,
    workload: Workload,
    template: &Field<'_>,
    object: &Node,
    report: &mut Report<'_>,
) -> Option<Pod> {
    let mapping = report.lenient(template, &["metadata", "spec"])?;
    let metadata =
        mapping.get("metadata").and_then(|metadata| report.lenient(&metadata, &["labels"]));
    let labels = metadata.map(|m| metadata::labels_of(&m, report)).unwrap_or_default();
    let spec = mapping.get("spec").and_then(|spec| pod_spec(&spec, report)).unwrap_or_default();
    Some(Pod {
        key,
        labels,
        node: spec.node,
        host_network: spec.host_network,
        phase: Phase::Pending,
        addresses: Addresses::default(),
        ports: spec.ports,
        host_addresses: Vec::new(),
        age: Age::default(),
        workload: Some(workload),
        template: true,
        location: report.location(object.position),
    })
}

/// What of a PodSpec policy depends on.
#[derive(Default)]
struct PodSpec {
    node: Option<NodeName>,
    host_network: bool,
    ports: Vec<ContainerPort>,
}

fn pod_spec(field: &Field<'_>, report: &mut Report<'_>) -> Option<PodSpec> {
    let spec = report.lenient(field, &SPEC_FIELDS)?;
    let mut ports = Vec::new();
    for container in report.list_of(&spec, "containers") {
        container_ports(&container, |_| true, &mut ports, report);
    }
    for container in report.list_of(&spec, "initContainers") {
        container_ports(&container, runs_on, &mut ports, report);
    }
    let host_network = report.flag_of(&spec, "hostNetwork");
    Some(PodSpec { node: node_name(&spec, report), host_network, ports })
}

/// Whether an init container is a sidecar, which runs as long as the pod does.
fn runs_on(container: &Mapping<'_>) -> bool {
    container.get("restartPolicy").is_some_and(|policy| policy.node.as_str() == Some("Always"))
}

fn node_name(spec: &Mapping<'_>, report: &mut Report<'_>) -> Option<NodeName> {
    let name = report.text_of(spec, "nodeName")?;
    match NodeName::new(name) {
        Ok(name) => Some(name),
        Err(error) => {
            let field = spec.get("nodeName")?;
            report.error(&field, format!("is no node name: {error}"), None);
            None
        }
    }
}

fn container_ports(
    field: &Field<'_>,
    counts: impl Fn(&Mapping<'_>) -> bool,
    ports: &mut Vec<ContainerPort>,
    report: &mut Report<'_>,
) {
    let Some(container) = report.lenient(field, &["ports", "restartPolicy"]) else { return };
    if counts(&container) {
        for item in report.list_of(&container, "ports") {
            ports.extend(container_port(&item, report));
        }
    }
}

fn container_port(field: &Field<'_>, report: &mut Report<'_>) -> Option<ContainerPort> {
    let mapping = report.lenient(field, &["name", "containerPort", "protocol"])?;
    let protocol = declared_protocol(&mapping, report);
    let name = match mapping.get("name").filter(|name| name.node.as_str() != Some("")) {
        Some(field) => {
            report.text(&field)?;
            match number_or_name(&field, report)? {
                NumberOrName::Name(name) => Some(name),
                NumberOrName::Number(_) => None,
            }
        }
        None => None,
    };
    let message = "a port must have a containerPort";
    let number_field = report.required(&mapping, "containerPort", message)?;
    Some(ContainerPort { name, protocol: protocol?, number: number(&number_field, report)? })
}

/// What of a PodStatus policy depends on. Without a status a pod is pending, as the API has it.
struct PodStatus {
    phase: Phase,
    addresses: Addresses,
    host_addresses: Vec<std::net::IpAddr>,
    started: Option<Arc<str>>,
}

impl Default for PodStatus {
    fn default() -> Self {
        Self {
            phase: Phase::Pending,
            addresses: Addresses::default(),
            host_addresses: Vec::new(),
            started: None,
        }
    }
}

fn pod_status(field: &Field<'_>, report: &mut Report<'_>) -> Option<PodStatus> {
    let status = report.lenient(field, &STATUS_FIELDS)?;
    let mut addresses = Addresses::default();
    for address in addresses_of(&status, "podIPs", "podIP", report) {
        addresses.offer(address);
    }
    Some(PodStatus {
        phase: phase(&status, report),
        addresses,
        host_addresses: addresses_of(&status, "hostIPs", "hostIP", report),
        started: metadata::shared_text(&status, "startTime"),
    })
}

fn phase(status: &Mapping<'_>, report: &mut Report<'_>) -> Phase {
    match report.text_of(status, "phase") {
        None | Some("Pending") => Phase::Pending,
        Some("Running" | "Unknown") => Phase::Running,
        Some("Succeeded" | "Failed") => Phase::Finished,
        Some(other) => {
            if let Some(field) = status.get("phase") {
                let message = format!("`{other}` is no phase of a pod: it counts as Running");
                report.warning(&field, message, None);
            }
            Phase::Running
        }
    }
}

/// The addresses in the list `plural`, else the one in `singular`.
fn addresses_of(
    status: &Mapping<'_>,
    plural: &str,
    singular: &str,
    report: &mut Report<'_>,
) -> Vec<std::net::IpAddr> {
    let items = report.list_of(status, plural);
    let mut addresses = Vec::new();
    for item in &items {
        let Some(mapping) = report.lenient(item, &["ip"]) else { continue };
        if let Some(ip) = mapping.get("ip") {
            addresses.extend(ip_address(&ip, report));
        }
    }
    if items.is_empty()
        && let Some(ip) = status.get(singular)
    {
        addresses.extend(ip_address(&ip, report));
    }
    addresses
}

/// The address at `field`; `None` where it is the empty text, or invalid and reported.
pub(super) fn ip_address(field: &Field<'_>, report: &mut Report<'_>) -> Option<std::net::IpAddr> {
    let text = report.text(field)?;
    if text.is_empty() {
        return None;
    }
    match address(text) {
        Ok(read) => {
            for oddity in read.oddities {
                report.warning(field, format!("`{text}` {oddity}: it is `{}`", read.value), None);
            }
            Some(read.value)
        }
        Err(unread) => {
            report.error(field, unread.message, unread.help);
            None
        }
    }
}

/// The workload that made a pod. A `ReplicaSet` that a Deployment made is named after it and the hash
/// that the pod has as a label.
pub(super) fn owner(metadata: &Mapping<'_>, labels: &Labels) -> Option<Workload> {
    let references = metadata.get("ownerReferences")?;
    let Value::List(items) = &references.node.value else { return None };
    let controller = items
        .iter()
        .find(|item| item.get("controller").is_some_and(|flag| flag.value == Value::Bool(true)))?;
    let kind = controller.get("kind")?.as_str()?;
    let name = controller.get("name")?.as_str()?;
    let deployment = labels
        .get("pod-template-hash")
        .filter(|_| kind == "ReplicaSet")
        .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'))
        .filter(|deployment| !deployment.is_empty());
    let (kind, name) = deployment.map_or((kind, name), |deployment| ("Deployment", deployment));
    Some(Workload { kind: Arc::from(kind), name: Arc::from(name), replicas: 1 })
}

#[cfg(test)]
mod tests;
