//! What takes minutes: `make test-long` runs it, `make test` leaves it out.

use policy_tests::enforcement::Backend;

use crate::crash::crashes;

under_both_backends!(killed_a_hundred_times_it_leaves_nothing_open);

fn killed_a_hundred_times_it_leaves_nothing_open(backend: Backend) {
    crashes(backend, 100);
}
