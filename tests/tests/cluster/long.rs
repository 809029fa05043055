//! What takes minutes: `make test-long` runs it, `make test` leaves it out.

use std::time::Duration;

use policy_tests::generate::{Local, Size};

use crate::churn::churn;
use crate::latency::measure;
use crate::scale::follow;
use crate::scope_size::measure as measure_scope;

super::cluster_tests!(
    two_thousand_pods_that_change_for_a_minute_open_nothing_and_end_right,
    packets_meet_a_change_soon_among_two_thousand_pods,
    of_five_thousand_namespaces_a_node_receives_what_concerns_it,
    twenty_thousand_pods_and_two_thousand_policies_are_followed,
);

fn two_thousand_pods_that_change_for_a_minute_open_nothing_and_end_right() {
    churn(2, 2000, 300, Duration::from_mins(1));
}

fn of_five_thousand_namespaces_a_node_receives_what_concerns_it() {
    let size = Size {
        nodes: 500,
        namespaces: 5_000,
        pods: 6_000,
        policies: 3_000,
        local_pods: 30,
        local: Local::Scattered,
    };
    measure_scope(size, 1_000);
}

fn packets_meet_a_change_soon_among_two_thousand_pods() {
    measure(2000, 300, 40);
}

fn twenty_thousand_pods_and_two_thousand_policies_are_followed() {
    let size = Size {
        nodes: 500,
        namespaces: 1_000,
        pods: 20_000,
        policies: 2_000,
        local_pods: 110,
        local: Local::Scattered,
    };
    follow(size, &[4_000; 5]);
}
