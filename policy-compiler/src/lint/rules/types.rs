//! PC003, PC004, PC005: `policyTypes`, and what follows where it says less than was meant.

use crate::diagnostic::Severity;
use crate::document::Node;
use crate::document::Value;
use crate::lint::Found;
use crate::lint::rule::Rule;
use crate::lint::scene::Scene;
use crate::lint::words::count;
use crate::lint::written::Written;
use crate::policy::{Direction, Policy};

fn type_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    }
}

/// Rules that count for nothing.
pub(super) fn inert_rules(scene: &Scene<'_>, found: &mut Found) {
    for policy in scene.snapshot.policies.values() {
        for direction in Direction::ALL {
            let listed = match direction {
                Direction::Ingress => policy.ingress.len(),
                Direction::Egress => policy.egress.len(),
            };
            if policy.isolates(direction) || listed == 0 {
                continue;
            }
            let kind = type_of(direction);
            let message = format!(
                "policyTypes lacks {kind}, so {} no effect: {direction} is not restricted here",
                if listed == 1 {
                    "this rule has".to_owned()
                } else {
                    format!("these {listed} rules have")
                }
            );
            let fix = format!("add `{kind}` to policyTypes, or remove `{direction}`");
            let field = format!("spec.{direction}");
            found.add(scene.finding(Rule::InertRules, policy, &field, message, fix));
        }
    }
}

fn is_list_without_items(node: Option<&Node>) -> bool {
    matches!(node.map(|node| &node.value), Some(Value::List(items)) if items.is_empty())
}

/// Whether `policyTypes` is absent, null or empty, which is all the same.
fn omits_types(written: &Written) -> bool {
    let types = written.field("spec.policyTypes");
    types.is_none_or(Node::is_null) || is_list_without_items(types)
}

/// Every policy that has no errors, with its document.
fn written<'s>(scene: &'s Scene<'_>) -> impl Iterator<Item = (&'s Policy, &'s Written)> {
    scene.sound().filter_map(|policy| Some((policy, scene.document(policy)?)))
}

/// What the defaults then say, and whether that is hardly meant.
pub(super) fn omitted(scene: &Scene<'_>, found: &mut Found) {
    for (policy, written) in written(scene).filter(|(_, written)| omits_types(written)) {
        if is_list_without_items(written.field("spec.egress")) {
            continue;
        }
        let rules = |list: &[_]| count(list.len(), "rule", "rules");
        let (severity, message, types) = match (policy.ingress.is_empty(), policy.egress.is_empty()) {
            _ if written.field("spec").is_none_or(Node::is_null) => (
                Severity::Warning,
                "there is no spec: every pod of the namespace is isolated for ingress, and nothing may come in"
                    .to_owned(),
                "[Ingress]",
            ),
            (true, false) => (
                Severity::Warning,
                format!(
                    "policyTypes is omitted, which adds Ingress: besides its {} for egress the policy denies \
                     all ingress",
                    rules(&policy.egress)
                ),
                "[Egress]",
            ),
            (false, false) => (
                Severity::Note,
                "policyTypes is omitted: it is Ingress and Egress, for as long as egress has a rule"
                    .to_owned(),
                "[Ingress, Egress]",
            ),
            (_, true) => (
                Severity::Note,
                "policyTypes is omitted: it is Ingress alone, and egress is not restricted".to_owned(),
                "[Ingress]",
            ),
        };
        let fix = format!("say what is meant: `policyTypes: {types}`");
        let mut finding = scene.finding(Rule::TypesOmitted, policy, "spec", message, fix);
        finding.severity = severity;
        found.add(finding);
    }
}

/// `egress: []` where Egress is no type of the policy.
pub(super) fn empty_egress(scene: &Scene<'_>, found: &mut Found) {
    for (policy, written) in written(scene) {
        let empty = is_list_without_items(written.field("spec.egress"));
        if !empty || policy.isolates(Direction::Egress) {
            continue;
        }
        let message = if omits_types(written) {
            "`egress: []` does not add Egress to the omitted policyTypes: egress stays open, and what the \
             policy isolates is ingress"
        } else {
            "`egress: []` has no effect, since policyTypes lacks Egress: egress stays open"
        };
        let fix = "to deny egress write `policyTypes: [Egress]`, else remove `egress`";
        found.add(scene.finding(Rule::EmptyEgress, policy, "spec.egress", message, fix));
    }
}
