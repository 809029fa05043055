//! What is surely allowed to pods that are made up, and what may be.
//!
//! [`Kinds`](super::Kinds) have no ports, so that what a rule grants by a port's name goes to whatever
//! number a pod calls so; and of a namespace without an object only the name is known, so that a
//! `namespaceSelector` may mean it or not. Rules only add to what is allowed. So two snapshots bound the
//! truth: one whose rules grant only what is sure, and one whose rules grant all that may be.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cluster::{METADATA_NAME_LABEL, Namespace, Snapshot};
use crate::name::NamespaceName;
use crate::policy::{Grant, NamespaceScope, Peer, PeerSelects, Peers, PortNumbers, Ports, Rule};
use crate::selector::{Operator, Requirement, Selector};

use super::{Partition, Reach};

/// A snapshot of made up pods by what it surely allows and what it may allow; or any other, which is both.
#[derive(Clone, Debug)]
pub struct Bounds<'s> {
    sure: Cow<'s, Snapshot>,
    possible: Option<Snapshot>,
}

impl<'s> Bounds<'s> {
    /// A snapshot that tells everything.
    #[must_use]
    pub fn exact(snapshot: Cow<'s, Snapshot>) -> Self {
        Self { sure: snapshot, possible: None }
    }

    /// A snapshot whose pods are [`Kinds`](super::Kinds).
    #[must_use]
    pub fn of_kinds(snapshot: &Snapshot) -> Self {
        let undeclared: BTreeSet<&NamespaceName> =
            snapshot.pods.keys().map(|key| &key.namespace).collect();
        let undeclared =
            undeclared.into_iter().filter(|name| !snapshot.namespaces.contains_key(*name));
        let undeclared: Vec<&NamespaceName> = undeclared.collect();
        let with = |change: &dyn Fn(&mut Rule)| {
            let mut changed = snapshot.clone();
            for policy in changed.policies.values_mut() {
                policy.ingress.iter_mut().chain(&mut policy.egress).for_each(change);
            }
            changed
        };
        Self {
            sure: Cow::Owned(with(&|rule| restrict(rule, &undeclared))),
            possible: Some(with(&|rule| extend(rule, &undeclared))),
        }
    }

    /// What is sure, for those who ask for reasons.
    #[must_use]
    pub fn sure(&self) -> &Snapshot {
        &self.sure
    }

    /// What may be, where that is more than what is sure.
    #[must_use]
    pub fn possible(&self) -> Option<&Snapshot> {
        self.possible.as_ref()
    }

    /// What may reach what, over the classes of addresses of `partition`.
    #[must_use]
    pub fn reach(&self, partition: &Partition<'_>) -> Reach<'_> {
        let reach = Reach::over(partition, &self.sure);
        match &self.possible {
            Some(possible) => reach.bounded_by(Reach::over(partition, possible)),
            None => reach,
        }
    }
}

/// Whether a namespace of which only the name is known may or may not be meant: by its name it is, and
/// other labels are asked for.
pub(super) fn depends(selector: &Selector, name: &NamespaceName) -> bool {
    let own = Namespace::undeclared(name.clone());
    let of_name = |r: &&Requirement| &*r.key == METADATA_NAME_LABEL;
    selector.requirements().filter(of_name).all(|r| r.holds(own.labels()))
        && selector.requirements().any(|r| !of_name(&r))
}

fn in_doubt<'n>(selector: &Selector, undeclared: &[&'n NamespaceName]) -> Vec<&'n NamespaceName> {
    undeclared.iter().copied().filter(|name| depends(selector, name)).collect()
}

fn values(names: &[&NamespaceName]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(name.as_str())).collect()
}

/// Leaves out the namespaces that only labels which nobody knows would make meant.
fn restrict(rule: &mut Rule, undeclared: &[&NamespaceName]) {
    let Grant::Traffic { peers: Peers::Listed(peers), .. } = &mut rule.grant else { return };
    for peer in peers {
        let PeerSelects::Pods { namespaces: NamespaceScope::Matching(selector), .. } =
            &mut peer.selects
        else {
            continue;
        };
        let unsure: Vec<&NamespaceName> = in_doubt(selector, undeclared)
            .into_iter()
            .filter(|name| selector.matches(Namespace::undeclared((*name).clone()).labels()))
            .collect();
        if !unsure.is_empty() {
            let not = Requirement {
                key: Arc::from(METADATA_NAME_LABEL),
                operator: Operator::NotIn(values(&unsure)),
            };
            *selector = Selector::new(selector.requirements().cloned().chain([not]));
        }
    }
}

/// Adds the namespaces that may be meant, and every port that may be called as a rule calls one.
fn extend(rule: &mut Rule, undeclared: &[&NamespaceName]) {
    let Grant::Traffic { peers, ports } = &mut rule.grant else { return };
    if let Ports::Listed(ports) = ports {
        for port in ports {
            if matches!(port.numbers, PortNumbers::Named(_)) {
                port.numbers = PortNumbers::Any;
            }
        }
    }
    let Peers::Listed(peers) = peers else { return };
    let may = |peer: &Peer| {
        let PeerSelects::Pods { namespaces: NamespaceScope::Matching(selector), pods } =
            &peer.selects
        else {
            return None;
        };
        let names = in_doubt(selector, undeclared);
        let by_name = Requirement {
            key: Arc::from(METADATA_NAME_LABEL),
            operator: Operator::In(values(&names)),
        };
        let selects = PeerSelects::Pods {
            namespaces: NamespaceScope::Matching(Selector::new([by_name])),
            pods: pods.clone(),
        };
        (!names.is_empty()).then(|| Peer { selects, location: peer.location.clone() })
    };
    let added: Vec<Peer> = peers.iter().filter_map(may).collect();
    peers.extend(added);
}
