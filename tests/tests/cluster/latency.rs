//! How long after a write to the API packets meet it, and what policyd says of that itself.

use std::time::{Duration, Instant};

use policy_tests::cluster::agent::Agent;
use policy_tests::cluster::prober::Prober;
use policy_tests::cluster::table::PATIENCE;
use policy_tests::cluster::{Cluster, Plan};
use serde_json::json;

use crate::changes::expect_kernels;
use crate::churn::fort;
use crate::crowd::{Crowd, Dice};

super::cluster_tests!(packets_meet_a_change_soon_after_it_was_written);

/// How often is tried whether a change is in force.
const EVERY: Duration = Duration::from_millis(1);
/// How long it is quiet between two changes, so that none waits for the one before: to know that a
/// packet passes, the other family's rules and the old sets are not waited for.
const IDLE: Duration = Duration::from_millis(250);
/// A change takes a few milliseconds; this is what a machine with much else to do may take.
const BOUND: Duration = Duration::from_secs(5);

fn packets_meet_a_change_soon_after_it_was_written() {
    measure(0, 0, 10);
}

/// The times of one kind of change.
#[derive(Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    fn quantile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
    }

    fn report(&self, what: &str) {
        println!(
            "event to enforced, {what}: p50 {:.1?} p99 {:.1?} of {}",
            self.quantile(50),
            self.quantile(99),
            self.0.len()
        );
        assert!(self.quantile(50) < BOUND, "{what}: {:?}", self.0);
    }
}

/// Changes something and back, again and again: once it opens a way, once it closes it.
fn to_and_fro(what: &str, prober: &Prober, rounds: usize, open: impl Fn(), close: impl Fn()) {
    let (mut opened, mut closed) = (Times::default(), Times::default());
    for _ in 0..rounds {
        let start = Instant::now();
        open();
        let at = prober.await_open(start, PATIENCE).unwrap();
        opened.0.push(at.duration_since(start));
        std::thread::sleep(IDLE);
        let start = Instant::now();
        close();
        let at = prober.await_closed(start, PATIENCE).unwrap();
        closed.0.push(at.duration_since(start));
        std::thread::sleep(IDLE);
    }
    opened.report(&format!("{what}, first allowed"));
    closed.report(&format!("{what}, first denied"));
}

/// Measures in a cluster with so many pods and policies beside those that change.
pub(crate) fn measure(pods: usize, policies: usize, rounds: usize) {
    let mut cluster = Cluster::start(&Plan::routes(&Plan::TWO)).unwrap();
    fort(&mut cluster);
    if pods > 0 {
        Crowd::gather(&cluster, Dice::new(7), pods, policies);
    }
    let agents = cluster.start_agents().unwrap();
    expect_kernels(&cluster);
    let (gate, far) = (&cluster.sandboxes["fort/gate"], &cluster.sandboxes["x/intruder-1"]);
    let prober = Prober::start(&far.namespace, &gate.namespace, gate.v4.into(), EVERY).unwrap();
    prober.await_closed(Instant::now(), PATIENCE).unwrap();
    let label = |key: &'static str, app: &'static str| {
        let cluster = &cluster;
        move || cluster.label_pod(key, json!({"app": app})).unwrap()
    };
    to_and_fro(
        "pod elsewhere",
        &prober,
        rounds,
        label("x/intruder-1", "friend"),
        label("x/intruder-1", "intruder"),
    );
    let anybody = || {
        let anybody = json!({"podSelector": {"matchLabels": {"app": "gate"}}, "ingress": [{}]});
        cluster.policy("fort/anybody", anybody).unwrap();
    };
    to_and_fro("policy", &prober, rounds, anybody, || {
        cluster.delete_policy("fort/anybody").unwrap();
    });
    drop(prober);
    // Nothing but the label says whether the door is isolated.
    let (door, far) = (&cluster.sandboxes["x/door"], &cluster.sandboxes["x/intruder-1"]);
    let prober = Prober::start(&far.namespace, &door.namespace, door.v4.into(), EVERY).unwrap();
    cluster.policy("x/guard", json!({"podSelector": {"matchLabels": {"guarded": "yes"}}})).unwrap();
    let begin = Instant::now();
    cluster.label_pod("x/door", json!({"guarded": "yes"})).unwrap();
    prober.await_closed(begin, PATIENCE).unwrap();
    let guarded = |yes: &'static str| {
        let cluster = &cluster;
        move || cluster.label_pod("x/door", json!({"guarded": yes})).unwrap()
    };
    to_and_fro("local pod", &prober, rounds, guarded("no"), guarded("yes"));
    report_agents(&agents);
}

/// Prints what the agents say of themselves.
pub(crate) fn report_agents(agents: &[Agent]) {
    for (node, agent) in agents.iter().enumerate() {
        let megabytes = agent.peak_memory().unwrap() / 1_000_000;
        println!("node {node}: at most {megabytes} MB of memory");
        let metrics = agent.get("/metrics").unwrap().body;
        for resource in ["pods", "networkpolicies", "namespaces"] {
            let buckets = buckets(&metrics, resource);
            let count = buckets.last().map_or(0, |(_, count)| *count);
            if count == 0 {
                continue;
            }
            let within = |percent: u64| {
                let found = buckets.iter().find(|(_, upto)| upto * 100 >= count * percent);
                found.map_or("?", |(bound, _)| bound.as_str())
            };
            println!(
                "node {node}: policyd says that {count} changes of {resource} took p50 <= {} s, \
                 p99 <= {} s from watch event to kernel",
                within(50),
                within(99)
            );
        }
    }
}

/// The bounds of the histogram of a resource, each with the number of changes within it.
fn buckets(metrics: &str, resource: &str) -> Vec<(String, u64)> {
    let lines = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("policyd_event_to_enforced_seconds_bucket{le=\"")?;
        let (bound, rest) = rest.split_once('"')?;
        let count = rest.strip_prefix(&format!(",resource=\"{resource}\"}} "))?;
        Some((bound.to_owned(), count.parse().ok()?))
    });
    lines.collect()
}
