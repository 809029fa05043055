//! The smallest change of policy that would let a denied flow through one half.
//!
//! One rule has to allow the flow. Where its peers fit, a port is missing; where its ports fit, a peer
//! is (or labels on the other end); where neither fits, a new rule is simpler. Of all rules the one
//! that needs least is named, a rule that misses fewer labels first.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_compiler::cidr::{Family, IpBlock};
use policy_compiler::cluster::{METADATA_NAME_LABEL, Pod, Snapshot};
use policy_compiler::document::Location;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic};
use policy_compiler::policy::Direction;
use policy_compiler::verdict::{
    Because, Decision, LabelMiss, PeerOutcome, PolicyTrace, PortOutcome, RuleTrace, Verdict,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::Place;
use crate::phrase;
use crate::text::join;

use super::Answer;
use super::port::pod_at;

/// A change that would allow a flow in one direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `egress` or `ingress`.
    pub direction: String,
    /// What to change: `port`, `peer` or `rule`.
    pub kind: &'static str,
    /// The policy.
    pub policy: String,
    /// The list in it to which something has to be added: `ingress[0].from`.
    pub path: String,
    /// Where that stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What to do, in a sentence without its full stop.
    pub text: String,
    /// The same as operations of a JSON patch (RFC 6902) to the policy: what `kubectl patch --type=json`
    /// takes. None where the addresses to allow are not known.
    pub patch: Vec<Operation>,
}

/// One operation of a JSON patch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    /// `add` or `remove`.
    pub op: &'static str,
    /// Where: `/spec/ingress/0/ports/-`.
    pub path: String,
    /// What is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

impl Operation {
    fn add(path: String, value: Value) -> Self {
        Self { op: "add", path, value: Some(value) }
    }
}

/// How much a rule would have to change: parts of it, then labels missed.
type Cost = (usize, usize);

/// The changes that the denying halves of `verdict` need; none where it is not denied. Where the other
/// end stands for all addresses of `outside`, all of them are to be allowed.
pub(super) fn changes(
    flow: &Flow,
    verdict: &Verdict,
    traffic: &str,
    snapshot: &Snapshot,
    outside: &BTreeSet<IpBlock>,
) -> Vec<Change> {
    [Direction::Egress, Direction::Ingress]
        .into_iter()
        .filter(|direction| verdict.half(*direction).because == Because::NoRuleAllows)
        .filter_map(|direction| {
            let other = match direction {
                Direction::Ingress => &flow.from,
                Direction::Egress => &flow.to,
            };
            let wanted = Wanted { direction, other, flow, traffic, snapshot, outside };
            wanted.change(&verdict.half(direction).policies)
        })
        .collect()
}

/// What is changed, where, and how.
struct What {
    kind: &'static str,
    path: String,
    patch: Vec<Operation>,
}

/// What one half would have to allow.
struct Wanted<'a> {
    direction: Direction,
    other: &'a End,
    flow: &'a Flow,
    traffic: &'a str,
    snapshot: &'a Snapshot,
    outside: &'a BTreeSet<IpBlock>,
}

impl Wanted<'_> {
    fn change(&self, policies: &[PolicyTrace]) -> Option<Change> {
        let rules =
            policies.iter().flat_map(|policy| policy.rules.iter().map(move |r| (policy, r)));
        let best = rules
            .filter(|(_, rule)| rule.invalid.is_none())
            .map(|(policy, rule)| (cost(rule), policy, rule))
            .min_by_key(|(cost, ..)| *cost);
        match best {
            Some(((1, _), policy, rule)) if peers_fit(rule) => Some(self.port(policy, rule)),
            Some(((1, _), policy, rule)) => Some(self.peer(policy, rule)),
            _ => self.rule(policies),
        }
    }

    fn port(&self, policy: &PolicyTrace, rule: &RuleTrace) -> Change {
        let path = format!("{}[{}].ports", self.direction, rule.index);
        let name = &policy.policy;
        let text = match self.flow.traffic {
            Traffic::Port { protocol, port } => {
                format!("add {port}/{protocol} to {name} {path}{}", found_name(rule))
            }
            _ => format!(
                "leave out {name} {path}: only a rule without ports allows {}",
                self.traffic
            ),
        };
        let location = rule.ports.first().map_or(&rule.location, |port| &port.location);
        let ports = format!("/spec/{}/{}/ports", self.direction, rule.index);
        let operation = match self.port_value() {
            Some(port) => Operation::add(format!("{ports}/-"), port),
            None => Operation { op: "remove", path: ports, value: None },
        };
        self.made(What { kind: "port", path, patch: vec![operation] }, policy, location, text)
    }

    fn peer(&self, policy: &PolicyTrace, rule: &RuleTrace) -> Change {
        let field = phrase::peers_field(self.direction);
        let path = format!("{}[{}].{field}", self.direction, rule.index);
        let mut text = format!("add {} to {} {path}", self.other_peer(policy), policy.policy);
        let nearest = rule.peers.iter().filter_map(|peer| Some((missed(&peer.outcome)?, peer)));
        if let Some((_, peer)) = nearest.min_by_key(|(missing, _)| missing.len())
            && let Some(label) = relabel(&peer.outcome)
        {
            let whom = self.whom();
            text = format!("{text}, or {} ({field}[{}] asks for it)", label(&whom), peer.index);
        }
        let location = rule.peers.first().map_or(&rule.location, |peer| &peer.location);
        let list = format!("/spec/{}/{}/{field}/-", self.direction, rule.index);
        let values = self.peer_values(policy).into_iter();
        let operations = values.map(|value| Operation::add(list.clone(), value)).collect();
        self.made(What { kind: "peer", path, patch: operations }, policy, location, text)
    }

    fn rule(&self, policies: &[PolicyTrace]) -> Option<Change> {
        // Adding to a policy for everybody would open more than what was asked.
        let narrowest = policies
            .iter()
            .rev()
            .max_by_key(|policy| policy.pod_selector.requirements().count())?;
        let field = phrase::peers_field(self.direction);
        let ports = match self.flow.traffic {
            Traffic::Port { protocol, port } => format!("ports {port}/{protocol}"),
            _ => "without ports".to_owned(),
        };
        let text = format!(
            "add a rule to {} {}: {field} {}, {ports}",
            narrowest.policy,
            self.direction,
            self.other_peer(narrowest)
        );
        let peers = self.peer_values(narrowest);
        let mut rule = json!({ field: peers });
        if let (Some(port), Value::Object(rule)) = (self.port_value(), &mut rule) {
            rule.insert("ports".to_owned(), json!([port]));
        }
        let rules = format!("/spec/{}", self.direction);
        // A policy without rules may lack the list that one would be added to.
        let operation = if narrowest.rules.is_empty() {
            Operation::add(rules, json!([rule]))
        } else {
            Operation::add(format!("{rules}/-"), rule)
        };
        // A rule without peers would be one for everybody.
        let patch = if peers.is_empty() { Vec::new() } else { vec![operation] };
        let what = What { kind: "rule", path: self.direction.to_string(), patch };
        Some(self.made(what, narrowest, &narrowest.location, text))
    }

    /// The flow's port as an item of `ports`; `None` where no item can mean it.
    fn port_value(&self) -> Option<Value> {
        match self.flow.traffic {
            Traffic::Port { protocol, port } => {
                Some(json!({ "protocol": protocol.to_string(), "port": port }))
            }
            _ => None,
        }
    }

    /// The other end as items of `from` or `to`: what [`Self::other_peer`] says in words.
    fn peer_values(&self, policy: &PolicyTrace) -> Vec<Value> {
        let block = |address: IpAddr| {
            let bits = if Family::of(address) == Family::V4 { 32 } else { 128 };
            json!({ "ipBlock": { "cidr": format!("{address}/{bits}") } })
        };
        if !self.outside.is_empty() {
            return self.outside.iter().map(block_value).collect();
        }
        match (pod_at(self.other, self.snapshot), self.other) {
            (Some(pod), _) if pod.is_live() => {
                let labels: serde_json::Map<String, Value> = selecting_labels(pod)
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), Value::from(value)))
                    .collect();
                let pods =
                    if labels.is_empty() { json!({}) } else { json!({ "matchLabels": labels }) };
                if pod.key.namespace == policy.policy.namespace {
                    return vec![json!({ "podSelector": pods })];
                }
                let label = json!({ METADATA_NAME_LABEL: pod.key.namespace.as_str() });
                vec![json!({ "namespaceSelector": { "matchLabels": label }, "podSelector": pods })]
            }
            (_, End::Address(address)) => vec![block(*address)],
            (pod, end) => {
                let node = match end {
                    End::Node(name) => Some(name),
                    _ => pod.and_then(|pod| pod.node.as_ref()),
                };
                let addresses = node.map(|node| Evaluator::new(self.snapshot).node_addresses(node));
                let own = pod.into_iter().flat_map(|pod| pod.addresses.iter());
                let all: BTreeSet<IpAddr> = addresses.into_iter().flatten().chain(own).collect();
                let family = |address: &IpAddr| Family::of(*address) == self.flow.family;
                all.into_iter().filter(family).map(block).collect()
            }
        }
    }

    fn made(&self, what: What, policy: &PolicyTrace, location: &Location, text: String) -> Change {
        Change {
            direction: self.direction.to_string(),
            kind: what.kind,
            policy: policy.policy.to_string(),
            path: what.path,
            place: Place::of(location),
            text,
            patch: what.patch,
        }
    }

    /// The other end as a person calls it.
    fn whom(&self) -> String {
        self.other.to_string()
    }

    /// A peer that would mean the other end, in the words of a manifest.
    fn other_peer(&self, policy: &PolicyTrace) -> String {
        if !self.outside.is_empty() {
            let blocks: Vec<String> = self.outside.iter().map(block_text).collect();
            return join(&shortened(blocks, "blocks"), "and");
        }
        match (pod_at(self.other, self.snapshot), self.other) {
            (Some(pod), _) if pod.is_live() => {
                let labels = telling_labels(pod);
                if pod.key.namespace == policy.policy.namespace {
                    format!("podSelector {labels}")
                } else {
                    let namespace = &pod.key.namespace;
                    format!(
                        "namespaceSelector kubernetes.io/metadata.name={namespace} with podSelector \
                         {labels}"
                    )
                }
            }
            (_, End::Address(address)) => {
                let bits = if Family::of(*address) == Family::V4 { 32 } else { 128 };
                format!("ipBlock {address}/{bits}")
            }
            _ => format!("an ipBlock with the addresses of {}", self.other),
        }
    }
}

/// A block as an item of `from` or `to`.
fn block_value(block: &IpBlock) -> Value {
    let cidr = block.cidr().to_string();
    if block.except().is_empty() {
        return json!({ "ipBlock": { "cidr": cidr } });
    }
    let except: Vec<String> = block.except().iter().map(ToString::to_string).collect();
    json!({ "ipBlock": { "cidr": cidr, "except": except } })
}

fn block_text(block: &IpBlock) -> String {
    let except: Vec<String> = block.except().iter().map(ToString::to_string).collect();
    let cidr = block.cidr();
    match except.as_slice() {
        [] => format!("ipBlock {cidr}"),
        _ => format!("ipBlock {cidr} except {}", shortened(except, "networks").join(", ")),
    }
}

/// The first few of `items`, and how many `what` there are more.
fn shortened(mut items: Vec<String>, what: &str) -> Vec<String> {
    const SHOWN: usize = 4;
    if items.len() > SHOWN + 1 {
        let more = items.len() - SHOWN;
        items.truncate(SHOWN);
        items.push(format!("{more} {what} more"));
    }
    items
}

fn peers_fit(rule: &RuleTrace) -> bool {
    rule.peers.is_empty()
        || rule.peers.iter().any(|peer| peer.outcome.decision() == Decision::Allowed)
}

fn ports_fit(rule: &RuleTrace) -> bool {
    rule.ports.is_empty() || rule.ports.iter().any(|port| port.outcome.matched())
}

fn cost(rule: &RuleTrace) -> Cost {
    let parts = usize::from(!peers_fit(rule)) + usize::from(!ports_fit(rule));
    let distance = rule.peers.iter().map(|peer| distance(&peer.outcome)).min();
    (parts, if peers_fit(rule) { 1 } else { distance.unwrap_or(usize::MAX) })
}

/// How unlike the other end is to a peer: labels missed, or a weight where it is no matter of labels.
fn distance(outcome: &PeerOutcome) -> usize {
    match outcome {
        PeerOutcome::Excepted { .. } | PeerOutcome::OtherNamespace { .. } => 2,
        PeerOutcome::OutsideBlock { .. } => 5,
        PeerOutcome::NotAPod | PeerOutcome::OtherFamily { .. } => 9,
        other => missed(other).map_or(0, |missed| missed.len()),
    }
}

/// The labels that a peer misses; `None` where labels would not help.
fn missed(outcome: &PeerOutcome) -> Option<Vec<&LabelMiss>> {
    match outcome {
        PeerOutcome::PodMiss { missing } => Some(missing.iter().collect()),
        PeerOutcome::NamespaceMiss { missing, pod_missing, .. } => {
            Some(missing.iter().chain(pod_missing).collect())
        }
        _ => None,
    }
}

/// How other labels would make a peer fit, where the pod's own suffice.
fn relabel(outcome: &PeerOutcome) -> Option<impl Fn(&str) -> String> {
    match outcome {
        PeerOutcome::PodMiss { missing } => {
            let wants = phrase::wants(missing);
            let what = if missing.len() == 1 { "the label" } else { "the labels" };
            Some(move |whom: &str| format!("give {whom} {what} {wants}"))
        }
        _ => None,
    }
}

/// What a name in the rule means at the destination, if that explains the miss.
fn found_name(rule: &RuleTrace) -> String {
    let named = rule.ports.iter().find(|port| {
        matches!(
            port.outcome,
            PortOutcome::NameMeansOther(..)
                | PortOutcome::NameOfOtherProtocol(..)
                | PortOutcome::NameNotFound(..)
        )
    });
    named.map(|port| format!(" ({})", phrase::port_reason(&port.outcome))).unwrap_or_default()
}

/// [`selecting_labels`] as a selector writes them.
fn telling_labels(pod: &Pod) -> String {
    let labels: Vec<String> =
        selecting_labels(pod).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    if labels.is_empty() { "{}".to_owned() } else { labels.join(",") }
}

/// The label by which people select a pod, or all of them without those that controllers add.
fn selecting_labels(pod: &Pod) -> Vec<(&str, &str)> {
    const TELLING: [&str; 3] = ["app", "app.kubernetes.io/name", "k8s-app"];
    match pod.labels.iter().find(|(key, _)| TELLING.contains(key)) {
        Some(told) => vec![told],
        None => pod.labels.iter().filter(|(key, _)| !phrase::ADDED_LABELS.contains(key)).collect(),
    }
}

/// A question about addresses outside that no policy tells apart, one of which was asked about.
pub(super) struct Asked {
    /// The place of its answer.
    pub(super) answer: usize,
    pub(super) flow: Flow,
    pub(super) verdict: Verdict,
    /// All of these addresses.
    pub(super) blocks: Vec<IpBlock>,
}

/// Proposes for each answer about addresses outside what would allow these and all others for which the
/// same list would be changed: so that what is proposed for one does not undo what is for another.
pub(super) fn propose(answers: &mut [Answer], asked: &[Asked], snapshot: &Snapshot) {
    let traffic = |one: &Asked| answers.get(one.answer).map(|a| a.traffic.clone());
    let traffic: Vec<String> = asked.iter().map(|one| traffic(one).unwrap_or_default()).collect();
    let with = |n: usize, one: &Asked, blocks: &BTreeSet<IpBlock>| {
        let traffic = traffic.get(n).map_or("", String::as_str);
        changes(&one.flow, &one.verdict, traffic, snapshot, blocks).into_iter().next()
    };
    let alone: Vec<Option<Change>> = asked
        .iter()
        .enumerate()
        .map(|(n, one)| with(n, one, &one.blocks.iter().cloned().collect()))
        .collect();
    let where_of = |n: usize| {
        let change = alone.get(n)?.as_ref()?;
        Some((&change.policy, change.kind, &change.path, traffic.get(n)?))
    };
    for (n, one) in asked.iter().enumerate() {
        let Some(place) = where_of(n) else { continue };
        let same = asked.iter().enumerate().filter(|(m, _)| where_of(*m) == Some(place));
        let blocks = same.flat_map(|(_, other)| other.blocks.iter().cloned()).collect();
        if let Some(answer) = answers.get_mut(one.answer) {
            answer.changes = with(n, one, &blocks).into_iter().collect();
        }
    }
}

#[cfg(test)]
mod laws;
