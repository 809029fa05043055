//! The examples are clean: what is there on purpose is a note, or ignored where it stands with the
//! reason.

use std::fs;
use std::path::PathBuf;

use policy_compiler::diagnostic::Severity;
use policy_compiler::lint::Rule;
use policy_manifest::input::{Options, read};

use crate::said::report_of;

#[test]
fn no_example_has_a_finding_worse_than_a_note() {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut folders: Vec<PathBuf> = fs::read_dir(top)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    folders.sort();
    assert!(folders.len() >= 6, "{folders:?}");
    for folder in folders {
        let options = Options { keep_policies: true, ..Options::default() };
        let report = report_of(&read(&[&folder], &options), false);
        let worse: Vec<_> =
            report.findings.iter().filter(|f| f.severity > Severity::Note).collect();
        assert!(worse.is_empty(), "{}: {worse:#?}", folder.display());
        let notes: Vec<Rule> = report.findings.iter().map(|f| f.rule).collect();
        let known = [Rule::NoDefaultDeny, Rule::OpenToWorld, Rule::AuditOnly];
        assert!(notes.iter().all(|rule| known.contains(rule)), "{}: {notes:?}", folder.display());
    }
}
