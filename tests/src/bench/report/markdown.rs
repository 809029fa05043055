//! The table for the README: what was measured beside what it should be, then what was missed.

use std::fmt::Write as _;

use super::{Report, Row, Verdict};

/// The rows as a table of Markdown.
pub(super) fn markdown(report: &Report) -> String {
    let mut text =
        "| figure | this run | quartiles | control | target |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for row in &report.rows {
        let cells = cells(row).map(|cell| cell.replace('|', "\\|"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    let machine = &report.machine;
    let _ = writeln!(
        text,
        "\n{}, {} processors, kernel {}, iptables {}, ipset {}.",
        machine.processor, machine.processors, machine.kernel, machine.iptables, machine.ipset
    );
    for (verdict, words) in [
        (Verdict::Missed, "Missed"),
        (Verdict::Unproven, "Not proven, for the machine was not at rest"),
    ] {
        let named = report.named(verdict);
        if !named.is_empty() {
            let _ = writeln!(text, "\n{words}: {}.", named.join("; ").replace('|', "\\|"));
        }
    }
    text
}

fn cells(row: &Row) -> [String; 5] {
    let title = if row.title.starts_with(' ') { format!("↳ {}", row.name()) } else { row.name() };
    let title = match (row.against.as_str(), row.absolute.as_str()) {
        ("", "") => title,
        ("", absolute) => format!("{title} ({absolute})"),
        (against, "") => format!("{title}, against {against}"),
        (against, absolute) => format!("{title}, against {against} ({absolute})"),
    };
    let target = row.target.map(|target| target.show(row.unit)).unwrap_or_default();
    let target = match row.verdict() {
        Verdict::Missed => format!("**missed:** {target}"),
        Verdict::Unproven => format!("not proven: {target}"),
        Verdict::Met | Verdict::Shown => target,
    };
    let spread = row.spread.map(|(low, high)| {
        let unit = row.unit;
        format!("{} .. {}", unit.show(low), unit.show(high))
    });
    let control = row.control.map(|control| format!("{control:.3}"));
    let figure = row.unit.show(row.figure);
    [title, figure, spread.unwrap_or_default(), control.unwrap_or_default(), target]
}
