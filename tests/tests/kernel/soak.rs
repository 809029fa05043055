//! Churn for as long as is wanted, after which policyd and the kernel hold no more than before it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use policy_tests::enforcement::Backend;
use policy_tests::vigil::Vigil;

use crate::random::{Dice, seed};
use crate::town::{PATIENCE, State, Town, expect_nothing_wrong};

/// How much more memory policyd may have after it than before: its allocator returns it in its own time.
const MEMORY: u64 = 6 << 10;

/// How many changes make what is opened when it is first needed.
const LEAST: usize = 40;

/// How many sockets may come late; one for each change would be hundreds.
const KEPT: usize = 4;
/// How often is looked for what is always held, and after what pause.
const READINGS: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);

under_both_backends!(after_seconds_of_churn_there_is_no_more_of_anything_than_before);

fn after_seconds_of_churn_there_is_no_more_of_anything_than_before(backend: Backend) {
    soak(backend, Duration::from_secs(4), Duration::from_secs(8));
}

/// What policyd holds of the system, each with how many there are.
#[derive(Debug)]
struct Held {
    files: BTreeMap<String, usize>,
    threads: BTreeMap<String, usize>,
    children: BTreeMap<String, usize>,
}

fn counted(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

impl Held {
    fn by(process: Pid) -> Self {
        let proc = PathBuf::from(format!("/proc/{process}"));
        let entries = |folder: &str| {
            let entries = fs::read_dir(proc.join(folder)).unwrap();
            entries.filter_map(Result::ok).map(|entry| entry.path()).collect::<Vec<_>>()
        };
        // `socket:[4711]` is one of its kind.
        let kind = |link: PathBuf| link.to_string_lossy().split('[').next().map(str::to_owned);
        let files = entries("fd").into_iter().filter_map(|path| kind(fs::read_link(path).ok()?));
        let name =
            |path: PathBuf| Some(fs::read_to_string(path.join("comm")).ok()?.trim().to_owned());
        let threads = entries("task").into_iter().filter_map(name);
        let children = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path();
            let status = fs::read_to_string(path.join("status")).ok()?;
            if status.contains(&format!("\nPPid:\t{process}\n")) { name(path) } else { None }
        });
        Self { files: counted(files), threads: counted(threads), children: counted(children) }
    }

    fn counts(&mut self) -> [&mut BTreeMap<String, usize>; 3] {
        [&mut self.files, &mut self.threads, &mut self.children]
    }

    /// What is held all the time: somebody is being answered in some moments, and a program runs.
    fn always(process: Pid) -> Self {
        let mut least = Self::by(process);
        for _ in 0..READINGS {
            thread::sleep(PAUSE);
            let mut now = Self::by(process);
            for (least, now) in least.counts().into_iter().zip(now.counts()) {
                least.retain(|name, _| now.contains_key(name));
                for (name, count) in least {
                    *count = (*count).min(now[name]);
                }
            }
        }
        least
    }

    /// Whether there is nothing of which there was less, but for sockets that are opened when they are
    /// first needed and then kept.
    fn is_within(&self, before: &Self) -> bool {
        let within = |now: &BTreeMap<_, usize>, before: &BTreeMap<_, usize>, kept: usize| {
            now.iter()
                .all(|(name, count)| before.get(name).is_some_and(|most| *count <= most + kept))
        };
        within(&self.files, &before.files, KEPT)
            && within(&self.threads, &before.threads, 0)
            && within(&self.children, &before.children, 0)
    }
}

/// The resident memory of a process in KiB.
fn memory(process: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Changes everything for so long; returns how many times.
fn churn(town: &Town, vigil: &Vigil, dice: &mut Dice, time: Duration) -> usize {
    let begun = Instant::now();
    let mut changes = 0;
    // A slow machine gets to all there is to change, too.
    while begun.elapsed() < time || changes < LEAST {
        assert!(begun.elapsed() < time + 4 * PATIENCE, "{changes} changes alone");
        let state = State::random(dice);
        let _ = vigil.may_become(town.verdicts(&state));
        town.put(&state);
        changes += 1;
        if dice.one_in(20) {
            // A pod that comes and goes a hundred times a second.
            for _ in 0..50 {
                let flap = State::of_pods(dice);
                let _ = vigil.may_become(town.verdicts(&flap));
                town.put(&flap);
                changes += 1;
                thread::sleep(Duration::from_millis(10));
            }
        }
        thread::sleep(Duration::from_micros(dice.next() % 100_000));
    }
    changes
}

/// Puts `state` in force and waits until all is done that follows from it.
fn settle(town: &Town, vigil: &Vigil, state: &State) {
    let number = vigil.may_become(town.verdicts(state));
    town.put(state);
    town.expect_kernel(state);
    town.expect_verified();
    vigil.is_in_force(number);
}

pub(crate) fn soak(backend: Backend, warm_up: Duration, time: Duration) {
    let mut dice = Dice::new(seed());
    let town = Town::new(backend);
    let plain = State::plain();
    town.put(&plain);
    let daemon = town.start();
    let process = daemon.id().unwrap();
    let vigil = town.watch(&plain);
    churn(&town, &vigil, &mut dice, warm_up);
    settle(&town, &vigil, &plain);
    let (before, memory_before) = (Held::always(process), memory(process));
    let changes = churn(&town, &vigil, &mut dice, time);
    settle(&town, &vigil, &plain);
    let begun = Instant::now();
    loop {
        let (after, memory_after) = (Held::always(process), memory(process));
        let told = format!("memory {memory_before} KiB before, {memory_after} KiB after");
        if after.is_within(&before) && memory_after <= memory_before + MEMORY {
            println!("{changes} changes; {told}; {after:?}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "before {before:#?}\nafter {after:#?}\n{told}");
    }
    expect_nothing_wrong(vigil);
}
