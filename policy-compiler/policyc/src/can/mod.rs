//! `policyc can`: one connection, both halves, every rule.
//!
//! Each pair of ends and each family is asked on its own; families whose answers agree down to every
//! rule and peer are folded into one. Policies are never merged before they are shown: every selecting
//! policy has its say with every rule, peer and port.

mod change;
mod doubt;
mod port;
mod text;
mod trace;

use std::collections::BTreeSet;

use policy_compiler::cidr::{Family, IpBlock};
use policy_compiler::cluster::{Phase, Pod, Snapshot};
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::policy::Direction;
use policy_compiler::verdict::{Decision, Verdict};
use serde::Serialize;

use crate::answer::{self, Certainty, Outcome, RulingNote};
use crate::error::CommandError;
use crate::phrase;
use crate::question::{Questions, spoken};
use crate::status::Status;
use crate::subject::NamedEnd;
use crate::text::join;

pub use change::{Change, Operation};
pub use port::Port;
pub use text::{half, text};
pub use trace::{AuditAnswer, HalfAnswer, PeerAnswer, PolicyAnswer, PortAnswer, RuleAnswer};

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Who asks, as named.
    pub from: String,
    /// Whom, as named.
    pub to: String,
    /// The port as asked: `8080/TCP`, `icmp`.
    pub port: String,
    /// Of all answers together.
    pub decision: Outcome,
    /// Whether the specification settles it.
    pub certainty: Certainty,
    /// What is to be known about the ends: that a pod has finished and its address is another's now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The answers by pair of ends; families whose answers agree are one.
    pub answers: Vec<Answer>,
}

/// The answer for one pair of ends.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Who opens the connection.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What is sent: `8080/TCP (http)`.
    pub traffic: String,
    /// The families that this is the answer for.
    pub families: Vec<String>,
    /// Exactly which addresses outside it is the answer for, where `world` was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// The answer.
    pub decision: Outcome,
    /// Whether the specification settles it.
    pub certainty: Certainty,
    /// The choices that it rests on.
    pub rulings: Vec<RulingNote>,
    /// What the source's policies say.
    pub egress: HalfAnswer,
    /// What the destination's policies say.
    pub ingress: HalfAnswer,
    /// What would allow it: the smallest change for each half that does not. None where allowed.
    pub changes: Vec<Change>,
}

/// Asks for every pair of ends, in every family of `families` that both have.
///
/// # Errors
/// Where the port's name means nothing at a destination, or the ends have no family in common.
pub fn ask(
    questions: &Questions<'_>,
    from: &NamedEnd,
    to: &NamedEnd,
    port: &Port,
    families: &[Family],
) -> Result<Connection, CommandError> {
    ask_within(questions, None, (from, to), port, families)
}

/// As [`ask`], where the input does not tell of what only `possible` allows.
///
/// # Errors
/// As [`ask`].
pub fn ask_within(
    questions: &Questions<'_>,
    possible: Option<&Questions<'_>>,
    (from, to): (&NamedEnd, &NamedEnd),
    port: &Port,
    families: &[Family],
) -> Result<Connection, CommandError> {
    if let Some(service) = &from.service {
        return Err(CommandError::usage(
            format!("Service {} opens no connections", service.key),
            "name the pod or workload that does",
        ));
    }
    let mut answers: Vec<Answer> = Vec::new();
    let mut decisions: Vec<Decision> = Vec::new();
    let mut outside: Vec<change::Asked> = Vec::new();
    for source in &from.ends {
        for destination in &to.ends {
            let common = common(source, destination, families, questions.snapshot);
            for family in common.into_iter().filter(|family| to.reachable_over(*family)) {
                for traffic in sent(port, to, destination, family, questions.snapshot)? {
                    let flow = Flow {
                        from: source.clone(),
                        to: destination.clone(),
                        family,
                        traffic,
                        wire: Wire::Routed,
                    };
                    let verdict =
                        questions.verdict(&flow.from, &flow.to, flow.family, flow.traffic);
                    let mut answer = Answer::of(questions.snapshot, &flow, &verdict);
                    let may = possible.map(|possible| {
                        possible.verdict(&flow.from, &flow.to, flow.family, flow.traffic)
                    });
                    let mut decision = verdict.decision;
                    if let Some(may) = may {
                        answer.doubt(&Answer::of(questions.snapshot, &flow, &may));
                        if may.decision != decision {
                            decision = Decision::Unknown;
                        }
                    }
                    decisions.push(decision);
                    let blocks = answer.name_outside(&flow, from, to);
                    let before = answers.len();
                    fold(&mut answers, answer);
                    if !blocks.is_empty() && answers.len() > before {
                        outside.push(change::Asked { answer: before, flow, verdict, blocks });
                    }
                }
            }
        }
    }
    change::propose(&mut answers, &outside, questions.snapshot);
    if answers.is_empty() {
        return Err(CommandError::usage(
            format!("{} and {} have no such address family in common", from.text, to.text),
            "a connection needs an address of one family at both ends",
        ));
    }
    let settled = answers.iter().all(|answer| answer.rulings.is_empty());
    Ok(Connection {
        from: from.text.clone(),
        to: to.text.clone(),
        port: port.text(),
        decision: together(&decisions),
        certainty: if settled { Certainty::Specified } else { Certainty::Undefined },
        notes: to
            .service
            .iter()
            .map(|_| format!("{} is answered for the pods behind it, on their port", to.text))
            .chain(notes(questions.snapshot, from.ends.iter().chain(&to.ends)))
            .collect(),
        answers,
    })
}

/// What arrives at `destination`: through a Service its target port.
fn sent(
    port: &Port,
    to: &NamedEnd,
    destination: &End,
    family: Family,
    snapshot: &Snapshot,
) -> Result<Vec<Traffic>, CommandError> {
    match &to.service {
        Some(service) => port.through(service)?.traffic(destination, family, snapshot),
        None => port.traffic(destination, family, snapshot),
    }
}

/// A note for each end that is a finished pod: what is answered for it is so of its address only.
fn notes<'e>(snapshot: &Snapshot, ends: impl Iterator<Item = &'e End>) -> Vec<String> {
    let pods = ends.filter_map(|end| match end {
        End::Pod(key) => snapshot.pods.get(key),
        End::Node(_) | End::Address(_) => None,
    });
    let note = |pod: &Pod| {
        let key = &pod.key;
        let heirs: Vec<String> = pod
            .addresses
            .iter()
            .filter_map(|address| {
                let heir = port::pod_at(&End::Address(address), snapshot)?;
                Some(format!("{address} is {}'s now", heir.key))
            })
            .collect();
        match heirs.as_slice() {
            [] => format!("{key} has finished: no policy applies to it"),
            heirs => format!("{key} has finished; {}", join(heirs, "and")),
        }
    };
    let finished = pods.filter(|pod| pod.phase == Phase::Finished);
    finished.map(note).collect::<BTreeSet<String>>().into_iter().collect()
}

impl Connection {
    /// 3 where any answer cannot be told, else 1 where any is a denial.
    #[must_use]
    pub fn status(&self) -> Status {
        self.answers.iter().fold(Status::Fine, |status, answer| {
            status.and(match answer.decision {
                Outcome::Allowed => Status::Fine,
                Outcome::Denied | Outcome::Partly => Status::Denied,
                Outcome::Unknown => Status::Unknown,
            })
        })
    }
}

impl Answer {
    /// The verdict on a flow with its reasons in words.
    #[must_use]
    pub fn of(snapshot: &Snapshot, flow: &Flow, verdict: &Verdict) -> Self {
        let rulings = answer::rulings(&verdict.rulings);
        let traffic = match flow.traffic {
            Traffic::Port { protocol, port } => {
                phrase::number(port, protocol, port::pod_at(&flow.to, snapshot))
            }
            Traffic::Icmp { kind: 8 | 128 } => "icmp echo request".to_owned(),
            other => other.to_string(),
        };
        Self {
            from: flow.from.to_string(),
            to: flow.to.to_string(),
            families: vec![flow.family.to_string()],
            networks: Vec::new(),
            decision: verdict.decision.into(),
            certainty: Certainty::of(&rulings),
            rulings,
            egress: HalfAnswer::of(&verdict.egress, Direction::Egress, snapshot),
            ingress: HalfAnswer::of(&verdict.ingress, Direction::Ingress, snapshot),
            changes: change::changes(flow, verdict, &traffic, snapshot, &BTreeSet::new()),
            traffic,
        }
    }
}

impl Answer {
    /// Calls ends by the addresses that they stand for, and gives these. A change that allowed one of them
    /// would say nothing of the others, so it is left out.
    fn name_outside(&mut self, flow: &Flow, from: &NamedEnd, to: &NamedEnd) -> Vec<IpBlock> {
        let (mut blocks, mut called) = (Vec::new(), Vec::new());
        for (end, name, half, outside) in [
            (&flow.from, &mut self.from, &mut self.egress, from.outside.get(&flow.from)),
            (&flow.to, &mut self.to, &mut self.ingress, to.outside.get(&flow.to)),
        ] {
            let Some(outside) = outside else { continue };
            name.clone_from(&outside.text);
            if let End::Pod(key) = end {
                half.subject = Some(outside.text.clone());
                called.push((key.to_string(), outside.text.clone()));
            } else {
                self.networks.clone_from(&outside.networks);
                self.changes.clear();
                blocks.clone_from(&outside.blocks);
            }
        }
        for (key, text) in called {
            for peer in [&mut self.egress, &mut self.ingress].into_iter().flat_map(peers) {
                peer.reason = peer.reason.replace(&key, &text);
            }
        }
        blocks
    }
}

/// What several answers come to.
fn together(decisions: &[Decision]) -> Outcome {
    let has = |wanted| decisions.contains(&wanted);
    match (has(Decision::Allowed), has(Decision::Denied), has(Decision::Unknown)) {
        (_, _, true) => Outcome::Unknown,
        (true, true, false) => Outcome::Partly,
        (false, true, false) => Outcome::Denied,
        (_, false, false) => Outcome::Allowed,
    }
}

/// The families, of `asked`, in which both ends can speak.
fn common(from: &End, to: &End, asked: &[Family], snapshot: &Snapshot) -> Vec<Family> {
    let of = |end: &End| match end {
        End::Pod(key) => match snapshot.pods.get(key) {
            Some(pod) => spoken(pod),
            None => Family::ALL.to_vec(),
        },
        End::Node(_) => Family::ALL.to_vec(),
        End::Address(address) => vec![Family::of(*address)],
    };
    let (from, to) = (of(from), of(to));
    asked.iter().copied().filter(|f| from.contains(f) && to.contains(f)).collect()
}

/// Adds `answer`, as a further family of one that agrees with it where there is one.
fn fold(answers: &mut Vec<Answer>, answer: Answer) {
    match answers.iter_mut().find(|old| agree(old, &answer)) {
        Some(old) => {
            old.families.extend(answer.families);
            explain_blocks(&mut old.egress, answer.egress);
            explain_blocks(&mut old.ingress, answer.ingress);
        }
        None => answers.push(answer),
    }
}

/// Whether two answers for one pair are the same but for their family.
fn agree(a: &Answer, b: &Answer) -> bool {
    (&a.from, &a.to) == (&b.from, &b.to) && a.families != b.families && bare(a) == bare(b)
}

/// An answer without the ends, the families and the words that speak of names and addresses.
fn bare(answer: &Answer) -> Answer {
    let mut bare = answer.clone();
    bare.from.clear();
    bare.to.clear();
    bare.families.clear();
    bare.changes.clear();
    for half in [&mut bare.egress, &mut bare.ingress] {
        half.subject = None;
        for peer in peers(half) {
            peer.outcome = "";
            peer.reason.clear();
        }
    }
    bare
}

fn peers(half: &mut HalfAnswer) -> impl Iterator<Item = &mut PeerAnswer> {
    let audits = half.audits.iter_mut().map(|audit| &mut audit.policy);
    let policies = half.policies.iter_mut().chain(audits);
    policies.flat_map(|policy| &mut policy.rules).flat_map(|rule| &mut rule.peers)
}

/// Takes the words about blocks of the other family from the answer that is of it.
fn explain_blocks(half: &mut HalfAnswer, mut other: HalfAnswer) {
    for (peer, other) in peers(half).zip(peers(&mut other)) {
        if peer.outcome == "otherFamily" {
            *peer = other.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_differ_are_partly_allowed_unless_one_cannot_be_told() {
        use Decision::{Allowed, Denied, Unknown};
        for (decisions, outcome) in [
            (vec![Allowed, Allowed], Outcome::Allowed),
            (vec![Denied], Outcome::Denied),
            (vec![Allowed, Denied], Outcome::Partly),
            (vec![Allowed, Denied, Unknown], Outcome::Unknown),
        ] {
            assert_eq!(together(&decisions), outcome, "{decisions:?}");
        }
    }
}
