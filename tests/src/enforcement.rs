//! Loading rulesets into the nodes of a lab, counting what is there, and emptying it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use policy_compiler::config::DenyAction;
use policy_compiler::render;
use policy_compiler::ruleset::{ChainName, FamilyRules, Ruleset, Target};
use policy_compiler::update::{ChainsUpdate, Update};
use policyd::dataplane::cleanup::cleanup;
use policyd::dataplane::{Dataplane, backend};

use crate::error::LabError;
use crate::namespace::Namespace;

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// `iptables-nft`.
    Nft,
    /// `iptables-legacy`.
    Legacy,
}

/// The variable that names the lock file to legacy iptables. The lab has it lock the namespace
/// itself: the usual file is one for the whole machine, and only root may have it.
pub const LOCK_FILE: &str = "XTABLES_LOCKFILE";

/// What [`LOCK_FILE`] is set to: for each program the namespace that it runs in.
pub const OWN_NAMESPACE: &str = "/proc/self/ns/net";

impl Backend {
    /// Both.
    pub const ALL: [Backend; 2] = [Backend::Nft, Backend::Legacy];

    fn program(self, family: Family, tool: &str) -> String {
        let front = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let back = match self {
            Backend::Nft => "nft",
            Backend::Legacy => "legacy",
        };
        format!("{front}-{back}{tool}")
    }

    /// The name of the program that edits single rules.
    #[must_use]
    pub fn iptables(self, family: Family) -> String {
        self.program(family, "")
    }

    /// Carries out a transaction.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn restore(self, node: &Namespace, family: Family, text: &str) -> Result<(), LabError> {
        let mut command = Command::new(self.program(family, "-restore"));
        command.args(["--noflush", "-w"]).env(LOCK_FILE, OWN_NAMESPACE);
        node.run(&mut command, text).map(drop)
    }

    /// The rules of one table, as text.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn save(self, node: &Namespace, family: Family, table: &str) -> Result<String, LabError> {
        let mut command = Command::new(self.program(family, "-save"));
        node.run(command.args(["-t", table]).env(LOCK_FILE, OWN_NAMESPACE), "")
    }
}

/// By what way rules get into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loader {
    /// The text of `render`, given to the programs as it is.
    Text,
    /// policyd's dataplane, which also takes them away again.
    Policyd,
}

impl Loader {
    /// Loads a ruleset into a node that has nothing of ours.
    ///
    /// # Errors
    /// Where something of it is refused.
    pub fn load(
        self,
        backend: Backend,
        node: &Namespace,
        ruleset: &Ruleset,
    ) -> Result<(), LabError> {
        match self {
            Loader::Text => load(backend, node, ruleset),
            Loader::Policyd => load_by_policyd(backend, node, ruleset),
        }
    }

    /// Takes it away.
    ///
    /// # Errors
    /// Where something of it stays.
    pub fn unload(self, backend: Backend, node: &Namespace) -> Result<(), LabError> {
        match self {
            Loader::Text => empty(backend, node),
            Loader::Policyd => {
                let report = node.enter(cleanup)?.map_err(|error| policyd("clean up", &error))?;
                if !report.remaining.is_empty() {
                    return Err(policyd("clean up", &report.remaining.join("; ")));
                }
                check_counts(backend, node, &Ruleset::default())
            }
        }
    }
}

fn policyd(operation: &'static str, reason: &impl ToString) -> LabError {
    LabError::Policyd { operation, reason: reason.to_string() }
}

/// The dataplane works on the namespace of the thread that opens it.
fn load_by_policyd(backend: Backend, node: &Namespace, ruleset: &Ruleset) -> Result<(), LabError> {
    let backend = match backend {
        Backend::Nft => backend::Backend::Nft,
        Backend::Legacy => backend::Backend::Legacy,
    };
    node.enter(|| {
        let mut dataplane = Dataplane::open(backend::BackendChoice::Forced(backend))
            .map_err(|error| policyd("open its dataplane", &error))?;
        let written = dataplane.write(&Update::default(), ruleset);
        if !written.is_in_step() {
            return Err(policyd("write", &format!("{written:?}")));
        }
        match dataplane.refused() {
            refused if refused.is_empty() => Ok(()),
            refused => Err(policyd("write", &refused.join("; "))),
        }
    })?
}

/// Loads a ruleset into a node that has nothing of ours: sets, then chains and hooks.
///
/// # Errors
/// Where a program refuses something.
fn load(backend: Backend, node: &Namespace, ruleset: &Ruleset) -> Result<(), LabError> {
    let mut sets = BTreeMap::new();
    for family in Family::ALL {
        sets.extend(ruleset.family(family).sets.clone());
    }
    if !sets.is_empty() {
        node.run(Command::new("ipset").arg("restore"), &render::ipset_restore(&sets))?;
    }
    for family in Family::ALL {
        let rules = ruleset.family(family);
        if rules.chains.is_empty() && rules.hooks.is_empty() {
            continue;
        }
        let update = ChainsUpdate {
            family,
            replace: rules.chains.clone(),
            delete: std::collections::BTreeSet::new(),
            hook: rules.hooks.clone(),
            unhook: BTreeMap::new(),
        };
        backend.restore(node, family, &render::iptables_restore(&update))?;
    }
    Ok(())
}

/// How many of everything there are in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rules of ours in built-in chains.
    pub hooks: usize,
    /// Our chains.
    pub chains: usize,
    /// Rules in our chains.
    pub rules: usize,
    /// Our sets.
    pub sets: usize,
    /// Members of our sets.
    pub members: usize,
}

impl Counts {
    /// Those of a ruleset.
    #[must_use]
    pub fn of(rules: &FamilyRules) -> Self {
        let lines = |target: &Target| match target {
            Target::Deny(DenyAction::Reject) => 2,
            _ => 1,
        };
        Self {
            hooks: rules.hooks.len(),
            chains: rules.chains.len(),
            rules: rules
                .chains
                .values()
                .flat_map(|chain| &chain.rules)
                .map(|rule| lines(&rule.target))
                .sum(),
            sets: rules.sets.len(),
            members: rules.sets.values().map(|set| set.members.len()).sum(),
        }
    }

    /// Those of a node's kernel.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn in_kernel(backend: Backend, node: &Namespace, family: Family) -> Result<Self, LabError> {
        let rules = backend.save(node, family, "filter")?;
        let sets = node.run(Command::new("ipset").arg("save"), "")?;
        Ok(Self::read(&rules, &sets, family))
    }

    fn read(rules: &str, sets: &str, family: Family) -> Self {
        let mut counts = Self::default();
        let prefix = ChainName::PREFIX;
        for line in rules.lines() {
            if line.starts_with(&format!(":{prefix}")) {
                counts.chains += 1;
            } else if line.starts_with(&format!("-A {prefix}")) {
                counts.rules += 1;
            } else if line.contains(&format!("-j {prefix}")) {
                counts.hooks += 1;
            }
        }
        let own = match family {
            Family::V4 => "npc4-",
            Family::V6 => "npc6-",
        };
        for line in sets.lines() {
            if line.starts_with(&format!("create {own}")) {
                counts.sets += 1;
            } else if line.starts_with(&format!("add {own}")) {
                counts.members += 1;
            }
        }
        counts
    }
}

/// Compares what is in the kernel with a ruleset, by number.
///
/// # Errors
/// Where they differ, or the kernel cannot be read.
pub fn check_counts(backend: Backend, node: &Namespace, ruleset: &Ruleset) -> Result<(), LabError> {
    let sets = node.run(Command::new("ipset").arg("save"), "")?;
    for family in Family::ALL {
        let expected = Counts::of(ruleset.family(family));
        let found = Counts::read(&backend.save(node, family, "filter")?, &sets, family);
        if found != expected {
            return Err(LabError::Miscounted {
                what: format!("{family} counts"),
                found: format!("{found:?}"),
                expected: format!("{expected:?}"),
            });
        }
    }
    Ok(())
}

/// How long the kernel may hold on to a set after the rules that named it went.
const LET_GO: Duration = Duration::from_secs(20);

/// Empties a node: table filter and all sets, its own or not.
///
/// # Errors
/// Where a program refuses something.
fn empty(backend: Backend, node: &Namespace) -> Result<(), LabError> {
    for family in Family::ALL {
        for action in ["-F", "-X"] {
            let mut command = Command::new(backend.iptables(family));
            node.run(command.args(["-w", action]).env(LOCK_FILE, OWN_NAMESPACE), "")?;
        }
    }
    let start = Instant::now();
    loop {
        let destroyed = node.run(Command::new("ipset").arg("destroy"), "");
        if destroyed.is_ok() || start.elapsed() > LET_GO {
            return destroyed.map(drop);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
