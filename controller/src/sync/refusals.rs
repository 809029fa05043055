//! What the kernel's refusal of rules means to people: which policies ask for them, and whose pods are
//! denied what they would allow.
//!
//! A rule stands in a chain of a pod or in a body that pods share, and a pod's chain is led to by its
//! address. So chains are followed back to addresses, and from there to pods and to the policies that
//! isolate them and grant ports of the kind. Nothing is looked for while nothing is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::IpAddr;

use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::engine::Engine;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::{Direction, Grant, Policy, PortNumbers, Ports};
use policy_compiler::port::{PortRange, Protocol};
use policy_compiler::ruleset::{ChainName, Chains, Match, Rule, Target};

use crate::dataplane::LeftOut;
use crate::excerpt::policies_in;

/// How many pods or policies are named in one line.
const NAMED: usize = 3;

/// A rule that the kernel refuses, with whom that concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The rule, with its family.
    pub(super) rule: String,
    /// The policies that ask for it.
    pub(super) policies: BTreeSet<ObjectKey>,
    /// The pods of this node that lack what it would allow.
    pub(super) pods: BTreeSet<ObjectKey>,
}

impl fmt::Display for Refusal {
    /// ``IPv4: the kernel refuses `-p sctp`, asked for by shop/a, shop/b; denied at shop/web-0``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rule)?;
        if !self.policies.is_empty() {
            write!(f, ", asked for by {}", list(&self.policies))?;
        }
        if !self.pods.is_empty() {
            write!(f, "; denied at {}", list(&self.pods))?;
        }
        Ok(())
    }
}

/// The first few, and how many more there are.
fn list(keys: &BTreeSet<ObjectKey>) -> String {
    let mut text = keys.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = keys.len().saturating_sub(NAMED);
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Whom each of the refused rules concerns.
pub(super) fn refusals(left_out: &[LeftOut], engine: &Engine) -> Vec<Refusal> {
    if left_out.is_empty() {
        return Vec::new();
    }
    let (ruleset, snapshot) = (engine.ruleset(), engine.objects());
    let owners = owners(engine);
    let concern = |refused: &LeftOut| {
        let chains = &ruleset.family(refused.family).chains;
        let callers = callers(chains);
        let asked = Asked::of(&refused.rule);
        let mut refusal =
            Refusal { rule: refused.to_string(), policies: BTreeSet::new(), pods: BTreeSet::new() };
        for chain in &refused.chains {
            let Some(direction) = direction(chain) else { continue };
            for pod in addresses(chain, &callers).iter().filter_map(|address| owners.get(address)) {
                refusal.pods.insert(pod.key.clone());
                let isolating = isolating(snapshot, pod, direction);
                let asking = isolating.filter(|policy| asked.is_asked_by(policy, direction));
                refusal.policies.extend(asking.map(|policy| policy.key.clone()));
            }
        }
        refusal
    };
    left_out.iter().map(concern).collect()
}

/// What is to be said of each policy that the kernel refuses a rule of.
pub(super) fn by_policy(refusals: &[Refusal]) -> BTreeMap<ObjectKey, BTreeSet<&str>> {
    let mut by_policy: BTreeMap<ObjectKey, BTreeSet<&str>> = BTreeMap::new();
    for refusal in refusals {
        for policy in &refusal.policies {
            by_policy.entry(policy.clone()).or_default().insert(&refusal.rule);
        }
    }
    by_policy
}

/// The pods of this node by their addresses; of two with one address the newest.
fn owners(engine: &Engine) -> BTreeMap<IpAddr, &Pod> {
    let mut owners: BTreeMap<IpAddr, &Pod> = BTreeMap::new();
    for pod in engine.local_pods() {
        for address in pod.addresses.iter() {
            let owner = owners.entry(address).or_insert(pod);
            if (&owner.age, &owner.key) < (&pod.age, &pod.key) {
                *owner = pod;
            }
        }
    }
    owners
}

fn isolating<'a>(
    snapshot: &'a Snapshot,
    pod: &'a Pod,
    direction: Direction,
) -> impl Iterator<Item = &'a Policy> {
    policies_in(snapshot, &pod.key.namespace).filter(move |policy| {
        policy.isolates(direction)
            && policy.pod_selector.matches(&pod.labels)
            && !snapshot.audits(policy)
    })
}

/// Whose verdict the rules of a chain belong to.
fn direction(chain: &ChainName) -> Option<Direction> {
    let name = chain.as_str();
    let of = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if of(["NPC-E-", "NPC-EB-"]) {
        Some(Direction::Egress)
    } else if of(["NPC-I-", "NPC-IB-"]) {
        Some(Direction::Ingress)
    } else {
        None
    }
}

/// The rules that lead to each chain, with the chains in which they stand.
type Callers<'a> = BTreeMap<&'a ChainName, Vec<(&'a ChainName, &'a Rule)>>;

fn callers(chains: &Chains) -> Callers<'_> {
    let mut callers = Callers::new();
    for (name, chain) in chains {
        for rule in &chain.rules {
            if let Target::Goto(target) | Target::Jump(target) = &rule.target {
                callers.entry(target).or_default().push((name, rule));
            }
        }
    }
    callers
}

/// The single addresses by which a chain is come to: the ends of the tree, and what a pod's own chain
/// says of the pod itself.
fn addresses(chain: &ChainName, callers: &Callers<'_>) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    let mut reached = BTreeSet::from([chain]);
    let mut ahead = vec![chain];
    while let Some(chain) = ahead.pop() {
        for (from, rule) in callers.get(chain).into_iter().flatten() {
            let single = rule.matches.iter().find_map(|condition| match condition {
                Match::Source(net) | Match::Destination(net)
                    if net.prefix_len() == net.max_prefix_len() =>
                {
                    Some(net.addr())
                }
                _ => None,
            });
            match single {
                Some(address) => {
                    addresses.insert(address);
                }
                None if reached.insert(from) => ahead.push(from),
                None => {}
            }
        }
    }
    addresses
}

/// The ports that a rule of the kernel's allows.
struct Asked {
    protocol: Option<Protocol>,
    /// None: all of the protocol.
    ranges: Vec<PortRange>,
}

impl Asked {
    fn of(rule: &Rule) -> Self {
        let mut asked = Self { protocol: None, ranges: Vec::new() };
        for condition in &rule.matches {
            match condition {
                Match::Protocol(protocol) => asked.protocol = Some(*protocol),
                Match::DestinationPort(range) => asked.ranges.push(*range),
                Match::DestinationPorts(ranges) => asked.ranges.extend(ranges),
                _ => {}
            }
        }
        asked
    }

    /// Whether a rule of the policy grants some of them. What a name means is not looked up: it may.
    fn is_asked_by(&self, policy: &Policy, direction: Direction) -> bool {
        policy.rules(direction).iter().any(|rule| match &rule.grant {
            Grant::Nothing { .. } => false,
            Grant::Traffic { ports: Ports::Any, .. } => self.protocol.is_none(),
            Grant::Traffic { ports: Ports::Listed(ports), .. } => ports.iter().any(|port| {
                self.protocol == Some(port.protocol)
                    && match &port.numbers {
                        PortNumbers::Any => self.ranges.is_empty(),
                        PortNumbers::Named(_) => !self.ranges.is_empty(),
                        PortNumbers::Range(range) => self.ranges.iter().any(|asked| {
                            asked.first() <= range.last() && range.first() <= asked.last()
                        }),
                    }
            }),
        })
    }
}

#[cfg(test)]
mod tests;
