//! Policies: in the proportions that clusters have them, and every feature among them.

use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::{AUDIT_ANNOTATION, Policy};
use serde_json::{Value, json};

use super::dice::Dice;
use super::namespace;
use super::wire;
use super::workload::{APPS, App, Workload};

/// What is kept of a policy: everything that it says follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) namespace: u32,
    /// No other policy, before it or after it, has the same.
    pub(super) serial: u32,
    pub(super) shape: Shape,
    /// How often it has been edited.
    pub(super) edition: u32,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    /// Nobody gets in.
    DenyIngress,
    /// Nobody gets in or out.
    DenyBoth,
    /// The namespace talks to itself.
    OwnNamespace,
    /// One program to another, on a port.
    AppToApp,
    /// A tenant's frontends, from any of its namespaces, on a named port.
    Tenant,
    /// Pods by expressions, in namespaces by expressions.
    Expressions,
    /// Names are resolved.
    Dns,
    /// The world, but not the cluster or the cloud's metadata.
    World,
    /// Offices, on a range of ports.
    Offices,
    /// Prometheus, on the port called metrics.
    Monitoring,
    /// Named ports of others.
    Stores,
    /// UDP, SCTP and TCP.
    Telephony,
    /// One pod of a StatefulSet.
    OnePod,
    /// Everybody.
    Open,
    /// Whoever an operator calls primary.
    Role,
    /// Tried out and not enforced yet.
    Audited,
}

/// How often each shape occurs, in a hundred.
const SHAPES: [(Shape, u32); 16] = [
    (Shape::DenyIngress, 14),
    (Shape::DenyBoth, 4),
    (Shape::OwnNamespace, 14),
    (Shape::AppToApp, 20),
    (Shape::Tenant, 9),
    (Shape::Expressions, 9),
    (Shape::Dns, 7),
    (Shape::World, 5),
    (Shape::Offices, 3),
    (Shape::Monitoring, 5),
    (Shape::Stores, 3),
    (Shape::Telephony, 2),
    (Shape::OnePod, 1),
    (Shape::Open, 1),
    (Shape::Role, 2),
    (Shape::Audited, 1),
];

impl Shape {
    /// The shape of the policy of that number: every hundred have all of them, in a mixed order.
    pub(super) fn of(number: u32) -> Self {
        let mut place = number.wrapping_mul(37) % 100;
        for (shape, share) in SHAPES {
            if place < share {
                return shape;
            }
            place -= share;
        }
        Shape::DenyIngress
    }
}

impl Written {
    fn name(self) -> String {
        let purpose = match self.shape {
            Shape::DenyIngress => "default-deny",
            Shape::DenyBoth => "default-deny-all",
            Shape::OwnNamespace => "allow-same-namespace",
            Shape::AppToApp => "allow-app",
            Shape::Tenant => "allow-tenant",
            Shape::Expressions => "allow-selected",
            Shape::Dns => "allow-dns",
            Shape::World => "allow-world",
            Shape::Offices => "allow-offices",
            Shape::Monitoring => "allow-monitoring",
            Shape::Stores => "allow-stores",
            Shape::Telephony => "allow-telephony",
            Shape::OnePod => "allow-to-pod",
            Shape::Open => "allow-all",
            Shape::Role => "allow-primary",
            Shape::Audited => "audit-deny",
        };
        format!("{purpose}-{}", self.serial)
    }

    pub(super) fn key(self) -> ObjectKey {
        ObjectKey::new(&namespace::name(self.namespace), &self.name())
            .expect("it is made of letters and digits")
    }

    /// The object as the API server sends it. `own` are the workloads of its namespace.
    pub(super) fn json(self, own: &[Workload], seed: u64) -> Value {
        let mut metadata = json!({
            "name": self.name(),
            "namespace": namespace::name(self.namespace),
            "uid": wire::uid(seed, ("policy", self.serial)),
            "resourceVersion": wire::version(u64::from(self.serial) + u64::from(self.edition)),
            "generation": 1 + self.edition,
            "creationTimestamp": wire::time(self.serial.into()),
        });
        if self.shape == Shape::Audited {
            metadata["annotations"] = json!({AUDIT_ANNOTATION: "true"});
        }
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": metadata, "spec": self.spec(own, seed),
        })
    }

    /// The policy as an agent keeps it.
    pub(super) fn typed(self, own: &[Workload], seed: u64) -> Policy {
        let decoded = decode::policy(&Node::from(self.json(own, seed)), None);
        decoded.expect("the API server would take it").object
    }

    fn spec(self, own: &[Workload], seed: u64) -> Value {
        let mut dice = Dice::of(seed, ("policy", self.serial, self.edition));
        let dice = &mut dice;
        match self.shape {
            Shape::DenyIngress => json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
            Shape::DenyBoth => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            Shape::OwnNamespace => ingress(&json!({}), &json!([{"from": [{"podSelector": {}}]}])),
            Shape::AppToApp => {
                let (to, from) = (app(own, dice), app(own, dice));
                let peer = json!({"podSelector": {"matchLabels": {"app": from.name}}});
                ingress(
                    &json!({"matchLabels": {"app": to.name}}),
                    &json!([{"from": [peer], "ports": [port(to, dice)]}]),
                )
            }
            Shape::Tenant => {
                let tenant = namespace::tenant(self.namespace);
                let to = app(own, dice);
                let peer = json!({
                    "namespaceSelector": {"matchLabels": {"tenant": tenant}},
                    "podSelector": {"matchLabels": {"tier": "frontend"}},
                });
                let rule = json!([{"from": [peer], "ports": [named_port(to, dice)]}]);
                ingress(&json!({"matchLabels": {"app": to.name}}), &rule)
            }
            Shape::Expressions => expressions(dice),
            Shape::Dns => dns(),
            Shape::World => world(dice),
            Shape::Offices => offices(dice),
            Shape::Monitoring => monitoring(),
            Shape::Stores => stores(&namespace::tenant(self.namespace), dice),
            Shape::Telephony => telephony(),
            Shape::OnePod => one_pod(own, dice),
            Shape::Open => {
                ingress(&json!({"matchLabels": {"app": app(own, dice).name}}), &json!([{}]))
            }
            Shape::Role => {
                let peer = json!({"podSelector": {"matchLabels": {"role": "primary"}}});
                ingress(
                    &json!({"matchLabels": {"app": app(own, dice).name}}),
                    &json!([{"from": [peer]}]),
                )
            }
            Shape::Audited => json!({
                "podSelector": {"matchLabels": {"app": app(own, dice).name}},
                "policyTypes": ["Egress"],
            }),
        }
    }
}

fn ingress(subject: &Value, rules: &Value) -> Value {
    json!({"podSelector": subject, "policyTypes": ["Ingress"], "ingress": rules})
}

/// A program that the namespace has, or one that it may have some day.
fn app(own: &[Workload], dice: &mut Dice) -> &'static App {
    let serving: Vec<&'static App> =
        own.iter().map(|workload| workload.app).filter(|app| !app.ports.is_empty()).collect();
    if serving.is_empty() { dice.pick(&APPS) } else { serving[dice.index(serving.len())] }
}

fn port(app: &App, dice: &mut Dice) -> Value {
    if dice.percent(30) {
        return named_port(app, dice);
    }
    let (_, number, protocol) = dice.pick(app.ports);
    json!({"port": number, "protocol": protocol.to_string()})
}

fn named_port(app: &App, dice: &mut Dice) -> Value {
    let (name, _, protocol) = dice.pick(app.ports);
    json!({"port": name, "protocol": protocol.to_string()})
}

fn expressions(dice: &mut Dice) -> Value {
    let expression = |key: &str, operator: &str, values: &[&str]| match values {
        [] => json!({"key": key, "operator": operator}),
        values => json!({"key": key, "operator": operator, "values": values}),
    };
    let (first, second) = (namespace::team(dice), namespace::team(dice));
    let namespaces = match dice.roll(4) {
        0 => json!([
            expression("env", "In", &["prod", "staging"]),
            expression("team", "In", &[first, second])
        ]),
        1 => json!([expression("exposed", "Exists", &[]), expression("team", "In", &[first])]),
        2 => {
            json!([expression("exposed", "DoesNotExist", &[]), expression("team", "In", &[second])])
        }
        _ => json!([
            expression("env", "NotIn", &["dev", "staging"]),
            expression("team", "In", &[first])
        ]),
    };
    let pods = match dice.roll(3) {
        0 => json!([expression("tier", "NotIn", &["data", "batch"])]),
        1 => json!([expression("app", "In", &["api", "web", "worker"])]),
        _ => json!([expression("track", "Exists", &[]), expression("role", "DoesNotExist", &[])]),
    };
    json!({
        "podSelector": {"matchExpressions": [expression("tier", "In", &["backend", "frontend"])]},
        "policyTypes": ["Ingress"],
        "ingress": [{
            "from": [{
                "namespaceSelector": {"matchExpressions": namespaces},
                "podSelector": {"matchExpressions": pods},
            }],
            "ports": [{"port": "http"}, {"port": "grpc"}],
        }],
    })
}

fn dns() -> Value {
    let names = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    });
    json!({
        "podSelector": {}, "policyTypes": ["Egress"],
        "egress": [
            {"to": [names], "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            {"to": [{"podSelector": {}}]},
        ],
    })
}

fn world(dice: &mut Dice) -> Value {
    let except = json!(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.169.254/32"]);
    json!({
        "podSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["backend", "edge"]}]},
        "policyTypes": ["Egress"],
        "egress": [{
            "to": [
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": except}},
                {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]}},
                {"ipBlock": {"cidr": format!("10.{}.0.0/16", 200 + dice.roll(20))}},
            ],
            "ports": [{"port": 443}, {"port": 80}],
        }],
    })
}

fn offices(dice: &mut Dice) -> Value {
    let office = |dice: &mut Dice| json!({"ipBlock": {"cidr": format!("198.51.{}.0/24", 100 + dice.roll(20))}});
    let first = json!({"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}});
    let peers = [first, office(dice), office(dice)];
    json!({
        "podSelector": {"matchLabels": {"tier": "frontend"}},
        "ingress": [
            {"from": peers, "ports": [{"port": 8000, "endPort": 8443}]},
            {"from": [{"ipBlock": {"cidr": "2001:db8:1::/48"}}], "ports": [{"port": 8000, "endPort": 8443}, {"port": 30000, "endPort": 32767, "protocol": "UDP"}]},
        ],
    })
}

fn monitoring() -> Value {
    let prometheus = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        "podSelector": {"matchLabels": {"app": "prometheus"}},
    });
    ingress(&json!({}), &json!([{"from": [prometheus], "ports": [{"port": "metrics"}]}]))
}

fn stores(tenant: &str, dice: &mut Dice) -> Value {
    let peer = json!({
        "namespaceSelector": {"matchLabels": {"tenant": tenant}},
        "podSelector": {"matchLabels": {"tier": "data"}},
    });
    let name = *dice.pick(&["postgres", "redis", "broker", "amqp"]);
    json!({
        "podSelector": {"matchLabels": {"tier": "backend"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [peer], "ports": [{"port": name}, {"port": "metrics"}]}],
    })
}

fn telephony() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "voice"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [
            {"port": "sip", "protocol": "UDP"}, {"port": 5060, "protocol": "TCP"},
            {"port": 2905, "protocol": "SCTP"},
        ]}],
        "egress": [{"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "voice"}}}]}],
    })
}

fn one_pod(own: &[Workload], dice: &mut Dice) -> Value {
    let sets = own.iter().filter(|workload| workload.kind == super::workload::Kind::StatefulSet);
    let names: Vec<String> = sets.map(|set| set.pod_name(0)).collect();
    let name = names.get(dice.index(names.len())).map_or("postgres-0", String::as_str);
    let label = "statefulset.kubernetes.io/pod-name";
    ingress(
        &json!({"matchLabels": {"tier": "data"}}),
        &json!([{"from": [{"podSelector": {"matchLabels": {label: name}}}]}]),
    )
}
