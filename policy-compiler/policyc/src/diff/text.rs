//! A comparison as text for people.

use std::collections::BTreeMap;

use policy_compiler::reach::KIND;

use crate::answer::{Certainty, Place};
use crate::text::{
    BAD, Column, DIM, DOUBT, GOOD, HEADING, Layout, Line, PLAIN, STRONG, Table, count, join, wrap,
};

use super::answer::{Becomes, Comparison, ConnectionChange, Ends, WorkloadChange};
use super::cause::Cause;

/// How many ends are named one by one.
const NAMED: usize = 6;

/// `comparison` as text; the layouts know what file names of each side begin with.
#[must_use]
pub(super) fn text(comparison: &Comparison, old: &Layout, new: &Layout) -> String {
    let mut out = String::new();
    let title = Line::of(STRONG, &comparison.old).with(PLAIN, " → ").with(STRONG, &comparison.new);
    wrap(&mut out, &title, 0, 2, new.width);
    for (becomes, title, style) in [
        (Becomes::Opened, "OPENED", GOOD),
        (Becomes::Closed, "CLOSED", BAD),
        (Becomes::Changed, "CHANGED", DOUBT),
        (Becomes::Unknown, "CANNOT TELL", DOUBT),
    ] {
        let lines: Vec<&ConnectionChange> =
            comparison.connections.iter().filter(|line| line.change == becomes).collect();
        if lines.is_empty() {
            continue;
        }
        out.push('\n');
        Line::of(style.bold(), title).write(&mut out);
        out.push('\n');
        let mut table = Table::new(vec![
            Column::wrapping("FROM"),
            Column::wrapping("TO"),
            Column::wrapping("PORT"),
            Column::wrapping("BECAUSE"),
        ]);
        for line in lines {
            let because = if line.causes.is_empty() {
                vec![Line::plain("an address that several pods share")]
            } else {
                line.causes.iter().map(|cause| because(cause, old, new)).collect()
            };
            table.row(vec![ends(&line.from), ends(&line.to), ports(line), because]);
        }
        table.write(&mut out, 2, new.width);
    }
    workloads(&mut out, comparison, old, new);
    policies(&mut out, comparison, old, new);
    if comparison.connections.iter().any(|line| line.certainty == Certainty::Undefined) {
        let note = "note: some of these verdicts rest on a choice that the specification leaves open; \
                    `-o json` marks them, and `policyc can` says which";
        out.push('\n');
        wrap(&mut out, &Line::of(DIM, note), 0, 2, new.width);
    }
    out.push('\n');
    wrap(&mut out, &Line::plain(summary(comparison)), 0, 2, new.width);
    for note in &comparison.notes {
        wrap(&mut out, &Line::of(DIM, format!("note: {note}")), 0, 2, new.width);
    }
    out
}

/// `3 connections open, 1 closes; 1 workload came.`
pub(super) fn summary(comparison: &Comparison) -> String {
    let summary = comparison.summary;
    let counted = [
        (summary.opened, "connection opens", "connections open"),
        (summary.closed, "connection closes", "connections close"),
        (summary.changed, "connection changes its ports", "connections change their ports"),
        (summary.unknown, "connection cannot be told", "connections cannot be told"),
        (summary.added, "workload came", "workloads came"),
        (summary.removed, "workload went", "workloads went"),
    ];
    let parts: Vec<String> = counted
        .into_iter()
        .filter(|(n, ..)| *n > 0)
        .map(|(n, one, many)| count(n, one, many))
        .collect();
    if parts.is_empty() { "No difference.".to_owned() } else { format!("{}.", join(&parts, "and")) }
}

/// `shop/web ×2 (Deployment)`, `shop/web 1 of 3 (Deployment)`, `node/node-a`, `world 203.0.113.0/24`.
pub(super) fn end(end: &Ends) -> String {
    let name = &end.name;
    match (end.kind.as_str(), end.count, end.of) {
        ("World", ..) => format!("world: {name}"),
        ("Node", ..) => format!("node/{name}"),
        ("Pod" | KIND, ..) => name.clone(),
        (kind, 1, 1) => format!("{name} ({kind})"),
        (kind, count, of) if count == of => format!("{name} ×{count} ({kind})"),
        (kind, count, of) => format!("{name} {count} of {of} ({kind})"),
    }
}

/// The ends one by one, or where they are many how many there are of each namespace.
pub(super) fn named(ends: &[Ends]) -> Vec<String> {
    let whole: Vec<&Ends> = ends.iter().filter(|end| end.whole).collect();
    let world = (whole.len() == 2).then(|| "the world".to_owned());
    let others = ends.iter().filter(|end| world.is_none() || !end.whole);
    let mut names: Vec<String> = if ends.len() <= NAMED + 1 {
        others.map(end).collect()
    } else {
        let mut groups: BTreeMap<String, usize> = BTreeMap::new();
        for end in others {
            let group = match end.kind.as_str() {
                "World" => "addresses outside".to_owned(),
                "Node" => "nodes".to_owned(),
                _ => end.name.split('/').next().unwrap_or_default().to_owned(),
            };
            *groups.entry(group).or_default() += 1;
        }
        let group = |(group, n): (String, usize)| match group.as_str() {
            "addresses outside" => format!("{n} classes of addresses outside"),
            "nodes" => count(n, "node", "nodes"),
            namespace => format!("{} of {namespace}", count(n, "workload", "workloads")),
        };
        groups.into_iter().map(group).collect()
    };
    names.extend(world);
    names
}

fn ends(ends: &[Ends]) -> Vec<Line> {
    named(ends).into_iter().map(|name| Line::of(STRONG, name)).collect()
}

/// What opens and closes; with signs where one line has both.
fn ports(line: &ConnectionChange) -> Vec<Line> {
    let families =
        if line.partial { format!(" over {}", line.families.join(" and ")) } else { String::new() };
    let both = line.change == Becomes::Changed;
    let listed = |sign: &str, traffic: &[String]| -> Option<Line> {
        let sign = if both || sign.len() > 4 { sign } else { "" };
        (!traffic.is_empty())
            .then(|| Line::plain(format!("{sign}{}{families}", traffic.join(", "))))
    };
    [
        listed("+ ", &line.opened),
        listed("− ", &line.closed),
        listed("perhaps + ", &line.may_open),
        listed("perhaps − ", &line.may_close),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A cause in words: `shop/cart-from-web ingress[0] added: from pods app=web in shop on http/TCP`.
pub(super) fn words(cause: &Cause) -> String {
    let kind = if cause.kind == "NetworkPolicy" { "" } else { &*format!("{} ", cause.kind) };
    let field = match (cause.field.as_str(), cause.field.strip_prefix("metadata.labels.")) {
        ("", _) => String::new(),
        (_, Some(label)) => format!(" label {label}"),
        (field, None) => format!(" {field}"),
    };
    let what = match (cause.change, cause.text.is_empty()) {
        (change, true) => format!(" {change}"),
        // What the words say of a label or an address is its change.
        ("changed", false) => format!(": {}", cause.text),
        (change, false) => format!(" {change}: {}", cause.text),
    };
    format!("{kind}{}{field}{what}", cause.name)
}

fn because(cause: &Cause, old: &Layout, new: &Layout) -> Line {
    let mut line = Line::plain(words(cause));
    line.append(places(cause, old, new));
    line
}

fn places(cause: &Cause, old: &Layout, new: &Layout) -> Line {
    let place = |layout: &Layout, place: &Option<Place>| layout.place(place.as_ref());
    let (was, is) = (place(old, &cause.old), place(new, &cause.new));
    let mut line = Line::default();
    match (was.is_empty(), is.is_empty()) {
        (true, true) => return line,
        (false, true) => line.append(was),
        (true, false) => line.append(is),
        (false, false) => {
            line.append(was);
            line.push(DIM, " → ");
            line.append(is);
        }
    }
    line.between("  ", "")
}

fn workloads(out: &mut String, comparison: &Comparison, old: &Layout, new: &Layout) {
    if comparison.workloads.is_empty() {
        return;
    }
    out.push('\n');
    Line::of(HEADING, "WORKLOADS").with(DIM, "   on one side alone").write(out);
    out.push('\n');
    let mut table = Table::new(vec![
        Column::wrapping(""),
        Column::wrapping("INGRESS"),
        Column::wrapping("EGRESS"),
        Column::fixed(""),
    ]);
    for workload in &comparison.workloads {
        let (sign, style, layout) =
            if workload.change == "added" { ("+", GOOD, new) } else { ("−", BAD, old) };
        table.row(vec![
            vec![Line::of(style, format!("{sign} ")).with(STRONG, workload_name(workload))],
            vec![isolation(&workload.ingress)],
            vec![isolation(&workload.egress)],
            vec![layout.place(workload.place.as_ref())],
        ]);
    }
    table.write(out, 2, new.width);
}

/// What differs in policies without any connection to show for it.
fn policies(out: &mut String, comparison: &Comparison, old: &Layout, new: &Layout) {
    if comparison.policies.is_empty() {
        return;
    }
    out.push('\n');
    let intro = "   that differ and change no connection of the pods there are";
    Line::of(HEADING, "POLICIES").with(DIM, intro).write(out);
    out.push('\n');
    for policy in &comparison.policies {
        let mut line = because(&policy.cause, old, new);
        if policy.untold {
            line.push(DOUBT, "  its namespace has no pods on either side");
        }
        wrap(out, &line, 2, 2, new.width);
    }
}

/// `shop/report ×2 (Deployment)`.
pub(super) fn workload_name(workload: &WorkloadChange) -> String {
    end(&Ends {
        kind: workload.kind.clone(),
        name: workload.name.clone(),
        count: workload.count,
        of: workload.count,
        members: Vec::new(),
        whole: false,
    })
}

fn isolation(policies: &[String]) -> Line {
    if policies.is_empty() {
        return Line::of(DOUBT, "open");
    }
    Line::plain(format!("isolated by {}", join(policies, "and")))
}
