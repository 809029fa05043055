//! What takes minutes: `make test-long` runs it, `make test` leaves it out.

use std::time::Duration;

use policy_tests::enforcement::Backend;
use policy_tests::privilege::kernel_test;

use crate::backends::{
    back_and_forth, by_itself_it_follows_within_two_minutes,
    what_cannot_be_written_to_is_left_alone,
};
use crate::crash::crashes;
use crate::faults::{Extent, cleanups, hangs, one_family, random_faults, starts, updates};
use crate::soak::soak;

under_both_backends!(
    killed_a_hundred_times_it_leaves_nothing_open,
    every_fault_at_every_stage_leaves_nothing_open,
    a_hundred_and_fifty_rounds_of_random_faults_leave_nothing_open,
    after_minutes_of_churn_there_is_no_more_of_anything_than_before,
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

fn after_minutes_of_churn_there_is_no_more_of_anything_than_before(backend: Backend) {
    soak(backend, Duration::from_secs(20), Duration::from_secs(125));
}

#[test]
fn it_turns_twenty_times_and_no_packet_notices() {
    kernel_test("long::it_turns_twenty_times_and_no_packet_notices", || back_and_forth(20));
}

#[test]
fn it_turns_with_the_node_within_two_minutes() {
    let name = "long::it_turns_with_the_node_within_two_minutes";
    kernel_test(name, by_itself_it_follows_within_two_minutes);
}

#[test]
fn it_turns_back_where_it_cannot_write() {
    kernel_test(
        "long::it_turns_back_where_it_cannot_write",
        what_cannot_be_written_to_is_left_alone,
    );
}
