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
use super::spoof::to_sources;
use super::structure::{FamilyStructure, Source};
use super::unknown::Unknown;
use crate::cidr::Family;
use crate::config::NodeConfig;
use crate::policy::Direction;
use crate::ruleset::{
    AddressSet, Chain, ChainName, Hook, Match, Notice, Rule, SetName, SetRole, Side, Target,
};

/// The local isolated and audited pods of a family: each address with the chain of its pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Dispatch {
    egress: BTreeMap<IpAddr, ChainName>,
    ingress: BTreeMap<IpAddr, ChainName>,
    /// Those that are not isolated in a direction and have an audit there, which denies nothing.
    audited: BTreeMap<Direction, BTreeMap<IpAddr, ChainName>>,
}

/// Who is there in a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfDirection {
    isolated: bool,
    audited: bool,
}

impl OfDirection {
    fn is_any(self) -> bool {
        self.isolated || self.audited
    }
}

/// Whether anybody is dispatched: all that the frame depends on besides the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dispatched {
    egress: OfDirection,
    ingress: OfDirection,
}

impl Dispatched {
    fn of(self, direction: Direction) -> OfDirection {
        match direction {
            Direction::Egress => self.egress,
            Direction::Ingress => self.ingress,
        }
    }

    fn isolates(self) -> bool {
        self.egress.isolated || self.ingress.isolated
    }

    fn is_nobody(self) -> bool {
        !self.egress.is_any() && !self.ingress.is_any()
    }
}

impl Dispatch {
    /// Lets packets of an address go to a chain, which can deny unless it audits.
    pub(super) fn insert(
        &mut self,
        direction: Direction,
        audits: bool,
        address: IpAddr,
        chain: ChainName,
    ) {
        self.leaves(direction, audits).insert(address, chain);
    }

    /// Lets them go by.
    pub(super) fn remove(&mut self, direction: Direction, audits: bool, address: IpAddr) {
        self.leaves(direction, audits).remove(&address);
    }

    fn leaves(&mut self, direction: Direction, audits: bool) -> &mut BTreeMap<IpAddr, ChainName> {
        match direction {
            _ if audits => self.audited.entry(direction).or_default(),
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        }
    }

    /// Every address with a chain for that direction, whether that can deny or not.
    pub(super) fn all(&self, direction: Direction) -> Cow<'_, BTreeMap<IpAddr, ChainName>> {
        let isolated = match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        };
        let audited = self.audited.get(&direction).filter(|audited| !audited.is_empty());
        let Some(audited) = audited else { return Cow::Borrowed(isolated) };
        let all = isolated.iter().chain(audited);
        Cow::Owned(all.map(|(address, chain)| (*address, chain.clone())).collect())
    }

    /// Whether anybody is in it.
    pub(super) fn dispatched(&self) -> Dispatched {
        let of = |direction, isolated: &BTreeMap<_, _>| {
            let audited = self.audited.get(&direction).is_some_and(|audited| !audited.is_empty());
            OfDirection { isolated: !isolated.is_empty(), audited }
        };
        Dispatched {
            egress: of(Direction::Egress, &self.egress),
            ingress: of(Direction::Ingress, &self.ingress),
        }
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

/// The root of a direction's tree.
pub(super) fn root(direction: Direction) -> ChainName {
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

/// What is no pod's own: hooks, entry chains and what they lead to besides the trees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// The rule of ours that stands first in each built-in chain.
    pub(super) hooks: BTreeMap<Hook, Rule>,
    /// The chains.
    pub(super) chains: BTreeMap<ChainName, Arc<Chain>>,
    /// The sets.
    pub(super) sets: BTreeMap<SetName, Source>,
}

impl Frame {
    /// Puts a chain in.
    pub(super) fn put(&mut self, name: ChainName, chain: Chain) {
        self.chains.insert(name, Arc::new(chain));
    }

    /// Puts chains in.
    pub(super) fn put_all(&mut self, chains: BTreeMap<ChainName, Chain>) {
        self.chains.extend(chains.into_iter().map(|(name, chain)| (name, Arc::new(chain))));
    }

    /// Puts this where `last` was.
    pub(super) fn replace(&self, last: &Self, rules: &mut FamilyStructure) {
        for hook in last.hooks.keys().filter(|hook| !self.hooks.contains_key(hook)) {
            rules.hooks.remove(hook);
        }
        for name in last.chains.keys().filter(|name| !self.chains.contains_key(name)) {
            rules.chains.remove(name);
        }
        for set in last.sets.keys().filter(|set| !self.sets.contains_key(set)) {
            rules.remove_set(set);
        }
        for (hook, rule) in &self.hooks {
            rules.hooks.put(*hook, rule.clone());
        }
        for (name, chain) in &self.chains {
            rules.chains.put(name.clone(), Arc::clone(chain));
        }
        for (set, source) in &self.sets {
            rules.put_set(set.clone(), source.clone());
        }
    }
}

/// What is no pod's own, but for the trees, the check of sources and the set of isolated addresses.
pub(super) fn frame(family: Family, config: &NodeConfig, dispatched: Dispatched) -> Frame {
    let (mut rules, unknown) = (Frame::default(), Unknown::of(family, config));
    let mut entry = Vec::new();
    let entered_by = if config.antispoof.is_some() {
        entry.push(to_sources());
        Vec::new()
    } else {
        vec![Match::NotEstablished]
    };
    rules.hooks.insert(Hook::Forward, jump(entered_by, forward()));
    if config.ipvs {
        rules.hooks.insert(Hook::Output, jump(vec![Match::NotEstablished], output()));
        let own = returning(vec![Match::FromLocal]);
        let through = goto(Vec::new(), forward());
        rules.put(output(), Chain { rules: vec![own, through] });
    }
    if dispatched.is_nobody() && unknown.is_off() {
        rules.put(forward(), Chain { rules: entry });
        return rules;
    }
    if config.antispoof.is_some() {
        entry.push(returning(vec![Match::Established]));
    }
    let mut common = unknown.rules(family);
    common.extend(common_rules(config, dispatched));
    rules.sets.extend(unknown.set(family));
    let denies = dispatched.isolates() || !unknown.is_off();
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
        if dispatched.of(direction).audited {
            rules.put(audit_end(direction), audit_end_rules(direction));
        }
    }
    if !config.keep_established && dispatched.isolates() {
        rules.put(midstream(), midstream_rules(family));
    }
    rules
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
fn common_rules(config: &NodeConfig, dispatched: Dispatched) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !config.keep_established && dispatched.isolates() {
        rules.push(jump(vec![Match::NotSyn, Match::New], midstream()));
    }
    for direction in [Direction::Egress, Direction::Ingress] {
        if dispatched.of(direction).is_any() {
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

/// The set of isolated addresses.
fn isolated(family: Family) -> SetName {
    SetName { family, role: SetRole::Isolated }
}

/// The chain for segments of flows that conntrack does not know.
fn midstream_rules(family: Family) -> Chain {
    let of = |side| vec![Match::Set { set: isolated(family), side }];
    Chain {
        rules: vec![
            goto(of(Side::Source), deny_chain(Direction::Egress)),
            goto(of(Side::Destination), deny_chain(Direction::Ingress)),
        ],
    }
}

/// Puts in the set that the chain for such segments asks for, where there is that chain.
pub(super) fn lay_isolated(
    family: Family,
    config: &NodeConfig,
    dispatch: &Dispatch,
    rules: &mut FamilyStructure,
) {
    if config.keep_established || !dispatch.dispatched().isolates() {
        return rules.remove_set(&isolated(family));
    }
    let addresses: BTreeSet<IpAddr> =
        dispatch.egress.keys().chain(dispatch.ingress.keys()).copied().collect();
    let members = addresses.into_iter().collect();
    rules.put_set(isolated(family), Source::Fixed(Arc::new(AddressSet { members })));
}
