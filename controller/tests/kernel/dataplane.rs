//! The dataplane in process, where what it does can be counted.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::config::{DenyAction, Hairpin};
use policy_compiler::name::NodeName;
use policy_tests::privilege::kernel_test;
use policyd::dataplane::Dataplane;
use policyd::dataplane::backend::{Backend, BackendChoice};
use policyd::dataplane::links::Bridges;
use policyd::source::directory::Directory;
use policyd::source::{EndOfSource, Input, Listing};
use policyd::sync::{Ipvs, Settings, Sync, Unknown, View};

use crate::node::{Node, PODS, allow};

pub(crate) fn settings() -> Settings {
    Settings {
        node: NodeName::new("n1").unwrap(),
        ipvs: Ipvs::Off,
        hairpin: Hairpin::default(),
        deny: DenyAction::default(),
        keep_established: false,
        unknown: Unknown::Allowed,
        log_denied: false,
        antispoof: false,
        verify_interval: Duration::ZERO,
        set_bridge_sysctls: false,
    }
}

fn listing(node: &Node) -> Listing {
    Directory::open(&node.source()).unwrap().scan().unwrap()
}

#[test]
fn once_written_neither_members_nor_policies_start_a_process() {
    let name = "dataplane::once_written_neither_members_nor_policies_start_a_process";
    kernel_test(name, || {
        let node = Node::new("nft");
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        node.namespace
            .enter(|| {
                let dataplane = Dataplane::open(BackendChoice::Forced(Backend::Nft)).unwrap();
                let mut sync = Sync::new(settings(), dataplane);
                sync.take(listing(&node));
                assert!(sync.is_ready());
                let begun = sync.dataplane().processes();
                assert!(begun > 0);
                sync.take(listing(&node));
                assert_eq!(sync.dataplane().processes(), begun, "nothing new");

                node.write("pods.yaml", &PODS.replace("10.244.2.10", "10.244.2.11"));
                sync.take(listing(&node));
                assert_eq!(sync.dataplane().processes(), begun, "members are written by netlink");
                assert!(node.sets().contains(" 10.244.2.11\n"), "{}", node.sets());

                node.write("policy.yaml", &allow("web", "a", "b", 443));
                sync.take(listing(&node));
                assert_eq!(sync.dataplane().processes(), begun, "the ones that are open write it");
                assert!(node.tables().contains("--dport 443 "), "{}", node.tables());
            })
            .unwrap();
    });
}

#[test]
fn only_bridges_that_pods_are_routed_to_carry_them() {
    kernel_test("dataplane::only_bridges_that_pods_are_routed_to_carry_them", || {
        let node = Node::new("nft");
        let lines = [
            "link add br0 type bridge",
            "link set br0 up",
            "addr add 10.244.1.1/24 dev br0",
            "link add br1 type bridge",
            "link set br1 up",
            "addr add 10.244.3.1/24 dev br1",
            "link add veth0 type veth peer name veth1",
            "link set veth0 up",
            "route add 10.244.4.7/32 dev veth0",
            "route add 10.244.5.0/24 via 10.244.3.9",
        ];
        node.namespace.ip(&lines.map(str::to_owned)).unwrap();
        let look = |bridges: &mut Bridges, addresses: &[&str]| -> BTreeSet<String> {
            let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            let found = node.namespace.enter(|| bridges.look(addresses).unwrap()).unwrap();
            found.iter().map(ToString::to_string).collect()
        };
        let found = |addresses: &[&str]| look(&mut Bridges::default(), addresses);
        let filtered = std::path::Path::new("/proc/sys/net/bridge").exists();
        let expected = if filtered { vec!["br0".to_owned()] } else { Vec::new() };
        let pods = ["10.244.1.10", "10.244.1.11", "10.244.4.7", "10.244.5.2", "198.51.100.1"];
        assert_eq!(found(&pods), BTreeSet::from_iter(expected));
        assert_eq!(found(&["fd00::1"]), BTreeSet::new());
    });
}

#[test]
fn a_bridge_that_is_down_still_carries_its_pods() {
    kernel_test("dataplane::a_bridge_that_is_down_still_carries_its_pods", || {
        let node = Node::new("nft");
        let ip = |lines: &[&str]| {
            node.namespace.ip(&lines.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        };
        ip(&[
            "link add veth0 type veth peer name veth1",
            "link set veth0 up",
            "addr add 198.51.100.1/24 dev veth0",
            "route add default via 198.51.100.9",
            "link add br0 type bridge",
            "link set br0 up",
            "addr add 10.244.1.1/24 dev br0",
            "link add br1 type bridge",
            "link set br1 up",
            "route add 10.244.7.7/32 dev br1",
        ]);
        let look = |bridges: &mut Bridges, addresses: &[&str]| -> Vec<String> {
            let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            let found = node.namespace.enter(|| bridges.look(addresses).unwrap()).unwrap();
            found.iter().map(ToString::to_string).collect()
        };
        if !std::path::Path::new("/proc/sys/net/bridge").exists() {
            assert_eq!(look(&mut Bridges::default(), &["10.244.1.10"]), [""; 0]);
            return;
        }
        let pods = ["10.244.1.10", "10.244.7.7"];
        let mut bridges = Bridges::default();
        assert_eq!(look(&mut bridges, &pods), ["br0", "br1"]);
        ip(&["link set br0 down", "link set br1 down"]);
        assert_eq!(look(&mut bridges, &pods), ["br0", "br1"]);
        assert_eq!(look(&mut Bridges::default(), &pods), ["br0"], "by its address, at a start");
        assert_eq!(look(&mut bridges, &["10.244.1.10"]), ["br0"], "the pod of br1 is gone");
        ip(&["link del br0"]);
        assert_eq!(look(&mut bridges, &["10.244.1.10"]), [""; 0], "br0 is gone");
    });
}

#[test]
fn what_others_undo_right_after_a_start_is_put_right() {
    kernel_test("dataplane::what_others_undo_right_after_a_start_is_put_right", || {
        let node = Node::new("nft");
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        node.namespace
            .enter(|| {
                let mut dataplane = Dataplane::open(BackendChoice::Forced(Backend::Nft)).unwrap();
                let mut engine = policy_compiler::engine::Engine::new(
                    policy_compiler::config::NodeConfig::new(settings().node),
                    policyd::dataplane::START,
                );
                let listed = Box::new(listing(&node).snapshot);
                engine.apply(policy_compiler::update::Event::Relisted(listed));
                let update = engine.flush();
                assert!(dataplane.write(&update, engine.ruleset()).is_in_step());
                let (written, sets) = (node.tables(), node.sets().lines().count());

                node.tool(&["ipset", "create", "npc4-p-stray-1", "hash:ip"], "");
                assert!(dataplane.verify(engine.ruleset()).is_in_step());
                assert_eq!(node.sets().lines().count(), sets, "a stray set is swept");

                node.tool(&["iptables-nft", "-F", "FORWARD"], "");
                node.tool(&["iptables-nft", "-A", "FORWARD", "-j", "DOCKER"], "");
                node.tool(&["iptables-nft", "-N", "NPC-E-stray"], "");
                assert!(dataplane.verify(engine.ruleset()).is_in_step());
                let names = |tables: &str| -> Vec<String> {
                    tables.lines().filter(|l| l.starts_with(':')).map(str::to_owned).collect()
                };
                assert_eq!(names(&node.tables()), names(&written));
                assert_eq!(node.forward(), ["NPC-FORWARD", "DOCKER"]);

                node.tool(&["iptables-nft", "-I", "FORWARD", "-j", "DOCKER"], "");
                assert!(dataplane.verify(engine.ruleset()).is_in_step());
                assert_eq!(node.forward(), ["NPC-FORWARD", "DOCKER", "DOCKER"]);
            })
            .unwrap();
    });
}

#[test]
fn a_start_over_chains_that_nothing_leads_to_hooks_them() {
    kernel_test("dataplane::a_start_over_chains_that_nothing_leads_to_hooks_them", || {
        for backend in Backend::ALL {
            let node = Node::new(if backend == Backend::Nft { "nft" } else { "legacy" });
            node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
            node.namespace
                .enter(|| {
                    let start = || {
                        let chosen = BackendChoice::Forced(backend);
                        let mut sync = Sync::new(settings(), Dataplane::open(chosen).unwrap());
                        sync.take(listing(&node));
                        assert!(sync.is_ready());
                    };
                    start();
                    assert_eq!(node.forward(), ["NPC-FORWARD", "DOCKER"], "{backend}");
                    let written = node.tables();
                    for family in ["iptables", "ip6tables"] {
                        node.tool(&[&format!("{family}-{backend}"), "-D", "FORWARD", "1"], "");
                    }
                    assert_eq!(node.forward(), ["DOCKER"]);
                    start();
                    let hooks = |tables: &str| tables.matches("-A FORWARD ").count();
                    assert_eq!(node.forward(), ["NPC-FORWARD", "DOCKER"], "{backend}");
                    assert_eq!(hooks(&node.tables()), hooks(&written), "{}", node.tables());
                })
                .unwrap();
        }
    });
}

#[test]
fn a_source_that_says_nothing_or_ends_is_noticed() {
    kernel_test("dataplane::a_source_that_says_nothing_or_ends_is_noticed", || {
        let node = Node::new("nft");
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        node.namespace
            .enter(|| {
                let dataplane = Dataplane::open(BackendChoice::Forced(Backend::Nft)).unwrap();
                let mut sync = Sync::new(settings(), dataplane);
                sync.take(listing(&node));
                assert!(sync.is_ready());
                let mut sync = sync.with_silence(Duration::from_millis(50));
                let (sender, inbox) = mpsc::channel();
                assert!(run_until(&mut sync, &sender, &inbox, Source::Silent), "silent");
                assert!(run_until(&mut sync, &sender, &inbox, Source::Heard), "heard of again");

                // A thread that panics drops it too. The loop ends though a sender is left.
                let source = EndOfSource(sender.clone());
                thread::spawn(move || drop(source));
                sync.run(&inbox);
                assert!(!sync.is_ready(), "ended");
            })
            .unwrap();
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Silent,
    Heard,
}

/// Runs the loop until it is ready, with a source that is heard of, or not ready, with one that is
/// silent; whether that came about in time.
fn run_until(
    sync: &mut Sync,
    sender: &mpsc::Sender<Input>,
    inbox: &mpsc::Receiver<Input>,
    source: Source,
) -> bool {
    let sender = sender.clone();
    let asking = thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut came_about = false;
        while !came_about && Instant::now() < deadline {
            if source == Source::Heard {
                sender.send(Input::Unchanged).unwrap();
            }
            let (reply, answer) = mpsc::channel();
            let question = move |view: &View<'_>| reply.send(view.health.is_ready()).unwrap();
            sender.send(Input::Asked(Box::new(question))).unwrap();
            came_about = answer.recv().unwrap() == (source == Source::Heard);
            thread::sleep(Duration::from_millis(5));
        }
        sender.send(Input::Stop).unwrap();
        came_about
    });
    sync.run(inbox);
    asking.join().unwrap()
}
