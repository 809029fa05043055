//! Faults between policyd and what it needs of the node: while they last it says so and nothing is
//! open, and once they cease it brings the kernel to what is wanted.
//!
//! A vigil watches real packets all the while. The loop is policyd's own, in a process that finds other
//! programs, and another libipset, in the place of the real ones; see [`policy_tests::faults`].

use std::env;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use policy_compiler::cidr::Family;
use policy_tests::daemon::Daemon;
use policy_tests::enforcement::{Backend, LOCK_FILE, Loader, OWN_NAMESPACE};
use policy_tests::faults::enforcer::Options;
use policy_tests::faults::{Absence, Fault, Faults, Order};
use policy_tests::in_kernel;
use policy_tests::namespace::Namespace;

use crate::random::Dice;
use crate::town::{PATIENCE, State, Town, expect_nothing_wrong, word};

/// Replays a run of random faults.
const SEED: &str = "FAULTS_SEED";
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
use Effect::{Heals, Lasts};

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
            Lasts(words) => {
                let reason = self.faults.await_reason(words, PATIENCE);
                reason.unwrap_or_else(|error| {
                    panic!("{row}: {error}\nhappened: {:?}", self.faults.happened())
                });
            }
            Heals => self.expect(state, row),
        }
        self.faults.cease().unwrap();
        if let Lasts(_) = effect {
            self.expect(state, row);
        }
        assert_ne!(self.faults.happened().unwrap(), [""; 0], "{row}: no fault was met");
    }
}

/// What the kernel may say to libipset.
const REFUSALS: [&str; 6] = [
    "Kernel error received: No buffer space available",
    "Kernel error received: File exists",
    "The set with the given name does not exist",
    "Kernel error received: Cannot allocate memory",
    "Hash is full, cannot add more elements",
    "Set cannot be destroyed: it is in use by a kernel component",
];

fn an_update_amid_faults_converges_once_they_cease(backend: Backend) {
    updates(backend, Extent::Short);
}

pub(crate) fn updates(backend: Backend, extent: Extent) {
    let scene = Scene::new(backend);
    let all = |tool: &str, fault: Fault| Order::of(&scene.both(tool), fault);
    let restore = |fault: Fault| vec![all("-restore*", fault)];
    let start = |fault: Fault| vec![scene.anew(), all("-restore", fault)];
    // What is read back is only read where something has failed.
    let reading = |call: &str, fault: Fault| vec![scene.anew(), Order::of(call, fault)];
    let making = |fault: Fault| vec![Order::of("ipset:make", fault)];
    let libipset =
        |words: &str| vec![Order::of("libipset:*", Fault::Says(words.to_owned())).times(7)];
    let save = scene.both("-save");
    let (chains, sets) = ("cannot replace chains", "cannot create sets");
    let full = "Error in line 3: Hash is full, cannot add more elements";
    let rows = vec![
        ("a write fails", restore(Fault::Fail), Lasts(vec![chains, "failed"])),
        ("killed after", restore(Fault::DiesAfter), Lasts(vec![chains])),
        ("half is written", start(Fault::Partial(3)), Lasts(vec![chains])),
        (
            "the table is read in part",
            reading(&save, Fault::Truncated(9)),
            Lasts(vec!["only a part"]),
        ),
        ("half the sets are made", making(Fault::Partial(2)), Lasts(vec![sets, "only a part"])),
        ("a set is full", making(Fault::Says(full.to_owned())), Lasts(vec![sets, "Hash is full"])),
        (
            "sets are shown in part",
            reading("ipset:save", Fault::Truncated(5)),
            Lasts(vec!["only a part"]),
        ),
        ("a thread ends", vec![Order::of("libipset:*", Fault::Panics).times(3)], Heals),
        ("ENOBUFS", libipset("Kernel error received: No buffer space available"), Heals),
        ("a live set is full", libipset("Hash is full, cannot add more elements"), Heals),
        // The rest is for those who have time.
        ("the lock is held", restore(Fault::Locked), Lasts(vec![chains, "lock"])),
        ("killed before", restore(Fault::DiesBefore), Lasts(vec![chains])),
        ("killed after once", vec![all("-restore*", Fault::DiesAfter).times(1)], Heals),
        ("noise on stderr", start(Fault::Noise), Heals),
        ("babble on stdout", start(Fault::Babble), Heals),
        ("reading fails", reading(&save, Fault::Fail), Lasts(vec!["cannot read table filter"])),
        ("sets are not made", making(Fault::Fail), Lasts(vec![sets])),
        ("whoever makes sets is killed", making(Fault::DiesAfter), Lasts(vec![sets])),
        (
            "sets are not listed",
            reading("ipset:list", Fault::Fail),
            Lasts(vec!["cannot read the sets"]),
        ),
        ("EEXIST", libipset("Kernel error received: File exists"), Heals),
        ("ENOENT", libipset("The set with the given name does not exist"), Heals),
        ("ENOMEM", libipset("Kernel error received: Cannot allocate memory"), Heals),
        ("in use", libipset("Set cannot be destroyed: it is in use by a kernel component"), Heals),
    ];
    scene.update_amid(extent.of(rows, 10), AMPLE);
}

fn a_start_amid_faults_over_standing_rules_converges_once_they_cease(backend: Backend) {
    starts(backend, Extent::Short);
}

pub(crate) fn starts(backend: Backend, extent: Extent) {
    let scene = Scene::new(backend);
    let all = |tool: &str, fault: Fault| vec![Order::of(&scene.both(tool), fault)];
    let make = |fault: Fault| vec![Order::of("ipset:make", fault)];
    let (chains, sets, table) =
        ("cannot replace chains", "cannot create sets", "cannot read table filter");
    let rows = vec![
        (
            "the table is read in part",
            all("-save", Fault::Truncated(6)),
            Lasts(vec!["only a part"]),
        ),
        ("half the sets are made", make(Fault::Partial(4)), Lasts(vec![sets])),
        ("killed after", all("-restore*", Fault::DiesAfter), Lasts(vec![chains])),
        ("half is written", all("-restore", Fault::Partial(7)), Lasts(vec![chains])),
        (
            "sets are listed in part",
            vec![Order::of("ipset:list", Fault::Truncated(1)).times(1)],
            Heals,
        ),
        // The rest is for those who have time.
        ("the table is not read", all("-save", Fault::Fail), Lasts(vec![table])),
        ("the reader is killed", all("-save", Fault::DiesBefore), Lasts(vec![table])),
        ("noise as it is read", all("-save", Fault::Noise), Heals),
        (
            "sets are shown in part",
            vec![Order::of("ipset:save", Fault::Truncated(3))],
            Lasts(vec!["only a part"]),
        ),
        ("sets are not made", make(Fault::Fail), Lasts(vec![sets])),
        ("the write fails", all("-restore*", Fault::Fail), Lasts(vec![chains])),
        ("the lock is held", all("-restore*", Fault::Locked), Lasts(vec![chains, "lock"])),
    ];
    let mut state = State::numbered(0);
    scene.start(&state, AMPLE).stop(Signal::SIGKILL).unwrap();
    let vigil = scene.town.watch(&state);
    for (number, (row, orders, effect)) in (1..).zip(extent.of(rows, 5)) {
        state = State::numbered(number);
        scene.faults.order(&orders).unwrap();
        scene.faults.forget_readiness().unwrap();
        let newest = vigil.may_become(scene.town.verdicts(&state));
        scene.town.put(&state);
        let daemon = scene.launch(AMPLE);
        scene.meet(&state, row, &effect);
        vigil.is_in_force(newest);
        daemon.stop(Signal::SIGKILL).unwrap();
        scene.town.await_orphans();
    }
    expect_nothing_wrong(vigil);
}

fn a_first_write_amid_faults_converges_once_they_cease(backend: Backend) {
    let scene = Scene::new(backend);
    let all = |tool: &str, fault: Fault| vec![Order::of(&scene.both(tool), fault)];
    let once = |tool: &str, fault: Fault| vec![Order::of(&scene.both(tool), fault).times(1)];
    let rows = [
        ("the hook is not put in", all(":-I", Fault::Fail), Lasts(vec!["cannot hook the chains"])),
        ("whoever puts it in is killed", once(":-I", Fault::DiesAfter), Heals),
        (
            "the chains are not written",
            all("-restore*", Fault::Fail),
            Lasts(vec!["replace chains"]),
        ),
        ("killed after the chains", once("-restore*", Fault::DiesAfter), Heals),
        (
            "half the sets are made",
            vec![Order::of("ipset:make", Fault::Partial(3))],
            Lasts(vec!["create sets"]),
        ),
    ];
    for (number, (row, orders, effect)) in (1..).zip(rows) {
        let state = State::numbered(number);
        scene.town.put(&state);
        scene.faults.order(&orders).unwrap();
        scene.faults.forget_readiness().unwrap();
        let daemon = scene.launch(AMPLE);
        scene.meet(&state, row, &effect);
        daemon.stop(Signal::SIGKILL).unwrap();
        scene.town.await_orphans();
        Loader::Policyd.unload(backend, scene.town.node()).unwrap();
    }
    // A program that cannot be started at all.
    let state = State::numbered(0);
    scene.town.put(&state);
    scene.faults.forget_readiness().unwrap();
    let _daemon = scene.launch(AMPLE);
    scene.expect(&state, "without any fault");
    let programs = [scene.one(Family::V4, "-restore"), scene.one(Family::V6, "-save")];
    let vigil = scene.town.watch(&state);
    for (number, absence) in (1..).zip([Absence::Missing, Absence::NotExecutable]) {
        let state = State::numbered(number);
        // Whatever is kept open is not started again.
        scene.faults.order(&[scene.anew()]).unwrap();
        for program in &programs {
            scene.faults.take_away(program, absence).unwrap();
        }
        let newest = vigil.may_become(scene.town.verdicts(&state));
        scene.town.put(&state);
        for (family, program) in ["IPv4", "IPv6"].into_iter().zip(&programs) {
            scene.faults.await_reason(&[family, program], PATIENCE).unwrap();
        }
        scene.faults.cease().unwrap();
        for program in &programs {
            scene.faults.mend(program).unwrap();
        }
        scene.expect(&state, "they can be started again");
        vigil.is_in_force(newest);
    }
    expect_nothing_wrong(vigil);
}

fn a_program_that_hangs_is_given_up_and_holds_nothing_open(backend: Backend) {
    hangs(backend, Extent::Short);
}

pub(crate) fn hangs(backend: Backend, extent: Extent) {
    let scene = Scene::new(backend);
    let all = |tool: &str, fault: Fault| Order::of(&scene.both(tool), fault);
    let chains = "cannot replace chains";
    let rows = vec![
        ("after a write", vec![all("-restore:commit", Fault::SilentAfter).times(2)], Heals),
        ("libipset", vec![Order::of("libipset:*", Fault::Sleeps(3000)).times(1)], Heals),
        ("a write", vec![all("-restore*", Fault::Hang)], Lasts(vec![chains, "after 1s"])),
        // The rest is for those who have time.
        ("a reading", vec![scene.anew(), all("-save", Fault::Hang)], Lasts(vec!["after 1s"])),
        ("making sets", vec![Order::of("ipset:make", Fault::Hang)], Lasts(vec!["after 1s"])),
        ("deaf", vec![scene.anew(), all("-restore", Fault::Deaf)], Heals),
    ];
    scene.update_amid(extent.of(rows, 3), SHORT);
}

fn one_family_that_fails_does_not_hold_up_the_other(backend: Backend) {
    one_family(backend, Extent::Short);
}

pub(crate) fn one_family(backend: Backend, extent: Extent) {
    let families = vec![(Family::V6, Family::V4), (Family::V4, Family::V6)];
    for (failing, other) in extent.of(families, 1) {
        let scene = Scene::new(backend);
        let mut state = State::numbered(0);
        let _daemon = scene.start(&state, AMPLE);
        let vigil = scene.town.watch(&state);
        let order = Order::of(&scene.one(failing, "-restore*"), Fault::Fail);
        scene.faults.order(&[order]).unwrap();
        for number in 1..4 {
            state = State::numbered(number);
            let _ = vigil.may_become(scene.town.verdicts(&state));
            scene.town.put(&state);
            let family = format!("{other} ");
            let wanted = scene.reference(&state, &family);
            let found = || {
                let lines = in_kernel::lines(backend, scene.town.node()).unwrap();
                lines.into_iter().filter(|line| line.starts_with(&family)).collect::<Vec<_>>()
            };
            await_that(|| found() == wanted);
            let reason = scene.faults.await_reason(&[&format!("{failing}: ")], PATIENCE).unwrap();
            assert!(reason.contains("cannot replace chains"), "{reason}");
            let reasons = scene.faults.readiness().unwrap().unwrap().0;
            let of_other: Vec<_> =
                reasons.iter().filter(|r| r.starts_with(&other.to_string())).collect();
            assert_eq!(of_other, [""; 0]);
        }
        scene.faults.cease().unwrap();
        scene.expect(&state, "both");
        let tally = vigil.end().unwrap();
        assert_eq!(tally.wrong(), (0, 0, 0), "{:#?}", tally.told);
    }
}

impl Scene {
    /// The lines of one family that follow from `state`.
    fn reference(&self, state: &State, family: &str) -> Vec<String> {
        let reference = Namespace::create().unwrap();
        Loader::Text.load(self.town.backend, &reference, &Town::ruleset(state)).unwrap();
        let lines = in_kernel::lines(self.town.backend, &reference).unwrap();
        lines.into_iter().filter(|line| line.starts_with(family)).collect()
    }
}

/// Waits for it.
fn await_that(mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it has not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn a_cleanup_amid_faults_says_what_is_left_and_the_next_one_removes_it(backend: Backend) {
    cleanups(backend, Extent::Short);
}

pub(crate) fn cleanups(backend: Backend, extent: Extent) {
    let scene = Scene::new(backend);
    let all = |tool: &str, fault: Fault| vec![Order::of(&scene.both(tool), fault)];
    let cleanup = || {
        let mut command = Town::policyd(&["cleanup"]);
        command.envs(scene.faults.environment());
        let output = scene.town.node().output(&mut command, "").unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let hooks = Order::of(&scene.both(":-D"), Fault::Fail);
    let rows = vec![
        ("the tables are read in part", all("-save", Fault::Truncated(4))),
        ("neither hooks nor chains go", [vec![hooks], all("-restore*", Fault::Locked)].concat()),
        // The rest is for those who have time.
        ("the sets are shown in part", vec![Order::of("ipset:save", Fault::Truncated(2))]),
        ("the tables are not read", all("-save", Fault::Fail)),
        ("they are not written", all("-restore*", Fault::Fail)),
        ("whoever writes them is killed", all("-restore*", Fault::DiesBefore)),
        ("the sets are not listed", vec![Order::of("ipset:list", Fault::Fail)]),
    ];
    for (number, (row, orders)) in extent.of(rows, 2).into_iter().enumerate() {
        scene.faults.forget_readiness().unwrap();
        scene.start(&State::numbered(number), AMPLE).stop(Signal::SIGKILL).unwrap();
        scene.town.await_orphans();
        scene.faults.order(&orders).unwrap();
        let (whole, told) = cleanup();
        assert!(!whole, "{row}: {told}");
        scene.faults.cease().unwrap();
        let (whole, told) = cleanup();
        assert!(whole, "{row}: {told}");
        let left = in_kernel::lines(backend, scene.town.node()).unwrap();
        assert!(left.is_empty(), "{row}: {left:?}");
    }
}

fn random_faults_amid_random_updates_leave_nothing_open(backend: Backend) {
    random_faults(backend, 8);
}

fn seed() -> u64 {
    let given = env::var(SEED).ok().and_then(|text| text.parse().ok());
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = given.unwrap_or(u64::from(nanos));
    println!("{SEED}={seed} replays what follows");
    seed
}

/// So many times: some orders, some updates, and perhaps a kill; then all is to become well.
pub(crate) fn random_faults(backend: Backend, rounds: usize) {
    let mut dice = Dice::new(seed());
    let scene = Scene::new(backend);
    let mut state = State::random(&mut dice);
    let mut daemon = scene.start(&state, AMPLE);
    let vigil = scene.town.watch(&state);
    for round in 0..rounds {
        let orders: Vec<Order> = (0..=dice.below(4)).map(|_| scene.order(&mut dice)).collect();
        scene.faults.order(&orders).unwrap();
        let mut newest = 0;
        for _ in 0..=dice.below(2) {
            state = State::random(&mut dice);
            newest = vigil.may_become(scene.town.verdicts(&state));
            scene.town.put(&state);
            std::thread::sleep(Duration::from_micros(dice.next() % 150_000));
        }
        if dice.one_in(4) {
            daemon.stop(Signal::SIGKILL).unwrap();
            scene.town.await_orphans();
            scene.faults.forget_readiness().unwrap();
            daemon = scene.launch(AMPLE);
        }
        scene.faults.cease().unwrap();
        let row = format!("round {round}, {orders:?}");
        scene.expect(&state, &row);
        vigil.is_in_force(newest);
    }
    let tally = vigil.end().unwrap();
    println!("{} packets, {} had not to arrive, {} lost", tally.sent, tally.bound.1, tally.lost);
    assert_eq!(tally.leaked, 0, "{:#?}", tally.told);
    assert!(tally.bound.1 > 100, "too few to prove anything: {tally:?}");
}

impl Scene {
    /// Some fault of some calls.
    fn order(&self, dice: &mut Dice) -> Order {
        let lines = dice.below(12);
        let family = *dice.pick(&Family::ALL);
        let (call, faults) = match dice.below(7) {
            0 | 1 => (
                self.one(family, "-restore:commit"),
                vec![Fault::Fail, Fault::Locked, Fault::DiesBefore, Fault::DiesAfter],
            ),
            2 => (
                self.one(family, "-restore"),
                vec![
                    Fault::Fail,
                    Fault::Partial(lines),
                    Fault::Noise,
                    Fault::Babble,
                    Fault::DiesBefore,
                ],
            ),
            3 => (
                self.one(family, "-save"),
                vec![Fault::Fail, Fault::Truncated(lines), Fault::Noise, Fault::DiesAfter],
            ),
            4 => (
                "ipset:make".to_owned(),
                vec![Fault::Fail, Fault::Partial(lines), Fault::DiesBefore, Fault::DiesAfter],
            ),
            5 => (
                ["ipset:list", "ipset:save"][dice.below(2)].to_owned(),
                vec![Fault::Fail, Fault::Truncated(lines), Fault::DiesBefore],
            ),
            _ => {
                let says = |words: &&str| Fault::Says((*words).to_owned());
                let mut faults: Vec<Fault> = REFUSALS.iter().map(says).collect();
                faults.push(Fault::Panics);
                (
                    ["libipset:add", "libipset:remove", "libipset:destroy", "libipset:*"]
                        [dice.below(4)]
                    .to_owned(),
                    faults,
                )
            }
        };
        let times = u32::try_from(1 + dice.below(4)).unwrap();
        let spared = u32::try_from(dice.below(3)).unwrap();
        Order::of(&call, dice.pick(&faults).clone()).after(spared).times(times)
    }
}
