//! An explanation as text.

use crate::answer::Warning;
use crate::phrase::{ADDED_LABELS, Group};
use crate::text::{
    BAD, Column, DIM, DOUBT, GOOD, HEADING, Layout, Line, PLAIN, STRONG, Table, count, join, wrap,
};

use super::{Allowance, NearMiss, PeerGrant, PodExplanation, PodSummary, PolicySummary, Side};

/// The explanations; pods for which the same is to be said are explained together.
#[must_use]
pub fn text(explanations: &[PodExplanation], layout: &Layout) -> String {
    let mut alike: Vec<(String, Vec<&PodSummary>)> = Vec::new();
    for explanation in explanations {
        let body = body(explanation, layout);
        match alike.iter_mut().find(|(known, _)| *known == body) {
            Some((_, pods)) => pods.push(&explanation.pod),
            None => alike.push((body, vec![&explanation.pod])),
        }
    }
    let text = |(body, pods): &(String, Vec<&PodSummary>)| {
        let headers: String = pods.iter().map(|pod| header(pod, layout)).collect();
        format!("{headers}\n{body}")
    };
    alike.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Everything but the pod itself.
fn body(explanation: &PodExplanation, layout: &Layout) -> String {
    let mut out = String::new();
    if let Some(exempt) = &explanation.exempt {
        let line = Line::of(DOUBT, "This pod ").with(DOUBT, format!("{exempt}."));
        wrap(&mut out, &line, 0, 2, layout.width);
    } else {
        side(&mut out, "INGRESS", "FROM", &explanation.ingress, layout);
        out.push('\n');
        side(&mut out, "EGRESS", "TO", &explanation.egress, layout);
    }
    notes(&mut out, explanation, layout);
    out
}

/// The pod in a line or, where that is too long, several that break between its parts.
fn header(pod: &PodSummary, layout: &Layout) -> String {
    let name = Line::of(STRONG, format!("{}/{}", pod.namespace, pod.name));
    let mut first = Line::plain(if pod.template { "Pods of " } else { "Pod " });
    first.append(name);
    if let (true, Some(workload)) = (pod.template, &pod.workload) {
        first.push(PLAIN, format!(" ×{} ({})", workload.replicas, workload.kind));
    }
    let labels = pod.labels.iter().filter(|(key, _)| !ADDED_LABELS.contains(&key.as_str()));
    let labels = labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")));
    let ports = pod.ports.iter().map(|port| match &port.name {
        Some(name) => format!("{name}={}/{}", port.port, port.protocol),
        None => format!("{}/{}", port.port, port.protocol),
    });
    let facts = [
        pod.addresses.join(" "),
        pod.node.clone().unwrap_or_default(),
        if pod.template { String::new() } else { pod.phase.to_owned() },
        labels.collect::<Vec<_>>().join(","),
        ports.collect::<Vec<_>>().join(" "),
    ];
    let mut out = String::new();
    let mut line = first;
    for part in facts.into_iter().filter(|part| !part.is_empty()) {
        let part = Line::plain(format!("   {part}"));
        if line.width() + part.width() > layout.width {
            wrap(&mut out, &std::mem::take(&mut line), 0, 4, layout.width);
            line.push(PLAIN, " ");
        }
        line.append(part);
    }
    wrap(&mut out, &line, 0, 4, layout.width);
    out
}

fn side(out: &mut String, title: &'static str, peers: &'static str, side: &Side, layout: &Layout) {
    let style = if side.isolated { PLAIN } else { DIM };
    let line = Line::of(HEADING, title).with(PLAIN, "  ").with(style, &side.summary);
    wrap(out, &line, 0, 9, layout.width);
    if side.isolated {
        policies(out, &side.policies, layout);
    }
    if !side.audits.is_empty() {
        let line = Line::of(DOUBT, "audit only").with(DIM, ", which neither isolates nor allows:");
        wrap(out, &line, 2, 4, layout.width);
        policies(out, &side.audits, layout);
    }
    if !side.isolated {
        return;
    }
    out.push('\n');
    allowances(out, peers, side, layout);
    out.push('\n');
    otherwise(out, side, layout);
}

fn policies(out: &mut String, policies: &[PolicySummary], layout: &Layout) {
    let mut table = Table::new(vec![
        Column::wrapping(""),
        Column::wrapping(""),
        Column::fixed(""),
        Column::wrapping(""),
    ]);
    for policy in policies {
        let selector = match policy.pod_selector.as_str() {
            "" => "podSelector {}".to_owned(),
            selector => format!("podSelector {selector}"),
        };
        let mut rules = Line::plain(match policy.rules {
            0 => "no rules".to_owned(),
            n => count(n, "rule", "rules"),
        });
        if policy.invalid_rules > 0 {
            rules.push(BAD, format!(", {} invalid", policy.invalid_rules));
        }
        table.row(vec![
            vec![Line::of(STRONG, &policy.policy)],
            vec![Line::plain(selector)],
            vec![rules],
            vec![layout.place(policy.place.as_ref())],
        ]);
    }
    table.write(out, 2, layout.width);
}

fn allowances(out: &mut String, peers: &'static str, side: &Side, layout: &Layout) {
    let beside = allowance_table(peers, side, layout, true);
    let fits = beside.natural_width() + 2 <= layout.width;
    let table = if fits { beside } else { allowance_table(peers, side, layout, false) };
    table.write(out, 2, layout.width);
}

/// The table of what is allowed, with notes in a column of their own or below what they are about.
fn allowance_table(peers: &'static str, side: &Side, layout: &Layout, notes_beside: bool) -> Table {
    let mut table = Table::new(vec![
        Column::wrapping(peers),
        Column::wrapping("PORT"),
        Column::wrapping("BECAUSE"),
        Column::fixed(""),
        Column::fixed(""),
    ]);
    for allowance in &side.allowed {
        for row in allowance_rows(allowance, layout, notes_beside) {
            table.row(row);
        }
    }
    table
}

/// The rows for one rule: one, with peers and ports each below each other, or where that would pair
/// the one with the other a row a peer, each with all ports.
fn allowance_rows(
    allowance: &Allowance,
    layout: &Layout,
    notes_beside: bool,
) -> Vec<Vec<Vec<Line>>> {
    let mut peers: Vec<(Vec<Line>, Vec<Line>)> = Vec::new();
    for (mut lines, mut notes) in allowance.peers.iter().map(peer) {
        if !notes_beside {
            lines.extend(notes.drain(..).map(|note| note.between("  (", ")")));
        }
        lines.resize(lines.len().max(notes.len()), Line::default());
        notes.resize(lines.len(), Line::default());
        peers.push((lines, notes));
    }
    let named: usize = allowance.peers.iter().map(|grant| peer(grant).0.len()).sum();
    let apart = named > 1 && allowance.ports.len() > 1;
    let ports: Vec<Line> = if apart {
        let texts: Vec<&str> = allowance.ports.iter().map(|port| port.text.as_str()).collect();
        vec![Line::plain(texts.join(", "))]
    } else {
        peers = vec![peers.into_iter().fold((Vec::new(), Vec::new()), |(mut l, mut n), (a, b)| {
            l.extend(a);
            n.extend(b);
            (l, n)
        })];
        allowance.ports.iter().map(|port| Line::plain(&port.text)).collect()
    };
    let place = layout.place(allowance.place.as_ref());
    let row = |(i, (who, notes)): (usize, (Vec<Line>, Vec<Line>))| {
        let first = |line: Line| if i == 0 { vec![line] } else { Vec::new() };
        vec![who, ports.clone(), first(because(allowance)), first(place.clone()), notes]
    };
    peers.into_iter().enumerate().map(row).collect()
}

fn because(allowance: &Allowance) -> Line {
    match (&allowance.policy, &allowance.rule) {
        (Some(policy), Some(rule)) => {
            let short = policy.split_once('/').map_or(policy.as_str(), |(_, name)| name);
            Line::plain(format!("{short} {rule}"))
        }
        _ => Line::of(DIM, "always"),
    }
}

/// At most this many workloads are named where a peer means many.
const NAMED: usize = 4;

/// Whom a peer means, one line each, and what is to be noted about it.
fn peer(peer: &PeerGrant) -> (Vec<Line>, Vec<Line>) {
    let (lines, note) = whom(peer);
    let denied = peer.denied_by_peer.iter().map(|refusal| Line::of(DOUBT, &refusal.text));
    let notes = [note].into_iter().chain(denied).filter(|note| !note.is_empty());
    (lines, notes.collect())
}

fn whom(peer: &PeerGrant) -> (Vec<Line>, Line) {
    let pods: u32 = peer.pods.iter().map(|group| group.count).sum();
    let family = match &peer.only {
        Some(family) => Line::of(DIM, format!("{family} only")),
        None => Line::default(),
    };
    match (peer.kind, peer.pods.as_slice()) {
        ("pods", []) if !peer.on_host_network.is_empty() => {
            let bound: Vec<String> = peer.on_host_network.iter().map(Group::short).collect();
            let note = format!("{} does not count: hostNetwork", join(&bound, "and"));
            (vec![Line::plain(&peer.means)], Line::of(DOUBT, note))
        }
        ("pods", []) => (vec![Line::plain(&peer.means)], Line::of(DOUBT, "no such pod today")),
        ("pods", groups) if groups.len() <= NAMED && !peer.means.starts_with("every pod") => {
            (groups.iter().map(|group| Line::plain(group.text())).collect(), family)
        }
        ("pods", _) => {
            let count = count(usize::try_from(pods).unwrap_or(usize::MAX), "pod", "pods");
            (vec![Line::plain(format!("{} ({count})", peer.means))], family)
        }
        ("ipBlock", groups) if !groups.is_empty() => {
            let inside: Vec<String> = groups.iter().take(2).map(Group::short).collect();
            let more = if groups.len() > 2 { " and more" } else { "" };
            let joint = if more.is_empty() { "and" } else { "," };
            let note = format!("includes {}{more}", join(&inside, joint).replace(" ,", ","));
            (vec![Line::plain(&peer.means)], Line::of(DIM, note))
        }
        _ => (vec![Line::plain(&peer.means)], family),
    }
}

fn otherwise(out: &mut String, side: &Side, layout: &Layout) {
    let open = side.allowed.iter().find(|allowance| {
        allowance.peers.iter().any(|peer| peer.kind == "everyone")
            && allowance.ports.iter().any(|port| port.means == "any")
    });
    if let Some(open) = open {
        let mut line = Line::of(GOOD, "Everything is allowed").with(PLAIN, " by ");
        line.append(because(open));
        line.push(PLAIN, ".");
        wrap(out, &line, 2, 2, layout.width);
        return;
    }
    let mut line = Line::of(BAD, "Everything else is dropped.");
    if let Some(miss) = side.near_misses.first() {
        line.append(near(" Nearest miss: ", miss, layout));
    }
    wrap(out, &line, 2, 2, layout.width);
    let more = side.near_misses.iter().skip(1).filter(|miss| miss.kind == "port").take(2);
    for miss in more {
        wrap(out, &near("Wrong port? ", miss, layout), 2, 2, layout.width);
    }
}

fn near(intro: &str, miss: &NearMiss, layout: &Layout) -> Line {
    let mut line = Line::plain(format!("{intro}{}.", miss.text));
    if miss.place.is_some() {
        line.push(PLAIN, "  ");
        line.append(layout.place(miss.place.as_ref()));
    }
    line
}

fn notes(out: &mut String, explanation: &PodExplanation, layout: &Layout) {
    if !explanation.rulings.is_empty() {
        out.push('\n');
        for ruling in &explanation.rulings {
            let line = Line::of(DOUBT, "undefined: ")
                .with(PLAIN, ruling.explanation)
                .with(DIM, " (the specification leaves this open; others may differ)");
            wrap(out, &line, 0, 2, layout.width);
        }
    }
    // Standard error has shown the others with their source lines.
    let own: Vec<&Warning> = explanation.warnings.iter().filter(|w| !w.reported).collect();
    if !own.is_empty() {
        out.push('\n');
        for warning in own {
            warn(out, warning, layout);
        }
    }
}

fn warn(out: &mut String, warning: &Warning, layout: &Layout) {
    let style = match warning.severity {
        "error" => BAD,
        "warning" => DOUBT,
        _ => HEADING,
    };
    let mut line = Line::of(style, format!("{}: ", warning.severity));
    line.push(PLAIN, &warning.message);
    if let Some(help) = &warning.help {
        line.push(PLAIN, format!("; {help}"));
    }
    if warning.place.is_some() {
        line.push(PLAIN, "  ");
        line.append(layout.place(warning.place.as_ref()));
    }
    wrap(out, &line, 0, 2, layout.width);
}
