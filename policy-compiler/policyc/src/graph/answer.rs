//! The picture as data: who is drawn, in which namespace, and the arrows between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use policy_compiler::cluster::Pod;
use policy_compiler::flow::End;
use policy_compiler::reach::{Undefined, Who};
use serde::Serialize;

use crate::answer::{self, Certainty, RulingNote};
use crate::relations::{Open, Reason, Relations};

use super::ends::{Drawn, Ends, shortened, world};
use super::fold::{self, Arrow, Namespaces, Tip};

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// The namespaces, in order.
    pub groups: Vec<Group>,
    /// Who is drawn.
    pub nodes: Vec<Node>,
    /// The arrows.
    pub edges: Vec<Edge>,
    /// What a reader has to know, in sentences.
    pub legend: Vec<String>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
}

/// One that is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Unique, and speaking: `shop/web ×2`.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What is written large: `web ×2`.
    pub title: String,
    /// What is written small: `Deployment`.
    pub detail: String,
    /// Whether no policy limits what it receives.
    pub open_ingress: bool,
    /// Whether no policy limits what it sends.
    pub open_egress: bool,
}

/// What a [`Node`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A pod or the pods of a workload, or all of a namespace where that is the level.
    Pods,
    /// Every pod of its namespace.
    EveryPodOfNamespace,
    /// Every pod of every namespace.
    EveryPod,
    /// Every pod, node and address.
    Anyone,
    /// Nodes of the cluster.
    Nodes,
    /// Addresses that are no pod's and no node's.
    Addresses,
    /// All that is drawn of a namespace, where a page folds it.
    Namespace,
}

/// An arrow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// The number of the node whence, from 0.
    pub from: usize,
    /// The number of the node whither.
    pub to: usize,
    /// What passes: `8080/TCP`.
    pub traffic: String,
    /// Whether the input does not tell of some of it, or only some pods have it.
    pub partial: bool,
    /// Whether the specification settles that it passes.
    pub certainty: Certainty,
    /// Of which of it the specification does not: `ICMP`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub undefined: String,
    /// On which choices that rests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rulings: Vec<RulingNote>,
    /// By which rules.
    pub because: Vec<Reason>,
}

/// A pair of ends speaks for all that an arrow stands for, up to this many: reasons of more would be a
/// list that nobody reads.
const PAIRS: usize = 64;

/// The picture of `ends`.
pub(super) fn of(relations: &Relations<'_, '_>, ends: &Ends) -> Graph {
    let names: BTreeSet<String> =
        ends.drawn.iter().filter_map(|d| namespace(relations, d)).collect();
    let groups: Vec<Group> = names.into_iter().map(|name| Group { name }).collect();
    let number = |name: String| groups.iter().position(|group| group.name == name);
    let namespaces: Namespaces =
        ends.drawn.iter().map(|drawn| namespace(relations, drawn).and_then(number)).collect();
    let arrows = fold::arrows(relations, ends, &namespaces);
    let mut nodes: Vec<Node> = ends.drawn.iter().map(|drawn| node(relations, drawn)).collect();
    // Nodes and addresses that no arrow touches have nothing to say.
    let touched: BTreeSet<&Tip> = arrows.iter().flat_map(|a| [&a.from, &a.to]).collect();
    let mut numbers: BTreeMap<Tip, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for (n, node) in nodes.drain(..).enumerate() {
        if node.kind == Kind::Pods || touched.contains(&Tip::One(n)) {
            numbers.insert(Tip::One(n), kept.len());
            kept.push(node);
        }
    }
    for tip in touched.into_iter().filter(|tip| !matches!(tip, Tip::One(_))) {
        numbers.insert(tip.clone(), kept.len());
        kept.push(gathering(tip, &groups));
    }
    distinguish(&mut kept);
    let edges = arrows.iter().filter_map(|arrow| edge(relations, ends, arrow, &numbers)).collect();
    let legend = legend(&kept);
    Graph { groups, nodes: kept, edges, legend }
}

fn edge(
    relations: &Relations<'_, '_>,
    ends: &Ends,
    arrow: &Arrow,
    numbers: &BTreeMap<Tip, usize>,
) -> Option<Edge> {
    let party = |end: usize| ends.drawn.get(end).map(|drawn| &drawn.parties);
    let mut because: BTreeSet<Reason> = BTreeSet::new();
    for (from, to) in arrow.pairs.iter().take(PAIRS) {
        for a in party(*from)? {
            for b in party(*to)? {
                because.extend(relations.reasons(*a, *b));
            }
        }
    }
    let mut undefined = Undefined::default();
    for (from, to) in &arrow.pairs {
        for a in party(*from)? {
            for b in party(*to)? {
                undefined = undefined.union(&relations.undefined(*a, *b));
            }
        }
    }
    let rulings = answer::rulings(&undefined.rulings());
    let open = !undefined.is_empty();
    let partial = arrow.passed.into_iter().flatten().any(|number| {
        relations.passing(number).is_some_and(|p| p.all != p.some || !p.unknown.is_empty())
    });
    Some(Edge {
        from: *numbers.get(&arrow.from)?,
        to: *numbers.get(&arrow.to)?,
        traffic: relations.text(arrow.passed),
        partial,
        certainty: Certainty::of(&rulings),
        undefined: if open { undefined.traffic().to_string() } else { String::new() },
        rulings,
        because: because.into_iter().collect(),
    })
}

fn namespace(relations: &Relations<'_, '_>, drawn: &Drawn) -> Option<String> {
    let party = drawn.parties.first().and_then(|n| relations.parties.get(*n))?;
    party.who.place().map(str::to_owned)
}

fn node(relations: &Relations<'_, '_>, drawn: &Drawn) -> Node {
    let parties: Vec<_> = drawn.parties.iter().filter_map(|n| relations.parties.get(*n)).collect();
    let open: Vec<Open> = drawn.parties.iter().map(|n| relations.open(*n)).collect();
    let who = parties.first().map(|party| &party.who);
    let (kind, title, detail) = match who {
        Some(Who::Pod(key)) => (Kind::Pods, key.name.to_string(), pod_kind(relations, drawn)),
        Some(Who::Workload { name, kind, count, of, .. }) => {
            let title = match (count, of) {
                (1, 1) => name.to_string(),
                (count, of) if count == of => format!("{name} ×{count}"),
                (count, of) => format!("{name} {count} of {of}"),
            };
            (Kind::Pods, title, kind.to_string())
        }
        Some(Who::Namespace(name)) => (Kind::Pods, name.to_string(), "namespace".to_owned()),
        Some(Who::Selected { pods, .. }) => (Kind::Pods, pods.to_string(), "selector".to_owned()),
        Some(Who::Node(_)) => {
            let names: Vec<String> = parties.iter().map(|p| p.who.to_string()).collect();
            let names: Vec<String> =
                names.iter().map(|n| n.trim_start_matches("node/").to_owned()).collect();
            let title = if names.len() == 1 { "node" } else { "nodes" };
            (Kind::Nodes, title.to_owned(), shortened(&names))
        }
        Some(Who::World(_) | Who::Outside) => {
            let classes: Vec<_> = parties
                .iter()
                .filter_map(|party| match &party.who {
                    Who::World(class) => Some(class),
                    _ => None,
                })
                .collect();
            let (title, detail) = world(&classes);
            (Kind::Addresses, title, detail)
        }
        None => (Kind::Anyone, String::new(), String::new()),
    };
    let namespace = namespace(relations, drawn);
    Node {
        id: match &namespace {
            Some(name) if detail != "namespace" => format!("{name}/{title}"),
            _ => format!("{title} {detail}"),
        },
        kind,
        namespace,
        title,
        detail,
        open_ingress: open.iter().all(|open| open.ingress),
        open_egress: open.iter().all(|open| open.egress),
    }
}

/// The kind of workload that a pod drawn alone is of.
fn pod_kind(relations: &Relations<'_, '_>, drawn: &Drawn) -> String {
    let party = drawn.parties.first().and_then(|n| relations.parties.get(*n));
    let pod = |end: &End| match end {
        End::Pod(key) => relations.snapshot().pods.get(key),
        End::Node(_) | End::Address(_) => None,
    };
    let pod: Option<&Pod> = party.and_then(|party| party.members.first()).and_then(pod);
    let workload = pod.and_then(|pod| pod.workload.as_ref());
    workload.map_or_else(|| "Pod".to_owned(), |workload| workload.kind.to_string())
}

/// The node for a tip that stands for many.
fn gathering(tip: &Tip, groups: &[Group]) -> Node {
    let (kind, namespace, title, detail) = match tip {
        Tip::Namespace(n) => {
            let name = groups.get(*n).map(|group| group.name.clone()).unwrap_or_default();
            let title = "every pod".to_owned();
            (Kind::EveryPodOfNamespace, Some(name.clone()), title, format!("of {name}"))
        }
        Tip::Pods => {
            (Kind::EveryPod, None, "every pod".to_owned(), "of every namespace".to_owned())
        }
        Tip::Anyone | Tip::One(_) => {
            (Kind::Anyone, None, "anyone".to_owned(), "every pod, node and address".to_owned())
        }
    };
    let id = match tip {
        Tip::Namespace(_) => format!("{title} {detail}"),
        Tip::Pods | Tip::Anyone | Tip::One(_) => title.clone(),
    };
    Node { id, kind, namespace, title, detail, open_ingress: false, open_egress: false }
}

/// Makes ids unique where parts of one workload read alike.
fn distinguish(nodes: &mut [Node]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        let times = seen.entry(node.id.clone()).or_default();
        *times += 1;
        if *times > 1 {
            node.id = format!("{} ({times})", node.id);
        }
    }
}

fn legend(nodes: &[Node]) -> Vec<String> {
    let mut lines =
        vec!["An arrow is what policies let pass, in every family that both ends have.".to_owned()];
    let pods = || nodes.iter().filter(|node| node.kind == Kind::Pods);
    if pods().any(|node| node.open_ingress || node.open_egress) {
        lines.push(
            "Dashed outline: no policy limits what it receives, or what it sends. Between two ends \
             that no policy limits everything passes, and no arrow is drawn."
                .to_owned(),
        );
    }
    if nodes
        .iter()
        .any(|node| matches!(node.kind, Kind::EveryPodOfNamespace | Kind::EveryPod | Kind::Anyone))
    {
        lines.push("An arrow of \"every pod\" stands for one of each of them.".to_owned());
    }
    lines.push("A pod's own node always reaches it and is reached; no arrow is drawn.".to_owned());
    lines
}

impl Node {
    /// What no policy limits, as it is written under the title; empty where policies limit both.
    #[must_use]
    pub fn openness(&self) -> &'static str {
        match (self.kind, self.open_ingress, self.open_egress) {
            (Kind::Pods, true, true) => "receives any, sends any",
            (Kind::Pods, true, false) => "receives any",
            (Kind::Pods, false, true) => "sends any",
            _ => "",
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.id)
    }
}
