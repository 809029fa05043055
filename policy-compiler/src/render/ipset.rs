//! Input of `ipset restore`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use crate::cidr::Family;
use crate::ruleset::{AddressSet, SetName, SetRole};

/// The fewest hash buckets that a set starts with.
const BUCKETS: usize = 64;
/// How many members a set may come to hold.
const CAPACITY: usize = 1_048_576;

/// From how many members on those that follow upon each other are written as ranges. The program spends
/// more on a line than the kernel on an address.
const MANY: usize = 1_024;
/// How many addresses a range has at most: the kernel takes as many at once without a pause.
const RANGE: u32 = 256;

/// With how many hash buckets a set of so many members is made, and how many it may come to hold.
#[must_use]
pub fn sizes(members: usize) -> (usize, usize) {
    // A set that grows by rehashing loads many times slower.
    let buckets = members.next_power_of_two().max(BUCKETS);
    (buckets, buckets.max(CAPACITY))
}

/// Lines that make these sets, which must not exist, and fill them.
#[must_use]
pub fn ipset_restore(sets: &BTreeMap<SetName, AddressSet>) -> String {
    let mut text = String::new();
    for (name, set) in sets {
        let kind = match name.role {
            SetRole::Networks { .. } => "hash:net",
            SetRole::Pods { .. } | SetRole::Isolated | SetRole::Known { .. } => "hash:ip",
        };
        let family = match name.family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        let (buckets, capacity) = sizes(set.members.len());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "create {name} {kind} family {family} hashsize {buckets} maxelem {capacity}"
        );
        if set.members.len() > MANY
            && name.family == Family::V4
            && !matches!(name.role, SetRole::Networks { .. })
        {
            add_ranges(&mut text, &name.to_string(), set);
            continue;
        }
        for member in set.members.iter() {
            let _ = match (&name.role, member.nomatch) {
                (SetRole::Networks { .. }, false) => writeln!(text, "add {name} {}", member.net),
                (SetRole::Networks { .. }, true) => {
                    writeln!(text, "add {name} {} nomatch", member.net)
                }
                _ => writeln!(text, "add {name} {}", member.net.addr()),
            };
        }
    }
    text
}

/// The same members as lines of which some stand for several: addresses are given out densely.
fn add_ranges(text: &mut String, name: &str, set: &AddressSet) {
    let mut run: Option<(u32, u32)> = None;
    let mut write = |(first, last): (u32, u32)| {
        let (from, to) = (Ipv4Addr::from(first), Ipv4Addr::from(last));
        // Writing to a string cannot fail.
        let _ = if from == to {
            writeln!(text, "add {name} {from}")
        } else {
            writeln!(text, "add {name} {from}-{to}")
        };
    };
    let addresses = set.members.addresses().filter_map(|address| match address {
        IpAddr::V4(address) => Some(u32::from(address)),
        IpAddr::V6(_) => None,
    });
    for address in addresses {
        run = match run {
            Some((first, last))
                if last.checked_add(1) == Some(address) && address - first < RANGE =>
            {
                Some((first, address))
            }
            Some(whole) => {
                write(whole);
                Some((address, address))
            }
            None => Some((address, address)),
        };
    }
    if let Some(rest) = run {
        write(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Generation, Member, SetHash};

    fn rendered(addresses: impl Iterator<Item = u32>) -> String {
        let address = |number| Member::address(IpAddr::V4(Ipv4Addr::from(number)));
        let role = SetRole::Pods { hash: SetHash::of("abc"), generation: Generation(0) };
        let set = AddressSet { members: addresses.map(address).collect() };
        ipset_restore(&BTreeMap::from([(SetName { family: Family::V4, role }, set)]))
    }

    /// The addresses that the lines add, in order.
    fn added(text: &str) -> Vec<u32> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("add npc4-p-abc-0 "));
        let number = |word: &str| u32::from(word.parse::<Ipv4Addr>().unwrap());
        let range = |words: &str| match words.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(words)..=number(words),
        };
        lines.flat_map(range).collect()
    }

    #[test]
    fn members_of_a_large_set_that_follow_upon_each_other_share_a_line() {
        let net = 10 << 24;
        let lone = [1, 3, 1_000_000, u32::MAX - 1, u32::MAX];
        let mut all: Vec<u32> = (net..net + 2_000).chain(lone).collect();
        all.sort_unstable();
        let text = rendered(all.iter().copied());
        assert_eq!(added(&text), all);
        // 2,000 in 8 ranges, three alone, two at the end of all addresses.
        assert_eq!(text.lines().count(), 1 + 8 + 3 + 1);
        assert!(text.contains("add npc4-p-abc-0 10.0.0.0-10.0.0.255\n"));
        assert!(text.ends_with("add npc4-p-abc-0 255.255.255.254-255.255.255.255\n"));
    }

    #[test]
    fn a_small_set_has_a_line_for_each_member() {
        let text = rendered(1..=1_024);
        assert_eq!(text.lines().count(), 1 + 1_024);
        assert_eq!(added(&text), (1..=1_024).collect::<Vec<u32>>());
    }
}
