//! Each stage of policyd's work amid faults, of which the first rows stand for the rest.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use policy_compiler::cidr::Family;
use policy_tests::enforcement::{Backend, Loader};
use policy_tests::faults::{Absence, Fault, Order};
use policy_tests::in_kernel;
use policy_tests::namespace::Namespace;

use super::Effect::{Heals, Lasts};
use super::{AMPLE, Extent, SHORT, Scene};
use crate::town::{PATIENCE, State, Town, expect_nothing_wrong};

pub(crate) fn updates(backend: Backend, extent: Extent) {
    let scene = Scene::new(backend);
    let all = |tool: &str, fault: Fault| Order::of(&scene.both(tool), fault);
    let restore = |fault: Fault| vec![all("-restore*", fault)];
    let start = |fault: Fault| vec![scene.anew(), all("-restore", fault)];
    // What is read back is only read where something has failed.
    let reading = |call: &str, fault: Fault| vec![scene.anew(), Order::of(call, fault)];
    // A few small sets are made by a program only where all is written anew.
    let making = |fault: Fault| reading("ipset:make", fault);
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
        ("noise on stderr", start(Fault::Noise), Heals),
        // The rest is for those who have time.
        ("the lock is held", restore(Fault::Locked), Lasts(vec![chains, "lock"])),
        ("killed before", restore(Fault::DiesBefore), Lasts(vec![chains])),
        ("killed after once", vec![all("-restore*", Fault::DiesAfter).times(1)], Heals),
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
    scene.update_amid(extent.of(rows, 11), AMPLE);
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

pub(super) fn first_writes(backend: Backend) {
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
        (
            "making sets",
            vec![scene.anew(), Order::of("ipset:make", Fault::Hang)],
            Lasts(vec!["after 1s"]),
        ),
        ("deaf", vec![scene.anew(), all("-restore", Fault::Deaf)], Heals),
    ];
    scene.update_amid(extent.of(rows, 3), SHORT);
}

pub(crate) fn one_family(backend: Backend, extent: Extent) {
    let (v4, v6) = (Family::V4, Family::V6);
    let rows = vec![
        (v6, v4, Fault::Fail, AMPLE),
        (v4, v6, Fault::Fail, AMPLE),
        (v6, v4, Fault::Hang, SHORT),
        (v4, v6, Fault::Hang, SHORT),
    ];
    for (failing, other, fault, limit) in extent.of(rows, 1) {
        let scene = Scene::new(backend);
        let mut state = State::numbered(0);
        let _daemon = scene.start(&state, limit);
        let vigil = scene.town.watch(&state);
        let order = Order::of(&scene.one(failing, "-restore*"), fault);
        scene.faults.order(&[order]).unwrap();
        for number in 1..4 {
            state = State::numbered(number);
            let _ = vigil.may_become(scene.town.verdicts(&state));
            scene.town.put(&state);
            let family = format!("{other} ");
            let wanted = scene.reference(&state, &family);
            // A set that goes while rules are read fails the reading, and the next one is as good.
            let found = || {
                let lines = in_kernel::lines(backend, scene.town.node()).ok()?;
                Some(lines.into_iter().filter(|line| line.starts_with(&family)).collect())
            };
            await_that(|| found().is_some_and(|found: Vec<String>| found == wanted));
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
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it has not come about");
        thread::sleep(Duration::from_millis(10));
    }
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
