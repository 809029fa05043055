//! Which pods a peer of a rule means.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cluster::METADATA_NAME_LABEL;
use crate::labels::Labels;
use crate::name::NamespaceName;
use crate::policy::NamespaceScope;
use crate::selector::{Operator, Requirement, Selector};

/// The namespaces of a [`PodDefinition`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// All.
    All,
    /// The one of that name.
    Named(NamespaceName),
    /// Those with such labels.
    Matching(Selector),
}

/// Which pods a peer means, in whichever policy it stands: equal definitions mean equal pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodDefinition {
    /// In which namespaces.
    pub(crate) scope: Scope,
    /// With which labels.
    pub(crate) pods: Selector,
}

impl PodDefinition {
    /// What a peer with these selectors means in a policy of namespace `own`.
    pub(crate) fn new(own: &NamespaceName, namespaces: &NamespaceScope, pods: &Selector) -> Self {
        let scope = match namespaces {
            NamespaceScope::Own => Scope::Named(own.clone()),
            NamespaceScope::Matching(selector) if selector.is_everything() => Scope::All,
            NamespaceScope::Matching(selector) => match the_name_asked(selector) {
                Some(name) => Scope::Named(name),
                None => Scope::Matching(selector.clone()),
            },
        };
        Self { scope, pods: pods.clone() }
    }

    /// Whether it means a pod with these labels in a namespace of this name, whose labels are asked for
    /// where they matter.
    pub(crate) fn means<'l>(
        &self,
        namespace: &NamespaceName,
        namespace_labels: impl FnOnce() -> &'l Labels,
        labels: &Labels,
    ) -> bool {
        self.pods.matches(labels)
            && match &self.scope {
                Scope::All => true,
                Scope::Named(name) => name == namespace,
                Scope::Matching(selector) => selector.matches(namespace_labels()),
            }
    }

    /// A label that a pod must have, with the values of which it must have one; the one with the
    /// fewest, where several are asked for.
    pub(super) fn value_asked(&self) -> Option<Values<'_>> {
        values_asked(&self.pods).min_by_key(|(_, values)| values.len())
    }

    /// The labels that the namespace of a pod must have, each with the values of which it must have one, where
    /// namespaces are meant by their labels.
    pub(super) fn namespace_values_asked(&self) -> impl Iterator<Item = Values<'_>> {
        let selector = match &self.scope {
            Scope::Matching(selector) => Some(selector),
            Scope::All | Scope::Named(_) => None,
        };
        selector.into_iter().flat_map(values_asked)
    }

    /// Whether it asks for one label of pods at most, and for one of namespaces, and for no more of these than
    /// that they have one of some values.
    pub(super) fn asks_for_values_alone(&self) -> bool {
        let of_namespaces = match &self.scope {
            Scope::Matching(selector) => asks_for_values_alone(selector),
            Scope::All | Scope::Named(_) => true,
        };
        of_namespaces && asks_for_values_alone(&self.pods)
    }

    /// The labels of pods that it asks about.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pods.requirements().map(|requirement| &requirement.key)
    }
}

/// A label, and values of it.
pub(super) type Values<'a> = (&'a Arc<str>, &'a BTreeSet<Arc<str>>);

/// The labels of which a selector asks for one of some values.
fn values_asked(selector: &Selector) -> impl Iterator<Item = Values<'_>> {
    selector.requirements().filter_map(|one| match &one.operator {
        Operator::In(values) => Some((&one.key, values)),
        _ => None,
    })
}

fn asks_for_values_alone(selector: &Selector) -> bool {
    let mut requirements = selector.requirements();
    let is_of_values = |one: &Requirement| matches!(one.operator, Operator::In(_));
    requirements.next().is_none_or(is_of_values) && requirements.next().is_none()
}

/// The name, where a namespace selector asks for nothing but the label that every namespace has
/// with its own name.
fn the_name_asked(selector: &Selector) -> Option<NamespaceName> {
    let mut requirements = selector.requirements();
    let (only, None) = (requirements.next()?, requirements.next()) else { return None };
    match &only.operator {
        Operator::In(values) if &*only.key == METADATA_NAME_LABEL && values.len() == 1 => {
            values.first().and_then(|name| NamespaceName::new(name).ok())
        }
        _ => None,
    }
}
