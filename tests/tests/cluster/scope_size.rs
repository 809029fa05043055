//! How much a node of a large cluster receives that watches only what its policies name, and how much one that
//! watches everything.
//!
//! Of the policies that are generated those are left out that let in all namespaces, or the pods of a team
//! in an eighth of them: on a node with a pod of theirs there is little or nothing to save, and in a
//! generated cluster, whose largest namespace has pods on every node, that is each of them.

use std::fmt;
use std::ops::Sub;
use std::time::Instant;

use policy_tests::cluster::agent::Agent;
use policy_tests::cluster::client::Call;
use policy_tests::cluster::credentials::Account;
use policy_tests::cluster::objects::{pod_status, pods, policies};
use policy_tests::cluster::table::PATIENCE;
use policy_tests::cluster::{Cluster, Plan};
use policy_tests::generate::{self, Size};
use serde_json::{Map, Value, json};

use crate::beginnings::add_component;
use crate::scope::shown;

const RESOURCES: [&str; 3] = ["pods", "namespaces", "networkpolicies"];

/// What policies are called that are about pods of the whole cluster.
const WIDE: [&str; 2] = ["allow-telephony", "allow-selected"];

/// What has come, of each resource: objects and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Received([(u64, u64); 3]);

impl Received {
    fn by(agent: &Agent) -> Self {
        Self(RESOURCES.map(|resource| {
            let count = |what: &str| {
                shown(agent, &format!("policyd_received_{what}_total{{resource=\"{resource}\"}}"))
            };
            (count("objects"), count("bytes"))
        }))
    }

    fn pods(self) -> (u64, u64) {
        self.0[0]
    }
}

impl Sub for Received {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let mut rest = self;
        for (one, other) in rest.0.iter_mut().zip(other.0) {
            *one = (one.0 - other.0, one.1 - other.1);
        }
        rest
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = RESOURCES.iter().zip(self.0);
        let parts =
            parts.map(|(name, (objects, bytes))| format!("{name} {objects} ({bytes} bytes)"));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

/// A request that makes an object: what only a server writes of it is left out.
fn create(mut object: Value, collection: String) -> Call {
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata
        .retain(|key, _| ["name", "namespace", "labels", "annotations"].contains(&key.as_str()));
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("priority");
        spec.remove("preemptionPolicy");
    }
    object.as_object_mut().unwrap().remove("status");
    Call::Create { collection, object }
}

fn name_of(object: &Value) -> (String, String) {
    let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    (part("namespace"), part("name"))
}

/// Makes what was generated, with its first node in the place of node 0, and returns the pods with their
/// statuses.
fn load(cluster: &Cluster, generated: &generate::Cluster) -> Vec<(String, Value)> {
    let own = generated.node().to_string();
    let namespaces =
        generated.namespace_objects().map(|one| create(one, "/api/v1/namespaces".into()));
    // Those of the system may be there.
    drop(cluster.client().try_all(namespaces.collect()).unwrap());
    let mut statuses = Vec::new();
    let mut calls = Vec::new();
    for mut pod in generated.pod_objects() {
        let (namespace, name) = name_of(&pod);
        statuses.push((format!("{namespace}/{name}"), pod["status"].take()));
        if pod["spec"]["nodeName"] == json!(own) {
            pod["spec"]["nodeName"] = json!(cluster.nodes[0].name);
        }
        calls.push(create(pod, pods(&namespace)));
    }
    cluster.client().all(calls).unwrap();
    let status = |(key, status): &(String, Value)| pod_status(key, status.clone());
    cluster.client().all(statuses.iter().map(status).collect()).unwrap();
    let narrow = |one: &Value| {
        let (_, name) = name_of(one);
        !WIDE.iter().any(|purpose| name.starts_with(purpose))
    };
    let written = generated.policy_objects().filter(narrow).map(|one| {
        let (namespace, _) = name_of(&one);
        create(one, policies(&namespace))
    });
    cluster.client().all(written.collect()).unwrap();
    statuses
}

/// Waits until nothing more comes.
fn settle(agent: &Agent, least: u64) -> Received {
    let start = Instant::now();
    let mut before = Received::by(agent);
    loop {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let now = Received::by(agent);
        if now == before && now.pods().0 >= least {
            return now;
        }
        assert!(start.elapsed() < PATIENCE * 3, "{now}");
        before = now;
    }
}

/// Loads a cluster, and measures what comes at the start and while so many pods change.
pub(crate) fn measure(size: Size, changes: usize) {
    let begun = Instant::now();
    let cluster = Cluster::start(&Plan::routes(&Plan::TWO)).unwrap();
    cluster.apply_account().unwrap();
    add_component(&cluster, "scoped-watch");
    let generated = generate::Cluster::new(size, 1);
    let statuses = load(&cluster, &generated);
    println!("loaded {size:?} in {:?}", begun.elapsed());

    let whole = cluster.start_agent_as(1, Account::Policyd, &[]).unwrap();
    let scoped = cluster.start_agent_as(0, Account::Policyd, &["--scoped-watch"]).unwrap();
    let start = [&whole, &scoped].map(|agent| {
        agent.await_ready().unwrap();
        settle(agent, 0)
    });
    let watches = shown(&scoped, "policyd_pod_watches{scope=\"namespace\"}");
    let labels = shown(&scoped, "policyd_pod_watches{scope=\"labels\"}");
    println!("watches: {watches} of namespaces, {labels} by labels");
    assert_eq!(shown(&scoped, "policyd_pod_watches{scope=\"all\"}"), 0);

    let touch = |(key, _): &(String, Value)| {
        let now = json!([{"type": "Ready", "status": "True", "reason": "Again"}]);
        pod_status(key, Value::Object(Map::from_iter([("conditions".to_owned(), now)])))
    };
    let step = (statuses.len() / changes).max(1);
    let touched: Vec<Call> = statuses.iter().step_by(step).map(touch).collect();
    let count = u64::try_from(touched.len()).unwrap();
    cluster.client().all(touched).unwrap();
    let end = [settle(&whole, start[0].pods().0 + count), settle(&scoped, 0)];
    for (name, at) in [("whole ", 0), ("scoped", 1)] {
        println!("{name} start: {}", start[at]);
        println!("{name} {count} pods change: {}", end[at] - start[at]);
    }
    let share = |one: u64, other: u64| one * 10_000 / other.max(1);
    let pods = |received: [Received; 2]| (received[0].pods(), received[1].pods());
    for (when, (whole, scoped)) in
        [("start", pods(start)), ("changes", pods([end[0] - start[0], end[1] - start[1]]))]
    {
        println!(
            "{when}: scoped receives {} of 10,000 pods, {} of 10,000 of their bytes",
            share(scoped.0, whole.0),
            share(scoped.1, whole.1)
        );
    }
    println!("memory at most: {:?} whole, {:?} scoped", whole.peak_memory(), scoped.peak_memory());
    let (whole_pods, scoped_pods) = pods(end);
    assert!(scoped_pods.0 * 4 < whole_pods.0 && scoped_pods.1 * 4 < whole_pods.1);
    cluster.expect_kernel(0, PATIENCE).unwrap();
    scoped.stop().unwrap();
    whole.stop().unwrap();
}
