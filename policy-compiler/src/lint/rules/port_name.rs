//! PC013: a port name means what the destination's containers declare; where none declares it, or only
//! for another protocol, the item allows nothing.

use std::collections::BTreeSet;

use crate::decode::nearest;
use crate::lint::Found;
use crate::lint::rule::Rule;
use crate::lint::scene::{Listed, Scene};
use crate::policy::{Direction, PeerSelects, Peers, PortMatch, PortNumbers};
use crate::port::PortName;

/// The pods that a rule's ports are ports of.
pub(super) struct Destinations {
    pub(super) classes: Vec<usize>,
    /// Why there may be more of them than the input tells.
    pub(super) incomplete: Option<String>,
}

/// The pods selected, for ingress; for egress those that the peers mean.
pub(super) fn destinations<'a>(scene: &Scene<'a>, rule: &Listed<'a>) -> Destinations {
    let own = &rule.policy.key.namespace;
    let mut incomplete = None;
    let classes: BTreeSet<usize> = match (rule.direction, rule.peers) {
        (Direction::Ingress, _) => scene.subjects(rule.policy).iter().copied().collect(),
        (Direction::Egress, Peers::Any) => {
            if !scene.material.whole {
                incomplete =
                    Some("the rule is for every pod, and the input may lack some".to_owned());
            }
            let live = |class: &usize| !scene.classes[*class].one().host_network;
            (0..scene.classes.len()).filter(live).collect()
        }
        (Direction::Egress, Peers::Listed(peers)) => {
            for peer in peers {
                incomplete = incomplete.or_else(|| unknown(scene, rule, &peer.selects));
            }
            let meant = peers.iter().map(|peer| scene.peers(own, &peer.selects));
            meant.flat_map(|classes| classes.iter().copied().collect::<Vec<_>>()).collect()
        }
    };
    Destinations { classes: classes.into_iter().collect(), incomplete }
}

/// Why the input may not tell of all pods that a peer means.
fn unknown(scene: &Scene<'_>, rule: &Listed<'_>, selects: &PeerSelects) -> Option<String> {
    match selects {
        PeerSelects::Block(_) => (!scene.material.whole).then(|| {
            "the rule is for addresses, and the input may lack pods that have them".to_owned()
        }),
        PeerSelects::Pods { namespaces, .. } => {
            let own = &rule.policy.key.namespace;
            let looked_into = scene.scope(own, namespaces);
            let unknown = looked_into.iter().find(|namespace| !scene.knows_pods_of(namespace));
            unknown.map(|namespace| format!("the input has no pods of namespace {namespace}"))
        }
    }
}

/// Names that resolve on no destination.
pub(super) fn unresolved(scene: &Scene<'_>, found: &mut Found) {
    for rule in scene.rules() {
        let names = |port: &&PortMatch| matches!(port.numbers, PortNumbers::Named(_));
        if !rule.listed_ports().iter().any(|port| names(&port)) {
            continue;
        }
        let to = destinations(scene, &rule);
        for (index, port) in rule.listed_ports().iter().enumerate() {
            if let PortNumbers::Named(name) = &port.numbers {
                judge(scene, &rule, (index, port, name), &to, found);
            }
        }
    }
}

fn judge(
    scene: &Scene<'_>,
    rule: &Listed<'_>,
    (index, port, name): (usize, &PortMatch, &PortName),
    to: &Destinations,
    found: &mut Found,
) {
    let declared = || to.classes.iter().flat_map(|class| scene.classes[*class].ports());
    let so_called = || declared().filter(|p| p.name.as_ref() == Some(name));
    if so_called().any(|p| p.protocol == port.protocol) {
        return;
    }
    let field = rule.port_field(index);
    if let Some(reason) = &to.incomplete {
        found.lacks(Rule::UnresolvedPort, reason, scene.spot(rule.policy, &field));
        return;
    }
    if to.classes.is_empty() {
        // Nobody is selected or meant, which other rules say; only a block has nothing more to say.
        if rule.listed_peers().iter().all(|peer| matches!(peer.selects, PeerSelects::Block(_)))
            && rule.direction == Direction::Egress
        {
            let message = format!(
                "`{name}` is looked up on pods, and no pod has an address in these blocks: this item allows \
                 nothing"
            );
            let fix = "write the number";
            found.add(scene.finding(Rule::UnresolvedPort, rule.policy, &field, message, fix));
        }
        return;
    }
    let whom = scene.pods(&to.classes);
    let others: BTreeSet<String> = so_called().map(|p| p.protocol.to_string()).collect();
    let (message, fix) = if others.is_empty() {
        let names: BTreeSet<&str> =
            declared().filter_map(|p| p.name.as_ref().map(PortName::as_str)).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let fix = match (nearest(name.as_str(), &names), names.as_slice()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, []) => "write the number: they name no ports".to_owned(),
            (None, names) => format!("their ports are named {}", names.join(", ")),
        };
        (format!("no port of {whom} is named `{name}`: this item allows nothing"), fix)
    } else {
        let other = others.into_iter().collect::<Vec<_>>().join(" and ");
        (
            format!(
                "`{name}` of {whom} is {other} and not {}: this item allows nothing",
                port.protocol
            ),
            format!("write `protocol: {other}`"),
        )
    };
    found.add(scene.finding(Rule::UnresolvedPort, rule.policy, &field, message, fix));
}
