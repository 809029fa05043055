//! The report for programs.

use serde_json::{Value, json};

use super::{Report, Row, Target};

/// The version of the form, which changes when a field changes its meaning or goes.
const VERSION: u32 = 1;

pub(super) fn json(report: &Report) -> Value {
    let machine = &report.machine;
    json!({
        "version": VERSION,
        "quick": report.quick,
        "machine": {
            "processor": machine.processor,
            "processors": machine.processors,
            "kernel": machine.kernel,
            "iptables": machine.iptables,
            "ipset": machine.ipset,
        },
        "rows": report.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    let target = row.target.map(|target| match target {
        Target::AtMost(figure) => json!({"atMost": rounded(figure)}),
        Target::AtLeast(figure) => json!({"atLeast": rounded(figure)}),
    });
    let verdict = row.verdict().to_string().to_lowercase();
    json!({
        "group": row.group,
        "title": row.title,
        "backend": row.backend.map(|_| row.backend_word()),
        "unit": row.unit.name(),
        "figure": rounded(row.figure),
        "quartiles": row.spread.map(|(low, high)| [rounded(low), rounded(high)]),
        "control": row.control.map(rounded),
        "target": target,
        "verdict": if verdict.is_empty() { Value::Null } else { verdict.into() },
        "against": row.against,
        "absolute": row.absolute,
    })
}

/// As many digits as mean something.
fn rounded(figure: f64) -> f64 {
    (figure * 10_000.0).round() / 10_000.0
}
