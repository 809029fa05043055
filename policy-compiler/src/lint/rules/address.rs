//! PC015 and PC016: blocks over addresses that are no good for blocks. A Service's address is translated
//! before any rule sees it; a pod's changes with each restart.
//!
//! A block of prefix length 0 is "everywhere" and means all of these on purpose.

use std::net::IpAddr;

use crate::cidr::{Family, IpBlock};
use crate::lint::Found;
use crate::lint::addresses::AddressSet;
use crate::lint::rule::Rule;
use crate::lint::scene::{Listed, Scene};
use crate::lint::words::{count, list, workload};
use crate::policy::PeerSelects;

/// Every block that means less than its family, with its rule and the index of its peer.
fn blocks<'a>(scene: &Scene<'a>) -> impl Iterator<Item = (Listed<'a>, usize, &'a IpBlock)> {
    scene.rules().flat_map(|rule| {
        rule.listed_peers().iter().enumerate().filter_map(move |(index, peer)| {
            match &peer.selects {
                PeerSelects::Block(block) if block.cidr().prefix_len() > 0 => {
                    Some((rule, index, block))
                }
                _ => None,
            }
        })
    })
}

fn granted(block: &IpBlock) -> AddressSet {
    AddressSet::of(Family::of_net(&block.cidr()), [block])
}

fn field(rule: &Listed<'_>, index: usize) -> String {
    format!("{}.ipBlock.cidr", rule.peer_field(index))
}

/// Addresses with whose they are, sorted: those of one block are found without looking at all.
fn within<'s, T>(
    sorted: &'s [(IpAddr, T)],
    block: &IpBlock,
) -> impl Iterator<Item = &'s (IpAddr, T)> {
    let (first, last) = (block.cidr().network(), block.cidr().broadcast());
    let from = sorted.partition_point(|(address, _)| *address < first);
    let granted = granted(block);
    sorted[from..]
        .iter()
        .take_while(move |(address, _)| *address <= last)
        .filter(move |(address, _)| granted.contains(*address))
}

/// Blocks over addresses of Services.
pub(super) fn service_range(scene: &Scene<'_>, found: &mut Found) {
    let mut services: Vec<(IpAddr, String)> = scene
        .snapshot
        .services
        .values()
        .flat_map(|service| service.addresses.iter().map(|a| (*a, service.key.to_string())))
        .collect();
    services.sort();
    for (rule, index, block) in blocks(scene) {
        let field = field(&rule, index);
        if services.is_empty() {
            let reason = "no Service of the input has an address";
            found.lacks(Rule::ServiceRange, reason, scene.spot(rule.policy, &field));
            continue;
        }
        let covered: Vec<String> = within(&services, block)
            .map(|(address, service)| format!("{address} of {service}"))
            .collect();
        if covered.is_empty() {
            continue;
        }
        let message = format!(
            "{} covers {} of Services ({}): rules see the pod behind a Service and never its address",
            block.cidr(),
            count(covered.len(), "address", "addresses"),
            list(covered)
        );
        let fix = "name the pods behind the Service by a podSelector, with their own port";
        found.add(scene.finding(Rule::ServiceRange, rule.policy, &field, message, fix));
    }
}

/// Blocks over addresses of pods.
pub(super) fn pod_addresses(scene: &Scene<'_>, found: &mut Found) {
    let mut pods: Vec<(IpAddr, String)> = Vec::new();
    for pod in scene.classes.iter().flat_map(|class| &class.pods).filter(|pod| pod.is_live()) {
        pods.extend(pod.addresses.iter().map(|address| (address, workload(pod))));
    }
    pods.sort();
    let networks: Vec<_> = scene
        .snapshot
        .nodes
        .values()
        .flat_map(|node| node.pod_networks.iter().map(move |network| (*network, &node.name)))
        .collect();
    for (rule, index, block) in blocks(scene) {
        let field = field(&rule, index);
        let whom = within(&pods, block).map(|(address, pod)| format!("{address} of {pod}"));
        let whom: Vec<String> = whom.collect();
        let of_nodes: Vec<String> = networks
            .iter()
            .filter(|(network, _)| granted(block).meets(&AddressSet::network(*network)))
            .map(|(network, node)| format!("{network} on {node}"))
            .collect();
        let what = if !whom.is_empty() {
            format!("{} of pods ({})", count(whom.len(), "address", "addresses"), list(whom))
        } else if !of_nodes.is_empty() {
            format!("{} of pods ({})", count(of_nodes.len(), "network", "networks"), list(of_nodes))
        } else if pods.is_empty() && networks.is_empty() {
            let reason = "neither a pod's address nor a node's pod network is in the input";
            found.lacks(Rule::PodAddresses, reason, scene.spot(rule.policy, &field));
            continue;
        } else {
            continue;
        };
        let message = format!(
            "{} covers {what}: blocks are for what is outside, since any pod may get such an address",
            block.cidr()
        );
        let fix = "name the pods by their labels; if pods are not meant, leave their network out with `except`";
        found.add(scene.finding(Rule::PodAddresses, rule.policy, &field, message, fix));
    }
}
