//! Differences in words, with the places where they stand.

use std::collections::BTreeSet;

use policy_compiler::cluster::Pod;
use policy_compiler::document::Location;
use policy_compiler::evaluate::evaluate;
use policy_compiler::flow::Flow;
use policy_compiler::labels::Labels;
use policy_compiler::name::{NamespaceName, ObjectKey};
use policy_compiler::policy::{Direction, Grant, Peers, Policy, Ports, Rule};
use policy_compiler::verdict::{Decision, Verdict};

use crate::answer::Place;
use crate::phrase;

use super::super::unit::{Both, Field, Unit, bare};
use super::Cause;

/// Both sides of one connection, and what is said of it.
pub(super) struct Words<'a> {
    both: &'a Both,
    /// What the side on which more passes says; none where no connection is meant.
    verdict: Option<Verdict>,
    opens: bool,
}

impl<'a> Words<'a> {
    pub(super) fn new(both: &'a Both, flow: &Flow, opens: bool) -> Self {
        let verdict = evaluate(if opens { &both.new } else { &both.old }, flow);
        Self { both, verdict: Some(verdict), opens }
    }

    /// Words about the objects alone.
    pub(super) fn of_objects(both: &'a Both) -> Self {
        Self { both, verdict: None, opens: true }
    }

    pub(super) fn cause(&self, unit: &Unit) -> Cause {
        match unit {
            Unit::Policy(key) => self.policy(key),
            Unit::Field(key, field) => self.field(key, *field),
            Unit::NamespaceLabel(name, label) => self.namespace(name, Some(label)),
            Unit::NamespaceAudit(name) => self.namespace(name, None),
            Unit::Node(name) => {
                let place = |side: &policy_compiler::cluster::Snapshot| {
                    side.nodes.get(name).and_then(|node| Place::of(&node.location))
                };
                Cause {
                    kind: "Node".to_owned(),
                    name: name.to_string(),
                    field: "status.addresses".to_owned(),
                    change: "changed",
                    text: "other addresses".to_owned(),
                    old: place(&self.both.old),
                    new: place(&self.both.new),
                }
            }
            Unit::Label(key, _)
            | Unit::Ports(key)
            | Unit::HostNetwork(key)
            | Unit::Scheduled(key)
            | Unit::Addresses(key) => self.pod(key, unit),
        }
    }

    fn policy(&self, key: &ObjectKey) -> Cause {
        let (old, new) = (self.both.old.policies.get(key), self.both.new.policies.get(key));
        let there = if new.is_some() { new } else { old };
        // A policy that grants is told by its rule, one that only isolates by itself.
        let rule = self.granting(key).filter(|_| new.is_some() == self.opens);
        let rule = rule.zip(there).and_then(|((direction, index), policy)| {
            Some((direction, index, policy.rules(direction).get(index)?))
        });
        let text = match (&rule, there) {
            (Some((direction, index, rule)), Some(policy)) => {
                format!("{direction}[{index}] {}", grant(&rule.grant, *direction, policy))
            }
            (None, Some(policy)) => isolates(policy),
            (_, None) => String::new(),
        };
        let place = |policy: Option<&Policy>| {
            let policy = policy?;
            Place::of(rule.as_ref().map_or(&policy.location, |(_, _, rule)| &rule.location))
        };
        Cause {
            kind: "NetworkPolicy".to_owned(),
            name: key.to_string(),
            field: String::new(),
            change: change(old.is_some(), new.is_some()),
            text,
            old: place(old),
            new: place(new),
        }
    }

    /// The first rule of a policy that allows the flow on the side on which it passes.
    fn granting(&self, key: &ObjectKey) -> Option<(Direction, usize)> {
        Direction::ALL.into_iter().find_map(|direction| {
            let traces = &self.verdict.as_ref()?.half(direction).policies;
            let trace = traces.iter().find(|trace| trace.policy == *key)?;
            let rule = trace.rules.iter().find(|rule| rule.decision != Decision::Denied)?;
            Some((direction, rule.index))
        })
    }

    fn field(&self, key: &ObjectKey, field: Field) -> Cause {
        let old = self.both.old.policies.get(key);
        let new = self.both.new.policies.get(key);
        let made = |field: String, change, text, places: [Option<&Location>; 2]| {
            let [old, new] = places.map(|place| place.and_then(Place::of));
            let (kind, name) = ("NetworkPolicy".to_owned(), key.to_string());
            Cause { kind, name, field, change, text, old, new }
        };
        let wholes = [old, new].map(|policy| policy.map(|policy| &policy.location));
        let (Some(old), Some(new)) = (old, new) else {
            return made(
                String::new(),
                change(old.is_some(), new.is_some()),
                String::new(),
                wholes,
            );
        };
        match field {
            Field::Selector => {
                let text = format!("{} → {}", old.pod_selector, new.pod_selector);
                made("spec.podSelector".to_owned(), "changed", text, wholes)
            }
            Field::Types(direction) => {
                let now =
                    if new.isolates(direction) { "now isolates" } else { "no longer isolates" };
                let text = format!("{now} for {direction}");
                made("spec.policyTypes".to_owned(), "changed", text, wholes)
            }
            Field::Audit => {
                let now = if new.audit { "now only audited" } else { "now enforced" };
                made("metadata.annotations".to_owned(), "changed", now.to_owned(), wholes)
            }
            Field::Rules(direction) => {
                let rules = RuleChange::of(old, new, direction, self.granting(key), self.opens);
                made(
                    rules.field,
                    rules.change,
                    rules.text,
                    [
                        Some(rules.old.map_or(&old.location, |rule| &rule.location)),
                        Some(rules.new.map_or(&new.location, |rule| &rule.location)),
                    ],
                )
            }
        }
    }

    fn pod(&self, key: &ObjectKey, unit: &Unit) -> Cause {
        let (old, new) = (self.both.old.pods.get(key), self.both.new.pods.get(key));
        let (mut kind, mut name) = ("Pod".to_owned(), key.to_string());
        if let Some(workload) = old.or(new).and_then(|pod| pod.workload.as_ref()) {
            kind = workload.kind.to_string();
            name = format!("{}/{}", key.namespace, workload.name);
        }
        let place = |pod: Option<&Pod>| pod.and_then(|pod| Place::of(&pod.location));
        let (field, text) = match (unit, old, new) {
            (Unit::Label(_, label), Some(old), Some(new)) => {
                (format!("metadata.labels.{label}"), relabelled(&old.labels, &new.labels, label))
            }
            (Unit::Ports(_), Some(old), Some(new)) => {
                ("spec.containers.ports".to_owned(), declared(old, new))
            }
            (Unit::HostNetwork(_), _, Some(new)) => {
                let now = if new.host_network { "now uses" } else { "no longer uses" };
                ("spec.hostNetwork".to_owned(), format!("{now} its node's network"))
            }
            (Unit::Scheduled(_), ..) => ("spec.nodeName".to_owned(), "on another node".to_owned()),
            _ => ("status.podIPs".to_owned(), "other addresses".to_owned()),
        };
        Cause { kind, name, field, change: "changed", text, old: place(old), new: place(new) }
    }

    fn namespace(&self, name: &NamespaceName, label: Option<&str>) -> Cause {
        let of = |side: &'a policy_compiler::cluster::Snapshot| side.namespaces.get(name);
        let (old, new) = (of(&self.both.old), of(&self.both.new));
        let (field, text) = match (label, old.zip(new)) {
            (Some(label), Some((old, new))) => {
                let text = relabelled(old.labels(), new.labels(), label);
                (format!("metadata.labels.{label}"), text)
            }
            (_, both) => {
                let audited = both.is_some_and(|(_, new)| new.audit);
                let now = if audited { "now only audited" } else { "now enforced" };
                ("metadata.annotations".to_owned(), format!("its policies are {now}"))
            }
        };
        let place = |namespace: Option<&policy_compiler::cluster::Namespace>| {
            namespace.and_then(|namespace| Place::of(&namespace.location))
        };
        Cause {
            kind: "Namespace".to_owned(),
            name: name.to_string(),
            field,
            change: "changed",
            text,
            old: place(old),
            new: place(new),
        }
    }
}

/// What became of the rules of one direction of a policy, as far as it bears on a flow.
struct RuleChange<'a> {
    field: String,
    change: &'static str,
    text: String,
    old: Option<&'a Rule>,
    new: Option<&'a Rule>,
}

impl<'a> RuleChange<'a> {
    fn of(
        old: &'a Policy,
        new: &'a Policy,
        direction: Direction,
        granting: Option<(Direction, usize)>,
        opens: bool,
    ) -> Self {
        let (there, other) = if opens { (new, old) } else { (old, new) };
        let index = granting.filter(|(of, _)| *of == direction).map(|(_, index)| index);
        let Some((index, rule)) =
            index.and_then(|index| Some((index, listed(there, direction).get(index)?)))
        else {
            return Self {
                field: direction.to_string(),
                change: "changed",
                text: String::new(),
                old: None,
                new: None,
            };
        };
        // The rule of the other side that was edited, if one was: rules that both have are none.
        let has = |policy: &Policy, rule: &Rule| {
            listed(policy, direction).iter().any(|other| bare(other) == bare(rule))
        };
        let edited: Vec<(usize, &Rule)> =
            listed(other, direction).iter().enumerate().filter(|(_, r)| !has(there, r)).collect();
        let counterpart =
            edited.iter().find(|(at, _)| *at == index).or(edited.first()).map(|(_, rule)| *rule);
        let (old_rule, new_rule) =
            if opens { (counterpart, Some(rule)) } else { (Some(rule), counterpart) };
        let text = match (old_rule, new_rule) {
            (Some(was), Some(is)) => edit((was, old), (is, new), direction),
            _ => grant(&rule.grant, direction, there),
        };
        Self {
            field: format!("{direction}[{index}]"),
            change: change(old_rule.is_some(), new_rule.is_some()),
            text,
            old: old_rule,
            new: new_rule,
        }
    }
}

/// Every difference between the rules of one direction of a policy that both sides have.
pub(super) fn edits(both: &Both, key: &ObjectKey, direction: Direction) -> Vec<Cause> {
    let (Some(old), Some(new)) = (both.old.policies.get(key), both.new.policies.get(key)) else {
        return Vec::new();
    };
    let lacks = |policy: &Policy, rule: &Rule| {
        listed(policy, direction).iter().all(|other| bare(other) != bare(rule))
    };
    let of = |policy: &'_ Policy, other: &Policy| -> Vec<(usize, Rule)> {
        let rules = listed(policy, direction).iter().cloned().enumerate();
        rules.filter(|(_, rule)| lacks(other, rule)).collect()
    };
    let (gone, come) = (of(old, new), of(new, old));
    let mut causes = Vec::new();
    for n in 0..gone.len().max(come.len()) {
        let (was, is) = (gone.get(n), come.get(n));
        let text = match (was, is) {
            (Some((_, was)), Some((_, is))) => edit((was, old), (is, new), direction),
            (Some((_, rule)), None) => grant(&rule.grant, direction, old),
            (None, Some((_, rule))) => grant(&rule.grant, direction, new),
            (None, None) => continue,
        };
        let place = |side: Option<&(usize, Rule)>, policy: &Policy| {
            Place::of(side.map_or(&policy.location, |(_, rule)| &rule.location))
        };
        let index = is.or(was).map_or(0, |(index, _)| *index);
        causes.push(Cause {
            kind: "NetworkPolicy".to_owned(),
            name: key.to_string(),
            field: format!("{direction}[{index}]"),
            change: change(was.is_some(), is.is_some()),
            text,
            old: place(was, old),
            new: place(is, new),
        });
    }
    causes
}

fn listed(policy: &Policy, direction: Direction) -> &[Rule] {
    match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    }
}

fn change(old: bool, new: bool) -> &'static str {
    match (old, new) {
        (false, true) => "added",
        (true, false) => "removed",
        _ => "changed",
    }
}

fn isolates(policy: &Policy) -> String {
    let types: Vec<String> = Direction::ALL
        .into_iter()
        .filter(|direction| policy.isolates(*direction))
        .map(|direction| direction.to_string())
        .collect();
    let whom = if policy.pod_selector.is_everything() {
        format!("every pod of {}", policy.key.namespace)
    } else {
        format!("pods {}", policy.pod_selector)
    };
    format!("isolates {whom} for {}", crate::text::join(&types, "and"))
}

/// Whom and what a grant means: `from pods app=web in shop on 8080/TCP`.
fn grant(grant: &Grant, direction: Direction, policy: &Policy) -> String {
    let field = phrase::peers_field(direction);
    let (peers, ports) = parts(grant, policy);
    let peers = if peers.is_empty() { vec!["anybody".to_owned()] } else { peers };
    let ports = if ports.is_empty() { vec!["every port".to_owned()] } else { ports };
    format!("{field} {} on {}", crate::text::join(&peers, "or"), crate::text::join(&ports, "or"))
}

/// Peers and ports of a grant in words; none where it means everybody or every port.
fn parts(grant: &Grant, policy: &Policy) -> (Vec<String>, Vec<String>) {
    let Grant::Traffic { peers, ports } = grant else { return (Vec::new(), Vec::new()) };
    let peers = match peers {
        Peers::Any => Vec::new(),
        Peers::Listed(peers) => {
            peers.iter().map(|p| phrase::peer(&p.selects, &policy.key.namespace)).collect()
        }
    };
    let ports = match ports {
        Ports::Any => Vec::new(),
        Ports::Listed(ports) => ports.iter().map(phrase::port).collect(),
    };
    (peers, ports)
}

/// What an edit made of a rule: `from: + pods app=api in shop; ports: - 80/TCP + 443/TCP`.
fn edit(old: (&Rule, &Policy), new: (&Rule, &Policy), direction: Direction) -> String {
    let (old_peers, old_ports) = parts(&old.0.grant, old.1);
    let (new_peers, new_ports) = parts(&new.0.grant, new.1);
    let peers = list_edit(phrase::peers_field(direction), &old_peers, &new_peers);
    let ports = list_edit("ports", &old_ports, &new_ports);
    match (&old.0.grant, &new.0.grant) {
        (Grant::Nothing { .. }, _) => "was invalid".to_owned(),
        (_, Grant::Nothing { reason }) => format!("is invalid: {reason}"),
        _ => peers.into_iter().chain(ports).collect::<Vec<_>>().join("; "),
    }
}

fn list_edit(field: &str, old: &[String], new: &[String]) -> Option<String> {
    let set = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
    let (was, is) = (set(old), set(new));
    if was == is {
        return None;
    }
    if is.is_empty() {
        return Some(format!("{field}: now everything"));
    }
    if was.is_empty() {
        return Some(format!("{field}: now {}", crate::text::join(new, "and")));
    }
    let removed = was.difference(&is).map(|item| format!("− {item}"));
    let added = is.difference(&was).map(|item| format!("+ {item}"));
    Some(format!("{field}: {}", removed.chain(added).collect::<Vec<_>>().join(", ")))
}

fn relabelled(old: &Labels, new: &Labels, key: &str) -> String {
    match (old.get(key), new.get(key)) {
        (Some(was), Some(is)) => format!("{was} → {is}"),
        (None, Some(is)) => format!("none → {is}"),
        (Some(was), None) => format!("{was} → none"),
        (None, None) => String::new(),
    }
}

fn declared(old: &Pod, new: &Pod) -> String {
    let ports = |pod: &Pod| -> Vec<String> {
        pod.ports
            .iter()
            .map(|port| match &port.name {
                Some(name) => format!("{name}={}/{}", port.number, port.protocol),
                None => format!("{}/{}", port.number, port.protocol),
            })
            .collect()
    };
    list_edit("ports", &ports(old), &ports(new)).unwrap_or_default()
}
