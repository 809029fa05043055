//! Forged sources: a pod sends from its own addresses alone, whatever its neighbours have been told.
//!
//! policyd runs with `--antispoof` over four pods that have the addresses of the lab's slots: two are
//! routed to, two are on the bridge.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use policy_compiler::cidr::Family;
use policy_compiler::flow::Traffic;
use policy_tests::daemon::{Daemon, built_program};
use policy_tests::enforcement::{Backend, LOCK_FILE, OWN_NAMESPACE};
use policy_tests::lab::{BRIDGE, Lab, Plan, Slot, StationId, Wiring};
use policy_tests::packet::{Outline, Segment, Sighting};
use policy_tests::probe::{Probe, in_order, send_all};
use policy_tests::socket;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
/// The pods by their slots.
const PODS: [&str; 4] = ["routed-1", "routed-2", "bridged-1", "bridged-2"];

struct Scene {
    lab: Lab,
    directory: TempDir,
    backend: Backend,
}

impl Scene {
    fn new(backend: Backend) -> Self {
        let wirings = vec![Wiring::Routed, Wiring::Routed, Wiring::Bridged, Wiring::Bridged];
        let lab = Lab::build(&Plan { nodes: vec![wirings] }).unwrap();
        let scene = Self { lab, directory: tempfile::tempdir().unwrap(), backend };
        for (index, name) in PODS.into_iter().enumerate() {
            scene.write(name, index);
        }
        // All are of one network, of which those on the bridge would seek the others there.
        let node = &scene.lab.nodes[0];
        for bridged in [2, 3] {
            let namespace = &scene.lab.station(scene.slot(bridged).station).namespace;
            let via = |routed: usize| {
                let Slot { v4, v6, .. } = scene.slot(routed);
                [
                    format!("route add {v4}/32 via {}", node.v4),
                    format!("route add {v6}/128 via {}", node.v6),
                ]
            };
            let [four, six] = [0, 1].map(|family| [0, 1].map(|routed| via(routed)[family].clone()));
            namespace.ip(&four).unwrap();
            namespace.ip6(&six).unwrap();
        }
        scene
    }

    fn slot(&self, index: usize) -> &Slot {
        &self.lab.nodes[0].slots[index]
    }

    /// A pod with the addresses of a slot.
    fn write(&self, name: &str, index: usize) {
        let Slot { v4, v6, .. } = self.slot(index);
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: x, name: {name}}}\n\
             spec: {{nodeName: n1}}\n\
             status: {{phase: Running, podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}\n"
        );
        let beside = self.directory.path().join(".new");
        fs::write(&beside, pod).unwrap();
        fs::rename(beside, self.directory.path().join(format!("{name}.yaml"))).unwrap();
    }

    fn command(more: &[&str]) -> Command {
        let mut command = Command::new(built_program("policyd").unwrap());
        command.args(more).env("NO_COLOR", "1").env(LOCK_FILE, OWN_NAMESPACE);
        command
    }

    fn start(&self, more: &[&str]) -> Daemon {
        let backend = match self.backend {
            Backend::Nft => "nft",
            Backend::Legacy => "legacy",
        };
        let mut command = Self::command(&["run", "--node", "n1", "--listen", "off"]);
        command.args(["--iptables-backend", backend, "--source"]).arg(self.directory.path());
        let node = self.lab.namespace(&self.lab.nodes[0]);
        let daemon = Daemon::start(node, command.args(more)).unwrap().shown_as("policyd");
        daemon.await_line(" ready ", 0, PATIENCE).unwrap();
        daemon
    }

    fn node(&self, program: &str, arguments: &[&str]) -> String {
        let node = self.lab.namespace(&self.lab.nodes[0]);
        node.run(Command::new(program).args(arguments), "").unwrap()
    }

    /// A datagram from slot `from` to slot `to` that says it comes from `source`.
    fn forged(&self, from: usize, to: usize, source: IpAddr) -> Probe {
        self.probe(from, to, source, Traffic::udp(5000), Segment::Opening, self.lab.next_port())
    }

    fn probe(
        &self,
        from: usize,
        to: usize,
        source: IpAddr,
        traffic: Traffic,
        segment: Segment,
        port: u16,
    ) -> Probe {
        let destination = self.slot(to).address_like(source);
        let outline = Outline::opening(source, destination, traffic, port);
        Probe {
            sender: self.slot(from).station,
            towards: destination,
            outline: Outline { segment, ..outline },
            receivers: vec![self.slot(to).station],
        }
    }

    fn arrive(&self, probes: &[Probe]) -> Vec<bool> {
        send_all(&self.lab, probes).unwrap().iter().map(|fate| fate.arrived).collect()
    }

    /// Whether a datagram from slot `from` with the source of slot `whose` reaches slot `to`, by family.
    fn passes(&self, from: usize, to: usize, whose: usize) -> [bool; 2] {
        let Slot { v4, v6, .. } = self.slot(whose);
        let probes = [(*v4).into(), (*v6).into()].map(|source| self.forged(from, to, source));
        self.arrive(&probes).try_into().unwrap()
    }

    fn await_bound(daemon: &Daemon, pod: &str, interface: &str) {
        let line = format!("pod=x/{pod} interface={interface}");
        daemon.await_line(&line, 0, PATIENCE).unwrap();
    }
}

const BOTH: [bool; 2] = [true; 2];
const NEITHER: [bool; 2] = [false; 2];

fn what_bears_anothers_source_is_dropped(backend: Backend) {
    let scene = Scene::new(backend);
    let ways = [(0, 1), (0, 2), (2, 0), (2, 3)];
    for (from, to) in ways {
        // A packet that its receiver would have to have sent itself is dropped by every stack.
        let other = (0..4).find(|slot| *slot != from && *slot != to).unwrap();
        assert_eq!(scene.passes(from, to, from), BOTH, "{from} to {to}");
        assert_eq!(scene.passes(from, to, other), BOTH, "nobody checks {from} to {to} as {other}");
    }
    let daemon = scene.start(&["--antispoof"]);
    for (index, pod) in PODS.into_iter().enumerate() {
        Scene::await_bound(&daemon, pod, &format!("pod{}", index + 1));
    }
    for (from, to) in ways {
        assert_eq!(scene.passes(from, to, from), BOTH, "{from} to {to} as itself");
        for other in (0..4).filter(|slot| *slot != from && *slot != to) {
            assert_eq!(scene.passes(from, to, other), NEITHER, "{from} to {to} as {other}");
        }
        for nobody in ["203.0.113.9", "2001:db8::9"] {
            let probe = scene.forged(from, to, nobody.parse().unwrap());
            assert_eq!(scene.arrive(&[probe]), [false], "{from} to {to} as {nobody}");
        }
    }
}

/// conntrack knows the connection, and lets all of its packets pass any rule that asks for a new one.
fn a_standing_connection_of_another_is_no_cover(backend: Backend) {
    let scene = Scene::new(backend);
    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[3], "pod4");
    for (victim, attacker, to) in [(0, 1, 2), (2, 3, 0)] {
        for source in [scene.slot(victim).v4.into(), IpAddr::V6(scene.slot(victim).v6)] {
            let port = scene.lab.next_port();
            let segment = |from: usize, segment: Segment| {
                scene.probe(from, to, source, Traffic::tcp(80), segment, port)
            };
            let opened = send_all(&scene.lab, &[segment(victim, Segment::Opening)]).unwrap();
            assert!(opened[0].arrived && opened[0].answered, "{source} connects");
            let later = segment(victim, Segment::Midstream);
            assert_eq!(scene.arrive(&[later]), [true], "{source} goes on");
            let forged = segment(attacker, Segment::Midstream);
            assert_eq!(scene.arrive(&[forged]), [false], "{source} is not slot {attacker}");
        }
    }
}

/// Sends datagrams in this order from slot `from`, each with its source, to ports of the node, and says
/// which of the ports have heard.
fn heard_by_node(scene: &Scene, from: usize, sent: &[(IpAddr, u16)]) -> Vec<u16> {
    let node = &scene.lab.nodes[0];
    let ports: Vec<u16> = sent.iter().map(|(_, port)| *port).collect();
    let like = sent[0].0;
    let address: IpAddr = if like.is_ipv4() { node.v4.into() } else { node.v6.into() };
    let any = if like.is_ipv4() { "0.0.0.0" } else { "::" };
    let sockets: Vec<UdpSocket> = scene
        .lab
        .namespace(node)
        .enter(|| {
            let bind =
                |port: &u16| socket::udp(SocketAddr::new(any.parse().unwrap(), *port)).unwrap();
            ports.iter().map(bind).collect()
        })
        .unwrap();
    let last = sockets.last().unwrap();
    last.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let station = scene.lab.station(scene.slot(from).station);
    let start = Instant::now();
    loop {
        in_order(|| {
            for (source, port) in sent {
                let outline =
                    Outline::opening(*source, address, Traffic::udp(*port), scene.lab.next_port());
                station.send(&outline.bytes(scene.lab.next_token()), address).unwrap();
            }
        });
        // What is sent last is let through, so that what was sent before it had its time.
        if last.recv(&mut [0; 64]).is_ok() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "nothing reaches the node");
    }
    let heard = |socket: &&UdpSocket| {
        socket.set_nonblocking(true).unwrap();
        socket.recv(&mut [0; 64]).is_ok()
    };
    let before = &sockets[..sockets.len() - 1];
    before.iter().filter(heard).map(|socket| socket.local_addr().unwrap().port()).collect()
}

fn the_node_takes_no_tunnel_and_no_forged_source_from_a_pod(backend: Backend) {
    let scene = Scene::new(backend);
    scene.node("ip", &["link", "add", "vx", "type", "vxlan", "id", "7", "dstport", "4444"]);
    let own = |slot: usize, v4: bool| -> IpAddr {
        let Slot { v4: four, v6: six, .. } = scene.slot(slot);
        if v4 { (*four).into() } else { (*six).into() }
    };
    let cases = |from: usize, other: usize, v4: bool| {
        let (own, other) = (own(from, v4), own(other, v4));
        [(own, 4789), (own, 8472), (own, 4444), (other, 5001), (own, 5000)]
    };
    for (from, other) in [(0, 1), (2, 3)] {
        for v4 in [true, false] {
            let all = heard_by_node(&scene, from, &cases(from, other, v4));
            assert_eq!(all, [4789, 8472, 4444, 5001], "nobody checks yet");
        }
    }
    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[3], "pod4");
    for (from, other) in [(0, 1), (2, 3)] {
        for v4 in [true, false] {
            let none: [u16; 0] = [];
            assert_eq!(heard_by_node(&scene, from, &cases(from, other, v4)), none, "slot {from}");
        }
        // To another pod the same ports are ports like any other.
        for to in [1, 3].into_iter().filter(|to| *to != from) {
            for source in [own(from, true), own(from, false)] {
                let port = scene.lab.next_port();
                let probe =
                    scene.probe(from, to, source, Traffic::udp(4789), Segment::Opening, port);
                assert_eq!(scene.arrive(&[probe]), [true], "{source} to slot {to}");
            }
        }
    }
}

/// Sends a frame as it is.
fn send_frame(scene: &Scene, from: usize, frame: &[u8]) {
    let send = || {
        let device: LinkAddr = getifaddrs()
            .unwrap()
            .filter(|interface| interface.interface_name == "eth0")
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap();
        sendto(socket.as_raw_fd(), frame, &device, MsgFlags::empty()).unwrap();
    };
    scene.lab.station(scene.slot(from).station).namespace.enter(send).unwrap();
}

fn octets(mac: &str) -> Vec<u8> {
    mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect()
}

/// A frame from bridged pod to bridged pod with these bytes between the addresses and the packet.
fn frame(scene: &Scene, between: &[u8], packet: &[u8]) -> Vec<u8> {
    let [to, from] = [3, 2].map(|slot| octets(&scene.slot(slot).mac));
    [&to, &from, between, packet].concat()
}

fn tagged_frames_and_those_of_other_kinds_are_dropped(backend: Backend) {
    let scene = Scene::new(backend);
    let receiver = scene.lab.station(scene.slot(3).station);
    // A plain frame is sent after each, and has to arrive, so that the other had its time.
    let arrives = |between: &[u8], rounds: usize| {
        let source = scene.slot(2).v4.into();
        let outline = scene.forged(2, 3, source).outline;
        let start = Instant::now();
        let (mut seen, mut plain) = (false, 0);
        while !seen && plain < rounds {
            let (token, marker) = (scene.lab.next_token(), scene.lab.next_token());
            send_frame(&scene, 2, &frame(&scene, between, &outline.bytes(token)));
            send_frame(&scene, 2, &frame(&scene, &[8, 0], &outline.bytes(marker)));
            std::thread::sleep(Duration::from_millis(20));
            receiver
                .drain(|sighting| {
                    seen |= sighting == Sighting::Sent(token);
                    plain += usize::from(sighting == Sighting::Sent(marker));
                })
                .unwrap();
            assert!(start.elapsed() < PATIENCE, "plain frames do not pass");
        }
        seen
    };
    let tags: [&[u8]; 2] = [&[0x81, 0, 0, 0, 8, 0], &[0x88, 0xa8, 0, 0, 8, 0]];
    assert!(arrives(tags[0], usize::MAX), "nobody minds a tag");
    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[3], "pod4");
    for tag in tags {
        assert!(!arrives(tag, 10), "{tag:x?}");
    }
    // The rules have dropped them, and not the receiver.
    let shown = scene.node("nft", &["list", "table", "bridge", "policyd"]);
    assert!(shown.contains("\"pod3\" . 198.18.0.3"), "{shown}");
}

/// An ARP reply of slot 2's device that says who has `address`.
fn claim(scene: &Scene, address: Ipv4Addr) -> Vec<u8> {
    let own = octets(&scene.slot(2).mac);
    let (to, v4) = (octets(&scene.slot(3).mac), scene.slot(3).v4.octets());
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    frame(scene, &[8, 6], &[&head[..], &own, &address.octets(), &to, &v4].concat())
}

fn a_pod_of_a_bridge_claims_no_address_but_its_own(backend: Backend) {
    let scene = Scene::new(backend);
    let own = scene.slot(2).v4;
    let all = [scene.lab.nodes[0].v4, scene.slot(0).v4, own];
    // Sends all claims again and again until so many have been heard, and says which were.
    let heard = |distinct: usize, own_at_least: usize| {
        let listen = || {
            let (flags, any) = (SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
            socket(AddressFamily::Packet, SockType::Raw, flags, any).unwrap()
        };
        let station = scene.lab.station(scene.slot(3).station);
        let tap = station.namespace.enter(listen).unwrap();
        let (mut heard, mut own_heard) = (BTreeSet::new(), 0);
        let start = Instant::now();
        while heard.len() < distinct || own_heard < own_at_least {
            assert!(start.elapsed() < PATIENCE, "{heard:?} alone is heard");
            for address in all {
                send_frame(&scene, 2, &claim(&scene, address));
            }
            std::thread::sleep(Duration::from_millis(20));
            let mut buffer = [0; 2048];
            while let Ok(length) = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                let frame = &buffer[..length];
                if length >= 42 && frame[12..14] == [8, 6] && frame[22..28] == frame[6..12] {
                    let address = Ipv4Addr::from(<[u8; 4]>::try_from(&frame[28..32]).unwrap());
                    own_heard += usize::from(address == own);
                    heard.insert(address);
                }
            }
        }
        heard
    };
    assert_eq!(heard(3, 1), all.into(), "nobody minds");
    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[3], "pod4");
    assert_eq!(heard(1, 10), [own].into());
    // Those that are true are heard: the neighbours find each other anew.
    for family in ["-4", "-6"] {
        for slot in [2, 3] {
            let namespace = &scene.lab.station(scene.slot(slot).station).namespace;
            let mut flush = Command::new("ip");
            flush.args([family, "neighbour", "flush", "dev", "eth0", "nud", "permanent"]);
            namespace.run(&mut flush, "").unwrap();
        }
    }
    for like in [IpAddr::V4(own), IpAddr::V6(scene.slot(2).v6)] {
        assert!(talks(&scene, 2, 3, like), "{like} finds its neighbour");
    }
}

/// Whether datagrams of one slot's socket reach another's, which may take its neighbours a while.
fn talks(scene: &Scene, from: usize, to: usize, like: IpAddr) -> bool {
    let [source, destination] = [from, to].map(|slot| scene.slot(slot).address_like(like));
    let socket_in = |station: StationId, address: IpAddr| {
        let bind = || socket::udp(SocketAddr::new(address, 5000)).unwrap();
        scene.lab.station(station).namespace.enter(bind).unwrap()
    };
    let server = socket_in(scene.slot(to).station, destination);
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let client = socket_in(scene.slot(from).station, source);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        client.send_to(b"hello", SocketAddr::new(destination, 5000)).unwrap();
        if server.recv(&mut [0; 8]).is_ok() {
            return true;
        }
    }
    false
}

/// Has the node believe that slot 2's addresses have this hardware address, as a packet could.
fn tell_node(scene: &Scene, mac: &str, state: &str) {
    let Slot { v4, v6, .. } = scene.slot(2);
    for address in [v4.to_string(), v6.to_string()] {
        let entry = ["lladdr", mac, "dev", BRIDGE, "nud", state];
        scene.node("ip", &[&["neighbour", "replace", &address], &entry[..]].concat());
    }
}

fn what_neighbours_were_told_moves_no_pod(backend: Backend) {
    let scene = Scene::new(backend);
    let [truth, lie] = [2, 3].map(|slot| scene.slot(slot).mac.clone());
    assert_eq!(scene.passes(3, 0, 3), BOTH, "the bridge learns where slot 3 is");
    tell_node(&scene, &lie, "noarp");
    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[2], "pod3");
    Scene::await_bound(&daemon, PODS[3], "pod4");
    let warning = "a pod's address is seen behind another interface, which changes nothing";
    daemon.await_line(warning, 0, PATIENCE).unwrap();
    tell_node(&scene, &truth, "permanent");
    assert_eq!(scene.passes(2, 0, 2), BOTH, "who has the address");
    assert_eq!(scene.passes(3, 0, 2), NEITHER, "who says so");
}

/// Where the other end tells no longer, or tells of another.
fn bindings_outlive_policyd_whatever_is_told_meanwhile(backend: Backend) {
    let scene = Scene::new(backend);
    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[2], "pod3");
    let status = daemon.stop(Signal::SIGKILL).unwrap();
    assert!(!status.success());
    let Slot { v4, v6, .. } = scene.slot(2);
    let [own, other] = [2, 3].map(|slot| &scene.lab.station(scene.slot(slot).station).namespace);
    own.ip(&[
        format!("address del {v4}/24 dev eth0"),
        format!("address add {v4}/32 dev lo"),
        format!("route add {}/32 dev eth0", scene.lab.nodes[0].v4),
    ])
    .unwrap();
    own.ip6(&[format!("address del {v6}/64 dev eth0")]).unwrap();
    other.ip(&[format!("address add {v4}/32 dev eth0")]).unwrap();
    other.ip6(&[format!("address add {v6}/128 dev eth0 nodad")]).unwrap();
    assert_eq!(scene.passes(3, 0, 2), NEITHER, "nobody runs, and the table stands");
    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[2], "pod3");
    assert_eq!(scene.passes(3, 0, 2), NEITHER, "it is remembered who it was");
}

/// As with a sandbox that has a network stack of its own: its address is nowhere in the kernel.
fn what_a_bridge_has_learned_is_believed_where_nothing_else_tells(backend: Backend) {
    let scene = Scene::new(backend);
    let Slot { v4, v6, .. } = scene.slot(2);
    let silent = &scene.lab.station(scene.slot(2).station).namespace;
    silent
        .ip(&[
            format!("address del {v4}/24 dev eth0"),
            format!("address add {v4}/32 dev lo"),
            format!("route add {}/32 dev eth0", scene.lab.nodes[0].v4),
            format!("route replace {}/32 via {}", scene.slot(0).v4, scene.lab.nodes[0].v4),
        ])
        .unwrap();
    silent
        .ip6(&[
            format!("address del {v6}/64 dev eth0"),
            format!("route replace {}/128 dev eth0", scene.lab.nodes[0].v6),
            format!("route replace {}/128 via {}", scene.slot(0).v6, scene.lab.nodes[0].v6),
        ])
        .unwrap();
    let [truth, lie] = [2, 3].map(|slot| scene.slot(slot).mac.clone());
    assert_eq!(scene.passes(2, 0, 2), BOTH, "the bridge learns where slot 2 is");
    assert_eq!(scene.passes(3, 0, 3), BOTH, "and where slot 3 is");
    tell_node(&scene, &lie, "noarp");
    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[3], "pod4");
    let warning = "what a pod sends is not checked pod=x/bridged-1 why=\"it seems to be behind pod4, \
                   which is the port of x/bridged-2\"";
    daemon.await_line(warning, 0, PATIENCE).unwrap();
    tell_node(&scene, &truth, "permanent");
    Scene::await_bound(&daemon, PODS[2], "pod3");
    let start = Instant::now();
    while scene.passes(2, 0, 3) != NEITHER || scene.passes(2, 0, 2) != BOTH {
        assert!(start.elapsed() < PATIENCE, "it may send as itself alone");
    }
}

fn an_address_is_free_when_its_pod_goes(backend: Backend) {
    let scene = Scene::new(backend);
    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[3], "pod4");
    for name in [PODS[2], PODS[3]] {
        fs::remove_file(scene.directory.path().join(format!("{name}.yaml"))).unwrap();
    }
    let (v4, v6) = (scene.slot(3).v4, scene.slot(2).v6);
    for (slot, change) in [(2, "del"), (3, "add")] {
        let namespace = &scene.lab.station(scene.slot(slot).station).namespace;
        namespace.ip6(&[format!("address {change} {v6}/64 dev eth0")]).unwrap();
    }
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: x, name: heir}}\n\
         spec: {{nodeName: n1}}\n\
         status: {{phase: Running, podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}\n"
    );
    fs::write(scene.directory.path().join("heir.yaml"), pod).unwrap();
    Scene::await_bound(&daemon, "heir", "pod4");
    let start = Instant::now();
    while scene.passes(3, 0, 2) != [false, true] || scene.passes(3, 0, 3) != [true, false] {
        assert!(start.elapsed() < PATIENCE, "it has the addresses of the pods that were there");
    }
}

fn nothing_is_left_and_nothing_of_others_is_touched(backend: Backend) {
    let scene = Scene::new(backend);
    scene.node(
        "nft",
        &["add table bridge others; add chain bridge others c { type filter hook \
                         prerouting priority 0; }; add rule bridge others c counter"],
    );
    let others = || {
        let listed = scene.node("nft", &["-s", "list", "ruleset", "bridge"]);
        (listed.contains("table bridge policyd"), listed.replace('\n', ""))
    };
    let (_, before) = others();
    // The lab's lock of legacy is no file whose use could be noticed.
    let daemon = scene.start(&["--antispoof", "--verify-interval", "1"]);
    Scene::await_bound(&daemon, PODS[3], "pod4");
    assert!(others().0);
    // What somebody else removes comes back.
    scene.node("nft", &["flush", "chain", "bridge", "policyd", "pod"]);
    assert_eq!(scene.passes(3, 0, 2), BOTH, "the table was flushed");
    daemon.await_line("the bridges' table is not as it was written", 0, PATIENCE).unwrap();
    let start = Instant::now();
    while scene.passes(3, 0, 2) != NEITHER {
        assert!(start.elapsed() < PATIENCE, "the table is not put right");
    }
    let filter = || {
        let node = scene.lab.namespace(&scene.lab.nodes[0]);
        scene.backend.save(node, Family::V4, "filter").unwrap()
    };
    let hook = "-A INPUT -j NPC-SOURCES";
    scene.node(&scene.backend.iptables(Family::V4), &["-w", "-D", "INPUT", "-j", "NPC-SOURCES"]);
    while !filter().contains(hook) {
        assert!(start.elapsed() < 2 * PATIENCE, "the hook is not put back");
    }
    daemon.stop(Signal::SIGTERM).unwrap();
    assert!(others().0, "rules stay");

    // Without the flag the table goes, and so does the hook of INPUT.
    let daemon = scene.start(&[]);
    assert_eq!(others(), (false, before.clone()));
    assert!(!filter().contains("NPC-SOURCES"));
    daemon.stop(Signal::SIGTERM).unwrap();

    let daemon = scene.start(&["--antispoof"]);
    Scene::await_bound(&daemon, PODS[3], "pod4");
    daemon.stop(Signal::SIGTERM).unwrap();
    let node = scene.lab.namespace(&scene.lab.nodes[0]);
    let said = node.run(&mut Scene::command(&["cleanup"]), "").unwrap();
    assert!(said.contains("the bridges' table"), "{said}");
    assert_eq!(others(), (false, before));
}

under_both_backends!(
    what_bears_anothers_source_is_dropped,
    a_standing_connection_of_another_is_no_cover,
    the_node_takes_no_tunnel_and_no_forged_source_from_a_pod,
    tagged_frames_and_those_of_other_kinds_are_dropped,
    a_pod_of_a_bridge_claims_no_address_but_its_own,
    what_neighbours_were_told_moves_no_pod,
    bindings_outlive_policyd_whatever_is_told_meanwhile,
    what_a_bridge_has_learned_is_believed_where_nothing_else_tells,
    an_address_is_free_when_its_pod_goes,
    nothing_is_left_and_nothing_of_others_is_touched,
);
