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
mod error;
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
mod outcome;
#[cfg(test)]
mod parsers;
mod plan;
mod probe;
mod refusal;
mod removal;
pub mod renew;
mod requirements;
pub mod restore;
pub mod sessions;
pub mod verify;
mod without;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{FamilyRules, Generation, Ruleset};
use policy_compiler::update::Update;

use crate::health::Notes;

use self::backend::{Backend, BackendChoice};
use self::command::{CommandError, Runner};
pub use self::drift::Drift;
pub use self::error::{OpenError, WriteError, error_chain};
use self::family::FamilyPlane;
use self::following::Following;
pub(crate) use self::leftovers::is_closed_to_us;
use self::lock::Lock;
pub use self::outcome::{AsWritten, Changes, FamilyState, LeftOut, Outcome, Seen, Written};
use self::probe::Probes;
pub(crate) use self::probe::own;
use self::requirements::{NET_ADMIN, NET_RAW, installed, require, require_capability};
use self::restore::Restore;
use self::sessions::{Sessions, SetError};

/// The generation from which the engine that feeds a dataplane counts. What is found in the kernel
/// does not matter to it: see [`renew`].
pub const START: Generation = Generation(0);

/// How long one program may take. A first load of tens of thousands of rules takes seconds.
pub const PROGRAM_LIMIT: Duration = Duration::from_mins(1);

/// What every write needs: programs, which iptables, and sessions.
#[derive(Debug)]
struct Kernel {
    runner: Runner,
    backend: Backend,
    sessions: Sessions,
    restore: Restore,
    /// Both families ask for it, each from a thread of its own.
    lock: Mutex<Lock>,
}

impl Kernel {
    /// See [`Dataplane::is_our_turn`].
    fn is_our_turn(&self) -> bool {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_our_turn()
    }
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
        let (restore, lock) = (Restore::new(&runner, backend), Mutex::new(Lock::of(backend)));
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
        let mut of_v6 = None;
        let of_v4 = if v4.is_slow(update) && v6.is_slow(update) {
            let beside = || of_v6 = Some(v6.write(kernel, update, &desired.v6));
            thread::scope(|scope| {
                // Without a thread to give it is done afterwards.
                let _ = thread::Builder::new().name("IPv6".to_owned()).spawn_scoped(scope, beside);
                v4.write(kernel, update, &desired.v4)
            })
        } else {
            v4.write(kernel, update, &desired.v4)
        };
        let of_v6 = of_v6.unwrap_or_else(|| v6.write(kernel, update, &desired.v6));
        Written { v4: of_v4, v6: of_v6 }
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
        self.kernel.is_our_turn()
    }

    /// Who keeps changes of chains waiting, where that has lasted long.
    #[must_use]
    pub fn kept_waiting(&self) -> Option<String> {
        self.kernel.lock.lock().unwrap_or_else(PoisonError::into_inner).reason()
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
