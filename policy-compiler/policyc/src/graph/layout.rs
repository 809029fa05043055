//! Where everything stands: the layered layout of Sugiyama and others, namespaces as boxes around their
//! members, by the `dagre` crate.
//!
//! The same picture is laid out the same every time. What the layout cannot do in bounded time it is not
//! asked: see [`Drawing::is_feasible`].

use dagre::graph::{Graph as Layered, GraphOptions};
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, RankDir};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::{Graph, Kind, Node};

/// A picture with places. Lengths are in CSS pixels, from the upper left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drawing {
    /// How wide it is.
    pub width: f64,
    /// How high it is.
    pub height: f64,
    /// A box for each namespace that has members, with its number.
    pub groups: Vec<(usize, Rect)>,
    /// A box for each node.
    pub nodes: Vec<Rect>,
    /// A line for each edge.
    pub edges: Vec<Route>,
}

/// A box.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rect {
    /// The left edge.
    pub x: f64,
    /// The upper edge.
    pub y: f64,
    /// How wide it is.
    pub w: f64,
    /// How high it is.
    pub h: f64,
}

/// The way of an arrow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// The corners, from its source to its destination.
    pub points: Vec<(f64, f64)>,
    /// The middle of its label.
    pub label: (f64, f64),
}

/// How wide a character of a label is at most, large and small.
const LARGE: f64 = 8.2;
const SMALL: f64 = 6.6;
const LINE: f64 = 16.0;
/// What a group's box has above its members, for its name.
const CAPTION: f64 = 22.0;
const MARGIN: f64 = 16.0;

/// Pictures of more nodes, or of more arrows, are neither laid out in bounded time nor read.
const MOST_NODES: usize = 120;
const MOST_EDGES: usize = 240;

impl Drawing {
    /// Whether `graph` is small enough to be laid out, and looked at.
    #[must_use]
    pub fn is_feasible(graph: &Graph) -> bool {
        graph.nodes.len() <= MOST_NODES && graph.edges.len() <= MOST_EDGES
    }

    /// Lays `graph` out from left to right.
    #[must_use]
    pub fn of(graph: &Graph) -> Self {
        let mut layered = layered(graph);
        let options = LayoutOptions {
            rankdir: RankDir::LR,
            nodesep: 26.0,
            edgesep: 14.0,
            ranksep: 42.0,
            ..LayoutOptions::default()
        };
        dagre::layout(&mut layered, Some(options));
        let rect = |name: &str| layered.node(name).map_or(Rect::default(), rect);
        let groups = (0..graph.groups.len()).filter(|n| has_members(graph, *n));
        let groups = groups.map(|n| (n, captioned(rect(&group_name(n))))).collect();
        let nodes = (0..graph.nodes.len()).map(|n| rect(&node_name(n))).collect();
        let edges = graph.edges.iter().enumerate().map(|(n, edge)| {
            let (from, to) = (node_name(edge.from), node_name(edge.to));
            layered.edge(&from, &to, Some(&n.to_string())).map_or_else(Route::default, route)
        });
        let edges = edges.collect();
        Self { width: 0.0, height: 0.0, groups, nodes, edges }.framed()
    }

    /// Moved so that everything lies inside, with a margin.
    fn framed(mut self) -> Self {
        let boxes = || self.nodes.iter().chain(self.groups.iter().map(|(_, rect)| rect));
        let points = || self.edges.iter().flat_map(|edge| &edge.points);
        let least = |of: fn(&Rect) -> f64, at: fn(&(f64, f64)) -> f64| {
            boxes().map(of).chain(points().map(at)).fold(f64::INFINITY, f64::min)
        };
        let most = |of: fn(&Rect) -> f64, at: fn(&(f64, f64)) -> f64| {
            boxes().map(of).chain(points().map(at)).fold(f64::NEG_INFINITY, f64::max)
        };
        let (left, top) = (least(|r| r.x, |p| p.0), least(|r| r.y, |p| p.1));
        let (right, bottom) = (most(|r| r.x + r.w, |p| p.0), most(|r| r.y + r.h, |p| p.1));
        if !(left.is_finite() && top.is_finite()) {
            return Self { width: 2.0 * MARGIN, height: 2.0 * MARGIN, ..self };
        }
        let (dx, dy) = (MARGIN - left, MARGIN - top);
        self.width = tenths(right - left + 2.0 * MARGIN);
        self.height = tenths(bottom - top + 2.0 * MARGIN);
        for rect in self.nodes.iter_mut().chain(self.groups.iter_mut().map(|(_, rect)| rect)) {
            *rect = Rect {
                x: tenths(rect.x + dx),
                y: tenths(rect.y + dy),
                w: tenths(rect.w),
                h: tenths(rect.h),
            };
        }
        for edge in &mut self.edges {
            edge.label = (tenths(edge.label.0 + dx), tenths(edge.label.1 + dy));
            for point in &mut edge.points {
                *point = (tenths(point.0 + dx), tenths(point.1 + dy));
            }
        }
        self
    }
}

/// The graph as the layout takes it, with the sizes of all labels.
fn layered(graph: &Graph) -> Layered<NodeLabel, EdgeLabel> {
    let options = GraphOptions { directed: true, multigraph: true, compound: true };
    let mut layered = Layered::with_options(options);
    for n in (0..graph.groups.len()).filter(|n| has_members(graph, *n)) {
        layered.set_node(group_name(n), Some(NodeLabel::default()));
    }
    for (n, node) in graph.nodes.iter().enumerate() {
        let (width, height) = size(node);
        let label = NodeLabel { width, height, ..NodeLabel::default() };
        layered.set_node(node_name(n), Some(label));
        let group =
            graph.groups.iter().position(|group| Some(&group.name) == node.namespace.as_ref());
        if let Some(group) = group {
            layered.set_parent(&node_name(n), Some(&group_name(group)));
        }
    }
    for (n, edge) in graph.edges.iter().enumerate() {
        let label = EdgeLabel {
            width: width(&caption(&edge.traffic), SMALL) + 8.0,
            height: LINE,
            labelpos: dagre::layout::types::LabelPos::Center,
            ..EdgeLabel::default()
        };
        let (from, to) = (node_name(edge.from), node_name(edge.to));
        layered.set_edge(from, to, Some(label), Some(&n.to_string()));
    }
    layered
}

fn has_members(graph: &Graph, group: usize) -> bool {
    let name = graph.groups.get(group).map(|group| &group.name);
    graph.nodes.iter().any(|node| node.namespace.as_ref() == name)
}

fn group_name(n: usize) -> String {
    format!("g{n}")
}

fn node_name(n: usize) -> String {
    format!("n{n}")
}

/// What an arrow is labelled with: the whole is in its description.
#[must_use]
pub(super) fn caption(traffic: &str) -> String {
    clipped(traffic, 36)
}

/// The lines of a node, the first large.
#[must_use]
pub(super) fn lines(node: &Node) -> Vec<String> {
    let lines = [clipped(&node.title, 40), clipped(&node.detail, 44), node.openness().to_owned()];
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

/// `text`, cut where it is longer than `most` characters.
fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}

fn size(node: &Node) -> (f64, f64) {
    let lines = lines(node);
    let wide =
        lines.iter().enumerate().map(|(n, line)| width(line, if n == 0 { LARGE } else { SMALL }));
    let padding = if node.kind == Kind::Pods { 24.0 } else { 40.0 };
    let height = lines.iter().map(|_| LINE).sum::<f64>() + 14.0;
    (wide.fold(40.0, f64::max) + padding, height)
}

fn width(text: &str, character: f64) -> f64 {
    // A label is clipped long before a count of its columns is no longer exact.
    character * f64::from(u16::try_from(text.width()).unwrap_or(u16::MAX))
}

impl Default for Rect {
    fn default() -> Self {
        Self { x: 0.0, y: 0.0, w: 0.0, h: 0.0 }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self { points: Vec::new(), label: (0.0, 0.0) }
    }
}

fn rect(node: &NodeLabel) -> Rect {
    let (w, h) = (node.width, node.height);
    Rect { x: node.x.unwrap_or_default() - w / 2.0, y: node.y.unwrap_or_default() - h / 2.0, w, h }
}

/// A group's box with room for its name.
fn captioned(rect: Rect) -> Rect {
    Rect { y: rect.y - CAPTION / 2.0, h: rect.h + CAPTION / 2.0, ..rect }
}

fn route(edge: &EdgeLabel) -> Route {
    let points: Vec<(f64, f64)> = edge.points.iter().map(|point| (point.x, point.y)).collect();
    let middle = points.get(points.len() / 2).copied().unwrap_or_default();
    Route { label: (edge.x.unwrap_or(middle.0), edge.y.unwrap_or(middle.1)), points }
}

/// To the tenth of a pixel: shorter, and the same whatever the machine rounds.
fn tenths(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::{Edge, Group};
    use super::*;

    /// Numbers that look random and are the same every time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, most: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).expect("31 bits") % most
        }
    }

    fn any(dice: &mut Dice, most: usize) -> Graph {
        let groups: Vec<Group> =
            (0..dice.below(6)).map(|n| Group { name: format!("ns-{n}") }).collect();
        let nodes: Vec<Node> = (0..=dice.below(most))
            .map(|n| {
                let namespace = groups.get(dice.below(7)).map(|group| group.name.clone());
                Node {
                    id: n.to_string(),
                    kind: if namespace.is_some() { Kind::Pods } else { Kind::Addresses },
                    namespace,
                    title: "x".repeat(dice.below(60)),
                    detail: "日本語".repeat(dice.below(3)),
                    open_ingress: dice.below(2) == 0,
                    open_egress: dice.below(2) == 0,
                }
            })
            .collect();
        let edges = (0..dice.below(2 * most)).map(|_| Edge {
            from: dice.below(nodes.len()),
            to: dice.below(nodes.len()),
            traffic: "80/TCP; ".repeat(dice.below(9)),
            partial: false,
            certainty: crate::answer::Certainty::Specified,
            undefined: String::new(),
            rulings: Vec::new(),
            because: Vec::new(),
        });
        let edges = edges.collect();
        Graph { groups, nodes, edges, legend: Vec::new() }
    }

    #[test]
    fn whatever_is_drawn_lies_inside_and_apart_and_is_the_same_every_time() {
        for seed in 0..50 {
            let graph = any(&mut Dice(seed), 24);
            let drawing = Drawing::of(&graph);
            assert_eq!(drawing, Drawing::of(&graph), "{seed}");
            assert_eq!(drawing.nodes.len(), graph.nodes.len(), "{seed}");
            assert_eq!(drawing.edges.len(), graph.edges.len(), "{seed}");
            let inside = |x: f64, y: f64| {
                (0.0..=drawing.width).contains(&x) && (0.0..=drawing.height).contains(&y)
            };
            let boxes = drawing.nodes.iter().chain(drawing.groups.iter().map(|(_, rect)| rect));
            for Rect { x, y, w, h } in boxes {
                assert!(inside(*x, *y) && inside(x + w, y + h), "{seed}");
            }
            for (x, y) in drawing.edges.iter().flat_map(|edge| &edge.points) {
                assert!(inside(*x, *y), "{seed}");
            }
            for (n, a) in drawing.nodes.iter().enumerate() {
                for b in &drawing.nodes[n + 1..] {
                    let apart = a.x + a.w <= b.x
                        || b.x + b.w <= a.x
                        || a.y + a.h <= b.y
                        || b.y + b.h <= a.y;
                    assert!(apart, "{seed}: {a:?} and {b:?}");
                }
            }
            for (edge, route) in graph.edges.iter().zip(&drawing.edges) {
                assert!(!route.points.is_empty(), "{seed}: {} to {}", edge.from, edge.to);
            }
        }
    }
}
