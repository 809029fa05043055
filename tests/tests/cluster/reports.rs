//! What policyd tells the cluster's users: Events, metrics, and what it says of itself.

use std::process::Command;
use std::time::Instant;

use policy_compiler::cidr::Family;
use policy_tests::cluster::http::Answer;
use policy_tests::cluster::objects::PodPlan;
use policy_tests::cluster::table::PATIENCE;
use policy_tests::cluster::{Cluster, Plan};
use policy_tests::enforcement::{LOCK_FILE, OWN_NAMESPACE};
use serde_json::{Value, json};

use crate::changes::{GOOD, expect_kernels, let_in, scene};

super::cluster_tests!(
    a_policy_that_fails_closed_in_part_is_told_of_in_its_namespace,
    rules_that_others_change_are_put_right_and_told_of,
    a_node_that_no_pod_is_on_is_enforced_for_and_said_to_be_unheard_of,
);

/// Waits for an Event, as `kubectl get events` would show it.
fn await_event(cluster: &Cluster, namespace: &str, reason: &str) -> Value {
    let collection = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let start = Instant::now();
    loop {
        let events = cluster.client().list(&collection).unwrap();
        if let Some(event) = events.iter().find(|event| event["reason"] == reason) {
            return event.clone();
        }
        assert!(start.elapsed() < PATIENCE, "no event {reason} among {events:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn a_policy_that_fails_closed_in_part_is_told_of_in_its_namespace() {
    let (cluster, agents) = scene();
    // The server takes a block of IPv4-mapped addresses, which no packet ever has.
    let odd = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [
            {"from": [{"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}], "ports": [{"port": 80}]},
            {"ports": [{"port": 81}]},
        ],
    });
    cluster.policy("x/odd", odd).unwrap();
    cluster
        .expect(
            "one rule of two is invalid",
            "x/good  -> x/server 80 deny
             x/good  -> x/server 81 allow
             x/other -> x/server 81 allow",
        )
        .unwrap();
    let event = await_event(&cluster, "x", "PolicyFailsClosed");
    assert_eq!(event["regarding"]["kind"], "NetworkPolicy");
    assert_eq!(event["regarding"]["name"], "odd");
    assert_eq!(event["type"], "Warning");
    assert!(event["note"].to_string().contains("spec.ingress[0]"), "{event}");
    for agent in &agents {
        agent.await_ready().unwrap();
        agent.daemon.await_line("spec.ingress[0]", 0, PATIENCE).unwrap();
    }
    expect_kernels(&cluster);
}

fn rules_that_others_change_are_put_right_and_told_of() {
    let (cluster, agents) = scene();
    cluster.policy("x/server", let_in("good")).unwrap();
    cluster.expect("a policy", GOOD).unwrap();
    let mut command = Command::new(cluster.backend.iptables(Family::V4));
    command.args(["-w", "-D", "FORWARD", "1"]).env(LOCK_FILE, OWN_NAMESPACE);
    cluster.nodes[0].namespace.run(&mut command, "").unwrap();
    cluster.expect("the hook is put back", GOOD).unwrap();
    let event = await_event(&cluster, "kube-system", "DriftRepaired");
    assert_eq!(event["regarding"]["kind"], "Node");
    assert_eq!(event["regarding"]["name"], "node-0");
    let metrics = agents[0].get("/metrics").unwrap().body;
    let repairs = metrics.lines().find(|line| {
        line.starts_with("policyd_drift_repairs_total{family=\"ipv4\",kind=\"hooks\"}")
    });
    assert!(repairs.is_some_and(|line| !line.ends_with(" 0")), "{repairs:?}");
    expect_kernels(&cluster);
}

fn a_node_that_no_pod_is_on_is_enforced_for_and_said_to_be_unheard_of() {
    let mut cluster = Cluster::start(&Plan::routes(&Plan::ONE)).unwrap();
    cluster.apply_account().unwrap();
    cluster.namespace("x", &[]).unwrap();
    cluster.policy("x/deny", json!({"podSelector": {}})).unwrap();
    let agent = cluster.start_agents().unwrap().remove(0);
    assert_eq!(agent.get("/healthz").unwrap().status, 200);
    agent
        .daemon
        .await_line("no pod of the cluster is on a node of this name", 0, PATIENCE)
        .unwrap();
    let note = |answer: &Answer| answer.body.contains("no pod of the cluster is on");
    let answer = agent.await_readyz("to wonder", note).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.expect_kernel(0, PATIENCE).unwrap();
    cluster.run(&PodPlan::new("x/first", 0)).unwrap();
    agent.await_readyz("to know its node", |answer| !note(answer)).unwrap();
}
