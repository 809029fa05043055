//! What policyd refuses to start with, and what it leaves behind.

use std::process::{Command, Output};

use policy_tests::cluster::agent::command;
use policy_tests::cluster::credentials::Account;
use policy_tests::cluster::{Cluster, Plan};
use policy_tests::daemon::built_program;
use policy_tests::enforcement::LOCK_FILE;
use policy_tests::enforcement::OWN_NAMESPACE;
use serde_json::json;

use crate::changes::{GOOD, let_in, scene};

super::cluster_tests!(
    what_the_operator_must_mend_is_one_line_and_status_2,
    a_second_policyd_in_a_namespace_says_who_is_there,
    rules_outlive_policyd_and_the_next_one_takes_them_over,
);

/// Runs a command on the first node to its end.
fn run(cluster: &Cluster, mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } =
        cluster.nodes[0].namespace.output(&mut command, "").unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn policyd(words: &[&str]) -> Command {
    let mut command = Command::new(built_program("policyd").unwrap());
    command
        .args(words)
        .env("NO_COLOR", "1")
        .env_remove("NODE_NAME")
        .env_remove("KUBECONFIG")
        .env(LOCK_FILE, OWN_NAMESPACE);
    command
}

fn what_the_operator_must_mend_is_one_line_and_status_2() {
    let cluster = Cluster::start(&Plan::routes(&Plan::ONE)).unwrap();
    let good = cluster.control.kubeconfig(Account::Policyd).unwrap();
    let good = good.to_str().unwrap();
    let broken = cluster.control.file("broken", "clusters: [").unwrap();
    let empty = cluster.control.file("empty", "{}").unwrap();
    let run_with = |words: &[&str]| {
        let mut all = vec!["run"];
        all.extend(words);
        run(&cluster, policyd(&all))
    };
    for (words, wanted) in [
        (vec!["--node", "node-0", "--kubeconfig", "/nowhere"], "/nowhere"),
        (vec!["--node", "node-0", "--kubeconfig", broken.to_str().unwrap()], "kubeconfig"),
        (vec!["--node", "node-0", "--kubeconfig", empty.to_str().unwrap()], "kubeconfig"),
        (vec!["--node", "node-0"], "KUBERNETES_SERVICE_HOST"),
        (vec!["--kubeconfig", good], "NODE_NAME"),
        (vec!["--node", "No_Node", "--kubeconfig", good], "--node"),
        (vec!["--node", "node-0", "--kubeconfig", good, "--source", "/etc"], "--source"),
        (vec!["--node", "node-0", "--kubeconfig", good, "--no-such-flag"], "--no-such-flag"),
    ] {
        let (status, said) = run_with(&words);
        assert_eq!(status, Some(2), "{words:?}: {said}");
        assert!(said.contains(wanted), "{words:?} does not say {wanted}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

fn a_second_policyd_in_a_namespace_says_who_is_there() {
    let cluster = Cluster::start(&Plan::routes(&Plan::ONE)).unwrap();
    cluster.apply_account().unwrap();
    let first = cluster.start_agent(0).unwrap();
    first.await_ready().unwrap();
    let kubeconfig = cluster.control.kubeconfig(Account::Policyd).unwrap();
    let second = command("node-0", cluster.backend, &kubeconfig).unwrap();
    let (status, said) = run(&cluster, second);
    assert_eq!(status, Some(2), "{said}");
    let id = first.daemon.id().unwrap().to_string();
    assert!(said.contains(&id), "{said} does not name {id}");
    first.stop().unwrap();
}

fn rules_outlive_policyd_and_the_next_one_takes_them_over() {
    let (cluster, agents) = scene();
    cluster.policy("x/server", let_in("good")).unwrap();
    cluster.expect("a policy", GOOD).unwrap();
    for agent in agents {
        agent.stop().unwrap();
    }
    cluster.change_policy("x/server", let_in("other")).unwrap();
    cluster.change_policy("x/server", let_in("good")).unwrap();
    cluster.policy("x/deny", json!({"podSelector": {"matchLabels": {"app": "good"}}})).unwrap();
    cluster.expect("nobody follows any more", GOOD).unwrap();
    let _agents = cluster.start_agents().unwrap();
    cluster.expect("the next one", GOOD).unwrap();
    cluster.expect("the next one", "x/server -> x/good 80 deny").unwrap();
    crate::changes::expect_kernels(&cluster);
}
