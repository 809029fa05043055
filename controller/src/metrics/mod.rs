//! What Prometheus is shown.
//!
//! Every name, its labels and what it is for are in `controller/docs/metrics.md`; a test holds the two
//! together. Invariants: units are base units; label values are words of the program, never those of
//! an input; recording never fails and never waits for a scrape; the same values are written out as
//! the same bytes.

mod groups;
mod process;
mod series;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use policy_compiler::cidr::Family;
use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::Direction;
use policy_compiler::ruleset::Ruleset;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use self::groups::{
    AgentSeries, SizeSeries, SourceSeries, WriteSeries, direction_label, family_label, stage_label,
};
use self::process::Process;
use crate::dataplane::backend::Backend;
use crate::dataplane::{Drift, Outcome};
use crate::inspect::ConcernKind;
use crate::source::{Kind, Standing};

/// What has come from the API server, of one kind of object.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Objects, in lists and in events.
    pub objects: Counter,
    /// Bytes of answers, headers left out.
    pub bytes: Counter,
}

/// How many watches of pods there are, by what they are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watches {
    /// Of the node's own pods.
    pub node: usize,
    /// Of single namespaces.
    pub namespace: usize,
    /// Of all namespaces, by labels.
    pub labels: usize,
    /// Of all pods.
    pub all: usize,
}

/// What became of a Kubernetes Event that was to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The API server has it.
    Published,
    /// The API server does not take it.
    Failed,
    /// There were too many.
    Dropped,
}

impl Told {
    /// All of them.
    pub const ALL: [Told; 3] = [Told::Published, Told::Failed, Told::Dropped];

    fn label(self) -> &'static str {
        match self {
            Told::Published => "published",
            Told::Failed => "failed",
            Told::Dropped => "dropped",
        }
    }
}

/// All metrics; whoever counts has a share of it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    agent: AgentSeries,
    writes: WriteSeries,
    sizes: SizeSeries,
    sources: SourceSeries,
    /// Since when each part of the source fails. Told anew at each scrape: the loop may hang.
    failing: RwLock<BTreeMap<&'static str, Option<Instant>>>,
}

impl Metrics {
    /// All at zero, with what the process itself takes.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut metrics = Self::without_process();
        metrics.registry.register_collector(Box::new(Process));
        Arc::new(metrics)
    }

    /// All at zero.
    fn without_process() -> Self {
        let mut registry = Registry::default();
        Self {
            agent: AgentSeries::register(&mut registry),
            writes: WriteSeries::register(&mut registry),
            sizes: SizeSeries::register(&mut registry),
            sources: SourceSeries::register(&mut registry),
            failing: RwLock::default(),
            registry,
        }
    }

    /// Says which iptables is written to, and to no other.
    pub fn writes_to(&self, backend: Backend) {
        let backend = match backend {
            Backend::Nft => "nft",
            Backend::Legacy => "legacy",
        };
        self.agent.build.only([env!("CARGO_PKG_VERSION"), backend]).set(1);
    }

    /// A change that came `after` ago is now in the kernel.
    pub fn enforced(&self, kind: Kind, after: Duration) {
        self.writes.enforced.of([kind.resource()]).observe(after.as_secs_f64());
    }

    /// How a write, or a reading of what was written, fared in one family. Where nothing was asked of
    /// it there is no duration to tell.
    pub fn written(&self, family: Family, outcome: &Outcome, took: Duration) {
        let family = family_label(family);
        match outcome {
            Outcome::Absent => return,
            Outcome::Unchanged => {}
            Outcome::Written(_) => {
                self.writes.apply_duration.of([family, "written"]).observe(took.as_secs_f64());
            }
            Outcome::Failed(error) => {
                self.writes.apply_duration.of([family, "failed"]).observe(took.as_secs_f64());
                self.writes.apply_failures.of([family, stage_label(error)]).inc();
                return;
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.writes.last_success.of([family]).set(now.as_secs_f64());
    }

    /// Something that others changed was put right.
    pub fn drift_repaired(&self, family: Family, drift: Drift) {
        self.writes.drift_repairs.of([family_label(family), drift.label()]).inc();
    }

    /// So many more packets were denied.
    pub fn denied(&self, family: Family, direction: Direction, packets: u64) {
        let labels = [family_label(family), direction_label(direction)];
        self.writes.denied.of(labels).inc_by(packets);
    }

    /// So many more packets passed that audited policies would deny, each once for every such policy.
    pub fn audited(&self, family: Family, direction: Direction, packets: u64) {
        let labels = [family_label(family), direction_label(direction)];
        self.writes.audited.of(labels).inc_by(packets);
    }

    /// What is in force: policies of the cluster, pods of this node, and the rules. Walks all chains and
    /// sets; now and then is enough.
    pub fn in_force(&self, policies: usize, local_pods: usize, ruleset: &Ruleset) {
        self.sizes.policies.set(whole(policies));
        self.sizes.local_pods.set(whole(local_pods));
        for family in Family::ALL {
            let sizes = ruleset.family(family).sizes();
            let family = [family_label(family)];
            self.sizes.chains.of(family).set(whole(sizes.chains));
            self.sizes.rules.of(family).set(whole(sizes.rules));
            self.sizes.sets.of(family).set(whole(sizes.sets));
            self.sizes.members.of(family).set(whole(sizes.members));
        }
    }

    /// What is wrong in the objects of the cluster, and the policies that the kernel refuses a rule of:
    /// those and the policies with an error are counted.
    pub fn diagnosed<'a>(
        &self,
        diagnostics: impl IntoIterator<Item = &'a Diagnostic>,
        refused: impl IntoIterator<Item = &'a ObjectKey>,
    ) {
        let mut failing: BTreeSet<(&str, &str)> = diagnostics
            .into_iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .filter_map(|diagnostic| diagnostic.object.as_ref())
            .filter(|object| object.kind == "NetworkPolicy")
            .map(|object| (object.namespace.as_deref().unwrap_or_default(), &*object.name))
            .collect();
        failing.extend(refused.into_iter().map(|key| (key.namespace.as_str(), key.name.as_str())));
        self.sizes.failing_closed.set(whole(failing.len()));
    }

    /// How many files or objects cannot be read.
    pub fn problems(&self, count: usize) {
        self.sources.problems.set(whole(count));
    }

    /// How many rules the kernel refuses.
    pub fn refused(&self, count: usize) {
        self.writes.refused.set(whole(count));
    }

    /// How a part of the source stands.
    pub fn standing(&self, standing: &Standing) {
        let resource = standing.kind.resource();
        self.sources.listed.of([resource]).set(i64::from(standing.listed));
        let since = standing.failing.as_ref().map(|(since, _)| *since);
        let mut failing = self.failing.write().unwrap_or_else(PoisonError::into_inner);
        failing.insert(resource, since);
    }

    /// Where it is counted what comes of a kind.
    #[must_use]
    pub fn received(&self, kind: Kind) -> Received {
        let resource = [kind.resource()];
        Received {
            objects: self.sources.objects.of(resource),
            bytes: self.sources.bytes.of(resource),
        }
    }

    /// How pods are watched.
    pub fn watches(&self, watches: Watches) {
        let Watches { node, namespace, labels, all } = watches;
        for (scope, count) in
            [("node", node), ("namespace", namespace), ("labels", labels), ("all", all)]
        {
            self.sources.watches.of([scope]).set(whole(count));
        }
    }

    /// The kinds of what is of concern about the node, one for each finding.
    pub fn concerns(&self, kinds: impl IntoIterator<Item = ConcernKind>) {
        let mut counts: BTreeMap<&'static str, i64> =
            ConcernKind::ALL.map(|kind| (kind.label(), 0)).into();
        for kind in kinds {
            *counts.entry(kind.label()).or_default() += 1;
        }
        for (kind, count) in counts {
            self.agent.concerns.of([kind]).set(count);
        }
    }

    /// Whether the kernel holds what it should.
    pub fn ready(&self, ready: bool) {
        self.agent.ready.set(i64::from(ready));
    }

    /// How many programs were started so far; one thread tells.
    pub fn processes(&self, started: u64) {
        self.agent.processes.inc_by(started.saturating_sub(self.agent.processes.get()));
    }

    /// What became of a Kubernetes Event.
    pub fn told(&self, told: Told) {
        self.agent.events.of([told.label()]).inc();
    }

    /// How often that has become of one.
    #[cfg(test)]
    pub(crate) fn count_of(&self, told: Told) -> u64 {
        self.agent.events.of([told.label()]).get()
    }

    /// All of them in the text format of `OpenMetrics`.
    #[must_use]
    pub fn encode(&self) -> String {
        self.encode_at(Instant::now())
    }

    fn encode_at(&self, now: Instant) -> String {
        for (resource, since) in self.failing.read().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let stale = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            self.sources.stale.of([resource]).set(stale.as_secs_f64());
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
