//! PC011 and PC012: whether there is anybody whom a peer means.

use super::subject::nearest_among;
use crate::cluster::METADATA_NAME_LABEL;
use crate::decode::nearest;
use crate::lint::Found;
use crate::lint::rule::Rule;
use crate::lint::scene::{Listed, Scene, wanted_name};
use crate::lint::words::peer;
use crate::policy::{NamespaceScope, PeerSelects};
use crate::selector::{Operator, Selector};

/// Peers whose `namespaceSelector` selects no namespace.
pub(super) fn no_such_namespace(scene: &Scene<'_>, found: &mut Found) {
    for rule in scene.rules() {
        for (index, peer) in rule.listed_peers().iter().enumerate() {
            let PeerSelects::Pods { namespaces: NamespaceScope::Matching(selector), .. } =
                &peer.selects
            else {
                continue;
            };
            if scene.namespaces.values().any(|labels| selector.matches(labels)) {
                continue;
            }
            let field = format!("{}.namespaceSelector", rule.peer_field(index));
            if !scene.knows_namespaces() {
                let reason = "the input declares no namespaces";
                found.lacks(Rule::NoSuchNamespace, reason, scene.spot(rule.policy, &field));
                continue;
            }
            let message = match wanted_name(selector) {
                Some(name) => format!("there is no namespace {name}: the peer means nobody"),
                None => format!("no namespace has {selector}: the peer means nobody"),
            };
            let fix = meant(scene, selector);
            found.add(scene.finding(Rule::NoSuchNamespace, rule.policy, &field, message, fix));
        }
    }
}

/// Which namespace may have been meant.
fn meant(scene: &Scene<'_>, selector: &Selector) -> String {
    let names: Vec<&str> =
        scene.namespaces.keys().map(crate::name::NamespaceName::as_str).collect();
    if let Some(near) = wanted_name(selector).and_then(|name| nearest(name, &names)) {
        return format!("did you mean `{near}`?");
    }
    // A label `name` is what people used before there was one that every namespace has.
    for requirement in selector.requirements() {
        if let Operator::In(values) = &requirement.operator
            && values.iter().all(|value| names.contains(&&**value))
            && &*requirement.key != METADATA_NAME_LABEL
        {
            return format!(
                "no namespace is labelled `{}`; its name is the label `{METADATA_NAME_LABEL}`",
                requirement.key
            );
        }
    }
    "correct the selector, or label the namespace".to_owned()
}

/// Peers that mean no pod.
pub(super) fn no_such_peer(scene: &Scene<'_>, found: &mut Found) {
    for rule in scene.rules() {
        for (index, peer) in rule.listed_peers().iter().enumerate() {
            if let PeerSelects::Pods { namespaces, pods } = &peer.selects
                && scene.peers(&rule.policy.key.namespace, &peer.selects).is_empty()
            {
                nobody(scene, &rule, index, (namespaces, pods, &peer.selects), found);
            }
        }
    }
}

fn nobody<'a>(
    scene: &Scene<'a>,
    rule: &Listed<'a>,
    index: usize,
    (scope, pods, selects): (&NamespaceScope, &Selector, &PeerSelects),
    found: &mut Found,
) {
    let own = &rule.policy.key.namespace;
    let namespaces = scene.scope(own, scope);
    let field = rule.peer_field(index);
    let host = scene.labelled(own, scope, pods);
    if let Some(unknown) = namespaces.iter().find(|namespace| !scene.knows_pods_of(namespace)) {
        let reason = format!("the input has no pods of namespace {unknown}");
        found.lacks(Rule::NoSuchPeer, reason, scene.spot(rule.policy, &field));
        return;
    }
    if !scene.knows_namespaces() && matches!(scope, NamespaceScope::Matching(_)) {
        let reason = "the input declares no namespaces";
        found.lacks(Rule::NoSuchPeer, reason, scene.spot(rule.policy, &field));
        return;
    }
    if !host.is_empty() {
        let n: usize = host.iter().map(|class| scene.classes[*class].pods.len()).sum();
        let message = format!(
            "the peer means nobody: {} with these labels on the host's network, {}, which no selector means",
            if n == 1 { "there is a pod".to_owned() } else { format!("there are {n} pods") },
            scene.pods(&host)
        );
        let fix = "name the addresses of the nodes in an ipBlock";
        found.add(scene.finding(Rule::NoSuchPeer, rule.policy, &field, message, fix));
        return;
    }
    // A whole namespace without pods is nobody's mistake, and one that is not there another rule's.
    if namespaces.is_empty() || pods.is_everything() {
        return;
    }
    let everywhere = scene.labelled(own, scope, &Selector::everything());
    let message = format!("the peer means nobody: there are no {}", peer(selects, own));
    let fix = elsewhere(scene, pods)
        .or_else(|| nearest_among(scene, &everywhere, pods))
        .unwrap_or_else(|| "correct the labels, or remove the peer".to_owned());
    found.add(scene.finding(Rule::NoSuchPeer, rule.policy, &field, message, fix));
}

/// Pods with these labels in other namespaces.
fn elsewhere(scene: &Scene<'_>, pods: &Selector) -> Option<String> {
    let all = 0..scene.classes.len();
    let others: Vec<usize> =
        all.filter(|class| pods.matches(&scene.classes[*class].one().labels)).collect();
    (!others.is_empty()).then(|| {
        format!(
            "{} has these labels: a peer in another namespace needs a namespaceSelector that fits",
            scene.pods(&others)
        )
    })
}
