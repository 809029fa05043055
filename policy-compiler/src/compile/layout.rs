//! The chains that every node has, and how they lead to the trees.
//!
//! In a family where no local pod is isolated or audited, only the hooks and empty entry chains stand: a
//! packet of a new flow pays for one jump, and whoever asks whether policy is in force finds its
//! chains. Everything else appears with the first isolated pod, or with the pod networks in which
//! unknown addresses are denied: what is not known yet may be a pod to be isolated, so a bridge is
//! then guarded as if it carried one. A pod that is audited alone has its trees and nothing that denies.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::audit::{audit_end, audit_end_rules};
use super::digest::Registry;
use super::spoof::lay_sources;
use super::structure::{FamilyStructure, Source};
use super::tree::Trees;
use super::unknown::Unknown;
use crate::cidr::Family;
use crate::config::NodeConfig;
use crate::policy::Direction;
use crate::ruleset::{
    AddressSet, Chain, ChainName, Hook, Match, Notice, Rule, SetName, SetRole, Side, Target,
};

/// The local isolated and audited pods of a family: each address with the chain of its pod.
#[derive(Default)]
pub(super) struct Dispatch {
    /// For egress.
    pub(super) egress: BTreeMap<IpAddr, ChainName>,
    /// For ingress.
    pub(super) ingress: BTreeMap<IpAddr, ChainName>,
    /// Those that are not isolated in a direction and have an audit there, which denies nothing.
    audited: BTreeMap<Direction, BTreeMap<IpAddr, ChainName>>,
}

impl Dispatch {
    /// The addresses of one direction.
    pub(super) fn leaves(&mut self, direction: Direction) -> &mut BTreeMap<IpAddr, ChainName> {
        match direction {
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        }
    }

    /// The addresses that are audited in one direction.
    pub(super) fn audited(&mut self, direction: Direction) -> &mut BTreeMap<IpAddr, ChainName> {
        self.audited.entry(direction).or_default()
    }

    /// Every address with a chain for that direction, whether that can deny or not.
    fn dispatched(&self, direction: Direction) -> Cow<'_, BTreeMap<IpAddr, ChainName>> {
        let isolated = match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        };
        let Some(audited) = self.audited.get(&direction) else { return Cow::Borrowed(isolated) };
        let all = isolated.iter().chain(audited);
        Cow::Owned(all.map(|(address, chain)| (*address, chain.clone())).collect())
    }

    fn isolates(&self) -> bool {
        !self.egress.is_empty() || !self.ingress.is_empty()
    }

    fn is_empty(&self) -> bool {
        !self.isolates() && self.audited.is_empty()
    }
}

/// Where packets of FORWARD enter.
fn forward() -> ChainName {
    ChainName::of(format_args!("FORWARD"))
}

fn output() -> ChainName {
    ChainName::of(format_args!("OUTPUT"))
}

fn bridged() -> ChainName {
    ChainName::of(format_args!("BRIDGED"))
}

fn midstream() -> ChainName {
    ChainName::of(format_args!("MIDSTREAM"))
}

fn root(direction: Direction) -> ChainName {
    match direction {
        Direction::Egress => ChainName::of(format_args!("EGRESS")),
        Direction::Ingress => ChainName::of(format_args!("INGRESS")),
    }
}

/// The chain that denies in a direction.
pub(super) fn deny_chain(direction: Direction) -> ChainName {
    match direction {
        Direction::Egress => ChainName::of(format_args!("DENY-E")),
        Direction::Ingress => ChainName::of(format_args!("DENY-I")),
    }
}

/// The rule that denies everything in a direction.
pub(super) fn deny(direction: Direction) -> Rule {
    goto(Vec::new(), deny_chain(direction))
}

/// The rule that allows everything.
pub(super) fn return_all() -> Rule {
    returning(Vec::new())
}

fn returning(matches: Vec<Match>) -> Rule {
    Rule { matches, comment: None, target: Target::Return }
}

/// The rule that sends what meets these conditions to `chain`.
pub(super) fn goto(matches: Vec<Match>, chain: ChainName) -> Rule {
    Rule { matches, comment: None, target: Target::Goto(chain) }
}

/// The rule that sends what meets these conditions to `chain`, and goes on behind it.
pub(super) fn jump(matches: Vec<Match>, chain: ChainName) -> Rule {
    Rule { matches, comment: None, target: Target::Jump(chain) }
}

/// Adds hooks, entry chains, trees and everything else that is no pod's own to `rules`, which has
/// the chains and sets of the pods.
pub(super) fn lay_out(
    family: Family,
    config: &NodeConfig,
    dispatch: &Dispatch,
    unknown: &Unknown,
    (registry, trees): (&mut Registry, &mut Trees),
    rules: &mut FamilyStructure,
) {
    let mut entry = Vec::new();
    let entered_by = match &config.antispoof {
        None => vec![Match::NotEstablished],
        Some(antispoof) => {
            entry.push(lay_sources(family, antispoof, registry, rules));
            Vec::new()
        }
    };
    rules.hooks.insert(Hook::Forward, jump(entered_by, forward()));
    if config.ipvs {
        rules.hooks.insert(Hook::Output, jump(vec![Match::NotEstablished], output()));
        let own = returning(vec![Match::FromLocal]);
        let through = goto(Vec::new(), forward());
        rules.put(output(), Chain { rules: vec![own, through] });
    }
    if dispatch.is_empty() && unknown.is_off() {
        rules.put(forward(), Chain { rules: entry });
        return;
    }
    if config.antispoof.is_some() {
        entry.push(returning(vec![Match::Established]));
    }
    let mut common = unknown.rules(family);
    common.extend(common_rules(config, dispatch));
    rules.sets.extend(unknown.set(family));
    let denies = dispatch.isolates() || !unknown.is_off();
    let mut on_bridge = if denies { bridge_rules(family) } else { exempt_on_bridge(family) };
    // Where nothing is denied and nothing exempt, bridged packets are like any other.
    if !config.bridges.is_empty() && !on_bridge.is_empty() {
        for bridge in &config.bridges {
            let conditions = vec![Match::InInterface(bridge.clone()), Match::Bridged];
            entry.push(goto(conditions, bridged()));
        }
        on_bridge.extend(common.clone());
        rules.put(bridged(), Chain { rules: on_bridge });
    }
    entry.extend(common);
    rules.put(forward(), Chain { rules: entry });
    for direction in [Direction::Egress, Direction::Ingress] {
        if denies {
            rules.put(deny_chain(direction), denial(config, direction));
        }
        if dispatch.audited.contains_key(&direction) {
            rules.put(audit_end(direction), audit_end_rules(direction));
        }
        let leaves = dispatch.dispatched(direction);
        if !leaves.is_empty() {
            let tree = trees.of(direction, family, &leaves, registry);
            rules.chains.insert(root(direction), Arc::clone(&tree.top));
            rules.chains.extend(tree.inner.iter().cloned());
        }
    }
    if !config.keep_established && dispatch.isolates() {
        lay_midstream(family, dispatch, rules);
    }
}

/// What becomes of a denied packet.
fn denial(config: &NodeConfig, direction: Direction) -> Chain {
    let always = |target| Rule { matches: Vec::new(), comment: None, target };
    let mut rules = vec![always(Target::Deny(config.deny))];
    if config.log_denied {
        rules.insert(0, always(Target::Log(Notice::Denied(direction))));
    }
    Chain { rules }
}

/// The end of NPC-FORWARD and of NPC-BRIDGED.
fn common_rules(config: &NodeConfig, dispatch: &Dispatch) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !config.keep_established && dispatch.isolates() {
        rules.push(jump(vec![Match::NotSyn, Match::New], midstream()));
    }
    for direction in [Direction::Egress, Direction::Ingress] {
        if !dispatch.dispatched(direction).is_empty() {
            rules.push(jump(Vec::new(), root(direction)));
        }
    }
    rules
}

/// What belongs to no pod's address is denied on a bridge, since it would miss both trees; IPv6
/// cannot do without neighbour discovery and group membership.
fn bridge_rules(family: Family) -> Vec<Rule> {
    let denied = match family {
        Family::V4 => {
            vec![Match::ToBroadcast, Match::Destination(v4_net(Ipv4Addr::new(224, 0, 0, 0), 4))]
        }
        Family::V6 => vec![
            Match::Source(v6_net(0xfe80, 10)),
            Match::Destination(v6_net(0xfe80, 10)),
            Match::Destination(v6_net(0xff00, 8)),
        ],
    };
    let mut rules = exempt_on_bridge(family);
    for condition in denied {
        rules.push(goto(vec![condition], deny_chain(Direction::Ingress)));
    }
    rules
}

/// What passes on a bridge, whatever policies say.
fn exempt_on_bridge(family: Family) -> Vec<Rule> {
    let exempt: &[u8] = match family {
        Family::V4 => &[],
        Family::V6 => &[130, 131, 132, 143, 135, 136],
    };
    exempt.iter().map(|kind| returning(vec![Match::Icmpv6Type(*kind)])).collect()
}

fn v4_net(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, length))
}

fn v6_net(first: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), length))
}

/// The chain and the set for segments of flows that conntrack does not know.
fn lay_midstream(family: Family, dispatch: &Dispatch, rules: &mut FamilyStructure) {
    let set = SetName { family, role: SetRole::Isolated };
    let addresses: BTreeSet<IpAddr> =
        dispatch.egress.keys().chain(dispatch.ingress.keys()).copied().collect();
    let members = addresses.into_iter().collect();
    let of = |side| vec![Match::Set { set: set.clone(), side }];
    let chain = Chain {
        rules: vec![
            goto(of(Side::Source), deny_chain(Direction::Egress)),
            goto(of(Side::Destination), deny_chain(Direction::Ingress)),
        ],
    };
    rules.put(midstream(), chain);
    rules.sets.insert(set, Source::Fixed(Arc::new(AddressSet { members })));
}
