//! What is odd about the policies that select a pod.

use std::collections::BTreeMap;

use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::{Direction, Grant, PeerSelects, Peers, PortMatch, Ports};

use crate::answer::Warning;
use crate::phrase;

use super::side::Findings;

/// The warnings about `findings`, in the order of their places.
pub(super) fn warnings(findings: &Findings<'_>, diagnostics: &[Diagnostic]) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = diagnostics
        .iter()
        .filter(|diagnostic| concerns(findings, diagnostic))
        .map(Warning::from)
        .collect();
    for direction in Direction::ALL {
        warnings.extend(unresolved_names(findings, direction));
        warnings.extend(repeated_rules(findings, direction));
    }
    warnings.sort_by(|a, b| (&a.place, &a.message).cmp(&(&b.place, &b.message)));
    warnings.dedup();
    warnings
}

/// Whether `diagnostic` is about the pod or a policy that selects it.
fn concerns(findings: &Findings<'_>, diagnostic: &Diagnostic) -> bool {
    let Some(object) = &diagnostic.object else { return false };
    let Some(key) = object.namespace.as_ref().and_then(|ns| ObjectKey::new(ns, &object.name).ok())
    else {
        return false;
    };
    match object.kind.as_str() {
        "NetworkPolicy" => Direction::ALL.into_iter().any(|direction| {
            let policies = findings.policies(direction).iter().chain(findings.audits(direction));
            policies.into_iter().any(|trace| trace.policy == key)
        }),
        _ => key == findings.pod.key,
    }
}

fn unresolved_names(findings: &Findings<'_>, direction: Direction) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (p, trace) in findings.policies(direction).iter().enumerate() {
        let Some(policy) = findings.policy(trace) else { continue };
        for (r, rule) in policy.rules(direction).iter().enumerate() {
            for (i, port) in phrase::listed_ports(&rule.grant).iter().enumerate() {
                if findings.resolved(direction, (p, r), i, port).is_none() {
                    let path = format!("{} {direction}[{r}].ports[{i}]", policy.key);
                    warnings.push(unresolved(findings, direction, port, &path));
                }
            }
        }
    }
    warnings
}

fn unresolved(
    findings: &Findings<'_>,
    direction: Direction,
    port: &PortMatch,
    path: &str,
) -> Warning {
    let written = phrase::port(port);
    match direction {
        Direction::Ingress => {
            let own = &findings.pod.ports;
            let names: Vec<String> = own
                .iter()
                .filter_map(|p| p.name.as_ref().map(|name| format!("{name}/{}", p.protocol)))
                .collect();
            let help = match names.as_slice() {
                [] => "the pod's containers name no ports; write the number".to_owned(),
                names => format!("its containers name {}", crate::text::join(names, "and")),
            };
            let message =
                format!("{path}: this pod has no port {written}, so it allows nothing here");
            Warning::new(message, &port.location).with_help(help)
        }
        Direction::Egress => Warning::new(
            format!(
                "{path}: no pod that the rule means has a port {written}, so it allows nothing"
            ),
            &port.location,
        ),
    }
}

/// A rule that says the same as an earlier one.
fn repeated_rules(findings: &Findings<'_>, direction: Direction) -> Vec<Warning> {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    let mut warnings = Vec::new();
    for trace in findings.policies(direction) {
        let Some(policy) = findings.policy(trace) else { continue };
        for (r, rule) in policy.rules(direction).iter().enumerate() {
            let Some(said) = said(&rule.grant) else { continue };
            let path = format!("{} {direction}[{r}]", policy.key);
            match first.get(&said) {
                Some(earlier) => warnings.push(
                    Warning::new(format!("{path} repeats {earlier}"), &rule.location)
                        .with_help("one of them can go"),
                ),
                None => {
                    first.insert(said, path);
                }
            }
        }
    }
    warnings
}

/// A rule's content, equal for rules that mean the same peers and ports. (All policies that select a
/// pod are of its namespace, so "the own one" is the same for all.)
fn said(grant: &Grant) -> Option<String> {
    let Grant::Traffic { peers, ports } = grant else { return None };
    let mut whom: Vec<&PeerSelects> = match peers {
        Peers::Any => Vec::new(),
        Peers::Listed(peers) => peers.iter().map(|peer| &peer.selects).collect(),
    };
    whom.sort();
    let mut which: Vec<String> = match ports {
        Ports::Any => Vec::new(),
        Ports::Listed(ports) => ports.iter().map(ToString::to_string).collect(),
    };
    which.sort();
    Some(format!("{whom:?} {which:?}"))
}
