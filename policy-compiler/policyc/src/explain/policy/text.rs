//! What a policy does, as text.

use policy_compiler::policy::Direction;

use crate::answer::Place;
use crate::matrix::{CHOICES, brief, names};
use crate::text::{
    BAD, Column, DIM, DOUBT, GOOD, HEADING, Layout, Line, PLAIN, STRONG, Table, join, wrap,
};

use super::{Change, Found, FoundRule};

/// Whom it isolates, what its rules mean, what its deletion would change.
pub(super) fn text(found: &Found<'_>, layout: &Layout) -> String {
    let mut out = String::new();
    let policy = found.policy;
    let mut head = Line::plain("NetworkPolicy ").with(STRONG, policy.key.to_string());
    let selector = if policy.pod_selector.is_everything() {
        "   podSelector {}".to_owned()
    } else {
        format!("   podSelector {}", policy.pod_selector)
    };
    head.push(PLAIN, selector);
    head.push(PLAIN, "   ");
    head.append(layout.place(Place::of(&policy.location).as_ref()));
    wrap(&mut out, &head, 0, 4, layout.width);
    if found.audited {
        let line = Line::of(DOUBT, "audit only").with(
            DIM,
            ": it neither isolates nor allows; what follows is what it would do if it were enforced",
        );
        wrap(&mut out, &line, 0, 2, layout.width);
    }
    for (direction, isolated) in &found.isolated {
        out.push('\n');
        let (title, field) = match direction {
            Direction::Ingress => ("INGRESS", "FROM"),
            Direction::Egress => ("EGRESS", "TO"),
        };
        let all: Vec<usize> = isolated.iter().map(|one| one.party).collect();
        let mut line = Line::of(HEADING, title);
        if all.is_empty() {
            line.push(DOUBT, "  isolates no pod today");
        } else {
            let verb = if found.audited { "would isolate" } else { "isolates" };
            line.push(PLAIN, format!("  {verb} "));
            line.push(STRONG, join(&names(&found.parties, &all, None), "and"));
        }
        wrap(&mut out, &line, 0, 9, layout.width);
        let shared: Vec<usize> =
            isolated.iter().filter(|one| !one.alone).map(|one| one.party).collect();
        if !shared.is_empty() {
            let who = if shared.len() == all.len() {
                "Other policies isolate them too.".to_owned()
            } else {
                format!(
                    "Other policies isolate {} too.",
                    join(&names(&found.parties, &shared, None), "and")
                )
            };
            wrap(&mut out, &Line::of(DIM, who), 2, 2, layout.width);
        }
        rules(&mut out, found, *direction, field, layout);
    }
    out.push('\n');
    deletion(&mut out, found, layout);
    let choices = found.is_marked().then_some(CHOICES);
    for note in found.notes.iter().map(String::as_str).chain(choices) {
        wrap(&mut out, &Line::of(DIM, format!("note: {note}")), 0, 2, layout.width);
    }
    out
}

fn rules(
    out: &mut String,
    found: &Found<'_>,
    direction: Direction,
    field: &'static str,
    layout: &Layout,
) {
    let mut table = Table::new(vec![
        Column::fixed("RULE"),
        Column::wrapping(field),
        Column::wrapping("TRAFFIC"),
        Column::wrapping("AT"),
        Column::fixed(""),
    ]);
    let of_direction: Vec<&FoundRule<'_>> =
        found.rules.iter().filter(|rule| rule.direction == direction).collect();
    let pods =
        found.isolated.iter().find(|(own, _)| *own == direction).map_or(0, |(_, all)| all.len());
    for rule in &of_direction {
        let name = Line::plain(format!("{direction}[{}]", rule.index));
        let place = layout.place(rule.place().as_ref());
        if rule.grants.is_empty() {
            let why = match rule.invalid() {
                Some(reason) => Line::of(BAD, format!("nobody: {reason}")),
                None => Line::of(DOUBT, "nobody today"),
            };
            table.row(vec![vec![name], vec![why], Vec::new(), Vec::new(), vec![place]]);
            continue;
        }
        for (i, granted) in rule.grants.iter().enumerate() {
            let first = |line: &Line| if i == 0 { vec![line.clone()] } else { Vec::new() };
            let lines = |numbers: &[usize]| -> Vec<Line> {
                names(&found.parties, numbers, None).into_iter().map(Line::plain).collect()
            };
            let at = if granted.pods.len() == pods { Vec::new() } else { lines(&granted.pods) };
            let traffic = brief(&granted.content, None).into_iter();
            table.row(vec![
                first(&name),
                lines(&granted.peers),
                traffic.map(|(style, text)| Line::of(style, text)).collect(),
                at,
                first(&place),
            ]);
        }
    }
    if of_direction.is_empty() {
        wrap(out, &Line::of(DIM, "No rules: it allows nothing."), 2, 2, layout.width);
    } else {
        table.write(out, 2, layout.width);
    }
}

fn deletion(out: &mut String, found: &Found<'_>, layout: &Layout) {
    wrap(out, &Line::of(HEADING, "WITHOUT IT"), 0, 2, layout.width);
    if found.changes.is_empty() {
        let line = Line::plain("everything that passes now would pass, and nothing else.");
        wrap(out, &line, 2, 2, layout.width);
        return;
    }
    let mut table = Table::new(vec![
        Column::fixed(""),
        Column::wrapping("FROM"),
        Column::wrapping("TO"),
        Column::wrapping("TRAFFIC"),
    ]);
    for change in &found.changes {
        table.row(row(found, change));
    }
    table.write(out, 2, layout.width);
}

fn row(found: &Found<'_>, change: &Change) -> Vec<Vec<Line>> {
    let lines = |numbers: &[usize]| -> Vec<Line> {
        names(&found.parties, numbers, None).into_iter().map(Line::plain).collect()
    };
    let mark = if change.opens { Line::of(GOOD, "opens") } else { Line::of(BAD, "closes") };
    let traffic = brief(&change.content, None).into_iter();
    vec![
        vec![mark],
        lines(&change.from),
        lines(&change.to),
        traffic.map(|(style, text)| Line::of(style, text)).collect(),
    ]
}
