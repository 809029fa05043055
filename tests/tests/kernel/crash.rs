//! policyd killed at any moment, amid random updates: nothing leaks, nothing is lost, and whoever
//! starts after it brings the kernel to what is wanted.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use policy_compiler::cidr::Family;
use policy_tests::enforcement::Backend;

use crate::random::{Dice, seed};
use crate::town::{PATIENCE, State, Town, expect_nothing_wrong};

under_both_backends!(
    killed_at_any_moment_it_leaves_nothing_open_and_the_next_one_converges,
    a_vigil_over_a_node_at_rest_sees_nothing_wrong,
    a_vigil_sees_a_rule_too_many_that_stands_for_a_moment,
);

fn killed_at_any_moment_it_leaves_nothing_open_and_the_next_one_converges(backend: Backend) {
    crashes(backend, 6);
}

/// The control: what is lost without any change is the machine's.
fn a_vigil_over_a_node_at_rest_sees_nothing_wrong(backend: Backend) {
    let town = Town::new(backend);
    let state = State::plain();
    town.put(&state);
    let _daemon = town.start();
    let vigil = town.watch(&state);
    vigil.await_rounds(200).unwrap();
    expect_nothing_wrong(vigil);
}

fn a_vigil_sees_a_rule_too_many_that_stands_for_a_moment(backend: Backend) {
    let town = Town::new(backend);
    let state = State::plain();
    town.put(&state);
    town.start().stop(Signal::SIGTERM).unwrap();
    let vigil = town.watch(&state);
    for target in ["ACCEPT", "DROP"] {
        for family in Family::ALL {
            for verb in ["-I", "-D"] {
                town.iptables(family, &["-w", verb, "FORWARD", "-j", target]);
                vigil.await_rounds(3).unwrap();
            }
        }
    }
    let tally = vigil.end().unwrap();
    let ways = |family: &str| tally.told.iter().any(|line| line.contains(family));
    assert!(ways("IPv4") && tally.leaked >= 10 && tally.lost >= 8, "{tally:?}");
}

pub(crate) fn crashes(backend: Backend, rounds: usize) {
    let mut dice = Dice::new(seed());
    let town = Town::new(backend);
    let mut state = State::random(&mut dice);
    town.put(&state);
    let mut daemon = town.start();
    let vigil = town.watch(&state);
    for round in 0..rounds {
        let mut newest = 0;
        for _ in 0..=dice.below(2) {
            state = State::random(&mut dice);
            newest = vigil.may_become(town.verdicts(&state));
            town.put(&state);
            thread::sleep(Duration::from_micros(dice.next() % 90_000));
        }
        daemon.stop(Signal::SIGKILL).unwrap();
        if dice.one_in(3) {
            // Killed once more, while it starts.
            let short = town.launch();
            thread::sleep(Duration::from_micros(dice.next() % 150_000));
            short.stop(Signal::SIGKILL).unwrap();
        }
        town.await_orphans();
        daemon = town.launch();
        daemon.await_line(" ready ", 0, PATIENCE).unwrap();
        vigil.is_in_force(newest);
        town.expect_kernel(&state);
        if round % 8 == 0 {
            town.expect_verified();
        }
    }
    expect_nothing_wrong(vigil);
}
