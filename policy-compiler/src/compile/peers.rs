//! Whom rules grant to: pod definitions, blocks, everybody; and the pods that are meant today.
//!
//! A set of pods is named by what defines it and never by its members, so that a pod that comes or
//! goes is a change of members and of no rule.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::cluster_view::ClusterView;
use super::digest::Digest;
use crate::cidr::IpBlock;
use crate::cluster::METADATA_NAME_LABEL;
use crate::name::NamespaceName;
use crate::policy::{NamespaceScope, Peer, PeerSelects, Peers};
use crate::selector::{Operator, Selector};

/// The namespaces of a [`PodDefinition`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// All.
    All,
    /// The one of that name.
    Named(NamespaceName),
    /// Those with such labels.
    Matching(Selector),
}

/// Which pods a peer means, in whichever policy it stands: equal definitions mean equal pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodDefinition {
    /// In which namespaces.
    pub(super) scope: Scope,
    /// With which labels.
    pub(super) pods: Selector,
}

impl PodDefinition {
    fn new(own: &NamespaceName, namespaces: &NamespaceScope, pods: &Selector) -> Self {
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

    /// Whether it surely means every pod that `other` means, whatever pods there are.
    fn covers(&self, other: &Self) -> bool {
        (self.scope == Scope::All || self.scope == other.scope)
            && (self.pods.is_everything() || self.pods == other.pods)
    }

    fn feed(&self, digest: &mut Digest) {
        match &self.scope {
            Scope::All => {
                digest.text("all");
            }
            Scope::Named(name) => {
                digest.text("named").text(name.as_str());
            }
            Scope::Matching(selector) => feed_selector(digest.text("matching"), selector),
        }
        feed_selector(digest, &self.pods);
    }
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

/// Peers of several rules, united.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerUnion<'a> {
    /// Everybody; the rest is empty then.
    pub(super) any: bool,
    /// Pods. No definition covers another.
    pub(super) pods: BTreeSet<Rc<PodDefinition>>,
    /// Blocks of both families.
    pub(super) blocks: BTreeSet<&'a IpBlock>,
}

impl<'a> PeerUnion<'a> {
    /// The peers of one rule of a policy in namespace `own`.
    pub(super) fn of(own: &NamespaceName, peers: &'a Peers) -> Self {
        let mut union = Self::default();
        match peers {
            Peers::Any => union.any = true,
            Peers::Listed(peers) => {
                for Peer { selects, .. } in peers {
                    match selects {
                        PeerSelects::Pods { namespaces, pods } => {
                            union.add_pods(Rc::new(PodDefinition::new(own, namespaces, pods)));
                        }
                        PeerSelects::Block(block) => {
                            union.blocks.insert(block);
                        }
                    }
                }
            }
        }
        union
    }

    /// Adds the peers of another.
    pub(super) fn unite(&mut self, other: &Self) {
        if self.any || other.any {
            *self = Self { any: true, ..Self::default() };
            return;
        }
        for definition in &other.pods {
            self.add_pods(Rc::clone(definition));
        }
        self.blocks.extend(&other.blocks);
    }

    fn add_pods(&mut self, definition: Rc<PodDefinition>) {
        if self.pods.iter().any(|have| have.covers(&definition)) {
            return;
        }
        self.pods.retain(|have| !definition.covers(have));
        self.pods.insert(definition);
    }

    /// Leaves out whom `wider` grants more.
    pub(super) fn subtract(&mut self, wider: &Self) {
        if wider.any {
            *self = Self::default();
        }
        self.pods.retain(|have| !wider.pods.iter().any(|other| other.covers(have)));
        self.blocks.retain(|have| !wider.blocks.contains(have));
    }

    /// Whether it is nobody.
    pub(super) fn is_nobody(&self) -> bool {
        !self.any && self.pods.is_empty() && self.blocks.is_empty()
    }
}

/// Feeds definitions in their order.
pub(super) fn feed_definitions(digest: &mut Digest, pods: &BTreeSet<Rc<PodDefinition>>) {
    digest.number(pods.len() as u64);
    for definition in pods {
        definition.feed(digest);
    }
}

/// The pods that definitions mean today, each looked up once.
#[derive(Default)]
pub(super) struct Memberships {
    known: BTreeMap<Rc<PodDefinition>, Rc<BTreeSet<usize>>>,
}

impl Memberships {
    /// The pods of one definition, as indices of the view.
    pub(super) fn of(
        &mut self,
        view: &ClusterView<'_>,
        definition: &Rc<PodDefinition>,
    ) -> Rc<BTreeSet<usize>> {
        if let Some(known) = self.known.get(definition) {
            return Rc::clone(known);
        }
        let mut members = BTreeSet::new();
        for (namespace, pods) in view.namespaces_with_pods() {
            let inside = match &definition.scope {
                Scope::All => true,
                Scope::Named(name) => name == namespace.name,
                Scope::Matching(selector) => selector.matches(&namespace.labels),
            };
            if inside {
                let selected = |index: &&usize| definition.pods.matches(&view.pod(**index).labels);
                members.extend(pods.iter().filter(selected));
            }
        }
        let members = Rc::new(members);
        self.known.insert(Rc::clone(definition), Rc::clone(&members));
        members
    }

    /// The pods of several definitions together.
    pub(super) fn of_all(
        &mut self,
        view: &ClusterView<'_>,
        definitions: &BTreeSet<Rc<PodDefinition>>,
    ) -> BTreeSet<usize> {
        let mut pods = BTreeSet::new();
        for definition in definitions {
            pods.extend(self.of(view, definition).iter());
        }
        pods
    }
}
