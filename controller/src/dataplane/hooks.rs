//! The rule of ours in a built-in chain: its first insertion and its removal.
//!
//! Done by the `iptables` crate, which runs the program with an array of arguments. Its error type
//! cannot leave a thread and is turned into ours at once. It waits for the lock without a bound, so
//! the bounded wait is put into the rule's words instead. A hook that stands already is moved in the
//! chains' own transaction and not here: insert-then-delete would delete the new rule.

use iptables::IPTables;
use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{Hook, Rule};

use super::backend::Backend;
use super::command::Runner;
use super::iptables::{LOCK_WAIT, words_of};

/// Why a hook could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It could not be put first.
    #[error("cannot insert the rule in {}: {message}", hook.builtin())]
    Insert {
        /// Where.
        hook: Hook,
        /// What iptables said.
        message: String,
    },
    /// It could not be taken out.
    #[error("cannot delete the rule in {}: {message}", hook.builtin())]
    Delete {
        /// Where.
        hook: Hook,
        /// What iptables said.
        message: String,
    },
}

fn program(backend: Backend, family: Family) -> IPTables {
    let cmd = backend.iptables(family).name;
    IPTables { cmd, has_check: true, has_wait: false, is_numeric: true }
}

/// Puts `rule` first in `hook`. The chains that it leads to exist.
///
/// # Errors
/// Where iptables refuses.
pub fn insert(
    runner: &Runner,
    backend: Backend,
    family: Family,
    hook: Hook,
    rule: &Rule,
) -> Result<(), HookError> {
    runner.count_one();
    let words = format!("-w {LOCK_WAIT} {}", words_of(rule));
    program(backend, family)
        .insert("filter", hook.builtin(), &words, 1)
        .map_err(|error| HookError::Insert { hook, message: error.to_string().trim().to_owned() })
}

/// Takes the rule with these words of `iptables-save` out of `hook`.
///
/// # Errors
/// Where iptables refuses.
pub fn delete(
    runner: &Runner,
    backend: Backend,
    family: Family,
    hook: Hook,
    words: &str,
) -> Result<(), HookError> {
    runner.count_one();
    let words = format!("-w {LOCK_WAIT} {words}");
    program(backend, family)
        .delete("filter", hook.builtin(), &words)
        .map_err(|error| HookError::Delete { hook, message: error.to_string().trim().to_owned() })
}
