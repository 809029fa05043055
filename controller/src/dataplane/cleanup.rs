//! Removes every trace of ours from both backends and both families, and nothing else.
//!
//! Works by what is found, so it may be repeated, and needs neither policies nor a policyd that ran
//! before. What could not be removed is counted, and named in the log.

use std::collections::BTreeSet;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use tracing::warn;

use super::backend::Backend;
use super::command::{CommandError, Runner};
use super::restore::Restore;
use super::sessions::{Sessions, SetError};
use super::{
    NET_ADMIN, OpenError, PROGRAM_LIMIT, error_chain, hooks, ipset, iptables, removal,
    require_capability,
};
use crate::antispoof::remove_table;

/// How long a set may stay in use after the rules that used it are gone.
const SETTLE: Duration = Duration::from_secs(2);

/// What a cleanup removed, and what it could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rules taken out of built-in chains.
    pub hooks: usize,
    /// Chains removed.
    pub chains: usize,
    /// Sets destroyed.
    pub sets: usize,
    /// Whether the table of bridges was removed.
    pub table: bool,
    /// What is still there, or could not be looked for, a line each.
    pub remaining: Vec<String>,
}

impl fmt::Display for Report {
    /// `removed 1 hook, 4 chains, 2 sets`, or `nothing to remove`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: usize, what: &str| match n {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        let table = if self.table { ", the bridges' table" } else { "" };
        if self.hooks + self.chains + self.sets == 0 && !self.table {
            return f.write_str("nothing to remove");
        }
        let (hooks, chains) = (count(self.hooks, "hook"), count(self.chains, "chain"));
        write!(f, "removed {hooks}, {chains}, {}{table}", count(self.sets, "set"))
    }
}

/// Removes all that is ours in the network namespace of the caller.
///
/// # Errors
/// Where the process may not administer the network.
pub fn cleanup() -> Result<Report, OpenError> {
    require_capability(NET_ADMIN)?;
    let runner = Runner::new(PROGRAM_LIMIT);
    let mut report = Report::default();
    for backend in Backend::ALL {
        for family in Family::ALL {
            match clean_table(&runner, backend, family, &mut report) {
                // What is not installed has written nothing.
                Ok(()) | Err(CommandError::Missing { .. }) => {}
                Err(error) => report.remaining.push(format!(
                    "rules of {family} in iptables-{backend}: {}",
                    error_chain(&error)
                )),
            }
        }
    }
    match remove_table(&runner) {
        Ok(removed) => report.table = removed,
        Err(CommandError::Missing { .. }) => {}
        Err(error) => {
            report.remaining.push(format!("the bridges' table: {}", error_chain(&error)));
        }
    }
    let sessions = Sessions::open().map_err(OpenError::Sets)?;
    for family in Family::ALL {
        match ipset::read(&runner, family) {
            Ok(found) => clean_sets(&sessions, found.into_keys().collect(), &mut report),
            Err(CommandError::Missing { .. }) => {}
            Err(error) => {
                report.remaining.push(format!("sets of {family}: {}", error_chain(&error)));
            }
        }
    }
    Ok(report)
}

fn clean_table(
    runner: &Runner,
    backend: Backend,
    family: Family,
    report: &mut Report,
) -> Result<(), CommandError> {
    let found = iptables::read_if_used(runner, backend, family)?;
    if found.is_empty() {
        return Ok(());
    }
    let hooks: usize = found.hooks.values().map(Vec::len).sum();
    for (hook, rule) in found.hooks.iter().flat_map(|(h, rules)| rules.iter().map(move |r| (*h, r)))
    {
        if let Err(error) = hooks::delete(runner, backend, family, hook, &rule.words) {
            warn!(%family, %backend, %error, "trying again with the chains");
        }
    }
    let unhooked = iptables::read_if_used(runner, backend, family)?;
    let held = removal::remove(&Restore::new(runner, backend), family, &unhooked)?;
    report.chains += found.chains.len() - held.len();
    let left = iptables::read_if_used(runner, backend, family)?;
    report.hooks += hooks - left.hooks.values().map(Vec::len).sum::<usize>().min(hooks);
    for name in &left.chains {
        report.remaining.push(format!(
            "chain {name} of {family} in iptables-{backend}, which a rule of others leads to"
        ));
    }
    for hook in left.hooks.keys() {
        let builtin = hook.builtin();
        report.remaining.push(format!("a rule in {builtin} of {family} in iptables-{backend}"));
    }
    Ok(())
}

fn clean_sets(sessions: &Sessions, mut names: BTreeSet<String>, report: &mut Report) {
    let deadline = Instant::now() + SETTLE;
    loop {
        let mut failed = Vec::new();
        names.retain(|name| match sessions.destroy(name) {
            Ok(()) => {
                report.sets += 1;
                false
            }
            Err(SetError::Missing { .. }) => false,
            Err(error) => {
                failed.push(error.to_string());
                true
            }
        });
        if names.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            report.remaining.extend(failed);
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_counts_what_went() {
        let report = |hooks, chains, sets| Report { hooks, chains, sets, ..Report::default() };
        assert_eq!(report(0, 0, 0).to_string(), "nothing to remove");
        assert_eq!(report(1, 4, 0).to_string(), "removed 1 hook, 4 chains, 0 sets");
        let table = Report { table: true, ..report(0, 0, 0) };
        assert_eq!(table.to_string(), "removed 0 hooks, 0 chains, 0 sets, the bridges' table");
    }
}
