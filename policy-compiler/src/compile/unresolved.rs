//! Named ports that resolve nowhere: they allow nothing, which is right and rarely what was meant.

use std::collections::{BTreeMap, BTreeSet};

use super::body::BodyMaker;
use super::peers::PeerUnion;
use super::subjects::{Subject, object_ref};
use crate::cidr::Family;
use crate::cluster::Pod;
use crate::diagnostic::{Diagnostic, Severity};
use crate::index::{NamedId, PolicyState, Stamp};
use crate::policy::{Direction, Grant, Peers, Policy, PortMatch, PortNumbers, Ports};
use crate::port::PortName;

/// A warning for each named port, of the policies that isolate or audit local pods, that resolves nowhere:
/// for ingress on none of the local pods selected, for egress on none of the peers. What it asks of the
/// index is put into `asked`.
pub(super) fn unresolved<'s, 'a>(
    subjects: &'s [Subject<'a>],
    maker: &mut BodyMaker<'_, 'a>,
    asked: &mut BTreeSet<NamedId>,
) -> Vec<Diagnostic> {
    let mut selected: BTreeMap<(Direction, Stamp), (&'s PolicyState, Vec<&'a Pod>)> =
        BTreeMap::new();
    for subject in subjects {
        for (direction, policy) in &subject.chosen.naming {
            let entry = selected.entry((*direction, policy.stamp));
            entry.or_insert_with(|| (policy, Vec::new())).1.push(subject.pod);
        }
    }
    let mut diagnostics = Vec::new();
    for ((direction, _), (policy, pods)) in selected {
        let Some(policy) = maker.objects.policies.get(&policy.key) else { continue };
        let declares = |protocol, name| {
            let mut ports = pods.iter().flat_map(|pod| &pod.ports);
            ports.any(|port| port.protocol == protocol && port.name.as_ref() == Some(name))
        };
        let mut last: Option<(usize, PeerUnion<'a>)> = None;
        for (rule, port, name, peers) in by_name(policy, direction) {
            let item = &port.1;
            let resolves = match direction {
                Direction::Ingress => declares(item.protocol, name),
                Direction::Egress => {
                    let peers = match &mut last {
                        Some((of, peers)) if *of == rule => peers,
                        last => {
                            &mut last.insert((rule, PeerUnion::of(&policy.key.namespace, peers))).1
                        }
                    };
                    Family::ALL.into_iter().any(|family| {
                        let id = maker.question(item.protocol, name, peers, family);
                        asked.insert(id);
                        maker.index.numbers_found(id).next().is_some()
                    })
                }
            };
            if !resolves {
                let whom = match direction {
                    Direction::Ingress => "no pod that the policy selects on this node",
                    Direction::Egress => "no pod that the rule leads to",
                };
                diagnostics.push(Diagnostic {
                    location: item.location.clone(),
                    object: Some(object_ref("NetworkPolicy", &policy.key)),
                    field: format!("spec.{direction}[{rule}].ports[{}].port", port.0),
                    severity: Severity::Warning,
                    message: format!(
                        "{whom} declares a {} port `{name}`, so this port allows nothing",
                        item.protocol
                    ),
                    help: None,
                });
            }
        }
    }
    diagnostics
}

/// The ports by name of a policy's rules, with the indices of rule and port.
fn by_name(
    policy: &Policy,
    direction: Direction,
) -> impl Iterator<Item = (usize, (usize, &PortMatch), &PortName, &Peers)> {
    policy.rules(direction).iter().enumerate().flat_map(|(rule, item)| {
        let (peers, list) = match &item.grant {
            Grant::Traffic { peers, ports: Ports::Listed(list) } => (Some(peers), &list[..]),
            _ => (None, &[][..]),
        };
        list.iter().enumerate().filter_map(move |(index, port)| match &port.numbers {
            PortNumbers::Named(name) => Some((rule, (index, port), name, peers?)),
            _ => None,
        })
    })
}
