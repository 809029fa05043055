//! The table for the README: what was measured beside what it should be.

use std::fmt::Write as _;

use super::{Report, Row, Verdict};

/// The rows as a table of Markdown.
pub(super) fn markdown(report: &Report) -> String {
    let mut text =
        "| figure | this run | target | missed? |\n| --- | --- | --- | --- |\n".to_owned();
    for row in &report.rows {
        let [title, run, target, verdict] = cells(row).map(|cell| cell.replace('|', "\\|"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {title} | {run} | {target} | {verdict} |");
    }
    text
}

fn cells(row: &Row) -> [String; 4] {
    let title = match row.backend_word() {
        "" => row.title.trim().to_owned(),
        backend => format!("{}, {backend}", row.title.trim()),
    };
    let against = match row.against.as_str() {
        "" => title,
        against => format!("{title}, against {against}"),
    };
    let verdict = match row.verdict() {
        Verdict::Met => "no".to_owned(),
        Verdict::Missed => "**missed**".to_owned(),
        Verdict::Unproven => match row.control {
            Some(control) => format!("unproven: control {control:.3}"),
            None => "unproven".to_owned(),
        },
        Verdict::Shown => String::new(),
    };
    let target = row.target.map(|target| target.show(row.unit)).unwrap_or_default();
    [against, row.unit.show(row.figure), target, verdict]
}
