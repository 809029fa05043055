//! The metrics by what they are about, each with its name and what it says.

use std::sync::atomic::AtomicU64;

use policy_compiler::cidr::Family;
use policy_compiler::policy::Direction;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::Told;
use super::series::Series;
use crate::dataplane::{Drift, WriteError};
use crate::inspect::ConcernKind;
use crate::source::Kind;

/// Upper bounds in seconds: from one call over netlink to a program that is killed.
const BUCKETS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];
/// What a write may fail at.
const STAGES: [&str; 7] =
    ["read_table", "read_sets", "create_sets", "set_type", "members", "chains", "hook"];
const DIRECTIONS: [&str; 2] = ["ingress", "egress"];
const FAMILIES: [[&str; 1]; 2] = [["ipv4"], ["ipv6"]];

/// A gauge of seconds.
pub(super) type Seconds = Gauge<f64, AtomicU64>;

/// policyd itself, and its node.
#[derive(Debug)]
pub(super) struct AgentSeries {
    pub(super) build: Series<Gauge, 2>,
    pub(super) ready: Gauge,
    pub(super) concerns: Series<Gauge, 1>,
    pub(super) processes: Counter,
    pub(super) events: Series<Counter, 1>,
}

impl AgentSeries {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let outcomes = Told::ALL.map(|told| [told.label()]);
        let kinds = ConcernKind::ALL.map(|kind| [kind.label()]);
        Self {
            build: add(
                registry,
                "policyd_build_info",
                "Always 1; which policyd this is, and which iptables it writes to",
                Series::new(["version", "backend"], Gauge::default),
            ),
            ready: add(
                registry,
                "policyd_ready",
                "1 where the kernel holds what the policies ask for, as /readyz says",
                Gauge::default(),
            ),
            concerns: add(
                registry,
                "policyd_node_concerns",
                "Things about the node that let traffic past the rules, or may",
                Series::with(["kind"], Gauge::default, kinds),
            ),
            processes: add(
                registry,
                "policyd_processes_started",
                "Programs started, such as iptables-restore",
                Counter::default(),
            ),
            events: add(
                registry,
                "policyd_kubernetes_events",
                "Kubernetes Events, by what became of them",
                Series::with(["outcome"], Counter::default, outcomes),
            ),
        }
    }
}

/// Writes to the kernel.
#[derive(Debug)]
pub(super) struct WriteSeries {
    pub(super) apply_duration: Series<Histogram, 2>,
    pub(super) apply_failures: Series<Counter, 2>,
    pub(super) last_success: Series<Seconds, 1>,
    pub(super) enforced: Series<Histogram, 1>,
    pub(super) drift_repairs: Series<Counter, 2>,
    pub(super) refused: Gauge,
    pub(super) denied: Series<Counter, 2>,
    pub(super) audited: Series<Counter, 2>,
}

impl WriteSeries {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let histogram = || Histogram::new(BUCKETS);
        let resources = [Kind::Pod, Kind::Namespace, Kind::Policy, Kind::Node];
        let drifts = Drift::ALL.map(Drift::label);
        Self {
            apply_duration: add(
                registry,
                "policyd_apply_duration_seconds",
                "How long a write to the kernel took",
                Series::with(["family", "outcome"], histogram, by_family(&["written", "failed"])),
            ),
            apply_failures: add(
                registry,
                "policyd_apply_failures",
                "Writes to the kernel that failed, by what they failed at",
                Series::with(["family", "stage"], Counter::default, by_family(&STAGES)),
            ),
            last_success: add(
                registry,
                "policyd_last_success_timestamp_seconds",
                "When the kernel was last known to hold what it should, since 1970; 0 for never",
                Series::with(["family"], Seconds::default, FAMILIES),
            ),
            enforced: add(
                registry,
                "policyd_event_to_enforced_seconds",
                "From the arrival of a change until the kernel holds what follows from it",
                Series::with(["resource"], histogram, resources.map(|kind| [kind.resource()])),
            ),
            drift_repairs: add(
                registry,
                "policyd_drift_repairs",
                "Times that rules or sets were found changed by others, and put right",
                Series::with(["family", "kind"], Counter::default, by_family(&drifts)),
            ),
            refused: add(
                registry,
                "policyd_refused_rules",
                "Rules that the kernel refuses; what they would allow is denied",
                Gauge::default(),
            ),
            denied: add(
                registry,
                "policyd_denied_packets",
                "Packets that were denied, as the kernel counts them; with --log-denied",
                Series::with(["family", "direction"], Counter::default, by_family(&DIRECTIONS)),
            ),
            audited: add(
                registry,
                "policyd_audited_packets",
                "Packets that passed and that audited policies would deny, once for each such policy",
                Series::with(["family", "direction"], Counter::default, by_family(&DIRECTIONS)),
            ),
        }
    }
}

/// How much is in force.
#[derive(Debug)]
pub(super) struct SizeSeries {
    pub(super) policies: Gauge,
    pub(super) failing_closed: Gauge,
    pub(super) local_pods: Gauge,
    pub(super) chains: Series<Gauge, 1>,
    pub(super) rules: Series<Gauge, 1>,
    pub(super) sets: Series<Gauge, 1>,
    pub(super) members: Series<Gauge, 1>,
}

impl SizeSeries {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let by_family = || Series::with(["family"], Gauge::default, FAMILIES);
        let mut single = |name, help| add(registry, name, help, Gauge::default());
        let policies = single("policyd_policies", "NetworkPolicies of the cluster");
        let failing_closed = single(
            "policyd_policies_failing_closed",
            "NetworkPolicies with an error, or a rule that the kernel refuses: what it concerns is denied",
        );
        let local_pods = single("policyd_local_pods", "Pods of this node");
        let mut pair = |name, help| add(registry, name, help, by_family());
        Self {
            policies,
            failing_closed,
            local_pods,
            chains: pair("policyd_chains", "Chains that enforce the policies"),
            rules: pair("policyd_rules", "Rules in those chains"),
            sets: pair("policyd_sets", "Sets that the rules look up"),
            members: pair("policyd_set_members", "Members of those sets"),
        }
    }
}

/// Where the objects come from.
#[derive(Debug)]
pub(super) struct SourceSeries {
    pub(super) problems: Gauge,
    pub(super) listed: Series<Gauge, 1>,
    pub(super) stale: Series<Seconds, 1>,
    pub(super) objects: Series<Counter, 1>,
    pub(super) bytes: Series<Counter, 1>,
    pub(super) watches: Series<Gauge, 1>,
}

impl SourceSeries {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            problems: add(
                registry,
                "policyd_source_problems",
                "Files or objects that cannot be read; what they last held goes on",
                Gauge::default(),
            ),
            listed: add(
                registry,
                "policyd_source_listed",
                "1 once all objects of the resource were listed; nothing is written before all are",
                Series::new(["resource"], Gauge::default),
            ),
            stale: add(
                registry,
                "policyd_source_staleness_seconds",
                "For how long the API server cannot be followed; 0 while it is",
                Series::new(["resource"], Seconds::default),
            ),
            objects: add(
                registry,
                "policyd_received_objects",
                "Objects that came from the API server, in lists and in events",
                Series::new(["resource"], Counter::default),
            ),
            bytes: add(
                registry,
                "policyd_received_bytes",
                "Bytes of the API server's lists and watches, without headers",
                Series::new(["resource"], Counter::default),
            ),
            watches: add(
                registry,
                "policyd_pod_watches",
                "Watches of pods, by what they are asked for; with --scoped-watch",
                Series::new(["scope"], Gauge::default),
            ),
        }
    }
}

/// Registers a metric and hands it back.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// Each of the words for each family.
fn by_family(words: &[&'static str]) -> Vec<[&'static str; 2]> {
    let pairs = |[family]: [&'static str; 1]| words.iter().map(move |word| [family, *word]);
    FAMILIES.into_iter().flat_map(pairs).collect()
}

pub(super) fn family_label(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

pub(super) fn direction_label(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

pub(super) fn stage_label(error: &WriteError) -> &'static str {
    match error {
        WriteError::ReadTable(_) => "read_table",
        WriteError::ReadSets(_) => "read_sets",
        WriteError::CreateSets(_) | WriteError::MakeSets(_) => "create_sets",
        WriteError::AnotherKind { .. } => "set_type",
        WriteError::Members(_) => "members",
        WriteError::Chains(_) => "chains",
        WriteError::Hook(_) => "hook",
    }
}
