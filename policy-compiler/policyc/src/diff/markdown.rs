//! A comparison as a short table for the comments of a pull request.

use std::fmt::Write as _;

use crate::answer::Place;
use crate::text::join;

use super::answer::{Becomes, Comparison, ConnectionChange};
use super::cause::Cause;
use super::text;

/// How many lines are shown: a comment is read at a glance, or not at all.
const SHOWN: usize = 30;

/// `comparison` in the dialect of Markdown that code hosts have.
#[must_use]
pub(super) fn markdown(comparison: &Comparison) -> String {
    let title = format!("**policyc diff** {} → {}", code(&comparison.old), code(&comparison.new));
    let mut out = format!("{title}: {}\n", text::summary(comparison));
    if !comparison.connections.is_empty() {
        out.push_str("\n| | From | To | Port | Because |\n| --- | --- | --- | --- | --- |\n");
        for line in comparison.connections.iter().take(SHOWN) {
            out.push_str(&row(line));
        }
        if let Some(more @ 1..) = comparison.connections.len().checked_sub(SHOWN) {
            // Writing to a String does not fail.
            let _ = write!(
                out,
                "\n…and {more} lines more; see `policyc diff` without `-o markdown`.\n"
            );
        }
    }
    if !comparison.workloads.is_empty() {
        let of = |change: &str| -> Vec<String> {
            let workloads = comparison.workloads.iter().filter(|w| w.change == change);
            workloads.map(|w| code(&text::workload_name(w))).collect()
        };
        out.push('\n');
        for (change, intro) in [("added", "New workloads"), ("removed", "Workloads gone")] {
            let names = of(change);
            if !names.is_empty() {
                let _ = write!(out, "{intro}: {}. ", names.join(", "));
            }
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    if !comparison.policies.is_empty() {
        let causes: Vec<String> = comparison.policies.iter().map(|p| because(&p.cause)).collect();
        let _ =
            write!(out, "\nDiffering without an effect on these pods: {}.\n", causes.join("; "));
    }
    for note in &comparison.notes {
        let _ = write!(out, "\n{note}\n");
    }
    out
}

fn row(line: &ConnectionChange) -> String {
    let becomes = match line.change {
        Becomes::Opened => "**opened**",
        Becomes::Closed => "**closed**",
        Becomes::Changed => "**changed**",
        Becomes::Unknown => "*cannot tell*",
    };
    let ends = |ends| {
        let names: Vec<String> = text::named(ends).iter().map(|name| code(name)).collect();
        names.join("<br>")
    };
    let mut ports = Vec::new();
    for (sign, traffic) in [
        ("+", &line.opened),
        ("−", &line.closed),
        ("perhaps +", &line.may_open),
        ("perhaps −", &line.may_close),
    ] {
        if !traffic.is_empty() {
            let over = if line.partial {
                format!(" over {}", line.families.join(", "))
            } else {
                String::new()
            };
            ports.push(format!("{sign} {}{over}", traffic.join(", ")));
        }
    }
    let causes: Vec<String> = line.causes.iter().map(because).collect();
    let cells = [
        becomes.to_owned(),
        ends(&line.from),
        ends(&line.to),
        ports.join("<br>"),
        causes.join("<br>"),
    ];
    format!("| {} |\n", cells.join(" | "))
}

fn because(cause: &Cause) -> String {
    let places: Vec<String> =
        [&cause.old, &cause.new].into_iter().flatten().filter_map(place).collect();
    let places =
        if places.is_empty() { String::new() } else { format!(" ({})", join(&places, "→")) };
    format!("{}{places}", plain(&text::words(cause)))
}

fn place(place: &Place) -> Option<String> {
    let line = place.line?;
    Some(code(&format!("{}:{line}", place.file)))
}

/// Text that Markdown takes as it is: a name in a manifest must not become a link or a mention.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Text in the font of code, whatever it is made of.
fn code(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    format!("`{}`", text.replace('`', "'").replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::answer::{Ends, PolicyChange, Summary, WorkloadChange};
    use crate::answer::Certainty;

    fn pod(name: &str) -> Ends {
        let (kind, name) = ("Pod".to_owned(), name.to_owned());
        Ends { kind, members: vec![name.clone()], name, count: 1, of: 1, whole: false }
    }

    fn cause(line: u32) -> Cause {
        let place = Place { file: "a|b.yaml".to_owned(), line: Some(line), column: Some(1) };
        Cause {
            kind: "NetworkPolicy".to_owned(),
            name: "x/p".to_owned(),
            field: "ingress[0]".to_owned(),
            change: "changed",
            text: "from: + @all".to_owned(),
            old: None,
            new: Some(place),
        }
    }

    fn change(n: u32) -> ConnectionChange {
        ConnectionChange {
            change: Becomes::Opened,
            from: vec![pod("x/a"), pod(&format!("x/b{n}"))],
            to: vec![pod("x/c")],
            families: vec!["IPv4".to_owned()],
            partial: false,
            opened: vec!["80/TCP".to_owned(), "icmp".to_owned()],
            closed: Vec::new(),
            may_open: Vec::new(),
            may_close: Vec::new(),
            certainty: Certainty::Specified,
            undefined: Vec::new(),
            causes: vec![cause(n)],
        }
    }

    fn comparison(connections: Vec<ConnectionChange>) -> Comparison {
        Comparison {
            old: "old".to_owned(),
            new: "new".to_owned(),
            summary: Summary { opened: connections.len(), ..Summary::default() },
            connections,
            workloads: Vec::new(),
            policies: Vec::new(),
            doubtful: false,
            notes: Vec::new(),
        }
    }

    #[test]
    fn what_is_not_known_and_what_has_no_effect_are_told_apart_from_what_changes() {
        let unknown = ConnectionChange {
            change: Becomes::Unknown,
            partial: true,
            opened: Vec::new(),
            may_open: vec!["81/TCP".to_owned()],
            may_close: vec!["82/TCP".to_owned()],
            ..change(8)
        };
        let workload = |change, name: &str| WorkloadChange {
            change,
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
            count: 2,
            ingress: Vec::new(),
            egress: Vec::new(),
            place: None,
        };
        let mut all = comparison(vec![change(7), unknown]);
        all.workloads = vec![workload("removed", "x/gone"), workload("removed", "x/away")];
        all.policies = vec![PolicyChange { cause: cause(9), untold: false }];
        assert_eq!(
            markdown(&all),
            "**policyc diff** `old` → `new`: 2 connections open.\n\n\
             | | From | To | Port | Because |\n| --- | --- | --- | --- | --- |\n\
             | **opened** | `x/a`<br>`x/b7` | `x/c` | + 80/TCP, icmp | x/p ingress\\[0\\]: from: + &#64;all \
             (`a\\|b.yaml:7`) |\n\
             | *cannot tell* | `x/a`<br>`x/b8` | `x/c` | perhaps + 81/TCP over IPv4<br>perhaps − 82/TCP over \
             IPv4 | x/p ingress\\[0\\]: from: + &#64;all (`a\\|b.yaml:8`) |\n\n\
             Workloads gone: `x/gone ×2 (Deployment)`, `x/away ×2 (Deployment)`.\n\n\
             Differing without an effect on these pods: x/p ingress\\[0\\]: from: + &#64;all \
             (`a\\|b.yaml:9`).\n"
        );
    }

    #[test]
    fn of_many_lines_the_first_are_shown_and_the_others_counted() {
        let shown = |n| markdown(&comparison((0..n).map(change).collect()));
        assert_eq!(shown(30).matches("**opened**").count(), 30);
        assert!(!shown(30).contains("more"));
        let many = shown(32);
        assert_eq!(many.matches("**opened**").count(), 30);
        assert!(
            many.ends_with("\n\n…and 2 lines more; see `policyc diff` without `-o markdown`.\n")
        );
    }

    #[test]
    fn what_a_file_is_called_stays_in_its_cell() {
        assert_eq!(code("a|b`c\n"), "`a\\|b'c `");
        assert_eq!(plain("a|b <c> [d](e) @f *g*"), "a\\|b &lt;c&gt; \\[d\\](e) &#64;f \\*g\\*");
    }
}
