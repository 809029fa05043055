//! Laws of comparisons, held on random clusters against `evaluate`, flow by flow.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy_compiler::evaluate::evaluate;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::reach::TrafficSet;
use policy_compiler::verdict::Decision::{Allowed, Denied, Unknown};
use policy_manifest::input::{Options, merge, parse_file};

use super::compare::Row;
use super::*;

/// Numbers that are always the same for one seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        let n = u64::try_from(of.len()).expect("few");
        of[usize::try_from(self.below(n)).expect("few")]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

const APPS: [&str; 3] = ["web", "db", "job"];
const PEERS: [&str; 9] = [
    "{podSelector: {matchLabels: {app: web}}}",
    "{podSelector: {}}",
    "{namespaceSelector: {}}",
    "{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: db}}}",
    "{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}}",
    "{ipBlock: {cidr: 10.0.0.0/29}}",
    "{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.64/26]}}",
    "{ipBlock: {cidr: 0.0.0.0/0, except: [192.0.2.0/24]}}",
    "{ipBlock: {cidr: \"2001:db8::/32\"}}",
];
const PORTS: [&str; 6] = [
    "{port: 80}",
    "{port: 80, endPort: 90}",
    "{port: http}",
    "{protocol: UDP}",
    "{port: 53, protocol: UDP}",
    "{port: 443}",
];

fn rules(dice: &mut Dice, field: &str) -> String {
    let mut rules = Vec::new();
    for _ in 0..dice.below(3) {
        let mut rule = Vec::new();
        if dice.chance(80) {
            let n = 1 + dice.below(2);
            let peers: Vec<&str> = (0..n).map(|_| dice.one(&PEERS)).collect();
            rule.push(format!("{field}: [{}]", peers.join(", ")));
        }
        if dice.chance(70) {
            let n = 1 + dice.below(2);
            let ports: Vec<&str> = (0..n).map(|_| dice.one(&PORTS)).collect();
            rule.push(format!("ports: [{}]", ports.join(", ")));
        }
        rules.push(format!("{{{}}}", rule.join(", ")));
    }
    format!("[{}]", rules.join(", "))
}

fn policy(dice: &mut Dice, namespace: &str, name: usize) -> String {
    let selector = dice.one(&["{}", "{matchLabels: {app: web}}", "{matchLabels: {app: db}}"]);
    let types = dice.one(&["[Ingress]", "[Egress]", "[Ingress, Egress]"]);
    let audit = if dice.chance(10) { "annotations: {policyd.dev/audit: \"true\"}" } else { "" };
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: q{name}, namespace: \
         {namespace}, {audit}}}\nspec:\n  podSelector: {selector}\n  policyTypes: {types}\n  ingress: \
         {}\n  egress: {}\n---\n",
        rules(dice, "from"),
        rules(dice, "to")
    )
}

fn pod(dice: &mut Dice, namespace: &str, n: usize) -> String {
    let (app, port) = (dice.one(&APPS), dice.one(&["80", "8080", "85"]));
    let node = dice.one(&["n1", "n2"]);
    let name = format!("p{n}");
    let ip = format!("10.0.0.{}", n + 1);
    let v6 = if dice.chance(50) { format!(", {{ip: \"fd00::{n}\"}}") } else { String::new() };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: \
         {app}, serial: s{n}}}}}\nspec: {{nodeName: {node}, containers: [{{name: c, ports: [{{name: http, \
         containerPort: {port}}}]}}]}}\nstatus: {{phase: Running, hostIP: 192.0.2.{}, podIPs: [{{ip: \
         {ip}}}{v6}]}}\n---\n",
        &node[1..]
    )
}

fn template(dice: &mut Dice, namespace: &str) -> String {
    let (app, replicas) = (dice.one(&APPS), dice.one(&["1", "3"]));
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: t, namespace: {namespace}}}\nspec: \
         {{replicas: {replicas}, template: {{metadata: {{labels: {{app: {app}}}}}, spec: {{containers: \
         [{{name: c}}]}}}}}}\n---\n"
    )
}

/// The objects that a seed makes, each of its own dice, so that two seeds of an object decide whether
/// two clusters differ in it.
fn objects(seeds: &[u64]) -> Vec<String> {
    let mut made = Vec::new();
    for (n, seed) in seeds.iter().enumerate() {
        let dice = &mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let namespace = if n % 2 == 0 { "x" } else { "z" };
        let lacking = dice.chance(12);
        let text = match n {
            0 | 1 => format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{team: {}}}}}\n---\n",
                dice.one(&["red", "blue"])
            ),
            2..=7 => pod(dice, namespace, n),
            8 => template(dice, namespace),
            _ => policy(dice, namespace, n),
        };
        made.push(if lacking && n > 1 { String::new() } else { text });
    }
    made
}

const OBJECTS: usize = 14;

fn side(objects: &[String]) -> Side {
    let mut text = String::new();
    for object in objects {
        let _ = write!(text, "{object}");
    }
    let parsed = parse_file("a.yaml", &text, &Options::default());
    assert!(parsed.is_sound(), "{:?}{:?}", parsed.errors, parsed.left_out);
    Side { name: String::new(), loaded: merge([&parsed]), directory: String::new() }
}

/// Two clusters that have most objects in common.
fn clusters(seed: u64) -> (Side, Side) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9) | 1);
    let old: Vec<u64> = (0..OBJECTS).map(|_| dice.below(1 << 30)).collect();
    let new: Vec<u64> =
        old.iter().map(|seed| if dice.chance(25) { seed + 1 } else { *seed }).collect();
    (side(&objects(&old)), side(&objects(&new)))
}

/// The changes between two ends in one family by what both sides call the ends.
type Found = BTreeMap<(End, End, End, End, Family), Vec<Change>>;

fn found(old: &Side, new: &Side) -> (Found, Vec<Row>) {
    let (was, _) = ends::with_replicas(&old.loaded.snapshot);
    let (is, _) = ends::with_replicas(&new.loaded.snapshot);
    let pairing = pair::pairs(&was, &is);
    let partition = Partition::of(&[&was, &is]);
    let (before, after) = (Reach::over(&partition, &was), Reach::over(&partition, &is));
    let keys: BTreeSet<&str> =
        ends::asked_keys(&was).into_iter().chain(ends::asked_keys(&is)).collect();
    let comparer =
        Comparer { old: &before, new: &after, partition: &partition, families: &Family::ALL };
    let differing = comparer.compare(&pairing, &keys, |_, _| {});
    let mut all = Found::new();
    for (i, from) in differing.classes.iter().enumerate() {
        for (j, to) in differing.classes.iter().enumerate() {
            for (a, b) in pairs_of(from, to, &was, &is) {
                for family in Family::ALL {
                    let rows = differing.rows.iter().filter(|row| (row.from, row.to) == (i, j));
                    let changes = rows
                        .filter(|row| row.families.contains(&family))
                        .map(|row| row.change.clone())
                        .collect();
                    let (a, b) = (a.clone(), b.clone());
                    all.insert((a.0, a.1, b.0, b.1, family), changes);
                }
            }
        }
    }
    (all, differing.rows)
}

/// Every two ends of two classes that are compared.
fn pairs_of(
    from: &Class<'_>,
    to: &Class<'_>,
    old: &Snapshot,
    new: &Snapshot,
) -> Vec<((End, End), (End, End))> {
    let ends = |class: &Class<'_>| -> Vec<(End, End)> {
        match class {
            Class::Pods(pairs) => pairs
                .iter()
                .map(|pair| (End::Pod(pair.old.clone()), End::Pod(pair.new.clone())))
                .collect(),
            Class::Nodes(nodes) => nodes
                .iter()
                .map(|node| (End::Node((*node).clone()), End::Node((*node).clone())))
                .collect(),
            Class::World(class) => {
                let address = End::Address(class.representative());
                vec![(address.clone(), address)]
            }
        }
    };
    let node_of = |side: &Snapshot, end: &End| match end {
        End::Pod(key) => side.pods[key].node.clone().map(End::Node),
        _ => None,
    };
    let own = |a: &(End, End), b: &(End, End)| {
        [node_of(old, &a.0), node_of(new, &a.1)].into_iter().flatten().any(|node| node == b.0)
    };
    let mut pairs = Vec::new();
    for a in ends(from) {
        for b in ends(to) {
            let pods = matches!(a.0, End::Pod(_)) || matches!(b.0, End::Pod(_));
            if pods && a.0 != b.0 && a.1 != b.1 && !own(&a, &b) && !own(&b, &a) {
                pairs.push((a.clone(), b));
            }
        }
    }
    pairs
}

fn samples(family: Family) -> Vec<Traffic> {
    let tcp = [1, 79, 80, 85, 86, 90, 91, 443, 8080, 65535].map(Traffic::tcp);
    let udp = [1, 53, 80].map(Traffic::udp);
    let rest = [Traffic::sctp(80), Traffic::ping(family), Traffic::Other { protocol: 47 }];
    tcp.into_iter().chain(udp).chain(rest).collect()
}

/// What the changes say of one kind of traffic: whether it opens, closes, may open, may close.
fn said(changes: &[Change], traffic: Traffic) -> [bool; 4] {
    let any = |set: fn(&Change) -> &TrafficSet| changes.iter().any(|c| set(c).contains(traffic));
    [any(|c| &c.opened), any(|c| &c.closed), any(|c| &c.may_open), any(|c| &c.may_close)]
}

#[test]
fn what_is_reported_is_what_evaluate_decides_otherwise_and_nothing_else() {
    let mut differing = 0_u32;
    for seed in 1..=60 {
        let (old, new) = clusters(seed);
        let (was, _) = ends::with_replicas(&old.loaded.snapshot);
        let (is, _) = ends::with_replicas(&new.loaded.snapshot);
        for ((from, from_new, to, to_new, family), changes) in found(&old, &new).0 {
            if matches!(&from, End::Address(a) if Family::of(*a) != family)
                || matches!(&to, End::Address(a) if Family::of(*a) != family)
            {
                continue;
            }
            for traffic in samples(family) {
                let decided = |side: &Snapshot, from: &End, to: &End| {
                    let (from, to) = (from.clone(), to.clone());
                    evaluate(side, &Flow { from, to, family, traffic, wire: Wire::Routed }).decision
                };
                let was = decided(&was, &from, &to);
                let is = decided(&is, &from_new, &to_new);
                let expected = match (was, is) {
                    (Denied, Allowed) => [true, false, false, false],
                    (Allowed, Denied) => [false, true, false, false],
                    (Denied, Unknown) | (Unknown, Allowed) => [false, false, true, false],
                    (Allowed, Unknown) | (Unknown, Denied) => [false, false, false, true],
                    // Whether the same is lacking is another question.
                    (Unknown, Unknown) => continue,
                    _ => [false; 4],
                };
                differing += u32::from(expected != [false; 4]);
                assert_eq!(
                    said(&changes, traffic),
                    expected,
                    "seed {seed}: {from} -> {to} {traffic} over {family}: {was} then {is}"
                );
            }
        }
    }
    assert!(differing > 1000, "only {differing} flows differ: nothing was tried");
}

#[test]
fn a_cluster_does_not_differ_from_itself() {
    for seed in 1..=30 {
        let (old, _) = clusters(seed);
        let comparison = compare(&old, &old, &Family::ALL);
        assert_eq!(comparison.connections, [], "seed {seed}");
        assert_eq!(comparison.workloads, [], "seed {seed}");
        assert_eq!(comparison.status(&[ChangeKind::Any]), Status::Fine);
    }
}

#[test]
fn the_other_way_round_what_opens_closes() {
    for seed in 1..=30 {
        let (old, new) = clusters(seed);
        let sets = |found: Found, turned: bool| -> BTreeMap<_, _> {
            let all = found.into_iter().filter(|(_, changes)| !changes.is_empty());
            all.map(|((a, b, c, d, family), changes)| {
                let union = |set: fn(&Change) -> &TrafficSet| {
                    changes.iter().fold(TrafficSet::nothing(), |all, c| all.union(set(c)))
                };
                let (opened, closed) = (union(|c| &c.opened), union(|c| &c.closed));
                let may = (union(|c| &c.may_open), union(|c| &c.may_close));
                if turned {
                    ((b, a, d, c, family), (closed, opened, may.1, may.0))
                } else {
                    ((a, b, c, d, family), (opened, closed, may.0, may.1))
                }
            })
            .collect()
        };
        let there = sets(found(&old, &new).0, false);
        let back = sets(found(&new, &old).0, true);
        assert_eq!(there, back, "seed {seed}");
    }
}

#[test]
fn every_change_has_a_cause_and_of_one_edited_object_it_is_that_object() {
    let mut caused = 0;
    for seed in 1..=40 {
        let mut dice = Dice((seed * 0x51ed) | 1);
        let old: Vec<u64> = (0..OBJECTS).map(|_| dice.below(1 << 30)).collect();
        let (before, mut after) = (objects(&old), objects(&old));
        let n = usize::try_from(dice.below(14)).expect("few");
        let mut edited = old.clone();
        edited[n] += 1;
        after[n].clone_from(&objects(&edited)[n]);
        let rows = found(&side(&before), &side(&after)).1;
        for cause in rows.iter().flat_map(|row| &row.change.causes) {
            let namespace = if n % 2 == 0 { "x" } else { "z" };
            let name = match n {
                0 | 1 => namespace.to_owned(),
                2..=7 => format!("{namespace}/p{n}"),
                8 => format!("{namespace}/t"),
                _ => format!("{namespace}/q{n}"),
            };
            assert_eq!(cause.name, name, "seed {seed}: {cause:?}");
            caused += 1;
        }
        let uncaused = rows.iter().find(|row| row.change.causes.is_empty());
        assert_eq!(uncaused, None, "seed {seed}");
    }
    assert!(caused > 10, "only {caused} causes: nothing was tried");
}
