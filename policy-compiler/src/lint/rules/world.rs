//! PC024: ingress from everywhere. On every port that is hardly meant; on some it is worth knowing.

use crate::diagnostic::Severity;
use crate::lint::Found;
use crate::lint::ports::words;
use crate::lint::rule::Rule;
use crate::lint::scene::{Scene, rules_of};
use crate::lint::words::list;
use crate::policy::{Direction, PeerSelects, Peers, Ports};

/// Ingress rules for everybody, or for a block of prefix length 0.
pub(super) fn open_to_world(scene: &Scene<'_>, found: &mut Found) {
    let ingress = |policy| rules_of(policy, Direction::Ingress);
    for rule in scene.snapshot.policies.values().flat_map(ingress) {
        let (whom, field) = match rule.peers {
            Peers::Any => ("everybody, inside the cluster and out,".to_owned(), rule.field()),
            Peers::Listed(peers) => {
                let world = peers.iter().enumerate().find_map(|(i, peer)| match &peer.selects {
                    PeerSelects::Block(block) if block.cidr().prefix_len() == 0 => Some((i, block)),
                    _ => None,
                });
                match world {
                    Some((index, block)) => (block.to_string(), rule.peer_field(index)),
                    None => continue,
                }
            }
        };
        let (severity, ports) = match rule.ports {
            Ports::Any => (Severity::Warning, "every port".to_owned()),
            Ports::Listed(ports) => (Severity::Note, list(ports.iter().map(words))),
        };
        let message =
            format!("{whom} may reach {} on {ports}", super::subject_words(scene, rule.policy));
        let fix = "name whom you mean in `from`, and the ports in `ports`";
        let mut finding = scene.finding(Rule::OpenToWorld, rule.policy, &field, message, fix);
        finding.severity = severity;
        found.add(finding);
    }
}
