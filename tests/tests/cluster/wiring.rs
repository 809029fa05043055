//! The network by itself, before anybody polices: what fails later is then policyd's doing.

use policy_tests::cluster::network::Join;
use policy_tests::cluster::objects::PodPlan;
use policy_tests::cluster::{Cluster, Plan};
use policy_tests::lab::Wiring;

super::cluster_tests!(
    everybody_reaches_everybody_over_plain_routes,
    everybody_reaches_everybody_over_vxlan
);

fn everybody_reaches_everybody_over_plain_routes() {
    everybody_reaches_everybody(Join::Routes);
}

fn everybody_reaches_everybody_over_vxlan() {
    everybody_reaches_everybody(Join::Vxlan);
}

fn everybody_reaches_everybody(join: Join) {
    let mut cluster =
        Cluster::start(&Plan { join, ..Plan::routes(&[Wiring::Routed, Wiring::Bridged]) }).unwrap();
    cluster.namespace("x", &[]).unwrap();
    for (name, node) in [("x/a", 0), ("x/b", 0), ("x/c", 1), ("x/d", 1)] {
        cluster.run(&PodPlan::new(name, node)).unwrap();
    }
    cluster
        .expect(
            "nobody polices",
            "x/a     -> x/b  80      allow by x/b
             x/a     -> x/c  80/udp  allow by x/c
             x/c     -> x/d  80      allow by x/d
             x/d     -> x/a  8080    allow by x/a
             x/a     -> x/d  99      deny
             node-0  -> x/a  80      allow
             node-0  -> x/c  80/udp  allow
             node-1  -> x/c  80      allow",
        )
        .unwrap();
    cluster.expect_semantics("nobody polices").unwrap();
}
