//! The picture as SVG: one file, no script, no font, nothing to load; light and dark as the reader's
//! system has it.
//!
//! All text comes from the input and is escaped; the input decides no attribute but numbers.

use std::fmt::Write as _;

use crate::error::CommandError;

use super::layout::{self, Drawing, Rect, Route};
use super::{Edge, Graph, Kind, Node};

const STYLE: &str = include_str!("graph.css");

/// The picture, laid out.
///
/// # Errors
/// Where it has more nodes or arrows than can be looked at.
pub fn svg(graph: &Graph) -> Result<String, CommandError> {
    if !Drawing::is_feasible(graph) {
        let (nodes, edges) = (graph.nodes.len(), graph.edges.len());
        return Err(CommandError::usage(
            format!("a picture of {nodes} nodes and {edges} arrows is none that can be looked at"),
            "draw it `--by namespace`, or as `-o html`, which opens a namespace at a time",
        ));
    }
    let drawing = Drawing::of(graph);
    let legend: Vec<String> =
        graph.legend.iter().flat_map(|line| wrapped(line, drawing.width)).collect();
    let height =
        drawing.height + LEGEND * count(legend.len()) + if legend.is_empty() { 0.0 } else { 12.0 };
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {height}\" width=\"{w}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"title\">",
        w = drawing.width,
    );
    out.push_str("<title id=\"title\">The connections that network policies allow</title>\n");
    let _ = writeln!(out, "<style>\n{STYLE}</style>");
    out.push_str(MARKERS);
    let _ =
        writeln!(out, "<rect class=\"ground\" width=\"{}\" height=\"{height}\"/>", drawing.width);
    for (n, rect) in &drawing.groups {
        let name = graph.groups.get(*n).map(|group| group.name.as_str()).unwrap_or_default();
        group(&mut out, name, rect);
    }
    for (edge, route) in graph.edges.iter().zip(&drawing.edges) {
        arrow(&mut out, graph, edge, route);
    }
    for (node, rect) in graph.nodes.iter().zip(&drawing.nodes) {
        shape(&mut out, node, rect);
    }
    for (n, line) in legend.iter().enumerate() {
        let y = drawing.height + LEGEND * count(n) + 8.0;
        let _ = writeln!(out, "<text class=\"legend\" x=\"16\" y=\"{y}\">{}</text>", escaped(line));
    }
    out.push_str("</svg>\n");
    Ok(out)
}

const LEGEND: f64 = 17.0;

const MARKERS: &str = "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" \
    markerHeight=\"8\" markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"tip\" d=\"M0 0.5L8 4L0 7.5z\"/>\
    </marker></defs>\n";

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn group(out: &mut String, name: &str, rect: &Rect) {
    let Rect { x, y, w, h } = rect;
    let _ = writeln!(
        out,
        "<g class=\"group\"><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"10\"/>\
         <text x=\"{}\" y=\"{}\">{}</text></g>",
        x + 10.0,
        y + 16.0,
        escaped(name)
    );
}

/// The style of a node.
#[must_use]
pub(super) fn class(node: &Node) -> &'static str {
    match node.kind {
        Kind::Namespace => "node",
        Kind::Pods if node.openness().is_empty() => "node",
        Kind::Pods => "node open",
        Kind::EveryPodOfNamespace | Kind::EveryPod | Kind::Anyone => "node many",
        Kind::Nodes | Kind::Addresses => "node outside",
    }
}

fn shape(out: &mut String, node: &Node, rect: &Rect) {
    let Rect { x, y, w, h } = rect;
    let round = if node.kind == Kind::Pods { 6.0 } else { h / 2.0 };
    let _ = write!(
        out,
        "<g class=\"{}\"><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"{round}\"/>",
        class(node),
        escaped(&[node.id.as_str(), node.openness()].join(" ")),
    );
    for (n, line) in layout::lines(node).iter().enumerate() {
        let class = if n == 0 { "title" } else { "detail" };
        let (cx, cy) = (x + w / 2.0, y + 20.0 + 16.0 * count(n));
        let _ =
            write!(out, "<text class=\"{class}\" x=\"{cx}\" y=\"{cy}\">{}</text>", escaped(line));
    }
    out.push_str("</g>\n");
}

fn arrow(out: &mut String, graph: &Graph, edge: &Edge, route: &Route) {
    let name = |n: usize| graph.nodes.get(n).map(|node| node.id.as_str()).unwrap_or_default();
    let mut said = vec![format!("{} to {}: {}", name(edge.from), name(edge.to), edge.traffic)];
    said.extend(edge.because.iter().map(ToString::to_string));
    let class = if edge.partial { "edge partial" } else { "edge" };
    let (x, y) = route.label;
    let _ = writeln!(
        out,
        "<g class=\"{class}\"><title>{}</title><path d=\"{}\" marker-end=\"url(#tip)\"/>\
         <text x=\"{x}\" y=\"{}\">{}</text></g>",
        escaped(&said.join("\n")),
        path(&route.points),
        y + 4.0,
        escaped(&layout::caption(&edge.traffic)),
    );
}

/// A smooth line through `points`: straight to the middle of each stretch, round each corner.
#[must_use]
pub(super) fn path(points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    let Some((first, rest)) = points.split_first() else { return out };
    let _ = write!(out, "M{} {}", first.0, first.1);
    for pair in rest.windows(2) {
        let [corner, next] = pair else { continue };
        let middle = tenths(f64::midpoint(corner.0, next.0), f64::midpoint(corner.1, next.1));
        let _ = write!(out, "Q{} {} {} {}", corner.0, corner.1, middle.0, middle.1);
    }
    if let Some(last) = rest.last() {
        let _ = write!(out, "L{} {}", last.0, last.1);
    }
    out
}

fn tenths(x: f64, y: f64) -> (f64, f64) {
    ((x * 10.0).round() / 10.0, (y * 10.0).round() / 10.0)
}

/// `line` in lines that fit `width`, a word at least each.
fn wrapped(line: &str, width: f64) -> Vec<String> {
    const CHARACTER: f64 = 6.4;
    let mut lines: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        match lines.last_mut() {
            Some(last)
                if CHARACTER * count(last.chars().count() + 1 + word.chars().count())
                    < width - 32.0 =>
            {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Text as XML has it. Characters that XML has not become a space.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(
            escaped("<a href='x'>&\"\u{0}\u{fffe}"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;  "
        );
    }

    #[test]
    fn a_line_goes_round_its_corners_and_ends_where_it_should() {
        assert_eq!(path(&[(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)]), "M0 0Q10 0 10 5L10 10");
        assert_eq!(path(&[(0.0, 0.0), (3.0, 4.0)]), "M0 0L3 4");
        assert_eq!(path(&[]), "");
    }
}
