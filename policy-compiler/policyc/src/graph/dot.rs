//! The picture for Graphviz.
//!
//! Colours are of middling lightness on a transparent ground: they can be read on white and on black.

use std::fmt::Write as _;

use super::{Graph, Kind, Node};

const HEAD: &str = "digraph policies {\n  \
    graph [rankdir=LR bgcolor=transparent fontname=\"Helvetica\" fontcolor=\"#6b7785\" color=\"#8b98a6\"]\n  \
    node [shape=box style=\"rounded\" fontname=\"Helvetica\" fontcolor=\"#3b82f6\" color=\"#3b82f6\"]\n  \
    edge [fontname=\"Helvetica\" fontsize=11 fontcolor=\"#6b7785\" color=\"#8b98a6\"]\n";

/// The picture in the language of Graphviz.
#[must_use]
pub fn dot(graph: &Graph) -> String {
    let mut out = String::new();
    for line in &graph.legend {
        // A comment ends with its line, and a legend has but one.
        let _ = writeln!(out, "// {}", line.replace(['\n', '\r'], " "));
    }
    out.push_str(HEAD);
    for (n, group) in graph.groups.iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{n} {{");
        let _ = writeln!(out, "    label={}", quoted(&group.name));
        let members = graph.nodes.iter().enumerate();
        for (n, node) in members.filter(|(_, node)| node.namespace.as_ref() == Some(&group.name)) {
            let _ = writeln!(out, "    {}", statement(n, node));
        }
        out.push_str("  }\n");
    }
    for (n, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.namespace.is_none()) {
        let _ = writeln!(out, "  {}", statement(n, node));
    }
    for edge in &graph.edges {
        let style = if edge.partial { " style=dashed" } else { "" };
        let because: Vec<String> = edge.because.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            out,
            "  n{} -> n{} [label={} tooltip={}{style}]",
            edge.from,
            edge.to,
            quoted(&edge.traffic),
            quoted(&because.join("\n"))
        );
    }
    out.push_str("}\n");
    out
}

fn statement(n: usize, node: &Node) -> String {
    let lines = [node.title.as_str(), node.detail.as_str(), node.openness()];
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    let style = match node.kind {
        Kind::Namespace => "",
        Kind::Pods if node.openness().is_empty() => "",
        Kind::Pods => " style=\"rounded,dashed\"",
        Kind::EveryPodOfNamespace | Kind::EveryPod | Kind::Anyone => {
            " shape=ellipse color=\"#8b5cf6\" fontcolor=\"#8b5cf6\""
        }
        Kind::Nodes | Kind::Addresses => " shape=hexagon color=\"#d97706\" fontcolor=\"#d97706\"",
    };
    format!("n{n} [label={}{style}]", quoted(&lines.join("\n")))
}

/// A string of the language: a backslash would begin an escape, a quote end it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_quotes() {
        assert_eq!(quoted("a\"]; b -> c //\\"), "\"a\\\"]; b -> c //\\\\\"");
        assert_eq!(quoted("two\nlines\u{7}"), "\"two\\nlines \"");
    }
}
