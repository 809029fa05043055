//! Denied traffic, with real packets from one pod to another through the node.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use policy_tests::namespace::Namespace;
use policy_tests::socket;

use crate::node::{Node, PATIENCE, PODS, Running, allow};

/// Makes a test of each scenario under each backend.
macro_rules! under_both_backends {
    ($($scenario:ident),* $(,)?) => {
        mod nft {
            $(#[test]
            fn $scenario() {
                let name = concat!("denied::nft::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("nft"));
            })*
        }
        mod legacy {
            $(#[test]
            fn $scenario() {
                let name = concat!("denied::legacy::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("legacy"));
            })*
        }
    };
}

under_both_backends!(
    denied_traffic_is_named_once_a_flow_and_followed_packet_by_packet,
    a_flood_is_counted_to_the_last_packet_and_told_of_in_part,
    a_kernel_that_cannot_tell_still_denies,
    audited_traffic_passes_and_is_told_of_until_another_policy_isolates,
    a_kernel_that_cannot_tell_of_audits_lets_their_traffic_pass,
);

/// A pod joined to the node by a link of its own.
fn pod(node: &Node, number: u8, last: &str) -> Namespace {
    let pod = Namespace::create().unwrap();
    let (v4, v6) = (format!("10.244.{number}"), format!("fd00:10:244:{number}:"));
    let ip = |namespace: &Namespace, v4: &[String], v6: &[String]| {
        namespace.ip(v4).unwrap();
        namespace.ip6(v6).unwrap();
    };
    ip(
        &node.namespace,
        &[
            format!("link add v{number} type veth peer name eth0 netns {}", pod.path()),
            format!("link set v{number} up"),
            format!("addr add {v4}.1/24 dev v{number}"),
        ],
        &[format!("addr add {v6}:1/64 dev v{number} nodad")],
    );
    ip(
        &pod,
        &[
            "link set eth0 up".to_owned(),
            format!("addr add {v4}.10/24 dev eth0"),
            format!("route add default via {v4}.1"),
        ],
        &[
            format!("addr add {v6}:{last}/64 dev eth0 nodad"),
            format!("route add default via {v6}:1"),
        ],
    );
    pod
}

/// A node that forwards between the pods `a`, which only `b` may reach and only on port 80, and `b`.
fn lab(backend: &'static str) -> (Node, Namespace, Namespace) {
    let mut node = Node::new(backend);
    node.options = vec!["--log-denied"];
    node.namespace.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")]).unwrap();
    let (a, b) = (pod(&node, 1, "a"), pod(&node, 2, "a"));
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
    (node, a, b)
}

fn send(from: &Namespace, to: &str, packets: usize) {
    let to: SocketAddr = to.parse().unwrap();
    let any = if to.is_ipv4() { ([0; 4], 4711).into() } else { ([0; 16], 4711).into() };
    from.enter(|| {
        let socket = socket::udp(any).unwrap();
        for _ in 0..packets {
            // What comes back of a refusal is an error of the next one.
            let _ = socket.send_to(b"x", to);
        }
    })
    .unwrap();
}

fn denials(policyd: &Running) -> Vec<String> {
    let log = policyd.log();
    let lines = log.lines().filter_map(|line| line.split_once(" denied "));
    lines.map(|(_, fields)| fields.to_owned()).collect()
}

fn denied_traffic_is_named_once_a_flow_and_followed_packet_by_packet(backend: &'static str) {
    let (node, _a, b) = lab(backend);
    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    // Neighbours of IPv6 take their time to know each other.
    let begun = Instant::now();
    while !policyd.log().contains("port=53 ") {
        assert!(begun.elapsed() < PATIENCE, "{}", policyd.log());
        send(&b, "[fd00:10:244:1::a]:53", 1);
        thread::sleep(Duration::from_millis(50));
    }
    let followed = thread::scope(|scope| {
        let trace =
            scope.spawn(|| node.end(&["trace", "--pod", "shop/a", "--count", "12", "-o", "json"]));
        let begun = Instant::now();
        while !trace.is_finished() && begun.elapsed() < PATIENCE {
            send(&b, "10.244.1.10:81", 2);
            send(&b, "[fd00:10:244:1::a]:53", 1);
            thread::sleep(Duration::from_millis(50));
        }
        trace.join().unwrap()
    });
    assert!(followed.0.success(), "{}", followed.1);
    let lines: Vec<serde_json::Value> =
        followed.1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 12);
    let udp = lines.iter().find(|line| line["port"] == 81).unwrap();
    let expected = serde_json::json!({
        "audit": false,
        "direction": "ingress",
        "source": {"address": "10.244.2.10", "pod": "shop/b"},
        "destination": {"address": "10.244.1.10", "pod": "shop/a"},
        "protocol": "UDP", "port": 81, "midstream": false,
        "policies": ["shop/web"], "packets": 1,
    });
    assert_eq!(*udp, expected);
    assert!(lines.iter().any(|line| line["source"]["address"] == "fd00:10:244:2::a"));

    // The opening of a connection that is denied is one more flow; the one that is allowed is none.
    let connect = |port: u16| {
        let to = SocketAddr::from(([10, 244, 1, 10], port));
        let _ = b.enter(|| TcpStream::connect_timeout(&to, Duration::from_millis(300)));
    };
    connect(80);
    // The rules tell of so many packets a second: one that comes behind many may go untold.
    let begun = Instant::now();
    while policyd.lines("port=443 ") == 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", policyd.log());
        connect(443);
    }
    let told = denials(&policyd);
    assert_eq!(told.len(), 3, "{told:#?}");
    let udp = "direction=\"ingress\" source=\"shop/b\" source_address=10.244.2.10 \
               destination=\"shop/a\" destination_address=10.244.1.10 protocol=\"UDP\" port=81 \
               midstream=false policies=\"shop/web\" packets=";
    assert!(told.iter().any(|line| line.starts_with(udp)), "{told:#?}");
    let (status, log) = node.end(&["verify"]);
    assert!(status.success(), "{log}");
}

fn a_flood_is_counted_to_the_last_packet_and_told_of_in_part(backend: &'static str) {
    let (node, _a, b) = lab(backend);
    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    // No queue on the way is to overflow, and the first packets are sent before the links are in use.
    let mut sent = 0;
    let begun = Instant::now();
    while sent < 700 {
        let before = arrived(&node);
        let some = if before == 0 { 1 } else { 700 - sent };
        send(&b, "10.244.1.10:81", some.min(50));
        let settled = Instant::now();
        while arrived(&node) == before && settled.elapsed() < Duration::from_millis(200) {
            thread::sleep(Duration::from_millis(5));
        }
        sent = arrived(&node);
        assert!(begun.elapsed() < PATIENCE, "{sent} have arrived");
    }
    policyd.await_lines(" denied ", 1);
    let begun = Instant::now();
    loop {
        let metrics = node.namespace.enter(metrics).unwrap();
        let total = arrived(&node);
        let count = "policyd_denied_packets_total{family=\"ipv4\",direction=\"ingress\"}";
        if metrics.contains(&format!("{count} {total}\n")) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{total} have arrived\n{metrics}");
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(denials(&policyd).len(), 1, "one flow, one minute: {}", policyd.log());
}

/// How many packets the kernel has seen come to where they are denied.
fn arrived(node: &Node) -> usize {
    let program = format!("iptables-{}", node.backend);
    let rules = node.tool(&[&program, "-v", "-S", "NPC-DENY-I"], "");
    let last = rules.lines().find(|rule| rule.contains("-j DROP")).unwrap();
    let words: Vec<&str> = last.split(' ').collect();
    let at = words.iter().position(|word| *word == "-c").unwrap();
    words[at + 1].parse().unwrap()
}

fn metrics() -> String {
    let mut stream = TcpStream::connect("127.0.0.1:9476").unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn a_kernel_that_cannot_tell_still_denies(backend: &'static str) {
    let (mut node, _a, _b) = lab(backend);
    // What the kernel says where it lacks the target: that the rule is none.
    let program = format!("iptables-{backend}-restore");
    let script = format!("sed -u 's/-j NFLOG.*/-j NOSUCHTARGET/' | /usr/sbin/{program} \"$@\"");
    node.impersonate(&program, &script);
    let mut policyd = node.start();
    policyd.await_lines("INFO applied ", 1).await_lines("the kernel refuses a rule", 1);
    let v4 = node.table("iptables", backend);
    assert!(v4.contains("--dport 80 ") && v4.contains("-A NPC-DENY-I -j DROP"), "{v4}");
    assert!(v4.contains("-j NPC-FORWARD") && !v4.contains("NFLOG"), "{v4}");
    assert!(node.table("ip6tables", backend).contains("-j NFLOG --nflog-prefix NPC-I"));
    let (status, log) = node.end(&["status"]);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("NFLOG"), "{log}");
}

#[test]
fn without_the_option_nothing_is_told_and_trace_says_so() {
    let name = "denied::without_the_option_nothing_is_told_and_trace_says_so";
    policy_tests::privilege::kernel_test(name, || {
        let (mut node, _a, b) = lab("nft");
        node.options.clear();
        let mut policyd = node.start();
        policyd.await_lines("INFO ready ", 1);
        let (status, log) = node.end(&["trace"]);
        assert_eq!(status.code(), Some(2), "{log}");
        assert_eq!(
            log,
            "policyd: policyd does not tell of denied packets: start it with --log-denied; nor is any \
             policy audited here\n"
        );
        send(&b, "10.244.1.10:81", 3);
        assert!(!node.tables().contains("NFLOG"), "{}", node.tables());
        assert_eq!(denials(&policyd), [""; 0]);
    });
}

/// The lab without `--log-denied`, where the one policy is audited only.
fn audited_lab(backend: &'static str) -> (Node, Namespace, Namespace) {
    let (mut node, a, b) = lab(backend);
    node.options.clear();
    let named = "metadata: {name: web, ";
    let annotated = format!("{named}annotations: {{policyd.dev/audit: \"true\"}}, ");
    node.write("policy.yaml", &allow("web", "a", "b", 80).replace(named, &annotated));
    (node, a, b)
}

/// A socket of `pod` that takes what comes to a port of 10.244.1.10.
fn ear(pod: &Namespace, port: u16) -> UdpSocket {
    let socket = pod.enter(|| socket::udp(([10, 244, 1, 10], port).into()).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

/// Sends to an ear until it hears.
fn sends_until_heard(from: &Namespace, ear: &UdpSocket) {
    let to = ear.local_addr().unwrap().to_string();
    let begun = Instant::now();
    while ear.recv(&mut [0; 8]).is_err() {
        assert!(begun.elapsed() < PATIENCE, "nothing comes to {to}");
        send(from, &to, 1);
    }
}

/// The lines that tell of audits.
fn audits(policyd: &Running) -> Vec<String> {
    let log = policyd.log();
    log.lines().filter(|line| line.contains("audit=true")).map(str::to_owned).collect()
}

/// Sends to a port of 10.244.1.10 until it is told that this would be denied.
fn sends_until_told(policyd: &Running, from: &Namespace, port: u16) {
    let begun = Instant::now();
    let wanted = format!(" port={port} ");
    while !audits(policyd).iter().any(|line| line.contains(&wanted)) {
        assert!(begun.elapsed() < PATIENCE, "{}", policyd.log());
        send(from, &format!("10.244.1.10:{port}"), 1);
        thread::sleep(Duration::from_millis(50));
    }
}

fn audited_traffic_passes_and_is_told_of_until_another_policy_isolates(backend: &'static str) {
    let (node, a, b) = audited_lab(backend);
    let mut policyd = node.start();
    policyd.await_lines("INFO ready ", 1);
    let listening = ear(&a, 81);
    sends_until_heard(&b, &listening);
    sends_until_told(&policyd, &b, 81);
    // What the policy allows is not told of, and what came before the next line would have been.
    let connect = SocketAddr::from(([10, 244, 1, 10], 80));
    let _ = b.enter(|| TcpStream::connect_timeout(&connect, Duration::from_millis(300)));
    sends_until_told(&policyd, &b, 82);
    let told = audits(&policyd);
    assert!(!told.iter().any(|line| line.contains("port=80 ")), "{told:#?}");
    let line = "would be denied audit=true direction=\"ingress\" source=\"shop/b\" \
                source_address=10.244.2.10 destination=\"shop/a\" destination_address=10.244.1.10 \
                protocol=\"UDP\" port=81 midstream=false policies=\"shop/web\" packets=";
    assert!(told.iter().any(|found| found.contains(line)), "{told:#?}");

    let (status, log) = node.end(&["status"]);
    assert!(status.success() && log.contains("audit only, not enforced: shop/web"), "{log}");
    let (status, log) = node.end(&["verify"]);
    assert!(status.success(), "{log}");
    let trace = thread::scope(|scope| {
        let trace = scope.spawn(|| node.end(&["trace", "--count", "1", "-o", "json"]));
        let begun = Instant::now();
        while !trace.is_finished() && begun.elapsed() < PATIENCE {
            send(&b, "10.244.1.10:81", 1);
            thread::sleep(Duration::from_millis(50));
        }
        trace.join().unwrap()
    });
    assert!(trace.0.success() && trace.1.contains("\"audit\":true"), "{}", trace.1);
    let begun = Instant::now();
    let count = "policyd_audited_packets_total{family=\"ipv4\",direction=\"ingress\"} ";
    loop {
        let metrics = node.namespace.enter(metrics).unwrap();
        let counted = metrics.lines().find_map(|line| line.strip_prefix(count)).unwrap();
        if counted != "0" {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{metrics}");
        thread::sleep(Duration::from_millis(200));
    }

    // Another policy that isolates: now there is nothing more to deny, and that is not told of.
    node.write("other.yaml", &allow("other", "a", "b", 81));
    policyd.await_that("nothing is audited", |_| !node.tables().contains("NPC-AUDIT"));
    sends_until_heard(&b, &listening);
    let closed = ear(&a, 83);
    for _ in 0..5 {
        send(&b, "10.244.1.10:83", 1);
        assert!(closed.recv(&mut [0; 8]).is_err());
    }
    assert!(!audits(&policyd).iter().any(|line| line.contains("port=83 ")), "{}", policyd.log());
}

fn a_kernel_that_cannot_tell_of_audits_lets_their_traffic_pass(backend: &'static str) {
    let (mut node, a, b) = audited_lab(backend);
    // What the kernel says where it lacks the target: that the rule is none.
    let program = format!("iptables-{backend}-restore");
    let script = format!("sed 's/-j NFLOG.*/-j NOSUCHTARGET/' | /usr/sbin/{program} \"$@\"");
    node.impersonate(&program, &script);
    let mut policyd = node.start();
    policyd.await_lines("INFO applied ", 1).await_lines("the kernel refuses a rule", 1);
    let v4 = node.table("iptables", backend);
    assert!(v4.contains("-A NPC-AUDIT-I -j RETURN") && !v4.contains("NFLOG"), "{v4}");
    sends_until_heard(&b, &ear(&a, 81));
}
