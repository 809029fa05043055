//! Whether the kernel holds what was written: chains with their rules in order, hooks, sets with their
//! members.
//!
//! [`compare`] is pure: two readings in, a list of typed differences out, each of which is a line for a
//! person. What was written is read by the very reader that reads what the kernel prints (see
//! [`reading`]), so nothing here knows the syntax of rules.

pub mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use policy_compiler::cidr::Family;
use policy_compiler::render;
use policy_compiler::ruleset::{FamilyRules, Ruleset};
use serde::{Deserialize, Serialize};

use self::reading::{Chains, SetContents, Table};
use super::backend::Backend;
use super::command::{CommandError, Runner};
use super::{ipset, iptables};

/// What a family is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The chains.
    pub chains: Chains,
    /// The rule that stands first in each built-in chain.
    pub hooks: BTreeMap<String, String>,
    /// The sets.
    pub sets: SetContents,
    /// Chains that may stand besides, empty: rules of others lead to them.
    pub held: BTreeSet<String>,
    /// Sets that may be there besides: the kernel has not let go of them yet.
    pub given_up: BTreeSet<String>,
}

/// What a family holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Chains and hooks.
    pub table: Table,
    /// Sets.
    pub sets: SetContents,
}

/// One thing in which the kernel is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Difference {
    /// A built-in chain has no rule that leads to us.
    HookMissing {
        /// The built-in chain.
        chain: String,
        /// The rule.
        rule: String,
    },
    /// The rule stands behind others.
    HookNotFirst {
        /// The built-in chain.
        chain: String,
        /// Its place, from 1.
        position: usize,
    },
    /// More than one rule leads to us.
    HookRepeated {
        /// The built-in chain.
        chain: String,
        /// How many.
        count: usize,
    },
    /// The rule is another.
    HookAltered {
        /// The built-in chain.
        chain: String,
        /// The rule as it was written.
        rule: String,
        /// The rule as it is.
        found: String,
    },
    /// A built-in chain leads to us that should not.
    HookUnknown {
        /// The built-in chain.
        chain: String,
        /// The rule.
        rule: String,
    },
    /// A chain is not there.
    ChainMissing {
        /// The chain.
        chain: String,
    },
    /// A chain is there that nobody wrote.
    ChainUnknown {
        /// The chain.
        chain: String,
        /// How many rules it has.
        rules: usize,
    },
    /// A chain has no rules any more.
    ChainEmpty {
        /// The chain.
        chain: String,
        /// How many it had.
        rules: usize,
    },
    /// A rule is not there.
    RuleMissing {
        /// The chain.
        chain: String,
        /// Its place as it was written, from 1.
        position: usize,
        /// The rule.
        rule: String,
    },
    /// A rule is there that nobody wrote.
    RuleUnknown {
        /// The chain.
        chain: String,
        /// Its place, from 1.
        position: usize,
        /// The rule.
        rule: String,
    },
    /// The rules stand in another order.
    RulesReordered {
        /// The chain.
        chain: String,
    },
    /// A set is not there.
    SetMissing {
        /// The set.
        set: String,
    },
    /// A set is there that nobody made.
    SetUnknown {
        /// The set.
        set: String,
    },
    /// A set is of another type, or has other options.
    SetHeader {
        /// The set.
        set: String,
        /// As it was made.
        expected: String,
        /// As it is.
        found: String,
    },
    /// A member is not there.
    MemberMissing {
        /// The set.
        set: String,
        /// The member.
        member: String,
    },
    /// A member is there that nobody added.
    MemberUnknown {
        /// The set.
        set: String,
        /// The member.
        member: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Difference as D;
        match self {
            D::HookMissing { chain, rule } => write!(f, "{chain} lacks its rule `{rule}`"),
            D::HookNotFirst { chain, position } => {
                write!(f, "the rule of {chain} that leads to us is rule {position}, not the first")
            }
            D::HookRepeated { chain, count } => {
                write!(f, "{count} rules of {chain} lead to us instead of one")
            }
            D::HookAltered { chain, rule, found } => {
                write!(f, "the rule of {chain} should be `{rule}` and is `{found}`")
            }
            D::HookUnknown { chain, rule } => write!(f, "{chain} should not have `{rule}`"),
            D::ChainMissing { chain } => write!(f, "chain {chain} is missing"),
            D::ChainUnknown { chain, rules } => {
                let rules = rules_in_words(*rules);
                write!(f, "chain {chain} with {rules} should not be there")
            }
            D::ChainEmpty { chain, rules } => {
                write!(f, "chain {chain} is empty and should have {}", rules_in_words(*rules))
            }
            D::RuleMissing { chain, position, rule } => {
                write!(f, "chain {chain} lacks rule {position} `{rule}`")
            }
            D::RuleUnknown { chain, position, rule } => {
                write!(f, "chain {chain} should not have rule {position} `{rule}`")
            }
            D::RulesReordered { chain } => {
                write!(f, "the rules of chain {chain} stand in another order")
            }
            D::SetMissing { set } => write!(f, "set {set} is missing"),
            D::SetUnknown { set } => write!(f, "set {set} should not be there"),
            D::SetHeader { set, expected, found } => {
                write!(f, "set {set} should be `{expected}` and is `{found}`")
            }
            D::MemberMissing { set, member } => write!(f, "set {set} lacks {member}"),
            D::MemberUnknown { set, member } => write!(f, "set {set} should not have {member}"),
        }
    }
}

fn rules_in_words(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}

impl Expected {
    /// What a family with these rules is to hold.
    #[must_use]
    pub fn new(family: Family, rules: &FamilyRules) -> Self {
        let mut ruleset = Ruleset::default();
        ruleset.family_mut(family).chains.clone_from(&rules.chains);
        let chains = reading::table(&render::ruleset(&ruleset, family)).chains;
        let words = |rule| reading::rule(&iptables::words_of(rule));
        Self {
            chains,
            hooks: rules
                .hooks
                .iter()
                .map(|(h, rule)| (h.builtin().to_owned(), words(rule)))
                .collect(),
            sets: reading::sets(&render::ipset_restore(&rules.sets), family),
            held: BTreeSet::new(),
            given_up: BTreeSet::new(),
        }
    }
}

impl Found {
    /// Reads the kernel, and changes nothing.
    ///
    /// # Errors
    /// Where a program is missing or fails, as `ipset` does where a set vanishes meanwhile.
    pub fn read(runner: &Runner, backend: Backend, family: Family) -> Result<Self, CommandError> {
        let table = backend.save_table(runner, family, "filter")?;
        let sets = ipset::save(runner, family)?;
        Ok(Self { table: reading::table(&table), sets: reading::sets(&sets, family) })
    }
}

/// In what the kernel is not as it was written, in the order of hooks, chains, sets.
#[must_use]
pub fn compare(expected: &Expected, found: &Found) -> Vec<Difference> {
    let mut differences = Vec::new();
    hooks(expected, &found.table, &mut differences);
    chains(expected, &found.table.chains, &mut differences);
    sets(expected, &found.sets, &mut differences);
    differences
}

fn hooks(expected: &Expected, found: &Table, differences: &mut Vec<Difference>) {
    for (chain, rule) in &expected.hooks {
        let chain = chain.clone();
        let there = found.hooks.get(&chain).map_or(&[][..], Vec::as_slice);
        let Some(first) = there.first() else {
            differences.push(Difference::HookMissing { chain, rule: rule.clone() });
            continue;
        };
        if first.position != 1 {
            let position = first.position;
            differences.push(Difference::HookNotFirst { chain: chain.clone(), position });
        }
        if there.len() > 1 {
            let count = there.len();
            differences.push(Difference::HookRepeated { chain: chain.clone(), count });
        }
        if first.words != *rule {
            let (rule, found) = (rule.clone(), first.words.clone());
            differences.push(Difference::HookAltered { chain, rule, found });
        }
    }
    for (chain, rules) in &found.hooks {
        if !expected.hooks.contains_key(chain) {
            differences.extend(rules.iter().map(|hook| Difference::HookUnknown {
                chain: chain.clone(),
                rule: hook.words.clone(),
            }));
        }
    }
}

fn chains(expected: &Expected, found: &Chains, differences: &mut Vec<Difference>) {
    for (chain, rules) in &expected.chains {
        match found.get(chain) {
            None => differences.push(Difference::ChainMissing { chain: chain.clone() }),
            Some(there) if there == rules => {}
            Some(there) if there.is_empty() => {
                let rules = rules.len();
                differences.push(Difference::ChainEmpty { chain: chain.clone(), rules });
            }
            Some(there) => rules_of(chain, rules, there, differences),
        }
    }
    for (chain, rules) in found {
        let is_held = rules.is_empty() && expected.held.contains(chain);
        if !expected.chains.contains_key(chain) && !is_held {
            let rules = rules.len();
            differences.push(Difference::ChainUnknown { chain: chain.clone(), rules });
        }
    }
}

/// What distinguishes the rules of one chain: those that only one side has, as often as it has them
/// more, and whether the others stand in another order.
fn rules_of(chain: &str, wanted: &[String], there: &[String], differences: &mut Vec<Difference>) {
    let chain = chain.to_owned();
    let (missing, kept) = beyond(wanted, there);
    let (unknown, common) = beyond(there, wanted);
    differences.extend(missing.into_iter().map(|(position, rule)| Difference::RuleMissing {
        chain: chain.clone(),
        position,
        rule: rule.clone(),
    }));
    differences.extend(unknown.into_iter().map(|(position, rule)| Difference::RuleUnknown {
        chain: chain.clone(),
        position,
        rule: rule.clone(),
    }));
    if kept != common {
        differences.push(Difference::RulesReordered { chain });
    }
}

/// The rules of `these` that `others` does not have, or not as often, with their places; and the rest.
fn beyond<'a>(
    these: &'a [String],
    others: &[String],
) -> (Vec<(usize, &'a String)>, Vec<&'a String>) {
    let mut left: BTreeMap<&String, usize> = BTreeMap::new();
    for rule in others {
        *left.entry(rule).or_default() += 1;
    }
    let (mut beyond, mut rest) = (Vec::new(), Vec::new());
    for (index, rule) in these.iter().enumerate() {
        match left.get_mut(rule).filter(|count| **count > 0) {
            Some(count) => {
                *count -= 1;
                rest.push(rule);
            }
            None => beyond.push((index + 1, rule)),
        }
    }
    (beyond, rest)
}

fn sets(expected: &Expected, found: &SetContents, differences: &mut Vec<Difference>) {
    for (name, content) in &expected.sets {
        let set = || name.clone();
        let Some(there) = found.get(name) else {
            differences.push(Difference::SetMissing { set: set() });
            continue;
        };
        if there.header != content.header {
            let (expected, found) = (content.header.clone(), there.header.clone());
            differences.push(Difference::SetHeader { set: set(), expected, found });
        }
        let missing = content.members.difference(&there.members);
        let unknown = there.members.difference(&content.members);
        differences
            .extend(missing.map(|m| Difference::MemberMissing { set: set(), member: m.clone() }));
        differences
            .extend(unknown.map(|m| Difference::MemberUnknown { set: set(), member: m.clone() }));
    }
    let strays = found
        .keys()
        .filter(|name| !expected.sets.contains_key(*name) && !expected.given_up.contains(*name));
    differences.extend(strays.map(|name| Difference::SetUnknown { set: name.clone() }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(table: &str, sets: &str) -> Expected {
        let Table { chains, hooks } = reading::table(table);
        let hooks = hooks.into_iter().map(|(chain, mut rules)| (chain, rules.remove(0).words));
        Expected {
            chains,
            hooks: hooks.collect(),
            sets: reading::sets(sets, Family::V4),
            ..Expected::default()
        }
    }

    fn found(table: &str, sets: &str) -> Found {
        Found { table: reading::table(table), sets: reading::sets(sets, Family::V4) }
    }

    fn lines(expected: &Expected, found: &Found) -> Vec<String> {
        compare(expected, found).iter().map(ToString::to_string).collect()
    }

    const TABLE: &str = "-A FORWARD -j NPC-FORWARD\n:NPC-A - [0:0]\n-A NPC-A -p tcp -j RETURN\n\
                         -A NPC-A -p udp -j RETURN\n-A NPC-A -p tcp -j RETURN\n";
    const SETS: &str = "create npc4-iso hash:ip family inet\nadd npc4-iso 10.0.0.1\n";

    #[test]
    fn what_is_as_it_was_written_does_not_differ() {
        assert_eq!(lines(&expected(TABLE, SETS), &found(TABLE, SETS)), [""; 0]);
    }

    #[test]
    fn of_equal_rules_the_number_counts_and_of_different_ones_the_order() {
        let rules = |rules: &[&str]| -> String {
            let rules = rules.iter().map(|rule| format!("-A NPC-A -p {rule} -j RETURN\n"));
            ["-A FORWARD -j NPC-FORWARD\n:NPC-A - [0:0]\n".to_owned()]
                .into_iter()
                .chain(rules)
                .collect()
        };
        for (there, differences) in [
            (&["tcp", "udp"][..], &["chain NPC-A lacks rule 3 `-p tcp -j RETURN`"][..]),
            (&["tcp", "tcp", "udp"], &["the rules of chain NPC-A stand in another order"]),
            (
                &["tcp", "udp", "sctp", "tcp", "tcp"],
                &[
                    "chain NPC-A should not have rule 3 `-p sctp -j RETURN`",
                    "chain NPC-A should not have rule 5 `-p tcp -j RETURN`",
                ],
            ),
            (&[], &["chain NPC-A is empty and should have 3 rules"]),
        ] {
            let found = found(&rules(there), SETS);
            assert_eq!(lines(&expected(TABLE, SETS), &found), differences, "{there:?}");
        }
    }

    #[test]
    fn what_the_kernel_holds_on_to_is_no_difference_but_rules_in_it_are() {
        let held = BTreeSet::from(["NPC-OLD".to_owned()]);
        let given_up = BTreeSet::from(["npc4-p-a-0".to_owned()]);
        let expected = Expected { held, given_up, ..expected(TABLE, SETS) };
        let sets = format!("{SETS}create npc4-p-a-0 hash:ip family inet\n");
        let table = format!("{TABLE}:NPC-OLD - [0:0]\n");
        assert_eq!(lines(&expected, &found(&table, &sets)), [""; 0]);
        let filled = format!("{table}-A NPC-OLD -j RETURN\n");
        assert_eq!(
            lines(&expected, &found(&filled, &sets)),
            ["chain NPC-OLD with 1 rule should not be there"]
        );
        let stray = format!("{sets}create npc4-p-b-0 hash:ip family inet\n");
        assert_eq!(
            lines(&expected, &found(&table, &stray)),
            ["set npc4-p-b-0 should not be there"]
        );
    }
}
