//! Comments that ignore a finding.

use policy_compiler::diagnostic::Severity;
use policy_compiler::lint::Rule;

use super::policy;
use crate::said::{of, report};

#[test]
fn comments_ignore_on_their_line_above_and_at_the_head() {
    let text = "\
# policyc:ignore PC010, PC099
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  # policyc:ignore PC024 on purpose
  - {}
  - ports: [{port: 53}]  # policyc:ignore PC006, PC013
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop}
";
    let report = report(text);
    let suppressed: Vec<Rule> = report.suppressed.iter().map(|f| f.rule).collect();
    assert_eq!(suppressed, [Rule::SelectsNoPod, Rule::OpenToWorld, Rule::ProtocolOmitted]);
    let comments: Vec<(Severity, String)> = report
        .findings
        .iter()
        .filter(|f| f.rule == Rule::Suppression)
        .map(|f| (f.severity, format!("{} {}", f.location, f.message)))
        .collect();
    assert_eq!(
        comments,
        [
            (Severity::Warning, "in.yaml:1:1: there is no rule `PC099`".to_owned()),
            (
                Severity::Note,
                "in.yaml:11:26: PC013 finds nothing here, so that there is nothing to ignore"
                    .to_owned()
            ),
        ]
        .map(|(severity, text)| (severity, text.replace(":1: ", ":1 ").replace(":26: ", ":26 ")))
    );
}

#[test]
fn a_comment_ignores_what_is_unchecked_too() {
    let text = policy(
        "p",
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]} # policyc:ignore PC010",
    );
    let report = report(&text);
    assert_eq!(of(Rule::SelectsNoPod, &report), [""; 0]);
    assert_eq!(of(Rule::Suppression, &report), [""; 0]);
}
