//! `policyc lint` as a process: exit statuses, streams, the choice of rules, the explanations.

use std::fs;
use std::path::PathBuf;

use policy_compiler::lint::Rule;

use crate::run::{fixtures, policyc, policyc_in, policyc_with};

const CLEAN: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";

#[test]
fn statuses_are_clean_findings_and_unreadable() {
    for (why, line, status) in [
        ("a warning", "lint -f lint.yaml", 1),
        ("no warning is an error", "lint -f lint.yaml --fail-on error", 0),
        ("a note", "lint -f lint.yaml --only PC023 --fail-on note", 1),
        ("a note is no warning", "lint -f lint.yaml --only PC023", 0),
        ("never", "lint -f invalid --fail-on never", 0),
        ("an invalid policy", "lint -f invalid --fail-on error", 1),
        ("left out", "lint -f lint.yaml --ignore pc013,PC023", 0),
        ("in any form", "lint -f lint.yaml -o sarif", 1),
        ("no such rule", "lint -f lint.yaml --only PC9", 2),
        ("no such severity", "lint -f lint.yaml --fail-on bad", 2),
        ("no such file", "lint -f lint.yaml nowhere.yaml", 2),
        ("not YAML", "lint -f broken/bad.yaml", 2),
        ("no input", "lint", 2),
        ("explained", "lint --explain PC013", 0),
        ("explained in small letters", "lint --explain pc013", 0),
        ("listed", "lint --explain", 0),
        ("nothing to explain", "lint --explain PC113", 2),
        ("explained or read", "lint --explain PC013 -f shop", 2),
    ] {
        let run = policyc(line);
        assert_eq!(run.status, status, "{why}: {line}\n{}{}", run.stdout, run.stderr);
    }
    let clean = policyc_with("lint -f -", CLEAN, &[]);
    assert_eq!(
        (clean.status, clean.stdout.as_str(), clean.stderr.as_str()),
        (0, "no findings\n", "")
    );
}

#[test]
fn findings_are_the_result_and_everything_else_is_told_on_standard_error() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x, labels: {a: 1}}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {podSelector: {}, policyTypes: [Ingress], ingress: [{form: []}]}\n";
    let run = policyc_with("lint -f -", text, &[]);
    assert_eq!(run.status, 2, "the pod is left out");
    assert!(
        run.stdout.starts_with("error[PC001]: NetworkPolicy x/p: spec.ingress[0].form: "),
        "{}",
        run.stdout
    );
    assert!(run.stderr.starts_with("error: Pod x/a: "), "{}", run.stderr);
    assert!(!run.stderr.contains("NetworkPolicy"), "{}", run.stderr);
    let twice = format!(
        "{CLEAN}---\n{CLEAN}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: q, namespace: shop}}\n"
    );
    let run = policyc_with("lint -f -", &twice, &[]);
    assert_eq!(run.stderr, "", "{}", run.stdout);
    assert!(run.stdout.contains("[PC007]") && run.stdout.contains("[PC004]"), "{}", run.stdout);
}

#[test]
fn the_order_of_files_changes_nothing() {
    let there = policyc("lint -f shop lint.yaml invalid -o json");
    let back = policyc("lint -f invalid -f lint.yaml -f shop -o json");
    assert_eq!(there.stdout, back.stdout);
    assert!(there.stdout.contains("PC013"));
}

#[test]
fn the_examples_are_clean() {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    for entry in fs::read_dir(top.join("examples")).expect("there") {
        let path = entry.expect("there").path();
        if path.is_dir() {
            let run = policyc_in(&top, &format!("lint -f {}", path.display()), "", &[]);
            assert_eq!(run.status, 0, "{}\n{}", run.stdout, run.stderr);
        }
    }
}

#[test]
fn every_rule_is_explained_with_what_is_wrong_and_right() {
    let listed = policyc("lint --explain").stdout;
    for rule in Rule::ALL {
        assert!(listed.contains(&format!(
            "{rule}  {:<8} {}",
            rule.severity().to_string(),
            rule.title()
        )));
        let page = policyc(&format!("lint --explain {rule}")).stdout;
        for part in [rule.page(), "\nWrong\n\n    ", "\nRight\n\n    "] {
            assert!(page.contains(part), "{page}");
        }
        assert!(page.contains(rule.wrong().lines().last().unwrap()), "{page}");
    }
}

#[test]
fn the_reference_holds_the_same_explanations() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/lint.md");
    let reference = policyc::lint::reference();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &reference).unwrap();
    }
    assert!(
        fs::read_to_string(path).unwrap_or_default() == reference,
        "BLESS=1 writes docs/lint.md anew"
    );
}

#[test]
fn rules_are_found_in_the_completions_and_help() {
    for shell in ["bash", "zsh", "fish"] {
        let script = policyc(&format!("completions {shell}")).stdout;
        assert!(script.contains("sarif") && script.contains("fail-on"), "{shell}");
    }
    let help = policyc("lint --help").stdout;
    assert!(
        help.contains("policyc lint -f examples/shop") && help.contains("policyc:ignore"),
        "{help}"
    );
    assert!(fixtures().join("lint.yaml").is_file());
}
