//! Whose addresses those are, and which policies isolate.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cluster::Pod;
use policy_compiler::policy::Direction;

use super::flows::Flow;
use super::{Denial, End};
use crate::sync::View;

/// The denials of flows, with the pods that have their addresses now. Of two with one address the
/// newest counts, as it does for isolation.
pub(super) fn name(view: &View<'_>, flows: &[Flow]) -> Vec<Denial> {
    let wanted: BTreeSet<IpAddr> =
        flows.iter().flat_map(|(_, packet)| [packet.source, packet.destination]).collect();
    let mut owners: BTreeMap<IpAddr, &Pod> = BTreeMap::new();
    for pod in view.engine.snapshot().pods.values().filter(|pod| pod.is_live()) {
        for address in pod.addresses.iter().filter(|address| wanted.contains(address)) {
            let owner = owners.entry(address).or_insert(pod);
            if owner.age < pod.age {
                *owner = pod;
            }
        }
    }
    let denial = |(direction, packet): &Flow| {
        let end =
            |address| End { address, pod: owners.get(&address).map(|pod| pod.key.to_string()) };
        let subject = match direction {
            Direction::Ingress => packet.destination,
            Direction::Egress => packet.source,
        };
        Denial {
            source: end(packet.source),
            destination: end(packet.destination),
            policies: owners
                .get(&subject)
                .map_or_else(Vec::new, |pod| isolating(view, pod, *direction)),
            ..Denial::unnamed(*direction, packet)
        }
    };
    flows.iter().map(denial).collect()
}

/// The policies that isolate a pod of this node.
fn isolating(view: &View<'_>, pod: &Pod, direction: Direction) -> Vec<String> {
    if pod.node.as_ref() != Some(&view.settings.node) {
        return Vec::new();
    }
    let policies = view.engine.snapshot().policies.values();
    policies
        .filter(|policy| {
            policy.key.namespace == pod.key.namespace
                && policy.isolates(direction)
                && policy.pod_selector.matches(&pod.labels)
        })
        .map(|policy| policy.key.to_string())
        .collect()
}
