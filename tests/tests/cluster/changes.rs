//! Objects come, change and go; packets follow.

use policy_tests::cluster::agent::Agent;
use policy_tests::cluster::objects::PodPlan;
use policy_tests::cluster::table::PATIENCE;
use policy_tests::cluster::{Cluster, Plan};
use serde_json::{Value, json};

super::cluster_tests!(
    policies_are_followed_as_they_are_made_changed_and_deleted,
    labels_of_pods_and_namespaces_are_followed,
    a_namespace_made_again_under_its_name_starts_from_nothing,
    an_address_used_again_after_a_pod_succeeded_carries_nothing_over,
    a_pod_made_again_on_another_node_is_policed_there_and_forgotten_here,
    ports_that_pods_name_are_resolved_where_they_are_named,
    pods_of_the_host_network_are_neither_subjects_nor_peers_and_a_node_reaches_its_own_pods,
);

/// Two nodes with policyd; in namespace `x` a server on the first, `good` beside it, `other` on the
/// second.
pub(crate) fn scene() -> (Cluster, Vec<Agent>) {
    let mut cluster = Cluster::start(&Plan::routes(&Plan::TWO)).unwrap();
    cluster.apply_account().unwrap();
    populate(&mut cluster);
    let agents = cluster.start_agents().unwrap();
    (cluster, agents)
}

/// The pods of [`scene`].
pub(crate) fn populate(cluster: &mut Cluster) {
    cluster.namespace("x", &[("team", "x")]).unwrap();
    for (name, node) in [("x/server", 0), ("x/good", 0), ("x/other", 1)] {
        cluster.run(&PodPlan::new(name, node)).unwrap();
    }
}

/// A policy that lets pods with `app: client` of its namespace into the server on 80.
pub(crate) fn let_in(client: &str) -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"app": client}}}],
            "ports": [{"port": 80}],
        }],
    })
}

/// Everybody reaches the server.
pub(crate) const OPEN: &str = "
    x/good  -> x/server 80     allow
    x/good  -> x/server 81     allow
    x/other -> x/server 80     allow
    x/other -> x/server 80/udp allow";

/// [`let_in`] `good`.
pub(crate) const GOOD: &str = "
    x/good  -> x/server 80     allow
    x/good  -> x/server 81     deny
    x/good  -> x/server 80/udp deny
    x/other -> x/server 80     deny
    x/other -> x/server 80/udp deny
    x/server -> x/other 80     allow
    node-0  -> x/server 81     allow
    node-1  -> x/server 80     deny";

/// [`let_in`] `other`.
pub(crate) const OTHER: &str = "
    x/good  -> x/server 80     deny
    x/other -> x/server 80     allow
    x/other -> x/server 81     deny";

/// Both nodes hold what follows from the API server's objects.
pub(crate) fn expect_kernels(cluster: &Cluster) {
    for node in 0..cluster.nodes.len() {
        cluster.expect_kernel(node, PATIENCE).unwrap();
    }
}

fn policies_are_followed_as_they_are_made_changed_and_deleted() {
    let (cluster, agents) = scene();
    cluster.expect("no policy", OPEN).unwrap();
    cluster.policy("x/server", let_in("good")).unwrap();
    cluster.expect("a policy is made", GOOD).unwrap();
    cluster.change_policy("x/server", let_in("other")).unwrap();
    cluster.expect("its peers are others", OTHER).unwrap();
    let egress = json!({
        "podSelector": {"matchLabels": {"app": "other"}},
        "policyTypes": ["Egress"],
        "egress": [{"ports": [{"port": 81}]}],
    });
    cluster.policy("x/other-leaves", egress).unwrap();
    cluster
        .expect(
            "egress is denied where ingress is allowed",
            "x/other  -> x/server 80 deny
             x/other  -> x/good   81 allow
             x/other  -> x/good   80 deny
             x/server -> x/other  80 allow",
        )
        .unwrap();
    cluster.expect_semantics("two policies").unwrap();
    expect_kernels(&cluster);
    cluster.delete_policy("x/server").unwrap();
    cluster.delete_policy("x/other-leaves").unwrap();
    cluster.expect("no policy any more", OPEN).unwrap();
    expect_kernels(&cluster);
    for agent in agents {
        agent.stop().unwrap();
    }
}

fn labels_of_pods_and_namespaces_are_followed() {
    let (mut cluster, _agents) = scene();
    cluster.namespace("y", &[("team", "y")]).unwrap();
    cluster.run(&PodPlan::new("y/far", 1)).unwrap();
    cluster.policy("x/server", let_in("good")).unwrap();
    cluster.expect("a policy", GOOD).unwrap();
    cluster.label_pod("x/good", json!({"app": "bad"})).unwrap();
    cluster.label_pod("x/other", json!({"app": "good"})).unwrap();
    cluster.expect("peers change places", OTHER).unwrap();
    cluster.label_pod("x/server", json!({"app": null})).unwrap();
    cluster.expect("the subject has no label any more", OPEN).unwrap();
    cluster.label_pod("x/server", json!({"app": "server"})).unwrap();
    cluster.expect("it has it again", OTHER).unwrap();
    let teams = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "friends"}}}]}],
    });
    cluster.change_policy("x/server", teams).unwrap();
    cluster.expect("a team without namespaces", "x/other -> x/server 80 deny").unwrap();
    cluster.expect("a team without namespaces", "y/far   -> x/server 80 deny").unwrap();
    cluster.label_namespace("y", json!({"team": "friends"})).unwrap();
    cluster
        .expect(
            "a namespace joins the team",
            "y/far   -> x/server 80 allow
             x/other -> x/server 80 deny",
        )
        .unwrap();
    cluster.label_namespace("y", json!({"team": null})).unwrap();
    cluster.expect("it leaves the team", "y/far -> x/server 80 deny").unwrap();
    cluster.expect_semantics("at the end").unwrap();
    expect_kernels(&cluster);
}

fn a_namespace_made_again_under_its_name_starts_from_nothing() {
    let (mut cluster, _agents) = scene();
    cluster.namespace("y", &[("team", "friends")]).unwrap();
    cluster.run(&PodPlan::new("y/far", 1)).unwrap();
    let teams = json!({
        "podSelector": {},
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "friends"}}}]}],
    });
    cluster.policy("x/teams", teams.clone()).unwrap();
    cluster.policy("y/deny", json!({"podSelector": {}})).unwrap();
    cluster
        .expect(
            "a namespace of the team",
            "y/far  -> x/server 80 allow
             x/good -> y/far    80 deny",
        )
        .unwrap();
    cluster.delete_namespace("y").unwrap();
    cluster.namespace("y", &[]).unwrap();
    cluster.run(&PodPlan::new("y/far", 1)).unwrap();
    cluster
        .expect(
            "the same name without labels and policies",
            "y/far  -> x/server 80 deny
             x/good -> y/far    80 allow",
        )
        .unwrap();
    cluster.expect_semantics("at the end").unwrap();
    expect_kernels(&cluster);
}

fn an_address_used_again_after_a_pod_succeeded_carries_nothing_over() {
    let (mut cluster, _agents) = scene();
    cluster.policy("x/server", let_in("job")).unwrap();
    cluster.policy("x/job", let_in_all_but_isolate("job")).unwrap();
    cluster.run(&PodPlan::new("x/job", 0).host(77)).unwrap();
    cluster
        .expect(
            "a job runs",
            "x/job   -> x/server 80 allow
             x/other -> x/job    80 deny",
        )
        .unwrap();
    cluster.finish("x/job").unwrap();
    cluster.run(&PodPlan::new("x/next", 0).host(77)).unwrap();
    cluster
        .expect(
            "its address is another pod's",
            "x/next  -> x/server 80 deny
             x/other -> x/next   80 allow",
        )
        .unwrap();
    cluster.expect_semantics("the job's object is still there").unwrap();
    expect_kernels(&cluster);
    cluster.delete_pod("x/job").unwrap();
    cluster
        .expect(
            "the job's object goes",
            "x/next  -> x/server 80 deny
             x/other -> x/next   80 allow",
        )
        .unwrap();
    expect_kernels(&cluster);
}

/// Nobody reaches pods of this `app`.
fn let_in_all_but_isolate(app: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": app}}})
}

fn a_pod_made_again_on_another_node_is_policed_there_and_forgotten_here() {
    let (mut cluster, _agents) = scene();
    cluster.policy("x/server", let_in("good")).unwrap();
    cluster.expect("on the first node", GOOD).unwrap();
    cluster.delete_pod("x/server").unwrap();
    cluster.run(&PodPlan::new("x/server", 1)).unwrap();
    cluster
        .expect(
            "on the second node",
            "x/good  -> x/server 80 allow
             x/good  -> x/server 81 deny
             x/other -> x/server 80 deny
             node-1  -> x/server 80 allow
             node-0  -> x/server 80 deny",
        )
        .unwrap();
    expect_kernels(&cluster);
    cluster.delete_pod("x/good").unwrap();
    cluster.run(&PodPlan::new("x/good", 1)).unwrap();
    cluster
        .expect(
            "its peer beside it on the bridge",
            "x/good  -> x/server 80 allow
             x/good  -> x/server 81 deny
             x/other -> x/server 80 deny",
        )
        .unwrap();
    expect_kernels(&cluster);
}

fn ports_that_pods_name_are_resolved_where_they_are_named() {
    let (mut cluster, _agents) = scene();
    cluster.run(&PodPlan::new("x/low", 0).label("tier", "web").port("http", 80)).unwrap();
    cluster.run(&PodPlan::new("x/high", 1).label("tier", "web").port("http", 8080)).unwrap();
    let named = json!({
        "podSelector": {"matchLabels": {"tier": "web"}},
        // The server of this version drops `endPort`; a port alone is left of the range.
        "ingress": [{"ports": [{"port": "http"}, {"port": 81, "endPort": 8080}]}],
    });
    cluster.policy("x/web", named).unwrap();
    cluster
        .expect(
            "a named port",
            "x/good  -> x/low  80   allow
             x/good  -> x/low  81   allow
             x/good  -> x/low  8080 deny
             x/other -> x/high 8080 allow
             x/other -> x/high 81   allow
             x/other -> x/high 80   deny",
        )
        .unwrap();
    expect_kernels(&cluster);
}

fn pods_of_the_host_network_are_neither_subjects_nor_peers_and_a_node_reaches_its_own_pods() {
    let (mut cluster, _agents) = scene();
    cluster.run(&PodPlan::new("x/agent", 1).label("app", "good").on_host_network()).unwrap();
    cluster.policy("x/server", let_in("good")).unwrap();
    cluster.expect("a pod of the host network has the peer's label", GOOD).unwrap();
    cluster
        .policy("x/deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))
        .unwrap();
    cluster.delete_policy("x/server").unwrap();
    cluster
        .expect(
            "everything is denied",
            "node-0  -> x/server 80     allow
             node-0  -> x/server 80/udp allow
             node-0  -> x/good   80     allow
             node-1  -> x/other  80     allow
             node-1  -> x/server 80     deny
             node-0  -> x/other  80     deny
             x/good  -> x/server 80     deny
             x/other -> x/good   80     deny",
        )
        .unwrap();
    let node = json!({
        "podSelector": {},
        "ingress": [{"from": [{"ipBlock": {"cidr": "172.18.0.11/32"}}]}],
    });
    cluster.policy("x/from-node", node).unwrap();
    let server = cluster.sandboxes["x/server"].v4;
    let table = format!("node-1 -> {server} 80 allow\nx/other -> {server} 80 deny");
    cluster.expect("a block covers the other node", &table).unwrap();
    expect_kernels(&cluster);
}
