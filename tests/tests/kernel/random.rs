//! Random clusters small enough for a lab, and random flows that are likely to meet a policy.
//!
//! A seed makes the same cluster everywhere, so that a failure can be replayed.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use policy_compiler::cidr::{Family, IpBlock};
use policy_compiler::cluster::{
    Addresses, Age, ContainerPort, Namespace, Node, Phase, Pod, Snapshot,
};
use policy_compiler::document::Location;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::labels::Labels;
use policy_compiler::name::{NamespaceName, NodeName, ObjectKey};
use policy_compiler::policy::{
    Grant, NamespaceScope, Peer, PeerSelects, Peers, Policy, PortMatch, PortNumbers, Ports, Rule,
};
use policy_compiler::port::{PortName, PortRange, Protocol};
use policy_compiler::selector::{Operator, Requirement, Selector};

/// Names the seed of what is drawn: a number, or `new` for one that nobody has drawn from before. It is the same
/// for all else, so that a change is judged by what it changed.
pub(crate) const SEED: &str = "LAB_SEED";

/// The seed to draw from, which is told.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var(SEED) {
        Ok(text) if text == "new" => RandomState::new().hash_one("seed") >> 16,
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{SEED} is no number: {text}")),
        Err(_) => 1,
    };
    println!("{SEED}={seed} replays what follows");
    seed
}

/// `splitmix64`: small, and the same on every machine.
pub(crate) struct Dice(u64);

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 3] = ["a", "b", "c"];
const PORTS: [u16; 5] = [53, 80, 81, 443, 8080];
const PORT_NAMES: [&str; 2] = ["http", "dns"];
const WORLD: [&str; 4] = ["203.0.113.7", "8.8.8.8", "2001:db8:f::7", "64:ff9b::808:808"];
const BLOCKS: [(&str, &[&str]); 9] = [
    ("0.0.0.0/0", &[]),
    ("0.0.0.0/0", &["10.244.0.0/16", "203.0.113.0/25"]),
    ("10.244.0.0/16", &["10.244.1.0/29", "10.244.1.4/31"]),
    ("203.0.113.7/32", &[]),
    ("192.0.2.0/24", &["192.0.2.11/32"]),
    ("::/0", &[]),
    ("::/0", &["fd00:10:244::/48"]),
    ("fd00:10:244::/48", &["fd00:10:244:1::/125"]),
    ("64:ff9b::/96", &[]),
];

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..=self.below(most)).map(|_| make(self)).collect()
    }
}

fn labels(dice: &mut Dice) -> Labels {
    let mut labels = Labels::default();
    for key in KEYS {
        if !dice.one_in(4) {
            labels.insert(key, dice.pick::<&str>(&VALUES));
        }
    }
    labels
}

/// A cluster on `nodes` nodes.
pub(crate) fn cluster(dice: &mut Dice, nodes: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for name in NAMESPACES {
        let name = NamespaceName::new(name).unwrap();
        let namespace = Namespace::new(name.clone(), labels(dice), Location::default());
        snapshot.namespaces.insert(name, namespace);
    }
    for number in 1..=nodes {
        let name = NodeName::new(&format!("n{number}")).unwrap();
        let last = u8::try_from(10 + number).unwrap();
        let addresses = vec![
            IpAddr::from([192, 0, 2, last]),
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]),
        ];
        let node = Node {
            name: name.clone(),
            addresses,
            pod_networks: Vec::new(),
            location: Location::default(),
        };
        snapshot.nodes.insert(name, node);
    }
    for number in 0..6 + dice.below(5) {
        let pod = pod(dice, u8::try_from(number).unwrap(), nodes);
        snapshot.pods.insert(pod.key.clone(), pod);
    }
    for number in 0..=dice.below(5) {
        let policy = policy(dice, number);
        snapshot.policies.insert(policy.key.clone(), policy);
    }
    snapshot
}

fn pod(dice: &mut Dice, number: u8, nodes: usize) -> Pod {
    let namespace = *dice.pick(&NAMESPACES);
    let node = 1 + dice.below(nodes);
    let net = u8::try_from(node).unwrap();
    let families = dice.below(8);
    let addresses = Addresses {
        v4: (families != 0).then(|| Ipv4Addr::new(10, 244, net, number)),
        v6: (families != 1).then(|| {
            Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(net), 0, 0, 0, u16::from(number))
        }),
    };
    let ports = dice.some(2, |dice| ContainerPort {
        name: Some(PortName::new(dice.pick::<&str>(&PORT_NAMES)).unwrap()),
        protocol: *dice.pick(&Protocol::ALL),
        number: NonZeroU16::new(*dice.pick(&PORTS)).unwrap(),
    });
    Pod {
        key: ObjectKey::new(namespace, &format!("p{number}")).unwrap(),
        labels: labels(dice),
        node: Some(NodeName::new(&format!("n{node}")).unwrap()),
        host_network: false,
        phase: if dice.one_in(8) { Phase::Finished } else { Phase::Running },
        addresses,
        ports,
        host_addresses: Vec::new(),
        age: Age { started: None, created: None, uid: Some(Arc::from(format!("uid-{number}"))) },
        workload: None,
        template: false,
        location: Location::default(),
    }
}

fn selector(dice: &mut Dice) -> Selector {
    if dice.one_in(3) {
        return Selector::everything();
    }
    Selector::new(dice.some(2, |dice| {
        let values = |dice: &mut Dice| dice.some(2, |dice| Arc::from(*dice.pick(&VALUES)));
        let operator = match dice.below(5) {
            0 | 1 => Operator::In(values(dice).into_iter().collect()),
            2 => Operator::NotIn(values(dice).into_iter().collect()),
            3 => Operator::Exists,
            _ => Operator::DoesNotExist,
        };
        Requirement { key: Arc::from(*dice.pick(&KEYS)), operator }
    }))
}

fn block(dice: &mut Dice) -> IpBlock {
    let (cidr, except) = dice.pick(&BLOCKS);
    let except = except.iter().map(|net| net.parse::<IpNet>().unwrap()).collect();
    IpBlock::new(cidr.parse().unwrap(), except).unwrap()
}

fn peer(dice: &mut Dice) -> Peer {
    let selects = if dice.one_in(3) {
        PeerSelects::Block(block(dice))
    } else {
        let namespaces = if dice.one_in(2) {
            NamespaceScope::Own
        } else {
            NamespaceScope::Matching(selector(dice))
        };
        PeerSelects::Pods { namespaces, pods: selector(dice) }
    };
    Peer { selects, location: Location::default() }
}

fn port_match(dice: &mut Dice) -> PortMatch {
    let numbers = match dice.below(6) {
        0 => PortNumbers::Any,
        1 | 2 => PortNumbers::Named(PortName::new(dice.pick::<&str>(&PORT_NAMES)).unwrap()),
        3 => {
            let last = NonZeroU16::new(*dice.pick(&PORTS)).unwrap();
            PortNumbers::Range(PortRange::new(NonZeroU16::new(53).unwrap(), last).unwrap())
        }
        _ => PortNumbers::single(NonZeroU16::new(*dice.pick(&PORTS)).unwrap()),
    };
    PortMatch { protocol: *dice.pick(&Protocol::ALL), numbers, location: Location::default() }
}

fn rule(dice: &mut Dice) -> Rule {
    let peers = if dice.one_in(5) { Peers::Any } else { Peers::Listed(dice.some(3, peer)) };
    let ports = if dice.one_in(3) { Ports::Any } else { Ports::Listed(dice.some(3, port_match)) };
    let grant = if dice.one_in(12) {
        Grant::Nothing { reason: "invalid".to_owned() }
    } else {
        Grant::Traffic { peers, ports }
    };
    Rule { grant, location: Location::default() }
}

fn policy(dice: &mut Dice, number: usize) -> Policy {
    let types = dice.below(4);
    let rules = |dice: &mut Dice| {
        if dice.one_in(4) { Vec::new() } else { dice.some(3, rule) }
    };
    Policy {
        key: ObjectKey::new(dice.pick::<&str>(&NAMESPACES), &format!("policy-{number}")).unwrap(),
        pod_selector: selector(dice),
        isolates_ingress: types != 0,
        isolates_egress: types != 1,
        ingress: rules(dice),
        egress: rules(dice),
        audit: dice.one_in(8),
        flawed: false,
        location: Location::default(),
    }
}

/// A flow that `snapshot` can be asked about.
pub(crate) fn flow(dice: &mut Dice, snapshot: &Snapshot) -> Flow {
    let family = *dice.pick(&Family::ALL);
    let pods: Vec<&Pod> =
        snapshot.pods.values().filter(|pod| pod.addresses.of(family).is_some()).collect();
    let world: Vec<IpAddr> = WORLD
        .iter()
        .map(|text| text.parse().unwrap())
        .filter(|address| Family::of(*address) == family)
        .collect();
    let nodes: Vec<&NodeName> = snapshot.nodes.keys().collect();
    let pod = |dice: &mut Dice| End::Pod(dice.pick(&pods).key.clone());
    let other = |dice: &mut Dice| match dice.below(8) {
        0 => End::Address(*dice.pick(&world)),
        1 => End::Node((*dice.pick(&nodes)).clone()),
        _ => End::Pod(dice.pick(&pods).key.clone()),
    };
    let (from, to) =
        if dice.one_in(2) { (pod(dice), other(dice)) } else { (other(dice), pod(dice)) };
    let port = *dice.pick(&PORTS);
    let traffic = match dice.below(8) {
        0..=2 => Traffic::tcp(port),
        3 | 4 => Traffic::udp(port),
        5 => Traffic::sctp(port),
        6 => Traffic::ping(family),
        _ => Traffic::Other { protocol: 47 },
    };
    Flow { from, to, family, traffic, wire: Wire::Routed }
}
