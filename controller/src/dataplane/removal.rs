//! Taking chains away, though rules of others may lead to them.
//!
//! The kernel keeps a chain that somebody else's rule leads to, and refuses the whole transaction
//! that would remove it. So chains are first unhooked and emptied, which it always takes and which
//! ends what they deny; then they are removed, by halves where that is refused, so that only those
//! that are held stay behind. An empty chain lets every packet pass on.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{ChainName, Chains};

use super::command::CommandError;
use super::iptables::{FoundTable, Transaction};
use super::restore::Restore;

/// The transaction that removes all that was found.
pub(super) fn whole(found: &FoundTable) -> Transaction {
    let copies = found.hooks.iter();
    Transaction {
        delete: found.chains.clone(),
        unhook: copies
            .flat_map(|(hook, rules)| rules.iter().map(|rule| (*hook, rule.words.clone())))
            .collect(),
        ..Transaction::default()
    }
}

/// The same transaction, but that it empties the chains that it would remove.
pub(super) fn emptying(transaction: &Transaction) -> Transaction {
    let mut emptying = transaction.clone();
    let emptied: Chains = std::mem::take(&mut emptying.delete)
        .into_iter()
        .map(|name| (name, Arc::default()))
        .collect();
    emptying.replace.extend(emptied);
    emptying
}

/// Unhooks, empties and removes all that was found; the chains that are held are left, and named.
///
/// # Errors
/// Where the chains cannot even be emptied: everything is then as before.
pub(super) fn remove(
    restore: &Restore,
    family: Family,
    found: &FoundTable,
) -> Result<BTreeSet<ChainName>, CommandError> {
    let all = whole(found);
    match restore.carry_out(family, &all) {
        Ok(()) => Ok(BTreeSet::new()),
        Err(error) if error.is_refusal() && !all.delete.is_empty() => {
            restore.carry_out(family, &emptying(&all))?;
            Ok(delete(restore, family, &all.delete))
        }
        Err(error) => Err(error),
    }
}

/// Removes empty chains, and returns those that are held.
pub(super) fn delete(
    restore: &Restore,
    family: Family,
    chains: &BTreeSet<ChainName>,
) -> BTreeSet<ChainName> {
    let mut held = BTreeSet::new();
    let mut open: Vec<Vec<ChainName>> = vec![chains.iter().cloned().collect()];
    while let Some(mut part) = open.pop() {
        let delete = part.iter().cloned().collect();
        match restore.carry_out(family, &Transaction { delete, ..Transaction::default() }) {
            Ok(()) => {}
            Err(error) if error.is_refusal() && part.len() > 1 => {
                let rest = part.split_off(part.len() / 2);
                open.extend([part, rest]);
            }
            Err(_) => held.extend(part),
        }
    }
    held
}
