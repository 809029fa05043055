//! Whose addresses those are, and which policies isolate or would deny.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::cluster::Pod;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow;
use policy_compiler::policy::Direction;
use policy_compiler::ruleset::Notice;

use super::flows::Flow;
use super::packet::Packet;
use super::{Denial, End};
use crate::excerpt::{excerpt, policies_in};
use crate::sync::View;

/// The denials of flows, with the pods that have their addresses now. Of two with one address the
/// newest counts, as it does for isolation.
pub(super) fn name(view: &View<'_>, flows: &[Flow]) -> Vec<Denial> {
    let engine = view.engine;
    let wanted: BTreeSet<IpAddr> =
        flows.iter().flat_map(|(_, packet)| [packet.source, packet.destination]).collect();
    let mut owners: BTreeMap<IpAddr, &Pod> = BTreeMap::new();
    let claimants = engine.claimants_of(&wanted);
    for pod in &claimants {
        for address in pod.addresses.iter().filter(|address| wanted.contains(address)) {
            let owner = owners.entry(address).or_insert(pod);
            if owner.age < pod.age {
                *owner = pod;
            }
        }
    }
    let audits = flows.iter().any(|(notice, _)| matches!(notice, Notice::Audited(_)));
    let objects = audits.then(|| excerpt(engine, wanted.iter().copied()));
    let evaluator = objects
        .as_ref()
        .map(|objects| Evaluator::new(objects).with_hairpin(engine.config().hairpin));
    let denial = |(notice, packet): &Flow| {
        let end =
            |address| End { address, pod: owners.get(&address).map(|pod| pod.key.to_string()) };
        let policies = match (notice, &evaluator) {
            (Notice::Audited(direction), Some(evaluator)) => {
                auditing(evaluator, *direction, packet)
            }
            (Notice::Denied(direction) | Notice::Audited(direction), _) => {
                let subject = match direction {
                    Direction::Ingress => packet.destination,
                    Direction::Egress => packet.source,
                };
                owners.get(&subject).map_or_else(Vec::new, |pod| isolating(view, pod, *direction))
            }
        };
        let (source, destination) = (end(packet.source), end(packet.destination));
        Denial { source, destination, policies, ..Denial::unnamed(*notice, packet) }
    };
    flows.iter().map(denial).collect()
}

/// The policies that are audited only and would deny the packet.
fn auditing(evaluator: &Evaluator<'_>, direction: Direction, packet: &Packet) -> Vec<String> {
    let spoofed = packet.source == packet.destination;
    let verdict = evaluator.verdict(&flow::Flow {
        from: flow::End::Address(packet.source),
        to: flow::End::Address(packet.destination),
        family: packet.family(),
        traffic: packet.traffic(),
        wire: if spoofed { flow::Wire::Spoofed } else { flow::Wire::Routed },
    });
    let denying = verdict.half(direction).audit_denials();
    denying.map(|trace| trace.policy.to_string()).collect()
}

/// The policies that isolate a pod of this node.
fn isolating(view: &View<'_>, pod: &Pod, direction: Direction) -> Vec<String> {
    if pod.node.as_ref() != Some(&view.settings.node) {
        return Vec::new();
    }
    let objects = view.engine.objects();
    policies_in(objects, &pod.key.namespace)
        .filter(|policy| {
            policy.isolates(direction)
                && policy.pod_selector.matches(&pod.labels)
                && !objects.audits(policy)
        })
        .map(|policy| policy.key.to_string())
        .collect()
}
