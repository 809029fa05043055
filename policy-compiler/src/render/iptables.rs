//! Transactions for `iptables-restore --noflush` and `ip6tables-restore --noflush`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::rule::{kernel_rules, rule_spec};
use crate::cidr::Family;
use crate::ruleset::{ChainName, Chains, Ruleset, Target};
use crate::update::ChainsUpdate;

/// One `*filter ... COMMIT` transaction.
///
/// Every chain that is replaced or deleted is declared, which makes it or empties it; so nothing
/// refers to a deleted chain any more once the replaced ones have their new rules. Chains are filled
/// before the ones that lead to them. Old hooks go first and new ones are put first in their chain.
#[must_use]
pub fn iptables_restore(update: &ChainsUpdate) -> String {
    let mut text = String::from("*filter\n");
    let declared: BTreeSet<&ChainName> = update.replace.keys().chain(&update.delete).collect();
    for chain in declared {
        line(&mut text, format_args!(":{chain} - [0:0]"));
    }
    for (hook, rule) in &update.unhook {
        line(&mut text, format_args!("-D {} {}", hook.builtin(), quoted(&rule_spec(rule))));
    }
    for name in callees_first(&update.replace) {
        let rules = update.replace.get(name).map_or(&[][..], |chain| &chain.rules);
        for words in rules.iter().flat_map(|rule| kernel_rules(rule, update.family)) {
            line(&mut text, format_args!("-A {name} {}", quoted(&words)));
        }
    }
    for (hook, rule) in &update.hook {
        line(&mut text, format_args!("-I {} 1 {}", hook.builtin(), quoted(&rule_spec(rule))));
    }
    for chain in &update.delete {
        line(&mut text, format_args!("-X {chain}"));
    }
    text.push_str("COMMIT\n");
    text
}

/// All chains and hooks of a family, as the transaction that makes them where there are none.
#[must_use]
pub fn ruleset(ruleset: &Ruleset, family: Family) -> String {
    let rules = ruleset.family(family);
    iptables_restore(&ChainsUpdate {
        family,
        replace: rules.chains.clone(),
        delete: BTreeSet::new(),
        hook: rules.hooks.clone(),
        unhook: BTreeMap::new(),
    })
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// The chains, each after those that its rules lead to; by name where that leaves a choice.
#[must_use]
pub fn callees_first(chains: &Chains) -> Vec<&ChainName> {
    let mut order = Vec::with_capacity(chains.len());
    let mut seen = BTreeSet::new();
    for name in chains.keys() {
        visit(name, chains, &mut seen, &mut order);
    }
    order
}

fn visit<'a>(
    name: &'a ChainName,
    chains: &'a Chains,
    seen: &mut BTreeSet<&'a ChainName>,
    order: &mut Vec<&'a ChainName>,
) {
    let Some(chain) = chains.get(name) else { return };
    if !seen.insert(name) {
        return;
    }
    for rule in &chain.rules {
        if let Target::Jump(callee) | Target::Goto(callee) = &rule.target {
            visit(callee, chains, seen, order);
        }
    }
    order.push(name);
}

/// The words as iptables-restore splits them: a comment is quoted, nothing else needs it.
fn quoted(words: &[String]) -> String {
    let mut text = String::new();
    let mut comment = false;
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        if comment {
            text.push('"');
            for c in word.chars() {
                if matches!(c, '"' | '\\') {
                    text.push('\\');
                }
                text.push(c);
            }
            text.push('"');
        } else {
            text.push_str(word);
        }
        comment = word == "--comment" && !comment;
    }
    text
}
