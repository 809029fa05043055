//! The kernel's side: table `filter` of both families, and the sets that its rules look up.
//!
//! [`Dataplane::write`] brings the kernel from what it holds to what the engine wants. A family is
//! either in step, and then an update's steps are carried out in order; or it is not, because
//! policyd has just started or a write failed, and then what stands there of ours is read and
//! replaced whole. Invariants:
//!
//! * Only chains `NPC-*`, sets `npc4-*` and `npc6-*` and the rules that lead to them are touched.
//! * Old rules enforce until the transaction that replaces them; a set that old rules refer to is
//!   never edited by a start over it (see [`renew`]).
//! * The families are independent: what fails in one is reported, and the other goes on.
//! * Nothing to do starts no process.
//!
//! On failure the kernel keeps what it has, the family is out of step, and the next write starts
//! over. Nothing here ends the process, and nothing opens what was closed.

pub mod above;
pub mod backend;
pub mod cleanup;
pub mod command;
pub mod conntrack;
mod drift;
pub mod engines;
mod family;
pub mod following;
pub mod hooks;
pub mod ipset;
pub mod iptables;
mod leftovers;
pub mod links;
pub mod lock;
mod native;
pub(crate) mod netlink;
#[cfg(test)]
mod parsers;
mod plan;
mod probe;
mod refusal;
mod removal;
pub mod renew;
pub mod restore;
pub mod sessions;
pub mod verify;
mod without;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{ChainName, FamilyRules, Generation, Hook, Rule, Ruleset};
use policy_compiler::update::Update;
use serde::{Deserialize, Serialize};

use crate::health::Notes;

use self::above::Position;
use self::backend::{Backend, BackendChoice};
use self::command::{CommandError, HELD, Program, Runner};
pub use self::drift::Drift;
use self::engines::PolicyEngine;
use self::family::FamilyPlane;
use self::following::Following;
use self::hooks::HookError;
pub(crate) use self::leftovers::is_closed_to_us;
use self::lock::Lock;
use self::probe::Probes;
pub(crate) use self::probe::own;
use self::restore::Restore;
use self::sessions::{Sessions, SetError};

/// The generation from which the engine that feeds a dataplane counts. What is found in the kernel
/// does not matter to it: see [`renew`].
pub const START: Generation = Generation(0);

/// How long one program may take. A first load of tens of thousands of rules takes seconds.
pub const PROGRAM_LIMIT: Duration = Duration::from_mins(1);

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

/// What a write changed in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether everything of ours was written anew.
    pub whole: bool,
    /// Sets made.
    pub sets_created: usize,
    /// Members put into new sets or added to standing ones.
    pub members_added: usize,
    /// Members removed from standing sets.
    pub members_removed: usize,
    /// Chains declared.
    pub chains_replaced: usize,
    /// Chains removed.
    pub chains_deleted: usize,
    /// Sets given up; the kernel may keep one for a moment.
    pub sets_destroyed: usize,
    /// What others had changed and this put right.
    pub repaired: BTreeSet<Drift>,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { whole: self.whole, ..Self::default() }
    }
}

/// What the last readings of a family showed of others' rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where ours stood in each built-in chain that is to have one, before it was put right.
    pub hooks: BTreeMap<Hook, Option<Position>>,
    /// Other engines whose policies are in table `filter`.
    pub engines: BTreeSet<PolicyEngine>,
    /// Whether rules of `nft`'s own keep iptables from showing table `filter`.
    pub hidden: bool,
}

/// How one family fared.
#[derive(Debug)]
pub enum Outcome {
    /// It was in step and nothing was asked of it.
    Unchanged,
    /// It is in step.
    Written(Changes),
    /// It is out of step.
    Failed(WriteError),
    /// This kernel does not have it, so that there is nothing to enforce.
    Absent,
}

/// How both families fared.
#[derive(Debug)]
pub struct Written {
    /// IPv4.
    pub v4: Outcome,
    /// IPv6.
    pub v6: Outcome,
}

impl Written {
    /// By family, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &Outcome)> {
        [(Family::V4, &self.v4), (Family::V6, &self.v6)].into_iter()
    }

    /// Whether nothing was written, nor failed to be.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.iter().all(|(_, outcome)| matches!(outcome, Outcome::Unchanged | Outcome::Absent))
    }

    /// Whether the kernel holds what was wanted.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.iter().all(|(_, outcome)| !matches!(outcome, Outcome::Failed(_)))
    }
}

/// Whether the kernel holds what was last wanted of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FamilyState {
    /// It does, as far as is known.
    InStep,
    /// It does not, or not yet.
    OutOfStep,
    /// It does not have the family, so that there is nothing to enforce.
    Absent,
}

/// What was written of a family.
#[derive(Clone, Debug)]
pub struct AsWritten {
    /// Whether the kernel holds it, as far as is known.
    pub state: FamilyState,
    /// How many times something was set out to be changed.
    pub writes: u64,
    /// The rules, with the names that the kernel knows and without what it refuses.
    pub rules: FamilyRules,
    /// Chains that nobody wants, empty, which rules of others lead to.
    pub held: BTreeSet<ChainName>,
    /// Sets that nobody wants and that the kernel has not let go of.
    pub given_up: BTreeSet<String>,
}

/// A rule that the kernel refuses, and so is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The family whose kernel it is.
    pub family: Family,
    /// The rule, without its comment.
    pub rule: Rule,
    /// The chains that want it.
    pub chains: BTreeSet<ChainName>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the kernel refuses `{}`", self.family, refusal::words(&self.rule))
    }
}

/// What every write needs: programs, which iptables, and sessions.
#[derive(Debug)]
struct Kernel {
    runner: Runner,
    backend: Backend,
    sessions: Sessions,
    restore: Restore,
    lock: Lock,
}

/// The kernel's tables in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Dataplane {
    kernel: Kernel,
    following: Following,
    probes: Probes,
    v4: FamilyPlane,
    v6: FamilyPlane,
}

impl Dataplane {
    /// Checks that the tables can be worked on and settles which iptables to use. Reads at most;
    /// writes nothing.
    ///
    /// # Errors
    /// Where a program or a capability is missing.
    pub fn open(choice: BackendChoice) -> Result<Self, OpenError> {
        Self::open_with(choice, PROGRAM_LIMIT, Sessions::open)
    }

    /// The same with another limit for programs, and over other sessions.
    ///
    /// # Errors
    /// As [`Dataplane::open`].
    pub fn open_with(
        choice: BackendChoice,
        limit: Duration,
        sessions: impl FnOnce() -> Result<Sessions, SetError>,
    ) -> Result<Self, OpenError> {
        require_capability(NET_ADMIN)?;
        require_capability(NET_RAW)?;
        require(ipset::IPSET)?;
        match choice {
            BackendChoice::Forced(backend) => require(backend.restore(Family::V4))?,
            BackendChoice::Auto if installed(Backend::Legacy.restore(Family::V4)) => {}
            BackendChoice::Auto => require(Backend::Nft.restore(Family::V4))?,
        }
        let runner = Runner::new(limit);
        let backend = backend::choose(&runner, choice).map_err(OpenError::Backend)?;
        for program in [backend.restore(Family::V4), backend.save(Family::V4)] {
            require(program)?;
        }
        let sessions = sessions().map_err(OpenError::Sets)?;
        let (restore, lock) = (Restore::new(&runner, backend), Lock::of(backend));
        Ok(Self {
            kernel: Kernel { runner, backend, sessions, restore, lock },
            following: Following::new(choice),
            probes: Probes::new(backend),
            v4: FamilyPlane::new(Family::V4),
            v6: FamilyPlane::new(Family::V6),
        })
    }

    /// What the last readings showed of others' rules, by family.
    #[must_use]
    pub fn seen(&self) -> [(Family, &Seen); 2] {
        [(Family::V4, self.v4.seen()), (Family::V6, self.v6.seen())]
    }

    /// What cannot be watched over, and where somebody undoes again and again what is put right, by
    /// family.
    #[must_use]
    pub fn notes(&self) -> Notes {
        let hidden = self.seen().into_iter().filter(|(_, seen)| seen.hidden);
        let contested = [&self.v4, &self.v6].into_iter().filter_map(FamilyPlane::contested);
        hidden.map(|(family, _)| native::note(family)).chain(contested).collect()
    }

    /// Which iptables is written to.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.kernel.backend
    }

    /// How many programs were started so far.
    #[must_use]
    pub fn processes(&self) -> u64 {
        self.kernel.runner.started()
    }

    /// What counts up while the kernel is worked on, for those who watch over the work.
    #[must_use]
    pub fn work(&self) -> Arc<AtomicU64> {
        self.kernel.runner.work()
    }

    /// Brings the kernel to `desired`, by the steps of `update` where the kernel holds what the
    /// update starts from, whole where it does not. The update comes from an engine that counts
    /// generations from [`START`], and `desired` is what that engine has after it.
    pub fn write(&mut self, update: &Update, desired: &Ruleset) -> Written {
        let written = self.write_families(update, desired);
        self.after_write(written, desired)
    }

    fn write_families(&mut self, update: &Update, desired: &Ruleset) -> Written {
        let Self { kernel, v4, v6, .. } = self;
        // What has failed before may keep us waiting again, and is not to hold up the other.
        if v4.state() == FamilyState::OutOfStep && v6.state() == FamilyState::InStep {
            let v6 = v6.write(kernel, update, &desired.v6);
            return Written { v4: v4.write(kernel, update, &desired.v4), v6 };
        }
        Written {
            v4: v4.write(kernel, update, &desired.v4),
            v6: v6.write(kernel, update, &desired.v6),
        }
    }

    /// Carries an update out that changes members alone, in the families that are in step; the others
    /// are to be written whole.
    pub fn write_members(&mut self, update: &Update) -> Written {
        Written {
            v4: self.v4.write_members(&self.kernel, update),
            v6: self.v6.write_members(&self.kernel, update),
        }
    }

    /// Whether chains may be written without waiting for others. Where not, we stand in line from now
    /// on, and whoever asks is to ask again soon.
    #[must_use]
    pub fn is_our_turn(&self) -> bool {
        self.kernel.lock.is_our_turn()
    }

    /// Who keeps changes of chains waiting, where that has lasted long.
    #[must_use]
    pub fn kept_waiting(&self) -> Option<String> {
        self.kernel.lock.reason()
    }

    /// How each family stands, IPv4 first.
    #[must_use]
    pub fn states(&self) -> [(Family, FamilyState); 2] {
        [(Family::V4, self.v4.state()), (Family::V6, self.v6.state())]
    }

    /// What was written, of which `desired` is the whole; IPv4 first.
    #[must_use]
    pub fn written(&self, desired: &Ruleset) -> [AsWritten; 2] {
        [self.v4.written(&desired.v4), self.v6.written(&desired.v6)]
    }

    /// Rules of `family` as they were written, where they were: with the names that the kernel knows, and
    /// without what it refuses.
    #[must_use]
    pub fn as_written(&self, family: Family, rules: &FamilyRules) -> FamilyRules {
        match family {
            Family::V4 => self.v4.as_written(rules),
            Family::V6 => self.v6.as_written(rules),
        }
    }

    /// Reads the kernel and puts right what is not as `desired`, which was written before; gives up
    /// sets that nobody wants.
    pub fn verify(&mut self, desired: &Ruleset) -> Written {
        let written = Written {
            v4: self.v4.verify(&self.kernel, &desired.v4),
            v6: self.v6.verify(&self.kernel, &desired.v6),
        };
        self.after_write(written, desired)
    }

    /// The rules that the kernel refuses and that are left out, so that what they would allow stays
    /// denied: a line each, which begins with the family.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        let lines = |family: Family, plane: &FamilyPlane| {
            let rules = plane.refused().into_iter();
            rules.map(move |rule| format!("{family}: the kernel refuses `{rule}`"))
        };
        lines(Family::V4, &self.v4).chain(lines(Family::V6, &self.v6)).collect()
    }

    /// The same rules with the chains that want them, of what was written as `desired`.
    #[must_use]
    pub fn left_out(&self, desired: &Ruleset) -> Vec<LeftOut> {
        let mut left_out = self.v4.left_out(&desired.v4);
        left_out.extend(self.v6.left_out(&desired.v6));
        left_out
    }

    /// Looks at what changes by itself, each thing when its time has come: the rules that were refused,
    /// chains that were held, what is left in the other backend, and whether the node has turned to that
    /// one. Says whether a write is needed to put something right.
    pub fn look_again(&mut self) -> bool {
        self.kernel.restore.rest();
        if self.follow_the_node() {
            return true;
        }
        let v4 = self.v4.look_again(&self.kernel);
        let v6 = self.v6.look_again(&self.kernel);
        v4 || v6
    }

    /// Looks whether somebody else may have changed what was written, of which `desired` is the whole.
    /// Starts no process; [`Dataplane::follow_up`] then finds out what.
    pub fn look_out(&mut self, desired: &Ruleset) {
        let look = self.probes.look(self.kernel.backend);
        self.v4.suspect(&desired.v4, &look);
        self.v6.suspect(&desired.v6, &look);
    }

    /// Reads the kernel where others may have changed something, and puts right what is not as `desired`,
    /// which was written before. Reading takes its time on a thread of its own: while
    /// [`Dataplane::is_reading`] it is to be called again soon.
    pub fn follow_up(&mut self, desired: &Ruleset) -> Written {
        let written = Written {
            v4: self.v4.follow_up(&self.kernel, &desired.v4),
            v6: self.v6.follow_up(&self.kernel, &desired.v6),
        };
        if written.is_unchanged() {
            return written;
        }
        self.v4.stir();
        self.v6.stir();
        self.after_write(written, desired)
    }

    /// Whether the kernel is being read.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.v4.is_reading() || self.v6.is_reading()
    }

    /// What is left of ours in the other backend and cannot be removed, a line each.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        [&self.v4, &self.v6]
            .iter()
            .filter_map(|plane| plane.leftovers())
            .map(str::to_owned)
            .collect()
    }

    /// Whether no set waits to be destroyed.
    #[must_use]
    pub fn is_tidy(&self) -> bool {
        self.v4.is_tidy() && self.v6.is_tidy()
    }

    /// Destroys the sets that were given up, and says how many are left, for the kernel still refers to
    /// them. Best done when nothing has been written for a while: nft lets go of a set some 20 ms after
    /// the rules that used it are gone, and until then even asking waits for that.
    pub fn tidy(&mut self) -> usize {
        self.v4.tidy(&self.kernel) + self.v6.tidy(&self.kernel)
    }
}

/// How many packets have reached the rules that end a chain since it was written; 0 where there is none.
///
/// # Errors
/// Where iptables is missing, or does not end.
pub fn counted_packets(
    runner: &Runner,
    backend: Backend,
    family: Family,
    chain: &str,
) -> Result<u64, CommandError> {
    let words = ["-w", iptables::LOCK_WAIT, "-v", "-S", chain];
    own::lists(backend);
    match runner.run(backend.iptables(family), &words, "") {
        Ok(text) => Ok(iptables::counted_by(&text)),
        Err(error) if error.is_refusal() => Ok(0),
        Err(error) => Err(error),
    }
}

/// `CAP_NET_ADMIN`: its number and name.
const NET_ADMIN: (u32, &str) = (12, "CAP_NET_ADMIN");
/// `CAP_NET_RAW`, for raw sockets: by one iptables asks which set a rule means, whatever its backend,
/// and legacy hands its rules over by one.
const NET_RAW: (u32, &str) = (13, "CAP_NET_RAW");

fn require_capability((bit, name): (u32, &'static str)) -> Result<(), OpenError> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    // A system that does not tell is left to refuse by itself.
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    if effective >> bit & 1 == 1 { Ok(()) } else { Err(OpenError::NotPermitted(name)) }
}

fn installed(program: Program) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program.name).is_file())
}

fn require(program: Program) -> Result<(), OpenError> {
    if installed(program) { Ok(()) } else { Err(OpenError::Missing(program)) }
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
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

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
