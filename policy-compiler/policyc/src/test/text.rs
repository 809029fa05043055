//! A test report as text: a line a case, and below the reasons of those that fail.

use crate::can;
use crate::text::{BAD, Column, DIM, GOOD, Layout, Line, PLAIN, STRONG, Table, count, wrap};

use super::{Failure, TestCase, TestFile, TestReport};

/// The report laid out.
pub(super) fn report(report: &TestReport, layout: &Layout) -> String {
    let mut out = String::new();
    for file in &report.files {
        self::file(&mut out, file, layout);
        out.push('\n');
    }
    let flows: usize = report.files.iter().flat_map(|f| &f.cases).map(|case| case.flows).sum();
    let mut line = if report.failed == 0 {
        Line::of(GOOD.bold(), format!("{} passed", report.passed))
    } else {
        Line::of(BAD.bold(), format!("{} failed", report.failed))
            .with(PLAIN, format!(", {} passed", report.passed))
    };
    let files = count(report.files.len(), "file", "files");
    line.push(DIM, format!("  in {files}, {}", count(flows, "flow", "flows")));
    wrap(&mut out, &line, 0, 2, layout.width);
    out
}

fn file(out: &mut String, file: &TestFile, layout: &Layout) {
    let mut line = Line::of(STRONG, &file.file);
    if let Some(description) = &file.description {
        line.push(DIM, format!("  {}", description.trim_end()));
    }
    wrap(out, &line, 0, 2, layout.width);
    for error in &file.errors {
        wrap(out, &Line::of(BAD, "✗ ").with(PLAIN, error), 2, 2, layout.width);
    }
    let mut table = Table::new(vec![Column::wrapping(""), Column::fixed("")]);
    for case in &file.cases {
        let (style, sign) = if case.passed { (GOOD, "✓") } else { (BAD, "✗") };
        let name = Line::of(style, sign).with(PLAIN, format!(" {}", case.case));
        let flows = Line::of(DIM, count(case.flows, "flow", "flows"));
        table.row(vec![vec![name], vec![flows]]);
    }
    table.write(out, 2, layout.width);
    for case in file.cases.iter().filter(|case| !case.passed) {
        out.push('\n');
        failed(out, case, layout);
    }
}

/// At most this many flows of a case are explained; the others are named.
const EXPLAINED: usize = 2;

pub(super) fn failed(out: &mut String, case: &TestCase, layout: &Layout) {
    let mut line = Line::of(BAD, "✗ ").with(STRONG, &case.case).with(PLAIN, "  ");
    line.append(layout.place(case.place.as_ref()));
    wrap(out, &line, 2, 2, layout.width);
    for (i, failure) in case.failures.iter().enumerate() {
        self::failure(out, failure, i < EXPLAINED, layout);
    }
}

fn failure(out: &mut String, failure: &Failure, explained: bool, layout: &Layout) {
    let mut line = Line::plain(&failure.message).with(PLAIN, "  ");
    line.append(layout.place(failure.place.as_ref()));
    wrap(out, &line, 4, 2, layout.width);
    let Some(answer) = failure.answer.as_ref().filter(|_| explained) else { return };
    let narrower = Layout { width: layout.width.saturating_sub(6), ..layout.clone() };
    let mut why = String::new();
    let halves =
        [("EGRESS", &answer.from, &answer.egress), ("INGRESS", &answer.to, &answer.ingress)];
    // A denial is explained by the halves that deny; an allowance needs both.
    for (title, end, half) in halves.into_iter().filter(|(.., h)| h.decision == answer.decision) {
        can::half(&mut why, title, end, half, &narrower);
    }
    for row in why.lines() {
        out.push_str("      ");
        out.push_str(row);
        out.push('\n');
    }
}
