//! Why the tables cannot be worked on, and why a family is not as it should be.
//!
//! A variant for each operation that failed, with what failed beneath it. What lasts is of one kind each
//! time, whatever its details say, and what was kept waiting is not tried again at once.

use super::command::{CommandError, HELD, Program};
use super::hooks::HookError;
use super::sessions::SetError;

/// Why the kernel's tables cannot be worked on at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A program is not installed.
    #[error("`{}` is not installed: install the Debian package `{}`", .0.name, .0.package)]
    Missing(Program),
    /// The process may not administer the network.
    #[error("{0} is needed to write iptables rules: run as root, or with that capability")]
    NotPermitted(&'static str),
    /// Which backend the node uses cannot be found out.
    #[error("cannot find out which iptables this node uses")]
    Backend(#[source] CommandError),
    /// The sets cannot be written.
    #[error("cannot write sets")]
    Sets(#[source] SetError),
}

/// Why a family is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Table `filter` could not be read.
    #[error("cannot read table filter")]
    ReadTable(#[source] CommandError),
    /// The sets could not be read.
    #[error("cannot read the sets")]
    ReadSets(#[source] CommandError),
    /// New sets could not be made.
    #[error("cannot create sets")]
    CreateSets(#[source] CommandError),
    /// A set bears a name of ours, is of a type that our rules cannot use, and is in use.
    #[error("set `{set}` is of type `{kind}`, and rules of others use it")]
    AnotherKind {
        /// Its name.
        set: String,
        /// Its type.
        kind: String,
    },
    /// New sets could not be made one by one.
    #[error("cannot make sets")]
    MakeSets(#[source] SetError),
    /// Members of a set could not be changed.
    #[error("cannot change members")]
    Members(#[source] SetError),
    /// The chains were refused.
    #[error("cannot replace chains")]
    Chains(#[source] CommandError),
    /// A hook could not be put in place.
    #[error("cannot hook the chains")]
    Hook(#[source] HookError),
}

impl WriteError {
    /// Whether it took all of the time that it was given, for somebody held the lock or a program did not
    /// end: trying once more at once would hold up everything else for as long again.
    #[must_use]
    pub fn is_kept_waiting(&self) -> bool {
        match self {
            WriteError::ReadTable(source)
            | WriteError::ReadSets(source)
            | WriteError::CreateSets(source)
            | WriteError::Chains(source) => {
                source.is_kept_waiting() || matches!(source, CommandError::TimedOut { .. })
            }
            WriteError::MakeSets(source) | WriteError::Members(source) => {
                matches!(source, SetError::Late { .. })
            }
            WriteError::Hook(HookError::Insert { message, .. }) => message.contains(HELD),
            WriteError::Hook(source) => matches!(source, HookError::TimedOut { .. }),
            WriteError::AnotherKind { .. } => false,
        }
    }

    /// What kind of failure it is: one that lasts is the same each time, whatever its details say.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            WriteError::ReadTable(source)
            | WriteError::ReadSets(source)
            | WriteError::CreateSets(source)
            | WriteError::Chains(source) => format!("{self} {:?}", source.kind()),
            WriteError::AnotherKind { .. } => self.to_string(),
            WriteError::MakeSets(source) | WriteError::Members(source) => {
                format!("{self} {:?}", std::mem::discriminant(source))
            }
            WriteError::Hook(source) => format!("{self} {:?}", std::mem::discriminant(source)),
        }
    }
}

/// An error with its causes on one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::ruleset::Hook;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::Duration;

    #[test]
    fn a_failure_that_lasts_is_of_one_kind_whatever_its_details() {
        let failed = |line: usize, set: &str| CommandError::Failed {
            program: "iptables-nft-restore",
            status: ExitStatus::from_raw(256),
            message: format!("line {line} failed"),
            line: Some((line, format!("-A NPC-E-a -m set --match-set {set} src -j RETURN"))),
        };
        let first = WriteError::Chains(failed(3, "npc4-p-a-1"));
        assert_eq!(WriteError::Chains(failed(9, "npc4-p-a-2")).kind(), first.kind());
        assert_ne!(WriteError::ReadTable(failed(3, "npc4-p-a-1")).kind(), first.kind());
        let limit = Duration::from_secs(1);
        let late = CommandError::TimedOut { program: "iptables-nft-restore", limit };
        assert_ne!(WriteError::Chains(late).kind(), first.kind());
    }

    #[test]
    fn what_took_all_of_its_time_is_not_tried_again_at_once() {
        let limit = Duration::from_secs(1);
        let late = || CommandError::TimedOut { program: "ipset", limit };
        let set = || "npc4-iso".to_owned();
        let missing = || CommandError::Missing { program: "ipset", package: "ipset" };
        for (error, expected) in [
            (WriteError::CreateSets(late()), true),
            (WriteError::ReadTable(late()), true),
            (WriteError::Members(SetError::Late { operation: "add to", set: set() }), true),
            (WriteError::Hook(HookError::TimedOut { hook: Hook::Forward, limit }), true),
            (WriteError::Chains(missing()), false),
            (WriteError::Members(SetError::Full { set: set() }), false),
        ] {
            assert_eq!(error.is_kept_waiting(), expected, "{error:?}");
        }
    }
}
