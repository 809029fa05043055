//! What is in force for one pod of this node: its chains as they stand in the kernel, and the sets that
//! they look up.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use policy_compiler::cidr::Family;
use policy_compiler::render;
use policy_compiler::ruleset::{ChainName, FamilyRules, Match, SetName, Target};
use policy_compiler::update::ChainsUpdate;
use serde::{Deserialize, Serialize};

use super::look::Unanswered;
use super::serve::Context;
use super::status::{Local, PodStatus};
use crate::dataplane::ipset::kind_of;
use crate::sync::View;

/// What the chains of one pod begin with; the rest is shared by all pods.
const LEAVES: [&str; 4] = ["NPC-I-", "NPC-AI-", "NPC-E-", "NPC-AE-"];
/// What a body that several pods share begins with.
const BODIES: [&str; 4] = ["NPC-IB-", "NPC-AIB-", "NPC-EB-", "NPC-AEB-"];

/// What is in force for a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodDetail {
    /// The pod.
    #[serde(flatten)]
    pub pod: PodStatus,
    /// Its chains, IPv4 first; one that is neither isolated nor audited has none.
    pub chains: Vec<ChainText>,
    /// The sets that they look up.
    pub sets: Vec<SetText>,
}

/// A chain in the words of iptables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainText {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Its name.
    pub name: String,
    /// Its rules, in order.
    pub rules: Vec<String>,
}

/// A set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetText {
    /// Its name.
    pub name: String,
    /// The kernel's type of it.
    pub kind: String,
    /// Its members; one that is not in the set though a wider one is ends in ` nomatch`.
    pub members: Vec<String>,
}

/// There is no such pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no live pod `{name}` on node {node}")]
pub(super) struct Unknown {
    name: String,
    node: String,
}

/// What is in force for the pod of that name.
pub(super) fn of(context: &Context, name: &str) -> Result<Result<PodDetail, Unknown>, Unanswered> {
    let wanted = name.to_owned();
    context.look(move |view| detail(view, wanted))
}

fn detail(view: &View<'_>, name: String) -> Result<PodDetail, Unknown> {
    let node = view.settings.node.to_string();
    let pods = Local::of(view).statuses();
    let Some(pod) = pods.into_iter().find(|pod| pod.pod == name) else {
        return Err(Unknown { name, node });
    };
    let mut detail = PodDetail { pod, chains: Vec::new(), sets: Vec::new() };
    for family in Family::ALL {
        let part = part(view.engine.ruleset().family(family), &detail.pod);
        let part = view.dataplane.as_written(family, &part);
        detail.chains.extend(chains(family, &part));
        detail.sets.extend(part.sets.iter().map(|(name, set)| {
            SetText {
                name: name.to_string(),
                kind: kind_of(name).to_owned(),
                members: set
                    .members
                    .iter()
                    .map(|m| {
                        let net = m.net.addr();
                        let net = if m.net == IpNet::from(net) {
                            net.to_string()
                        } else {
                            m.net.to_string()
                        };
                        if m.nomatch { format!("{net} nomatch") } else { net }
                    })
                    .collect(),
            }
        }));
    }
    Ok(detail)
}

/// What of a family's rules is about the pod.
fn part(rules: &FamilyRules, pod: &PodStatus) -> FamilyRules {
    let own: BTreeSet<IpNet> = pod.addresses.iter().copied().map(IpNet::from).collect();
    let mut part = FamilyRules::default();
    // The trees lead to a pod's chains by its address alone.
    for rule in rules.chains.values().flat_map(|chain| &chain.rules) {
        if let ([Match::Source(net) | Match::Destination(net)], Target::Goto(leaf)) =
            (rule.matches.as_slice(), &rule.target)
            && own.contains(net)
            && LEAVES.iter().any(|prefix| leaf.as_str().starts_with(prefix))
        {
            take(rules, leaf, &mut part);
        }
    }
    part
}

/// Adds a chain, the body that it leads to, and the sets that these look up.
fn take(rules: &FamilyRules, name: &ChainName, part: &mut FamilyRules) {
    let Some(chain) = rules.chains.get(name) else { return };
    if part.chains.insert(name.clone(), chain.clone()).is_some() {
        return;
    }
    let looked_up = chain.rules.iter().flat_map(|rule| &rule.matches).filter_map(set_of);
    for set in looked_up {
        if let Some(content) = rules.sets.get(set) {
            part.sets.insert(set.clone(), content.clone());
        }
    }
    for rule in &chain.rules {
        if let Target::Goto(body) | Target::Jump(body) = &rule.target
            && BODIES.iter().any(|prefix| body.as_str().starts_with(prefix))
        {
            take(rules, body, part);
        }
    }
}

fn set_of(condition: &Match) -> Option<&SetName> {
    match condition {
        Match::Set { set, .. } => Some(set),
        _ => None,
    }
}

/// The chains in words: the pod's own before bodies, ingress before egress.
fn chains(family: Family, part: &FamilyRules) -> Vec<ChainText> {
    let text = render::iptables_restore(&ChainsUpdate {
        family,
        replace: part.chains.clone(),
        delete: BTreeSet::new(),
        hook: BTreeMap::new(),
        unhook: BTreeMap::new(),
    });
    let appended = text.lines().filter_map(|line| line.strip_prefix("-A ")?.split_once(' '));
    let mut rules: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (chain, words) in appended {
        rules.entry(chain).or_default().push(words.to_owned());
    }
    let order = || LEAVES.iter().zip(&BODIES).flat_map(|(leaf, body)| [leaf, body]);
    let rank = |name: &str| order().position(|prefix| name.starts_with(prefix));
    let mut chains: Vec<ChainText> = part
        .chains
        .keys()
        .map(|name| ChainText {
            family: family.to_string(),
            name: name.to_string(),
            rules: rules.remove(name.as_str()).unwrap_or_default(),
        })
        .collect();
    chains.sort_by_key(|chain| rank(&chain.name));
    chains
}
