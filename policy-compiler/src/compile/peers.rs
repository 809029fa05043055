//! Whom rules grant to: pod definitions, blocks, everybody.
//!
//! A set of pods is named by what defines it and never by its members, so that a pod that comes or
//! goes is a change of members and of no rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::digest::Digest;
use crate::cidr::IpBlock;
use crate::index::{Definitions, PodDefinition, Scope};
use crate::name::NamespaceName;
use crate::policy::{Peer, PeerSelects, Peers};
use crate::selector::{Operator, Selector};

/// Feeds what a definition says.
fn feed(digest: &mut Digest, definition: &PodDefinition) {
    match &definition.scope {
        Scope::All => {
            digest.text("all");
        }
        Scope::Named(name) => {
            digest.text("named").text(name.as_str());
        }
        Scope::Matching(selector) => feed_selector(digest.text("matching"), selector),
    }
    feed_selector(digest, &definition.pods);
}

fn feed_selector(digest: &mut Digest, selector: &Selector) {
    digest.number(selector.requirements().count() as u64);
    for requirement in selector.requirements() {
        digest.text(&requirement.key);
        let (word, values) = match &requirement.operator {
            Operator::In(values) => ("in", Some(values)),
            Operator::NotIn(values) => ("not in", Some(values)),
            Operator::Exists => ("exists", None),
            Operator::DoesNotExist => ("does not exist", None),
        };
        digest.text(word).number(values.map_or(0, BTreeSet::len) as u64);
        for value in values.into_iter().flatten() {
            digest.text(value);
        }
    }
}

/// The definitions of a list that cover others: by meaning every namespace, or every pod of some.
struct Wide<'p> {
    /// Every pod there is.
    everybody: bool,
    /// Every pod of these namespaces.
    whole: BTreeSet<&'p Scope>,
    /// These pods in every namespace.
    anywhere: BTreeSet<&'p Selector>,
}

impl<'p> Wide<'p> {
    fn of(definitions: &'p Definitions) -> Self {
        let all = || definitions.iter().map(|definition| &**definition);
        let whole = all().filter(|d| d.pods.is_everything());
        let anywhere = all().filter(|d| d.scope == Scope::All);
        Self {
            everybody: all().any(|d| d.scope == Scope::All && d.pods.is_everything()),
            whole: whole.map(|d| &d.scope).collect(),
            anywhere: anywhere.map(|d| &d.pods).collect(),
        }
    }

    /// Whether one of them, other than it, surely means every pod that it means, whatever pods there are.
    fn covers(&self, definition: &PodDefinition) -> bool {
        let (anywhere, whole) = (definition.scope == Scope::All, definition.pods.is_everything());
        self.everybody && !(anywhere && whole)
            || !anywhere && self.anywhere.contains(&definition.pods)
            || !whole && self.whole.contains(&definition.scope)
    }
}

/// Peers of several rules, united.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerUnion<'a> {
    /// Everybody; the rest is empty then.
    pub(super) any: bool,
    /// Pods: definitions, none of which covers another.
    pub(super) pods: Arc<Definitions>,
    /// Blocks of both families.
    pub(super) blocks: BTreeSet<&'a IpBlock>,
}

impl<'a> PeerUnion<'a> {
    /// The peers of one rule of a policy in namespace `own`.
    pub(super) fn of(own: &NamespaceName, peers: &'a Peers) -> Self {
        let Peers::Listed(peers) = peers else { return Self { any: true, ..Self::default() } };
        let mut pods = Definitions::new();
        let mut blocks = BTreeSet::new();
        for Peer { selects, .. } in peers {
            match selects {
                PeerSelects::Pods { namespaces, pods: selector } => {
                    pods.insert(Arc::new(PodDefinition::new(own, namespaces, selector)));
                }
                PeerSelects::Block(block) => {
                    blocks.insert(block);
                }
            }
        }
        Self { any: false, pods: Arc::new(fewest(pods)), blocks }
    }

    /// Those of all of them.
    pub(super) fn of_all(unions: &[&Self]) -> Self {
        if unions.iter().any(|union| union.any) {
            return Self { any: true, ..Self::default() };
        }
        let pods = unions.iter().flat_map(|union| union.pods.iter().cloned()).collect();
        let blocks = unions.iter().flat_map(|union| union.blocks.iter().copied()).collect();
        Self { any: false, pods: Arc::new(fewest(pods)), blocks }
    }

    /// Without whom `wider` grants more.
    pub(super) fn less(&self, wider: &Self) -> Self {
        if wider.any {
            return Self::default();
        }
        let wide = Wide::of(&wider.pods);
        let others = self.pods.iter().filter(|d| !wider.pods.contains(*d) && !wide.covers(d));
        let blocks = self.blocks.iter().filter(|have| !wider.blocks.contains(*have));
        Self {
            any: self.any,
            pods: Arc::new(others.cloned().collect()),
            blocks: blocks.copied().collect(),
        }
    }

    /// Whether it is nobody.
    pub(super) fn is_nobody(&self) -> bool {
        !self.any && self.pods.is_empty() && self.blocks.is_empty()
    }
}

/// Without those that others cover.
fn fewest(definitions: Definitions) -> Definitions {
    let wide = Wide::of(&definitions);
    if wide.whole.is_empty() && wide.anywhere.is_empty() {
        return definitions;
    }
    definitions.iter().filter(|definition| !wide.covers(definition)).cloned().collect()
}

/// Feeds definitions in their order.
pub(super) fn feed_definitions(digest: &mut Digest, pods: &Definitions) {
    digest.number(pods.len() as u64);
    for definition in pods {
        feed(digest, definition);
    }
}
