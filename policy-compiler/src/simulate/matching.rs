//! Whether a packet meets the conditions of a rule, and whether a rule could exist at all.
//!
//! A condition about a fact that the packet does not have (a port, an incoming interface, a
//! conntrack entry) does not hold, negated or not, as in the kernel.

use std::net::IpAddr;

use ipnet::IpNet;

use super::refusal::Fault;
use crate::cidr::Family;
use crate::flow::Traffic;
use crate::packet::{ConnState, Packet, Path};
use crate::ruleset::{AddressSet, FamilyRules, Match, Rule, SetName, SetRole, Side, Target};

/// The most slots of a multiport match (`XT_MULTI_PORTS`).
const MULTIPORT_SLOTS: usize = 15;
/// The most bytes of a comment (`XT_MAX_COMMENT_LEN` less the closing NUL).
const COMMENT: usize = 255;

/// Whether `packet` meets every condition of `rule`.
pub(super) fn applies(rules: &FamilyRules, rule: &Rule, packet: &Packet) -> bool {
    rule.matches.iter().all(|condition| holds(rules, condition, packet))
}

fn holds(rules: &FamilyRules, condition: &Match, packet: &Packet) -> bool {
    let protocol = packet.traffic.ip_protocol(packet.family());
    match condition {
        Match::InInterface(name) => packet.path.came_in_by().is_some_and(|from| from == name),
        Match::InInterfaces(prefix) => {
            packet.path.came_in_by().is_some_and(|from| from.as_str().starts_with(prefix))
        }
        Match::Bridged => matches!(packet.path, Path::Forwarded { bridged: true, .. }),
        Match::Source(net) => net.contains(&packet.source),
        Match::Destination(net) => net.contains(&packet.destination),
        Match::Protocol(wanted) => protocol == wanted.number(),
        Match::Icmpv6Type(wanted) => {
            packet.family() == Family::V6 && packet.traffic == Traffic::Icmp { kind: *wanted }
        }
        Match::NotSyn => protocol == crate::port::Protocol::Tcp.number() && !packet.syn,
        Match::DestinationPort(range) => port(packet).is_some_and(|port| range.contains(port)),
        Match::DestinationPorts(ranges) => {
            port(packet).is_some_and(|port| ranges.iter().any(|range| range.contains(port)))
        }
        Match::Set { set, side } => is_in(rules, set, *side, packet),
        Match::NotInSet { set, side } => !is_in(rules, set, *side, packet),
        Match::NotEstablished => {
            !matches!(packet.state, ConnState::Established | ConnState::Related)
        }
        Match::Established => {
            matches!(packet.state, ConnState::Established | ConnState::Related)
        }
        Match::New => packet.state == ConnState::New,
        Match::NotOriginalDestination(address) => {
            tracked(packet) && packet.original_destination.is_some_and(|known| known != *address)
        }
        Match::ToBroadcast => packet.to_broadcast,
        // What INPUT sees is for the node; broadcast and multicast are not said to be for an address.
        Match::ToLocal => {
            matches!(packet.path, Path::ForNode { .. })
                && !packet.to_broadcast
                && !packet.destination.is_multicast()
        }
        Match::FromLocal => matches!(packet.path, Path::SentByNode { from_local: true }),
    }
}

fn is_in(rules: &FamilyRules, set: &SetName, side: Side, packet: &Packet) -> bool {
    let address = match side {
        Side::Source => packet.source,
        Side::Destination => packet.destination,
    };
    rules.sets.get(set).is_some_and(|members| lookup(&set.role, members, address))
}

/// Whether conntrack has an entry for the packet. Without one `xt_conntrack` answers questions about
/// the state alone; a question about the original tuple is answered with no, negated or not.
fn tracked(packet: &Packet) -> bool {
    !matches!(packet.state, ConnState::Invalid | ConnState::Untracked)
}

fn port(packet: &Packet) -> Option<u16> {
    match packet.traffic {
        Traffic::Port { port, .. } => Some(port),
        Traffic::Icmp { .. } | Traffic::Other { .. } => None,
    }
}

/// Whether `address` is in the set: in `hash:net` the longest entry that covers it decides.
fn lookup(role: &SetRole, set: &AddressSet, address: IpAddr) -> bool {
    match role {
        SetRole::Networks { .. } => set
            .members
            .iter()
            .filter(|member| member.net.contains(&address))
            .max_by_key(|member| member.net.prefix_len())
            .is_some_and(|member| !member.nomatch),
        SetRole::Pods { .. } | SetRole::Isolated | SetRole::Known { .. } => {
            set.members.contains(&crate::ruleset::Member::address(address))
        }
    }
}

/// Why `rule` could not be loaded into the table of `family`, if so. Sets are looked up in `rules`;
/// their members are [`unfit_member`]'s affair.
pub(super) fn fault(rules: &FamilyRules, family: Family, rule: &Rule) -> Option<Fault> {
    let mut given = Given::default();
    for condition in &rule.matches {
        if let Some(fault) =
            given.take(condition).or_else(|| condition_fault(rules, family, condition))
        {
            return Some(fault);
        }
    }
    if let Some(comment) = &rule.comment
        && comment.len() > COMMENT
    {
        return Some(Fault::CommentTooLong(comment.len()));
    }
    match &rule.target {
        Target::Jump(chain) | Target::Goto(chain) if !rules.chains.contains_key(chain) => {
            Some(Fault::UnknownChain(chain.clone()))
        }
        _ => None,
    }
}

/// What the conditions of a rule have given so far.
#[derive(Default)]
struct Given {
    /// The options that a rule can have only once.
    once: Vec<&'static str>,
    /// Whether a protocol that has ports is known.
    ports: bool,
}

impl Given {
    fn take(&mut self, condition: &Match) -> Option<Fault> {
        let option = match condition {
            Match::InInterface(_) | Match::InInterfaces(_) => "-i",
            Match::Source(_) => "-s",
            Match::Destination(_) => "-d",
            Match::Protocol(_) | Match::Icmpv6Type(_) | Match::NotSyn => {
                self.ports |= matches!(condition, Match::Protocol(_));
                "-p"
            }
            Match::DestinationPort(_) | Match::DestinationPorts(_) => {
                return (!self.ports).then_some(Fault::PortWithoutProtocol);
            }
            _ => return None,
        };
        let twice = self.once.contains(&option);
        self.once.push(option);
        twice.then_some(Fault::GivenTwice(option))
    }
}

fn condition_fault(rules: &FamilyRules, family: Family, condition: &Match) -> Option<Fault> {
    match condition {
        Match::Source(net) | Match::Destination(net) if Family::of_net(net) != family => {
            Some(Fault::NetOfOtherFamily(*net))
        }
        Match::NotOriginalDestination(address) if Family::of(*address) != family => {
            Some(Fault::NetOfOtherFamily(IpNet::from(*address)))
        }
        Match::Icmpv6Type(_) if family == Family::V4 => Some(Fault::NotInFamily("icmpv6")),
        Match::ToBroadcast if family == Family::V6 => Some(Fault::NotInFamily("BROADCAST")),
        Match::DestinationPorts(ranges) => {
            let slots = ranges.iter().map(|r| if r.first() == r.last() { 1 } else { 2 }).sum();
            (!(1..=MULTIPORT_SLOTS).contains(&slots)).then_some(Fault::MultiportSlots(slots))
        }
        Match::Set { set, .. } | Match::NotInSet { set, .. } if set.family != family => {
            Some(Fault::SetOfOtherFamily(set.clone()))
        }
        Match::Set { set, .. } | Match::NotInSet { set, .. } if !rules.sets.contains_key(set) => {
            Some(Fault::UnknownSet(set.clone()))
        }
        _ => None,
    }
}

/// The first member that a set of this name could not hold: a network or a `nomatch` in `hash:ip`, /0
/// in `hash:net`, one network both with and without `nomatch`, an address of the other family.
pub(super) fn unfit_member(name: &SetName, set: &AddressSet) -> Option<Fault> {
    let networks = matches!(name.role, SetRole::Networks { .. });
    set.members
        .iter()
        .find(|member| {
            let net = member.net;
            let fits = if networks {
                let twin = crate::ruleset::Member { net, nomatch: false };
                net.prefix_len() > 0 && !(member.nomatch && set.members.contains(&twin))
            } else {
                net.prefix_len() == net.max_prefix_len() && !member.nomatch
            };
            !fits || Family::of_net(&net) != name.family || net != net.trunc()
        })
        .map(Fault::UnfitMember)
}
