//! A cluster of thousands, as one node's policyd sees it through the API server.
//!
//! Everything is written into etcd, whence the API server tells it: see
//! [`stored`](policy_tests::cluster::stored). Nobody runs: the node's kernel must come to hold what
//! follows from the objects. Figures are printed and not asserted.

#![allow(clippy::cast_precision_loss, reason = "no count comes near 2^52")]

use std::time::{Duration, Instant};

use policy_compiler::compile::compile;
use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_tests::cluster::agent::Agent;
use policy_tests::cluster::stored::Store;
use policy_tests::cluster::{Cluster, Plan};
use policy_tests::generate::{self, Change, Size, Subject, What};
use policy_tests::in_kernel;
use serde_json::Value;

/// How long a machine with much else to do may take to come after what was written.
const PATIENCE: Duration = Duration::from_mins(5);

/// Seconds.
fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

/// So many millions of bytes.
fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}

/// Waits until policyd knows so many.
fn await_count(agent: &Agent, metric: &str, expected: usize) {
    let start = Instant::now();
    loop {
        let known = agent.metric(metric).unwrap();
        if (known - expected as f64).abs() < 0.5 {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{metric} is {known} and not {expected}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until it is ready; a list of the largest cluster takes its time.
fn await_ready(agent: &Agent) {
    let start = Instant::now();
    while !agent.get("/readyz").is_ok_and(|answer| answer.status == 200) {
        assert!(start.elapsed() < PATIENCE, "{}", agent.daemon.lines().join("\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn local_pods(objects: &generate::Cluster) -> usize {
    let node = Some(objects.node());
    objects.pods().filter(|pod| pod.is_live() && pod.node == node).count()
}

/// The object without `endPort`, which old servers drop; of a range one port is left.
fn without_ranges(mut object: Value) -> Value {
    for direction in ["ingress", "egress"] {
        let rules = object.pointer_mut(&format!("/spec/{direction}")).and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten() {
            let ports = rule.pointer_mut("/ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
                port.remove("endPort");
            }
        }
    }
    object
}

/// Waits until the kernel holds what follows from the objects.
fn expect_kernel(cluster: &Cluster, objects: &generate::Cluster) {
    let mut snapshot = objects.snapshot();
    for object in objects.policy_objects() {
        let policy = decode::policy(&Node::from(without_ranges(object)), None).unwrap().object;
        snapshot.policies.insert(policy.key.clone(), policy);
    }
    let compiled = compile(&snapshot, &cluster.node_config(0).unwrap());
    let namespace = &cluster.nodes[0].namespace;
    in_kernel::expect(cluster.backend, namespace, &compiled.ruleset, PATIENCE).unwrap();
}

fn stored(change: &Change) -> Store {
    let (object, is_end) = (without_ranges(change.object().clone()), change.is_end());
    if is_end { Store::Delete(object) } else { Store::Put(object) }
}

/// Pods that come, until one comes to the node: policyd tells how many it knows there.
fn until_one_is_local(objects: &mut generate::Cluster) -> Vec<Store> {
    let node = Some(objects.node());
    let mut changes = Vec::new();
    loop {
        let change = objects.change_of(What::PodComes);
        let is_local = matches!(&change.subject, Subject::Pod(pod) if pod.node == node);
        changes.push(stored(&change));
        if is_local {
            return changes;
        }
    }
}

/// Follows a cluster of that size through rounds of so many changes.
pub(crate) fn follow(size: Size, rounds: &[usize]) {
    let cluster = Cluster::start(&Plan::routes(&Plan::ONE)).unwrap();
    cluster.apply_account().unwrap();
    let mut objects = generate::Cluster::new(size, 5);
    let start = Instant::now();
    let count =
        cluster.control.store(objects.objects().map(without_ranges).map(Store::Put)).unwrap();
    println!("{count} objects stored in {:.1} s", since(start));

    let start = Instant::now();
    let agent = cluster.start_agent(0).unwrap();
    await_ready(&agent);
    println!(
        "ready {:.1} s after its start, with {} MB of memory, at most {} MB",
        since(start),
        megabytes(agent.resident_memory().unwrap()),
        megabytes(agent.peak_memory().unwrap()),
    );
    expect_kernel(&cluster, &objects);
    await_count(&agent, "policyd_policies", size.policies as usize);
    await_count(&agent, "policyd_local_pods", local_pods(&objects));

    for (round, changes) in rounds.iter().enumerate() {
        let mut writes: Vec<Store> = (0..*changes).map(|_| stored(&objects.change())).collect();
        writes.extend(until_one_is_local(&mut objects));
        let (count, expected) = (writes.len(), local_pods(&objects));
        let start = Instant::now();
        cluster.control.store(writes.into_iter()).unwrap();
        let written = since(start);
        await_count(&agent, "policyd_local_pods", expected);
        println!(
            "round {round}: {count} changes written in {written:.1} s, followed {:.1} s later: \
             {:.0} a second; {} MB",
            since(start) - written,
            count as f64 / since(start),
            megabytes(agent.resident_memory().unwrap()),
        );
        assert_eq!(agent.get("/readyz").unwrap().status, 200, "it stays ready");
    }
    expect_kernel(&cluster, &objects);
    println!(
        "{} MB of memory in the end, at most {} MB",
        megabytes(agent.resident_memory().unwrap()),
        megabytes(agent.peak_memory().unwrap()),
    );
    agent.stop().unwrap();
}

super::cluster_tests!(a_cluster_written_behind_the_api_servers_back_is_followed);

fn a_cluster_written_behind_the_api_servers_back_is_followed() {
    follow(Size::SMALL, &[400]);
}
