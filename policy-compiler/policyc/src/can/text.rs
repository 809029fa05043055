//! An answer about a connection as text.

use crate::answer::{Certainty, Outcome};
use crate::text::{
    BAD, Column, DIM, DOUBT, GOOD, HEADING, Layout, Line, PLAIN, STRONG, Table, join, wrap,
};

use super::{Answer, Change, Connection, HalfAnswer, PolicyAnswer, RuleAnswer, bare};

/// Whether the same is to be said of two pairs of ends.
fn agree(a: &Answer, b: &Answer) -> bool {
    a.families == b.families && bare(a) == bare(b)
}

/// The answer; pairs of ends for which the same is to be said are shown together.
#[must_use]
pub fn text(connection: &Connection, layout: &Layout) -> String {
    let mut alike: Vec<Vec<&Answer>> = Vec::new();
    for answer in &connection.answers {
        match alike.iter_mut().find(|group| group.iter().any(|known| agree(known, answer))) {
            Some(group) => group.push(answer),
            None => alike.push(vec![answer]),
        }
    }
    let mut out = String::new();
    for (i, group) in alike.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        answers(&mut out, group, connection, layout);
    }
    if !connection.notes.is_empty() {
        out.push('\n');
    }
    for note in &connection.notes {
        let line = Line::of(HEADING, "note: ").with(PLAIN, note);
        wrap(&mut out, &line, 0, 4, layout.width);
    }
    if alike.len() > 1 {
        out.push('\n');
        summary(&mut out, connection, layout.width);
    }
    out
}

/// At most this many pairs of ends are named where many fare alike.
const NAMED: usize = 6;

fn answers(out: &mut String, alike: &[&Answer], connection: &Connection, layout: &Layout) {
    let Some(first) = alike.first() else { return };
    for answer in alike.iter().take(NAMED) {
        let mut line = Line::of(STRONG, &answer.from).with(PLAIN, " → ").with(STRONG, &answer.to);
        line.push(PLAIN, format!("   {}", answer.traffic));
        line.push(DIM, format!("   {}", join(&answer.families, "and")));
        wrap(out, &line, 0, 4, layout.width);
    }
    if alike.len() > NAMED {
        let more = alike.len() - NAMED;
        wrap(out, &Line::plain(format!("and {more} more pairs alike")), 0, 4, layout.width);
    }
    let same = |end: fn(&Answer) -> &String| alike.iter().all(|a| end(a) == end(first));
    let from = if same(|a| &a.from) { &first.from } else { &connection.from };
    let to = if same(|a| &a.to) { &first.to } else { &connection.to };
    out.push('\n');
    half(out, "EGRESS", from, &first.egress, layout);
    out.push('\n');
    half(out, "INGRESS", to, &first.ingress, layout);
    out.push('\n');
    let mut told: Vec<&Change> = first.changes.iter().collect();
    // Addresses outside fare alike and may still need different rules to be changed.
    for change in alike.iter().filter(|a| !a.networks.is_empty()).flat_map(|a| &a.changes) {
        if !told.iter().any(|known| known.text == change.text) {
            told.push(change);
        }
    }
    verdict(out, first, (from, to), &told, layout);
}

/// One end's part: what selects it, and what each rule says.
pub fn half(out: &mut String, title: &str, end: &str, half: &HalfAnswer, layout: &Layout) {
    let mut line = mark(half.decision);
    line.push(HEADING, format!(" {title}"));
    line.push(PLAIN, " of ");
    line.push(STRONG, end);
    line.push(PLAIN, format!("  {}", half.summary));
    wrap(out, &line, 0, 4, layout.width);
    let columns = vec![Column::fixed(""), Column::wrapping(""), Column::wrapping("")];
    let mut table = Table::new(columns);
    // Where something else decides, what the policies would say is beside the point.
    let policed = matches!(half.because, "ruleAllows" | "noRuleAllows" | "ruleMayAllow");
    for policy in half.policies.iter().filter(|_| policed) {
        policy_rows(&mut table, policy, "", layout);
    }
    let audited = policed || half.because == "notIsolated";
    for audit in half.audits.iter().filter(|_| audited) {
        policy_rows(&mut table, &audit.policy, " (audit only)", layout);
    }
    table.write(out, 2, layout.width);
}

fn policy_rows(table: &mut Table, policy: &PolicyAnswer, note: &str, layout: &Layout) {
    let mut selector = Line::plain(match policy.pod_selector.as_str() {
        "" => "podSelector {}".to_owned(),
        selector => format!("podSelector {selector}"),
    });
    if policy.rules.is_empty() {
        selector.push(DIM, "   no rules");
    }
    let mut name = mark(policy.decision);
    name.push(PLAIN, " ");
    name.push(STRONG, &policy.policy);
    name.push(DOUBT, note);
    table.row(vec![vec![name], vec![selector], vec![layout.place(policy.place.as_ref())]]);
    for rule in &policy.rules {
        rule_rows(table, rule, layout);
    }
}

fn rule_rows(table: &mut Table, rule: &RuleAnswer, layout: &Layout) {
    let note = match &rule.invalid {
        Some(reason) => Line::of(BAD, format!("invalid, allows nothing: {reason}")),
        None => Line::default(),
    };
    let name = indented(2, rule.decision, &rule.rule);
    table.row(vec![vec![name], vec![note], vec![layout.place(rule.place.as_ref())]]);
    if rule.invalid.is_some() {
        return;
    }
    if rule.peers.is_empty() {
        let field = if rule.rule.starts_with('i') { "from" } else { "to" };
        let name = indented(4, Outcome::Allowed, field);
        table.row(vec![vec![name], vec![Line::plain("everybody: the rule names no peers")]]);
    }
    for peer in &rule.peers {
        let what = meaning(&peer.means, &peer.reason, peer.decision);
        let name = indented(4, peer.decision, &peer.peer);
        table.row(vec![vec![name], vec![what], vec![layout.place(peer.place.as_ref())]]);
    }
    if rule.ports.is_empty() {
        let name = indented(4, Outcome::Allowed, "ports");
        table.row(vec![vec![name], vec![Line::plain("any: the rule names no ports")]]);
    }
    for port in &rule.ports {
        let what = meaning(&port.means, &port.reason, port.decision);
        let name = indented(4, port.decision, &port.port);
        table.row(vec![vec![name], vec![what], vec![layout.place(port.place.as_ref())]]);
    }
}

/// What a peer or port means, and why that is so or not here.
fn meaning(means: &str, reason: &str, decision: Outcome) -> Line {
    let mut line = Line::plain(means);
    if !reason.is_empty() {
        let style = match decision {
            Outcome::Allowed => DIM,
            Outcome::Denied => BAD,
            Outcome::Partly | Outcome::Unknown => DOUBT,
        };
        line.push(style, format!(" — {reason}"));
    }
    line
}

fn indented(by: usize, decision: Outcome, text: &str) -> Line {
    let mut line = Line::plain(" ".repeat(by));
    let (style, sign) = sign(decision);
    line.push(style, sign);
    line.push(PLAIN, format!(" {text}"));
    line
}

fn mark(decision: Outcome) -> Line {
    let (style, sign) = sign(decision);
    Line::of(style, sign)
}

fn sign(decision: Outcome) -> (anstyle::Style, &'static str) {
    match decision {
        Outcome::Allowed => (GOOD, "✓"),
        Outcome::Denied => (BAD, "✗"),
        Outcome::Partly | Outcome::Unknown => (DOUBT, "?"),
    }
}

fn verdict(
    out: &mut String,
    answer: &Answer,
    ends: (&str, &str),
    changes: &[&Change],
    layout: &Layout,
) {
    let mut line = word(answer.decision);
    line.push(PLAIN, said(answer, ends));
    let certainty = match answer.certainty {
        Certainty::Specified => "specified",
        Certainty::Undefined => "undefined",
    };
    line.push(DIM, format!("  certainty: {certainty}"));
    wrap(out, &line, 0, 4, layout.width);
    for ruling in &answer.rulings {
        let line = Line::of(DOUBT, "Rests on").with(PLAIN, format!(": {}", ruling.explanation));
        wrap(out, &line, 0, 4, layout.width);
    }
    for (direction, end, half) in
        [("egress", ends.0, &answer.egress), ("ingress", ends.1, &answer.ingress)]
    {
        // One that would say the same is nothing to speak of.
        for audit in half.audits.iter().filter(|audit| audit.enforced != half.decision) {
            let would = match audit.enforced {
                Outcome::Allowed => "would allow",
                Outcome::Denied => "would deny",
                Outcome::Partly | Outcome::Unknown => "may deny",
            };
            let line =
                Line::of(DOUBT, "audit").with(PLAIN, ": ").with(STRONG, &audit.policy.policy);
            let line = line.with(PLAIN, format!(" {would} this, at the {direction} of {end}"));
            wrap(out, &line, 0, 4, layout.width);
        }
    }
    for change in changes {
        let mut line = Line::of(STRONG, "To allow it").with(PLAIN, ": ");
        line.push(PLAIN, &change.text);
        if change.place.is_some() {
            line.push(PLAIN, "  ");
            line.append(layout.place(change.place.as_ref()));
        }
        wrap(out, &line, 0, 4, layout.width);
    }
}

fn word(decision: Outcome) -> Line {
    match decision {
        Outcome::Allowed => Line::of(GOOD.bold(), "ALLOWED"),
        Outcome::Denied => Line::of(BAD.bold(), "DENIED"),
        Outcome::Partly => Line::of(DOUBT.bold(), "PARTLY ALLOWED"),
        Outcome::Unknown => Line::of(DOUBT.bold(), "CANNOT TELL"),
    }
}

/// Reasons that count whatever the policies say.
const OVERRULES: [&str; 3] = ["ownNode", "itself", "neighbourDiscovery"];

/// By whom, in a few words.
fn said(answer: &Answer, (from, to): (&str, &str)) -> String {
    let halves = [("egress", from, &answer.egress), ("ingress", to, &answer.ingress)];
    match answer.decision {
        Outcome::Allowed => {
            let rules: Vec<String> =
                halves.iter().filter_map(|(.., half)| allowing(half)).collect();
            let overruling = halves.iter().find(|(.., half)| OVERRULES.contains(&half.because));
            match (rules.as_slice(), overruling) {
                ([], Some((.., half))) => format!(": {}", half.summary),
                ([], None) => ": no policy is in the way".to_owned(),
                (rules, _) => format!(" by {}", join(rules, "and")),
            }
        }
        decision => {
            let deciding: Vec<String> = halves
                .iter()
                .filter(|(_, _, half)| half.decision == decision)
                .map(|(direction, end, _)| format!("the {direction} of {end}"))
                .collect();
            let by = if decision == Outcome::Denied { "by" } else { "at" };
            format!(" {by} {}", join(&deciding, "and"))
        }
    }
}

/// The first rule that allows, with its policy.
fn allowing(half: &HalfAnswer) -> Option<String> {
    if half.because != "ruleAllows" {
        return None;
    }
    half.policies.iter().find_map(|policy| {
        let rule = policy.rules.iter().find(|rule| rule.decision == Outcome::Allowed)?;
        Some(format!("{} {}", policy.policy, rule.rule))
    })
}

fn summary(out: &mut String, connection: &Connection, width: usize) {
    let mut line = word(connection.decision);
    line.push(PLAIN, " in all: ");
    let each = connection.answers.iter().map(|answer| {
        let decision = match answer.decision {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Partly => "partly",
            Outcome::Unknown => "cannot tell",
        };
        (decision, answer)
    });
    let mut parts = Vec::new();
    for wanted in ["allowed", "denied", "cannot tell"] {
        let n = each.clone().filter(|(decision, _)| *decision == wanted).count();
        if n > 0 {
            parts.push(format!("{n} {wanted}"));
        }
    }
    line.push(PLAIN, parts.join(", "));
    wrap(out, &line, 0, 4, width);
}
