//! What an operator may have wrong when policyd starts: a line each, and what heals is waited for.

use std::process::Command;

use nix::sys::signal::Signal;
use policy_tests::privilege::kernel_test;

use crate::node::{Node, PODS, allow};

/// A cluster that nobody answers for.
const AWAY: &str = "\
apiVersion: v1
kind: Config
current-context: away
clusters: [{name: away, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: away, context: {cluster: away, user: nobody}}]
users: [{name: nobody, user: {}}]
";

/// The exit status of policyd with these arguments and variables, and what it says.
fn end(node: &Node, words: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_policyd"));
    command.args(words).env_remove("KUBERNETES_SERVICE_HOST").env_remove("NODE_NAME");
    command.envs(variables.iter().copied());
    let output = node.namespace.output(&mut command, "").unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Words, variables, and what is said of them.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

#[test]
fn what_cannot_heal_is_said_in_a_line_with_status_2() {
    kernel_test("start::what_cannot_heal_is_said_in_a_line_with_status_2", || {
        let node = Node::new("nft");
        let source = node.source().display().to_string();
        let kubeconfig = node.file("none").display().to_string();
        let cases: [Case<'_>; 4] = [
            (&["run", "--source", &source], &[], "fieldRef: {fieldPath: spec.nodeName}"),
            (&["run", "--source", &source], &[("NODE_NAME", "")], "give it with --node"),
            (&["run", "--node", "n1"], &[], "KUBERNETES_SERVICE_HOST is not set"),
            (&["run", "--node", "n1", "--kubeconfig", &kubeconfig], &[], "none"),
        ];
        for (words, variables, expected) in cases {
            let (status, log) = end(&node, words, variables);
            assert_eq!(status, Some(2), "{words:?}: {log}");
            assert!(log.starts_with("policyd: ") && log.contains(expected), "{words:?}: {log}");
            assert_eq!(log.lines().count(), 1, "{words:?}: {log}");
        }
        let both = ["run", "--source", &source, "--kubeconfig", &kubeconfig];
        assert_eq!(end(&node, &both, &[]).0, Some(2));
    });
}

#[test]
fn variables_that_are_set_to_nothing_are_not_set() {
    kernel_test("start::variables_that_are_set_to_nothing_are_not_set", || {
        let node = Node::new("nft");
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let source = node.source().display().to_string();
        let (status, log) = end(
            &node,
            &["run", "--once", "--iptables-backend", "nft"],
            &[
                ("POLICYD_SOURCE", &source),
                ("NODE_NAME", "n1"),
                ("POLICYD_KUBECONFIG", ""),
                ("POLICYD_KEEP_ESTABLISHED", ""),
                ("POLICYD_DENY", ""),
                ("POLICYD_LISTEN", ""),
                ("POLICYD_LOG_FORMAT", ""),
            ],
        );
        assert_eq!(status, Some(0), "{log}");
        assert!(node.tables().contains("--dport 80 "), "{}", node.tables());
    });
}

#[test]
fn an_api_server_that_is_away_is_waited_for_and_nothing_is_written() {
    kernel_test("start::an_api_server_that_is_away_is_waited_for_and_nothing_is_written", || {
        let node = Node::new("nft");
        let before = node.everything();
        let kubeconfig = node.file("kubeconfig");
        std::fs::write(&kubeconfig, AWAY).unwrap();
        let kubeconfig = kubeconfig.display().to_string();
        let mut policyd = node.run(&["run", "--node", "n1", "--kubeconfig", &kubeconfig]);
        policyd.await_lines("not listed yet: ", 1);
        policyd.await_lines("pods: ", 1);
        assert_eq!(node.everything(), before);
        assert!(policyd.stop(Signal::SIGTERM).success());
    });
}
