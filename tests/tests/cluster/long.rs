//! What takes minutes: `make test-long` runs it, `make test` leaves it out.

use std::time::Duration;

use crate::churn::churn;
use crate::latency::measure;

super::cluster_tests!(
    two_thousand_pods_that_change_for_a_minute_open_nothing_and_end_right,
    packets_meet_a_change_soon_among_two_thousand_pods,
);

fn two_thousand_pods_that_change_for_a_minute_open_nothing_and_end_right() {
    churn(2, 2000, 300, Duration::from_mins(1));
}

fn packets_meet_a_change_soon_among_two_thousand_pods() {
    measure(2000, 300, 40);
}
