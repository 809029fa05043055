//! Writes rulesets in the syntax of iptables-restore and ipset restore, which nothing else knows.
//!
//! Output is deterministic and ends in a newline. Nothing here can fail: what a [`Rule`](crate::ruleset::Rule) can hold
//! can be written, and no name or comment needs more than quoting.

mod ipset;
mod iptables;
mod rule;

pub use self::ipset::{ipset_restore, sizes as set_sizes};
pub use self::iptables::{callees_first, iptables_restore, ruleset};
pub use self::rule::rule_spec;

#[cfg(test)]
mod tests;
