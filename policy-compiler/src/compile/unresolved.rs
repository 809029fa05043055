//! Named ports that resolve nowhere: they allow nothing, which is right and rarely what was meant.

use std::collections::{BTreeMap, BTreeSet};

use super::body::BodyMaker;
use super::grants::named_ports;
use super::peers::PeerUnion;
use super::subjects::{Subject, object_ref};
use crate::cidr::Family;
use crate::diagnostic::{Diagnostic, Severity};
use crate::index::NamedId;
use crate::name::ObjectKey;
use crate::policy::{Direction, Grant, Peers, Policy, PortMatch, PortNumbers, Ports};
use crate::port::PortName;

/// A warning for each named port, of the policies that isolate or audit local pods, that resolves nowhere:
/// for ingress on none of the local pods selected, for egress on none of the peers. What it asks of the
/// index is put into `asked`.
pub(super) fn unresolved<'a>(
    subjects: &[Subject<'a>],
    maker: &mut BodyMaker<'_, 'a>,
    asked: &mut BTreeSet<NamedId>,
) -> Vec<Diagnostic> {
    let mut selected: BTreeMap<(Direction, &'a ObjectKey), (&'a Policy, Vec<&Subject<'a>>)> =
        BTreeMap::new();
    for subject in subjects {
        for (direction, policies) in subject.policies.iter().chain(&subject.audited) {
            for (_, policy) in policies {
                let entry = selected.entry((*direction, &policy.key));
                entry.or_insert_with(|| (policy, Vec::new())).1.push(subject);
            }
        }
    }
    let mut diagnostics = Vec::new();
    for ((direction, _), (policy, subjects)) in selected {
        let declared: BTreeSet<_> =
            subjects.iter().flat_map(|subject| named_ports(subject.pod)).collect();
        let mut last: Option<(usize, PeerUnion<'a>)> = None;
        for (rule, port, name, peers) in by_name(policy, direction) {
            let item = &port.1;
            let resolves = match direction {
                Direction::Ingress => {
                    declared.iter().any(|(p, n, _)| *p == item.protocol && n == name)
                }
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
