//! What probes, Prometheus and an operator on the node see of a running policyd.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use policy_tests::privilege::kernel_test;

use crate::node::{Node, PODS, allow};

const ADDRESS: &str = "127.0.0.1:9476";
/// How long anything may take before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(40);

fn node() -> Node {
    let node = Node::new("nft");
    node.tool(&["ip", "link", "set", "lo", "up"], "");
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
    node
}

/// Status and body; nothing where nobody listens.
pub(crate) fn get(node: &Node, path: &str) -> Option<(u16, String)> {
    let mut stream = node.namespace.enter(|| TcpStream::connect(ADDRESS)).unwrap().ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Some((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

fn await_answer(node: &Node, path: &str, what: &str, is_so: impl Fn(u16, &str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let answer = get(node, path);
        match &answer {
            Some((status, body)) if is_so(*status, body) => return body.clone(),
            _ => assert!(begun.elapsed() < PATIENCE, "{what}: {answer:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until each of the lines is among the metrics.
fn await_metrics(node: &Node, lines: &[&str]) {
    await_answer(node, "/metrics", &format!("{lines:?}"), |_, text| {
        lines.iter().all(|line| text.lines().any(|other| other == *line))
    });
}

/// The lines of all tables that make our rules.
fn our_rules(node: &Node) -> Vec<String> {
    let mut rules: Vec<String> = node.tables().lines().map(str::to_owned).collect();
    rules.retain(|line| line.contains("NPC-"));
    rules
}

/// The sets as they were made and filled, less the number that the kernel draws for each.
fn our_sets(node: &Node) -> Vec<String> {
    let sets = node.sets();
    let lines = sets.lines().map(|line| line.split(" initval").next().unwrap_or_default());
    lines.map(str::to_owned).collect()
}

/// The part of a ruleset from the line `# TITLE` to the next such line.
fn part<'a>(ruleset: &'a str, title: &str) -> &'a str {
    let (_, rest) = ruleset.split_once(&format!("# {title}\n")).unwrap();
    rest.find("\n# ").map_or(rest, |end| &rest[..=end])
}

#[test]
fn what_is_in_force_is_shown_and_would_make_the_same_elsewhere() {
    kernel_test("http::what_is_in_force_is_shown_and_would_make_the_same_elsewhere", || {
        let node = node();
        node.write("bad.yaml", &allow("bad", "a", "b", 81).replace("from:", "form:"));
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        assert_eq!(get(&node, "/healthz"), Some((200, "ok\n".to_owned())));
        assert_eq!(get(&node, "/readyz"), Some((200, "ready\n".to_owned())));
        assert_eq!(get(&node, "/").map(|(status, _)| status), Some(404));

        let count = |text: &str, what: &str| text.lines().filter(|l| l.starts_with(what)).count();
        let (table, sets) = (node.table("iptables", "nft"), node.sets());
        let v4_members = sets.lines().filter(|line| line.starts_with("add npc4-")).count();
        let expected = [
            "policyd_ready 1".to_owned(),
            "policyd_policies 2".to_owned(),
            "policyd_policies_failing_closed 1".to_owned(),
            "policyd_local_pods 1".to_owned(),
            format!("policyd_chains{{family=\"ipv4\"}} {}", count(&table, ":NPC-")),
            format!("policyd_rules{{family=\"ipv4\"}} {}", count(&table, "-A NPC-")),
            format!("policyd_set_members{{family=\"ipv4\"}} {v4_members}"),
            "policyd_apply_duration_seconds_count{family=\"ipv4\",outcome=\"written\"} 1"
                .to_owned(),
            "policyd_drift_repairs_total{family=\"ipv4\",kind=\"hooks\"} 0".to_owned(),
        ];
        await_metrics(&node, &expected.each_ref().map(String::as_str));

        let (status, ruleset) = get(&node, "/debug/ruleset").unwrap();
        assert_eq!(status, 200, "{ruleset}");
        let elsewhere = Node::new("nft");
        for (family, restore) in [("IPv4", "iptables-restore"), ("IPv6", "ip6tables-restore")] {
            let sets = part(&ruleset, &format!("{family}, sets"));
            elsewhere.tool(&["ipset", "restore"], sets);
            let rules = part(&ruleset, &format!("{family}, rules"));
            elsewhere.tool(&[restore, "--noflush"], rules);
        }
        assert_eq!(our_rules(&elsewhere), our_rules(&node));
        assert_eq!(our_sets(&elsewhere), our_sets(&node));
    });
}

#[test]
fn what_is_wrong_is_shown_until_it_is_mended() {
    kernel_test("http::what_is_wrong_is_shown_until_it_is_mended", || {
        let node = node();
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        node.write("broken.yaml", "kind: [");
        await_answer(&node, "/readyz", "a broken file is a reason", |status, text| {
            status == 503 && text.contains("broken.yaml")
        });
        await_metrics(&node, &["policyd_ready 0", "policyd_source_problems 1"]);
        assert_eq!(get(&node, "/healthz"), Some((200, "ok\n".to_owned())), "the loop turns");
        node.write("broken.yaml", &allow("more", "a", "b", 81));
        await_answer(&node, "/readyz", "it is mended", |status, _| status == 200);
        await_metrics(&node, &["policyd_ready 1", "policyd_source_problems 0"]);

        node.tool(&["iptables-nft", "-D", "FORWARD", "1"], "");
        await_metrics(&node, &["policyd_drift_repairs_total{family=\"ipv4\",kind=\"hooks\"} 1"]);
        await_metrics(&node, &["policyd_drift_repairs_total{family=\"ipv6\",kind=\"hooks\"} 0"]);
        assert_eq!(node.forward().first().map(String::as_str), Some("NPC-FORWARD"));
    });
}

#[test]
fn a_port_that_is_taken_stops_no_enforcement_and_is_served_once_free() {
    let name = "http::a_port_that_is_taken_stops_no_enforcement_and_is_served_once_free";
    kernel_test(name, || {
        let node = node();
        let other = node.namespace.enter(|| TcpListener::bind(ADDRESS)).unwrap().unwrap();
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        policyd.await_lines("cannot listen; trying again, enforcing meanwhile", 1);
        assert!(node.tables().contains("--dport 80 "), "{}", node.tables());
        std::thread::sleep(Duration::from_secs(3));
        let told = policyd.log().matches("cannot listen").count();
        assert_eq!(told, 1, "one reason is told once: {}", policyd.log());
        drop(other);
        await_answer(&node, "/readyz", "the port is free", |status, _| status == 200);
    });
}
