//! Services: policies judge what is left when kube-proxy's rules have translated it.
//!
//! `10.96.0.1n` leads to `web-n` alone, so that no row depends on chance; node ports likewise.

use std::net::{Ipv4Addr, SocketAddrV4};

use policy_compiler::port::Protocol;
use policy_tests::cluster::network::Join;
use policy_tests::cluster::objects::PodPlan;
use policy_tests::cluster::proxy::{NodePort, Service, install};
use policy_tests::cluster::{Cluster, Plan};
use policy_tests::enforcement::Backend;
use serde_json::json;

super::cluster_tests!(
    services_are_judged_after_translation_over_plain_routes,
    services_are_judged_after_translation_over_vxlan,
    services_are_judged_after_translation_with_iptables_legacy,
);

fn services_are_judged_after_translation_over_plain_routes() {
    services_are_judged_after_translation(Join::Routes, Backend::Nft);
}

fn services_are_judged_after_translation_over_vxlan() {
    services_are_judged_after_translation(Join::Vxlan, Backend::Nft);
}

fn services_are_judged_after_translation_with_iptables_legacy() {
    services_are_judged_after_translation(Join::Routes, Backend::Legacy);
}

/// Leads `address` and `node_port` to `endpoint`.
fn service(
    tag: &'static str,
    address: u8,
    node_port: Option<NodePort>,
    (node, endpoint): (usize, Ipv4Addr),
) -> Service {
    Service {
        tag,
        protocol: Protocol::Tcp,
        cluster_ip: Ipv4Addr::new(10, 96, 0, address),
        port: 80,
        node_port,
        endpoints: vec![(node, SocketAddrV4::new(endpoint, 8080))],
    }
}

fn services_are_judged_after_translation(join: Join, backend: Backend) {
    let plan = Plan { join, backend, ..Plan::routes(&Plan::TWO) };
    let mut cluster = Cluster::start(&plan).unwrap();
    cluster.apply_account().unwrap();
    cluster.namespace("x", &[]).unwrap();
    for (name, app, node) in [
        ("x/web-0", "web", 0),
        ("x/web-1", "web", 1),
        ("x/client-0", "client", 0),
        ("x/client-1", "client", 1),
        ("x/other-0", "other", 0),
        ("x/other-1", "other", 1),
    ] {
        cluster.run(&PodPlan::new(name, node).label("app", app)).unwrap();
    }
    let web = [0, 1].map(|node| (node, cluster.sandboxes[&format!("x/web-{node}")].v4));
    let anywhere = |port| Some(NodePort { port, local: false });
    let local = |port| Some(NodePort { port, local: true });
    let services = [
        service("WEB0", 10, anywhere(30080), web[0]),
        service("WEB1", 11, anywhere(30081), web[1]),
        service("LOCAL0", 20, local(30090), web[0]),
        service("LOCAL1", 21, local(30091), web[1]),
        Service { protocol: Protocol::Udp, port: 53, ..service("DNS", 53, None, web[1]) },
    ];
    for (number, node) in cluster.nodes.iter().enumerate() {
        install(backend, &node.namespace, number, &services).unwrap();
    }
    let _agents = cluster.start_agents().unwrap();
    cluster.expect("no policy", OPEN).unwrap();
    let clients = json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
            "ports": [{"port": 8080}, {"port": 8080, "protocol": "UDP"}],
        }],
    });
    cluster.policy("x/web", clients).unwrap();
    cluster.expect("clients alone, on the target port", CLIENTS).unwrap();
    let outside = json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"from": [{"ipBlock": {"cidr": "172.18.0.200/32"}}]}],
    });
    cluster.policy("x/outside", outside).unwrap();
    cluster.expect("a block covers the client outside", OUTSIDE).unwrap();
    cluster.delete_policy("x/outside").unwrap();
    let egress = json!({
        "podSelector": {"matchLabels": {"app": "client"}},
        "policyTypes": ["Egress"],
        // That of the Services' own addresses, which no packet has any more when it is judged.
        "egress": [{"to": [{"ipBlock": {"cidr": "10.96.0.0/16"}}]}],
    });
    cluster.policy("x/client", egress).unwrap();
    cluster
        .expect(
            "a block covers the Services' addresses",
            "x/client-0 -> 10.96.0.10 80 deny
             x/client-1 -> 10.96.0.11 80 deny",
        )
        .unwrap();
}

const OPEN: &str = "
    x/client-0 -> 10.96.0.10  80     allow by x/web-0
    x/client-0 -> 10.96.0.11  80     allow by x/web-1
    x/other-1  -> 10.96.0.10  80     allow by x/web-0
    x/other-1  -> 10.96.0.53  53/udp allow by x/web-1
    x/web-0    -> 10.96.0.10  80     allow by x/web-0
    x/web-1    -> 10.96.0.11  80     allow by x/web-1
    node-0     -> 10.96.0.10  80     allow by x/web-0
    node-0     -> 10.96.0.11  80     allow by x/web-1
    outside    -> 172.18.0.10 30080  allow by x/web-0
    outside    -> 172.18.0.10 30081  allow by x/web-1
    outside    -> 172.18.0.10 30090  allow by x/web-0 from 172.18.0.200
    outside    -> 172.18.0.11 30091  allow by x/web-1 from 172.18.0.200
    outside    -> 172.18.0.11 30090  deny";

const CLIENTS: &str = "
    x/client-0 -> 10.96.0.10  80     allow by x/web-0
    x/client-0 -> 10.96.0.11  80     allow by x/web-1
    x/client-1 -> 10.96.0.10  80     allow by x/web-0
    x/client-1 -> 10.96.0.11  80     allow by x/web-1
    x/client-1 -> 10.96.0.53  53/udp allow by x/web-1
    x/client-0 -> x/web-0     8080   allow
    x/client-0 -> x/web-1     8080   allow
    x/client-0 -> x/web-1     80     deny
    x/other-0  -> 10.96.0.10  80     deny
    x/other-0  -> 10.96.0.11  80     deny
    x/other-1  -> 10.96.0.10  80     deny
    x/other-1  -> 10.96.0.11  80     deny
    x/other-0  -> 10.96.0.53  53/udp deny
    x/other-0  -> x/web-1     8080   deny
    x/web-0    -> 10.96.0.10  80     allow by x/web-0
    x/web-1    -> 10.96.0.11  80     allow by x/web-1
    x/web-0    -> 10.96.0.11  80     deny
    node-0     -> 10.96.0.10  80     allow by x/web-0
    node-0     -> 10.96.0.11  80     deny
    outside    -> 172.18.0.10 30080  deny
    outside    -> 172.18.0.10 30081  deny
    outside    -> 172.18.0.10 30090  deny
    outside    -> 172.18.0.11 30091  deny
    x/client-0 -> 172.18.0.10 30080  allow by x/web-0
    x/other-0  -> 172.18.0.10 30080  deny";

/// The client outside is itself on the node that it asks, and that node everywhere else.
const OUTSIDE: &str = "
    outside    -> 172.18.0.10 30080  allow by x/web-0
    outside    -> 172.18.0.10 30081  deny
    outside    -> 172.18.0.11 30081  allow by x/web-1
    outside    -> 172.18.0.10 30090  allow by x/web-0 from 172.18.0.200
    outside    -> 172.18.0.11 30091  allow by x/web-1 from 172.18.0.200
    outside    -> 172.18.0.11 30090  deny
    x/other-0  -> 10.96.0.10  80     deny";
