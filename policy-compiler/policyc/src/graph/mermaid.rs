//! The picture for Mermaid, as hosts of repositories draw it inside a README.
//!
//! Colours are left to its theme, light or dark; only outlines are styled.

use std::fmt::Write as _;

use super::{Graph, Kind, Node};

/// The picture in the language of Mermaid.
#[must_use]
pub fn mermaid(graph: &Graph) -> String {
    let mut out = String::from("flowchart LR\n");
    for line in &graph.legend {
        let _ = writeln!(out, "  %% {}", line.replace(['\n', '\r', '{', '}'], " "));
    }
    for (n, group) in graph.groups.iter().enumerate() {
        let _ = writeln!(out, "  subgraph g{n}[{}]", quoted(&group.name));
        let members = graph.nodes.iter().enumerate();
        for (n, node) in members.filter(|(_, node)| node.namespace.as_ref() == Some(&group.name)) {
            let _ = writeln!(out, "    {}", statement(n, node));
        }
        out.push_str("  end\n");
    }
    for (n, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.namespace.is_none()) {
        let _ = writeln!(out, "  {}", statement(n, node));
    }
    for edge in &graph.edges {
        let arrow = if edge.partial { "-.->" } else { "-->" };
        let label = quoted(&edge.traffic);
        let _ = writeln!(out, "  n{} {arrow}|{label}| n{}", edge.from, edge.to);
    }
    out.push_str("  classDef open stroke-dasharray:5 4\n");
    out.push_str("  classDef many stroke:#8b5cf6\n");
    out.push_str("  classDef outside stroke:#d97706\n");
    for (class, is) in [
        ("open", (|node| !node.openness().is_empty()) as fn(&Node) -> bool),
        ("many", |node| {
            matches!(node.kind, Kind::EveryPodOfNamespace | Kind::EveryPod | Kind::Anyone)
        }),
        ("outside", |node| matches!(node.kind, Kind::Nodes | Kind::Addresses)),
    ] {
        let nodes = graph.nodes.iter().enumerate().filter(|(_, node)| is(node));
        let ids: Vec<String> = nodes.map(|(n, _)| format!("n{n}")).collect();
        if !ids.is_empty() {
            let _ = writeln!(out, "  class {} {class}", ids.join(","));
        }
    }
    out
}

fn statement(n: usize, node: &Node) -> String {
    let lines = [node.title.as_str(), node.detail.as_str(), node.openness()];
    let lines: Vec<String> =
        lines.into_iter().filter(|line| !line.is_empty()).map(escaped).collect();
    let label = format!("\"{}\"", lines.join("<br/>"));
    match node.kind {
        Kind::Pods | Kind::Namespace => format!("n{n}[{label}]"),
        Kind::EveryPodOfNamespace | Kind::EveryPod | Kind::Anyone => format!("n{n}([{label}])"),
        Kind::Nodes | Kind::Addresses => format!("n{n}{{{{{label}}}}}"),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Labels are read as markup and as Markdown: whatever means something in either is written by its
/// number.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | '\\' | '`' | '*' | '_' | '[' | ']' | '(' | ')' | '{'
            | '}' | '|' | ';' | '~' | '$' | '%' | '@' => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_quotes_or_becomes_markup() {
        assert_eq!(quoted("a\"] --> b"), "\"a#34;#93; --#62; b\"");
        assert_eq!(quoted("<script>`x`"), "\"#60;script#62;#96;x#96;\"");
    }
}
