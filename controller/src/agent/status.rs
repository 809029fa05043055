//! What the running agent enforces, as it says it over its socket.
//!
//! The loop hands out clones of what the answer is made of; what follows from them is worked out on the
//! client's thread. Names and texts are as the cluster has them: whoever shows them escapes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::policy::{Direction, Policy};
use policy_compiler::ruleset::{FamilyRules, Sizes};
use serde::{Deserialize, Serialize};

use super::look::Unanswered;
use super::serve::Context;
use crate::dataplane::FamilyState;
use crate::health::Readiness;
use crate::sync::View;

/// The kind of policies in diagnostics.
const POLICY: &str = "NetworkPolicy";

/// What is in force on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node, as its pods name it.
    pub node: String,
    /// The version of policyd.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Which iptables it writes to: `nft` or `legacy`.
    pub backend: String,
    /// For how long it has run, in seconds.
    pub uptime_seconds: u64,
    /// Whether the kernel holds what follows from every input.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What deserves a look and is no reason not to be ready.
    pub notes: Vec<String>,
    /// How each part of the source stands; none where it tells of no parts.
    pub source: Vec<SourcePart>,
    /// How long ago the kernel was last changed, in seconds; absent where it was not.
    pub updated_seconds_ago: Option<u64>,
    /// How many there are of what.
    pub counts: Counts,
    /// What each family holds.
    pub families: Vec<FamilyStatus>,
    /// The live pods of this node, in the order of their names.
    pub pods: Vec<PodStatus>,
    /// The policies of the cluster that are audited only, as `NAMESPACE/NAME`.
    #[serde(default)]
    pub audit_only: Vec<String>,
    /// The policies that have mistakes, and so allow less than they seem to.
    pub failing_closed: Vec<FailingPolicy>,
}

/// How a part of the source stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePart {
    /// Which: `pods`, `namespaces`, `networkpolicies`, `nodes`.
    pub resource: String,
    /// Whether it was ever listed whole.
    pub listed: bool,
    /// For how long it has failed, in seconds, where it does.
    pub failing_seconds: Option<u64>,
    /// Why it fails.
    pub failure: Option<String>,
}

/// How many there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Policies of the cluster.
    pub policies: usize,
    /// Pods of the cluster, of whatever phase.
    pub pods: usize,
    /// Namespaces of the cluster that are declared.
    pub namespaces: usize,
    /// Live pods of this node.
    pub local_pods: usize,
    /// Those of them that are isolated for ingress.
    pub isolated_ingress: usize,
    /// Those of them that are isolated for egress.
    pub isolated_egress: usize,
}

/// What one family holds, as far as policyd has written it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyStatus {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Whether the kernel holds it.
    pub state: FamilyState,
    /// Chains.
    pub chains: usize,
    /// Rules in them.
    pub rules: usize,
    /// Sets.
    pub sets: usize,
    /// Members of all sets.
    pub members: usize,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// `NAMESPACE/NAME`.
    pub pod: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The policies that isolate it for ingress, by name in its namespace; none: it is not isolated.
    pub ingress: Vec<String>,
    /// The policies that isolate it for egress.
    pub egress: Vec<String>,
    /// The policies that would isolate it for ingress and are audited only.
    #[serde(default)]
    pub audited_ingress: Vec<String>,
    /// The policies that would isolate it for egress and are audited only.
    #[serde(default)]
    pub audited_egress: Vec<String>,
}

/// A policy that allows less than it seems to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingPolicy {
    /// `NAMESPACE/NAME`.
    pub policy: String,
    /// What is wrong in it, a line each.
    pub mistakes: Vec<String>,
}

/// What the loop hands out.
struct Facts {
    status: Status,
    local: Local,
    mistakes: Vec<Diagnostic>,
}

/// The pods of a node, and the policies of their namespaces without their rules.
pub(super) struct Local(Snapshot);

/// What is in force.
pub(super) fn of(context: &Context) -> Result<Status, Unanswered> {
    let since = context.since;
    let facts = context.look(move |view| facts(view, since))?;
    Ok(facts.conclude())
}

fn facts(view: &View<'_>, since: Instant) -> Facts {
    let objects = view.engine.objects();
    let (ready, reasons) = match view.health.readiness() {
        Readiness::Ready => (true, Vec::new()),
        Readiness::NotReady(reasons) => (false, reasons.iter().cloned().collect()),
        Readiness::Starting => (false, vec!["nothing has been written yet".to_owned()]),
    };
    let families = view.dataplane.states().map(|(family, state)| {
        family_status(family.to_string(), state, view.engine.ruleset().family(family))
    });
    let source = view.standing.values().map(|part| SourcePart {
        resource: part.kind.resource().to_owned(),
        listed: part.listed,
        failing_seconds: part.failing.as_ref().map(|(since, _)| since.elapsed().as_secs()),
        failure: part.failing.as_ref().map(|(_, why)| why.clone()),
    });
    let audited = objects.policies.values().filter(|policy| objects.audits(policy));
    let status = Status {
        node: view.settings.node.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        backend: view.dataplane.backend().to_string(),
        uptime_seconds: since.elapsed().as_secs(),
        ready,
        reasons,
        notes: view.health.notes().values().map(|note| note.as_of(Instant::now())).collect(),
        source: source.collect(),
        updated_seconds_ago: view.updated.map(|at| at.elapsed().as_secs()),
        counts: Counts {
            policies: objects.policies.len(),
            pods: view.engine.pods(),
            namespaces: objects.namespaces.len(),
            ..Counts::default()
        },
        families: families.into(),
        pods: Vec::new(),
        audit_only: audited.map(|policy| policy.key.to_string()).collect(),
        failing_closed: Vec::new(),
    };
    let mistakes = view.listed.iter().chain(view.engine.diagnostics());
    let mistakes = mistakes.filter(|found| found.severity == Severity::Error).cloned().collect();
    Facts { status, local: Local::of(view), mistakes }
}

fn family_status(family: String, state: FamilyState, rules: &FamilyRules) -> FamilyStatus {
    let Sizes { chains, rules, sets, members } = rules.sizes();
    FamilyStatus { family, state, chains, rules, sets, members }
}

impl Local {
    /// The pods of this node, which is a clone of few objects.
    pub(super) fn of(view: &View<'_>) -> Self {
        let objects = view.engine.objects();
        let node = Some(&view.settings.node);
        let pods: BTreeMap<_, _> = objects
            .pods
            .iter()
            .filter(|(_, pod)| pod.is_live() && pod.node.as_ref() == node)
            .map(|(key, pod)| (key.clone(), pod.clone()))
            .collect();
        let namespaces: BTreeSet<_> = pods.keys().map(|key| &key.namespace).collect();
        let policies = objects
            .policies
            .iter()
            .filter(|(key, _)| namespaces.contains(&key.namespace))
            .map(|(key, policy)| (key.clone(), without_rules(policy, objects.audits(policy))))
            .collect();
        Self(Snapshot { pods, policies, ..Snapshot::default() })
    }

    /// Each pod with the policies that isolate it.
    pub(super) fn statuses(&self) -> Vec<PodStatus> {
        let evaluator = Evaluator::new(&self.0);
        let names = |policies: Vec<&Policy>| -> Vec<String> {
            policies.into_iter().map(|policy| policy.key.name.to_string()).collect()
        };
        let status = |pod: &Pod| PodStatus {
            pod: pod.key.to_string(),
            addresses: pod.addresses.iter().collect(),
            ingress: names(evaluator.isolating(pod, Direction::Ingress)),
            egress: names(evaluator.isolating(pod, Direction::Egress)),
            audited_ingress: names(evaluator.auditing(pod, Direction::Ingress)),
            audited_egress: names(evaluator.auditing(pod, Direction::Egress)),
        };
        self.0.pods.values().map(status).collect()
    }
}

/// A policy as far as isolation goes, with what its namespace says of audits; its rules may be many.
fn without_rules(policy: &Policy, audit: bool) -> Policy {
    Policy {
        key: policy.key.clone(),
        pod_selector: policy.pod_selector.clone(),
        isolates_ingress: policy.isolates_ingress,
        isolates_egress: policy.isolates_egress,
        ingress: Vec::new(),
        egress: Vec::new(),
        audit,
        flawed: policy.flawed,
        location: policy.location.clone(),
    }
}

impl Facts {
    fn conclude(self) -> Status {
        let Facts { mut status, local, mistakes } = self;
        status.pods = local.statuses();
        let isolated = |policies: fn(&PodStatus) -> &Vec<String>| {
            status.pods.iter().filter(|pod| !policies(pod).is_empty()).count()
        };
        status.counts = Counts {
            local_pods: status.pods.len(),
            isolated_ingress: isolated(|pod| &pod.ingress),
            isolated_egress: isolated(|pod| &pod.egress),
            ..status.counts
        };
        status.failing_closed = failing_closed(&mistakes);
        status
    }
}

/// The policies that the mistakes are in.
fn failing_closed(mistakes: &[Diagnostic]) -> Vec<FailingPolicy> {
    let mut policies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mistake in mistakes {
        let Some(object) = mistake.object.as_ref().filter(|object| object.kind == POLICY) else {
            continue;
        };
        let namespace = object.namespace.as_deref().unwrap_or("default");
        let line = Diagnostic { object: None, ..mistake.clone() }.to_string();
        let lines = policies.entry(format!("{namespace}/{}", object.name)).or_default();
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let failing = policies.into_iter();
    failing.map(|(policy, mistakes)| FailingPolicy { policy, mistakes }).collect()
}
