//! The largest cluster that Kubernetes is made for, behind a real API server: what policyd takes there.
//!
//! Ten gigabytes and as many minutes, so that nothing runs it of itself:
//!
//! ```text
//! cargo nextest run --cargo-profile measure -p policy-tests --ignore-default-filter --no-capture \
//!     --filterset 'binary(cluster) & test(/^envelope::/)'
//! ```

use policy_tests::generate::Size;

use crate::scale::follow;

super::cluster_tests!(a_hundred_and_fifty_thousand_pods_are_followed);

fn a_hundred_and_fifty_thousand_pods_are_followed() {
    follow(Size::ENVELOPE, &[4_000; 3]);
}
