//! What policies that come to select a pod of the node ask of pods elsewhere, found out for all of them at
//! once, so that pods are told apart once by all of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::chosen::News;
use crate::cluster::Snapshot;
use crate::policy::{Direction, Grant, PeerSelects, Peers, Policy, PortNumbers, Ports};
use crate::port::{PortName, Protocol};

/// What is asked.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// About these labels.
    pub(super) labels: BTreeSet<Arc<str>>,
    /// About these names of ports.
    pub(super) names: BTreeSet<(Protocol, PortName)>,
}

/// What policies that are new to pods ask.
pub(super) fn asks(objects: &Snapshot, news: &News) -> Asks {
    let policies = asking(objects, news);
    Asks { labels: labels_asked(&policies), names: names_asked(&policies) }
}

/// What policies that are new to pods may ask the index, by the directions that they concern.
fn asking<'a>(snapshot: &'a Snapshot, news: &News) -> Vec<(Direction, &'a Policy)> {
    let policies = news.values().filter_map(|state| {
        let policy = snapshot.policies.get(&state.key)?;
        Some(Direction::ALL.into_iter().map(move |direction| (direction, policy)))
    });
    policies.flatten().filter(|(direction, policy)| policy.isolates(*direction)).collect()
}

/// The labels of pods that policies ask about.
fn labels_asked(policies: &[(Direction, &Policy)]) -> BTreeSet<Arc<str>> {
    let mut labels = BTreeSet::new();
    for (direction, policy) in policies {
        for rule in policy.rules(*direction) {
            let Grant::Traffic { peers: Peers::Listed(peers), .. } = &rule.grant else { continue };
            for peer in peers {
                if let PeerSelects::Pods { pods, .. } = &peer.selects {
                    labels.extend(pods.requirements().map(|asked| Arc::clone(&asked.key)));
                }
            }
        }
    }
    labels
}

/// The names of ports that policies ask about, of destinations elsewhere.
fn names_asked(policies: &[(Direction, &Policy)]) -> BTreeSet<(Protocol, PortName)> {
    let mut names = BTreeSet::new();
    for (direction, policy) in policies {
        if *direction == Direction::Ingress {
            continue;
        }
        for rule in policy.rules(*direction) {
            let Grant::Traffic { ports: Ports::Listed(ports), .. } = &rule.grant else { continue };
            for port in ports {
                if let PortNumbers::Named(name) = &port.numbers {
                    names.insert((port.protocol, name.clone()));
                }
            }
        }
    }
    names
}
