//! Named ports that resolve nowhere: they allow nothing, which is right and rarely what was meant.

use std::collections::BTreeSet;

use super::body::BodyMaker;
use super::peers::PeerUnion;
use super::subjects::object_ref;
use crate::cidr::Family;
use crate::diagnostic::{Diagnostic, Severity};
use crate::index::NamedId;
use crate::policy::{Direction, Grant, Peers, Policy, PortMatch, PortNumbers, Ports};
use crate::port::{PortName, Protocol};

/// A warning for each named port of a policy that resolves nowhere: for ingress on none of the local pods
/// that it isolates or audits, which declare these, for egress on none of the peers. What it asks of the index
/// is put into `asked`.
pub(super) fn unresolved<'a>(
    policy: &'a Policy,
    direction: Direction,
    declared: &dyn Fn(Protocol, &PortName) -> bool,
    maker: &mut BodyMaker<'_, 'a>,
    asked: &mut BTreeSet<NamedId>,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut last: Option<(usize, PeerUnion<'a>)> = None;
    for (rule, (place, item), name, peers) in by_name(policy, direction) {
        let resolves = match direction {
            Direction::Ingress => declared(item.protocol, name),
            Direction::Egress => {
                let peers = match &mut last {
                    Some((of, peers)) if *of == rule => peers,
                    last => &mut last.insert((rule, PeerUnion::of(&policy.key.namespace, peers))).1,
                };
                Family::ALL.into_iter().any(|family| {
                    let id = maker.question(item.protocol, name, peers, family);
                    asked.insert(id);
                    maker.index.numbers_found(id).next().is_some()
                })
            }
        };
        if !resolves {
            diagnostics.push(said(policy, direction, (rule, place), item, name));
        }
    }
    diagnostics
}

fn said(
    policy: &Policy,
    direction: Direction,
    (rule, place): (usize, usize),
    item: &PortMatch,
    name: &PortName,
) -> Diagnostic {
    let whom = match direction {
        Direction::Ingress => "no pod that the policy selects on this node",
        Direction::Egress => "no pod that the rule leads to",
    };
    Diagnostic {
        location: item.location.clone(),
        object: Some(object_ref("NetworkPolicy", &policy.key)),
        field: format!("spec.{direction}[{rule}].ports[{place}].port"),
        severity: Severity::Warning,
        message: format!(
            "{whom} declares a {} port `{name}`, so this port allows nothing",
            item.protocol
        ),
        help: None,
    }
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
