//! Nodes on which enforcement would be an illusion.

use std::net::IpAddr;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use policy_compiler::cidr::Family;
use policy_compiler::name::ObjectKey;
use policy_tests::namespace::Namespace;
use policy_tests::privilege::kernel_test;
use policyd::dataplane::Seen;
use policyd::dataplane::backend::Backend;
use policyd::inspect::{Concern, ConcernKind, Inspector, Sight};

use crate::node::{Node, PODS, allow};

/// The addresses of the pod of `PODS` that is on this node.
const LOCAL: [&str; 2] = ["10.244.1.10", "fd00:10:244:1::a"];

/// What an inspector that looks for the first time finds about a node with these pods.
fn found(node: &Namespace, pods: &[&str]) -> Vec<Concern> {
    look(node, &mut Inspector::new(), pods)
}

fn look(node: &Namespace, inspector: &mut Inspector, pods: &[&str]) -> Vec<Concern> {
    let pod =
        |address: &&str| (ObjectKey::new("shop", "a").unwrap(), address.parse::<IpAddr>().unwrap());
    let pods: Vec<(ObjectKey, IpAddr)> = pods.iter().map(pod).collect();
    let seen = Seen::default();
    let tables = [(Family::V4, &seen), (Family::V6, &seen)];
    let sight = Sight { pods: &pods, backend: Backend::Nft, tables };
    node.enter(|| {
        inspector.look(&sight);
        inspector.concerns().iter().cloned().collect()
    })
    .unwrap()
}

/// The kind of each, and what it says up to its first comma or colon.
fn brief(concerns: &[Concern]) -> Vec<(ConcernKind, &str)> {
    let brief = |c: &Concern| c.detail.find([',', ':']).unwrap_or(c.detail.len());
    concerns.iter().map(|c| (c.kind, &c.detail[..brief(c)])).collect()
}

/// A bridge with a port, on which both addresses of the pod are.
fn bridged(node: &Namespace) {
    let lines = [
        "link add cni0 type bridge",
        "link add port type veth peer name far",
        "link set port master cni0",
        "link set port up",
        "link set far up",
        "link set cni0 up",
        "address add 10.244.1.1/24 dev cni0",
    ];
    node.ip(&lines.map(str::to_owned)).unwrap();
    node.ip6(&["address add fd00:10:244:1::1/64 dev cni0 nodad".to_owned()]).unwrap();
}

fn set_bridge(node: &Namespace, values: [&str; 3]) {
    let [v4, v6, tagged] = values;
    node.sysctl(&[
        ("bridge/bridge-nf-call-iptables", v4),
        ("bridge/bridge-nf-call-ip6tables", v6),
        ("bridge/bridge-nf-filter-vlan-tagged", tagged),
    ])
    .unwrap();
}

/// The switches of bridges, as the namespace has them.
fn bridge_values(node: &Namespace) -> Vec<String> {
    let names = ["call-iptables", "call-ip6tables", "filter-vlan-tagged"];
    let read = |name| std::fs::read_to_string(format!("/proc/sys/net/bridge/bridge-nf-{name}"));
    node.enter(|| names.map(|name| read(name).unwrap().trim().to_owned()).into()).unwrap()
}

#[test]
fn forwarding_that_is_off_is_told_for_the_families_that_pods_have() {
    let name = "inspect::forwarding_that_is_off_is_told_for_the_families_that_pods_have";
    kernel_test(name, || {
        let node = Namespace::create().unwrap();
        let off = |text| (ConcernKind::ForwardingOff, text);
        let v4 = off("net.ipv4.ip_forward is 0");
        let v6 = off("net.ipv6.conf.all.forwarding is 0");
        node.sysctl(&[("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0")]).unwrap();
        assert_eq!(brief(&found(&node, &LOCAL)), [v4, v6]);
        assert_eq!(brief(&found(&node, &LOCAL[..1])), [v4]);
        assert_eq!(brief(&found(&node, &[])), []);
        node.sysctl(&[("ipv4/ip_forward", "1")]).unwrap();
        assert_eq!(brief(&found(&node, &LOCAL)), [v6]);
        node.sysctl(&[("ipv6/conf/all/forwarding", "1")]).unwrap();
        assert_eq!(brief(&found(&node, &LOCAL)), []);
    });
}

#[test]
fn bridges_are_judged_by_their_own_switches_and_those_of_the_namespace() {
    let name = "inspect::bridges_are_judged_by_their_own_switches_and_those_of_the_namespace";
    kernel_test(name, || {
        let node = Node::new("nft");
        let node = &node.namespace;
        bridged(node);
        let call = |v4: bool, v6: bool| {
            let [v4, v6] = [v4, v6].map(u8::from);
            let own = format!("nf_call_iptables {v4} nf_call_ip6tables {v6}");
            node.ip(&[format!("link set cni0 type bridge {own}")]).unwrap();
        };
        let unfiltered = |text| (ConcernKind::BridgeUnfiltered, text);
        let v4 = unfiltered("bridge cni0 carries pods and bridge-nf-call-iptables is 0");
        let v6 = unfiltered("bridge cni0 carries pods and bridge-nf-call-ip6tables is 0");
        for (name, values, own, expected) in [
            ("all on", ["1", "1", "1"], (false, false), vec![]),
            ("off everywhere", ["0", "0", "1"], (false, false), vec![v6, v4]),
            ("on for the bridge", ["0", "0", "1"], (true, true), vec![]),
            ("IPv6 off everywhere", ["0", "0", "1"], (true, false), vec![v6]),
            ("IPv4 off everywhere", ["0", "1", "1"], (false, false), vec![v4]),
        ] {
            set_bridge(node, values);
            call(own.0, own.1);
            assert_eq!(brief(&found(node, &LOCAL)), expected, "{name}");
        }
        set_bridge(node, ["0", "0", "0"]);
        assert_eq!(brief(&found(node, &["10.9.9.9"])), [], "no pod is on it");

        set_bridge(node, ["1", "1", "0"]);
        let tagged = (
            ConcernKind::VlanTagsUnfiltered,
            "bridge cni0 carries pods and bridge-nf-filter-vlan-tagged is 0 (the kernel's default)",
        );
        assert_eq!(brief(&found(node, &LOCAL)), [tagged]);
    });
}

#[test]
fn switches_of_bridges_are_put_on_where_that_is_asked_for() {
    kernel_test("inspect::switches_of_bridges_are_put_on_where_that_is_asked_for", || {
        let node = Node::new("nft");
        bridged(&node.namespace);
        set_bridge(&node.namespace, ["0", "1", "0"]);
        let mut inspector = Inspector::new().setting_bridge_sysctls(true);
        assert_eq!(look(&node.namespace, &mut inspector, &LOCAL), []);
        assert_eq!(bridge_values(&node.namespace), ["1", "1", "1"]);
    });
}

#[test]
fn pods_on_macvlan_are_told_once_that_lasts() {
    kernel_test("inspect::pods_on_macvlan_are_told_once_that_lasts", || {
        let node = Node::new("nft");
        let node = &node.namespace;
        let lines = [
            "link add card type veth peer name wire",
            "link set card up",
            "link set wire up",
            "link add shim link card type macvlan mode bridge",
            "link set shim up",
            "route add 10.244.1.10/32 dev shim",
        ];
        node.ip(&lines.map(str::to_owned)).unwrap();
        let pods = &LOCAL[..1];
        let mut inspector = Inspector::new();
        let begun = Instant::now();
        assert_eq!(brief(&look(node, &mut inspector, pods)), []);
        let kinds = |concerns: &[Concern]| concerns.iter().map(|c| c.kind).collect::<Vec<_>>();
        let concerns = loop {
            thread::sleep(Duration::from_secs(1));
            let concerns = look(node, &mut inspector, pods);
            if !concerns.is_empty() {
                break concerns;
            }
            assert!(begun.elapsed() < Duration::from_mins(1));
        };
        assert!(begun.elapsed() >= Duration::from_millis(9_500), "{:?}", begun.elapsed());
        let expected = "pods such as shop/a (10.244.1.10) are reached directly over shim (macvlan)";
        assert_eq!(brief(&concerns), [(ConcernKind::InterfaceBypasses, expected)]);
        assert_eq!(kinds(&concerns), [ConcernKind::InterfaceBypasses]);

        node.ip(&["route replace 10.244.1.10/32 dev card".to_owned()]).unwrap();
        let begun = Instant::now();
        while !look(node, &mut inspector, pods).is_empty() {
            assert!(begun.elapsed() < Duration::from_mins(1), "a veth is as it should be");
            thread::sleep(Duration::from_millis(100));
        }
    });
}

fn not_ready(kind: &str) -> String {
    format!("not ready reason=\"{kind}")
}

#[test]
fn a_node_that_stops_forwarding_is_not_ready_until_it_forwards_again() {
    let name = "inspect::a_node_that_stops_forwarding_is_not_ready_until_it_forwards_again";
    kernel_test(name, || {
        let node = Node::new("nft");
        node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        node.namespace.sysctl(&[("ipv4/ip_forward", "0")]).unwrap();
        policyd.await_lines(&not_ready("net.ipv4.ip_forward is 0"), 1);
        node.namespace.sysctl(&[("ipv4/ip_forward", "1")]).unwrap();
        policyd.await_lines("INFO ready ", 2);
        assert!(policyd.stop(Signal::SIGTERM).success());

        node.namespace.sysctl(&[("ipv6/conf/all/forwarding", "0")]).unwrap();
        let (status, log) = node.once();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("net.ipv6.conf.all.forwarding is 0"), "{log}");
        assert!(node.tables().contains("--dport 80 "), "the rules are written all the same");
    });
}

#[test]
fn a_rule_that_accepts_above_ours_is_told_and_ours_put_first() {
    kernel_test("inspect::a_rule_that_accepts_above_ours_is_told_and_ours_put_first", || {
        for backend in ["nft", "legacy"] {
            let node = Node::new(backend);
            node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
            let mut policyd = node.start();
            policyd.await_lines("INFO ready ", 1);
            let save = "*filter\n:felix - [0:0]\n-A felix -p tcp -j ACCEPT\n\
                        -I FORWARD 1 -j felix\nCOMMIT\n";
            node.tool(&[&format!("ip6tables-{backend}-restore"), "--noflush"], save);
            let told = "IPv6: `-A FORWARD -j felix` stood above our rule and can accept";
            policyd.await_lines(&not_ready(told), 1);
            policyd.await_lines("INFO ready ", 2);
            let table = node.table("ip6tables", backend);
            let forward: Vec<&str> =
                table.lines().filter_map(|l| l.strip_prefix("-A FORWARD ")).collect();
            assert!(forward[0].ends_with("NPC-FORWARD"), "{forward:?}");

            node.tool(&[&format!("iptables-{backend}"), "-D", "FORWARD", "1"], "");
            policyd.await_lines(&not_ready("IPv4: the rule in FORWARD was gone"), 1);
            policyd.await_lines("INFO ready ", 3);

            node.tool(&[&format!("iptables-{backend}"), "-I", "FORWARD", "1", "-j", "DOCKER"], "");
            policyd.await_lines("concern=\"hook_not_first\"", 1);
            policyd.await_lines("no longer so concern=\"hook_not_first\"", 1);
            let ready = policyd.log().matches("INFO ready ").count();
            assert_eq!(ready, 3, "a warning leaves it ready\n{}", policyd.log());
        }
    });
}

#[test]
fn policies_of_another_engine_are_a_warning_in_either_backend() {
    kernel_test("inspect::policies_of_another_engine_are_a_warning_in_either_backend", || {
        for (backend, other) in [("nft", "legacy"), ("legacy", "nft")] {
            let node = Node::new(backend);
            node.write("pods.yaml", PODS);
            let chain = |name: &str| format!("*filter\n:{name} - [0:0]\nCOMMIT\n");
            let restore = |program: &str, name: &str| {
                node.tool(&[program, "--noflush"], &chain(name));
            };
            restore(&format!("iptables-{backend}-restore"), "KUBE-NWPLCY-ABC");
            restore(&format!("ip6tables-{other}-restore"), "cali-pi-_abc");
            let mut policyd = node.start();
            policyd.await_lines("INFO ready ", 1);
            let told = |engine: &str, chains: &str, backend: &str, family: &str| {
                format!(
                    "{engine} enforces policies here too (chains {chains} in iptables-{backend}, {family})"
                )
            };
            policyd.await_lines(&told("kube-router", "KUBE-NWPLCY-*", backend, "IPv4"), 1);
            policyd.await_lines(&told("Calico", "cali-pi-*, cali-po-*", other, "IPv6"), 1);
            assert_eq!(policyd.log().matches("INFO ready ").count(), 1, "{}", policyd.log());
        }
    });
}

/// Runs `policyd set-bridge-sysctls` where /proc/sys may be read-only.
fn set_bridge_sysctls(node: &Node, read_only: bool) -> (ExitStatus, String, String) {
    let remount = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys";
    let before = if read_only { remount } else { "true" };
    let script = format!("{before} && exec \"$0\" set-bridge-sysctls");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_policyd")]);
    let output = node.namespace.output(&mut command, "").unwrap();
    let [out, err] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status, out, err)
}

#[test]
fn switches_of_bridges_can_be_put_on_beforehand() {
    kernel_test("inspect::switches_of_bridges_can_be_put_on_beforehand", || {
        let node = Node::new("nft");
        set_bridge(&node.namespace, ["1", "0", "0"]);
        let (status, _, stderr) = set_bridge_sysctls(&node, true);
        assert_eq!(status.code(), Some(1), "{stderr}");
        let refused = |switch: &str| {
            format!(
                "policyd: cannot set net.bridge.{switch}=1: Read-only file system (os error 30)\n"
            )
        };
        let expected =
            ["bridge-nf-call-ip6tables", "bridge-nf-filter-vlan-tagged"].map(refused).concat();
        assert_eq!(stderr, expected);
        assert_eq!(bridge_values(&node.namespace), ["1", "0", "0"]);

        let (status, stdout, stderr) = set_bridge_sysctls(&node, false);
        assert!(status.success(), "{stderr}");
        let expected = "net.bridge.bridge-nf-call-iptables = 1 (as it was)\n\
                        net.bridge.bridge-nf-call-ip6tables = 1 (was 0)\n\
                        net.bridge.bridge-nf-filter-vlan-tagged = 1 (was 0)\n";
        assert_eq!(stdout, expected);
        assert_eq!(bridge_values(&node.namespace), ["1", "1", "1"]);
    });
}
