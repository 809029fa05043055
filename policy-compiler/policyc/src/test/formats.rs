//! A test report for machines: `JUnit` XML and TAP version 14. Both name no times, so that the same
//! input makes the same bytes.

use std::fmt::Write as _;

use serde_json::json;

use crate::text::{Layout, count};
use crate::yaml;

use super::{TestCase, TestFile, TestReport, text};

/// `JUnit` XML: a suite a file, a test case a case; a file that cannot be used is a case in error.
pub(super) fn junit(report: &TestReport) -> String {
    let tests = report.passed + report.failed;
    let errors = report.files.iter().filter(|file| !file.errors.is_empty()).count();
    let failures = report.failed - errors;
    // Writing to a String does not fail.
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"policyc\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
    );
    for file in &report.files {
        suite(&mut out, file);
    }
    out.push_str("</testsuites>\n");
    out
}

fn suite(out: &mut String, file: &TestFile) {
    let name = escaped(&file.file);
    let failures = file.cases.iter().filter(|case| !case.passed).count();
    let errors = usize::from(!file.errors.is_empty());
    let tests = file.cases.len() + errors;
    let _ = writeln!(
        out,
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
    );
    if let Some(first) = file.errors.first() {
        let _ = writeln!(out, "    <testcase classname=\"{name}\" name=\"{name}\">");
        let all = escaped(&file.errors.join("\n"));
        let _ = writeln!(out, "      <error message=\"{}\">{all}</error>", escaped(first));
        out.push_str("    </testcase>\n");
    }
    for case in &file.cases {
        let title = escaped(&case.case);
        let _ = write!(out, "    <testcase classname=\"{name}\" name=\"{title}\"");
        if case.passed {
            out.push_str("/>\n");
            continue;
        }
        let message = case.failures.first().map(|f| f.message.as_str()).unwrap_or_default();
        let _ = writeln!(out, ">\n      <failure message=\"{}\">", escaped(message));
        out.push_str(&escaped(&plain(case)));
        out.push_str("</failure>\n    </testcase>\n");
    }
    out.push_str("  </testsuite>\n");
}

/// The reasons of a case as a person reads them, without styles.
fn plain(case: &TestCase) -> String {
    let mut out = String::new();
    let layout = Layout { width: crate::text::DEFAULT_WIDTH, directory: String::new() };
    text::failed(&mut out, case, &layout);
    anstream::adapter::strip_str(&out).to_string()
}

/// For text and attributes alike. Characters that XML 1.0 cannot carry become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// TAP version 14: a test a case, with the failures as its diagnostics.
pub(super) fn tap(report: &TestReport) -> String {
    let mut out = format!("TAP version 14\n1..{}\n", report.passed + report.failed);
    let mut number = 0;
    let mut point = |out: &mut String, ok: bool, title: &str, messages: Vec<String>| {
        number += 1;
        // A hash sign would begin a directive, a line end another line.
        let title = title.replace('\\', "\\\\").replace('#', "\\#").replace('\n', " ");
        let _ = writeln!(out, "{} {number} - {title}", if ok { "ok" } else { "not ok" });
        if !messages.is_empty() {
            out.push_str("  ---\n");
            for row in yaml::document(&json!({ "failures": messages })).lines() {
                let _ = writeln!(out, "  {row}");
            }
            out.push_str("  ...\n");
        }
    };
    for file in &report.files {
        if !file.errors.is_empty() {
            point(&mut out, false, &file.file, file.errors.clone());
        }
        for case in &file.cases {
            let messages = case.failures.iter().map(|failure| failure.message.clone()).collect();
            point(&mut out, case.passed, &format!("{}: {}", file.file, case.case), messages);
        }
    }
    let _ =
        writeln!(out, "# {}, {} failed", count(report.passed, "passed", "passed"), report.failed);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_is_escaped() {
        assert_eq!(escaped("a<b>&\"c\"\u{7}"), "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}");
    }
}
