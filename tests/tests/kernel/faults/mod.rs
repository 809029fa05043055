//! Faults between policyd and what it needs of the node: while they last it says so and nothing is
//! open, and once they cease it brings the kernel to what is wanted.
//!
//! A vigil watches real packets all the while. The loop is policyd's own, in a process that finds other
//! programs, and another libipset, in the place of the real ones; see [`policy_tests::faults`].

mod dice;
mod stages;

use std::process::Command;
use std::time::Duration;

use policy_compiler::cidr::Family;
use policy_tests::daemon::Daemon;
use policy_tests::enforcement::{Backend, LOCK_FILE, OWN_NAMESPACE};
use policy_tests::faults::enforcer::Options;
use policy_tests::faults::{Fault, Faults, Order};
use policy_tests::in_kernel;

pub(crate) use self::dice::random_faults;
use self::stages::first_writes;
pub(crate) use self::stages::{cleanups, hangs, one_family, starts, updates};
use crate::town::{PATIENCE, State, Town, expect_nothing_wrong, word};

/// How long a program may take that is not to be late.
const AMPLE: Duration = Duration::from_secs(30);
/// How long one may take that is to be late.
const SHORT: Duration = Duration::from_secs(1);

under_both_backends!(
    an_update_amid_faults_converges_once_they_cease,
    a_start_amid_faults_over_standing_rules_converges_once_they_cease,
    a_first_write_amid_faults_converges_once_they_cease,
    a_program_that_hangs_is_given_up_and_holds_nothing_open,
    one_family_that_fails_does_not_hold_up_the_other,
    a_cleanup_amid_faults_says_what_is_left_and_the_next_one_removes_it,
    random_faults_amid_random_updates_leave_nothing_open,
);

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What stands for the rest, and takes seconds.
    Short,
    /// Everything.
    Whole,
}

impl Extent {
    /// Those of `rows` that belong to it: the first `short` are what stands for the rest.
    fn of<T>(self, rows: Vec<T>, short: usize) -> Vec<T> {
        let most = if self == Extent::Short { short } else { rows.len() };
        rows.into_iter().take(most).collect()
    }
}

/// A row: what goes wrong, in words and as orders, and what becomes of a write that meets it.
type Row = (&'static str, Vec<Order>, Effect);

/// A town whose policyd meets faults.
struct Scene {
    town: Town,
    faults: Faults,
    _folder: tempfile::TempDir,
}

/// What becomes of an update that meets a fault.
enum Effect {
    /// It is not carried out while the fault lasts, and a reason with these words says so.
    Lasts(Vec<&'static str>),
    /// It is carried out all the same.
    Heals,
}

impl Scene {
    fn new(backend: Backend) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shim = env!("CARGO_BIN_EXE_faulty").as_ref();
        let faults = Faults::create(folder.path(), shim).unwrap();
        Self { town: Town::new(backend), faults, _folder: folder }
    }

    /// Starts policyd's loop, and waits for nothing.
    fn launch(&self, limit: Duration) -> Daemon {
        let options = Options {
            source: self.town.source().to_owned(),
            node: "n1".to_owned(),
            backend: word(self.town.backend).to_owned(),
            limit,
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
        command.args(options.words()).envs(self.faults.environment());
        command.env("NO_COLOR", "1").env(LOCK_FILE, OWN_NAMESPACE);
        Daemon::start(self.town.node(), &mut command).unwrap().shown_as("policyd")
    }

    /// Puts `state` in force without any fault.
    fn start(&self, state: &State, limit: Duration) -> Daemon {
        self.town.put(state);
        let daemon = self.launch(limit);
        self.expect(state, "without any fault");
        daemon
    }

    /// Waits until the kernel holds what follows from `state`, and policyd says so.
    fn expect(&self, state: &State, row: &str) {
        let show = |error| panic!("{row}: {error}\nhappened: {:?}", self.faults.happened());
        let ruleset = Town::ruleset(state);
        in_kernel::expect(self.town.backend, self.town.node(), &ruleset, PATIENCE)
            .unwrap_or_else(show);
        self.faults.await_ready(PATIENCE).unwrap_or_else(show);
    }

    /// The programs of a tool in both families: `*` stands for what differs.
    fn both(&self, tool: &str) -> String {
        format!("ip*tables-{}{tool}", word(self.town.backend))
    }

    fn one(&self, family: Family, tool: &str) -> String {
        format!("{}{tool}", self.town.backend.iptables(family))
    }

    /// Ends the program that is kept open, if one is, so that the next call starts another.
    fn anew(&self) -> Order {
        Order::of(&self.both("-restore:commit"), Fault::DiesBefore).times(2)
    }

    /// Has each row's faults meet an update, under a vigil.
    fn update_amid(&self, rows: Vec<Row>, limit: Duration) {
        let mut state = State::numbered(0);
        let _daemon = self.start(&state, limit);
        let vigil = self.town.watch(&state);
        for (number, (row, orders, effect)) in (1..).zip(rows) {
            state = State::numbered(number);
            self.faults.order(&orders).unwrap();
            let newest = vigil.may_become(self.town.verdicts(&state));
            self.town.put(&state);
            self.meet(&state, row, &effect);
            vigil.is_in_force(newest);
        }
        expect_nothing_wrong(vigil);
    }

    /// Waits for the effect, ends the faults, and waits until all is well.
    fn meet(&self, state: &State, row: &str, effect: &Effect) {
        match effect {
            Effect::Lasts(words) => {
                let reason = self.faults.await_reason(words, PATIENCE);
                reason.unwrap_or_else(|error| {
                    panic!("{row}: {error}\nhappened: {:?}", self.faults.happened())
                });
            }
            Effect::Heals => self.expect(state, row),
        }
        self.faults.cease().unwrap();
        if let Effect::Lasts(_) = effect {
            self.expect(state, row);
        }
        assert_ne!(self.faults.happened().unwrap(), [""; 0], "{row}: no fault was met");
    }
}

fn an_update_amid_faults_converges_once_they_cease(backend: Backend) {
    updates(backend, Extent::Short);
}

fn a_start_amid_faults_over_standing_rules_converges_once_they_cease(backend: Backend) {
    starts(backend, Extent::Short);
}

fn a_program_that_hangs_is_given_up_and_holds_nothing_open(backend: Backend) {
    hangs(backend, Extent::Short);
}

fn one_family_that_fails_does_not_hold_up_the_other(backend: Backend) {
    one_family(backend, Extent::Short);
}

fn a_cleanup_amid_faults_says_what_is_left_and_the_next_one_removes_it(backend: Backend) {
    cleanups(backend, Extent::Short);
}

fn a_first_write_amid_faults_converges_once_they_cease(backend: Backend) {
    first_writes(backend);
}

fn random_faults_amid_random_updates_leave_nothing_open(backend: Backend) {
    random_faults(backend, 8);
}
