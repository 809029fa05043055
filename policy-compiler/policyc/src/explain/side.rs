//! One direction of a pod: which rules allow which of today's pods, blocks and ports.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Phase, Pod};
use policy_compiler::flow::End;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::{
    Direction, Grant, PeerSelects, Peers, Policy, PortMatch, PortNumbers, Ports, Rule,
};
use policy_compiler::port::Protocol;
use policy_compiler::selector::Selector;
use policy_compiler::verdict::{PeerOutcome, PolicyTrace, PortOutcome, RuleTrace, Ruling, Verdict};

use crate::answer::{self, Place, RulingNote};
use crate::phrase::{self, Group};
use crate::question::{Questions, no_port, spoken};
use crate::text::count;

use super::refusal::refusals;
use super::{Allowance, PeerGrant, PolicySummary, PortGrant, Side, near};

/// What `evaluate` said about flows between one pod and everybody.
pub(super) struct Findings<'q> {
    pub(super) questions: &'q Questions<'q>,
    unbound: &'q Questions<'q>,
    pub(super) pod: &'q Pod,
    families: Vec<Family>,
    asked: BTreeMap<Direction, Asked>,
}

/// The answers of one direction.
#[derive(Default)]
struct Asked {
    /// What the policies say to a stranger: the isolating policies with all their rules.
    stranger: BTreeMap<(Family, Protocol), Verdict>,
    /// What they say to each other pod.
    pods: BTreeMap<(ObjectKey, Family, Protocol), Verdict>,
}

/// One rule by the policy's place among the traces and its own index.
pub(super) type RuleId = (usize, usize);

impl<'q> Findings<'q> {
    /// Asks about every pair.
    pub(super) fn of(
        questions: &'q Questions<'q>,
        unbound: &'q Questions<'q>,
        pod: &'q Pod,
        families: &[Family],
    ) -> Self {
        let mut findings =
            Self { questions, unbound, pod, families: families.to_vec(), asked: BTreeMap::new() };
        for direction in Direction::ALL {
            let asked = findings.ask(direction);
            findings.asked.insert(direction, asked);
        }
        findings
    }

    fn ask(&self, direction: Direction) -> Asked {
        let subject = End::Pod(self.pod.key.clone());
        let mut asked = Asked::default();
        let protocols = self.telling(direction);
        for &family in &self.families {
            let ask = |other: &End, protocol| {
                self.questions.between(direction, &subject, other, family, no_port(protocol))
            };
            let stranger = self.questions.stranger(family);
            for protocol in Protocol::ALL {
                asked.stranger.insert((family, protocol), ask(&stranger, protocol));
            }
            for other in self.others().filter(|other| spoken(other).contains(&family)) {
                for &protocol in &protocols {
                    let verdict = ask(&End::Pod(other.key.clone()), protocol);
                    asked.pods.insert((other.key.clone(), family, protocol), verdict);
                }
            }
        }
        asked
    }

    /// The protocols that have to be asked of other pods: one shows which peers mean them, and what
    /// a name means at them is shown by its own.
    fn telling(&self, direction: Direction) -> BTreeSet<Protocol> {
        let snapshot = self.questions.snapshot;
        let policies = self.questions.isolating(self.pod, direction);
        let rules = policies
            .iter()
            .filter_map(|key| snapshot.policies.get(key))
            .flat_map(|policy| policy.rules(direction));
        let named = rules
            .flat_map(|rule| phrase::listed_ports(&rule.grant))
            .filter(|port| matches!(port.numbers, PortNumbers::Named(_)))
            .map(|port| port.protocol);
        named.chain([Protocol::Tcp]).collect()
    }

    /// Every pod that can be a peer of this one.
    pub(super) fn others(&self) -> impl Iterator<Item = &'q Pod> {
        let own = &self.pod.key;
        self.questions.snapshot.pods.values().filter(move |pod| pod.is_live() && pod.key != *own)
    }

    /// The families of the question.
    pub(super) fn families(&self) -> &[Family] {
        &self.families
    }

    /// The policies that isolate the pod, as they see a stranger.
    pub(super) fn policies(&self, direction: Direction) -> &[PolicyTrace] {
        self.asked
            .get(&direction)
            .and_then(|asked| asked.stranger.values().next())
            .map_or(&[], |verdict| &verdict.half(direction).policies)
    }

    /// The policies that are audited only, as they see a stranger.
    pub(super) fn audits(&self, direction: Direction) -> impl Iterator<Item = &PolicyTrace> {
        let verdict = self.asked.get(&direction).and_then(|asked| asked.stranger.values().next());
        let audits = verdict.into_iter().flat_map(move |verdict| &verdict.half(direction).audits);
        audits.map(|audit| &audit.trace)
    }

    /// The policy behind a trace.
    pub(super) fn policy(&self, trace: &PolicyTrace) -> Option<&'q Policy> {
        self.questions.snapshot.policies.get(&trace.policy)
    }

    /// What a rule says to flows with `other`, one trace a family and protocol.
    pub(super) fn traces(
        &self,
        direction: Direction,
        other: &ObjectKey,
        (policy, rule): RuleId,
    ) -> impl Iterator<Item = (Family, Protocol, &RuleTrace)> {
        let pods = self.asked.get(&direction).map(|asked| &asked.pods);
        let keys = self
            .families
            .iter()
            .flat_map(|family| Protocol::ALL.map(|protocol| (other.clone(), *family, protocol)));
        keys.filter_map(move |key| {
            let verdict = pods?.get(&key)?;
            let trace = verdict.half(direction).policies.get(policy)?.rules.get(rule)?;
            Some((key.1, key.2, trace))
        })
    }

    /// The pods that a listed peer of a rule means today, with the families for which it does.
    pub(super) fn meant(
        &self,
        direction: Direction,
        rule: RuleId,
        peer: usize,
    ) -> BTreeMap<ObjectKey, BTreeSet<Family>> {
        let mut meant: BTreeMap<ObjectKey, BTreeSet<Family>> = BTreeMap::new();
        for other in self.others() {
            for (family, _, trace) in self.traces(direction, &other.key, rule) {
                let outcome = trace.peers.get(peer).map(|trace| &trace.outcome);
                if matches!(
                    outcome,
                    Some(PeerOutcome::MatchedPod { .. } | PeerOutcome::MatchedBlock { .. })
                ) {
                    meant.entry(other.key.clone()).or_default().insert(family);
                }
            }
        }
        meant
    }

    /// The rulings that some answer rests on.
    pub(super) fn rulings(&self) -> Vec<RulingNote> {
        let mut all: BTreeSet<Ruling> = BTreeSet::new();
        for asked in self.asked.values() {
            let verdicts = asked.stranger.values().chain(asked.pods.values());
            all.extend(verdicts.flat_map(|verdict| verdict.rulings.iter().copied()));
        }
        answer::rulings(&all)
    }

    /// The answer for one direction.
    pub(super) fn side(&self, direction: Direction) -> Side {
        if super::exempt(self.pod).is_none() && self.families.is_empty() {
            return self.mute(direction);
        }
        let policies = self.policies(direction);
        let isolated = !policies.is_empty();
        Side {
            direction: direction.to_string(),
            isolated,
            summary: self.sentence(direction),
            policies: policies.iter().map(policy_summary).collect(),
            audits: self.audits(direction).map(policy_summary).collect(),
            allowed: if isolated { self.allowed(direction) } else { Vec::new() },
            otherwise: if isolated { "dropped" } else { "allowed" },
            near_misses: if isolated { near::misses(self, direction) } else { Vec::new() },
        }
    }

    /// A direction of a pod that speaks no family that is asked: there is nothing to allow or drop.
    fn mute(&self, direction: Direction) -> Side {
        let summary = |key: &ObjectKey| {
            let policy = self.questions.snapshot.policies.get(key)?;
            let rules = policy.rules(direction);
            let invalid = |rule: &&Rule| matches!(rule.grant, Grant::Nothing { .. });
            Some(PolicySummary {
                policy: policy.key.to_string(),
                pod_selector: written(&policy.pod_selector),
                rules: rules.len(),
                invalid_rules: rules.iter().filter(invalid).count(),
                place: Place::of(&policy.location),
            })
        };
        let summaries = |keys: Vec<ObjectKey>| keys.iter().filter_map(summary).collect();
        let policies: Vec<PolicySummary> = summaries(self.questions.isolating(self.pod, direction));
        let spoken = spoken(self.pod);
        let lacks = Family::ALL.into_iter().find(|family| !spoken.contains(family));
        Side {
            direction: direction.to_string(),
            isolated: !policies.is_empty(),
            summary: format!("no {} address", lacks.unwrap_or(Family::V6)),
            policies,
            audits: summaries(self.questions.auditing(self.pod, direction)),
            allowed: Vec::new(),
            otherwise: "nothing",
            near_misses: Vec::new(),
        }
    }

    fn sentence(&self, direction: Direction) -> String {
        let policies = self.policies(direction).len();
        let other = match direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        let kind = match direction {
            Direction::Ingress => "Ingress",
            Direction::Egress => "Egress",
        };
        if super::exempt(self.pod).is_some() {
            "not isolated: no policy applies to it.".to_owned()
        } else if policies > 0 {
            format!("isolated by {}", count(policies, "policy", "policies"))
        } else if self.audits(direction).next().is_some() {
            "not isolated: the policies that select it are audited only. Everything is allowed."
                .to_owned()
        } else if self.policies(other).is_empty() && self.audits(other).next().is_none() {
            "not isolated: no policy selects it. Everything is allowed.".to_owned()
        } else {
            format!("not isolated: no selecting policy lists {kind}. Everything is allowed.")
        }
    }

    fn allowed(&self, direction: Direction) -> Vec<Allowance> {
        let mut allowed = Vec::new();
        for (p, trace) in self.policies(direction).iter().enumerate() {
            let Some(policy) = self.policy(trace) else { continue };
            for (r, rule) in policy.rules(direction).iter().enumerate() {
                let Grant::Traffic { peers, ports: written } = &rule.grant else { continue };
                let ports = self.ports(direction, (p, r), written);
                if ports.is_empty() {
                    continue;
                }
                allowed.push(Allowance {
                    peers: self.peers(direction, (p, r), policy, (peers, written)),
                    ports,
                    policy: Some(policy.key.to_string()),
                    rule: Some(format!("{direction}[{r}]")),
                    place: Place::of(&rule.location),
                });
            }
        }
        allowed.push(own_node());
        allowed
    }

    fn peers(
        &self,
        direction: Direction,
        rule: RuleId,
        policy: &Policy,
        (peers, ports): (&Peers, &Ports),
    ) -> Vec<PeerGrant> {
        let Peers::Listed(peers) = peers else {
            let everyone = self.others().map(|other| other.key.clone()).collect();
            return vec![PeerGrant {
                kind: "everyone",
                peer: None,
                means: "everybody (any address)".to_owned(),
                pods: Vec::new(),
                on_host_network: Vec::new(),
                denied_by_peer: refusals(self, direction, ports, &everyone),
                only: None,
            }];
        };
        let field = phrase::peers_field(direction);
        let grant = |(i, peer): (usize, &policy_compiler::policy::Peer)| {
            let meant = self.meant(direction, rule, i);
            let keys: BTreeSet<ObjectKey> = meant.keys().cloned().collect();
            PeerGrant {
                kind: match peer.selects {
                    PeerSelects::Pods { .. } => "pods",
                    PeerSelects::Block(_) => "ipBlock",
                },
                peer: Some(format!("{field}[{i}]")),
                means: phrase::peer(&peer.selects, &policy.key.namespace),
                pods: phrase::groups(&keys, self.questions.snapshot),
                on_host_network: self.on_host_network(direction, rule, i),
                denied_by_peer: refusals(self, direction, ports, &keys),
                only: self.only(&peer.selects),
            }
        };
        peers.iter().enumerate().map(grant).collect()
    }

    /// The pods that a peer would mean if they did not use their node's network.
    fn on_host_network(&self, direction: Direction, rule: RuleId, peer: usize) -> Vec<Group> {
        let subject = End::Pod(self.pod.key.clone());
        let bound = self.questions.snapshot.pods.values();
        let bound = bound.filter(|pod| pod.host_network && pod.phase != Phase::Finished);
        let keys = bound.map(|pod| pod.key.clone()).filter(|key| *key != self.pod.key);
        let meant: BTreeSet<ObjectKey> = keys
            .filter(|key| {
                let other = End::Pod(key.clone());
                self.families.iter().any(|&family| {
                    let traffic = no_port(Protocol::Tcp);
                    let verdict =
                        self.unbound.between(direction, &subject, &other, family, traffic);
                    let trace = verdict.half(direction).policies.get(rule.0);
                    let trace = trace.and_then(|trace| trace.rules.get(rule.1)?.peers.get(peer));
                    matches!(trace.map(|t| &t.outcome), Some(PeerOutcome::MatchedPod { .. }))
                })
            })
            .collect();
        phrase::groups(&meant, self.unbound.snapshot)
    }

    /// The one family that a block is of, where the pod speaks others.
    fn only(&self, selects: &PeerSelects) -> Option<String> {
        match selects {
            PeerSelects::Block(block) => {
                let family = Family::of_net(&block.cidr());
                (self.families != [family]).then(|| family.to_string())
            }
            PeerSelects::Pods { .. } => None,
        }
    }

    /// The ports of a rule; none where it lists only names that resolve nowhere.
    fn ports(&self, direction: Direction, rule: RuleId, ports: &Ports) -> Vec<PortGrant> {
        let Ports::Listed(ports) = ports else {
            let any = "any".to_owned();
            return vec![PortGrant { means: any.clone(), numbers: Vec::new(), text: any }];
        };
        let grant = |(i, port): (usize, &PortMatch)| {
            let resolved = self.resolved(direction, rule, i, port);
            resolved.map(|numbers| self.port_grant(direction, port, numbers))
        };
        ports.iter().enumerate().filter_map(grant).collect()
    }

    /// The numbers that a listed port stands for: none of them for one that is no name, nothing for
    /// a name that resolves nowhere.
    pub(super) fn resolved(
        &self,
        direction: Direction,
        rule: RuleId,
        port: usize,
        written: &PortMatch,
    ) -> Option<Vec<u16>> {
        if !matches!(written.numbers, PortNumbers::Named(_)) {
            return Some(Vec::new());
        }
        let mut numbers: BTreeSet<u16> = BTreeSet::new();
        let mut take = |trace: Option<&RuleTrace>| {
            let outcome = trace.and_then(|t| t.ports.get(port)).map(|t| &t.outcome);
            if let Some(PortOutcome::NameMeansOther(_, _, meant)) = outcome {
                numbers.extend(meant);
            }
        };
        match direction {
            // The pod itself is the destination, whoever calls.
            Direction::Ingress => {
                for verdict in
                    self.asked.get(&direction).into_iter().flat_map(|a| a.stranger.values())
                {
                    let half = verdict.half(direction);
                    take(half.policies.get(rule.0).and_then(|policy| policy.rules.get(rule.1)));
                }
            }
            Direction::Egress => {
                for other in self.others() {
                    for (_, _, trace) in self.traces(direction, &other.key, rule) {
                        let meant = trace.peers.is_empty()
                            || trace.peers.iter().any(|peer| {
                                peer.outcome.decision()
                                    != policy_compiler::verdict::Decision::Denied
                            });
                        if meant {
                            take(Some(trace));
                        }
                    }
                }
            }
        }
        (!numbers.is_empty()).then(|| numbers.into_iter().collect())
    }

    fn port_grant(&self, direction: Direction, port: &PortMatch, numbers: Vec<u16>) -> PortGrant {
        let text = match (&port.numbers, numbers.as_slice()) {
            (PortNumbers::Named(name), numbers) if !numbers.is_empty() => {
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                format!("{}/{} ({name})", numbers.join(","), port.protocol)
            }
            (PortNumbers::Range(range), _) if range.first() == range.last() => {
                let pod = (direction == Direction::Ingress).then_some(self.pod);
                phrase::number(range.first().get(), port.protocol, pod)
            }
            _ => phrase::port(port),
        };
        PortGrant { means: phrase::port(port), numbers, text }
    }
}

/// A selector as `kubectl -l` writes it; empty: everything.
fn written(selector: &Selector) -> String {
    if selector.is_everything() { String::new() } else { selector.to_string() }
}

fn policy_summary(trace: &PolicyTrace) -> PolicySummary {
    PolicySummary {
        policy: trace.policy.to_string(),
        pod_selector: written(&trace.pod_selector),
        rules: trace.rules.len(),
        invalid_rules: trace.rules.iter().filter(|rule| rule.invalid.is_some()).count(),
        place: Place::of(&trace.location),
    }
}

fn own_node() -> Allowance {
    Allowance {
        peers: vec![PeerGrant {
            kind: "ownNode",
            peer: None,
            means: "the node it runs on".to_owned(),
            pods: Vec::new(),
            on_host_network: Vec::new(),
            denied_by_peer: Vec::new(),
            only: None,
        }],
        ports: vec![PortGrant { means: "any".into(), numbers: Vec::new(), text: "any".into() }],
        policy: None,
        rule: None,
        place: None,
    }
}
