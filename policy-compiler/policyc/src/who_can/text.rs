//! Allow lists as text.

use policy_compiler::policy::Direction;

use crate::matrix::{CHOICES, alike, names};
use crate::text::{Column, DIM, HEADING, Layout, Line, STRONG, Table, wrap};

use super::Found;

/// For each of the pods who may reach it, and whom it may reach.
#[must_use]
pub fn text(found: &Found, layout: &Layout) -> String {
    let mut out = String::new();
    for (number, subject) in found.subjects.iter().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        wrap(&mut out, &Line::of(STRONG, subject.to_string()), 0, 2, layout.width);
        for (direction, grid) in &found.directions {
            out.push('\n');
            let (title, peers) = match direction {
                Direction::Ingress => ("INGRESS", "FROM"),
                Direction::Egress => ("EGRESS", "TO"),
            };
            let exchanges = found.exchanges(*direction, grid, number);
            let mut line = Line::of(HEADING, title);
            if exchanges.is_empty() {
                line.push(DIM, "  nobody");
            }
            wrap(&mut out, &line, 0, 2, layout.width);
            let mut table = Table::new(vec![Column::wrapping(peers), Column::wrapping("TRAFFIC")]);
            let each = exchanges
                .iter()
                .flat_map(|(content, others)| others.iter().map(move |other| (*other, *content)));
            let mut each: Vec<_> = each.collect();
            each.sort_by_key(|(other, _)| *other);
            for (traffic, others) in alike(each.into_iter(), None) {
                let who = names(&found.others, &others, None);
                table.row(vec![who.into_iter().map(Line::plain).collect(), traffic]);
            }
            table.write(&mut out, 2, layout.width);
        }
    }
    if found.is_marked() {
        out.push('\n');
        wrap(&mut out, &Line::of(DIM, format!("note: {CHOICES}")), 0, 2, layout.width);
    }
    out
}
