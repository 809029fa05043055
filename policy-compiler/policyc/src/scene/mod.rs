//! What is asked about: the input's pods, or where it has none the pods that its policies speak of.
//!
//! Without pods an answer is about selectors: [`Kinds`] makes up a pod of each kind that they tell apart,
//! and `evaluate` judges these. Of what no policy says (the number of a named port, the address of a pod,
//! the labels of a namespace that no object declares) the answer is that the input does not tell.

use std::borrow::Cow;
use std::collections::BTreeSet;

use policy_compiler::cluster::{METADATA_NAME_LABEL, Snapshot};
use policy_compiler::name::{NamespaceName, ObjectKey};
use policy_compiler::policy::{Direction, NamespaceScope, Peer, PeerSelects, Policy, PortNumbers};
use policy_compiler::reach::{Bounds, Kinds, Level, MOST, Partition, Party, Reach};

use crate::phrase;
use crate::text::join;

/// What is asked about.
#[derive(Debug)]
pub struct Scene<'a> {
    given: Cow<'a, Snapshot>,
    kinds: Option<Kinds>,
}

/// The pods that the policies of `snapshots` speak of, where none of these has any pod.
#[must_use]
pub fn kinds(snapshots: &[&Snapshot]) -> Option<Kinds> {
    let podless = snapshots.iter().all(|snapshot| snapshot.pods.is_empty());
    let policies = snapshots.iter().any(|snapshot| !snapshot.policies.is_empty());
    (podless && policies).then(|| Kinds::of(snapshots))
}

impl<'a> Scene<'a> {
    /// The input as it is, with the pods that its policies speak of where it has none.
    #[must_use]
    pub fn of(snapshot: &'a Snapshot) -> Self {
        match kinds(&[snapshot]) {
            Some(kinds) => {
                Self { given: Cow::Owned(kinds.laid_over(snapshot)), kinds: Some(kinds) }
            }
            None => Self { given: Cow::Borrowed(snapshot), kinds: None },
        }
    }

    /// The objects, those that are made up too.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.given
    }

    /// Whether the answer is about selectors.
    #[must_use]
    pub fn is_of_selectors(&self) -> bool {
        self.kinds.is_some()
    }

    /// Whether selectors overlap in too many ways for all to be told.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.kinds.as_ref().is_some_and(|kinds| !kinds.crowded().is_empty())
    }

    /// `snapshot`, which is this one or one with other policies, by what is sure and what may be.
    #[must_use]
    pub fn bounds<'s>(&self, snapshot: &'s Snapshot) -> Bounds<'s> {
        match &self.kinds {
            Some(_) => Bounds::of_kinds(snapshot),
            None => Bounds::exact(Cow::Borrowed(snapshot)),
        }
    }

    /// The pods by `level`, or the selectors; then the nodes; then the world.
    #[must_use]
    pub fn parties(&self, reach: &Reach<'_>, level: Level) -> Vec<Party> {
        match &self.kinds {
            Some(kinds) => kinds.parties(level).into_iter().chain(reach.strangers()).collect(),
            None => reach.parties(level),
        }
    }

    /// The same over several snapshots.
    #[must_use]
    pub fn parties_of(&self, partition: &Partition<'_>, level: Level) -> Vec<Party> {
        match &self.kinds {
            Some(kinds) => kinds.parties(level).into_iter().chain(partition.strangers()).collect(),
            None => partition.parties(level),
        }
    }

    /// What a reader of an answer about selectors has to know, in sentences; none where there are pods.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        match &self.kinds {
            Some(kinds) => notes(kinds, &[&self.given]),
            None => Vec::new(),
        }
    }
}

/// What a reader of an answer about the selectors of `snapshots` has to know.
#[must_use]
pub fn notes(kinds: &Kinds, snapshots: &[&Snapshot]) -> Vec<String> {
    let mut notes = vec![
        "No pods in the input: these are the policies' selectors, each for every pod that it would \
         mean. `other pods` are those that no selector means, `other namespaces` those that none does."
            .to_owned(),
    ];
    let policies = || snapshots.iter().flat_map(|s| s.policies.values());
    let names: BTreeSet<String> = policies().flat_map(named_ports).collect();
    if !names.is_empty() {
        let names: Vec<String> = names.into_iter().collect();
        notes.push(format!(
            "Which numbers pods call {} the input does not tell.",
            join(&names, "and")
        ));
    }
    if policies().any(|policy| peers(policy).any(|p| matches!(p.selects, PeerSelects::Block(_)))) {
        notes.push(
            "Whether pods have addresses that an ipBlock means the input does not tell.".to_owned(),
        );
    }
    let doubts: BTreeSet<String> = snapshots.iter().flat_map(|s| doubts(s)).collect();
    notes.extend(doubts);
    if !kinds.crowded().is_empty() {
        let places: Vec<String> = kinds.crowded().iter().map(ToString::to_string).collect();
        notes.push(format!(
            "The selectors of {} overlap in more than {MOST} ways: of these only pods with exactly the \
             labels of one selector are told of.",
            join(&places, "and")
        ));
    }
    notes
}

fn peers(policy: &Policy) -> impl Iterator<Item = &Peer> {
    let rules = Direction::ALL.into_iter().flat_map(|direction| policy.rules(direction));
    rules.flat_map(|rule| phrase::listed_peers(&rule.grant))
}

/// The names that rules of `policy` give for ports: `http/TCP`.
fn named_ports(policy: &Policy) -> BTreeSet<String> {
    let rules = Direction::ALL.into_iter().flat_map(|direction| policy.rules(direction));
    let ports = rules.flat_map(|rule| phrase::listed_ports(&rule.grant));
    ports.filter(|p| matches!(p.numbers, PortNumbers::Named(_))).map(phrase::port).collect()
}

/// Whether one of `policies` says something of made up pods that `snapshot` does not tell.
#[must_use]
pub fn is_doubtful(snapshot: &Snapshot, policies: &BTreeSet<&ObjectKey>) -> bool {
    let mut these = snapshot.clone();
    these.policies.retain(|key, _| policies.contains(key));
    !doubts(&these).is_empty() || these.policies.values().any(|p| !named_ports(p).is_empty())
}

/// The namespaces of which only the name is known, and that a selector may mean by labels.
fn doubts(snapshot: &Snapshot) -> BTreeSet<String> {
    let names: BTreeSet<&NamespaceName> = snapshot.pods.keys().map(|key| &key.namespace).collect();
    let undeclared: Vec<String> = names
        .into_iter()
        .filter(|name| !snapshot.namespaces.contains_key(*name))
        .map(ToString::to_string)
        .collect();
    let by_labels: BTreeSet<String> = snapshot
        .policies
        .values()
        .flat_map(peers)
        .filter_map(|peer| match &peer.selects {
            PeerSelects::Pods { namespaces: NamespaceScope::Matching(selector), .. } => {
                let others = |key: &str| key != METADATA_NAME_LABEL;
                selector.requirements().any(|r| others(&r.key)).then(|| selector.to_string())
            }
            _ => None,
        })
        .collect();
    if undeclared.is_empty() || by_labels.is_empty() {
        return BTreeSet::new();
    }
    let by_labels: Vec<String> = by_labels.into_iter().collect();
    let (plural, them) =
        if undeclared.len() == 1 { ("namespace", "it") } else { ("namespaces", "them") };
    BTreeSet::from([format!(
        "Of {plural} {} only the name is known: whether a namespaceSelector {} means {them} the input \
         does not tell.",
        join(&undeclared, "and"),
        join(&by_labels, "or")
    )])
}

#[cfg(test)]
mod tests;
