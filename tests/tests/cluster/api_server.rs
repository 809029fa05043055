//! An API server that is away, starts late, forgets its history, or refuses.

use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use policy_tests::cluster::Cluster;
use policy_tests::cluster::Plan;
use policy_tests::cluster::agent::Agent;
use policy_tests::cluster::client::Call;
use policy_tests::cluster::control_plane::ADDRESS;
use policy_tests::cluster::credentials::Account;
use policy_tests::cluster::manifests::{self, BINDINGS, ROLES};
use policy_tests::cluster::network::node_v4;
use policy_tests::cluster::prober::Prober;
use policy_tests::cluster::table::PATIENCE;
use policy_tests::enforcement::Backend;
use serde_json::json;

use crate::changes::{GOOD, OPEN, OTHER, expect_kernels, let_in, populate, scene};

super::cluster_tests!(
    rules_stay_while_the_api_server_is_away_and_what_changed_meanwhile_is_caught_up,
    a_watch_whose_history_is_gone_starts_over,
    an_api_server_that_starts_late_is_waited_for,
    an_account_that_may_not_read_says_so_until_it_may,
    a_role_that_lacks_one_resource_says_which,
);

fn rules_stay_while_the_api_server_is_away_and_what_changed_meanwhile_is_caught_up() {
    let (mut cluster, agents) = scene();
    let anything = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "good"}}}]}],
    });
    cluster.policy("x/server", anything.clone()).unwrap();
    cluster.expect("a policy", "x/other -> x/server 80 deny").unwrap();
    let (denied, allowed) = (probe(&cluster, "x/other"), probe(&cluster, "x/good"));
    let begin = Instant::now();
    // One change reaches the agents as the server dies, or does not.
    cluster.policy("x/same", anything).unwrap();
    cluster.control.kill_api_server();
    for agent in &agents {
        let answer =
            agent.await_readyz("to notice", |answer| answer.body.contains("cannot be followed"));
        assert_eq!(answer.as_ref().unwrap().status, 200, "{answer:?}");
    }
    cluster.expect("nobody to ask", "x/good -> x/server 80 allow").unwrap();
    cluster.control.start_api_server(&[]).unwrap();
    cluster.policy("x/more", let_in("good")).unwrap();
    cluster.label_pod("x/good", json!({"tier": "any"})).unwrap();
    for agent in &agents {
        let well = |body: &str| !body.contains("cannot be followed");
        agent
            .await_readyz("to catch up", |answer| answer.status == 200 && well(&answer.body))
            .unwrap();
    }
    expect_kernels(&cluster);
    let end = Instant::now();
    cluster.delete_policy("x/server").unwrap();
    cluster.delete_policy("x/same").unwrap();
    let (denied_trace, allowed) = (denied.trace(), allowed.stop());
    drop(denied);
    assert_eq!(denied_trace.arrived_between(begin, end).0, 0, "open in between");
    let (arrived, sent) = allowed.arrived_between(begin, end);
    assert!(sent > 100 && arrived == sent, "closed in between: {arrived} of {sent}");
    cluster.expect("the rest are deleted", GOOD).unwrap();
    expect_kernels(&cluster);
}

fn probe(cluster: &Cluster, from: &str) -> Prober {
    let server = &cluster.sandboxes["x/server"];
    let from = &cluster.sandboxes[from];
    Prober::start(&from.namespace, &server.namespace, server.v4.into(), Duration::from_millis(3))
        .unwrap()
}

fn a_watch_whose_history_is_gone_starts_over() {
    let (mut cluster, agents) = scene();
    cluster.policy("x/server", let_in("good")).unwrap();
    cluster.expect("a policy", GOOD).unwrap();
    cluster.control.kill_api_server();
    shut_out(&cluster, "-I");
    // Without its cache the server asks etcd for the history that is gone.
    cluster.control.start_api_server(&["--watch-cache=false"]).unwrap();
    cluster.change_policy("x/server", let_in("other")).unwrap();
    cluster.policy("x/gone", json!({"podSelector": {}})).unwrap();
    cluster.delete_policy("x/gone").unwrap();
    cluster.delete_pod("x/good").unwrap();
    cluster.control.compact().unwrap();
    shut_out(&cluster, "-D");
    for agent in &agents {
        agent.daemon.await_line("the watch has expired", 0, PATIENCE).unwrap();
    }
    cluster
        .expect(
            "all that was missed",
            "x/other -> x/server 80 allow
             x/other -> x/server 81 deny",
        )
        .unwrap();
    expect_kernels(&cluster);
    for agent in &agents {
        agent.await_ready().unwrap();
    }
}

/// Refuses the nodes' connections to the API server, or no more.
fn shut_out(cluster: &Cluster, action: &str) {
    for number in 0..cluster.nodes.len() {
        let (node, server) = (node_v4(number).to_string(), ADDRESS.to_string());
        let mut command = std::process::Command::new(Backend::Nft.iptables(Family::V4));
        command.args(["-w", action, "INPUT", "-p", "tcp", "-s", &node, "-d", &server]);
        command.args(["-j", "REJECT", "--reject-with", "tcp-reset"]);
        cluster.control.namespace.run(&mut command, "").unwrap();
    }
}

fn an_api_server_that_starts_late_is_waited_for() {
    let mut cluster = Cluster::start(&Plan::routes(&Plan::TWO)).unwrap();
    cluster.apply_account().unwrap();
    populate(&mut cluster);
    cluster.policy("x/server", let_in("good")).unwrap();
    cluster.control.kill_api_server();
    let agents: Vec<Agent> = (0..2).map(|node| cluster.start_agent(node).unwrap()).collect();
    for agent in &agents {
        let answer = agent
            .await_readyz("say what it waits for", |answer| answer.body.contains("172.18.0.1"));
        assert_eq!(answer.as_ref().unwrap().status, 503, "{answer:?}");
        agent.daemon.await_line("172.18.0.1:6443", 0, PATIENCE).unwrap();
    }
    cluster.expect("nothing is written before the first list", OPEN).unwrap();
    cluster.control.start_api_server(&[]).unwrap();
    for agent in &agents {
        agent.await_ready().unwrap();
    }
    cluster.expect("the server has come", GOOD).unwrap();
    expect_kernels(&cluster);
}

fn an_account_that_may_not_read_says_so_until_it_may() {
    let mut cluster = Cluster::start(&Plan::routes(&Plan::ONE)).unwrap();
    cluster.apply_account().unwrap();
    cluster.namespace("x", &[]).unwrap();
    let binding = Call::Delete { collection: BINDINGS.to_owned(), name: "policyd".to_owned() };
    cluster.client().call(binding).unwrap();
    let agent = cluster.start_agent_as(0, Account::Policyd, &[]).unwrap();
    let answer = agent.await_readyz("say that it may not", |answer| {
        ["pods", "namespaces", "networkpolicies"].iter().all(|kind| answer.body.contains(kind))
    });
    let answer = answer.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    agent.daemon.await_line("system:serviceaccount:kube-system:policyd", 0, PATIENCE).unwrap();
    for binding in manifests::objects("base/clusterrolebinding.yaml").unwrap() {
        let collection = BINDINGS.to_owned();
        cluster.client().call(Call::Create { collection, object: binding }).unwrap();
    }
    agent.await_ready().unwrap();
    cluster.run(&policy_tests::cluster::objects::PodPlan::new("x/a", 0)).unwrap();
    cluster.policy("x/deny", json!({"podSelector": {}})).unwrap();
    cluster.expect_kernel(0, PATIENCE).unwrap();
}

fn a_role_that_lacks_one_resource_says_which() {
    let mut cluster = Cluster::start(&Plan::routes(&Plan::TWO)).unwrap();
    cluster.apply_account().unwrap();
    populate(&mut cluster);
    cluster.policy("x/server", let_in("other")).unwrap();
    let role = manifests::objects("base/clusterrole.yaml").unwrap().remove(0);
    let rules = role["rules"].as_array().unwrap();
    let without: Vec<_> = rules
        .iter()
        .filter(|rule| !rule["resources"].to_string().contains("networkpolicies"))
        .collect();
    assert_eq!(without.len() + 1, rules.len());
    let patch = |rules: serde_json::Value| Call::Merge {
        collection: ROLES.to_owned(),
        name: "policyd".to_owned(),
        subresource: None,
        patch: json!({"rules": rules}),
    };
    cluster.client().call(patch(json!(without))).unwrap();
    let agents: Vec<Agent> = (0..2).map(|node| cluster.start_agent(node).unwrap()).collect();
    for agent in &agents {
        let says = |body: &str| body.contains("networkpolicies") && !body.contains("namespaces");
        let answer = agent.await_readyz("name what it may not", |answer| says(&answer.body));
        assert_eq!(answer.as_ref().unwrap().status, 503, "{answer:?}");
    }
    cluster.expect("nothing is written before all are listed", OPEN).unwrap();
    cluster.client().call(patch(role["rules"].clone())).unwrap();
    for agent in &agents {
        agent.await_ready().unwrap();
    }
    cluster.expect("the role is whole", OTHER).unwrap();
}
