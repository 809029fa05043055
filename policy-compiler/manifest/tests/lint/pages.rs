//! Every rule's page has manifests in which it finds something and the same, mended. `BLESS=1` writes
//! `pages.txt` anew; read the difference before committing it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use policy_compiler::lint::Rule;

use crate::said::{report, whole};

/// What is found on every page with a namespace of its own, and is not what the page is about.
const ASIDE: Rule = Rule::NoDefaultDeny;

#[test]
fn the_wrong_example_of_each_rule_is_found_by_it_and_by_no_other() {
    for rule in Rule::ALL {
        let report = report(rule.wrong());
        let found: Vec<Rule> = report.findings.iter().map(|finding| finding.rule).collect();
        // What a misspelt comment was to ignore is found.
        let aside =
            |r: &Rule| *r == ASIDE || (*rule == Rule::Suppression && *r == Rule::OpenToWorld);
        let own: Vec<Rule> = found.iter().copied().filter(|r| r == rule || !aside(r)).collect();
        assert!(!own.is_empty() && own.iter().all(|r| r == rule), "{rule}: {:#?}", report.findings);
        let plain = report.findings.iter().filter(|f| f.rule == *rule).map(|f| f.severity).max();
        assert_eq!(plain, Some(rule.severity()), "{rule}");
    }
}

#[test]
fn the_right_example_of_each_rule_is_clean() {
    for rule in Rule::ALL {
        let report = report(rule.right());
        let left: Vec<_> =
            report.findings.iter().filter(|f| f.rule == *rule || f.rule != ASIDE).collect();
        assert!(left.is_empty(), "{rule}: {left:#?}");
    }
}

#[test]
fn findings_say_where_what_and_how_to_mend_it() {
    let mut shown = String::new();
    for rule in Rule::ALL {
        let _ = writeln!(shown, "== {rule}");
        for finding in report(rule.wrong()).findings.iter().filter(|f| f.rule == *rule) {
            shown.push_str(&whole(finding));
        }
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/lint/pages.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &shown).unwrap();
    }
    assert_eq!(shown, fs::read_to_string(&path).unwrap_or_default());
}
