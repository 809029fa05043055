//! The words of one rule.

use crate::cidr::Family;
use crate::config::DenyAction;
use crate::port::{PortRange, Protocol};
use crate::ruleset::{LOG_GROUP, Match, Notice, Rule, Side, Target};

/// The words of a rule after `-A CHAIN`, one argument each, unquoted.
///
/// A rule that rejects is two rules in the kernel; this gives the second of them, without the kind
/// of rejection, which differs by family.
#[must_use]
pub fn rule_spec(rule: &Rule) -> Vec<String> {
    let mut words = conditions(rule);
    match &rule.target {
        Target::Return => words.extend(own(&["-j", "RETURN"])),
        Target::Jump(chain) => words.extend(own(&["-j", chain.as_str()])),
        Target::Goto(chain) => words.extend(own(&["-g", chain.as_str()])),
        Target::Log(notice) => words.extend(log_words(*notice)),
        Target::Deny(DenyAction::Drop) => words.extend(own(&["-j", "DROP"])),
        Target::Deny(DenyAction::Reject) => words.extend(own(&["-j", "REJECT"])),
    }
    words
}

/// Tells of a packet, at most so often: a flood of denied packets is to cost the kernel little, and the
/// first bytes are enough to know whose packet it is.
fn log_words(notice: Notice) -> Vec<String> {
    let group = LOG_GROUP.to_string();
    own(&[
        "-m",
        "limit",
        "--limit",
        "100/sec",
        "--limit-burst",
        "200",
        "-j",
        "NFLOG",
        "--nflog-prefix",
        notice.prefix(),
        "--nflog-group",
        &group,
        "--nflog-size",
        "128",
    ])
}

/// The kernel's rules for one of ours: two where it rejects, else one.
pub(super) fn kernel_rules(rule: &Rule, family: Family) -> Vec<Vec<String>> {
    if rule.target != Target::Deny(DenyAction::Reject) {
        return vec![rule_spec(rule)];
    }
    let unreachable = match family {
        Family::V4 => "icmp-port-unreachable",
        Family::V6 => "icmp6-port-unreachable",
    };
    let mut reset = conditions(rule);
    reset.extend(own(&["-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"]));
    let mut refuse = rule_spec(rule);
    refuse.extend(own(&["--reject-with", unreachable]));
    vec![reset, refuse]
}

fn own(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn conditions(rule: &Rule) -> Vec<String> {
    let protocol = rule.matches.iter().find_map(|condition| match condition {
        Match::Protocol(protocol) => Some(protocol_word(*protocol)),
        _ => None,
    });
    let mut words = Vec::new();
    for condition in &rule.matches {
        words.extend(condition_words(condition, protocol));
    }
    if let Some(comment) = &rule.comment {
        words.extend(own(&["-m", "comment", "--comment", comment]));
    }
    words
}

/// The words of one condition, in a rule for that protocol.
fn condition_words(condition: &Match, protocol: Option<&'static str>) -> Vec<String> {
    match condition {
        Match::InInterface(name) => own(&["-i", name.as_str()]),
        Match::InInterfaces(prefix) => own(&["-i", &format!("{prefix}+")]),
        Match::Bridged => own(&["-m", "physdev", "--physdev-is-bridged"]),
        Match::Source(net) => own(&["-s", &net.to_string()]),
        Match::Destination(net) => own(&["-d", &net.to_string()]),
        Match::Protocol(protocol) => own(&["-p", protocol_word(*protocol)]),
        Match::Icmpv6Type(kind) => {
            own(&["-p", "ipv6-icmp", "-m", "icmp6", "--icmpv6-type", &kind.to_string()])
        }
        // As iptables-save spells `! --syn`, so that what is read back is what was written.
        Match::NotSyn => {
            own(&["-p", "tcp", "-m", "tcp", "!", "--tcp-flags", "FIN,SYN,RST,ACK", "SYN"])
        }
        Match::DestinationPort(range) => {
            let mut words = protocol.map_or_else(Vec::new, |protocol| own(&["-m", protocol]));
            words.extend(own(&["--dport", &port_words(*range)]));
            words
        }
        Match::DestinationPorts(ranges) => {
            let list: Vec<String> = ranges.iter().map(|range| port_words(*range)).collect();
            own(&["-m", "multiport", "--dports", &list.join(",")])
        }
        Match::Set { set, side } => {
            own(&["-m", "set", "--match-set", &set.to_string(), side_word(*side)])
        }
        Match::NotInSet { set, side } => {
            own(&["-m", "set", "!", "--match-set", &set.to_string(), side_word(*side)])
        }
        Match::NotEstablished => own(&["-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED"]),
        Match::Established => own(&["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]),
        Match::New => own(&["-m", "conntrack", "--ctstate", "NEW"]),
        Match::NotOriginalDestination(address) => {
            own(&["-m", "conntrack", "!", "--ctorigdst", &address.to_string()])
        }
        Match::ToBroadcast => own(&["-m", "addrtype", "--dst-type", "BROADCAST"]),
        Match::ToLocal => own(&["-m", "addrtype", "--dst-type", "LOCAL"]),
        Match::FromLocal => own(&["-m", "addrtype", "--src-type", "LOCAL"]),
    }
}

fn side_word(side: Side) -> &'static str {
    match side {
        Side::Source => "src",
        Side::Destination => "dst",
    }
}

fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// `80`, `8000:8010`.
fn port_words(range: PortRange) -> String {
    if range.first() == range.last() {
        range.first().to_string()
    } else {
        format!("{}:{}", range.first(), range.last())
    }
}
