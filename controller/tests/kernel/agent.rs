//! What the running agent answers, as an operator asks.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use policy_tests::privilege::kernel_test;

use crate::node::{Node, PATIENCE, PODS, TELLING, allow, await_first_reading};

#[test]
fn where_no_agent_runs_that_is_said_with_status_2() {
    kernel_test("agent::where_no_agent_runs_that_is_said_with_status_2", || {
        let node = Node::new("nft");
        for words in [&["status"][..], &["status", "--pod", "shop/a"], &["verify"]] {
            let (status, log) = node.end(words);
            assert_eq!(status.code(), Some(2), "{log}");
            assert!(
                log.starts_with("policyd: no policyd runs in this network namespace: "),
                "{log}"
            );
            assert_eq!(log.lines().count(), 1, "{log}");
        }
    });
}

#[test]
fn status_tells_what_is_enforced_and_whether_it_is_ready() {
    kernel_test("agent::status_tells_what_is_enforced_and_whether_it_is_ready", || {
        let node = Node::new("nft");
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let bad = allow("bad", "a", "b", 81).replace("from:", "form:");
        node.write("bad.yaml", &bad);
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);

        let (status, log) = node.end(&["status", "-o", "json"]);
        assert_eq!(status.code(), Some(0), "{log}");
        let all: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(all["ready"], true);
        assert_eq!(all["node"], "n1");
        assert_eq!(all["pid"], policyd.pid());
        assert_eq!(all["backend"], "nft");
        let expected = serde_json::json!({
            "policies": 2, "pods": 2, "namespaces": 0,
            "local_pods": 1, "isolated_ingress": 1, "isolated_egress": 0,
        });
        assert_eq!(all["counts"], expected);
        let expected = serde_json::json!([{
            "pod": "shop/a", "addresses": ["10.244.1.10", "fd00:10:244:1::a"],
            "ingress": ["bad", "web"], "egress": [],
            "audited_ingress": [], "audited_egress": [],
        }]);
        assert_eq!(all["pods"], expected);
        assert_eq!(all["failing_closed"][0]["policy"], "shop/bad");
        let chains = node.table("iptables", "nft").matches("\n:NPC-").count();
        assert_eq!(all["families"][0]["chains"], chains);
        assert_eq!(all["families"][0]["state"], "in-step");

        let (status, text) = node.end(&["status"]);
        assert_eq!(status.code(), Some(0), "{text}");
        assert!(text.starts_with("n1: ready\npolicyd "), "{text}");
        assert!(!text.contains('\u{1b}'), "no colour where no terminal is: {text}");
        assert!(
            text.contains("\nshop/a   10.244.1.10        bad, web     not isolated\n"),
            "{text}"
        );
        assert!(text.contains("form"), "the mistake is named: {text}");

        let (status, pod) = node.end(&["status", "--pod", "shop/a"]);
        assert_eq!(status.code(), Some(0), "{pod}");
        for rule in pod.lines().filter(|line| line.starts_with("  -m set")) {
            assert!(node.tables().contains(rule.trim()), "{rule} in {}", node.tables());
        }
        assert!(pod.contains("--dport 80 ") && pod.contains("10.244.2.10"), "{pod}");
        let (status, log) = node.end(&["status", "--pod", "shop/none"]);
        assert_eq!(status.code(), Some(2), "{log}");
        assert_eq!(log, "policyd: no live pod `shop/none` on node n1\n");

        node.write("broken.yaml", "kind: [");
        policyd.await_lines("broken.yaml cannot be read", 1);
        let (status, text) = node.end(&["status"]);
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(text.starts_with("n1: not ready\n") && text.contains("broken.yaml"), "{text}");
        assert!(policyd.stop(Signal::SIGTERM).success());
        assert_eq!(node.end(&["status"]).0.code(), Some(2));
    });
}

#[test]
fn another_user_is_refused_and_disturbs_nobody() {
    kernel_test("agent::another_user_is_refused_and_disturbs_nobody", || {
        let node = Node::new("nft");
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        // Where it was built others may not look.
        let program = std::env::temp_dir().join(format!("policyd-{}", std::process::id()));
        std::fs::copy(env!("CARGO_BIN_EXE_policyd"), &program).unwrap();
        let mut command = Command::new(&program);
        command.arg("status").uid(65_534).gid(65_534).current_dir("/");
        let output = node.namespace.output(&mut command, "").unwrap();
        std::fs::remove_file(&program).unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "policyd: policyd answers root and its own user, and you are user 65534\n"
        );
        assert_eq!(node.end(&["status"]).0.code(), Some(0));
    });
}

/// What is said of a deed when it is asked about. policyd may have put it right before that, and then all is
/// equal, and the deed is done once more.
fn named(node: &Node, deed: impl Fn(), question: &[&str]) -> String {
    let begun = Instant::now();
    loop {
        deed();
        let (status, log) = node.end(question);
        match status.code() {
            Some(1) => return log,
            Some(0) => assert!(begun.elapsed() < PATIENCE, "it is never named: {log}"),
            code => panic!("{code:?}: {log}"),
        }
    }
}

#[test]
fn verify_says_equal_while_policies_change_and_names_what_somebody_changed() {
    let name = "agent::verify_says_equal_while_policies_change_and_names_what_somebody_changed";
    kernel_test(name, || {
        let mut node = Node::new("nft");
        // What is changed below is not to be found before it is asked about.
        node.options = vec!["--verify-interval", "0"];
        node.options.extend(TELLING);
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        for port in 81..100 {
            node.write("policy.yaml", &allow("web", "a", "b", port));
            let (status, log) = node.end(&["verify"]);
            assert_eq!(status.code(), Some(0), "{log}");
        }
        await_first_reading(&mut policyd);
        // The count is as it was, which only a comparison of all members notices.
        let swap = || {
            policyd.unseen(|| {
                node.tool(&["ipset", "-exist", "del", "npc4-iso", "10.244.1.10"], "");
                node.tool(&["ipset", "-exist", "add", "npc4-iso", "10.244.1.11"], "");
            });
        };
        let log = named(&node, swap, &["verify"]);
        assert!(log.contains("- set npc4-iso lacks 10.244.1.10\n"), "{log}");
        assert!(log.contains("- set npc4-iso should not have 10.244.1.11\n"), "{log}");
        let log = named(&node, swap, &["verify", "-o", "json"]);
        let all: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(all["equal"], false);
        let expected = serde_json::json!({
            "kind": "member-missing", "set": "npc4-iso", "member": "10.244.1.10",
            "text": "set npc4-iso lacks 10.244.1.10",
        });
        assert_eq!(all["families"][0]["differences"][0], expected);
    });
}

#[test]
fn what_the_kernel_refuses_or_others_hold_is_no_difference_and_the_refused_is_named() {
    let name =
        "agent::what_the_kernel_refuses_or_others_hold_is_no_difference_and_the_refused_is_named";
    kernel_test(name, || {
        let mut node = Node::new("nft");
        let script = "sed -u 's/-p sctp -m sctp --dport [0-9:]*/-p sctp -m icmp --icmp-type 8/' | \
                      /usr/sbin/iptables-nft-restore \"$@\"";
        node.impersonate("iptables-nft-restore", script);
        let sctp = allow("sctp", "a", "b", 9).replace("port: 9", "protocol: SCTP, port: 9");
        node.write("pods.yaml", PODS).write("web.yaml", &allow("web", "a", "b", 80));
        node.write("sctp.yaml", &sctp);
        let mut policyd = node.start();
        policyd.await_lines("the kernel refuses `-p sctp", 1);
        let (status, log) = node.end(&["verify"]);
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("IPv4: the kernel refuses `-p sctp -m sctp --dport 9 "), "{log}");

        let tables = node.table("iptables", "nft");
        let leaf = tables.lines().find_map(|line| line.strip_prefix(":NPC-I-")).unwrap();
        let leaf = format!("NPC-I-{}", leaf.split(' ').next().unwrap());
        node.tool(&["iptables-nft", "-A", "DOCKER", "-j", &leaf], "");
        for policy in ["web.yaml", "sctp.yaml"] {
            std::fs::remove_file(node.source().join(policy)).unwrap();
        }
        policyd.await_lines("INFO ready ", 1);
        assert!(node.table("iptables", "nft").contains(&format!(":{leaf} ")), "it is held");
        let (status, log) = node.end(&["verify"]);
        assert_eq!(status.code(), Some(0), "{log}");
        let add = || drop(node.tool(&["iptables-nft", "-A", &leaf, "-j", "ACCEPT"], ""));
        let log = named(&node, add, &["verify"]);
        assert!(log.contains(&format!("chain {leaf} with 1 rule should not be there")), "{log}");
    });
}
