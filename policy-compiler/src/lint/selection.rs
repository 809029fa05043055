//! Whether all that one selector selects is selected by another: exactly.
//!
//! Keys are independent of each other and label values are taken to be without end, so that a
//! conjunction of requirements is, for each key, a set of values or all but some, and perhaps the
//! key's absence. Over these inclusion is decided key by key.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::METADATA_NAME_LABEL;
use crate::labels::Labels;
use crate::name::NamespaceName;
use crate::policy::{NamespaceScope, PeerSelects};
use crate::selector::{Operator, Selector};

/// What a selector leaves open for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice<'a> {
    values: Values<'a>,
    /// Whether the key may be absent.
    absent: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Values<'a> {
    Only(BTreeSet<&'a str>),
    AllBut(BTreeSet<&'a str>),
}

impl<'a> Choice<'a> {
    fn of(operator: &'a Operator) -> Self {
        let set =
            |values: &'a BTreeSet<_>| values.iter().map(|value: &std::sync::Arc<str>| &**value);
        match operator {
            Operator::In(values) => {
                Self { values: Values::Only(set(values).collect()), absent: false }
            }
            Operator::NotIn(values) => {
                Self { values: Values::AllBut(set(values).collect()), absent: true }
            }
            Operator::Exists => Self { values: Values::AllBut(BTreeSet::new()), absent: false },
            Operator::DoesNotExist => Self { values: Values::Only(BTreeSet::new()), absent: true },
        }
    }

    fn and(self, other: Self) -> Self {
        let values = match (self.values, other.values) {
            (Values::Only(a), Values::Only(b)) => {
                Values::Only(a.intersection(&b).copied().collect())
            }
            (Values::Only(only), Values::AllBut(but))
            | (Values::AllBut(but), Values::Only(only)) => {
                Values::Only(only.difference(&but).copied().collect())
            }
            (Values::AllBut(a), Values::AllBut(b)) => {
                Values::AllBut(a.union(&b).copied().collect())
            }
        };
        Self { values, absent: self.absent && other.absent }
    }

    fn is_empty(&self) -> bool {
        !self.absent && matches!(&self.values, Values::Only(values) if values.is_empty())
    }

    fn is_within(&self, other: &Self) -> bool {
        let values = match (&self.values, &other.values) {
            (Values::Only(a), Values::Only(b)) => a.is_subset(b),
            (Values::Only(only), Values::AllBut(but)) => only.is_disjoint(but),
            (Values::AllBut(_), Values::Only(_)) => false,
            (Values::AllBut(a), Values::AllBut(b)) => b.is_subset(a),
        };
        values && (other.absent || !self.absent)
    }
}

fn choices(selector: &Selector) -> BTreeMap<&str, Choice<'_>> {
    let mut choices: BTreeMap<&str, Choice<'_>> = BTreeMap::new();
    for requirement in selector.requirements() {
        let own = Choice::of(&requirement.operator);
        let both = match choices.remove(&*requirement.key) {
            Some(earlier) => earlier.and(own),
            None => own,
        };
        choices.insert(&requirement.key, both);
    }
    choices
}

/// Whether no labels at all meet `selector`.
#[must_use]
pub fn is_contradiction(selector: &Selector) -> bool {
    choices(selector).values().any(Choice::is_empty)
}

/// Whether whatever labels `inner` selects `outer` selects too.
#[must_use]
pub fn is_within(inner: &Selector, outer: &Selector) -> bool {
    if outer.is_everything() || inner == outer {
        return true;
    }
    if let Some(within) = is_plainly_within(inner, outer) {
        return within;
    }
    let inner = choices(inner);
    inner.values().any(Choice::is_empty)
        || choices(outer)
            .iter()
            .all(|(key, wanted)| inner.get(key).is_some_and(|choice| choice.is_within(wanted)))
}

/// The same where `inner` asks once at most of each key, which nearly all selectors do, without making
/// anything: each requirement of `outer` must follow from the one on its key.
fn is_plainly_within(inner: &Selector, outer: &Selector) -> Option<bool> {
    // Requirements come sorted by key.
    let keys = || inner.requirements().map(|r| &*r.key);
    if keys().zip(keys().skip(1)).any(|(a, b)| a == b) {
        return None;
    }
    Some(outer.requirements().all(|wanted| {
        let own = inner.requirements().find(|r| r.key == wanted.key);
        own.is_some_and(|own| follows(&wanted.operator, &own.operator))
    }))
}

/// Whether `wanted` holds wherever `given` does, for one key.
fn follows(wanted: &Operator, given: &Operator) -> bool {
    match (given, wanted) {
        (Operator::In(a), Operator::In(b)) => a.is_subset(b),
        (Operator::In(a), Operator::NotIn(b)) => a.is_disjoint(b),
        (Operator::NotIn(a), Operator::NotIn(b)) => b.is_subset(a),
        (Operator::In(_) | Operator::Exists, Operator::Exists)
        | (Operator::DoesNotExist, Operator::DoesNotExist | Operator::NotIn(_)) => true,
        _ => false,
    }
}

/// Whether some labels may meet both selectors.
#[must_use]
pub fn overlap(a: &Selector, b: &Selector) -> bool {
    let all = a.requirements().chain(b.requirements()).cloned();
    !is_contradiction(&Selector::new(all))
}

/// Whether every pod that `inner` means `outer` means too, as peers of policies in namespace `own`.
/// `labels` are those that an object gives the namespace; without one only its name is known.
#[must_use]
pub fn peer_is_within(
    inner: &PeerSelects,
    outer: &PeerSelects,
    own: &NamespaceName,
    labels: Option<&Labels>,
) -> bool {
    let (
        PeerSelects::Pods { namespaces: inner_scope, pods: inner_pods },
        PeerSelects::Pods { namespaces: outer_scope, pods: outer_pods },
    ) = (inner, outer)
    else {
        return false;
    };
    is_within(inner_pods, outer_pods) && scope_is_within(inner_scope, outer_scope, own, labels)
}

fn scope_is_within(
    inner: &NamespaceScope,
    outer: &NamespaceScope,
    own: &NamespaceName,
    labels: Option<&Labels>,
) -> bool {
    match (inner, outer) {
        (NamespaceScope::Own, NamespaceScope::Own) => true,
        (NamespaceScope::Own, NamespaceScope::Matching(selector)) => {
            let by_name = || selector.requirements().all(|r| &*r.key == METADATA_NAME_LABEL);
            let name: Labels = [(METADATA_NAME_LABEL, own.as_str())].into_iter().collect();
            labels.map_or_else(|| by_name() && selector.matches(&name), |l| selector.matches(l))
        }
        (NamespaceScope::Matching(inner), NamespaceScope::Own) => {
            let choices = choices(inner);
            choices.get(METADATA_NAME_LABEL).is_some_and(|choice| match &choice.values {
                Values::Only(names) => !choice.absent && names.iter().all(|n| *n == own.as_str()),
                Values::AllBut(_) => false,
            })
        }
        (NamespaceScope::Matching(inner), NamespaceScope::Matching(outer)) => {
            is_within(inner, outer)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::selector::Requirement;

    /// Selectors over two keys and three values, small enough to try all labels.
    fn selector() -> impl Strategy<Value = Selector> {
        let values = proptest::collection::btree_set(0..3_usize, 1..3);
        let requirement = (0..2_usize, 0..4_u8, values).prop_map(|(key, operator, values)| {
            let values = values.into_iter().map(|v| Arc::from(["x", "y", "z"][v])).collect();
            let operator = match operator {
                0 => Operator::In(values),
                1 => Operator::NotIn(values),
                2 => Operator::Exists,
                _ => Operator::DoesNotExist,
            };
            Requirement { key: Arc::from(["a", "b"][key]), operator }
        });
        proptest::collection::vec(requirement, 0..4).prop_map(Selector::new)
    }

    /// Every choice of the two labels, one value beyond those that selectors name included.
    fn all_labels() -> Vec<Labels> {
        let choices = [None, Some("x"), Some("y"), Some("z"), Some("other")];
        let mut all = Vec::new();
        for a in choices {
            for b in choices {
                let pairs = [("a", a), ("b", b)];
                all.push(pairs.iter().filter_map(|(k, v)| v.map(|v| (*k, v))).collect());
            }
        }
        all
    }

    proptest! {
        #[test]
        fn inclusion_is_what_trying_all_labels_says(a in selector(), b in selector()) {
            let labels = all_labels();
            let included = labels.iter().all(|l| !a.matches(l) || b.matches(l));
            prop_assert_eq!(is_within(&a, &b), included, "{} in {}", a, b);
            let both = labels.iter().any(|l| a.matches(l) && b.matches(l));
            prop_assert_eq!(overlap(&a, &b), both, "{} and {}", a, b);
            prop_assert_eq!(is_contradiction(&a), !labels.iter().any(|l| a.matches(l)), "{}", a);
        }
    }

    fn name_is(name: &str) -> Selector {
        let operator = Operator::In([Arc::from(name)].into());
        Selector::new([Requirement { key: Arc::from(METADATA_NAME_LABEL), operator }])
    }

    #[test]
    fn a_namespace_is_itself_by_name_and_by_the_labels_that_it_is_known_to_have() {
        let own = NamespaceName::new("shop").unwrap();
        let team =
            Selector::new([Requirement { key: Arc::from("team"), operator: Operator::Exists }]);
        let labels: Labels = [("team", "a")].into_iter().collect();
        let matching = NamespaceScope::Matching;
        for (inner, outer, known, within) in [
            (NamespaceScope::Own, matching(name_is("shop")), None, true),
            (NamespaceScope::Own, matching(name_is("other")), None, false),
            (matching(name_is("shop")), NamespaceScope::Own, None, true),
            (matching(name_is("other")), NamespaceScope::Own, None, false),
            (matching(Selector::everything()), NamespaceScope::Own, None, false),
            (NamespaceScope::Own, matching(Selector::everything()), None, true),
            (NamespaceScope::Own, matching(team.clone()), Some(&labels), true),
            (NamespaceScope::Own, matching(team.clone()), None, false),
            (matching(team.clone()), matching(team), None, true),
        ] {
            assert_eq!(
                scope_is_within(&inner, &outer, &own, known),
                within,
                "{inner:?} in {outer:?}"
            );
        }
    }
}
