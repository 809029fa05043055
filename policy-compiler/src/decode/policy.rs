//! NetworkPolicies, strictly.
//!
//! A typed decoder drops keys that it does not know, and `ingress: [{form: ..}]` would become
//! `ingress: [{}]`: everything allowed. Here every key must be known, and what cannot be understood
//! denies:
//!
//! | what is wrong | what follows |
//! | --- | --- |
//! | something inside a rule | that rule allows nothing |
//! | a key beside the rules, or the rules are no list | every rule of the policy allows nothing |
//! | `podSelector` | the policy selects every pod of its namespace, every rule allows nothing |
//! | `policyTypes` | both types |
//! | the spec as a whole, or the `apiVersion` | both types, and every rule allows nothing |
//! | the name | kept under a name made up for it, every rule allows nothing |
//! | the namespace | an error: nobody can say which pods are meant |
//!
//! Source: the `networking.k8s.io/v1` API reference, its defaulting and its validation.

use std::sync::Arc;

use super::audit::audit;
use super::metadata::{self, Identity};
use super::report::{Field, Mapping, Report, Schema};
use super::rule::{rule, void};
use super::selector::selector;
use super::suggest::nearest;
use super::{Decoded, Decoding, object_ref};
use crate::diagnostic::{ObjectRef, Severity};
use crate::document::{Node, Position};
use crate::name::ObjectKey;
use crate::policy::{Direction, Policy, Rule};
use crate::selector::Selector;

const API_VERSION: &str = "networking.k8s.io/v1";

const OBJECT: Schema = Schema {
    what: "a NetworkPolicy",
    fields: &["apiVersion", "kind", "metadata", "spec", "status"],
    misplaced: &[
        ("podSelector", "put it under `spec`"),
        ("policyTypes", "put it under `spec`"),
        ("ingress", "put it under `spec`"),
        ("egress", "put it under `spec`"),
        ("name", "put it under `metadata`"),
        ("namespace", "put it under `metadata`"),
        ("labels", "put it under `metadata`"),
        ("annotations", "put it under `metadata`"),
    ],
};

const SPEC: Schema = Schema {
    what: "the spec of a NetworkPolicy",
    fields: &["podSelector", "policyTypes", "ingress", "egress"],
    misplaced: &[
        ("from", "put it in an item of `ingress`"),
        ("to", "put it in an item of `egress`"),
        ("ports", "put it in an item of `ingress` or `egress`"),
        ("matchLabels", "put it under `podSelector`"),
        ("matchExpressions", "put it under `podSelector`"),
        ("namespaceSelector", "put it in an item of `from` or `to`"),
        ("ipBlock", "put it in an item of `from` or `to`"),
    ],
};

pub(super) const NO_RULE: &str = "every rule of this policy allows nothing";
const CLOSED: &str = "this policy isolates what it selects in both directions, and allows nothing";
const NAMESPACE_CLOSED: &str =
    "this policy isolates every pod of its namespace in both directions, and allows nothing";

/// What a spec says, with what is wrong in it already taken in the way that denies.
struct Spec {
    pod_selector: Selector,
    isolates_ingress: bool,
    isolates_egress: bool,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

impl Spec {
    /// What a spec means of which nothing can be read: the whole namespace, both directions.
    fn closed() -> Self {
        Self {
            pod_selector: Selector::everything(),
            isolates_ingress: true,
            isolates_egress: true,
            ingress: Vec::new(),
            egress: Vec::new(),
        }
    }

    fn void(&mut self, reason: &str) {
        void(&mut self.ingress, reason);
        void(&mut self.egress, reason);
    }

    fn isolate_both(&mut self) {
        self.isolates_ingress = true;
        self.isolates_egress = true;
    }

    fn into_policy(
        self,
        key: ObjectKey,
        audit: bool,
        at: Option<Position>,
        report: Report<'_>,
    ) -> Decoded<Policy> {
        let location = report.location(at);
        let diagnostics = report.into_diagnostics();
        let object = Policy {
            key,
            pod_selector: self.pod_selector,
            isolates_ingress: self.isolates_ingress,
            isolates_egress: self.isolates_egress,
            ingress: self.ingress,
            egress: self.egress,
            audit,
            flawed: diagnostics.iter().any(|d| d.severity == Severity::Error),
            location,
        };
        Decoded { object, diagnostics }
    }
}

/// Decodes a whole NetworkPolicy.
///
/// # Errors
/// Only where nothing can be enforced: it is no mapping, or its namespace cannot be known.
pub fn policy(node: &Node, file: Option<&Arc<str>>) -> Decoding<Policy> {
    let mut report = Report::new(object_ref(node), file);
    let mark = report.mark();
    let Some(object) = report.strict(&Field::root(node), &OBJECT) else {
        report.conclude(mark, "", "this policy cannot be enforced");
        return Err(report.into_diagnostics());
    };
    let spec_in_doubt = object.repeats("spec")
        || (object.get("spec").is_none() && object.unknown.iter().any(|key| may_be_spec(key)));
    let consequence = if spec_in_doubt { NAMESPACE_CLOSED } else { NO_RULE };
    let mut flaws = Vec::from_iter(report.conclude(mark, "", consequence));

    let mark = report.mark();
    let Some(Identity { key, flaw }) = metadata::policy_identity(&object, &mut report) else {
        report.conclude(mark, "", "this policy cannot be enforced");
        return Err(report.into_diagnostics());
    };
    flaws.extend(flaw);

    let mark = report.mark();
    check_api_version(&object, &mut report);
    let foreign = report.conclude(mark, "", CLOSED);

    let mut decoded =
        if spec_in_doubt { Spec::closed() } else { optional_spec(&object, &mut report) };
    if foreign.is_some() {
        decoded.isolate_both();
    }
    flaws.extend(foreign);
    if let Some(reason) = flaws.first() {
        decoded.void(reason);
    }
    let audit = audit(&object.field, "this policy is enforced", &mut report);
    Ok(decoded.into_policy(key, audit, node.position, report))
}

/// Decodes a bare NetworkPolicySpec as the policy `key`.
#[must_use]
pub fn policy_spec(key: ObjectKey, node: &Node, file: Option<&Arc<str>>) -> Decoded<Policy> {
    let object = ObjectRef {
        kind: "NetworkPolicy".to_owned(),
        namespace: Some(key.namespace.to_string()),
        name: key.name.to_string(),
    };
    let mut report = Report::new(Some(object), file);
    let decoded =
        if node.is_null() { absent_spec() } else { spec(&Field::at(node, "spec"), &mut report) };
    decoded.into_policy(key, false, node.position, report)
}

/// Whether an unknown key beside an absent `spec` may hold what the spec should.
fn may_be_spec(key: &str) -> bool {
    SPEC.fields.contains(&key)
        || SPEC.misplaced.iter().any(|(field, _)| *field == key)
        || nearest(key, SPEC.fields).is_some()
        || nearest(key, OBJECT.fields) == Some("spec")
}

fn check_api_version(object: &Mapping<'_>, report: &mut Report<'_>) {
    let help = || Some(format!("write `apiVersion: {API_VERSION}`"));
    match object.get("apiVersion") {
        None => report.missing(object, "apiVersion", format!("must be `{API_VERSION}`, is absent")),
        Some(field) => match report.text(&field) {
            Some(API_VERSION) | None => {}
            Some(other) => {
                report.error(&field, format!("must be `{API_VERSION}`, is `{other}`"), help());
            }
        },
    }
}

/// The API takes a policy without spec: it selects every pod, and lists no rule and no type.
fn absent_spec() -> Spec {
    Spec { isolates_egress: false, ..Spec::closed() }
}

fn optional_spec(object: &Mapping<'_>, report: &mut Report<'_>) -> Spec {
    if let Some(field) = object.get("spec") {
        return spec(&field, report);
    }
    let message = "no spec: this policy selects every pod of its namespace and allows no ingress";
    report.warning(&Field::at(object.field.node, "spec"), message, None);
    absent_spec()
}

fn spec(field: &Field<'_>, report: &mut Report<'_>) -> Spec {
    let mark = report.mark();
    let Some(mapping) = report.strict(field, &SPEC) else {
        report.conclude(mark, "", NAMESPACE_CLOSED);
        return Spec::closed();
    };
    let doubt = Doubt::of(&mapping);
    let beside = report.conclude(mark, "", &doubt.consequence());

    let ingress = rules(&mapping, Direction::Ingress, report);
    let egress = rules(&mapping, Direction::Egress, report);
    // Where `egress` cannot be read, it may have a rule.
    let default = Types { ingress: true, egress: egress.as_ref().map_or(true, |r| !r.is_empty()) };
    let unlisted = ingress.as_ref().err().or(egress.as_ref().err()).cloned();
    let types = if doubt.types { Types::BOTH } else { policy_types(&mapping, default, report) };
    let (pod_selector, unselected) =
        if doubt.pod_selector { Default::default() } else { pod_selector(&mapping, report) };
    let mut spec = Spec {
        pod_selector,
        isolates_ingress: types.ingress,
        isolates_egress: types.egress,
        ingress: ingress.unwrap_or_default(),
        egress: egress.unwrap_or_default(),
    };
    if let Some(reason) = beside.or(unlisted).or(unselected) {
        spec.void(&reason);
    }
    spec
}

/// What a key that stands twice, or that nobody knows, leaves open besides the rules.
struct Doubt {
    /// Which pods are selected.
    pod_selector: bool,
    /// For which directions.
    types: bool,
}

impl Doubt {
    fn of(spec: &Mapping<'_>) -> Self {
        let meant =
            |field: &str| spec.unknown.iter().any(|k| nearest(k, SPEC.fields) == Some(field));
        let untyped = spec.get("policyTypes").is_none_or(|types| types.is_empty_list());
        let egress_meant = meant("policyTypes") || meant("egress") || spec.unknown.contains(&"to");
        let selector_meant = spec.get("podSelector").is_none() && meant("podSelector");
        Self {
            pod_selector: spec.repeats("podSelector") || selector_meant,
            types: spec.repeats("policyTypes")
                || (untyped && (spec.repeats("egress") || egress_meant)),
        }
    }

    fn consequence(&self) -> String {
        let mut text = NO_RULE.to_owned();
        if self.types {
            text.push_str(", and it isolates in both directions");
        }
        if self.pod_selector {
            text.push_str(", and it selects every pod of its namespace");
        }
        text
    }
}

/// The selector, and where it is invalid, why: it is then everything, and since the rules were not
/// written for every pod, they must not hold for it.
fn pod_selector(spec: &Mapping<'_>, report: &mut Report<'_>) -> (Selector, Option<String>) {
    let Some(field) = spec.get("podSelector") else { return (Selector::everything(), None) };
    let mark = report.mark();
    let selected = selector(&field, report);
    let consequence =
        "this policy selects every pod of its namespace, and every rule of it allows nothing";
    let flaw = report.conclude(mark, "", consequence);
    (selected.unwrap_or_default(), flaw)
}

/// The rules of a direction, or why there is no list of them.
fn rules(
    spec: &Mapping<'_>,
    direction: Direction,
    report: &mut Report<'_>,
) -> Result<Vec<Rule>, String> {
    let key = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let Some(field) = spec.get(key) else { return Ok(Vec::new()) };
    let mark = report.mark();
    let Some(items) = report.list(&field) else {
        return Err(report.conclude(mark, "", NO_RULE).unwrap_or_default());
    };
    Ok(items.iter().map(|item| rule(item, direction, report)).collect())
}

/// The directions in which a policy isolates.
#[derive(Clone, Copy)]
struct Types {
    ingress: bool,
    egress: bool,
}

impl Types {
    const BOTH: Types = Types { ingress: true, egress: true };
}

fn policy_types(spec: &Mapping<'_>, default: Types, report: &mut Report<'_>) -> Types {
    let Some(field) = spec.get("policyTypes") else { return default };
    let mark = report.mark();
    let mut types = Types { ingress: false, egress: false };
    let items = report.list(&field).unwrap_or_default();
    for item in &items {
        match report.text(item) {
            Some("Ingress") => types.ingress = true,
            Some("Egress") => types.egress = true,
            Some(other) => {
                let help = match nearest(other, &["Ingress", "Egress"]) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "the types are `Ingress` and `Egress`".to_owned(),
                };
                report.error(item, format!("`{other}` is no policy type"), Some(help));
            }
            None => {}
        }
    }
    if items.len() > 2 {
        report.error(&field, "must have no more than two items", None);
    }
    if report.conclude(mark, "", "this policy isolates in both directions").is_some() {
        return Types::BOTH;
    }
    if items.is_empty() { default } else { types }
}

#[cfg(test)]
mod tests;
