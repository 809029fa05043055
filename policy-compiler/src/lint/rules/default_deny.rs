//! PC023: a namespace in which a pod that no policy selects accepts everything.

use std::collections::BTreeSet;

use crate::diagnostic::ObjectRef;
use crate::lint::Found;
use crate::lint::rule::Rule;
use crate::lint::scene::{Scene, finding};
use crate::lint::words::count;
use crate::name::NamespaceName;
use crate::policy::Direction;

/// Namespaces with pods or policies that nothing closes for ingress. Those of the system are left alone
/// where they have no policies.
pub(super) fn no_default_deny(scene: &Scene<'_>, found: &mut Found) {
    let with_policies: BTreeSet<&NamespaceName> =
        scene.snapshot.policies.keys().map(|key| &key.namespace).collect();
    for namespace in scene.namespaces.keys() {
        let live: Vec<usize> = scene
            .in_namespace(namespace)
            .iter()
            .copied()
            .filter(|class| !scene.classes[*class].one().host_network)
            .collect();
        let has_policies = with_policies.contains(namespace);
        let system = namespace.as_str().starts_with("kube-");
        if !has_policies && (live.is_empty() || system) {
            continue;
        }
        let closed = scene
            .policies_of(namespace)
            .any(|policy| policy.isolates_ingress && policy.pod_selector.is_everything());
        if !closed {
            report(scene, namespace, &live, found);
        }
    }
}

fn report(scene: &Scene<'_>, namespace: &NamespaceName, live: &[usize], found: &mut Found) {
    let open: Vec<usize> = live
        .iter()
        .copied()
        .filter(|class| {
            let pod = scene.classes[*class].one();
            scene.evaluator.isolating(pod, Direction::Ingress).is_empty()
        })
        .collect();
    let n: usize = open.iter().map(|class| scene.classes[*class].pods.len()).sum();
    let today = match n {
        0 => String::new(),
        n => format!(", today {} ({})", count(n, "pod", "pods"), scene.pods(&open)),
    };
    let message = format!(
        "namespace {namespace} has no default deny: a pod that no policy selects accepts everything{today}"
    );
    let fix = "add a policy with `podSelector: {}`, `policyTypes: [Ingress]` and no rules";
    let object =
        ObjectRef { kind: "Namespace".to_owned(), namespace: None, name: namespace.to_string() };
    let declared = scene.snapshot.namespaces.get(namespace).map(|n| n.location.clone());
    let first_policy = || scene.policies_of(namespace).map(|policy| policy.location.clone()).min();
    let first_pod = || live.iter().map(|c| scene.classes[*c].one().location.clone()).min();
    let location = declared.or_else(first_policy).or_else(first_pod).unwrap_or_default();
    let severity = Rule::NoDefaultDeny.severity();
    found.add(finding(Rule::NoDefaultDeny, severity, location, Some(object), "", message, fix));
}
