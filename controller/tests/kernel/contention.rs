//! Others who write at the same time: they hold the lock, restore rules over and over, kill what policyd
//! keeps open.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{Chain, ChainName, Hook, Rule, Target};
use policy_tests::privilege::kernel_test;
use policyd::dataplane::backend::Backend;
use policyd::dataplane::command::{CommandError, Runner};
use policyd::dataplane::iptables::Transaction;
use policyd::dataplane::restore::Restore;

use crate::node::{Node, PATIENCE, PODS, Running, allow};

/// Waits until it is so.
fn comes_true(policyd: &mut Running, what: &str, condition: impl Fn() -> bool) {
    policyd.await_that(what, |_| condition());
}

/// The pods, and two more: c, which is local, and d, at an address that ends so.
fn pods(last: u8) -> String {
    let more = PODS.replace("name: a,", "name: c,").replace("name: b,", "name: d,");
    let more = more.replace("app: a", "app: c").replace("app: b", "app: d");
    let more = more.replace("10.244.1.10", "10.244.1.11").replace("10:244:1::a", "10:244:1::b");
    let more = more.replace("10.244.2.10", &format!("10.244.2.{last}"));
    format!("{PODS}---\n{}", more.replace("10:244:2::a", "10:244:2::b"))
}

/// A node where b may reach a, and d, at an address that ends in 20, may reach c.
fn node(backend: &'static str) -> Node {
    let node = Node::new(backend);
    node.write("pods.yaml", &pods(20)).write("web.yaml", &allow("web", "a", "b", 80));
    node.write("other.yaml", &allow("other", "c", "d", 81));
    node
}

fn has_port(node: &Node, port: u16) -> bool {
    node.tables().contains(&format!("--dport {port} "))
}

#[test]
fn while_the_lock_is_held_members_go_on_and_chains_come_after() {
    kernel_test("contention::while_the_lock_is_held_members_go_on_and_chains_come_after", || {
        let node = node("legacy");
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        let lock = File::options().append(true).open(node.file("xtables.lock")).unwrap();
        let held = Flock::lock(lock, FlockArg::LockExclusiveNonblock);
        let held = held.map_err(|(_, errno)| errno).unwrap();
        let begun = Instant::now();

        node.write("web.yaml", &allow("web", "a", "b", 443));
        // The rule that it adds waits; this is a matter of members.
        node.write("pods.yaml", &pods(21));
        comes_true(&mut policyd, "the new address", || {
            let sets = node.sets();
            sets.contains(" 10.244.2.21\n") && !sets.contains(" 10.244.2.20\n")
        });
        assert!(!policyd.log().contains("not applied"), "nothing was tried: {}", policyd.log());
        policyd.await_lines("changes of chains wait for it", 1);
        let name = format!("(process {}) holds ", std::process::id());
        assert!(policyd.log().contains(&name), "{}", policyd.log());
        assert!(begun.elapsed() >= Duration::from_secs(10));
        node.write("pods.yaml", &pods(22));
        comes_true(&mut policyd, "one more", || node.sets().contains(" 10.244.2.22\n"));
        assert!(has_port(&node, 80) && !has_port(&node, 443), "{}", node.tables());

        drop(held);
        comes_true(&mut policyd, "the rule", || has_port(&node, 443) && !has_port(&node, 80));
        policyd.await_lines("INFO ready ", 2);
        assert!(!policyd.log().contains("starting over"), "{}", policyd.log());
        assert!(node.end(&["verify"]).0.success());
        assert_eq!(node.forward(), ["NPC-FORWARD", "DOCKER"]);
    });
}

#[test]
fn with_nft_nobody_waits_for_the_lock_of_legacy() {
    kernel_test("contention::with_nft_nobody_waits_for_the_lock_of_legacy", || {
        let node = node("nft");
        let lock = File::create(node.file("xtables.lock")).unwrap();
        let _held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        node.write("web.yaml", &allow("web", "a", "b", 443));
        comes_true(&mut policyd, "the rule", || has_port(&node, 443));
    });
}

/// What others restore over and over.
const OTHERS: usize = 10_000;

fn others_rules() -> String {
    let rules = (0..OTHERS).map(|n| {
        let (net, host) = (n / 250, n % 250);
        format!("-A OTHERS -s 192.168.{net}.{host}/32 -p tcp -m tcp --dport {} -j RETURN\n", n + 1)
    });
    format!("*filter\n:OTHERS - [0:0]\n{}COMMIT\n", rules.collect::<String>())
}

/// Says that it is over, however its scope is left.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn our_changes_arrive_beside_ten_thousand_rules_of_others(backend: &'static str) {
    let node = node(backend);
    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    let (rules, done, rounds) = (others_rules(), AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let program = format!("iptables-{backend}-restore");
            while !done.load(Ordering::SeqCst) {
                node.tool(&[&program, "--noflush"], &rules);
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        });
        // Whatever fails here, the others are to end.
        let _end = Ends(&done);
        let begun = Instant::now();
        let mut port = 1_000;
        while port < 1_005
            || rounds.load(Ordering::SeqCst) < 3
            || begun.elapsed() < Duration::from_secs(3)
        {
            assert!(begun.elapsed() < 4 * PATIENCE, "others have restored {rounds:?} times");
            port += 1;
            node.write("web.yaml", &allow("web", "a", "b", port));
            comes_true(&mut policyd, "the rule", || has_port(&node, port));
        }
    });
    let table = node.table("iptables", backend);
    let theirs = table.lines().filter(|line| line.starts_with("-A OTHERS "));
    let wanted = rules.lines().filter(|line| line.starts_with("-A "));
    assert!(theirs.eq(wanted), "the rules of others are as they left them");
    comes_true(&mut policyd, "peace", || node.end(&["verify"]).0.success());
}

mod nft {
    #[test]
    fn our_changes_arrive_beside_ten_thousand_rules_of_others() {
        let name = "contention::nft::our_changes_arrive_beside_ten_thousand_rules_of_others";
        policy_tests::privilege::kernel_test(name, || {
            super::our_changes_arrive_beside_ten_thousand_rules_of_others("nft");
        });
    }
}

mod legacy {
    #[test]
    fn our_changes_arrive_beside_ten_thousand_rules_of_others() {
        let name = "contention::legacy::our_changes_arrive_beside_ten_thousand_rules_of_others";
        policy_tests::privilege::kernel_test(name, || {
            super::our_changes_arrive_beside_ten_thousand_rules_of_others("legacy");
        });
    }
}

/// The processes that another has started and that have not ended.
fn children(pid: u32) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let children =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let pids: Vec<String> = children.map(|pids| pids.trim().to_owned()).collect();
    pids.join(" ").split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

#[test]
fn a_session_that_is_killed_at_any_moment_loses_nothing() {
    kernel_test("contention::a_session_that_is_killed_at_any_moment_loses_nothing", || {
        let node = node("nft");
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        let pid = policyd.pid();
        comes_true(&mut policyd, "one a family", || children(pid).len() == 2);
        let (mut killed, mut port, begun) = (0, 1_000, Instant::now());
        while port < 1_030 || killed < 10 {
            assert!(begun.elapsed() < 2 * PATIENCE, "{killed} were killed");
            port += 1;
            node.write("web.yaml", &allow("web", "a", "b", port));
            thread::sleep(Duration::from_millis(u64::from(port) % 7));
            for child in children(policyd.pid()) {
                // It may have ended by itself.
                killed += usize::from(kill(child, Signal::SIGKILL).is_ok());
            }
        }
        comes_true(&mut policyd, "the last rule", || has_port(&node, port));
        comes_true(&mut policyd, "readiness", || node.end(&["status"]).0.success());
        assert!(node.end(&["verify"]).0.success());
        assert_eq!(node.forward(), ["NPC-FORWARD", "DOCKER"]);

        let sessions = children(policyd.pid());
        policyd.stop(Signal::SIGKILL);
        let begun = Instant::now();
        while sessions.iter().any(|pid| fs::exists(format!("/proc/{pid}")).unwrap()) {
            assert!(begun.elapsed() < PATIENCE, "its sessions go on: {sessions:?}");
            thread::sleep(Duration::from_millis(10));
        }
    });
}

fn chain(name: &str) -> ChainName {
    ChainName::new(name).unwrap()
}

fn rule(target: Target) -> Rule {
    Rule { matches: Vec::new(), comment: None, target }
}

/// A chain that leads to another, or to none.
fn leading(name: &str, to: Option<&str>) -> Transaction {
    let rules = to.map(|to| rule(Target::Goto(chain(to)))).into_iter().collect();
    Transaction {
        replace: [(chain(name), Chain { rules }.into())].into(),
        ..Transaction::default()
    }
}

#[test]
fn what_is_kept_open_sees_what_others_do_meanwhile_and_ends_when_idle() {
    let name = "contention::what_is_kept_open_sees_what_others_do_meanwhile_and_ends_when_idle";
    kernel_test(name, || {
        let node = Node::new("nft");
        let runner = Runner::new(PATIENCE);
        let inside = || {
            let restore = Restore::new(&runner, Backend::Nft);
            let write = |transaction: &Transaction| restore.carry_out(Family::V4, transaction);
            write(&leading("NPC-B", None)).unwrap();
            let mut hooked = leading("NPC-A", Some("NPC-B"));
            hooked.hook.insert(Hook::Forward, rule(Target::Jump(chain("NPC-A"))));
            write(&hooked).unwrap();
            assert_eq!(runner.started(), 1, "the same for all");

            // Others put a rule first, take a chain of ours, and add their own.
            for line in ["-I FORWARD 1 -j DOCKER", "-F NPC-A", "-X NPC-B", "-N OTHERS"] {
                let words: Vec<&str> = line.split(' ').collect();
                node.tool(&[&["iptables-nft"], &words[..]].concat(), "");
            }
            write(&leading("NPC-B", None)).unwrap();
            write(&leading("NPC-A", Some("NPC-B"))).unwrap();
            let mut moved = Transaction::default();
            moved.unhook.push((Hook::Forward, "-j NPC-A".to_owned()));
            moved.hook.insert(Hook::Forward, rule(Target::Jump(chain("NPC-A"))));
            write(&moved).unwrap();
            assert_eq!(node.forward(), ["NPC-A", "DOCKER", "DOCKER"]);
            assert!(node.tables().contains(":OTHERS "), "{}", node.tables());
            assert_eq!(runner.started(), 1);

            // The hook that is to move is not there, and nothing is done by halves.
            node.tool(&["iptables-nft", "-F", "FORWARD"], "");
            let error = write(&moved).unwrap_err();
            let CommandError::Failed { line, .. } = &error else { panic!("{error}") };
            assert_eq!(*line, Some((2, "-D FORWARD -j NPC-A".to_owned())), "{error}");
            assert!(restore.processes().is_empty());
            assert_eq!(node.forward(), [""; 0]);
            node.tool(&["nft", "flush", "ruleset"], "");
            write(&leading("NPC-B", None)).unwrap();
            assert_eq!((runner.started(), restore.processes().len()), (2, 1));

            restore.rest();
            assert_eq!(restore.processes().len(), 1, "it was needed just now");
            let restore = restore.idle_for(Duration::ZERO);
            restore.rest();
            assert!(restore.processes().is_empty());
        };
        node.namespace.enter(inside).unwrap();
    });
}

/// A first load of chains, alternately at once and in parts. Not asserted: it is for whoever asks.
#[test]
fn a_first_load_in_parts_is_as_one_at_once() {
    kernel_test("contention::a_first_load_in_parts_is_as_one_at_once", || {
        let chains = (0..1_200).map(|n| {
            let peers = (0..6).map(|host| {
                let net = format!("10.{}.{}.{host}/32", n / 250, n % 250).parse().unwrap();
                let matches = vec![policy_compiler::ruleset::Match::Source(net)];
                Rule { matches, comment: None, target: Target::Return }
            });
            let deny = rule(Target::Goto(chain("NPC-DENY-I")));
            (chain(&format!("NPC-I-{n}")), Chain { rules: peers.chain([deny]).collect() }.into())
        });
        let mut whole = leading("NPC-DENY-I", None);
        whole.replace.extend(chains);
        let load = |size: usize| {
            let node = Node::new("nft");
            let inside = || {
                let restore = Restore::new(&Runner::new(PATIENCE), Backend::Nft);
                let (parts, last) = whole.in_parts(&[].into(), size);
                let begun = Instant::now();
                for part in parts.iter().chain([&last]) {
                    restore.carry_out(Family::V4, part).unwrap();
                }
                begun.elapsed()
            };
            let took = node.namespace.enter(inside).unwrap();
            (took, node.tables())
        };
        let ((whole, one), (parts, many)) = (load(usize::MAX), load(500));
        println!("at once {whole:?}, in parts {parts:?}");
        assert_eq!(one, many);
    });
}
