//! The program as an operator meets it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy_tests::privilege::kernel_test;

use crate::node::{Node, PATIENCE, PODS, TELLING, allow};

/// Makes a test of each scenario under each backend.
macro_rules! under_both_backends {
    ($($scenario:ident),* $(,)?) => {
        mod nft {
            $(#[test]
            fn $scenario() {
                let name = concat!("program::nft::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("nft"));
            })*
        }
        mod legacy {
            $(#[test]
            fn $scenario() {
                let name = concat!("program::legacy::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("legacy"));
            })*
        }
    };
}

under_both_backends!(
    an_edit_is_applied_and_cleanup_leaves_only_what_others_wrote,
    a_restart_takes_over_old_rules_without_a_gap,
    a_file_that_breaks_keeps_what_it_held_and_one_broken_from_the_start_stops_the_start,
    a_failure_in_one_family_does_not_stop_the_other_and_is_made_good,
    a_rule_that_the_kernel_refuses_stops_no_other_and_denies,
    policies_that_go_and_come_back_at_once_are_in_force,
    many_refused_rules_stop_no_other,
    a_chain_that_others_lead_to_stops_no_update_and_alone_outlives_cleanup,
    leftovers_in_the_other_backend_are_removed_once_that_is_possible,
    a_set_of_another_type_is_named_and_replaced_once_it_is_free,
);

fn an_edit_is_applied_and_cleanup_leaves_only_what_others_wrote(backend: &'static str) {
    let node = Node::new(backend);
    let before = node.everything();
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));

    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    assert_eq!(node.forward(), ["NPC-FORWARD", "DOCKER"]);
    assert!(node.tables().contains("--dport 80 "), "{}", node.tables());
    assert!(node.sets().contains(" 10.244.2.10\n"), "{}", node.sets());

    let has_port = |tables: &str, port: u16| tables.contains(&format!("--dport {port} "));
    node.write("policy.yaml", &allow("web", "a", "b", 443));
    policyd.await_that("one port in the place of another, in both families", |_| {
        let tables = ["iptables", "ip6tables"].map(|family| node.table(family, backend));
        tables.iter().all(|table| has_port(table, 443) && !has_port(table, 80))
    });

    // Another peer on the same port changes members and no rule.
    let tables = node.tables();
    node.write("pods.yaml", &PODS.replace("10.244.2.10", "10.244.2.11"));
    policyd.await_that("one member in the place of another", |_| {
        let sets = node.sets();
        sets.contains(" 10.244.2.11\n") && !sets.contains(" 10.244.2.10\n")
    });
    assert_eq!(node.tables(), tables);

    let in_force = node.everything();
    assert!(policyd.stop(Signal::SIGTERM).success());
    assert_eq!(node.everything(), in_force, "rules stay");

    let (status, log) = node.cleanup();
    assert!(status.success(), "{log}");
    assert_eq!(node.everything(), before);
    let (status, log) = node.cleanup();
    assert!(status.success());
    assert_eq!(log, "nothing to remove\n");
}

fn a_restart_takes_over_old_rules_without_a_gap(backend: &'static str) {
    let node = Node::new(backend);
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
    let (status, log) = node.once();
    assert!(status.success(), "{log}");
    // Somebody put a rule before ours, and ours a second time.
    node.tool(&[&format!("iptables-{backend}"), "-I", "FORWARD", "1", "-j", "NPC-FORWARD"], "");
    node.tool(&[&format!("iptables-{backend}"), "-I", "FORWARD", "1", "-j", "DOCKER"], "");

    node.write("policy.yaml", &allow("web", "a", "b", 443));
    let mut policyd = node.start();
    policyd.await_that("ready", |log| {
        let forward = node.forward();
        assert!(forward.iter().any(|target| target == "NPC-FORWARD"), "{forward:?}");
        log.contains("INFO ready ")
    });
    assert_eq!(node.forward(), ["NPC-FORWARD", "DOCKER", "DOCKER"]);
    assert!(policyd.stop(Signal::SIGINT).success());
    let taken_over = node.tables();

    // The same as where nothing stood before, but for generations in the names of sets.
    let fresh = Node::new(backend);
    fresh.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 443));
    assert!(fresh.once().0.success());
    let plain = |tables: &str| {
        let ours = tables.lines().filter(|line| line.contains("-A NPC-"));
        ours.map(without_generation).collect::<Vec<_>>()
    };
    assert_eq!(plain(&taken_over), plain(&fresh.tables()));
    let count = |node: &Node| node.sets().lines().filter(|l| l.starts_with("create npc")).count();
    assert_eq!(count(&node), count(&fresh));
}

/// A rule with the generations of its sets taken off.
fn without_generation(rule: &str) -> String {
    let strip = |word: &str| match word.rsplit_once('-') {
        Some((set, _)) if word.starts_with("npc") && word.contains("-p-") => set.to_owned(),
        _ => word.to_owned(),
    };
    rule.split(' ').map(strip).collect::<Vec<_>>().join(" ")
}

fn a_file_that_breaks_keeps_what_it_held_and_one_broken_from_the_start_stops_the_start(
    backend: &'static str,
) {
    let node = Node::new(backend);
    let before = node.everything();
    node.write("pods.yaml", PODS).write("policy.yaml", "kind: [");
    let (status, log) = node.once();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("policy.yaml:"), "{log}");
    assert_eq!(node.everything(), before, "the kernel is left as it was found");

    let mut policyd = node.start();
    policyd.await_lines("not ready", 1);
    assert_eq!(node.everything(), before);
    node.write("policy.yaml", &allow("web", "a", "b", 80));
    policyd.await_lines("INFO ready ", 1);
    let in_force = node.everything();
    assert_ne!(in_force, before);

    let told = policyd.lines("not ready");
    node.write("policy.yaml", "kind: [[");
    policyd.await_lines("not ready", told + 1);
    assert_eq!(node.everything(), in_force);
    node.write("policy.yaml", &allow("web", "a", "b", 81));
    policyd.await_lines("INFO ready ", 2);
    assert!(node.tables().contains("--dport 81 "), "{}", node.tables());
}

fn a_failure_in_one_family_does_not_stop_the_other_and_is_made_good(backend: &'static str) {
    let mut node = Node::new(backend);
    let program = format!("ip6tables-{backend}-restore");
    let broken =
        node.impersonate(&program, "head -n1 >/dev/null; echo 'line 2 failed' >&2; exit 1");
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
    let mut policyd = node.start();
    policyd.await_lines("not ready", 1);
    assert!(policyd.log().contains("IPv6: cannot replace chains"), "{}", policyd.log());
    assert!(node.table("iptables", backend).contains("--dport 80 "));
    assert!(!node.table("ip6tables", backend).contains(":NPC-"));

    node.write("policy.yaml", &allow("web", "a", "b", 443));
    policyd.await_that("the other family follows", |_| {
        node.table("iptables", backend).contains("--dport 443 ")
    });

    std::fs::remove_file(broken).unwrap();
    policyd.await_lines("INFO ready ", 1);
    assert!(node.table("ip6tables", backend).contains("--dport 443 "));
}

fn policies_that_go_and_come_back_at_once_are_in_force(backend: &'static str) {
    let node = Node::new(backend);
    let policy = allow("web", "a", "b", 80);
    node.write("pods.yaml", PODS).write("policy.yaml", &policy);
    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    let tables = node.table("iptables", backend);
    for _ in 0..3 {
        std::fs::remove_file(node.source().join("policy.yaml")).unwrap();
        policyd.await_that("nobody is isolated", |_| !node.tables().contains("10.244.1.10"));
        // The kernel may still hold the sets that were given up a moment ago.
        node.write("policy.yaml", &policy);
        policyd.await_that("the pod is isolated again", |_| {
            let again = node.table("iptables", backend);
            again.lines().count() == tables.lines().count()
                && node.sets().contains("add npc4-iso 10.244.1.10\n")
        });
        assert!(!node.sets().contains("swap"), "{}", node.sets());
    }
    assert!(!policyd.log().contains("failed"), "{}", policyd.log());
}

fn a_rule_that_the_kernel_refuses_stops_no_other_and_denies(backend: &'static str) {
    let mut node = Node::new(backend);
    // A match that the kernel itself refuses for SCTP, rather than iptables.
    let program = format!("iptables-{backend}-restore");
    let script = format!(
        "sed -u 's/-p sctp -m sctp --dport [0-9:]*/-p sctp -m icmp --icmp-type 8/' | \
         /usr/sbin/{program} \"$@\""
    );
    let wrapper = node.impersonate(&program, &script);
    let sctp = allow("sctp", "a", "b", 9).replace("port: 9", "protocol: SCTP, port: 9");
    node.write("pods.yaml", PODS).write("web.yaml", &allow("web", "a", "b", 80));
    node.write("sctp.yaml", &sctp);

    let mut policyd = node.start();
    policyd.await_lines("not ready", 1);
    assert!(policyd.log().contains("the kernel refuses `-p sctp"), "{}", policyd.log());
    let whom = "asked for by shop/sctp; denied at shop/a";
    assert!(policyd.log().contains(whom), "{}", policyd.log());
    let v4 = node.table("iptables", backend);
    assert!(v4.contains("--dport 80 "), "{v4}");
    assert!(!v4.contains("sctp") && !v4.contains("NPC-TRY"), "{v4}");
    assert!(node.table("ip6tables", backend).contains("-p sctp"));

    node.write("web.yaml", &allow("web", "a", "b", 443));
    policyd
        .await_that("others follow", |_| node.table("iptables", backend).contains("--dport 443 "));

    std::fs::remove_file(node.source().join("sctp.yaml")).unwrap();
    policyd.await_lines("INFO ready ", 1);

    // The kernel learns it later.
    let told = policyd.lines("not ready");
    node.write("sctp.yaml", &sctp);
    policyd.await_lines("not ready", told + 1);
    std::fs::remove_file(wrapper).unwrap();
    policyd.await_lines("INFO ready ", 2);
    assert!(node.table("iptables", backend).contains("-p sctp"));
}

fn many_refused_rules_stop_no_other(backend: &'static str) {
    let mut node = Node::new(backend);
    let program = format!("iptables-{backend}-restore");
    let script = format!(
        "echo >> {}; sed -u 's/-p sctp -m sctp --dport [0-9:]*/-p sctp -m icmp --icmp-type 8/' | \
         /usr/sbin/{program} \"$@\"",
        node.file("calls").display()
    );
    node.impersonate(&program, &script);
    let rules: Vec<String> = (1..=600)
        .map(|n| {
            let (net, host, port) = (n / 250, n % 250, n * 7);
            format!(
                "  - {{from: [{{ipBlock: {{cidr: 10.9.{net}.{host}/32}}}}], \
                 ports: [{{protocol: SCTP, port: {port}}}]}}\n"
            )
        })
        .collect();
    let rules = rules.concat();
    let sctp = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: sctp, namespace: shop}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: a}}}}\n  ingress:\n{rules}"
    );
    node.write("pods.yaml", PODS).write("web.yaml", &allow("web", "a", "b", 80));
    node.write("sctp.yaml", &sctp);
    let (status, log) = node.once();
    assert_eq!(status.code(), Some(1), "{log}");
    let v4 = node.table("iptables", backend);
    assert!(v4.contains("--dport 80 ") && v4.contains("-j NPC-FORWARD"), "{v4}");
    assert!(!v4.contains("sctp") && !v4.contains("NPC-TRY"), "{v4}");
    let calls = std::fs::read_to_string(node.file("calls")).unwrap().lines().count();
    assert!(calls < 30, "{calls} programs were run");
}

fn a_chain_that_others_lead_to_stops_no_update_and_alone_outlives_cleanup(backend: &'static str) {
    let node = Node::new(backend);
    let before = node.everything();
    let iptables = format!("iptables-{backend}");
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    let leaf = |tables: &str| -> String {
        let mut names = tables.lines().filter_map(|line| line.strip_prefix(":NPC-I-"));
        let name = names.next().and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        format!("NPC-I-{name}")
    };
    let held = leaf(&node.table("iptables", backend));
    node.tool(&[&iptables, "-A", "DOCKER", "-j", &held], "");

    std::fs::remove_file(node.source().join("policy.yaml")).unwrap();
    policyd.await_that("the chain is empty, and there", |_| {
        let v4 = node.table("iptables", backend);
        v4.contains(&format!(":{held} ")) && !v4.contains("-A NPC-")
    });
    node.write("pods.yaml", &PODS.replace("app: a", "app: c"));
    node.write("policy.yaml", &allow("web", "c", "b", 443));
    policyd.await_that("updates go on", |_| node.tables().contains("--dport 443 "));
    assert!(!policyd.log().contains("not ready"), "{}", policyd.log());
    assert!(policyd.stop(Signal::SIGTERM).success());

    let (status, log) = node.cleanup();
    assert_eq!(status.code(), Some(1), "{log}");
    let chain = format!("chain {held} of IPv4 in iptables-{backend}");
    let remaining: Vec<&str> = log.lines().filter(|l| l.contains("still there")).collect();
    assert!(remaining.len() == 1 && remaining[0].contains(&chain), "{log}");
    assert!(!node.sets().contains("npc"), "{}", node.sets());
    assert_eq!(node.forward(), ["DOCKER"]);

    node.tool(&[&iptables, "-D", "DOCKER", "-j", &held], "");
    let (status, log) = node.cleanup();
    assert!(status.success(), "{log}");
    assert_eq!(node.everything(), before);
}

fn leftovers_in_the_other_backend_are_removed_once_that_is_possible(backend: &'static str) {
    let other = if backend == "nft" { "legacy" } else { "nft" };
    let mut node = Node::new(other);
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
    assert!(node.once().0.success());
    node.backend = backend;
    let broken = node.impersonate(&format!("iptables-{other}-save"), "echo not now >&2; exit 1");
    let mut policyd = node.start();
    policyd.await_lines("not ready reason=\"IPv4: leftovers in iptables-", 1);
    assert!(node.table("iptables", other).contains("NPC-FORWARD"));
    policyd.await_that("those of the other family go", |_| {
        !node.table("ip6tables", other).contains(":NPC-")
    });
    std::fs::remove_file(broken).unwrap();
    policyd.await_lines("INFO ready ", 1);
    assert!(!node.table("iptables", other).contains(":NPC-"));
}

fn a_set_of_another_type_is_named_and_replaced_once_it_is_free(backend: &'static str) {
    let node = Node::new(backend);
    let iptables = format!("iptables-{backend}");
    node.tool(&["ipset", "create", "npc4-iso", "hash:net"], "");
    let rule = ["DOCKER", "-m", "set", "--match-set", "npc4-iso", "src", "-j", "RETURN"];
    node.tool(&[&[iptables.as_str(), "-A"], &rule[..]].concat(), "");
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
    let mut policyd = node.start();
    policyd.await_lines("not ready", 1);
    let log = policyd.log();
    assert!(
        log.contains("is of type `hash:net family inet maxelem 65536`, and rules of others use it"),
        "{log}"
    );
    assert!(node.table("ip6tables", backend).contains("--dport 80 "));
    node.tool(&[&[iptables.as_str(), "-D"], &rule[..]].concat(), "");
    policyd.await_lines("INFO ready ", 1);
    assert!(node.sets().contains("create npc4-iso hash:ip "), "{}", node.sets());
}

#[test]
fn a_second_signal_does_not_wait_for_a_program_that_hangs() {
    kernel_test("program::a_second_signal_does_not_wait_for_a_program_that_hangs", || {
        let mut node = Node::new("nft");
        let begun = node.file("begun");
        // It acknowledges that it is there, and then hangs for longer than it is let.
        let script = format!(
            "while IFS= read -r line; do echo \"$line\"; [ \"$line\" = COMMIT ] && break; done; \
             echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600",
            begun.display()
        );
        node.impersonate("iptables-nft-restore", &script);
        node.options = TELLING.to_vec();
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let mut policyd = node.start();
        policyd.await_that("a program hangs", |_| begun.exists());
        policyd.signal(Signal::SIGTERM);
        // Two that come together are one.
        policyd.await_lines("another signal would not wait", 1);
        assert_eq!(policyd.stop(Signal::SIGTERM).code(), Some(1));
        let program = std::fs::read_to_string(&begun).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(program), Signal::SIGKILL).expect("it was not waited for");
    });
}

#[test]
fn a_reading_that_fails_is_no_reading_until_one_succeeds() {
    kernel_test("program::a_reading_that_fails_is_no_reading_until_one_succeeds", || {
        let mut node = Node::new("nft");
        let broken = node.file("broken");
        // Nobody asks for the members of the sets of others.
        let script = format!(
            "if [ \"$1\" = save ] || [ \"$1\" = list ] && [ -e {} ]; then exit 1; fi; \
             exec /usr/sbin/ipset \"$@\"",
            broken.display()
        );
        node.impersonate("ipset", &script);
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        std::fs::write(&broken, "").unwrap();
        policyd.await_lines("not ready", 1);
        policyd.await_lines("cannot read the sets", 1);
        // It is tried again meanwhile.
        std::thread::sleep(std::time::Duration::from_millis(800));
        assert_eq!(policyd.lines("INFO ready "), 1, "{}", policyd.log());
        node.tool(&["iptables-nft", "-F", "FORWARD"], "");
        std::fs::remove_file(broken).unwrap();
        policyd.await_lines("INFO ready ", 2);
        assert_eq!(node.forward(), ["NPC-FORWARD"]);
        assert_eq!(policyd.log().matches("not applied").count(), 2, "{}", policyd.log());
    });
}

#[test]
fn what_was_left_in_the_other_backend_is_removed() {
    kernel_test("program::what_was_left_in_the_other_backend_is_removed", || {
        let mut node = Node::new("legacy");
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let untouched = node.tables();
        assert!(node.once().0.success());
        node.backend = "nft";
        let (status, log) = node.once();
        assert!(status.success(), "{log}");
        assert!(node.tables().contains("--dport 80 "));
        node.backend = "legacy";
        assert_eq!(node.tables(), untouched);
    });
}

#[test]
fn what_is_missing_is_named_with_status_2() {
    kernel_test("program::what_is_missing_is_named_with_status_2", || {
        let node = Node::new("nft");
        let missing = node.file("none").display().to_string();
        let (status, log) = node.end(&["run", "--source", &missing, "--node", "n1"]);
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains("none: No such file or directory"), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    });
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    kernel_test("program::a_missing_program_is_named_with_its_package", || {
        let node = Node::new("nft");
        let source = node.source().display().to_string();
        let empty = node.file("nothing");
        std::fs::create_dir(&empty).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_policyd"));
        command.args(["run", "--source", &source, "--node", "n1"]).env("PATH", empty);
        let output = node.namespace.output(&mut command, "").unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "policyd: `ipset` is not installed: install the Debian package `ipset`\n"
        );
    });
}

#[test]
fn only_one_policyd_writes_and_cleanup_waits_for_its_end() {
    kernel_test("program::only_one_policyd_writes_and_cleanup_waits_for_its_end", || {
        let node = Node::new("nft");
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        let in_force = node.everything();
        let refusal = format!(
            "policyd: policyd already runs in this network namespace, as process {}\n",
            policyd.pid()
        );
        for (status, log) in [node.once(), node.cleanup()] {
            assert_eq!((status.code(), &log), (Some(2), &refusal));
        }
        assert_eq!(node.everything(), in_force);
        // Another network namespace is another node.
        let other = Node::new("nft");
        other.write("pods.yaml", PODS);
        assert!(other.once().0.success());
        assert!(policyd.stop(Signal::SIGHUP).success(), "a hangup ends it as other signals do");
        assert!(node.cleanup().0.success());
    });
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_rule() {
    kernel_test("program::a_log_that_nobody_reads_holds_up_no_rule", || {
        for gone in [true, false] {
            let node = Node::new("nft");
            node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
            // More than a pipe takes.
            let invalid = allow("bad", "a", "b", 80).replace("from:", "form:") + "---\n";
            for file in 0..60 {
                let text =
                    |n: usize| invalid.replace("name: bad", &format!("name: bad-{file}-{n}"));
                node.write(&format!("bad{file}.yaml"), &(0..20).map(text).collect::<String>());
            }
            let (reader, writer) = std::io::pipe().unwrap();
            let reader = (!gone).then_some(reader);
            let policyd = node.start_logging_to(writer.into());
            let in_force = |port: &str| {
                let begun = std::time::Instant::now();
                while !node.table("iptables", "nft").contains(&format!("--dport {port} ")) {
                    assert!(begun.elapsed() < PATIENCE, "{port} with a reader: {}", !gone);
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            };
            in_force("80");
            node.write("policy.yaml", &allow("web", "a", "b", 443));
            in_force("443");
            assert!(policyd.stop(Signal::SIGTERM).success());
            drop(reader);
        }
    });
}
