//! The picture as a page: whole where that can be looked at, by namespace, and a namespace at a time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::answer::{Certainty, RulingNote};
use crate::page;
use crate::relations::Reason;

use super::layout::{self, Drawing, Rect};
use super::{Edge, Graph, Group, Kind, Node, svg};

/// What the page is given.
#[derive(Serialize)]
struct Content {
    views: Vec<View>,
}

/// One picture of the page.
#[derive(Serialize)]
struct View {
    name: String,
    /// The namespace that it opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    graph: Shown,
    /// Absent where it is too much to look at: the list is there still.
    #[serde(skip_serializing_if = "Option::is_none")]
    drawing: Option<Placed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

#[derive(Serialize)]
struct Shown {
    groups: Vec<Group>,
    nodes: Vec<ShownNode>,
    edges: Vec<ShownEdge>,
    legend: Vec<String>,
}

#[derive(Serialize)]
struct ShownNode {
    id: String,
    kind: Kind,
    title: String,
    class: &'static str,
    lines: Vec<String>,
}

#[derive(Serialize)]
struct ShownEdge {
    from: usize,
    to: usize,
    traffic: String,
    caption: String,
    partial: bool,
    undefined: String,
    rulings: Vec<RulingNote>,
    because: Vec<Reason>,
}

#[derive(Serialize)]
struct Placed {
    width: f64,
    height: f64,
    groups: Vec<(usize, Rect)>,
    nodes: Vec<Rect>,
    edges: Vec<PlacedEdge>,
}

#[derive(Serialize)]
struct PlacedEdge {
    path: String,
    label: (f64, f64),
}

/// The page of `graph`.
#[must_use]
pub fn html(graph: &Graph) -> String {
    let mut views = Vec::new();
    let small = Drawing::is_feasible(graph);
    if small {
        views.push(view("Everything", None, graph));
    }
    if graph.groups.len() > 1 {
        views.push(view("Namespaces", None, &contracted(graph, None)));
        let members =
            |name: &str| graph.nodes.iter().any(|node| node.namespace.as_deref() == Some(name));
        for group in graph.groups.iter().filter(|group| members(&group.name)) {
            let part = contracted(graph, Some(&group.name));
            views.push(view(&group.name, Some(&group.name), &part));
        }
    }
    if views.is_empty() {
        views.push(view("Everything", None, graph));
    }
    page::GRAPH.with(&Content { views })
}

fn view(name: &str, namespace: Option<&str>, graph: &Graph) -> View {
    let drawing = Drawing::is_feasible(graph).then(|| placed(Drawing::of(graph)));
    View {
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        note: drawing.is_none().then_some(
            "These are more than a picture can show; search the list, or open a namespace.",
        ),
        graph: Shown {
            groups: graph.groups.clone(),
            nodes: graph.nodes.iter().map(shown_node).collect(),
            edges: graph.edges.iter().map(shown_edge).collect(),
            legend: graph.legend.clone(),
        },
        drawing,
    }
}

fn shown_node(node: &Node) -> ShownNode {
    ShownNode {
        id: node.id.clone(),
        kind: node.kind,
        title: node.title.clone(),
        class: svg::class(node),
        lines: layout::lines(node),
    }
}

fn shown_edge(edge: &Edge) -> ShownEdge {
    ShownEdge {
        from: edge.from,
        to: edge.to,
        traffic: edge.traffic.clone(),
        caption: layout::caption(&edge.traffic),
        partial: edge.partial,
        undefined: edge.undefined.clone(),
        rulings: edge.rulings.clone(),
        because: edge.because.clone(),
    }
}

fn placed(drawing: Drawing) -> Placed {
    let edge =
        |route: layout::Route| PlacedEdge { path: svg::path(&route.points), label: route.label };
    Placed {
        width: drawing.width,
        height: drawing.height,
        groups: drawing.groups,
        nodes: drawing.nodes,
        edges: drawing.edges.into_iter().map(edge).collect(),
    }
}

/// `graph` with each namespace but `open` as one node, and of the rest what has to do with `open`.
fn contracted(graph: &Graph, open: Option<&str>) -> Graph {
    let mut nodes: Vec<Node> = Vec::new();
    let mut numbers: Vec<usize> = Vec::new();
    let mut folded: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &graph.nodes {
        numbers.push(match node.namespace.as_deref() {
            Some(name) if Some(name) != open => *folded.entry(name).or_insert_with(|| {
                nodes.push(namespace(graph, name));
                nodes.len() - 1
            }),
            _ => {
                nodes.push(node.clone());
                nodes.len() - 1
            }
        });
    }
    let own = |n: usize| nodes.get(n).is_some_and(|node| node.namespace.as_deref() == open);
    let mut bundles: BTreeMap<(usize, usize), Vec<&Edge>> = BTreeMap::new();
    for edge in &graph.edges {
        let ends = numbers.get(edge.from).copied().zip(numbers.get(edge.to).copied());
        let Some((from, to)) = ends else { continue };
        let told = match open {
            Some(_) => own(from) || own(to),
            None => from != to,
        };
        if told {
            bundles.entry((from, to)).or_default().push(edge);
        }
    }
    let edges: Vec<Edge> = bundles.into_iter().map(|(ends, edges)| bundle(ends, &edges)).collect();
    let touched: BTreeSet<usize> = edges.iter().flat_map(|edge| [edge.from, edge.to]).collect();
    let keep = |n: usize, node: &Node| match open {
        Some(_) => own(n) || touched.contains(&n),
        None => node.kind == Kind::Namespace || touched.contains(&n),
    };
    let kept: Vec<usize> =
        nodes.iter().enumerate().filter(|(n, node)| keep(*n, node)).map(|(n, _)| n).collect();
    renumbered(graph, nodes.clone(), edges, &kept)
}

/// Only the nodes that are `kept`, with the numbers that they have then.
fn renumbered(graph: &Graph, nodes: Vec<Node>, edges: Vec<Edge>, kept: &[usize]) -> Graph {
    let number = |old: usize| kept.iter().position(|n| *n == old);
    let edges = edges
        .into_iter()
        .filter_map(|edge| Some(Edge { from: number(edge.from)?, to: number(edge.to)?, ..edge }));
    let edges = edges.collect();
    let nodes = nodes.into_iter().enumerate().filter(|(n, _)| kept.contains(n));
    Graph {
        groups: graph.groups.clone(),
        nodes: nodes.map(|(_, node)| node).collect(),
        edges,
        legend: graph.legend.clone(),
    }
}

/// Several arrows between the same two as one.
fn bundle(ends: (usize, usize), edges: &[&Edge]) -> Edge {
    let traffic: BTreeSet<&str> = edges.iter().map(|edge| edge.traffic.as_str()).collect();
    let traffic: Vec<&str> = traffic.into_iter().collect();
    let undefined = edges.iter().map(|edge| edge.undefined.as_str());
    let undefined: BTreeSet<&str> = undefined.filter(|text| !text.is_empty()).collect();
    let rulings: BTreeSet<&RulingNote> = edges.iter().flat_map(|edge| &edge.rulings).collect();
    let rulings: Vec<&RulingNote> = rulings.into_iter().collect();
    let because: BTreeSet<&Reason> = edges.iter().flat_map(|edge| &edge.because).collect();
    Edge {
        from: ends.0,
        to: ends.1,
        traffic: match traffic.as_slice() {
            [one] => (*one).to_owned(),
            [one, other] => format!("{one}; {other}"),
            several => format!("{} kinds of traffic", several.len()),
        },
        partial: edges.iter().any(|edge| edge.partial),
        certainty: Certainty::of(&rulings),
        undefined: undefined.into_iter().collect::<Vec<_>>().join("; "),
        rulings: rulings.into_iter().cloned().collect(),
        because: because.into_iter().cloned().collect(),
    }
}

fn namespace(graph: &Graph, name: &str) -> Node {
    let members = graph
        .nodes
        .iter()
        .filter(|node| node.kind == Kind::Pods && node.namespace.as_deref() == Some(name));
    let members: Vec<&Node> = members.collect();
    let limited = members.iter().filter(|node| !(node.open_ingress && node.open_egress)).count();
    Node {
        id: name.to_owned(),
        kind: Kind::Namespace,
        namespace: None,
        title: name.to_owned(),
        detail: format!("{limited} of {} limited", members.len()),
        open_ingress: false,
        open_egress: false,
    }
}
