//! PC010 and PC018: which pods a policy selects.

use crate::diagnostic::Severity;
use crate::lint::Found;
use crate::lint::rule::Rule;
use crate::lint::scene::Scene;
use crate::lint::words::{count, workload};
use crate::policy::Policy;
use crate::selector::Selector;

const FIELD: &str = "spec.podSelector";

/// Policies that select nobody. One for the whole of an empty namespace waits for its first pod.
pub(super) fn selects_no_pod(scene: &Scene<'_>, found: &mut Found) {
    for policy in scene.sound().filter(|policy| !policy.pod_selector.is_everything()) {
        if !scene.subjects(policy).is_empty() || !scene.host_subjects(policy).is_empty() {
            continue;
        }
        let namespace = &policy.key.namespace;
        if !scene.knows_pods_of(namespace) {
            let reason = format!("the input has no pods of namespace {namespace}");
            found.lacks(Rule::SelectsNoPod, reason, scene.spot(policy, FIELD));
            continue;
        }
        let message =
            format!("no pod in {namespace} has {}: the policy does nothing", policy.pod_selector);
        let fix = nearest(scene, policy, &policy.pod_selector);
        found.add(scene.finding(Rule::SelectsNoPod, policy, FIELD, message, fix));
    }
}

/// The pods of the policy's namespace that lack least.
fn nearest(scene: &Scene<'_>, policy: &Policy, selector: &Selector) -> String {
    nearest_among(scene, scene.in_namespace(&policy.key.namespace), selector)
        .unwrap_or_else(|| "correct the labels, or remove the policy".to_owned())
}

/// Among classes, the one that misses fewest requirements of `selector`, and what it has instead.
pub(super) fn nearest_among(
    scene: &Scene<'_>,
    classes: &[usize],
    selector: &Selector,
) -> Option<String> {
    let pods = classes.iter().map(|class| scene.classes[*class].one());
    let nearest = pods.min_by_key(|pod| {
        let absent = selector.misses(&pod.labels).filter(|r| pod.labels.get(&r.key).is_none());
        (selector.misses(&pod.labels).count(), absent.count(), &pod.key)
    })?;
    let missed: Vec<String> = selector
        .misses(&nearest.labels)
        .map(|wanted| match nearest.labels.get(&wanted.key) {
            Some(value) => format!("{}={value}", wanted.key),
            None => format!("no label {}", wanted.key),
        })
        .collect();
    (!missed.is_empty()).then(|| {
        format!(
            "correct the labels: {} comes nearest and has {}",
            workload(nearest),
            missed.join(" and ")
        )
    })
}

/// Policies that select pods which no policy can isolate.
pub(super) fn host_network(scene: &Scene<'_>, found: &mut Found) {
    for policy in scene.sound() {
        let host = scene.host_subjects(policy);
        if host.is_empty() {
            continue;
        }
        let n = host.iter().map(|class| scene.classes[*class].pods.len()).sum();
        let one = n == 1;
        let message = format!(
            "{} that it selects {} the network of {} node and {} not isolated: {}",
            count(n, "pod", "pods"),
            if one { "uses" } else { "use" },
            if one { "its" } else { "their" },
            if one { "is" } else { "are" },
            scene.pods(&host)
        );
        let fix =
            "no NetworkPolicy holds for such pods: drop hostNetwork, or restrict the node itself";
        let mut finding = scene.finding(Rule::HostNetwork, policy, FIELD, message, fix);
        // Who selects a whole namespace does not mean these in particular.
        if policy.pod_selector.is_everything() {
            finding.severity = Severity::Note;
        }
        found.add(finding);
    }
}
