//! The first moments: of a node that joins, of a pod that the API server has not heard of.

use std::time::{Duration, Instant};

use policy_tests::cluster::agent::Agent;
use policy_tests::cluster::client::Call;
use policy_tests::cluster::credentials::Account;
use policy_tests::cluster::manifests::{ROLES, objects};
use policy_tests::cluster::network::pod_addresses;
use policy_tests::cluster::objects::PodPlan;
use policy_tests::cluster::table::PATIENCE;
use policy_tests::cluster::{Cluster, Plan};
use serde_json::{Value, json};

use crate::changes::populate;

super::cluster_tests!(
    a_node_loses_its_startup_taint_once_its_policies_are_in_force_and_keeps_all_others,
    a_pod_is_isolated_before_the_api_server_has_heard_of_it_where_unknown_addresses_are,
);

pub(crate) const NODES: &str = "/api/v1/nodes";

/// Adds to the role what a component of the manifests adds to it.
pub(crate) fn add_component(cluster: &Cluster, component: &str) {
    let mut rules = objects("base/clusterrole.yaml").unwrap().remove(0)["rules"].take();
    let patch = objects(&format!("components/{component}/role.yaml")).unwrap().remove(0);
    for operation in patch.as_array().unwrap() {
        assert_eq!((&operation["op"], &operation["path"]), (&json!("add"), &json!("/rules/-")));
        rules.as_array_mut().unwrap().push(operation["value"].clone());
    }
    let call = Call::Merge {
        collection: ROLES.to_owned(),
        name: "policyd".to_owned(),
        subresource: None,
        patch: json!({"rules": rules}),
    };
    cluster.client().call(call).unwrap();
}

/// Makes the object of a node.
fn node_object(cluster: &Cluster, node: usize, spec: &Value) {
    let object = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": cluster.nodes[node].name}, "spec": spec,
    });
    cluster.client().call(Call::Create { collection: NODES.to_owned(), object }).unwrap();
}

fn a_node_loses_its_startup_taint_once_its_policies_are_in_force_and_keeps_all_others() {
    let cluster = Cluster::start(&Plan::routes(&Plan::ONE)).unwrap();
    cluster.apply_account().unwrap();
    add_component(&cluster, "startup-taint");
    let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    let taints = [taint("policyd.dev/not-ready"), taint("example.com/reserved")];
    node_object(&cluster, 0, &json!({"taints": taints}));
    let options = ["--remove-taint=policyd.dev/not-ready"];
    let agent = cluster.start_agent_as(0, Account::Policyd, &options).unwrap();
    agent.await_ready().unwrap();
    let start = Instant::now();
    loop {
        let node = cluster.client().list(NODES).unwrap().remove(0);
        let taints = node["spec"]["taints"].to_string();
        assert!(taints.contains("example.com/reserved"), "{taints}");
        if !taints.contains("policyd.dev/not-ready") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{taints}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn a_pod_is_isolated_before_the_api_server_has_heard_of_it_where_unknown_addresses_are() {
    let mut cluster = Cluster::start(&Plan::routes(&Plan::TWO)).unwrap();
    cluster.apply_account().unwrap();
    add_component(&cluster, "isolate-unknown");
    populate(&mut cluster);
    for node in 0..2 {
        let (v4, v6) = pod_addresses(node, 0);
        let cidrs = [format!("{v4}/24"), format!("{v6}/64")];
        node_object(&cluster, node, &json!({"podCIDR": cidrs[0], "podCIDRs": cidrs}));
    }
    let start = |node| cluster.start_agent_as(node, Account::Policyd, &["--isolate-unknown"]);
    let agents: Vec<Agent> = (0..2).map(|node| start(node).unwrap()).collect();
    for agent in &agents {
        agent.await_ready().unwrap();
    }
    let early = [PodPlan::new("x/early-0", 0), PodPlan::new("x/early-1", 1)];
    for plan in &early {
        cluster.attach(plan).unwrap();
    }
    cluster
        .expect(
            "two pods without objects",
            "x/early-0 -> x/server  80 deny
             x/early-0 -> x/other   80 deny
             x/early-1 -> x/other   80 deny
             x/early-1 -> x/server  80 deny
             x/good    -> x/early-0 80 deny
             x/good    -> x/early-1 80 deny
             node-0    -> x/early-0 80 allow
             x/good    -> x/other   80 allow",
        )
        .unwrap();
    for plan in &early {
        cluster.announce(plan).unwrap();
    }
    cluster
        .expect(
            "their objects are made",
            "x/early-0 -> x/server  80 allow
             x/early-1 -> x/other   80 allow
             x/good    -> x/early-0 80 allow
             x/good    -> x/early-1 80 allow",
        )
        .unwrap();
}
