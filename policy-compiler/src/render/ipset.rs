//! Input of `ipset restore`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::cidr::Family;
use crate::ruleset::{AddressSet, SetName, SetRole};

/// The fewest hash buckets that a set starts with.
const BUCKETS: usize = 64;
/// How many members a set may come to hold.
const CAPACITY: usize = 1_048_576;

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
        for member in &set.members {
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
