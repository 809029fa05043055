//! Near misses: peers that a rule would mean with one label more or less, ports that nobody listens
//! on beside ports that somebody does.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cluster::Pod;
use policy_compiler::flow::{End, Traffic};
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::{
    Direction, Grant, Peer, PeerSelects, Peers, Policy, PortMatch, PortNumbers,
};
use policy_compiler::selector::{Operator, Selector};
use policy_compiler::verdict::{Decision, LabelMiss, PeerOutcome, PortOutcome};
use serde::Serialize;

use crate::answer::Place;
use crate::phrase::{self, Group};
use crate::text::join;

use super::side::{Findings, RuleId};

/// Something that a rule nearly allows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// `peer` or `port`.
    pub kind: &'static str,
    /// Who is missed, or who listens elsewhere.
    pub pods: Vec<Group>,
    /// The policy.
    pub policy: String,
    /// The peer or the rule in it: `ingress[0].from[0]`.
    pub path: String,
    /// Where that stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What they have.
    pub has: String,
    /// What is wanted.
    pub wants: String,
    /// Both in a sentence.
    pub text: String,
}

/// At most this many peers are named.
const PEERS: usize = 3;

/// The near misses of a direction, nearest first.
pub(super) fn misses(findings: &Findings<'_>, direction: Direction) -> Vec<NearMiss> {
    let mut misses = ports(findings, direction);
    misses.extend(peers(findings, direction));
    misses
}

/// How far a peer is off: requirements missed, how unlike the values are, which rule and peer.
type Distance = (usize, usize, RuleId, usize);

struct Candidate {
    distance: Distance,
    has: String,
    wants: String,
    sentence: String,
}

fn peers(findings: &Findings<'_>, direction: Direction) -> Vec<NearMiss> {
    let mut nearest: BTreeMap<(Distance, String), (BTreeSet<ObjectKey>, Candidate)> =
        BTreeMap::new();
    let own = phrase::workload_of(findings.pod);
    // Whoever asks why somebody is kept out does not mean the pod's own replicas.
    for other in findings.others().filter(|other| phrase::workload_of(other) != own) {
        if let Some(candidate) = nearest_of(findings, direction, other) {
            let (namespace, name, _) = phrase::workload_of(other);
            let entry = nearest
                .entry((candidate.distance, format!("{namespace}/{name}")))
                .or_insert_with(|| (BTreeSet::new(), candidate));
            entry.0.insert(other.key.clone());
        }
    }
    let field = phrase::peers_field(direction);
    let misses = nearest.into_values().take(PEERS).filter_map(|(pods, candidate)| {
        let (_, _, rule, peer) = candidate.distance;
        let policy = findings.policies(direction).get(rule.0).and_then(|t| findings.policy(t))?;
        let location = &written_peer(policy, direction, rule.1, peer)?.location;
        let groups = phrase::groups(&pods, findings.questions.snapshot);
        let who = join(&groups.iter().map(Group::short).collect::<Vec<_>>(), "and");
        let path = format!("{direction}[{}].{field}[{peer}]", rule.1);
        let short = policy.key.name.as_str();
        let [has, is] = if plural(&groups) { ["have", "are"] } else { ["has", "is"] };
        let sentence = candidate.sentence.replace("{rule}", &format!("{short} {path}"));
        let sentence = sentence.replace("{has}", has).replace("{is}", is);
        Some(NearMiss {
            kind: "peer",
            pods: groups,
            policy: policy.key.to_string(),
            path,
            place: Place::of(location),
            has: candidate.has,
            wants: candidate.wants,
            text: format!("{who} {sentence}"),
        })
    });
    misses.collect()
}

/// The peer that comes nearest to meaning `other`; `None` where some rule means it already, or none
/// comes near.
fn nearest_of(findings: &Findings<'_>, direction: Direction, other: &Pod) -> Option<Candidate> {
    let mut best: Option<Candidate> = None;
    for (p, policy_trace) in findings.policies(direction).iter().enumerate() {
        let policy = findings.policy(policy_trace)?;
        for (r, rule) in policy.rules(direction).iter().enumerate() {
            match &rule.grant {
                Grant::Nothing { .. } => continue,
                Grant::Traffic { peers: Peers::Any, .. } => return None,
                Grant::Traffic { .. } => {}
            }
            for (_, _, trace) in findings.traces(direction, &other.key, (p, r)) {
                for peer in &trace.peers {
                    if peer.outcome.decision() == Decision::Allowed {
                        return None;
                    }
                    let at = ((p, r), peer.index);
                    let written = written_peer(policy, direction, r, peer.index)?;
                    let candidate = candidate(&peer.outcome, written, other, at);
                    if let Some(candidate) = candidate
                        && best.as_ref().is_none_or(|b| candidate.distance < b.distance)
                    {
                        best = Some(candidate);
                    }
                }
            }
        }
    }
    best
}

/// Whether a sentence about these pods is about several.
fn plural(groups: &[Group]) -> bool {
    groups.iter().map(|group| group.count).sum::<u32>() > 1
}

fn written_peer(policy: &Policy, direction: Direction, rule: usize, peer: usize) -> Option<&Peer> {
    let rule = policy.rules(direction).get(rule)?;
    phrase::listed_peers(&rule.grant).get(peer)
}

/// How `other` misses a peer, where that is near.
fn candidate(
    outcome: &PeerOutcome,
    written: &Peer,
    other: &Pod,
    (rule, peer): (RuleId, usize),
) -> Option<Candidate> {
    let PeerSelects::Pods { pods: selector, .. } = &written.selects else { return None };
    match outcome {
        PeerOutcome::PodMiss { missing } if is_near(missing, selector) => {
            let (has, wants) = (phrase::has(missing), phrase::wants(missing));
            Some(Candidate {
                distance: (missing.len(), unlikeness(missing), rule, peer),
                sentence: format!("{{has}} {has}, {{rule}} wants {wants}"),
                has,
                wants,
            })
        }
        PeerOutcome::OtherNamespace { pod, wanted }
            if !selector.is_everything() && selector.matches(&other.labels) =>
        {
            Some(Candidate {
                distance: (1, 0, rule, peer),
                has: format!("namespace {pod}"),
                wants: format!("namespace {wanted}"),
                sentence: format!(
                    "{{has}} the labels, but {{is}} in namespace {pod}; {{rule}} has no namespaceSelector and \
                     means only {wanted}"
                ),
            })
        }
        PeerOutcome::NamespaceMiss { namespace, missing, pod_missing }
            if !selector.is_everything() && pod_missing.is_empty() =>
        {
            let (has, wants) = (phrase::has(missing), phrase::wants(missing));
            let mismatch = phrase::namespace_mismatch(namespace, missing);
            Some(Candidate {
                distance: (missing.len(), unlikeness(missing), rule, peer),
                sentence: format!("{{has}} the labels {{rule}} wants, but {mismatch}"),
                has,
                wants,
            })
        }
        _ => None,
    }
}

/// Whether something is right already: a requirement met, or a key there with another value.
fn is_near(missing: &[LabelMiss], selector: &Selector) -> bool {
    missing.len() < selector.requirements().count() || missing.iter().any(|m| m.found.is_some())
}

/// Edits from the values that are there to those wanted, an absent key counting much: a misspelt
/// value is nearer than another one.
fn unlikeness(missing: &[LabelMiss]) -> usize {
    let edits = |miss: &LabelMiss| match (&miss.found, &miss.wanted.operator) {
        (Some(found), Operator::In(values)) => {
            let slip = |value: &std::sync::Arc<str>| {
                let edits = strsim::osa_distance(found, value);
                edits == 1 || (edits == 2 && value.len() > 4)
            };
            // Beyond a slip of the pen all values are equally unlike.
            if values.iter().any(slip) { 1 } else { 3 }
        }
        (Some(_), _) => 3,
        (None, _) => 10,
    };
    missing.iter().map(edits).sum()
}

/// Rules that mean somebody, on ports that no destination declares.
fn ports(findings: &Findings<'_>, direction: Direction) -> Vec<NearMiss> {
    let mut misses = Vec::new();
    for (p, trace) in findings.policies(direction).iter().enumerate() {
        let Some(policy) = findings.policy(trace) else { continue };
        for (r, rule) in policy.rules(direction).iter().enumerate() {
            let listed = phrase::listed_ports(&rule.grant);
            let resolves = |(i, port)| findings.resolved(direction, (p, r), i, port).is_some();
            let single = |port: &PortMatch| match &port.numbers {
                PortNumbers::Range(range) => range.first() == range.last(),
                PortNumbers::Named(_) => true,
                PortNumbers::Any => false,
            };
            // Ranges are for ports that pods do not declare, such as those of passive FTP.
            if !listed.iter().all(single) {
                continue;
            }
            // A name that resolves nowhere is warned of as that.
            if !listed.iter().enumerate().any(resolves) {
                continue;
            }
            let destinations = destinations(findings, direction, (p, r), &rule.grant);
            let declaring: Vec<&Pod> =
                destinations.into_iter().filter(|pod| !pod.ports.is_empty()).collect();
            let unmet = declaring.iter().all(|pod| !reaches(findings, direction, (p, r), pod));
            if declaring.is_empty() || !unmet {
                continue;
            }
            let keys: BTreeSet<ObjectKey> = declaring.iter().map(|pod| pod.key.clone()).collect();
            let pods = phrase::groups(&keys, findings.questions.snapshot);
            let wants = join(&listed.iter().map(phrase::port).collect::<Vec<_>>(), "and");
            let has = declared(&declaring);
            let who = join(&pods.iter().map(Group::short).collect::<Vec<_>>(), "and");
            let declares = if plural(&pods) { "declare" } else { "declares" };
            let path = format!("{direction}[{r}]");
            misses.push(NearMiss {
                kind: "port",
                text: format!(
                    "{} {path} allows {wants}, but {who} {declares} {has}",
                    policy.key.name
                ),
                pods,
                policy: policy.key.to_string(),
                path,
                place: Place::of(&rule.location),
                has,
                wants,
            });
        }
    }
    misses
}

/// The pods at which a rule's traffic arrives.
fn destinations<'q>(
    findings: &Findings<'q>,
    direction: Direction,
    rule: RuleId,
    grant: &Grant,
) -> Vec<&'q Pod> {
    match direction {
        Direction::Ingress => vec![findings.pod],
        Direction::Egress => {
            let peers = phrase::listed_peers(grant).iter().enumerate();
            let meant: BTreeSet<ObjectKey> = peers
                .filter(|(_, peer)| matches!(peer.selects, PeerSelects::Pods { .. }))
                .flat_map(|(i, _)| findings.meant(direction, rule, i).into_keys())
                .collect();
            findings.others().filter(|pod| meant.contains(&pod.key)).collect()
        }
    }
}

/// Whether the rule's ports have one that `destination` declares.
fn reaches(findings: &Findings<'_>, direction: Direction, rule: RuleId, destination: &Pod) -> bool {
    let subject = End::Pod(findings.pod.key.clone());
    findings.families().iter().any(|&family| {
        let other = match direction {
            Direction::Ingress => findings.questions.stranger(family),
            Direction::Egress => End::Pod(destination.key.clone()),
        };
        destination.ports.iter().any(|port| {
            let traffic = Traffic::Port { protocol: port.protocol, port: port.number.get() };
            let verdict = findings.questions.between(direction, &subject, &other, family, traffic);
            let trace = verdict.half(direction).policies.get(rule.0);
            trace.and_then(|trace| trace.rules.get(rule.1)).is_some_and(|trace| {
                trace.ports.iter().map(|port| &port.outcome).any(PortOutcome::matched)
            })
        })
    })
}

fn declared(pods: &[&Pod]) -> String {
    let all: BTreeSet<(u16, String)> = pods
        .iter()
        .flat_map(|pod| pod.ports.iter().map(move |port| (pod, port)))
        .map(|(pod, port)| {
            let number = port.number.get();
            (number, phrase::number(number, port.protocol, Some(pod)))
        })
        .collect();
    join(&all.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), "and")
}
