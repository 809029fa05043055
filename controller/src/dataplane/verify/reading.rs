//! What the programs print, and what we give them, in one form in which both are equal if they mean
//! the same.
//!
//! The rules are rendered in the words in which they are read back, so a rule is its words. Only
//! addresses are put into one notation: the C library and ours differ for some of IPv6. Of a set's
//! header, what the kernel chooses by itself (its buckets) is left out, and its capacity where that is
//! no less than what every set of ours is given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use policy_compiler::cidr::Family;
use policy_compiler::ruleset::ChainName;
use serde::{Deserialize, Serialize};

use super::super::ipset::prefix;
use super::super::iptables::HOOKS;

/// How many members every set of ours may come to hold.
pub(in crate::dataplane) const CAPACITY: u64 = 1_048_576;

/// Chains by name, the rules of each in order.
pub type Chains = BTreeMap<String, Vec<String>>;

/// A rule of a built-in chain that leads to a chain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRule {
    /// Its place in the built-in chain, from 1.
    pub position: usize,
    /// Its words.
    pub words: String,
}

/// What table `filter` holds of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Our chains.
    pub chains: Chains,
    /// What leads to them, by built-in chain.
    pub hooks: BTreeMap<String, Vec<HookRule>>,
}

/// A set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetContent {
    /// Its type and options.
    pub header: String,
    /// Its members.
    pub members: BTreeSet<String>,
}

/// Sets by name.
pub type SetContents = BTreeMap<String, SetContent>;

/// Reads what `iptables-save` prints, or what is given to `iptables-restore`.
#[must_use]
pub fn table(text: &str) -> Table {
    let mut table = Table::default();
    let mut positions: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix(':') {
            let name = declared.split(' ').next().unwrap_or_default();
            if name.starts_with(ChainName::PREFIX) {
                table.chains.entry(name.to_owned()).or_default();
            }
        } else if let Some((chain, words)) =
            line.strip_prefix("-A ").map(|rule| rule.split_once(' ').unwrap_or((rule, "")))
        {
            if chain.starts_with(ChainName::PREFIX) {
                table.chains.entry(chain.to_owned()).or_default().push(rule(words));
            } else if HOOKS.iter().any(|hook| hook.builtin() == chain) {
                let position = positions.entry(chain).or_default();
                *position += 1;
                if leads_to_us(words) {
                    let hook = HookRule { position: *position, words: rule(words) };
                    table.hooks.entry(chain.to_owned()).or_default().push(hook);
                }
            }
        }
    }
    table
}

/// A rule without a space behind it, its addresses in our notation.
#[must_use]
pub fn rule(words: &str) -> String {
    let mut rule = String::with_capacity(words.len());
    for word in words.trim_end().split(' ') {
        if !rule.is_empty() {
            rule.push(' ');
        }
        // A comment with a space is more than one word here; none of its parts is an address, for it
        // is a pod's name in quotes.
        match plausible(word).then(|| address(word)).flatten() {
            Some(same) => rule.push_str(&same),
            None => rule.push_str(word),
        }
    }
    rule
}

/// Whether it is worth trying to read a word as an address.
fn plausible(word: &str) -> bool {
    word.contains([':', '.']) && word.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':')
}

fn address(word: &str) -> Option<String> {
    if let Ok(net) = word.parse::<IpNet>() {
        return Some(net.to_string());
    }
    word.parse::<IpAddr>().ok().map(|address| address.to_string())
}

/// Whether a rule ends in a chain of ours.
fn leads_to_us(words: &str) -> bool {
    let mut last = words.trim_end().rsplit(' ');
    let (Some(target), Some(verb)) = (last.next(), last.next()) else { return false };
    matches!(verb, "-j" | "-g") && target.starts_with(ChainName::PREFIX)
}

/// Reads what `ipset save` prints, or what is given to `ipset restore`; the sets of others and of the
/// other family are passed over.
#[must_use]
pub fn sets(text: &str, family: Family) -> SetContents {
    let mut sets = SetContents::new();
    for line in text.lines() {
        let mut words = line.trim_end().splitn(3, ' ');
        let (Some(verb), Some(name), Some(rest)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if !name.starts_with(prefix(family)) {
            continue;
        }
        let set = sets.entry(name.to_owned()).or_default();
        match verb {
            "create" => set.header = header(rest),
            "add" => {
                set.members.insert(member(rest));
            }
            _ => {}
        }
    }
    sets
}

/// Type and options, without those that say nothing.
pub(in crate::dataplane) fn header(words: &str) -> String {
    let mut header: Vec<&str> = Vec::new();
    let mut words = words.split(' ');
    while let Some(word) = words.next() {
        match word {
            "hashsize" | "bucketsize" | "initval" => {
                words.next();
            }
            "maxelem" => {
                let value = words.next().unwrap_or_default();
                if value.parse::<u64>().is_ok_and(|capacity| capacity < CAPACITY) {
                    header.extend([word, value]);
                }
            }
            other => header.push(other),
        }
    }
    header.join(" ")
}

/// A member with its options; one address without the length of its prefix.
fn member(words: &str) -> String {
    let (word, options) = match words.split_once(' ') {
        Some((word, options)) => (word, format!(" {options}")),
        None => (words, String::new()),
    };
    let net = word.parse::<IpNet>().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
    match net {
        Ok(net) if net == IpNet::from(net.addr()) => format!("{}{options}", net.addr()),
        Ok(net) => format!("{net}{options}"),
        Err(_) => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_and_what_is_printed_is_read_alike() {
        let given = "*filter\n:NPC-A - [0:0]\n:NPC-B - [0:0]\n\
                     -A NPC-A -s ::1.2.3.0/120 -g NPC-B\n-A NPC-A -j RETURN\nCOMMIT\n";
        let printed = "# Generated\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [7:8]\n\
                       :NPC-A - [3:4]\n:NPC-B - [0:0]\n\
                       -A NPC-A -s ::102:300/120 -g NPC-B\n-A NPC-A -j RETURN \nCOMMIT\n";
        assert_eq!(table(given), table(printed));
        assert_eq!(table(given).chains.len(), 2);
    }

    #[test]
    fn hooks_have_their_place_among_all_rules_of_their_chain() {
        let found = table(
            "-A FORWARD -j DOCKER\n-A FORWARD -m conntrack ! --ctstate RELATED -j NPC-FORWARD\n\
             -A OUTPUT -m comment --comment \"-j NPC-FORWARD\" -j ACCEPT\n",
        );
        let words = "-m conntrack ! --ctstate RELATED -j NPC-FORWARD".to_owned();
        assert_eq!(
            found.hooks,
            BTreeMap::from([("FORWARD".to_owned(), vec![HookRule { position: 2, words }])])
        );
    }

    #[test]
    fn a_set_is_its_type_its_unusual_options_and_its_members() {
        let given = sets(
            "create npc4-n-a hash:net family inet hashsize 64 maxelem 1048576\n\
             add npc4-n-a 10.0.0.0/8\nadd npc4-n-a 10.1.2.3/32 nomatch\n",
            Family::V4,
        );
        let printed = "create npc4-n-a hash:net family inet hashsize 128 maxelem 1048576 \
                       bucketsize 12 initval 0x1\n\
                       add npc4-n-a 10.1.2.3 nomatch\nadd npc4-n-a 10.0.0.0/8\n";
        assert_eq!(given, sets(printed, Family::V4));
        assert_eq!(sets(printed, Family::V6), SetContents::new());
        let small = sets(
            "create npc4-iso hash:ip family inet hashsize 64 maxelem 5 timeout 3\n\
             add npc4-iso 10.0.0.1 timeout 2\n",
            Family::V4,
        );
        let expected = SetContent {
            header: "hash:ip family inet maxelem 5 timeout 3".to_owned(),
            members: BTreeSet::from(["10.0.0.1 timeout 2".to_owned()]),
        };
        assert_eq!(small, SetContents::from([("npc4-iso".to_owned(), expected)]));
    }
}
