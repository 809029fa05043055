//! Standing connections: those that a change denies are cut, and no other notices.
//!
//! Real sockets in pods. Over TCP the server speaks first after the change: conntrack would adopt its
//! segment as a new flow in the other direction, which no policy of the client denies. A datagram of
//! the server is such a flow, and a limit that is stated; so over UDP the client speaks.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use policy_manifest::input;
use policy_tests::daemon::{Daemon, built_program};
use policy_tests::enforcement::{Backend, LOCK_FILE, OWN_NAMESPACE};
use policy_tests::lab::{Lab, Plan, StationId, Wiring};
use policy_tests::placement::Placement;
use policy_tests::privilege::kernel_test;
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long what must not arrive is waited for: TCP sends again within it.
const QUIET: Duration = Duration::from_millis(800);
const NETS: [&str; 2] = ["10.244.1.", "fd00:10:244:1::"];

fn pods(labels: [&str; 3]) -> String {
    let pod = |(app, last): (&str, &str)| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: x, name: pod-{last}, labels: {{app: \
             {app}}}}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIPs: [{{ip: \
             {}{last}}}, {{ip: \"{}{last}\"}}]}}\n---\n",
            NETS[0], NETS[1]
        )
    };
    [(labels[0], "10"), (labels[1], "11"), (labels[2], "12")].map(pod).concat()
}

/// Lets pods with `app in (clients)` reach the server, by whatever protocol.
fn policy(clients: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{namespace: x, name: server}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: server}}}}\n  ingress:\n  - from: \
         [{{podSelector: {{matchExpressions: [{{key: app, operator: In, values: [{clients}]}}]}}}}]\n"
    )
}

/// One connection, from both sides.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    datagrams: (UdpSocket, UdpSocket),
}

impl Connection {
    /// Whether what the server says over TCP arrives, then what the client says, then its datagram: as is
    /// expected, or else otherwise. What is to arrive is waited for.
    fn stands(&mut self, expected: [bool; 3]) -> [bool; 3] {
        let wait = |arrives: bool| Some(if arrives { PATIENCE } else { QUIET });
        let _ = self.server.write_all(b"s");
        self.client.set_read_timeout(wait(expected[0])).unwrap();
        let server = heard(|b| self.client.read(b));
        let _ = self.client.write_all(b"c");
        self.server.set_read_timeout(wait(expected[1])).unwrap();
        let client = heard(|b| self.server.read(b));
        let _ = self.datagrams.0.send(b"c");
        self.datagrams.1.set_read_timeout(wait(expected[2])).unwrap();
        [server, client, heard(|b| self.datagrams.1.recv(b))]
    }

    #[track_caller]
    fn expect(&mut self, expected: [bool; 3], when: &str) {
        assert_eq!(self.stands(expected), expected, "{when}");
    }
}

fn heard(mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>) -> bool {
    match read(&mut [0; 64]) {
        Ok(length) => length > 0,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => panic!("the connection was refused, not dropped: {error}"),
    }
}

struct Scene {
    lab: Lab,
    stations: [StationId; 3],
    directory: tempfile::TempDir,
    backend: Backend,
}

impl Scene {
    fn new(backend: Backend) -> Self {
        let wirings = vec![Wiring::Bridged, Wiring::Routed, Wiring::Bridged];
        let lab = Lab::build(&Plan { nodes: vec![wirings] }).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("pods.yaml"), pods(["good", "other", "server"])).unwrap();
        let snapshot = input::read(&[directory.path()], &input::Options::default()).snapshot;
        let placement = Placement::new(&lab, &snapshot, &[]).unwrap();
        placement.lay(backend).unwrap();
        placement.acquaint_bridged().unwrap();
        let stations = ["10", "11", "12"]
            .map(|last| placement.station_of(format!("{}{last}", NETS[0]).parse().unwrap()));
        drop(placement);
        let scene = Self { lab, stations, directory, backend };
        scene.write("policy.yaml", &policy("good, other"));
        scene
    }

    fn write(&self, name: &str, text: &str) {
        let beside = self.directory.path().join(".new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.directory.path().join(name)).unwrap();
    }

    fn start(&self, more: &[&str]) -> Daemon {
        let backend = match self.backend {
            Backend::Nft => "nft",
            Backend::Legacy => "legacy",
        };
        let mut command = Command::new(built_program("policyd").unwrap());
        command.args(["run", "--node", "n1", "--iptables-backend", backend, "--source"]);
        command.arg(self.directory.path()).args(more);
        command.env("NO_COLOR", "1").env(LOCK_FILE, OWN_NAMESPACE);
        let node = self.lab.namespace(&self.lab.nodes[0]);
        let daemon = Daemon::start(node, &mut command).unwrap();
        daemon.await_line(" ready ", 0, PATIENCE).unwrap();
        daemon
    }

    /// Connects pod `index` with the server over both families.
    fn connect(&self, index: usize) -> Vec<Connection> {
        NETS.iter().map(|net| self.connect_over(net, index)).collect()
    }

    fn connect_over(&self, net: &str, index: usize) -> Connection {
        let address = |last: usize| -> IpAddr { format!("{net}{last}").parse().unwrap() };
        let (from, to) = (address(10 + index), address(12));
        let (station, server) = (self.stations[index], self.stations[2]);
        let in_server = &self.lab.station(server).namespace;
        let in_client = &self.lab.station(station).namespace;
        let (listener, datagrams) = in_server
            .enter(|| {
                let socket = bound(to, Type::STREAM);
                socket.listen(1).unwrap();
                (TcpListener::from(socket), UdpSocket::from(bound(to, Type::DGRAM)))
            })
            .unwrap();
        let (stream, asking) = in_client
            .enter(|| {
                let socket = bound(from, Type::STREAM);
                let there = listener.local_addr().unwrap();
                socket.connect_timeout(&there.into(), PATIENCE).unwrap();
                (TcpStream::from(socket), UdpSocket::from(bound(from, Type::DGRAM)))
            })
            .unwrap();
        let (accepted, _) = listener.accept().unwrap();
        asking.connect(datagrams.local_addr().unwrap()).unwrap();
        datagrams.connect(asking.local_addr().unwrap()).unwrap();
        asking.set_read_timeout(Some(PATIENCE)).unwrap();
        let datagrams = (asking, datagrams);
        let mut connection = Connection { client: stream, server: accepted, datagrams };
        connection.expect([true; 3], "before any change");
        // Before it is answered, a flow of datagrams is new with each of them.
        connection.datagrams.1.send(b"s").unwrap();
        assert!(heard(|b| connection.datagrams.0.recv(b)), "before any change");
        connection
    }
}

fn bound(address: IpAddr, kind: Type) -> Socket {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind, None).unwrap();
    if address.is_ipv6() {
        // A pod's address is a route of its namespace, not an address of a device.
        socket.set_freebind_v6(true).unwrap();
    }
    socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
    socket
}

fn await_cut(daemon: &Daemon, from: usize) -> usize {
    daemon.await_line("cut, for policy denies them now", from, PATIENCE).unwrap()
}

macro_rules! under_both_backends {
    ($($scenario:ident),* $(,)?) => {
        mod nft {
            $(#[test]
            fn $scenario() {
                let name = concat!("standing::nft::", stringify!($scenario));
                super::kernel_test(name, || super::$scenario(super::Backend::Nft));
            })*
        }
        mod legacy {
            $(#[test]
            fn $scenario() {
                let name = concat!("standing::legacy::", stringify!($scenario));
                super::kernel_test(name, || super::$scenario(super::Backend::Legacy));
            })*
        }
    };
}

under_both_backends!(
    what_a_change_denies_is_cut_and_nothing_else_notices,
    they_live_on_where_the_operator_wants_it,
    what_was_denied_while_policyd_was_away_is_cut_at_its_start,
    an_address_that_leaves_takes_its_connections_with_it,
    what_stood_before_anything_was_tracked_is_judged_by_its_next_packet,
);

fn what_a_change_denies_is_cut_and_nothing_else_notices(backend: Backend) {
    let scene = Scene::new(backend);
    let daemon = scene.start(&[]);
    let (mut good, mut other) = (scene.connect(0), scene.connect(1));
    scene.write("policy.yaml", &policy("other"));
    await_cut(&daemon, 0);
    for connection in &mut good {
        connection.expect([false; 3], "after it");
    }
    for connection in &mut other {
        connection.expect([true; 3], "after it");
    }
    // A label decides as a policy does.
    let read = daemon.lines().len();
    scene.write("pods.yaml", &pods(["good", "stranger", "server"]));
    await_cut(&daemon, read);
    for connection in &mut other {
        connection.expect([false; 3], "after it");
    }
}

fn they_live_on_where_the_operator_wants_it(backend: Backend) {
    let scene = Scene::new(backend);
    let daemon = scene.start(&["--keep-established"]);
    let mut good = scene.connect(0);
    let read = daemon.lines().len();
    scene.write("policy.yaml", &policy("other"));
    daemon.await_line("applied", read, PATIENCE).unwrap();
    for connection in &mut good {
        connection.expect([true; 3], "after it");
    }
}

fn what_was_denied_while_policyd_was_away_is_cut_at_its_start(backend: Backend) {
    let scene = Scene::new(backend);
    let daemon = scene.start(&[]);
    let (mut good, mut other) = (scene.connect(0), scene.connect(1));
    daemon.stop(Signal::SIGKILL).unwrap();
    scene.write("policy.yaml", &policy("other"));
    await_cut(&scene.start(&[]), 0);
    for connection in &mut good {
        connection.expect([false; 3], "after it");
    }
    for connection in &mut other {
        connection.expect([true; 3], "after it");
    }
}

fn an_address_that_leaves_takes_its_connections_with_it(backend: Backend) {
    let scene = Scene::new(backend);
    // Somebody else is isolated: without any rule the kernel tracks nothing.
    scene.write("policy.yaml", &policy("good").replace("{app: server}", "{app: other}"));
    let daemon = scene.start(&[]);
    let held = scene.connect(0);
    let tracked = || {
        let table = fs::read_to_string("/proc/thread-self/net/nf_conntrack");
        let table = table.expect("the kernel shows its connections");
        table.lines().filter(|line| line.contains(&format!("={}10 ", NETS[0]))).count()
    };
    let node = scene.lab.namespace(&scene.lab.nodes[0]);
    assert!(node.enter(tracked).unwrap() > 0);
    scene
        .write("pods.yaml", &pods(["good", "other", "server"]).replacen("Running", "Succeeded", 1));
    let begun = Instant::now();
    while node.enter(tracked).unwrap() > 0 {
        assert!(begun.elapsed() < PATIENCE, "still tracked: {:?}", daemon.lines());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(held);
}

/// The kernel tracks nothing before there are rules that ask it to. Of a connection from that time it
/// sees a segment in the middle, of which nobody knows who opened it.
fn what_stood_before_anything_was_tracked_is_judged_by_its_next_packet(backend: Backend) {
    let scene = Scene::new(backend);
    let (mut good, mut other) = (scene.connect(0), scene.connect(1));
    scene.write("policy.yaml", &policy("other"));
    let _daemon = scene.start(&[]);
    for connection in &mut good {
        connection.expect([false; 3], "after it");
    }
    // A datagram is as good as the first, where policy allows it.
    for connection in &mut other {
        connection.expect([false, false, true], "after it");
    }
    // Those that begin now stand.
    drop(scene.connect(1));
}
