//! Where each rule ends: what it leaves alone, and what it cannot tell.

use policy_compiler::lint::{Report, Rule};

use crate::said::{load, report, report_of};

mod blocks;
mod comments;
mod effects;
mod ports;
mod selected;
mod written;

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n"
    )
}

/// A pod of `shop` with `app` as its name.
fn pod(name: &str, more: &str) -> String {
    pod_of("shop", name, &format!("app: {name}"), more)
}

fn pod_of(namespace: &str, name: &str, labels: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n{more}\n---\n"
    )
}

fn ports(ports: &str) -> String {
    format!("spec: {{containers: [{{ports: [{ports}]}}]}}")
}

fn namespace(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n---\n")
}

/// The fields at which `rule` finds something; `? FIELD` where it cannot tell.
fn fields(rule: Rule, report: &Report) -> Vec<String> {
    let mut fields: Vec<String> =
        report.findings.iter().filter(|f| f.rule == rule).map(|f| f.field.clone()).collect();
    let unchecked = report.unchecked.iter().filter(|u| u.rule == rule);
    fields.extend(unchecked.flat_map(|u| u.at.iter().map(|s| format!("? {}", s.field))));
    fields
}

#[track_caller]
fn finds(rule: Rule, text: &str, expected: &[&str]) {
    let report = report(text);
    assert_eq!(fields(rule, &report), expected, "{text}\n{report:#?}");
}

#[track_caller]
fn finds_in_cluster(rule: Rule, text: &str, expected: &[&str]) {
    let report = report_of(&load(text), true);
    assert_eq!(fields(rule, &report), expected, "{text}\n{report:#?}");
}
