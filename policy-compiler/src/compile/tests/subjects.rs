//! Who is isolated and who is a peer.

use super::builders::*;
use super::reading::{allows, chain_names};
use crate::cidr::Family;
use crate::cluster::{Addresses, Namespace, Node, Phase, Pod, Snapshot};
use crate::compile::compile;
use crate::document::Location;
use crate::name::{NamespaceName, NodeName};
use crate::policy::{Direction, Policy};

const IN: Direction = Direction::Ingress;

/// Lets `app=web` in.
fn from_web(name: &str) -> Policy {
    ingress(policy(name, "app=db"), vec![(listed(vec![pods("app=web")]), ports(&["80"]))])
}

fn web(change: impl FnOnce(&mut Pod)) -> Pod {
    let mut web = pod("shop/web", "app=web", 2);
    change(&mut web);
    web
}

fn aged(mut pod: Pod, started: &str) -> Pod {
    pod.age.started = Some(started.into());
    pod
}

#[test]
fn pods_elsewhere_are_peers_and_not_subjects() {
    let mut db = pod("shop/db", "app=db", 1);
    let elsewhere = |pod: &mut Pod| pod.node = Some(NodeName::new("n2").unwrap());
    let snapshot = cluster([db.clone(), web(elsewhere)], [from_web("shop/a")]);
    assert_eq!(
        allows(&compile(&snapshot, &config()), IN, 1),
        ["-p tcp -m tcp --dport 80 {10.244.1.2} src"]
    );
    elsewhere(&mut db);
    let compiled = compile(&cluster([db, web(|_| ())], [from_web("shop/a")]), &config());
    assert_eq!(chain_names(&compiled, Family::V4), ["NPC-FORWARD"]);
}

#[test]
fn whoever_is_not_there_is_no_peer_and_the_set_stands_empty() {
    type Change = fn(&mut Pod);
    let nobody: [(&str, Change); 5] = [
        ("finished", |pod| pod.phase = Phase::Finished),
        ("on the host's network", |pod| pod.host_network = true),
        ("a template", |pod| pod.template = true),
        ("without an address", |pod| pod.addresses = Addresses::default()),
        ("in another namespace", |pod| pod.key = key("other/web")),
    ];
    for (what, change) in nobody {
        let snapshot = cluster([pod("shop/db", "app=db", 1), web(change)], [from_web("shop/a")]);
        let compiled = compile(&snapshot, &config());
        assert_eq!(allows(&compiled, IN, 1), ["-p tcp -m tcp --dport 80 {} src"], "{what}");
    }
}

#[test]
fn a_pod_that_has_not_finished_or_is_pending_with_an_address_is_a_peer() {
    let pending = web(|pod| pod.phase = Phase::Pending);
    let snapshot = cluster([pod("shop/db", "app=db", 1), pending], [from_web("shop/a")]);
    assert_eq!(
        allows(&compile(&snapshot, &config()), IN, 1),
        ["-p tcp -m tcp --dport 80 {10.244.1.2} src"]
    );
}

#[test]
fn the_address_of_a_node_is_in_no_pod_set() {
    let mut snapshot = cluster([pod("shop/db", "app=db", 1), web(|_| ())], [from_web("shop/a")]);
    let name = NodeName::new("n2").unwrap();
    let addresses = vec!["10.244.1.2".parse().unwrap()];
    snapshot.nodes.insert(
        name.clone(),
        Node { name, addresses, pod_networks: Vec::new(), location: Location::default() },
    );
    assert_eq!(allows(&compile(&snapshot, &config()), IN, 1), ["-p tcp -m tcp --dport 80 {} src"]);
}

#[test]
fn a_finished_jobs_address_takes_nothing_of_its_policies_to_the_next_owner() {
    let mut job = aged(pod("shop/job", "app=db", 1), "2026-01-02T00:00:00Z");
    job.phase = Phase::Finished;
    let next = aged(pod("other/next", "", 1), "2026-01-01T00:00:00Z");
    let compiled = compile(&cluster([job, next], [from_web("shop/a")]), &config());
    assert_eq!(chain_names(&compiled, Family::V4), ["NPC-FORWARD"]);
    assert_eq!(compiled.diagnostics, []);
}

#[test]
fn of_two_owners_the_newest_is_isolated_and_each_is_a_peer() {
    let old = aged(pod("shop/old", "app=db", 1), "2026-01-01T00:00:00Z");
    let new = aged(pod("shop/new", "app=web", 1), "2026-01-02T00:00:00Z");
    let other = pod("shop/other", "app=db", 3);
    let snapshot = |pods: [Pod; 3]| cluster(pods, [from_web("shop/a")]);
    let compiled = compile(&snapshot([old.clone(), new, other.clone()]), &config());
    // The old one's policy no longer isolates the address, which still is that of `app=web`.
    assert_eq!(allows(&compiled, IN, 3), ["-p tcp -m tcp --dport 80 {10.244.1.1} src"]);
    assert_eq!(
        chain_names(&compiled, Family::V4).iter().filter(|c| c.starts_with("NPC-I-")).count(),
        1
    );
    let said: Vec<String> = compiled.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["10.244.1.1", "fd00::1"].map(|address| format!(
            "warning: Pod shop/new: status.podIPs: {address} is also the address of shop/old; \
             the policies of shop/new, the newest, apply to it"
        ))
    );
    let older = aged(pod("shop/new", "app=web", 1), "2025-01-01T00:00:00Z");
    let compiled = compile(&snapshot([old, older, other]), &config());
    assert_eq!(allows(&compiled, IN, 1), ["-p tcp -m tcp --dport 80 {10.244.1.1} src"]);
}

#[test]
fn a_namespace_that_excludes_two_excludes_both_and_addresses_that_are_no_pod() {
    let not = not_in("kubernetes.io/metadata.name", &["x", "y"]);
    let policy =
        ingress(policy("shop/a", "app=db"), vec![(listed(vec![pods_in(not, "")]), ports(&["80"]))]);
    let snapshot = cluster(
        [pod("shop/db", "app=db", 1), pod("x/a", "", 2), pod("y/a", "", 3), pod("z/a", "", 4)],
        [policy],
    );
    assert_eq!(
        allows(&compile(&snapshot, &config()), IN, 1),
        ["-p tcp -m tcp --dport 80 {10.244.1.1 10.244.1.4} src"]
    );
}

#[test]
fn namespaces_are_selected_by_their_labels() {
    let selector = selector("team=a");
    let policy = ingress(
        policy("shop/a", "app=db"),
        vec![(listed(vec![pods_in(selector, "app=web")]), ports(&["80"]))],
    );
    let mut snapshot: Snapshot = cluster(
        [
            pod("shop/db", "app=db", 1),
            pod("x/web", "app=web", 2),
            pod("x/job", "app=job", 3),
            pod("y/web", "app=web", 4),
        ],
        [policy],
    );
    let x = NamespaceName::new("x").unwrap();
    snapshot.namespaces.insert(x.clone(), Namespace::new(x, labels("team=a"), Location::default()));
    assert_eq!(
        allows(&compile(&snapshot, &config()), IN, 1),
        ["-p tcp -m tcp --dport 80 {10.244.1.2} src"]
    );
}
