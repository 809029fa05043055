//! Which iptables the node uses: the one over `nf_tables`, or legacy.
//!
//! Both may be installed, and rules written through one are invisible to the other though the
//! kernel carries out both; so ours must be where the rest of the node's are. kubelet marks its
//! choice with a chain in table `mangle`; failing that, the backend with more rules is the one in
//! use; failing that, nft. Our own rules do not count: they may be left over from the other choice.
//! What is judged so at the start is judged again while policyd runs: see
//! [`following`](super::following).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::ChainName;
use serde::{Deserialize, Serialize};

use super::command::{CommandError, Program, Runner};

/// An implementation of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// `iptables-nft`: rules in `nf_tables`.
    Nft,
    /// `iptables-legacy`: rules in `x_tables`.
    Legacy,
}

impl fmt::Display for Backend {
    /// `nft` or `legacy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Backend::Nft => "nft",
            Backend::Legacy => "legacy",
        })
    }
}

/// What iptables says of a table, or of a chain, with rules that only `nft` can show.
pub(super) const HIDDEN: &str = "is incompatible, use 'nft' tool.";

/// What an operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// What the node uses.
    #[default]
    Auto,
    /// This one.
    Forced(Backend),
}

impl Backend {
    /// Both.
    pub const ALL: [Backend; 2] = [Backend::Nft, Backend::Legacy];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Backend::Nft => Backend::Legacy,
            Backend::Legacy => Backend::Nft,
        }
    }

    /// `iptables-nft` and its like.
    #[must_use]
    pub fn iptables(self, family: Family) -> Program {
        let name = match (self, family) {
            (Backend::Nft, Family::V4) => "iptables-nft",
            (Backend::Nft, Family::V6) => "ip6tables-nft",
            (Backend::Legacy, Family::V4) => "iptables-legacy",
            (Backend::Legacy, Family::V6) => "ip6tables-legacy",
        };
        Program { name, package: "iptables" }
    }

    /// `iptables-nft-restore` and its like.
    #[must_use]
    pub fn restore(self, family: Family) -> Program {
        let name = match (self, family) {
            (Backend::Nft, Family::V4) => "iptables-nft-restore",
            (Backend::Nft, Family::V6) => "ip6tables-nft-restore",
            (Backend::Legacy, Family::V4) => "iptables-legacy-restore",
            (Backend::Legacy, Family::V6) => "ip6tables-legacy-restore",
        };
        Program { name, package: "iptables" }
    }

    /// `iptables-nft-save` and its like.
    #[must_use]
    pub fn save(self, family: Family) -> Program {
        let name = match (self, family) {
            (Backend::Nft, Family::V4) => "iptables-nft-save",
            (Backend::Nft, Family::V6) => "ip6tables-nft-save",
            (Backend::Legacy, Family::V4) => "iptables-legacy-save",
            (Backend::Legacy, Family::V6) => "ip6tables-legacy-save",
        };
        Program { name, package: "iptables" }
    }

    /// What `save` prints of one table, or nothing where asking would make that table: legacy's
    /// `save -t` creates what it looks at, and a node that uses nft is to stay free of it.
    ///
    /// # Errors
    /// Where the program is missing or fails.
    pub fn save_table(
        self,
        runner: &Runner,
        family: Family,
        table: &str,
    ) -> Result<String, CommandError> {
        if self == Backend::Legacy && !legacy_tables(family).contains(table) {
            return Ok(String::new());
        }
        self.save_whole(runner, family, table)
    }

    /// What `save` prints of one table, which it makes where it is legacy's.
    ///
    /// # Errors
    /// Where the program is missing or fails, or has printed no end: chains that are not in a part of
    /// a reading may be there all the same.
    pub fn save_whole(
        self,
        runner: &Runner,
        family: Family,
        table: &str,
    ) -> Result<String, CommandError> {
        let program = self.save(family);
        let text = runner.run(program, &["-t", table], "")?;
        if text.lines().any(|line| line == "COMMIT") {
            return Ok(text);
        }
        let program = program.name;
        Err(if text.contains(HIDDEN) {
            CommandError::Hidden { program }
        } else {
            CommandError::CutOff { program }
        })
    }
}

/// The legacy tables that exist in this network namespace.
fn legacy_tables(family: Family) -> BTreeSet<String> {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // The file is absent until the kernel's module is loaded, and then there are no tables.
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Whether the kernel of this network namespace has IPv6 at all.
#[must_use]
pub fn has_ipv6() -> bool {
    Path::new("/proc/thread-self/net/if_inet6").exists()
}

/// What the tables of one backend show of who uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Whether the programs are there at all.
    pub installed: bool,
    /// kubelet's hint chains in `mangle`.
    pub kubelet: bool,
    /// How many rules it has in `filter`, `nat` and `mangle` that are not ours.
    pub rules: usize,
}

impl Traces {
    pub(super) fn read(runner: &Runner, backend: Backend) -> Result<Self, CommandError> {
        let mut traces = Self { installed: true, ..Self::default() };
        for family in Family::ALL {
            for table in ["mangle", "filter", "nat"] {
                match backend.save_table(runner, family, table) {
                    Ok(text) => traces.take(&text),
                    Err(CommandError::Missing { .. }) => {
                        traces.installed &= family == Family::V6;
                    }
                    // A table that cannot be shown, such as nat of a kernel without it, has no say.
                    Err(CommandError::Failed { .. } | CommandError::Hidden { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(traces)
    }

    fn take(&mut self, save: &str) {
        for line in save.lines() {
            if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().unwrap_or_default();
                self.kubelet |= matches!(name, "KUBE-IPTABLES-HINT" | "KUBE-KUBELET-CANARY");
            } else if line.starts_with('-') && !line.contains(ChainName::PREFIX) {
                self.rules += 1;
            }
        }
    }
}

/// The backend that these traces speak for.
#[must_use]
pub fn judge(nft: Traces, legacy: Traces) -> Backend {
    let prefer_legacy = match (nft.installed, legacy.installed) {
        (false, true) => true,
        (true, true) if nft.kubelet => false,
        (true, true) => legacy.kubelet || legacy.rules > nft.rules,
        _ => false,
    };
    if prefer_legacy { Backend::Legacy } else { Backend::Nft }
}

/// The backend that these traces speak for on a node where `current` was in use. Rule counts come and go,
/// so that they must speak clearly, and nobody's rules at all say nothing.
#[must_use]
pub fn rejudge(current: Backend, nft: Traces, legacy: Traces) -> Backend {
    let (here, there) = match current {
        Backend::Nft => (nft, legacy),
        Backend::Legacy => (legacy, nft),
    };
    let clearly = !here.installed || there.kubelet || there.rules > 2 * here.rules;
    if clearly { judge(nft, legacy) } else { current }
}

/// Settles which backend to write to.
///
/// # Errors
/// Where a program cannot be started or does not end.
pub fn choose(runner: &Runner, choice: BackendChoice) -> Result<Backend, CommandError> {
    match choice {
        BackendChoice::Forced(backend) => Ok(backend),
        BackendChoice::Auto => {
            Ok(judge(Traces::read(runner, Backend::Nft)?, Traces::read(runner, Backend::Legacy)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(kubelet: bool, rules: usize) -> Traces {
        Traces { installed: true, kubelet, rules }
    }

    #[test]
    fn kubelets_hint_decides_then_rule_counts_then_nft() {
        let absent = Traces::default();
        for (name, nft, legacy, expected) in [
            ("nothing at all", traces(false, 0), traces(false, 0), Backend::Nft),
            ("hint in nft", traces(true, 0), traces(false, 50), Backend::Nft),
            ("hint in legacy", traces(false, 50), traces(true, 1), Backend::Legacy),
            ("hints in both", traces(true, 1), traces(true, 9), Backend::Nft),
            ("more rules in legacy", traces(false, 3), traces(false, 4), Backend::Legacy),
            ("as many in both", traces(false, 4), traces(false, 4), Backend::Nft),
            ("only legacy is installed", absent, traces(false, 0), Backend::Legacy),
            ("only nft is installed", traces(false, 0), absent, Backend::Nft),
            ("neither is installed", absent, absent, Backend::Nft),
        ] {
            assert_eq!(judge(nft, legacy), expected, "{name}");
        }
    }

    #[test]
    fn a_backend_in_use_is_left_for_kubelets_hint_or_clearly_more_rules() {
        let absent = Traces::default();
        let (nft, legacy) = (Backend::Nft, Backend::Legacy);
        for (name, current, in_nft, in_legacy, expected) in [
            ("nothing at all", legacy, traces(false, 0), traces(false, 0), legacy),
            ("hint in legacy", nft, traces(false, 9), traces(true, 0), legacy),
            ("hints in both", legacy, traces(true, 0), traces(true, 9), nft),
            ("a few more", nft, traces(false, 4), traces(false, 8), nft),
            ("many more", nft, traces(false, 4), traces(false, 9), legacy),
            ("many more, but a hint here", nft, traces(true, 4), traces(false, 9), nft),
            ("it is not installed any more", nft, absent, traces(false, 0), legacy),
            ("the other is not installed", nft, traces(false, 0), absent, nft),
        ] {
            assert_eq!(rejudge(current, in_nft, in_legacy), expected, "{name}");
        }
    }

    #[test]
    fn our_own_rules_and_chains_leave_no_trace() {
        let mut traces = Traces::default();
        traces.take(
            "*filter\n:FORWARD ACCEPT [0:0]\n:NPC-FORWARD - [0:0]\n-A FORWARD -j NPC-FORWARD\n\
             -A FORWARD -j DOCKER\n-A NPC-FORWARD -j NPC-EGRESS\nCOMMIT\n",
        );
        assert_eq!(traces, Traces { installed: false, kubelet: false, rules: 1 });
        traces.take("*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n");
        assert_eq!(traces, Traces { installed: false, kubelet: true, rules: 1 });
    }
}
