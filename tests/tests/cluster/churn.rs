//! Many objects that change all the time: nothing opens in between, and all is right at the end.

use std::time::{Duration, Instant};

use policy_tests::cluster::agent::Agent;
use policy_tests::cluster::credentials::Account;
use policy_tests::cluster::objects::PodPlan;
use policy_tests::cluster::prober::Prober;
use policy_tests::cluster::{Cluster, Plan};
use serde_json::json;

use crate::beginnings::add_component;
use crate::changes::expect_kernels;
use crate::crowd::{Crowd, Dice};
use crate::latency;

super::cluster_tests!(a_crowd_that_changes_opens_nothing_in_between_and_ends_right);

/// How often probers try.
const EVERY: Duration = Duration::from_millis(4);

fn a_crowd_that_changes_opens_nothing_in_between_and_ends_right() {
    churn(1, 600, 120, Duration::from_secs(12));
}

/// A fort on both nodes, with a friend and an intruder on each, and a door that nobody guards.
pub(crate) fn fort(cluster: &mut Cluster) {
    cluster.apply_account().unwrap();
    cluster.namespace("fort", &[]).unwrap();
    cluster.namespace("x", &[("team", "none")]).unwrap();
    cluster.run(&PodPlan::new("fort/gate", 0)).unwrap();
    cluster.run(&PodPlan::new("fort/wall", 1)).unwrap();
    cluster.run(&PodPlan::new("x/door", 0)).unwrap();
    for node in [0, 1] {
        for name in ["friend", "intruder"] {
            let plan = PodPlan::new(&format!("x/{name}-{node}"), node).label("app", name);
            cluster.run(&plan).unwrap();
        }
    }
    let friends = json!({
        "podSelector": {},
        "ingress": [{"from": [{
            "namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "friend"}},
        }]}],
    });
    cluster.policy("fort/friends", friends).unwrap();
}

fn probe(cluster: &Cluster, from: &str, to: &str) -> Prober {
    let (from, to) = (&cluster.sandboxes[from], &cluster.sandboxes[to]);
    Prober::start(&from.namespace, &to.namespace, to.v4.into(), EVERY).unwrap()
}

pub(crate) fn churn(seed: u64, pods: usize, policies: usize, time: Duration) {
    churn_with(&[], seed, pods, policies, time);
}

/// The same with further options for policyd.
pub(crate) fn churn_with(
    options: &[&str],
    seed: u64,
    pods: usize,
    policies: usize,
    time: Duration,
) {
    let mut cluster = Cluster::start(&Plan::routes(&Plan::TWO)).unwrap();
    fort(&mut cluster);
    if options.contains(&"--scoped-watch") {
        add_component(&cluster, "scoped-watch");
    }
    let mut crowd = Crowd::gather(&cluster, Dice::new(seed), pods, policies);
    let start = |node| cluster.start_agent_as(node, Account::Policyd, options).unwrap();
    let agents: Vec<Agent> = (0..cluster.nodes.len()).map(start).collect();
    for agent in &agents {
        agent.await_ready().unwrap();
    }
    expect_kernels(&cluster);
    let intruders = [("x/intruder-1", "fort/gate"), ("x/intruder-0", "fort/wall")]
        .map(|(a, b)| probe(&cluster, a, b));
    let friends = [("x/friend-0", "fort/gate"), ("x/friend-1", "fort/wall")]
        .map(|(a, b)| probe(&cluster, a, b));
    let begin = Instant::now();
    let requests = crowd.churn(&cluster, time);
    let end = Instant::now();
    expect_kernels(&cluster);
    println!("{requests} requests in {:?}, caught up {:?} later", end - begin, end.elapsed());
    let settled = Instant::now();
    for intruder in intruders {
        let (arrived, sent) = intruder.stop().arrived_between(begin, settled);
        assert!(sent > 100, "only {sent} were sent");
        assert_eq!(arrived, 0, "let in of {sent}");
    }
    for friend in friends {
        let (arrived, sent) = friend.stop().arrived_between(begin, settled);
        assert!(sent > 100, "only {sent} were sent");
        assert_eq!(arrived, sent, "kept out");
    }
    cluster.expect_semantics("at the end").unwrap();
    latency::report_agents(&agents);
    agents.into_iter().try_for_each(Agent::stop).unwrap();
}
