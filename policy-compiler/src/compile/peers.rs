//! Whom rules grant to: pod definitions, blocks, everybody; and the pods that are meant today.
//!
//! A set of pods is named by what defines it and never by its members, so that a pod that comes or
//! goes is a change of members and of no rule.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::cluster_view::{ClusterView, NamespaceView};
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

/// Definitions, none of which covers another.
pub(super) type Definitions = BTreeSet<Rc<PodDefinition>>;

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
    /// Pods.
    pub(super) pods: Rc<Definitions>,
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
                    pods.insert(Rc::new(PodDefinition::new(own, namespaces, selector)));
                }
                PeerSelects::Block(block) => {
                    blocks.insert(block);
                }
            }
        }
        Self { any: false, pods: Rc::new(fewest(pods)), blocks }
    }

    /// Those of all of them.
    pub(super) fn of_all(unions: &[&Self]) -> Self {
        if unions.iter().any(|union| union.any) {
            return Self { any: true, ..Self::default() };
        }
        let pods = unions.iter().flat_map(|union| union.pods.iter().cloned()).collect();
        let blocks = unions.iter().flat_map(|union| union.blocks.iter().copied()).collect();
        Self { any: false, pods: Rc::new(fewest(pods)), blocks }
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
            pods: Rc::new(others.cloned().collect()),
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
        definition.feed(digest);
    }
}

/// The pods that definitions mean today, each looked up once.
#[derive(Default)]
pub(super) struct Memberships<'a> {
    known: BTreeMap<Rc<PodDefinition>, Rc<BTreeSet<usize>>>,
    /// Those of several together. Kept with what they are of, so that its address stays its own.
    unions: BTreeMap<*const Definitions, (Rc<Definitions>, Rc<BTreeSet<usize>>)>,
    labelled: Option<Labelled<'a>>,
}

/// How many definitions are looked up pod by pod: an index pays for more.
const UNINDEXED: usize = 64;

impl<'a> Memberships<'a> {
    /// The pods of one definition, as indices of the view.
    fn of(
        &mut self,
        view: &ClusterView<'a>,
        definition: &Rc<PodDefinition>,
    ) -> Rc<BTreeSet<usize>> {
        if let Some(known) = self.known.get(definition) {
            return Rc::clone(known);
        }
        if self.known.len() >= UNINDEXED && self.labelled.is_none() {
            self.labelled = Some(Labelled::of(view));
        }
        let candidates =
            self.labelled.as_ref().and_then(|labelled| labelled.candidates(&definition.pods));
        let selected = |index: &usize| definition.pods.matches(&view.pod(*index).labels);
        let members: BTreeSet<usize> = match (&definition.scope, candidates) {
            (scope, Some(candidates)) => {
                let inside = |index: &usize| scope.holds(view.namespace_of(*index));
                candidates.filter(|index| selected(index) && inside(index)).collect()
            }
            (Scope::Named(name), None) => {
                view.pods_in(name).iter().copied().filter(selected).collect()
            }
            (scope, None) => {
                let inside = view.namespaces_with_pods().filter(|(one, _)| scope.holds(one));
                inside.flat_map(|(_, pods)| pods.iter().copied()).filter(selected).collect()
            }
        };
        let members = Rc::new(members);
        self.known.insert(Rc::clone(definition), Rc::clone(&members));
        members
    }

    /// The pods of several definitions together.
    pub(super) fn of_all(
        &mut self,
        view: &ClusterView<'a>,
        definitions: &Rc<Definitions>,
    ) -> Rc<BTreeSet<usize>> {
        let address = Rc::as_ptr(definitions);
        if let Some((_, known)) = self.unions.get(&address) {
            return Rc::clone(known);
        }
        let mut pods = BTreeSet::new();
        for definition in &**definitions {
            pods.extend(self.of(view, definition).iter());
        }
        let pods = Rc::new(pods);
        self.unions.insert(address, (Rc::clone(definitions), Rc::clone(&pods)));
        pods
    }
}

impl Scope {
    fn holds(&self, namespace: &NamespaceView<'_>) -> bool {
        match self {
            Scope::All => true,
            Scope::Named(name) => name == namespace.name,
            Scope::Matching(selector) => selector.matches(&namespace.labels),
        }
    }
}

/// The pods by a label that they have.
struct Labelled<'a>(BTreeMap<&'a str, BTreeMap<&'a str, Vec<usize>>>);

impl<'a> Labelled<'a> {
    fn of(view: &ClusterView<'a>) -> Self {
        let mut labelled: BTreeMap<_, BTreeMap<_, Vec<usize>>> = BTreeMap::new();
        for index in view.indices() {
            for (key, value) in view.pod(index).labels.iter() {
                labelled.entry(key).or_default().entry(value).or_default().push(index);
            }
        }
        Self(labelled)
    }

    /// Pods among which all are that a selector means; nothing where it asks for no value.
    fn candidates<'s>(
        &'s self,
        selector: &'s Selector,
    ) -> Option<impl Iterator<Item = usize> + use<'s, 'a>> {
        let asked = selector.requirements().filter_map(|requirement| match &requirement.operator {
            Operator::In(values) => Some((&*requirement.key, values)),
            _ => None,
        });
        let count = |(key, values): &(&str, &BTreeSet<Arc<str>>)| -> usize {
            values.iter().map(|value| self.having(key, value).len()).sum()
        };
        let (key, values) = asked.min_by_key(count)?;
        Some(values.iter().flat_map(move |value| self.having(key, value).iter().copied()))
    }

    fn having(&self, key: &str, value: &str) -> &[usize] {
        self.0.get(key).and_then(|values| values.get(value)).map_or(&[], Vec::as_slice)
    }
}
