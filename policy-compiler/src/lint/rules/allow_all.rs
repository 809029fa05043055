//! PC021: policies only ever add, so that one which allows everything leaves nothing to the others that
//! select the same pods.
//!
//! A policy is overridden where all that it selects is selected by one that allows everything: by the
//! selectors themselves, or, if it has rules, by the pods that there are. A default deny that still
//! holds for other pods is none of these.

use crate::cidr::{Family, IpBlock};
use crate::lint::Found;
use crate::lint::addresses::AddressSet;
use crate::lint::finding::Related;
use crate::lint::rule::Rule;
use crate::lint::scene::{Listed, Scene, rules_of};
use crate::lint::selection;
use crate::lint::words::list;
use crate::policy::{Direction, PeerSelects, Peers, Policy, Ports};

/// Whether a rule allows everything there is.
pub(super) fn allows_all(rule: &Listed<'_>) -> bool {
    *rule.ports == Ports::Any && is_everybody(rule.peers)
}

/// Whether peers mean every address of both families.
pub(super) fn is_everybody(peers: &Peers) -> bool {
    let Peers::Listed(list) = peers else { return true };
    let blocks: Vec<&IpBlock> = list
        .iter()
        .filter_map(|peer| match &peer.selects {
            PeerSelects::Block(block) => Some(block),
            PeerSelects::Pods { .. } => None,
        })
        .collect();
    ["0.0.0.0/0", "::/0"].iter().all(|all| {
        all.parse().is_ok_and(|all| {
            let family = Family::of_net(&all);
            AddressSet::of(family, blocks.iter().copied()).includes(&AddressSet::network(all))
        })
    })
}

/// Rules that make other policies vain.
pub(super) fn allow_all(scene: &Scene<'_>, found: &mut Found) {
    for direction in Direction::ALL {
        for policy in scene.sound() {
            if let Some(rule) = rules_of(policy, direction).find(allows_all) {
                judge(scene, &rule, found);
            }
        }
    }
}

fn judge(scene: &Scene<'_>, rule: &Listed<'_>, found: &mut Found) {
    let vain: Vec<&Policy> = scene
        .policies_of(&rule.policy.key.namespace)
        .filter(|policy| policy.key != rule.policy.key && !policy.flawed)
        .filter(|policy| policy.isolates(rule.direction))
        .filter(|policy| !rules_of(policy, rule.direction).any(|other| allows_all(&other)))
        .filter(|policy| is_overridden(scene, policy, rule))
        .collect();
    if vain.is_empty() {
        return;
    }
    let names = list(vain.iter().map(|policy| policy.key.to_string()));
    let have = if vain.len() == 1 { "has" } else { "have" };
    let message = format!(
        "this allows all {} of {}, so {names} {have} no effect on {}",
        rule.direction,
        super::subject_words(scene, rule.policy),
        rule.direction
    );
    let fix = "policies only add: say here what is meant to be allowed, or remove the others";
    let mut finding = scene.finding(Rule::AllowAll, rule.policy, &rule.field(), message, fix);
    for policy in vain {
        let location = policy.location.clone();
        finding
            .related
            .push(Related { location, message: format!("{} is overridden", policy.key) });
    }
    found.add(finding);
}

fn is_overridden(scene: &Scene<'_>, policy: &Policy, by: &Listed<'_>) -> bool {
    if selection::is_within(&policy.pod_selector, &by.policy.pod_selector) {
        return true;
    }
    let (subjects, all) = (scene.subjects(policy), scene.subjects(by.policy));
    !policy.rules(by.direction).is_empty()
        && !subjects.is_empty()
        && subjects.iter().all(|class| all.binary_search(class).is_ok())
}
