//! `policyd status` in words.

use anstyle::Style;

use super::layout::{Cell, Table, count, counted, duration, paragraph, put, visible};
use super::{BAD, DIM, DOUBT, GOOD, STRONG};
use crate::agent::status::{Counts, FailingPolicy, FamilyStatus, PodStatus, SourcePart, Status};
use crate::dataplane::FamilyState;

/// The status in lines no wider than `width`.
#[must_use]
pub fn text(status: &Status, width: usize) -> String {
    let mut out = String::new();
    put(&mut out, STRONG, &visible(&status.node));
    let (style, word) = if status.ready { (GOOD, "ready") } else { (BAD, "not ready") };
    out.push_str(": ");
    put(&mut out, style, word);
    out.push('\n');
    paragraph(&mut out, "", Style::new(), &about(status), width);
    list(&mut out, BAD, "not ready because", &status.reasons, width);
    list(&mut out, DOUBT, "worth a look", &status.notes, width);
    out.push('\n');
    if !status.source.is_empty() {
        sources(&status.source).write(&mut out, width);
        out.push('\n');
    }
    families(&status.families).write(&mut out, width);
    out.push('\n');
    paragraph(&mut out, "", Style::new(), &counts(&status.counts), width);
    if !status.pods.is_empty() {
        out.push('\n');
        pods(&status.pods).write(&mut out, width);
    }
    audited(&mut out, &status.audit_only, width);
    failing(&mut out, &status.failing_closed, width);
    out
}

fn about(status: &Status) -> String {
    let changed = status.updated_seconds_ago.map_or_else(
        || "the kernel not changed yet".to_owned(),
        |seconds| format!("the kernel last changed {} ago", duration(seconds)),
    );
    format!(
        "policyd {}, process {}, iptables-{}, up {}; {changed}",
        visible(&status.version),
        status.pid,
        visible(&status.backend),
        duration(status.uptime_seconds)
    )
}

fn list(out: &mut String, style: Style, title: &str, items: &[String], width: usize) {
    if items.is_empty() {
        return;
    }
    out.push('\n');
    put(out, style, title);
    out.push('\n');
    for item in items {
        paragraph(out, "  - ", Style::new(), &visible(item), width);
    }
}

fn sources(parts: &[SourcePart]) -> Table {
    let mut table = Table::new(&["SOURCE", "STATE"]);
    for part in parts {
        let listed = if part.listed { "listed" } else { "not listed yet" };
        let state = match (part.failing_seconds, &part.failure) {
            (None, None) => {
                let style = if part.listed { Style::new() } else { DOUBT };
                Cell::line(style, listed)
            }
            (seconds, cause) => {
                let cause = cause.as_deref().map(visible).unwrap_or_default();
                let time = duration(seconds.unwrap_or_default());
                Cell::line(BAD, format!("{listed}, failing for {time}: {cause}"))
            }
        };
        table.row(vec![Cell::line(Style::new(), visible(&part.resource)), state]);
    }
    table
}

fn families(families: &[FamilyStatus]) -> Table {
    let mut table = Table::new(&["KERNEL", "STATE", ">CHAINS", ">RULES", ">SETS", ">MEMBERS"]);
    for family in families {
        let name = Cell::line(Style::new(), visible(&family.family));
        let state = match family.state {
            FamilyState::InStep => Cell::line(GOOD, "in step"),
            FamilyState::OutOfStep => Cell::line(BAD, "out of step"),
            FamilyState::Absent => Cell::line(DIM, "this kernel has none"),
        };
        let mut row = vec![name, state];
        if family.state != FamilyState::Absent {
            let numbers = [family.chains, family.rules, family.sets, family.members];
            row.extend(numbers.map(|number| Cell::line(Style::new(), count(number))));
        }
        table.row(row);
    }
    table
}

fn counts(counts: &Counts) -> String {
    format!(
        "{}, {} and {} in the cluster; {} on this node, {} isolated for ingress and {} for egress",
        counted(counts.policies, "policy", "policies"),
        counted(counts.pods, "pod", "pods"),
        counted(counts.namespaces, "namespace", "namespaces"),
        counted(counts.local_pods, "pod", "pods"),
        count(counts.isolated_ingress),
        count(counts.isolated_egress),
    )
}

fn pods(pods: &[PodStatus]) -> Table {
    let mut table = Table::new(&["POD", "ADDRESS", "INGRESS BY", "EGRESS BY"]);
    for pod in pods {
        let mut addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        if addresses.is_empty() {
            addresses.push("none yet".to_owned());
        }
        table.row(vec![
            Cell::line(STRONG, visible(&pod.pod)),
            Cell::lines(addresses),
            isolation(&pod.ingress, &pod.audited_ingress),
            isolation(&pod.egress, &pod.audited_egress),
        ]);
    }
    table
}

/// The policies that isolate for a direction, and those that are audited only.
fn isolation(policies: &[String], audited: &[String]) -> Cell {
    let audited: Vec<String> = audited.iter().map(|name| format!("{name} (audit only)")).collect();
    if policies.is_empty() && audited.is_empty() {
        return Cell::line(DIM, "not isolated");
    }
    let mut lines = vec![policies.join(", "), audited.join(", ")];
    lines.retain(|line| !line.is_empty());
    Cell::lines(lines.iter().map(|line| visible(line)).collect())
}

/// How many policies that are audited only are named.
const AUDITED: usize = 10;

fn audited(out: &mut String, policies: &[String], width: usize) {
    if policies.is_empty() {
        return;
    }
    let mut named =
        policies.iter().take(AUDITED).map(|p| visible(p)).collect::<Vec<_>>().join(", ");
    if policies.len() > AUDITED {
        named = format!("{named} and {} more", policies.len() - AUDITED);
    }
    out.push('\n');
    paragraph(out, "audit only, not enforced: ", Style::new(), &named, width);
}

fn failing(out: &mut String, policies: &[FailingPolicy], width: usize) {
    if policies.is_empty() {
        return;
    }
    out.push('\n');
    put(out, DOUBT, "policies with mistakes, which allow less than they seem to");
    out.push('\n');
    for policy in policies {
        out.push_str("  ");
        put(out, STRONG, &visible(&policy.policy));
        out.push('\n');
        for mistake in &policy.mistakes {
            paragraph(out, "    ", Style::new(), &visible(mistake), width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            node: "n1".to_owned(),
            version: "0.1.0".to_owned(),
            pid: 812,
            backend: "nft".to_owned(),
            uptime_seconds: 11_520,
            ready: false,
            reasons: vec!["IPv6: cannot replace chains".to_owned()],
            notes: Vec::new(),
            source: vec![
                SourcePart {
                    resource: "pods".to_owned(),
                    listed: true,
                    failing_seconds: None,
                    failure: None,
                },
                SourcePart {
                    resource: "namespaces".to_owned(),
                    listed: true,
                    failing_seconds: Some(35),
                    failure: Some("refused\u{1b}[2J".to_owned()),
                },
            ],
            updated_seconds_ago: Some(12),
            counts: Counts {
                policies: 1,
                pods: 2031,
                namespaces: 3,
                local_pods: 2,
                isolated_ingress: 1,
                isolated_egress: 0,
            },
            families: vec![
                FamilyStatus {
                    family: "IPv4".to_owned(),
                    state: FamilyState::InStep,
                    chains: 34,
                    rules: 1200,
                    sets: 12,
                    members: 840,
                },
                FamilyStatus {
                    family: "IPv6".to_owned(),
                    state: FamilyState::Absent,
                    chains: 0,
                    rules: 0,
                    sets: 0,
                    members: 0,
                },
            ],
            pods: vec![
                PodStatus {
                    pod: "shop/web-0".to_owned(),
                    addresses: vec!["10.244.1.10".parse().unwrap(), "fd00::a".parse().unwrap()],
                    ingress: vec!["default-deny".to_owned(), "web".to_owned()],
                    egress: Vec::new(),
                    audited_ingress: Vec::new(),
                    audited_egress: vec!["dns-only".to_owned()],
                },
                PodStatus {
                    pod: "shop/new".to_owned(),
                    addresses: Vec::new(),
                    ingress: Vec::new(),
                    egress: Vec::new(),
                    audited_ingress: Vec::new(),
                    audited_egress: Vec::new(),
                },
            ],
            audit_only: vec!["shop/dns-only".to_owned()],
            failing_closed: vec![FailingPolicy {
                policy: "shop/bad".to_owned(),
                mistakes: vec!["error: spec.ingress[0].form: unknown field".to_owned()],
            }],
        }
    }

    #[test]
    fn a_status_shows_everything_and_nothing_can_write_on_the_terminal() {
        let text = anstream::adapter::strip_str(&text(&status(), 80)).to_string();
        assert_eq!(
            text,
            "\
n1: not ready
policyd 0.1.0, process 812, iptables-nft, up 3 h 12 min; the kernel last changed
12 s ago

not ready because
  - IPv6: cannot replace chains

SOURCE       STATE
pods         listed
namespaces   listed, failing for 35 s: refused\\u{1b}[2J

KERNEL   STATE                  CHAINS   RULES   SETS   MEMBERS
IPv4     in step                    34   1,200     12       840
IPv6     this kernel has none

1 policy, 2,031 pods and 3 namespaces in the cluster; 2 pods on this node, 1
isolated for ingress and 0 for egress

POD          ADDRESS       INGRESS BY          EGRESS BY
shop/web-0   10.244.1.10   default-deny, web   dns-only (audit only)
             fd00::a
shop/new     none yet      not isolated        not isolated

audit only, not enforced: shop/dns-only

policies with mistakes, which allow less than they seem to
  shop/bad
    error: spec.ingress[0].form: unknown field
"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [60, 80, 100] {
            let text = anstream::adapter::strip_str(&text(&status(), width)).to_string();
            let wide: Vec<&str> = text.lines().filter(|l| l.chars().count() > width).collect();
            assert_eq!(wide, [""; 0], "{width}");
        }
    }
}
