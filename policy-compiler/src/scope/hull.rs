//! One selector for several: it selects whatever one of them does, and is one that the API server
//! understands whatever they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::selector::{Operator, Requirement, Selector};

/// How long the values of one requirement may be together: they are part of an address.
const LONGEST: usize = 2000;

/// A selector that selects everything that one of these selects, and as little else as what they
/// have in common says. `None` where it would select everything.
pub(super) fn hull<'a>(selectors: impl IntoIterator<Item = &'a Selector>) -> Option<Selector> {
    let mut common: Option<BTreeMap<Key, Operator>> = None;
    for selector in selectors {
        let asked = by_key(selector);
        common = Some(match common {
            None => asked,
            Some(before) => before
                .into_iter()
                .filter_map(|(key, operator)| {
                    let joint = join(operator, asked.get(&key)?);
                    Some((key, joint?))
                })
                .collect(),
        });
    }
    let requirements = common.unwrap_or_default().into_iter().filter(|(_, one)| is_short(one));
    let hull = Selector::new(
        requirements.map(|((key, _), operator)| Requirement { key: Arc::clone(key), operator }),
    );
    (!hull.is_everything()).then_some(hull)
}

/// Selectors that together select whatever one of these selects: one for those which ask for the same
/// labels. `None` where one of them would have to select everything.
pub(super) fn bundles(selectors: &BTreeSet<&Selector>) -> Option<BTreeSet<Selector>> {
    let mut bundles: Vec<Selector> = Vec::new();
    for selector in selectors {
        let one = hull([*selector])?;
        let joint = |bundle: &Selector| {
            // What two have not is no bond: almost every pod has not.
            hull([bundle, &one]).filter(|joint| is_positive(joint) || !is_positive(&one))
        };
        match bundles.iter().position(|bundle| joint(bundle).is_some()) {
            Some(at) => bundles[at] = joint(&bundles[at])?,
            None => bundles.push(one),
        }
    }
    Some(bundles.into_iter().collect())
}

/// Whether it asks for a label to be there.
fn is_positive(selector: &Selector) -> bool {
    let mut requirements = selector.requirements();
    requirements.any(|one| matches!(one.operator, Operator::In(_) | Operator::Exists))
}

/// The label, and what it is asked for by values that it has or has not.
type Key<'a> = (&'a Arc<str>, u8);

/// At most one requirement of each sort for each label; what more there are is left out.
fn by_key(selector: &Selector) -> BTreeMap<Key<'_>, Operator> {
    let mut asked = BTreeMap::new();
    for requirement in selector.requirements().filter(|one| is_plain(one)) {
        let sort = match &requirement.operator {
            Operator::In(_) => 0,
            Operator::NotIn(_) => 1,
            Operator::Exists => 2,
            Operator::DoesNotExist => 3,
        };
        asked.entry((&requirement.key, sort)).or_insert_with(|| requirement.operator.clone());
    }
    asked
}

/// What holds wherever one of two of a sort does.
fn join(one: Operator, other: &Operator) -> Option<Operator> {
    match (one, other) {
        (Operator::In(mut values), Operator::In(more)) => {
            values.extend(more.iter().cloned());
            Some(Operator::In(values))
        }
        (Operator::NotIn(values), Operator::NotIn(fewer)) => {
            let both: BTreeSet<Arc<str>> = values.intersection(fewer).cloned().collect();
            (!both.is_empty()).then_some(Operator::NotIn(both))
        }
        (same, _) => Some(same),
    }
}

/// Whether the API server reads it as it is meant.
fn is_plain(requirement: &Requirement) -> bool {
    let word = |text: &str, more: &[char]| {
        !text.is_empty()
            && text.len() <= 320
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(&c))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let values = match &requirement.operator {
        Operator::In(values) | Operator::NotIn(values) => Some(values),
        Operator::Exists | Operator::DoesNotExist => None,
    };
    word(&requirement.key, &['/'])
        && values
            .is_none_or(|values| values.iter().all(|value| value.len() <= 63 && word(value, &[])))
}

fn is_short(operator: &Operator) -> bool {
    match operator {
        Operator::In(values) | Operator::NotIn(values) => {
            values.iter().map(|value| value.len() + 1).sum::<usize>() <= LONGEST
        }
        Operator::Exists | Operator::DoesNotExist => true,
    }
}
