//! Label selectors, strictly.
//!
//! Source: `metav1.LabelSelector` and its validation: `In` and `NotIn` need values, `Exists` and
//! `DoesNotExist` forbid them. On failure there is no selector at all, and it is for the caller to say
//! what follows: one requirement less would select more.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::labels::{key_problem, pairs, value_problem};
use super::report::{Field, Mapping, Report, Schema};
use super::suggest::nearest;
use crate::selector::{Operator, Requirement, Selector};

const SELECTOR: Schema = Schema {
    what: "a selector",
    fields: &["matchLabels", "matchExpressions"],
    misplaced: &[
        ("key", "put it in an item of `matchExpressions`"),
        ("operator", "put it in an item of `matchExpressions`"),
        ("values", "put it in an item of `matchExpressions`"),
        ("app", "put labels under `matchLabels`"),
    ],
};

const EXPRESSION: Schema =
    Schema { what: "an expression", fields: &["key", "operator", "values"], misplaced: &[] };

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// The selector at `field`, or `None` with the reasons reported.
pub(super) fn selector(field: &Field<'_>, report: &mut Report<'_>) -> Option<Selector> {
    let mark = report.mark();
    let mapping = report.strict(field, &SELECTOR)?;
    let mut requirements = Vec::new();
    if let Some(labels) = mapping.get("matchLabels").and_then(|labels| report.open(&labels)) {
        requirements.extend(pairs(&labels, report).into_iter().map(|(key, value)| Requirement {
            key: Arc::from(key),
            operator: Operator::In(BTreeSet::from([Arc::from(value)])),
        }));
    }
    for item in report.list_of(&mapping, "matchExpressions") {
        requirements.extend(expression(&item, report));
    }
    (!report.failed_since(mark)).then(|| Selector::new(requirements))
}

/// A plain mapping of labels as a selector, as Services write it.
pub(super) fn equality(field: &Field<'_>, report: &mut Report<'_>) -> Option<Selector> {
    let mapping = report.open(field)?;
    let requirements = pairs(&mapping, report).into_iter().map(|(key, value)| Requirement {
        key: Arc::from(key),
        operator: Operator::In(BTreeSet::from([Arc::from(value)])),
    });
    Some(Selector::new(requirements))
}

fn expression(field: &Field<'_>, report: &mut Report<'_>) -> Option<Requirement> {
    let mapping = report.strict(field, &EXPRESSION)?;
    let key = report.required(&mapping, "key", "the label's key is missing");
    let key = key.and_then(|key| label_key(&key, report));
    let operator = operator(&mapping, report);
    Some(Requirement { key: Arc::from(key?), operator: operator? })
}

fn label_key<'n>(field: &Field<'n>, report: &mut Report<'_>) -> Option<&'n str> {
    let key = report.text(field)?;
    if let Some(problem) = key_problem(key) {
        report.error(field, problem, None);
        return None;
    }
    Some(key)
}

/// The operator of an expression with its values.
fn operator(expression: &Mapping<'_>, report: &mut Report<'_>) -> Option<Operator> {
    let values = values(&report.list_of(expression, "values"), report);
    let field = report.required(expression, "operator", "the operator is missing")?;
    let name = report.text(&field)?;
    Some(match name {
        "In" | "NotIn" if values.is_empty() => {
            report.missing(expression, "values", format!("`{name}` needs at least one value"));
            return None;
        }
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let at = expression.get("values").unwrap_or_else(|| expression.field.clone());
            report.error(&at, format!("`{name}` takes no values"), None);
            return None;
        }
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => {
            let help = nearest(name, &OPERATORS).map_or_else(
                || format!("the operators are {}", OPERATORS.map(|o| format!("`{o}`")).join(", ")),
                |meant| format!("did you mean `{meant}`?"),
            );
            report.error(&field, format!("`{name}` is no operator"), Some(help));
            return None;
        }
    })
}

fn values(items: &[Field<'_>], report: &mut Report<'_>) -> BTreeSet<Arc<str>> {
    let mut values = BTreeSet::new();
    for item in items {
        let Some(value) = report.text(item) else { continue };
        if let Some(problem) = value_problem(value) {
            report.error(item, problem, None);
        }
        values.insert(Arc::from(value));
    }
    values
}
