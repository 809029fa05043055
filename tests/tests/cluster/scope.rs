//! policyd that watches, of other nodes' pods, only those that its policies name.

use std::time::Instant;

use policy_tests::cluster::agent::Agent;
use policy_tests::cluster::client::Call;
use policy_tests::cluster::credentials::Account;
use policy_tests::cluster::objects::{PodPlan, pod_status};
use policy_tests::cluster::prober::Prober;
use policy_tests::cluster::table::PATIENCE;
use policy_tests::cluster::{Cluster, Plan};
use serde_json::{Value, json};

use crate::beginnings::{NODES, add_component};
use crate::churn::churn_with;

super::cluster_tests!(
    what_is_watched_grows_and_shrinks_with_policies_labels_and_local_pods,
    a_pod_that_lost_its_grant_unseen_does_not_get_it_back,
    without_the_right_to_list_nodes_it_is_not_ready_and_writes_nothing,
    a_peer_that_claims_the_address_of_a_node_is_not_let_in_by_it,
    a_crowd_that_changes_opens_nothing_where_only_what_policies_name_is_watched,
);

const RECEIVED: &str = "policyd_received_objects_total{resource=\"pods\"}";

/// A server on node 0, and in each of two namespaces a peer on node 1.
fn scene() -> (Cluster, Agent) {
    let (cluster, agent) = scene_before_rights();
    add_component(&cluster, "scoped-watch");
    agent.await_ready().unwrap();
    (cluster, agent)
}

/// The same, where policyd may not list nodes yet.
fn scene_before_rights() -> (Cluster, Agent) {
    let mut cluster = Cluster::start(&Plan::routes(&Plan::TWO)).unwrap();
    cluster.apply_account().unwrap();
    for (namespace, team) in [("x", "x"), ("a", "a"), ("b", "b")] {
        cluster.namespace(namespace, &[("team", team)]).unwrap();
    }
    cluster.run(&PodPlan::new("x/server", 0)).unwrap();
    for key in ["a/peer", "b/peer", "a/other"] {
        cluster.run(&PodPlan::new(key, 1)).unwrap();
    }
    let agent = cluster.start_agent_as(0, Account::Policyd, &["--scoped-watch"]).unwrap();
    (cluster, agent)
}

/// Lets pods with `app=peer` of a team into the server.
fn let_in(team: &str) -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{
            "namespaceSelector": {"matchLabels": {"team": team}},
            "podSelector": {"matchLabels": {"app": "peer"}},
        }]}],
    })
}

/// A number that policyd shows.
pub(crate) fn shown(agent: &Agent, name: &str) -> u64 {
    let text = agent.get("/metrics").unwrap().body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

fn await_watches(agent: &Agent, namespaces: u64, what: &str) {
    let start = Instant::now();
    while shown(agent, "policyd_pod_watches{scope=\"namespace\"}") != namespaces {
        assert!(start.elapsed() < PATIENCE, "{what}: {}", agent.daemon.lines().join("\n"));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn what_is_watched_grows_and_shrinks_with_policies_labels_and_local_pods() {
    let (mut cluster, agent) = scene();
    await_watches(&agent, 0, "no policy names anybody");
    assert!(shown(&agent, RECEIVED) < 3, "its own pod");

    cluster.policy("x/p", let_in("a")).unwrap();
    cluster
        .expect("with a policy", "a/peer -> x/server 80 allow\nb/peer -> x/server 80 deny")
        .unwrap();
    cluster.expect_kernel(0, PATIENCE).unwrap();
    await_watches(&agent, 1, "a policy names one");
    // The second pod of that namespace was never sent; one may come twice, where a watch broke off.
    assert!(shown(&agent, RECEIVED) < 4, "of four pods");

    cluster.label_namespace("b", json!({"team": "a"})).unwrap();
    cluster
        .expect("with a label", "a/peer -> x/server 80 allow\nb/peer -> x/server 80 allow")
        .unwrap();
    await_watches(&agent, 2, "a label makes another a peer");
    cluster.expect_kernel(0, PATIENCE).unwrap();

    cluster.label_namespace("b", json!({"team": "b"})).unwrap();
    cluster.expect("without it", "b/peer -> x/server 80 deny").unwrap();
    await_watches(&agent, 1, "it is none any more");

    cluster.delete_pod("x/server").unwrap();
    await_watches(&agent, 0, "nobody needs it");
    cluster.run(&PodPlan::new("x/server", 0)).unwrap();
    cluster.expect("again", "a/peer -> x/server 80 allow\nb/peer -> x/server 80 deny").unwrap();
    await_watches(&agent, 1, "a pod needs it again");
    cluster.expect_kernel(0, PATIENCE).unwrap();
    agent.stop().unwrap();
}

fn a_pod_that_lost_its_grant_unseen_does_not_get_it_back() {
    let (cluster, agent) = scene();
    cluster.policy("x/p", let_in("a")).unwrap();
    cluster.expect("at first", "a/peer -> x/server 80 allow").unwrap();
    cluster.change_policy("x/p", let_in("b")).unwrap();
    cluster
        .expect("out of scope", "b/peer -> x/server 80 allow\na/peer -> x/server 80 deny")
        .unwrap();
    await_watches(&agent, 1, "only the other is watched");

    // Nobody watches while the one loses its label and another gets it.
    cluster.label_pod("a/peer", json!({"app": "none"})).unwrap();
    cluster.label_pod("a/other", json!({"app": "peer"})).unwrap();
    let (from, to) = (&cluster.sandboxes["a/peer"], &cluster.sandboxes["x/server"]);
    let every = std::time::Duration::from_millis(2);
    let begin = Instant::now();
    let prober = Prober::start(&from.namespace, &to.namespace, to.v4.into(), every).unwrap();
    cluster.change_policy("x/p", let_in("a")).unwrap();
    cluster
        .expect("in scope again", "a/other -> x/server 80 allow\na/peer -> x/server 80 deny")
        .unwrap();
    cluster.expect_kernel(0, PATIENCE).unwrap();
    let (arrived, sent) = prober.stop().arrived_between(begin, Instant::now());
    assert!(sent > 10, "only {sent} were sent");
    assert_eq!(arrived, 0, "let in of {sent}");
    agent.stop().unwrap();
}

fn without_the_right_to_list_nodes_it_is_not_ready_and_writes_nothing() {
    let (cluster, agent) = scene_before_rights();
    cluster.policy("x/p", let_in("a")).unwrap();
    let start = Instant::now();
    let told =
        ["not listed yet: pods, nodes", "refuses to list nodes (403)", "nothing has been written"];
    loop {
        // It may not listen yet.
        let answer = agent.get("/readyz").ok();
        let body = answer.map_or_else(String::new, |answer| {
            assert_eq!(answer.status, 503, "{}", answer.body);
            answer.body
        });
        if told.iter().all(|words| body.contains(words)) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{body}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    add_component(&cluster, "scoped-watch");
    agent.await_ready().unwrap();
    cluster.expect_kernel(0, PATIENCE).unwrap();
    agent.stop().unwrap();
}

/// Makes a node that none of its pods tells of.
fn node_at(cluster: &Cluster, addresses: &[String]) {
    let object = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "remote", "labels": {"much": "more"}},
    });
    let collection = NODES.to_owned();
    cluster.client().call(Call::Create { collection, object }).unwrap();
    say_where(cluster, addresses);
}

fn say_where(cluster: &Cluster, addresses: &[String]) {
    let address = |address: &String| json!({"type": "InternalIP", "address": address});
    let addresses: Vec<Value> = addresses.iter().map(address).collect();
    let call = Call::Merge {
        collection: NODES.to_owned(),
        name: "remote".to_owned(),
        subresource: Some("status"),
        patch: json!({"status": {"addresses": addresses}}),
    };
    cluster.client().call(call).unwrap();
}

fn a_peer_that_claims_the_address_of_a_node_is_not_let_in_by_it() {
    let (cluster, agent) = scene();
    cluster.policy("x/p", let_in("a")).unwrap();
    cluster.expect("at first", "a/peer -> x/server 80 allow").unwrap();
    let claimed = cluster.addresses("a/peer").unwrap();
    node_at(&cluster, &claimed.iter().map(ToString::to_string).collect::<Vec<_>>());
    cluster.expect("a node has it", "a/peer -> x/server 80 deny").unwrap();
    cluster.expect_kernel(0, PATIENCE).unwrap();
    assert!(shown(&agent, "policyd_received_objects_total{resource=\"nodes\"}") > 0);

    say_where(&cluster, &["192.0.2.200".to_owned()]);
    cluster.expect("it is elsewhere", "a/peer -> x/server 80 allow").unwrap();
    let status = json!({"podIP": "192.0.2.200", "podIPs": [{"ip": "192.0.2.200"}]});
    cluster.client().call(pod_status("a/peer", status)).unwrap();
    cluster.expect("the pod claims it", "a/peer -> x/server 80 deny").unwrap();
    cluster.expect_kernel(0, PATIENCE).unwrap();
    agent.stop().unwrap();
}

fn a_crowd_that_changes_opens_nothing_where_only_what_policies_name_is_watched() {
    churn_with(&["--scoped-watch"], 3, 400, 100, std::time::Duration::from_secs(8));
}
