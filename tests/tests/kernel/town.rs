//! A town: one node whose pods stay while labels and policies change at random around them, policyd
//! over its directory, and a vigil at its streets.
//!
//! Whatever the dice say, `good` and `clerk` reach the server, `other` and the world outside never do,
//! and `clerk` reaches nobody else. What `flux-a` and `flux-b` may do changes with each state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::config::{InterfaceName, NodeConfig};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::{NodeName, ObjectKey};
use policy_compiler::ruleset::Ruleset;
use policy_manifest::input;
use policy_tests::daemon::{Daemon, built_program};
use policy_tests::enforcement::{Backend, LOCK_FILE, OWN_NAMESPACE};
use policy_tests::in_kernel;
use policy_tests::lab::{BRIDGE, Lab, Plan, Wiring};
use policy_tests::namespace::Namespace;
use policy_tests::placement::Placement;
use policy_tests::vigil::{Halves, Tally, Vigil, Way};
use serde_json::{Value, json};

use crate::random::Dice;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The pods of the node, each with the last part of its addresses and how it is wired.
const LOCAL: [(&str, u8, Wiring); 6] = [
    ("server", 10, Wiring::Bridged),
    ("good", 11, Wiring::Routed),
    ("other", 12, Wiring::Bridged),
    ("clerk", 13, Wiring::Routed),
    ("flux-a", 14, Wiring::Bridged),
    ("flux-b", 15, Wiring::Routed),
];
const NODE: &str = "n1";
const ROLES: [&str; 3] = ["a", "b", "c"];
const BLOCKS: [&str; 5] =
    ["203.0.113.0/24", "10.244.2.0/25", "10.244.1.14/31", "2001:db8::/32", "fd00:10:244:2::/64"];
const OUTSIDE: [&str; 2] = ["198.51.100.7", "2001:db8:f::7"];

/// Everything that the cluster holds, and what it says.
pub(crate) struct State {
    text: String,
    pub(crate) snapshot: Snapshot,
}

impl State {
    /// One without any policy but those that always are.
    pub(crate) fn plain() -> Self {
        Self::of(&objects(["a", "b"], &[], Vec::new()))
    }

    /// One that differs from that of any other number in chains, in sets, and in the members of a set
    /// that stays.
    pub(crate) fn numbered(number: usize) -> Self {
        let blocks = [10, 20].map(|net| {
            [format!("198.{net}.{number}.0/24"), format!("2001:db8:{net}:{number}::/64")]
        });
        let from: Vec<Value> =
            blocks.iter().flatten().map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect();
        let blocks = json!({"podSelector": {"matchLabels": {"role": "a"}},
            "policyTypes": ["Ingress"], "ingress": [{"from": from, "ports": [{"port": 82}]}]});
        let members = json!([{"from": [{"podSelector": {"matchLabels": {"role": "b"}}}],
            "ports": [{"port": 81}]}]);
        let members =
            json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": members});
        let remote = ["b", "b", "b"].iter().copied().take(number % 3 + 1).collect::<Vec<_>>();
        let policies = vec![named("blocks", &blocks), named("members", &members)];
        Self::of(&objects(["a", "c"], &remote, policies))
    }

    pub(crate) fn random(dice: &mut Dice) -> Self {
        let roles = [*dice.pick(&ROLES), *dice.pick(&ROLES)];
        let remote: Vec<&str> = (0..dice.below(30)).map(|_| *dice.pick(&ROLES)).collect();
        let policies = (0..dice.below(6)).map(|number| policy(dice, number)).collect();
        Self::of(&objects(roles, &remote, policies))
    }

    /// One that differs from the next in its pods alone.
    pub(crate) fn of_pods(dice: &mut Dice) -> Self {
        let remote: Vec<&str> = (0..dice.below(30)).map(|_| *dice.pick(&ROLES)).collect();
        let role = json!({"podSelector": {"matchLabels": {"role": "a"}}});
        let spec = json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": [role]}]});
        Self::of(&objects(["a", "b"], &remote, vec![named("role", &spec)]))
    }

    /// One in which the two flux pods have these roles, and there are these policies besides.
    pub(crate) fn with(roles: [&str; 2], policies: &[(&str, Value)]) -> Self {
        let policies = policies.iter().map(|(name, spec)| named(name, spec)).collect();
        Self::of(&objects(roles, &[], policies))
    }

    fn of(items: &[Value]) -> Self {
        let text = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        fs::write(file.path(), &text).unwrap();
        let read = input::read(&[file.path()], &input::Options::default());
        assert!(read.unreadable.is_empty(), "{:?}", read.unreadable);
        Self { text, snapshot: read.snapshot }
    }
}

fn pod(namespace: &str, name: &str, node: &str, labels: &Value, last: usize) -> Value {
    let net = if node == NODE { 1 } else { 2 };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIPs": [
            {"ip": format!("10.244.{net}.{last}")}, {"ip": format!("fd00:10:244:{net}::{last}")}
        ]}
    })
}

fn objects(roles: [&str; 2], remote: &[&str], more: Vec<Value>) -> Vec<Value> {
    let mut items = Vec::new();
    for (name, last, _) in LOCAL {
        let labels = match name {
            "flux-a" => json!({"app": "flux", "role": roles[0]}),
            "flux-b" => json!({"app": "flux", "role": roles[1]}),
            _ => json!({"app": name}),
        };
        items.push(pod("x", name, NODE, &labels, usize::from(last)));
    }
    for (number, role) in remote.iter().enumerate() {
        let namespace = if number % 2 == 0 { "x" } else { "y" };
        let name = format!("remote-{number}");
        items.push(pod(namespace, &name, "n2", &json!({"role": role}), 10 + number));
    }
    let apps = |names: &[&str]| {
        let wanted = json!({"key": "app", "operator": "In", "values": names});
        json!([{"podSelector": {"matchExpressions": [wanted]}}])
    };
    let server = json!([{"from": apps(&["good", "clerk"]),
        "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}]);
    let server = json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": server});
    items.push(named("server", &server));
    let clerk = json!({"podSelector": {"matchLabels": {"app": "clerk"}}, "policyTypes": ["Egress"],
        "egress": [{"to": apps(&["server"])}]});
    items.push(named("clerk", &clerk));
    items.extend(more);
    items
}

fn named(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "x", "name": name}, "spec": spec})
}

/// Grants nothing to `other` nor to the world at the server, and isolates no client of it for egress.
fn policy(dice: &mut Dice, number: usize) -> Value {
    let role =
        |dice: &mut Dice| json!({"podSelector": {"matchLabels": {"role": dice.pick(&ROLES)}}});
    let ports = json!([{"port": dice.pick(&[80_u16, 81, 443])},
        {"port": dice.pick(&[53_u16, 5353]), "protocol": "UDP"}]);
    let spec = match dice.below(4) {
        0 => json!({"podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [role(dice)], "ports": ports}]}),
        1 => json!({"podSelector": {"matchLabels": {"role": dice.pick(&ROLES)}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [role(dice), {"ipBlock": {"cidr": dice.pick(&BLOCKS)}}], "ports": ports}]}),
        2 => json!({"podSelector": {"matchLabels": {"app": "flux"}}, "policyTypes": ["Egress"],
            "egress": [{"to": [role(dice), {"namespaceSelector": {}}]}]}),
        _ => json!({"podSelector": {"matchLabels": {"role": dice.pick(&ROLES)}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}], "ports": ports}],
            "egress": [{"to": [{"ipBlock": {"cidr": dice.pick(&BLOCKS)}}]}]}),
    };
    named(&format!("random-{number}"), &spec)
}

/// What is tried all the time, over both families.
fn streets() -> Vec<(String, Flow)> {
    let pod = |name: &str| End::Pod(ObjectKey::new("x", name).unwrap());
    let mut flows = Vec::new();
    for (family, outside) in Family::ALL.into_iter().zip(OUTSIDE) {
        let outside: IpAddr = outside.parse().unwrap();
        for (from, to, traffic) in [
            ("good", "server", Traffic::tcp(80)),
            ("good", "server", Traffic::udp(53)),
            ("other", "server", Traffic::tcp(80)),
            ("other", "server", Traffic::udp(53)),
            ("clerk", "server", Traffic::tcp(80)),
            ("clerk", "good", Traffic::tcp(80)),
            ("outside", "server", Traffic::tcp(80)),
            ("flux-a", "server", Traffic::udp(53)),
            ("flux-b", "flux-a", Traffic::tcp(80)),
        ] {
            let name = format!("{from} to {to}, {traffic}, {family}");
            let from = if from == "outside" { End::Address(outside) } else { pod(from) };
            let wire = Wire::Routed;
            flows.push((name, Flow { from, to: pod(to), family, traffic, wire }));
        }
    }
    flows
}

/// A lab of one node with the pods above, and a directory for policyd.
pub(crate) struct Town {
    pub(crate) lab: Arc<Lab>,
    pub(crate) backend: Backend,
    directory: tempfile::TempDir,
    flows: Vec<Flow>,
    ways: Vec<Way>,
}

impl Town {
    pub(crate) fn new(backend: Backend) -> Self {
        let wirings = LOCAL.map(|(_, _, wiring)| wiring).to_vec();
        let lab = Lab::build(&Plan { nodes: vec![wirings] }).unwrap();
        let snapshot = State::plain().snapshot;
        let mut placement = Placement::new(&lab, &snapshot, &[]).unwrap();
        let mut ways = Vec::new();
        let mut flows = Vec::new();
        for (name, flow) in streets() {
            let probe = placement.trial(&flow).unwrap().probes.remove(0);
            ways.push(Way { name, probe });
            flows.push(flow);
        }
        placement.lay(backend).unwrap();
        drop(placement);
        let directory = tempfile::tempdir().unwrap();
        Self { lab: Arc::new(lab), backend, directory, flows, ways }
    }

    pub(crate) fn node(&self) -> &Namespace {
        self.lab.namespace(&self.lab.nodes[0])
    }

    pub(crate) fn source(&self) -> &Path {
        self.directory.path()
    }

    /// Makes `state` what the directory holds, in one stroke.
    pub(crate) fn put(&self, state: &State) {
        let beside: PathBuf = self.source().join(".next");
        fs::write(&beside, &state.text).unwrap();
        fs::rename(beside, self.source().join("all.json")).unwrap();
    }

    /// A command of policyd's on the node.
    pub(crate) fn policyd(words: &[&str]) -> Command {
        let mut command = Command::new(built_program("policyd").unwrap());
        command.args(words).env("NO_COLOR", "1").env(LOCK_FILE, OWN_NAMESPACE);
        command
    }

    /// Starts policyd with this choice of iptables and these variables, and waits for nothing.
    pub(crate) fn launch_in(&self, choice: &str, variables: &BTreeMap<&str, &str>) -> Daemon {
        let source = self.source().to_string_lossy();
        let words = ["run", "--source", &source, "--node", NODE, "--iptables-backend", choice];
        let mut command = Self::policyd(&words);
        command.args(["--listen", "off"]).envs(variables);
        Daemon::start(self.node(), &mut command).unwrap().shown_as("policyd")
    }

    pub(crate) fn launch(&self) -> Daemon {
        self.launch_in(self.choice(), &BTreeMap::new())
    }

    /// The word for the backend of this town.
    pub(crate) fn choice(&self) -> &'static str {
        word(self.backend)
    }

    pub(crate) fn start(&self) -> Daemon {
        let daemon = self.launch();
        daemon.await_line(" ready ", 0, PATIENCE).unwrap();
        daemon
    }

    /// Runs the `iptables` of this town's backend on the node.
    pub(crate) fn iptables(&self, family: Family, words: &[&str]) {
        let mut command = Command::new(self.backend.iptables(family));
        self.node().run(command.args(words).env(LOCK_FILE, OWN_NAMESPACE), "").unwrap();
    }

    /// What `state` says of each way.
    pub(crate) fn verdicts(&self, state: &State) -> Vec<Halves> {
        let evaluator = Evaluator::new(&state.snapshot);
        self.flows.iter().map(|flow| Halves::from(&evaluator.verdict(flow))).collect()
    }

    /// Begins to watch, while `state` is in force.
    pub(crate) fn watch(&self, state: &State) -> Vigil {
        Vigil::begin(&self.lab, self.ways.clone(), self.verdicts(state))
    }

    /// What the node is to hold.
    pub(crate) fn ruleset(state: &State) -> Ruleset {
        let mut config = NodeConfig::new(NodeName::new(NODE).unwrap());
        config.bridges.insert(InterfaceName::new(BRIDGE).unwrap());
        compile(&state.snapshot, &config).ruleset
    }

    /// Waits until the kernel holds exactly what follows from `state`.
    pub(crate) fn expect_kernel(&self, state: &State) {
        self.expect_kernel_of(self.backend, state);
    }

    pub(crate) fn expect_kernel_of(&self, backend: Backend, state: &State) {
        in_kernel::expect(backend, self.node(), &Self::ruleset(state), PATIENCE).unwrap();
    }

    /// Has policyd compare the kernel with what it wrote.
    pub(crate) fn expect_verified(&self) {
        let done = self.node().output(&mut Self::policyd(&["verify"]), "").unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }

    /// Waits until no program that an ended policyd had started is left, as whoever restarts a
    /// container does.
    pub(crate) fn await_orphans(&self) {
        let begun = Instant::now();
        while !self.programs().is_empty() {
            assert!(begun.elapsed() < PATIENCE, "still there: {:?}", self.programs());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The programs of iptables and ipset that run on the node.
    fn programs(&self) -> BTreeSet<String> {
        let here = fs::read_link(self.node().path()).unwrap();
        let mut found = BTreeSet::new();
        for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let in_node = fs::read_link(process.path().join("ns/net")).is_ok_and(|ns| ns == here);
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            if in_node && (name.contains("tables") || name.contains("ipset")) {
                found.insert(name.trim().to_owned());
            }
        }
        found
    }
}

/// The word of the command line for a backend.
pub(crate) fn word(backend: Backend) -> &'static str {
    match backend {
        Backend::Nft => "nft",
        Backend::Legacy => "legacy",
    }
}

/// Ends the vigil, which must have seen nothing wrong, and enough.
pub(crate) fn expect_nothing_wrong(vigil: Vigil) -> Tally {
    let tally = vigil.end().unwrap();
    println!(
        "{} packets, {} had to arrive, {} had not to; longest pause {:?}",
        tally.sent, tally.bound.0, tally.bound.1, tally.longest_pause
    );
    assert_eq!(tally.wrong(), (0, 0, 0), "leaked, lost, unanswered: {:#?}", tally.told);
    assert!(tally.bound.0 > 100 && tally.bound.1 > 100, "too few to prove anything: {tally:?}");
    tally
}
