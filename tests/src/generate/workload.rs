//! What makes pods: Deployments, StatefulSets, Jobs and DaemonSets of a handful of programs.

use std::num::NonZeroU16;

use policy_compiler::cluster::ContainerPort;
use policy_compiler::port::{PortName, Protocol};

use super::dice::{Dice, letters};
use super::namespace::{self, LARGEST};
use super::size::Size;

/// A program: its name, what part it plays, and where it listens.
#[derive(Debug)]
pub(super) struct App {
    pub(super) name: &'static str,
    pub(super) tier: &'static str,
    pub(super) ports: &'static [(&'static str, u16, Protocol)],
}

use Protocol::{Sctp, Tcp, Udp};

/// The programs of tenants that serve; the last four keep something.
pub(super) const APPS: [App; 12] = [
    App {
        name: "web",
        tier: "frontend",
        ports: &[("http", 8080, Tcp), ("http-alt", 8090, Tcp), ("metrics", 9090, Tcp)],
    },
    App {
        name: "api",
        tier: "backend",
        ports: &[("http", 8081, Tcp), ("grpc", 9000, Tcp), ("metrics", 9090, Tcp)],
    },
    App { name: "cart", tier: "backend", ports: &[("http", 8082, Tcp), ("metrics", 9091, Tcp)] },
    App { name: "checkout", tier: "backend", ports: &[("http", 8083, Tcp)] },
    App { name: "search", tier: "backend", ports: &[("grpc", 9001, Tcp), ("metrics", 9091, Tcp)] },
    App { name: "auth", tier: "backend", ports: &[("https", 8443, Tcp)] },
    App {
        name: "voice",
        tier: "edge",
        ports: &[("sip", 5060, Udp), ("sip-tcp", 5060, Tcp), ("sigtran", 2905, Sctp)],
    },
    App { name: "worker", tier: "backend", ports: &[("metrics", 9090, Tcp)] },
    App {
        name: "postgres",
        tier: "data",
        ports: &[("postgres", 5432, Tcp), ("metrics", 9187, Tcp)],
    },
    App { name: "redis", tier: "data", ports: &[("redis", 6379, Tcp)] },
    App { name: "kafka", tier: "data", ports: &[("broker", 9092, Tcp), ("jmx", 5555, Tcp)] },
    App { name: "queue", tier: "data", ports: &[("amqp", 5672, Tcp), ("http", 15672, Tcp)] },
];
const SERVERS: usize = 8;

pub(super) const BATCH: [App; 3] = [
    App { name: "report", tier: "batch", ports: &[] },
    App { name: "migrate", tier: "batch", ports: &[] },
    App { name: "backup", tier: "batch", ports: &[] },
];

pub(super) const DNS: App = App {
    name: "coredns",
    tier: "system",
    ports: &[("dns", 53, Udp), ("dns-tcp", 53, Tcp), ("metrics", 9153, Tcp)],
};
const PROMETHEUS: App = App { name: "prometheus", tier: "system", ports: &[("http", 9090, Tcp)] };
const INGRESS: App = App {
    name: "ingress-nginx",
    tier: "system",
    ports: &[("http", 8080, Tcp), ("https", 8443, Tcp), ("metrics", 10254, Tcp)],
};
const PROXY: App = App { name: "kube-proxy", tier: "system", ports: &[] };
const NETWORK: App = App { name: "cni-node", tier: "system", ports: &[("health", 9099, Tcp)] };
const SHIPPER: App = App { name: "log-shipper", tier: "system", ports: &[("metrics", 2020, Tcp)] };

/// The kind of a [`Workload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Deployment,
    StatefulSet,
    Job,
    DaemonSet { host_network: bool },
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Deployment => "Deployment",
            Kind::StatefulSet => "StatefulSet",
            Kind::Job => "Job",
            Kind::DaemonSet { .. } => "DaemonSet",
        }
    }
}

/// Makes pods alike.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    /// Its place among all.
    pub(super) number: u32,
    pub(super) namespace: u32,
    pub(super) kind: Kind,
    pub(super) app: &'static App,
    /// Which of its namespace's of this program it is, from 0.
    pub(super) twin: u32,
    /// How many pods it has.
    pub(super) replicas: u32,
}

impl Workload {
    pub(super) fn name(&self) -> String {
        match self.twin {
            0 => self.app.name.to_owned(),
            twin => format!("{}-{}", self.app.name, twin + 1),
        }
    }

    /// Whether its pods have the node's network and none of their own.
    pub(super) fn is_host_network(&self) -> bool {
        self.kind == Kind::DaemonSet { host_network: true }
    }

    /// The name of what owns its pods.
    pub(super) fn owner(&self) -> (&'static str, String) {
        match self.kind {
            Kind::Deployment => ("ReplicaSet", format!("{}-{}", self.name(), self.hash())),
            kind => (kind.name(), self.name()),
        }
    }

    /// The hash of its template.
    pub(super) fn hash(&self) -> String {
        letters(u64::from(self.number) + 1_000_003, 9)
    }

    /// The name of its pod of that number.
    pub(super) fn pod_name(&self, ordinal: u32) -> String {
        let name = self.name();
        match self.kind {
            Kind::Deployment => {
                format!("{name}-{}-{}", self.hash(), letters(ordinal.into(), 5))
            }
            Kind::StatefulSet => format!("{name}-{ordinal}"),
            Kind::Job | Kind::DaemonSet { .. } => format!("{name}-{}", letters(ordinal.into(), 5)),
        }
    }

    /// The labels of its pod of that number. `role` is what an operator calls it by.
    pub(super) fn pod_labels(&self, ordinal: u32, role: u8) -> Vec<(&'static str, String)> {
        let name = self.name();
        let mut labels = vec![
            ("app", self.app.name.to_owned()),
            ("app.kubernetes.io/instance", name.clone()),
            ("app.kubernetes.io/managed-by", "Helm".to_owned()),
            ("app.kubernetes.io/name", self.app.name.to_owned()),
            ("tier", self.app.tier.to_owned()),
        ];
        match self.kind {
            Kind::Deployment => {
                labels.push(("pod-template-hash", self.hash()));
                labels.push(("track", ["stable", "canary"][usize::from(role % 2)].to_owned()));
            }
            Kind::StatefulSet => {
                let roles = ["replica", "primary", "witness"];
                labels.push(("apps.kubernetes.io/pod-index", ordinal.to_string()));
                labels.push(("controller-revision-hash", format!("{name}-{}", self.hash())));
                labels.push(("role", roles[usize::from(role % 3)].to_owned()));
                labels.push(("statefulset.kubernetes.io/pod-name", self.pod_name(ordinal)));
            }
            Kind::Job => {
                labels.push(("batch.kubernetes.io/job-name", name.clone()));
                labels.push(("job-name", name));
            }
            Kind::DaemonSet { .. } => {
                labels.push(("controller-revision-hash", self.hash()));
                labels.push(("pod-template-generation", "1".to_owned()));
            }
        }
        if self.app.name == DNS.name {
            labels.push(("k8s-app", "kube-dns".to_owned()));
        }
        labels
    }

    /// The ports that its containers declare. Twins have another number for the same name.
    pub(super) fn ports(&self) -> impl Iterator<Item = ContainerPort> {
        let step = u16::try_from(self.twin % 4).unwrap_or_default() * 100;
        self.app.ports.iter().filter_map(move |(name, number, protocol)| {
            let moved = if name.starts_with("http") { number + step } else { *number };
            Some(ContainerPort {
                name: PortName::new(name).ok(),
                protocol: *protocol,
                number: NonZeroU16::new(moved)?,
            })
        })
    }
}

/// Everything that makes pods in a cluster of that size, by namespace.
pub(super) fn workloads(size: &Size, seed: u64) -> Vec<Workload> {
    let mut all = Workloads { list: Vec::new(), pods: 0 };
    let on = size.nodes.min(size.pods / 30).max(1);
    for (app, host_network) in [(&PROXY, true), (&NETWORK, true), (&SHIPPER, false)] {
        all.add(0, Kind::DaemonSet { host_network }, app, 0, on);
    }
    all.add(0, Kind::Deployment, &DNS, 0, (size.pods / 2_000).max(2));
    all.add(1, Kind::StatefulSet, &PROMETHEUS, 0, (size.pods / 10_000).max(1));
    all.add(2, Kind::Deployment, &INGRESS, 0, (size.pods / 3_000).max(2));
    let tenants = size.pods - all.pods;
    for (namespace, pods) in (LARGEST..).zip(shares(size.namespaces - LARGEST, tenants)) {
        all.fill(namespace, pods, &mut Dice::of(seed, ("workloads", namespace)));
    }
    all.list
}

/// How many of `pods` each of so many namespaces has: the first a fortieth, and the others ever fewer
/// (Zipf's law), many of them none.
fn shares(namespaces: u32, pods: u32) -> Vec<u32> {
    let first = if namespaces == 1 { pods } else { (pods / 40).max(1) };
    let weight = |rank: u32| 1.0 / (f64::from(rank) + 10.0);
    let total: f64 = (1..namespaces).map(weight).sum();
    let (mut shares, mut given, mut wanted) = (vec![first], 0_u32, 0.0);
    for rank in 1..namespaces {
        wanted += weight(rank) / total * f64::from(pods - first);
        // Never negative and never more than the pods there are.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let upto = if rank + 1 == namespaces { pods - first } else { wanted as u32 };
        shares.push(upto.min(pods - first) - given);
        given = upto.min(pods - first);
    }
    shares
}

struct Workloads {
    list: Vec<Workload>,
    pods: u32,
}

impl Workloads {
    fn add(&mut self, namespace: u32, kind: Kind, app: &'static App, twin: u32, replicas: u32) {
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(Workload { number, namespace, kind, app, twin, replicas });
        self.pods += replicas;
    }

    /// Gives a namespace so many pods.
    fn fill(&mut self, namespace: u32, pods: u32, dice: &mut Dice) {
        const REPLICAS: [u32; 12] = [1, 1, 1, 2, 2, 2, 3, 3, 3, 5, 8, 20];
        let scale = 1 + pods / 200;
        let mut left = pods;
        let mut twins = std::collections::BTreeMap::<&str, u32>::new();
        while left > 0 {
            let (kind, app, most) = match dice.roll(100) {
                0..66 => (Kind::Deployment, &APPS[dice.index(SERVERS)], 20),
                66..86 => {
                    let stores = &APPS[SERVERS..];
                    (Kind::StatefulSet, &stores[dice.index(stores.len())], 5)
                }
                _ => (Kind::Job, &BATCH[dice.index(BATCH.len())], 3),
            };
            let replicas = (*dice.pick(&REPLICAS)).min(most) * scale;
            let replicas = replicas.min(left);
            let twin = twins.entry(app.name).or_default();
            self.add(namespace, kind, app, *twin, replicas);
            *twin += 1;
            left -= replicas;
        }
    }
}

/// The name of the namespace that a workload is in.
pub(super) fn namespace_of(workload: &Workload) -> String {
    namespace::name(workload.namespace)
}
