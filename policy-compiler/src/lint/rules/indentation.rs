//! PC008: `namespaceSelector` and `podSelector` in one item mean both, in two items either; one `-`
//! makes the difference. And a `namespaceSelector:` with nothing behind it is none at all.
//!
//! Either form is legal and often meant. One is reported only where the pods show that it does nothing
//! and the other would: two items of which the second selects nobody in the policy's own namespace but
//! somebody in the first's; one item that selects nobody although each half does.

use crate::document::Node;
use crate::lint::Found;
use crate::lint::rule::Rule;
use crate::lint::scene::{Listed, Scene, peers_key};
use crate::lint::words::pods_of;
use crate::policy::{NamespaceScope, Peer, PeerSelects};
use crate::selector::Selector;

/// Peers whose items are not what their indentation suggests.
pub(super) fn indentation(scene: &Scene<'_>, found: &mut Found) {
    for rule in scene.rules() {
        let peers = rule.listed_peers();
        for (index, peer) in peers.iter().enumerate() {
            null_namespaces(scene, &rule, index, found);
            one_item(scene, &rule, index, peer, found);
        }
        for (index, pair) in peers.windows(2).enumerate() {
            two_items(scene, &rule, index, pair, found);
        }
    }
}

/// `namespaceSelector:` with nothing behind it.
fn null_namespaces(scene: &Scene<'_>, rule: &Listed<'_>, index: usize, found: &mut Found) {
    let field = format!("{}.namespaceSelector", rule.peer_field(index));
    let node = scene.document(rule.policy).and_then(|written| written.field(&field));
    if node.is_some_and(Node::is_null) {
        let own = &rule.policy.key.namespace;
        let message = format!(
            "nothing stands behind `namespaceSelector:`, which is as if it were not there: only pods in \
             {own} are meant"
        );
        let fix = "write `namespaceSelector: {}` for all namespaces, indent what belongs to it, or remove it";
        found.add(scene.finding(Rule::Indentation, rule.policy, &field, message, fix));
    }
}

fn selectors(peer: &Peer) -> Option<(&NamespaceScope, &Selector)> {
    match &peer.selects {
        PeerSelects::Pods { namespaces, pods } => Some((namespaces, pods)),
        PeerSelects::Block(_) => None,
    }
}

/// `- namespaceSelector: N` and then `- podSelector: P`, where N and P in one item would mean somebody
/// and P alone means nobody.
fn two_items<'a>(
    scene: &Scene<'a>,
    rule: &Listed<'a>,
    index: usize,
    pair: &'a [Peer],
    found: &mut Found,
) {
    let [first, second] = pair else { return };
    let (Some((namespaces @ NamespaceScope::Matching(_), all)), Some((NamespaceScope::Own, pods))) =
        (selectors(first), selectors(second))
    else {
        return;
    };
    let own = &rule.policy.key.namespace;
    if !all.is_everything()
        || pods.is_everything()
        || !scene.labelled(own, &NamespaceScope::Own, pods).is_empty()
    {
        return;
    }
    let together = scene.labelled(own, namespaces, pods);
    let field = rule.peer_field(index + 1);
    if together.is_empty() {
        return;
    }
    if !scene.knows_pods_of(own) {
        let reason = format!("the input has no pods of namespace {own}");
        found.lacks(Rule::Indentation, reason, scene.spot(rule.policy, &field));
        return;
    }
    let key = peers_key(rule.direction);
    let message = format!(
        "these are two items: every pod of the first's namespaces, or {} in {own}, of which there are none; \
         as one item they would mean {}",
        pods_of(pods),
        scene.pods(&together)
    );
    let fix = format!(
        "remove the `-` before `podSelector` to mean both at once; if either is meant, remove \
         {key}[{}] until such pods exist",
        index + 1
    );
    let mut finding = scene.finding(Rule::Indentation, rule.policy, &field, message, fix);
    finding.related.push(crate::lint::finding::Related {
        location: first.location.clone(),
        message: "the item before it".to_owned(),
    });
    found.add(finding);
}

/// `- namespaceSelector: N` with `podSelector: P` in it, where no pod is both but some are either.
fn one_item<'a>(
    scene: &Scene<'a>,
    rule: &Listed<'a>,
    index: usize,
    peer: &'a Peer,
    found: &mut Found,
) {
    let Some((namespaces @ NamespaceScope::Matching(_), pods)) = selectors(peer) else { return };
    let own = &rule.policy.key.namespace;
    let looked_into = scene.scope(own, namespaces);
    let known = looked_into.iter().all(|namespace| scene.knows_pods_of(namespace));
    if pods.is_everything()
        || looked_into.contains(&own)
        || !known
        || !scene.labelled(own, namespaces, pods).is_empty()
        || scene.labelled(own, namespaces, &Selector::everything()).is_empty()
    {
        return;
    }
    let alone = scene.labelled(own, &NamespaceScope::Own, pods);
    if alone.is_empty() {
        return;
    }
    let message = format!(
        "both selectors of one item must match, and no pod of these namespaces is one of {}; as an item of \
         its own the podSelector would mean {}",
        pods_of(pods),
        scene.pods(&alone)
    );
    let fix = "put `- ` before `podSelector` to mean either";
    found.add(scene.finding(Rule::Indentation, rule.policy, &rule.peer_field(index), message, fix));
}
