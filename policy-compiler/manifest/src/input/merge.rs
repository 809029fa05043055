//! Files to one snapshot.
//!
//! Path order decides, whatever order the files come in: of two objects with one kind, namespace and
//! name both are diagnosed and the last in path order counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::diagnostic::{Diagnostic, ObjectRef, Severity};
use policy_compiler::document::Location;
use policy_compiler::lint::Written;
use policy_compiler::name::{NamespaceName, ObjectKey, ObjectName};

use super::{Loaded, Object, ParsedFile};

/// The namespaces that every cluster has with no label but the one of their name.
const BUILT_IN: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// What `files` hold together.
#[must_use]
pub fn merge<'a>(files: impl IntoIterator<Item = &'a ParsedFile>) -> Loaded {
    merge_layers(&[files.into_iter().collect()])
}

/// As [`merge`], for several layers of files: what a later layer says replaces what an earlier one
/// says of the same object, and that is no duplicate.
#[must_use]
pub fn merge_layers(layers: &[Vec<&ParsedFile>]) -> Loaded {
    let mut loaded = Loaded::default();
    let mut objects: BTreeMap<ObjectRef, (usize, &Object)> = BTreeMap::new();
    for (depth, layer) in layers.iter().enumerate() {
        let mut files = layer.clone();
        files.sort_by(|a, b| Path::new(&*a.name).cmp(Path::new(&*b.name)));
        let mut of_layer: BTreeMap<ObjectRef, Vec<&Object>> = BTreeMap::new();
        for file in files {
            loaded.sources.insert(file.name.clone(), file.text.clone());
            loaded.diagnostics.extend(file.diagnostics.iter().cloned());
            loaded.unreadable.extend(file.errors.iter().cloned());
            loaded.left_out.extend(file.left_out.iter().cloned());
            loaded.templates.extend(file.template.then(|| file.name.clone()));
            loaded.written.extend(file.written.iter().map(|node| Written {
                layer: depth,
                file: Some(file.name.clone()).filter(|name| !name.is_empty()),
                node: node.clone(),
            }));
            for (kind, count) in &file.ignored {
                *loaded.ignored.entry(kind.clone()).or_default() += count;
            }
            for object in &file.objects {
                of_layer.entry(object.reference()).or_default().push(object);
            }
        }
        for (reference, same) in of_layer {
            loaded.diagnostics.extend(duplicates(&reference, &same));
            objects.extend(same.last().map(|last| (reference, (depth, *last))));
        }
    }
    fill(&mut loaded, objects.into_values());
    let notes = undeclared_namespaces(&loaded.snapshot);
    loaded.diagnostics.extend(notes);
    loaded.diagnostics.sort();
    loaded.diagnostics.dedup();
    loaded
}

/// A finding at each of several objects that are one by name.
fn duplicates(reference: &ObjectRef, same: &[&Object]) -> Vec<Diagnostic> {
    let Some((last, earlier)) = same.split_last() else { return Vec::new() };
    let Some(before) = earlier.last() else { return Vec::new() };
    let finding = |object: &Object, message: String| Diagnostic {
        location: object.location().clone(),
        object: Some(reference.clone()),
        field: String::new(),
        severity: Severity::Warning,
        message,
        help: None,
    };
    let ignored = |object: &&Object| {
        let message = format!("defined again at {}; this one does not count", last.location());
        finding(object, message)
    };
    let mut findings: Vec<Diagnostic> = earlier.iter().map(ignored).collect();
    let message = format!("defined before at {}; this one counts", before.location());
    findings.push(finding(last, message));
    findings
}

fn fill<'a>(loaded: &mut Loaded, objects: impl Iterator<Item = (usize, &'a Object)>) {
    let mut pods: Vec<(usize, &Pod)> = Vec::new();
    let snapshot = &mut loaded.snapshot;
    for (depth, object) in objects {
        match object {
            Object::Policy(policy) => {
                snapshot.policies.insert(policy.key.clone(), policy.clone());
            }
            Object::Namespace(namespace) => {
                snapshot.namespaces.insert(namespace.name().clone(), namespace.clone());
            }
            Object::Node(node) => {
                snapshot.nodes.insert(node.name.clone(), node.clone());
            }
            Object::Service(service) => {
                snapshot.services.insert(service.key.clone(), service.clone());
            }
            Object::Pod(pod) => pods.push((depth, pod)),
        }
    }
    place_pods(loaded, &pods);
}

/// Puts pods under their keys. Pods that exist come first, and stand for the template that made
/// them; where that template is of a later layer, it says what they would be. Templates of several
/// kinds may share a name; all but the first get their kind into it.
fn place_pods(loaded: &mut Loaded, pods: &[(usize, &Pod)]) {
    let workload = |pod: &Pod| {
        let workload = pod.workload.as_ref()?;
        Some((pod.key.namespace.clone(), workload.kind.clone(), workload.name.clone()))
    };
    let templates = || pods.iter().filter(|(_, pod)| pod.template);
    let latest: BTreeMap<_, _> =
        templates().filter_map(|(depth, pod)| Some((workload(pod)?, (*depth, *pod)))).collect();
    let mut running = BTreeSet::new();
    for (depth, pod) in pods.iter().filter(|(_, pod)| !pod.template) {
        let mut placed = (*pod).clone();
        if let Some(workload) = workload(pod) {
            match latest.get(&workload) {
                Some((of_template, template)) if of_template > depth => {
                    follow(&mut placed, template);
                }
                _ => {}
            }
            running.insert(workload);
        }
        loaded.snapshot.pods.insert(placed.key.clone(), placed);
    }
    for (_, template) in templates() {
        if workload(template).is_some_and(|w| running.contains(&w)) {
            continue;
        }
        let mut pod = (*template).clone();
        if loaded.snapshot.pods.contains_key(&pod.key)
            && let Some(key) = key_with_kind(&pod)
        {
            loaded.diagnostics.push(renamed(&pod, &key));
            pod.key = key;
        }
        loaded.snapshot.pods.insert(pod.key.clone(), pod);
    }
}

/// The labels that controllers give to the pods which they make, beside the template's own.
const MADE: [&str; 9] = [
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-name",
    "controller-revision-hash",
    "controller-uid",
    "job-name",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// Makes of a pod what its workload would make anew from `template`, where it is.
fn follow(pod: &mut Pod, template: &Pod) {
    let mut labels = template.labels.clone();
    for (key, value) in pod.labels.iter().filter(|(key, _)| MADE.contains(key)) {
        labels.insert(key, value);
    }
    pod.labels = labels;
    pod.ports.clone_from(&template.ports);
    pod.host_network = template.host_network;
    pod.location = template.location.clone();
}

fn key_with_kind(pod: &Pod) -> Option<ObjectKey> {
    let kind = pod.workload.as_ref()?.kind.to_lowercase();
    let name = ObjectName::new(&format!("{}.{kind}", pod.key.name)).ok()?;
    Some(ObjectKey { namespace: pod.key.namespace.clone(), name })
}

fn renamed(pod: &Pod, key: &ObjectKey) -> Diagnostic {
    Diagnostic {
        location: pod.location.clone(),
        object: Some(Object::Pod(pod.clone()).reference()),
        field: String::new(),
        severity: Severity::Note,
        message: format!("another pod or workload is called {}; this one goes by {key}", pod.key),
        help: None,
    }
}

/// A note for each namespace that pods or policies are in and no object declares, at the first of
/// them.
fn undeclared_namespaces(snapshot: &Snapshot) -> Vec<Diagnostic> {
    let pods = snapshot.pods.values().map(|pod| (&pod.key.namespace, &pod.location));
    let policies = snapshot.policies.values().map(|p| (&p.key.namespace, &p.location));
    let mut first: BTreeMap<&NamespaceName, &Location> = BTreeMap::new();
    for (namespace, location) in pods.chain(policies) {
        let known = snapshot.namespaces.contains_key(namespace);
        if known || BUILT_IN.contains(&namespace.as_str()) {
            continue;
        }
        let place = first.entry(namespace).or_insert(location);
        *place = (*place).min(location);
    }
    let note = |(namespace, location): (&NamespaceName, &Location)| Diagnostic {
        location: location.clone(),
        object: Some(ObjectRef {
            kind: "Namespace".to_owned(),
            namespace: None,
            name: namespace.to_string(),
        }),
        field: String::new(),
        severity: Severity::Note,
        message: format!(
            "no object declares this namespace; it is taken to have the label \
             kubernetes.io/metadata.name={namespace} alone"
        ),
        help: None,
    };
    first.into_iter().map(note).collect()
}
