//! Policies as large as somebody may write them, loaded into the kernel as policyd does.

use std::fmt::Write as _;
use std::time::Duration;

use crate::node::{Node, PODS};

/// Makes a test of each scenario under each backend.
macro_rules! under_both_backends {
    ($($scenario:ident),* $(,)?) => {
        mod nft {
            $(#[test]
            fn $scenario() {
                let name = concat!("hostile::nft::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("nft"));
            })*
        }
        mod legacy {
            $(#[test]
            fn $scenario() {
                let name = concat!("hostile::legacy::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("legacy"));
            })*
        }
    };
}

under_both_backends!(
    a_thousand_ports_for_ten_thousand_peers_are_in_force,
    five_thousand_policies_for_one_pod_are_in_force,
    names_and_comments_as_long_as_they_get_are_in_force,
    a_pod_that_flaps_leaves_neither_sets_nor_members_behind,
);

fn policy(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: a}}}}\n  ingress:\n{rules}---\n"
    )
}

/// Runs policyd once, which must do its work.
fn once(node: &Node) {
    let (status, log) = node.once();
    assert!(status.success(), "{log}");
}

fn count(text: &str, beginning: &str) -> usize {
    text.lines().filter(|line| line.starts_with(beginning)).count()
}

/// What was written is what is wanted, as policyd's own comparison has it.
fn expect_verified(node: &Node) {
    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    let (status, log) = node.end(&["verify"]);
    assert!(status.success(), "{log}");
}

fn a_thousand_ports_for_ten_thousand_peers_are_in_force(backend: &'static str) {
    let node = Node::new(backend);
    let mut rules = String::from("  - ports:\n");
    for port in 1..=1_000 {
        writeln!(
            rules,
            "    - {{port: {}}}\n    - {{port: {}, protocol: UDP}}",
            2 * port,
            3 * port
        )
        .unwrap();
    }
    rules.push_str("    from:\n");
    for peer in 0..5_000 {
        writeln!(rules, "    - {{podSelector: {{matchLabels: {{app: p{peer}}}}}}}").unwrap();
        let (high, low) = (peer / 100, peer % 100);
        writeln!(
            rules,
            "    - {{ipBlock: {{cidr: 172.{high}.{low}.0/25, except: [172.{high}.{low}.8/29]}}}}"
        )
        .unwrap();
    }
    node.write("pods.yaml", PODS).write("policy.yaml", &policy("large", &rules));
    once(&node);
    let table = node.table("iptables", backend);
    // 67 rules of 15 ports for TCP and as many for UDP, by pods and by blocks.
    let rules = count(&table, "-A NPC-");
    assert!((4 * 60..4 * 67 + 30).contains(&rules), "{rules} rules");
    let members = count(&node.sets(), "add npc4-n-");
    assert!((10_000..=15_000).contains(&members), "{members} members");
    expect_verified(&node);
}

fn five_thousand_policies_for_one_pod_are_in_force(backend: &'static str) {
    let node = Node::new(backend);
    let mut policies = String::new();
    for number in 0..5_000 {
        let (high, low) = (number / 100, number % 100);
        let rule = format!(
            "  - {{from: [{{ipBlock: {{cidr: 172.{high}.{low}.0/24}}}}], ports: [{{port: {}}}]}}\n",
            1 + number
        );
        policies.push_str(&policy(&format!("p{number}"), &rule));
    }
    node.write("pods.yaml", PODS).write("policy.yaml", &policies);
    once(&node);
    let table = node.table("iptables", backend);
    let rules = count(&table, "-A NPC-");
    assert!((5_000..5_030).contains(&rules), "{rules} rules");
    expect_verified(&node);
}

fn names_and_comments_as_long_as_they_get_are_in_force(backend: &'static str) {
    let node = Node::new(backend);
    let (namespace, name) = ("s".repeat(63), "n".repeat(252));
    let mut objects = String::new();
    for last in ["a", "b"] {
        let host = if last == "a" { 10 } else { 11 };
        write!(
            objects,
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}{last}, namespace: {namespace}}}\n\
             spec: {{nodeName: n1}}\nstatus: {{phase: Running, podIP: 10.244.1.{host}}}\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: {name}{last}, namespace: {namespace}}}\nspec: {{podSelector: {{}}}}\n---\n"
        )
        .unwrap();
    }
    node.write("objects.yaml", &objects);
    once(&node);
    let table = node.table("iptables", backend);
    assert_eq!(count(&table, ":NPC-I-"), 2, "{table}");
    assert!(table.contains(&format!("{namespace}/{}", "n".repeat(255 - 64))), "{table}");
    expect_verified(&node);
}

fn a_pod_that_flaps_leaves_neither_sets_nor_members_behind(backend: &'static str) {
    let node = Node::new(backend);
    let rule = "  - {from: [{podSelector: {matchLabels: {app: b}}}]}\n";
    node.write("pods.yaml", PODS).write("policy.yaml", &policy("web", rule));
    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    let (tables, sets) = (node.tables(), node.sets());
    // A hundred times a second, for as long as writing the file does not take more.
    let gone = PODS.replace(
        "phase: Running, podIPs: [{ip: 10.244.2.10}",
        "phase: Failed, podIPs: [{ip: 10.244.2.10}",
    );
    for _ in 0..200 {
        node.write("pods.yaml", &gone);
        std::thread::sleep(Duration::from_millis(5));
        node.write("pods.yaml", PODS);
        std::thread::sleep(Duration::from_millis(5));
    }
    // What comes last is in force in the end.
    node.write("pods.yaml", &PODS.replace("10.244.2.10", "10.244.2.77"));
    policyd.await_that("the last address", |_| node.sets().contains(" 10.244.2.77\n"));
    node.write("pods.yaml", PODS);
    policyd.await_that("the first address", |_| node.sets() == sets);
    assert_eq!(node.tables(), tables);
}
