//! `policyc explain pod`: what selects a pod, who may reach it and whom it may reach.
//!
//! [`side`] asks `evaluate` about every pod of the input and about strangers, and turns the traces
//! around: from "what says each rule to this flow" to "which flows does each rule allow". [`near`]
//! looks through the same traces for peers that a rule misses narrowly, [`refusal`] at what the peers'
//! own policies say. [`text()`] writes the result.
//!
//! Nothing fails once the pod is found. A pod that policy does not touch (hostNetwork, finished) is
//! explained as that.

mod near;
pub mod policy;
mod refusal;
mod side;
mod text;
mod warn;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Phase, Pod};
use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::Direction;
use serde::Serialize;

use crate::answer::{Certainty, Place, RulingNote, Warning};
use crate::phrase::Group;
use crate::question::{Questions, spoken};

pub use near::NearMiss;
pub use refusal::Refusal;
pub use text::text;

/// All about one pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodExplanation {
    /// The pod.
    pub pod: PodSummary,
    /// Why no policy applies to it at all, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exempt: Option<String>,
    /// The families that the explanation is about.
    pub families: Vec<String>,
    /// What may come in.
    pub ingress: Side,
    /// What may go out.
    pub egress: Side,
    /// Whether the specification settles all of this.
    pub certainty: Certainty,
    /// The choices that it rests on.
    pub rulings: Vec<RulingNote>,
    /// What is odd about the input where it concerns this pod.
    pub warnings: Vec<Warning>,
}

/// What the input says about a pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSummary {
    /// Its namespace.
    pub namespace: String,
    /// Its name; that of the workload for a template.
    pub name: String,
    /// The workload that made or will make it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadSummary>,
    /// Whether this stands for pods that a template will make.
    pub template: bool,
    /// `Pending`, `Running` or `Finished`.
    pub phase: &'static str,
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether it shares its node's network.
    pub host_network: bool,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its labels.
    pub labels: serde_json::Map<String, serde_json::Value>,
    /// The ports that its containers declare.
    pub ports: Vec<PortSummary>,
    /// Where it stands in the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkloadSummary {
    /// `Deployment`, ...
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How many pods it is to have.
    pub replicas: u32,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortSummary {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its number.
    pub port: u16,
    /// `TCP`, ...
    pub protocol: String,
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// `ingress` or `egress`.
    pub direction: String,
    /// Whether some policy isolates the pod.
    pub isolated: bool,
    /// The reason in a sentence.
    pub summary: String,
    /// The policies that isolate it, in the order of their names.
    pub policies: Vec<PolicySummary>,
    /// Those that would isolate it and are audited only: they neither isolate nor allow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<PolicySummary>,
    /// What is allowed, rule by rule.
    pub allowed: Vec<Allowance>,
    /// What everything else meets: `dropped`, `allowed`, or `nothing` where the pod has no address of
    /// the family asked, so that there is no traffic at all.
    pub otherwise: &'static str,
    /// Peers and ports that a rule misses narrowly, nearest first.
    pub near_misses: Vec<NearMiss>,
}

/// A policy that isolates the pod, or would.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicySummary {
    /// Namespace and name.
    pub policy: String,
    /// By which labels it selects the pod, as `kubectl -l` writes it; empty: every pod.
    pub pod_selector: String,
    /// How many rules it has for this direction.
    pub rules: usize,
    /// How many of them are invalid and so allow nothing.
    pub invalid_rules: usize,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// What one rule allows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Allowance {
    /// With whom.
    pub peers: Vec<PeerGrant>,
    /// On which ports.
    pub ports: Vec<PortGrant>,
    /// The policy; absent for what is always allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The rule in it, such as `ingress[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Where the rule stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// One peer of a rule, or everybody.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerGrant {
    /// `pods`, `ipBlock`, `everyone` or `ownNode`.
    pub kind: &'static str,
    /// The peer in the rule, such as `from[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Whom it means, in words.
    pub means: String,
    /// The pods that it means today, by workload.
    pub pods: Vec<Group>,
    /// Pods with the labels that it does not mean, since they use their node's network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_host_network: Vec<Group>,
    /// The pods among them whose own policies deny what is allowed here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_by_peer: Vec<Refusal>,
    /// Which families it matters for, where that is not all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
}

/// One port of a rule, or every port.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortGrant {
    /// As the rule says it: `8080/TCP`, `http/TCP`, `any`.
    pub means: String,
    /// The numbers that a name stands for at the destinations of today.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<u16>,
    /// As a person reads it: `8080/TCP (http)`.
    #[serde(skip)]
    pub text: String,
}

/// Explains `key`, which must be a pod of the snapshot asked about; `None` where it is not.
/// `unbound` asks about the same without host networks, see [`crate::question::without_host_networks`].
#[must_use]
pub fn explain(
    questions: &Questions<'_>,
    unbound: &Questions<'_>,
    key: &ObjectKey,
    families: &[Family],
    diagnostics: &[Diagnostic],
) -> Option<PodExplanation> {
    let pod = questions.snapshot.pods.get(key)?;
    let asked = families;
    let families: Vec<Family> =
        asked.iter().copied().filter(|family| spoken(pod).contains(family)).collect();
    let findings = side::Findings::of(questions, unbound, pod, &families);
    let ingress = findings.side(Direction::Ingress);
    let egress = findings.side(Direction::Egress);
    let rulings = findings.rulings();
    Some(PodExplanation {
        pod: summary(pod),
        exempt: exempt(pod).or_else(|| mute(asked, &families)),
        families: families.iter().map(ToString::to_string).collect(),
        ingress,
        egress,
        certainty: Certainty::of(&rulings),
        rulings,
        warnings: warn::warnings(&findings, diagnostics),
    })
}

fn exempt(pod: &Pod) -> Option<String> {
    if pod.phase == Phase::Finished {
        Some(
            "has finished: no policy applies to it, and its address may be another pod's"
                .to_owned(),
        )
    } else if pod.host_network {
        Some("uses its node's network: policies see the node, not this pod".to_owned())
    } else {
        None
    }
}

/// Why nothing can be said where the pod speaks no family that is asked.
fn mute(asked: &[Family], spoken: &[Family]) -> Option<String> {
    let family = asked.first().filter(|_| spoken.is_empty())?;
    Some(format!("has no {family} address: over {family} nothing reaches it or comes from it"))
}

fn summary(pod: &Pod) -> PodSummary {
    PodSummary {
        namespace: pod.key.namespace.to_string(),
        name: pod.key.name.to_string(),
        workload: pod.workload.as_ref().map(|workload| WorkloadSummary {
            kind: workload.kind.to_string(),
            name: workload.name.to_string(),
            replicas: workload.replicas,
        }),
        template: pod.template,
        phase: match pod.phase {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Finished => "Finished",
        },
        node: pod.node.as_ref().map(ToString::to_string),
        host_network: pod.host_network,
        addresses: pod.addresses.iter().map(|address| address.to_string()).collect(),
        labels: pod.labels.iter().map(|(k, v)| (k.to_owned(), v.into())).collect(),
        ports: pod
            .ports
            .iter()
            .map(|port| PortSummary {
                name: port.name.as_ref().map(ToString::to_string),
                port: port.number.get(),
                protocol: port.protocol.to_string(),
            })
            .collect(),
        place: Place::of(&pod.location),
    }
}
