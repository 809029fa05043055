//! PC020: pods that are isolated for egress and may not ask for names.
//!
//! DNS is allowed where some rule grants 53/UDP to whoever may answer: a pod that is known to (labelled
//! `k8s-app=kube-dns`, or declaring 53/UDP), any address outside, or pods that the input does not tell
//! of. A rule for pods that are all known and none of which answers does not count.

use std::collections::BTreeMap;

use crate::labels::Labels;
use crate::lint::Found;
use crate::lint::ports::PortSet;
use crate::lint::rule::Rule;
use crate::lint::scene::{Listed, Scene, rules_of};
use crate::lint::selection;
use crate::lint::words::list;
use crate::policy::{Direction, PeerSelects, Peers, Policy};
use crate::port::Protocol;

const PORT: u16 = 53;

/// Whether a rule lets names be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dns {
    Denied,
    /// It depends on pods that the input does not tell of.
    Unknown,
    Allowed,
}

/// Groups of pods without DNS, each reported once, at the first policy that isolates it.
pub(super) fn no_dns(scene: &Scene<'_>, found: &mut Found) {
    let granted: BTreeMap<_, Dns> = scene
        .snapshot
        .policies
        .values()
        .filter(|policy| policy.isolates(Direction::Egress))
        .map(|policy| (&policy.key, of_policy(scene, policy)))
        .collect();
    let mut groups: BTreeMap<Vec<&_>, Vec<usize>> = BTreeMap::new();
    for (index, class) in scene.classes.iter().enumerate() {
        let policies = scene.evaluator.isolating(class.one(), Direction::Egress);
        if !policies.is_empty() {
            groups
                .entry(policies.iter().map(|policy| &policy.key).collect())
                .or_default()
                .push(index);
        }
    }
    for (keys, classes) in &groups {
        let best = keys.iter().filter_map(|key| granted.get(key)).max();
        let Some(policy) = keys.first().and_then(|key| scene.snapshot.policies.get(key)) else {
            continue;
        };
        let whom = scene.pods(classes);
        let others: Vec<String> = keys.iter().skip(1).map(ToString::to_string).collect();
        report(scene, policy, best.copied(), (&whom, &others), found);
    }
    for policy in scene.sound().filter(|policy| policy.isolates(Direction::Egress)) {
        if scene.subjects(policy).is_empty() && !scene.knows_pods_of(&policy.key.namespace) {
            let best = without_pods(scene, policy, &granted);
            report(scene, policy, Some(best), ("whatever it selects", &[]), found);
        }
    }
}

/// What holds for whatever pods a policy selects: what its own rules say, and those of policies that
/// select all of them; a policy that may select some leaves it open.
fn without_pods(
    scene: &Scene<'_>,
    policy: &Policy,
    granted: &BTreeMap<&crate::name::ObjectKey, Dns>,
) -> Dns {
    let mut best = Dns::Denied;
    for other in scene.policies_of(&policy.key.namespace) {
        let Some(says) = granted.get(&other.key).copied() else { continue };
        if selection::is_within(&policy.pod_selector, &other.pod_selector) {
            best = best.max(says);
        } else if says > Dns::Denied
            && selection::overlap(&policy.pod_selector, &other.pod_selector)
        {
            best = best.max(Dns::Unknown);
        }
    }
    best
}

fn report(
    scene: &Scene<'_>,
    policy: &Policy,
    dns: Option<Dns>,
    (whom, others): (&str, &[String]),
    found: &mut Found,
) {
    let types = "spec.policyTypes";
    let lists_types = scene.document(policy).is_some_and(|written| written.field(types).is_some());
    let field = if lists_types { types } else { "spec" };
    match dns {
        Some(Dns::Allowed) => {}
        Some(Dns::Unknown) => {
            let reason = "the input does not tell which pods answer DNS";
            found.lacks(Rule::NoDns, reason, scene.spot(policy, field));
        }
        Some(Dns::Denied) | None => {
            let with = if others.is_empty() {
                String::new()
            } else {
                format!(" together with {}", list(others.iter().cloned()))
            };
            let message = format!(
                "this isolates the egress of {whom}{with}, and no rule allows DNS (53/UDP)"
            );
            let fix = "allow 53/UDP and 53/TCP to pods k8s-app=kube-dns in kube-system, if they ask for names";
            found.add(scene.finding(Rule::NoDns, policy, field, message, fix));
        }
    }
}

fn of_policy<'a>(scene: &Scene<'a>, policy: &'a Policy) -> Dns {
    rules_of(policy, Direction::Egress)
        .map(|rule| of_rule(scene, &rule))
        .max()
        .unwrap_or(Dns::Denied)
}

fn of_rule<'a>(scene: &Scene<'a>, rule: &Listed<'a>) -> Dns {
    let mut ports = PortSet::default();
    ports.add(rule.ports);
    let by_number = ports.has_number(Protocol::Udp, PORT);
    if !by_number && ports.names(Protocol::Udp).next().is_none() {
        return Dns::Denied;
    }
    match rule.peers {
        Peers::Any => {
            if by_number {
                Dns::Allowed
            } else {
                Dns::Unknown
            }
        }
        Peers::Listed(peers) => {
            let of = peers.iter().map(|peer| of_peer(scene, rule, &peer.selects, &ports));
            of.max().unwrap_or(Dns::Denied)
        }
    }
}

fn of_peer<'a>(
    scene: &Scene<'a>,
    rule: &Listed<'a>,
    selects: &'a PeerSelects,
    ports: &PortSet,
) -> Dns {
    let own = &rule.policy.key.namespace;
    let by_number = ports.has_number(Protocol::Udp, PORT);
    let PeerSelects::Pods { namespaces, pods } = selects else {
        // Somebody outside, or on the node, answers there.
        return if by_number { Dns::Allowed } else { Dns::Denied };
    };
    let declares = |class: usize| {
        scene.classes[class].ports().iter().any(|port| {
            port.protocol == Protocol::Udp
                && port.number.get() == PORT
                && (by_number
                    || port
                        .name
                        .as_ref()
                        .is_some_and(|n| ports.names(Protocol::Udp).any(|m| m == n)))
        })
    };
    let is_dns = |labels: &Labels| labels.get("k8s-app") == Some("kube-dns");
    let answers =
        |class: usize| declares(class) || (by_number && is_dns(&scene.classes[class].one().labels));
    if scene.peers(own, selects).iter().any(|class| answers(*class)) {
        return Dns::Allowed;
    }
    // The labels that DNS has in every cluster, in a namespace that the input does not tell of.
    let kube_dns: Labels = [("k8s-app", "kube-dns")].into_iter().collect();
    let looked_into = scene.scope(own, namespaces);
    let mut unknown =
        looked_into.iter().filter(|namespace| !scene.knows_pods_of(namespace)).peekable();
    if unknown.peek().is_none() {
        return Dns::Denied;
    }
    let dns_namespace = unknown.any(|namespace| namespace.as_str() == "kube-system");
    if dns_namespace && pods.matches(&kube_dns) { Dns::Allowed } else { Dns::Unknown }
}
