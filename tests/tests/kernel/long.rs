//! What takes minutes: `make test-long` runs it, `make test` leaves it out.

use policy_tests::enforcement::Backend;

use crate::crash::crashes;
use crate::faults::{Extent, cleanups, hangs, one_family, random_faults, starts, updates};

under_both_backends!(
    killed_a_hundred_times_it_leaves_nothing_open,
    every_fault_at_every_stage_leaves_nothing_open,
    a_hundred_and_fifty_rounds_of_random_faults_leave_nothing_open,
);

fn every_fault_at_every_stage_leaves_nothing_open(backend: Backend) {
    for stage in [updates, starts, hangs, one_family, cleanups] {
        stage(backend, Extent::Whole);
    }
}

fn a_hundred_and_fifty_rounds_of_random_faults_leave_nothing_open(backend: Backend) {
    random_faults(backend, 150);
}

fn killed_a_hundred_times_it_leaves_nothing_open(backend: Backend) {
    crashes(backend, 100);
}
