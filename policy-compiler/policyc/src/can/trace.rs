//! The traces of a verdict as data to be written.

use policy_compiler::cluster::Snapshot;
use policy_compiler::policy::{Direction, Policy, Rule};
use policy_compiler::verdict::{
    Because, Decision, Half, PeerTrace, PolicyTrace, PortTrace, RuleTrace,
};
use serde::Serialize;

use crate::answer::{Outcome, Place};
use crate::phrase;
use crate::text::count;

/// What one end's policies say.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HalfAnswer {
    /// `egress` of the source or `ingress` of the destination.
    pub direction: String,
    /// The pod that is judged; absent where that end is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What this half says.
    pub decision: Outcome,
    /// The reason in one word.
    pub because: &'static str,
    /// The reason in a sentence.
    pub summary: String,
    /// Every policy that isolates the subject.
    pub policies: Vec<PolicyAnswer>,
    /// Every policy that would isolate it and is audited only, which changes nothing about the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<AuditAnswer>,
}

/// What one policy says that is audited only.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditAnswer {
    /// What this half would say were it enforced, alone of those that are audited.
    pub enforced: Outcome,
    /// The policy.
    #[serde(flatten)]
    pub policy: PolicyAnswer,
}

/// What one policy says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAnswer {
    /// Namespace and name.
    pub policy: String,
    /// By which labels it selects the subject; empty: every pod.
    pub pod_selector: String,
    /// Its answer.
    pub decision: Outcome,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Its rules for this direction.
    pub rules: Vec<RuleAnswer>,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleAnswer {
    /// `ingress[0]`.
    pub rule: String,
    /// Its answer.
    pub decision: Outcome,
    /// Why it can allow nothing, where it is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Its peers; none where it means everybody.
    pub peers: Vec<PeerAnswer>,
    /// Its ports; none where it means every one.
    pub ports: Vec<PortAnswer>,
}

/// Whether one peer is meant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerAnswer {
    /// `from[0]`.
    pub peer: String,
    /// Whom it means.
    pub means: String,
    /// Whether the other end is that.
    pub decision: Outcome,
    /// How in one word.
    pub outcome: &'static str,
    /// How in words.
    pub reason: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Whether one port is meant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortAnswer {
    /// `ports[0]`.
    pub port: String,
    /// Which it means.
    pub means: String,
    /// Whether the flow's is that.
    pub decision: Outcome,
    /// How in one word.
    pub outcome: &'static str,
    /// How in words; empty where there is nothing to say.
    pub reason: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl HalfAnswer {
    /// `half` of `direction` with the words for its policies, which `snapshot` has.
    #[must_use]
    pub fn of(half: &Half, direction: Direction, snapshot: &Snapshot) -> Self {
        let (because, summary) = reason(half, direction);
        let answer =
            |trace: &PolicyTrace| policy(trace, direction, snapshot.policies.get(&trace.policy));
        Self {
            direction: direction.to_string(),
            subject: half.subject.as_ref().map(ToString::to_string),
            decision: half.decision.into(),
            because,
            summary,
            policies: half.policies.iter().map(answer).collect(),
            audits: half
                .audits
                .iter()
                .map(|audit| AuditAnswer {
                    enforced: audit.decision.into(),
                    policy: answer(&audit.trace),
                })
                .collect(),
        }
    }
}

fn reason(half: &Half, direction: Direction) -> (&'static str, String) {
    let isolated = format!("isolated by {}", count(half.policies.len(), "policy", "policies"));
    match &half.because {
        Because::NotAPod => ("notAPod", "no pod, so no policy applies".to_owned()),
        Because::NotIsolated => {
            ("notIsolated", format!("not isolated: no policy limits its {direction}"))
        }
        Because::RuleAllows => ("ruleAllows", format!("{isolated}, a rule allows it")),
        Because::NoRuleAllows => ("noRuleAllows", format!("{isolated}, no rule allows it")),
        Because::RuleMayAllow => {
            ("ruleMayAllow", format!("{isolated}, a rule may allow it but the input does not tell"))
        }
        Because::OwnNode(node) => {
            ("ownNode", format!("between a pod and its own node {node} everything is allowed"))
        }
        Because::Itself => ("itself", "a pod always reaches itself".to_owned()),
        Because::Spoofed => {
            ("spoofed", "a packet from the pod's own address that it did not send".to_owned())
        }
        Because::LinkLocal => (
            "linkLocal",
            "link-local, broadcast and multicast are dropped on a bridge with isolated pods"
                .to_owned(),
        ),
        Because::NeighbourDiscovery => {
            ("neighbourDiscovery", "neighbour discovery is exempt on a bridge".to_owned())
        }
        Because::UnknownAddress(node) => (
            "unknownAddress",
            format!(
                "an address of the node's pod network that belongs to no pod known yet (node {node})"
            ),
        ),
        Because::NoAddress => ("noAddress", "has no address of this family".to_owned()),
    }
}

fn policy(trace: &PolicyTrace, direction: Direction, policy: Option<&Policy>) -> PolicyAnswer {
    let rules = trace.rules.iter().map(|rule_trace| {
        let written = policy.and_then(|p| p.rules(direction).get(rule_trace.index));
        rule(rule_trace, direction, written, policy)
    });
    PolicyAnswer {
        policy: trace.policy.to_string(),
        pod_selector: if trace.pod_selector.is_everything() {
            String::new()
        } else {
            trace.pod_selector.to_string()
        },
        decision: trace.decision.into(),
        place: Place::of(&trace.location),
        rules: rules.collect(),
    }
}

fn rule(
    trace: &RuleTrace,
    direction: Direction,
    written: Option<&Rule>,
    policy: Option<&Policy>,
) -> RuleAnswer {
    let peers = trace.peers.iter().map(|trace| {
        let written = written.and_then(|rule| phrase::listed_peers(&rule.grant).get(trace.index));
        let means = written
            .zip(policy)
            .map(|(peer, policy)| phrase::peer(&peer.selects, &policy.key.namespace));
        peer(trace, direction, means.unwrap_or_default())
    });
    let ports = trace.ports.iter().map(|trace| {
        let written = written.and_then(|rule| phrase::listed_ports(&rule.grant).get(trace.index));
        port(trace, written.map(phrase::port).unwrap_or_default())
    });
    RuleAnswer {
        rule: format!("{direction}[{}]", trace.index),
        decision: trace.decision.into(),
        invalid: trace.invalid.clone(),
        place: Place::of(&trace.location),
        peers: peers.collect(),
        ports: ports.collect(),
    }
}

fn peer(trace: &PeerTrace, direction: Direction, means: String) -> PeerAnswer {
    PeerAnswer {
        peer: format!("{}[{}]", phrase::peers_field(direction), trace.index),
        means,
        decision: trace.outcome.decision().into(),
        outcome: phrase::peer_word(&trace.outcome),
        reason: phrase::peer_reason(&trace.outcome),
        place: Place::of(&trace.location),
    }
}

fn port(trace: &PortTrace, means: String) -> PortAnswer {
    let decision = if trace.outcome.matched() { Decision::Allowed } else { Decision::Denied };
    PortAnswer {
        port: format!("ports[{}]", trace.index),
        means,
        decision: decision.into(),
        outcome: phrase::port_word(&trace.outcome),
        reason: phrase::port_reason(&trace.outcome),
        place: Place::of(&trace.location),
    }
}
