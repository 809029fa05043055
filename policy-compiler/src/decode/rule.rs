//! Rules and peers, strictly: what is wrong anywhere in a rule makes that rule allow nothing.

use super::block::ip_block;
use super::port::ports;
use super::report::{Field, Mapping, Report, Schema};
use super::selector::selector;
use crate::policy::{Direction, Grant, NamespaceScope, Peer, PeerSelects, Peers, Rule};
use crate::selector::Selector;

const INGRESS_RULE: Schema = Schema {
    what: "an ingress rule",
    fields: &["from", "ports"],
    misplaced: &[
        ("to", "an ingress rule names its peers in `from`"),
        ("podSelector", "put it in an item of `from`"),
        ("namespaceSelector", "put it in an item of `from`"),
        ("ipBlock", "put it in an item of `from`"),
        ("protocol", "put it in an item of `ports`"),
        ("port", "did you mean `ports`? a port is an item of that: `ports: [{port: ..}]`"),
        ("endPort", "put it in an item of `ports`"),
    ],
};

const EGRESS_RULE: Schema = Schema {
    what: "an egress rule",
    fields: &["to", "ports"],
    misplaced: &[
        ("from", "an egress rule names its peers in `to`"),
        ("podSelector", "put it in an item of `to`"),
        ("namespaceSelector", "put it in an item of `to`"),
        ("ipBlock", "put it in an item of `to`"),
        ("protocol", "put it in an item of `ports`"),
        ("port", "did you mean `ports`? a port is an item of that: `ports: [{port: ..}]`"),
        ("endPort", "put it in an item of `ports`"),
    ],
};

const PEER: Schema = Schema {
    what: "a peer",
    fields: &["podSelector", "namespaceSelector", "ipBlock"],
    misplaced: &[
        ("ports", "put it beside `from` or `to`"),
        ("port", "put it in an item of `ports`, beside `from` or `to`"),
        ("protocol", "put it in an item of `ports`, beside `from` or `to`"),
        ("cidr", "put it under `ipBlock`"),
        ("except", "put it under `ipBlock`"),
        ("matchLabels", "put it under `podSelector` or `namespaceSelector`"),
        ("matchExpressions", "put it under `podSelector` or `namespaceSelector`"),
    ],
};

/// The rule at `field`; where it is invalid, one that allows nothing and says why.
pub(super) fn rule(field: &Field<'_>, direction: Direction, report: &mut Report<'_>) -> Rule {
    let mark = report.mark();
    let traffic = traffic(field, direction, report);
    let flaw = report.conclude(mark, &field.path, "this rule allows nothing");
    let grant = match (traffic, flaw) {
        (Some(grant), None) => grant,
        (_, reason) => Grant::Nothing { reason: reason.unwrap_or_else(|| "invalid".to_owned()) },
    };
    Rule { grant, location: report.location(field.node.position) }
}

/// Makes every rule allow nothing, for a reason that lies outside them.
pub(super) fn void(rules: &mut [Rule], reason: &str) {
    for rule in rules {
        if let Grant::Traffic { .. } = rule.grant {
            rule.grant = Grant::Nothing { reason: reason.to_owned() };
        }
    }
}

/// What a rule grants; `None` where it is invalid, which has then been reported.
fn traffic(field: &Field<'_>, direction: Direction, report: &mut Report<'_>) -> Option<Grant> {
    let (schema, peers_key) = match direction {
        Direction::Ingress => (&INGRESS_RULE, "from"),
        Direction::Egress => (&EGRESS_RULE, "to"),
    };
    if field.node.is_null() {
        let help = "write `{}` for a rule that allows everything, or remove the item";
        report.error(field, "an empty item is no rule", Some(help.to_owned()));
        return None;
    }
    let mapping = report.strict(field, schema)?;
    let peers = peers(&mapping, peers_key, report);
    let ports = ports(&mapping, report);
    Some(Grant::Traffic { peers: peers?, ports: ports? })
}

fn peers(rule: &Mapping<'_>, key: &str, report: &mut Report<'_>) -> Option<Peers> {
    let Some(field) = rule.get(key) else { return Some(Peers::Any) };
    let items = report.list(&field)?;
    if items.is_empty() {
        return Some(Peers::Any);
    }
    // Every item is looked at before the first failure counts, so that all are reported at once.
    let peers: Vec<Option<Peer>> = items.iter().map(|item| peer(item, report)).collect();
    peers.into_iter().collect::<Option<Vec<Peer>>>().map(Peers::Listed)
}

fn peer(field: &Field<'_>, report: &mut Report<'_>) -> Option<Peer> {
    if field.node.is_null() {
        let help = "write a podSelector, a namespaceSelector or an ipBlock behind the `-`";
        report.error(field, "an empty item is no peer", Some(help.to_owned()));
        return None;
    }
    let mapping = report.strict(field, &PEER)?;
    let pods = mapping.get("podSelector");
    let namespaces = mapping.get("namespaceSelector");
    let block = mapping.get("ipBlock");
    let selects = match (block, &pods, &namespaces) {
        (Some(block), None, None) => ip_block(&block, report).map(PeerSelects::Block),
        (Some(block), _, _) => {
            let help = "make the ipBlock an item of its own".to_owned();
            report.error(&block, "must stand alone in its peer", Some(help));
            None
        }
        (None, None, None) => {
            // A key that nobody knows explains why nothing is here, and has been reported.
            if mapping.unknown.is_empty() {
                let help = "`podSelector: {}` is every pod of the policy's namespace, `namespaceSelector: {}` every \
                            pod of all namespaces; without any peers the rule is for everybody";
                let message = "a peer must have a podSelector, a namespaceSelector or an ipBlock";
                report.error(field, message, Some(help.to_owned()));
            }
            None
        }
        (None, _, _) => pod_peer(pods.as_ref(), namespaces.as_ref(), report),
    };
    Some(Peer { selects: selects?, location: report.location(field.node.position) })
}

fn pod_peer(
    pods: Option<&Field<'_>>,
    namespaces: Option<&Field<'_>>,
    report: &mut Report<'_>,
) -> Option<PeerSelects> {
    let pods = match pods {
        Some(field) => selector(field, report),
        None => Some(Selector::everything()),
    };
    let namespaces = match namespaces {
        Some(field) => selector(field, report).map(NamespaceScope::Matching),
        None => Some(NamespaceScope::Own),
    };
    Some(PeerSelects::Pods { namespaces: namespaces?, pods: pods? })
}

#[cfg(test)]
mod tests;
