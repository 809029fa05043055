//! Whether every rule is read back as it was written, and every kind of sabotage is named.

use std::collections::BTreeSet;

use policy_compiler::cidr::Family;
use policy_compiler::config::{Antispoof, DenyAction, Hairpin, InterfaceName, NodeConfig};
use policy_compiler::engine::Engine;
use policy_compiler::name::NodeName;
use policy_compiler::ruleset::{Match, Ruleset, Target};
use policy_compiler::update::Event;
use policyd::dataplane::backend::{Backend, BackendChoice};
use policyd::dataplane::command::Runner;
use policyd::dataplane::verify::{Expected, Found, compare};
use policyd::dataplane::{AsWritten, Dataplane, PROGRAM_LIMIT, START};
use policyd::source::directory::Directory;

use crate::node::{Node, PODS, allow};

/// Makes a test of each scenario under each backend.
macro_rules! under_both_backends {
    ($($scenario:ident),* $(,)?) => {
        mod nft {
            $(#[test]
            fn $scenario() {
                let name = concat!("verify::nft::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("nft"));
            })*
        }
        mod legacy {
            $(#[test]
            fn $scenario() {
                let name = concat!("verify::legacy::", stringify!($scenario));
                policy_tests::privilege::kernel_test(name, || super::$scenario("legacy"));
            })*
        }
    };
}

under_both_backends!(
    rules_of_every_shape_are_read_back_as_they_were_written,
    every_kind_of_sabotage_is_named,
);

/// A policy with everything that makes a rule of another shape.
const MANY_SHAPES: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shapes, namespace: shop}
spec:
  podSelector: {matchLabels: {app: a}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: b}}}]
    ports: [{port: 80}, {port: 443}, {port: 8000, endPort: 8010}]
  - from: [{podSelector: {matchLabels: {app: b}}}]
    ports: [{protocol: UDP, port: 5000, endPort: 5009}]
  - from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
    ports: [{protocol: UDP, port: 53}]
  - from: [{ipBlock: {cidr: \"fd00::/8\", except: [\"fd00:1::/32\"]}}]
    ports: [{protocol: UDP, port: 53}]
  - from: [{ipBlock: {cidr: 192.0.2.7/32}}, {ipBlock: {cidr: \"::1.2.3.4/128\"}}]
    ports: [{protocol: SCTP}]
  - from: [{namespaceSelector: {}}]
    ports: [{port: http}]
  egress:
  - to: [{podSelector: {matchLabels: {app: b}}}]
  - to: [{ipBlock: {cidr: 198.51.100.0/24}}, {ipBlock: {cidr: \"::1.2.0.0/112\"}}]
    ports: [{protocol: SCTP, port: 9}, {port: 5432}]
";

/// The rest of a node: what the engine makes of its directory, written.
struct Written {
    backend: Backend,
    dataplane: Dataplane,
    ruleset: Ruleset,
}

impl Written {
    fn new(node: &Node, config: NodeConfig) -> Self {
        let backend = if node.backend == "nft" { Backend::Nft } else { Backend::Legacy };
        let mut dataplane = Dataplane::open(BackendChoice::Forced(backend)).unwrap();
        let mut engine = Engine::new(config, START);
        let listing = Directory::open(&node.source()).unwrap().scan().unwrap();
        engine.apply(Event::Relisted(Box::new(listing.snapshot)));
        let update = engine.flush();
        let written = dataplane.write(&update, engine.ruleset());
        assert!(written.is_in_step(), "{written:?}");
        Self { backend, dataplane, ruleset: engine.ruleset().clone() }
    }

    /// Each difference with its family.
    fn differences(&self) -> Vec<String> {
        let runner = Runner::new(PROGRAM_LIMIT);
        let written = Family::ALL.into_iter().zip(self.dataplane.written(&self.ruleset));
        let lines = written.flat_map(|(family, written)| {
            let AsWritten { rules, given_up, .. } = written;
            let expected = Expected { given_up, ..Expected::new(family, &rules) };
            let found = Found::read(&runner, self.backend, family).unwrap();
            let lines = compare(&expected, &found).into_iter();
            lines.map(move |difference| format!("{family}: {difference}")).collect::<Vec<_>>()
        });
        lines.collect()
    }
}

fn config() -> NodeConfig {
    NodeConfig::new(NodeName::new("n1").unwrap())
}

/// What kind of condition it is; whoever adds one has to say so here, and below whether a test has it.
fn shape(condition: &Match) -> &'static str {
    match condition {
        Match::InInterface(_) => "in-interface",
        Match::InInterfaces(_) => "in-interfaces",
        Match::Bridged => "bridged",
        Match::Source(_) => "source",
        Match::Destination(_) => "destination",
        Match::Protocol(_) => "protocol",
        Match::Icmpv6Type(_) => "icmpv6-type",
        Match::NotSyn => "not-syn",
        Match::DestinationPort(_) => "destination-port",
        Match::DestinationPorts(_) => "destination-ports",
        Match::Set { .. } => "set",
        Match::NotInSet { .. } => "not-in-set",
        Match::NotEstablished => "not-established",
        Match::Established => "established",
        Match::New => "new",
        Match::NotOriginalDestination(_) => "not-original-destination",
        Match::ToBroadcast => "to-broadcast",
        Match::ToLocal => "to-local",
        Match::FromLocal => "from-local",
    }
}

fn rules_of_every_shape_are_read_back_as_they_were_written(backend: &'static str) {
    let node = Node::new(backend);
    let named = PODS.replace(
        "containers: [{name: c}]",
        "containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]",
    );
    node.write("pods.yaml", &named).write("policy.yaml", MANY_SHAPES);
    node.write("more.yaml", &allow("more", "a", "b", 81));
    let on_bridges = std::path::Path::new("/proc/sys/net/bridge").exists();
    let bridges = on_bridges.then(|| InterfaceName::new("br0").unwrap()).into_iter().collect();
    let pod_networks = ["10.244.1.0/24", "fd00:10:244::/48"].map(|net| net.parse().unwrap()).into();
    let interfaces = ["vethab1", "vethab2", "veth_c"].map(|name| {
        let own = ["10.244.1.10", "fd00:10:244:1::a"].map(|address| address.parse().unwrap());
        (InterfaceName::new(name).unwrap(), own.into())
    });
    let tunnel_ports = [4789, 8472].map(|port| std::num::NonZeroU16::new(port).unwrap()).into();
    let antispoof = Some(Antispoof { interfaces: interfaces.into(), tunnel_ports });
    let all = NodeConfig {
        ipvs: true,
        bridges,
        deny: DenyAction::Reject,
        pod_networks,
        antispoof,
        ..config()
    };
    let police = NodeConfig {
        hairpin: Hairpin::Police,
        keep_established: true,
        log_denied: true,
        ..config()
    };
    node.namespace
        .enter(|| {
            for config in [all, police, config()] {
                let first = config.ipvs;
                let written = Written::new(&node, config);
                assert_eq!(written.differences(), [""; 0], "{}", node.tables());
                if !first {
                    continue;
                }
                let families = [&written.ruleset.v4, &written.ruleset.v6];
                let chains = families.iter().flat_map(|rules| rules.chains.values());
                let hooks = families.iter().flat_map(|rules| rules.hooks.values());
                let rules: Vec<_> = chains.flat_map(|chain| &chain.rules).chain(hooks).collect();
                let shapes: BTreeSet<&str> =
                    rules.iter().flat_map(|rule| &rule.matches).map(shape).collect();
                let missing = if on_bridges { 0 } else { 2 };
                assert_eq!(shapes.len() + missing, 19, "{shapes:?}");
                let rejects = |rule: &&&_| {
                    let rule: &policy_compiler::ruleset::Rule = rule;
                    rule.target == Target::Deny(DenyAction::Reject)
                };
                assert!(rules.iter().filter(rejects).count() >= 4, "it rejects");
                assert!(rules.iter().any(|rule| rule.comment.is_some()), "it has comments");
            }
        })
        .unwrap();
}

/// What somebody does, in which `LEAF` stands for a pod's chain and `HOOK` for the words of the rule in
/// FORWARD, and the beginning of each line that it should give.
type Sabotage = (&'static [&'static str], &'static [&'static str]);

const SABOTAGES: &[Sabotage] = &[
    (&["IPTABLES -D LEAF 1"], &["IPv4: chain LEAF lacks rule 1 `"]),
    (&["IPTABLES -A LEAF -j RETURN"], &["IPv4: chain LEAF should not have rule 5 `-j RETURN`"]),
    (
        &["IPTABLES -I LEAF 2 -s 10.9.0.0/16 -j RETURN"],
        &["IPv4: chain LEAF should not have rule 2 `-s 10.9.0.0/16 -j RETURN`"],
    ),
    (
        &["IPTABLES -R LEAF 2 -j ACCEPT"],
        &["IPv4: chain LEAF lacks rule 2 `", "IPv4: chain LEAF should not have rule 2 `-j ACCEPT`"],
    ),
    (
        &["IPTABLES -D NPC-FORWARD 2", "IPTABLES -I NPC-FORWARD 1 -j NPC-INGRESS"],
        &["IPv4: the rules of chain NPC-FORWARD stand in another order"],
    ),
    (&["IPTABLES -F LEAF"], &["IPv4: chain LEAF is empty and should have 4 rules"]),
    (&["IPTABLES -N NPC-I-stray"], &["IPv4: chain NPC-I-stray with 0 rules should not be there"]),
    (
        &["IPTABLES -E LEAF NPC-I-other"],
        &[
            "IPv4: chain LEAF is missing",
            "IPv4: chain NPC-I-other with 4 rules should not be there",
            "IPv4: chain NPC-INGRESS lacks rule 1 `",
            "IPv4: chain NPC-INGRESS should not have rule 1 `",
        ],
    ),
    (&["IPTABLES -D FORWARD 1"], &["IPv4: FORWARD lacks its rule `-m conntrack "]),
    (
        &["IPTABLES -I FORWARD 1 -j DOCKER"],
        &["IPv4: the rule of FORWARD that leads to us is rule 2, not the first"],
    ),
    (&["IPTABLES -A FORWARD HOOK"], &["IPv4: 2 rules of FORWARD lead to us instead of one"]),
    (&["IPTABLES -R FORWARD 1 -j NPC-FORWARD"], &["IPv4: the rule of FORWARD should be `-m "]),
    (&["IPTABLES -A OUTPUT -j NPC-FORWARD"], &["IPv4: OUTPUT should not have `-j NPC-FORWARD`"]),
    (&["IP6TABLES -F FORWARD"], &["IPv6: FORWARD lacks its rule `"]),
    (&["ipset del npc4-iso 10.244.1.10"], &["IPv4: set npc4-iso lacks 10.244.1.10"]),
    (&["ipset add npc4-iso 10.9.9.9"], &["IPv4: set npc4-iso should not have 10.9.9.9"]),
    (
        &["ipset del npc4-iso 10.244.1.10", "ipset add npc4-iso 10.244.1.11"],
        &["IPv4: set npc4-iso lacks 10.244.1.10", "IPv4: set npc4-iso should not have 10.244.1.11"],
    ),
    (&["ipset flush npc6-iso"], &["IPv6: set npc6-iso lacks fd00:10:244:1::a"]),
    (
        &["IPTABLES -F NPC-MIDSTREAM", "ipset destroy npc4-iso"],
        &[
            "IPv4: chain NPC-MIDSTREAM is empty and should have 2 rules",
            "IPv4: set npc4-iso is missing",
        ],
    ),
    (
        &["ipset create npc6-p-stray-1 hash:ip family inet6"],
        &["IPv6: set npc6-p-stray-1 should not be there"],
    ),
    // The last row: a start keeps the set of isolated addresses, and with it its options.
    (
        &[
            "ipset create npc4-iso2 hash:ip timeout 0",
            "ipset add npc4-iso2 10.244.1.10",
            "ipset swap npc4-iso npc4-iso2",
        ],
        &[
            "IPv4: set npc4-iso lacks 10.244.1.10",
            "IPv4: set npc4-iso should be `hash:ip family inet` and is `hash:ip family inet maxelem 65536 timeout 0`",
            "IPv4: set npc4-iso should not have 10.244.1.10 timeout 0",
            "IPv4: set npc4-iso2 should not be there",
        ],
    ),
];

fn every_kind_of_sabotage_is_named(backend: &'static str) {
    let node = Node::new(backend);
    node.write("pods.yaml", PODS).write("policy.yaml", &allow("web", "a", "b", 80));
    node.namespace
        .enter(|| {
            for (deeds, expected) in SABOTAGES {
                let written = Written::new(&node, config());
                assert_eq!(written.differences(), [""; 0], "before {deeds:?}");
                let leaf = leaf(&node.table("iptables", backend));
                let fill = |text: &str| {
                    text.replace("IPTABLES", &format!("iptables-{backend}"))
                        .replace("IP6TABLES", &format!("ip6tables-{backend}"))
                        .replace("LEAF", &leaf)
                        .replace(
                            "HOOK",
                            "-m conntrack ! --ctstate RELATED,ESTABLISHED -j NPC-FORWARD",
                        )
                };
                for deed in *deeds {
                    let line = fill(deed);
                    match line.strip_prefix("ipset destroy ") {
                        Some(set) => node.destroy(set),
                        None => drop(node.tool(&line.split(' ').collect::<Vec<_>>(), "")),
                    }
                }
                let found: BTreeSet<String> = written.differences().into_iter().collect();
                let expected: BTreeSet<String> = expected.iter().map(|line| fill(line)).collect();
                let named = found.len() == expected.len()
                    && expected.iter().all(|line| found.iter().any(|f| f.starts_with(line)));
                assert!(named, "after {deeds:?}: {found:#?}, expected {expected:#?}");
            }
        })
        .unwrap();
}

/// The chain of the isolated pod.
fn leaf(table: &str) -> String {
    let mut names = table.lines().filter_map(|line| line.strip_prefix(":NPC-I-"));
    let name = names.next().and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    format!("NPC-I-{name}")
}
