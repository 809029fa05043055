use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_compiler::policy::{
    Direction, Grant, NamespaceScope, PeerSelects, Peers, PortNumbers, Ports,
};
use policy_compiler::port::Protocol;
use policy_compiler::selector::{Operator, Selector};

use super::*;

fn small() -> Cluster {
    Cluster::new(Size::SMALL, 7)
}

/// The same without what an agent does not ask for.
fn as_asked_for(mut object: Value) -> Node {
    object["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    object.into()
}

#[test]
fn the_same_seed_makes_the_same_cluster_and_the_same_changes_and_another_seed_does_not() {
    let (mut one, mut same) = (small(), small());
    let mut other = Cluster::new(Size::SMALL, 8);
    assert_eq!(one.snapshot(), same.snapshot());
    assert!(one.objects().eq(same.objects()));
    assert_ne!(one.snapshot(), other.snapshot());
    let changes = |cluster: &mut Cluster| (0..300).map(|_| cluster.change()).collect::<Vec<_>>();
    let made = changes(&mut one);
    assert_eq!(made, changes(&mut same));
    assert_ne!(made, changes(&mut other));
}

#[test]
fn a_cluster_has_the_size_that_was_asked_for() {
    for local in [Local::Scattered, Local::Together] {
        let cluster = Cluster::new(Size::TENTH.with_local(local), 1);
        let (size, snapshot) = (cluster.size(), cluster.snapshot());
        assert_eq!(size, Size::TENTH.with_local(local));
        let counts = [snapshot.namespaces.len(), snapshot.pods.len(), snapshot.policies.len()];
        let wanted = [size.namespaces, size.pods, size.policies].map(|count| count as usize);
        assert_eq!(counts, wanted);
        let node = Some(cluster.node());
        let largest = cluster.largest_namespace();
        let local_pods: Vec<&Pod> = snapshot
            .pods
            .values()
            .filter(|pod| {
                pod.node == node
                    && pod.is_live()
                    && pod.labels.get("pod-template-generation").is_none()
            })
            .collect();
        assert_eq!(local_pods.len(), size.local_pods as usize, "{local:?}");
        let of_largest = local_pods.iter().filter(|pod| pod.key.namespace == largest).count();
        assert_eq!(of_largest == local_pods.len(), local == Local::Together);
        assert_eq!(cluster.node_objects().count(), size.nodes as usize);
    }
}

#[test]
fn few_namespaces_have_most_of_the_pods() {
    let snapshot = Cluster::new(Size::TENTH, 1).snapshot();
    let mut counts = BTreeMap::<_, usize>::new();
    for key in snapshot.pods.keys() {
        *counts.entry(&key.namespace).or_default() += 1;
    }
    let mut sorted: Vec<usize> = counts.into_values().collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let half = sorted.iter().take(100).sum::<usize>();
    assert!(half > Size::TENTH.pods as usize / 2, "{half} in the first tenth");
    assert!(*sorted.last().unwrap() <= 8, "{sorted:?}");
}

/// How many pods there are of each kind.
fn pods_by_shape(snapshot: &Snapshot) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    let mut count = |name, is: bool| *counts.entry(name).or_default() += usize::from(is);
    for pod in snapshot.pods.values() {
        let has = |label| pod.labels.get(label).is_some();
        count("of a Deployment", has("pod-template-hash"));
        let name = pod.labels.get("statefulset.kubernetes.io/pod-name");
        count(
            "of a StatefulSet",
            name == Some(pod.key.name.as_str()) && has("apps.kubernetes.io/pod-index"),
        );
        count("of a Job", has("batch.kubernetes.io/job-name"));
        count("of a DaemonSet", has("pod-template-generation"));
        count("finished", pod.phase == Phase::Finished);
        count("pending without a node", pod.phase == Phase::Pending && pod.node.is_none());
        count("on the host's network", pod.host_network);
        count("with both families", pod.addresses.v6.is_some());
        count("with IPv4 alone", pod.addresses.v4.is_some() && pod.addresses.v6.is_none());
        count("with named ports", pod.ports.iter().any(|port| port.name.is_some()));
    }
    counts
}

#[test]
fn pods_are_of_every_kind_in_the_shares_of_a_real_cluster() {
    let counts = pods_by_shape(&Cluster::new(Size::TENTH, 1).snapshot());
    // In thousandths of all.
    let shares: BTreeMap<&str, std::ops::Range<usize>> = [
        ("of a Deployment", 500..800),
        ("of a StatefulSet", 70..250),
        ("of a Job", 40..150),
        ("of a DaemonSet", 90..110),
        ("finished", 30..110),
        ("pending without a node", 1..10),
        ("on the host's network", 60..70),
        ("with both families", 200..300),
        ("with IPv4 alone", 650..800),
        ("with named ports", 700..950),
    ]
    .into();
    for (shape, share) in shares {
        let is = counts[shape] * 1_000 / Size::TENTH.pods as usize;
        assert!(share.contains(&is), "{is} thousandths are {shape}");
    }
}

/// How often policies use each feature.
#[derive(Default)]
struct Features(BTreeMap<&'static str, usize>);

impl Features {
    fn of(snapshot: &Snapshot) -> Self {
        let mut features = Self::default();
        for policy in snapshot.policies.values() {
            features.policy(policy);
        }
        features
    }

    fn count(&mut self, feature: &'static str, is: bool) {
        *self.0.entry(feature).or_default() += usize::from(is);
    }

    fn policy(&mut self, policy: &Policy) {
        self.count("flawed", policy.flawed);
        self.count("audited", policy.audit);
        self.count("selects all", policy.pod_selector.is_everything());
        self.count("ingress", policy.isolates_ingress && !policy.isolates_egress);
        self.count("egress", policy.isolates_egress && !policy.isolates_ingress);
        self.count("both", policy.isolates_egress && policy.isolates_ingress);
        self.selector(&policy.pod_selector);
        for direction in Direction::ALL {
            let rules = policy.rules(direction);
            self.count("denies all", rules.is_empty() && policy.isolates(direction));
            for rule in rules {
                let Grant::Traffic { peers, ports } = &rule.grant else { continue };
                self.peers(peers);
                self.ports(ports);
            }
        }
    }

    fn selector(&mut self, selector: &Selector) {
        for requirement in selector.requirements() {
            match &requirement.operator {
                Operator::In(values) if values.len() == 1 => self.count("matchLabels", true),
                Operator::In(_) => self.count("In", true),
                Operator::NotIn(_) => self.count("NotIn", true),
                Operator::Exists => self.count("Exists", true),
                Operator::DoesNotExist => self.count("DoesNotExist", true),
            }
            self.count("one pod", &*requirement.key == "statefulset.kubernetes.io/pod-name");
        }
    }

    fn peers(&mut self, peers: &Peers) {
        let Peers::Listed(peers) = peers else { return self.count("any peer", true) };
        for peer in peers {
            match &peer.selects {
                PeerSelects::Block(block) => {
                    self.count("ipBlock", true);
                    self.count("except", !block.except().is_empty());
                    self.count("IPv6 block", block.cidr().addr().is_ipv6());
                }
                PeerSelects::Pods { namespaces, pods } => {
                    self.selector(pods);
                    match namespaces {
                        NamespaceScope::Own => self.count("own namespace", true),
                        NamespaceScope::Matching(selector) => {
                            self.count("all namespaces", selector.is_everything());
                            self.count("namespaceSelector", !selector.is_everything());
                            self.selector(selector);
                        }
                    }
                }
            }
        }
    }

    fn ports(&mut self, ports: &Ports) {
        let Ports::Listed(ports) = ports else { return self.count("any port", true) };
        for port in ports {
            self.count("UDP", port.protocol == Protocol::Udp);
            self.count("SCTP", port.protocol == Protocol::Sctp);
            match &port.numbers {
                PortNumbers::Any => self.count("any number", true),
                PortNumbers::Named(_) => self.count("named port", true),
                PortNumbers::Range(range) => {
                    self.count("endPort", range.first() != range.last());
                    self.count("number", range.first() == range.last());
                }
            }
        }
    }
}

#[test]
fn policies_use_every_feature_there_is_and_none_is_flawed() {
    let Features(counts) = Features::of(&Cluster::new(Size::TENTH, 1).snapshot());
    assert_eq!(counts["flawed"], 0);
    for feature in [
        "audited",
        "selects all",
        "ingress",
        "egress",
        "both",
        "denies all",
        "matchLabels",
        "In",
        "NotIn",
        "Exists",
        "DoesNotExist",
        "one pod",
        "any peer",
        "ipBlock",
        "except",
        "IPv6 block",
        "own namespace",
        "all namespaces",
        "namespaceSelector",
        "any port",
        "UDP",
        "SCTP",
        "named port",
        "endPort",
        "number",
    ] {
        assert!(counts[feature] >= 10, "{feature}: {} of 1,000 policies", counts[feature]);
    }
}

#[test]
fn peers_and_subjects_of_policies_are_there() {
    let snapshot = Cluster::new(Size::TENTH, 1).snapshot();
    let selects = |policy: &&Policy| {
        let of_namespace =
            snapshot.pods.values().filter(|pod| pod.key.namespace == policy.key.namespace);
        of_namespace.filter(|pod| pod.is_live()).any(|pod| policy.pod_selector.matches(&pod.labels))
    };
    let selecting = snapshot.policies.values().filter(selects).count();
    assert!(selecting > 600, "{selecting} of 1,000 select a pod");
}

#[test]
fn no_two_live_pods_have_one_address_and_some_that_have_finished_have_anothers() {
    let mut cluster = small();
    for _ in 0..2_000 {
        cluster.change();
    }
    let (mut live, mut finished) = (BTreeSet::<IpAddr>::new(), BTreeSet::new());
    for pod in cluster.pods().filter(|pod| !pod.host_network) {
        for address in pod.addresses.iter() {
            if pod.is_live() {
                assert!(live.insert(address), "{address} twice");
            } else {
                finished.insert(address);
            }
        }
    }
    assert!(live.intersection(&finished).count() > 5);
}

#[test]
fn what_the_api_server_sends_is_what_an_agent_keeps() {
    let cluster = small();
    for (object, pod) in cluster.pod_objects().zip(cluster.pods()) {
        let decoded = decode::pod(&as_asked_for(object), None).unwrap();
        assert_eq!((decoded.object, decoded.diagnostics.len()), (pod, 0));
    }
    for (object, namespace) in cluster.namespace_objects().zip(cluster.namespaces()) {
        assert_eq!(decode::namespace(&object.into(), None).unwrap().object, namespace);
    }
    for (object, policy) in cluster.policy_objects().zip(cluster.policies()) {
        let decoded = decode::policy(&object.into(), None).unwrap();
        assert_eq!((decoded.object, decoded.diagnostics.len()), (policy, 0));
    }
}

#[test]
fn a_pod_is_as_long_on_the_wire_as_pods_are() {
    let cluster = small();
    let total: usize = cluster.pod_objects().map(|object| object.to_string().len()).sum();
    let mean = total / cluster.size().pods as usize;
    assert!((5_000..9_000).contains(&mean), "{mean} bytes");
}

#[test]
fn a_workload_is_known_by_what_owns_its_pods() {
    let mut kinds = BTreeSet::new();
    for object in small().pod_objects() {
        let pod = decode::pod(&object.into(), None).unwrap().object;
        kinds.insert(pod.workload.unwrap().kind.to_string());
    }
    let wanted = ["DaemonSet", "Deployment", "Job", "StatefulSet"];
    assert_eq!(kinds, wanted.map(str::to_owned).into());
}

fn put(snapshot: &mut Snapshot, subject: Subject) {
    match subject {
        Subject::Pod(pod) => drop(snapshot.pods.insert(pod.key.clone(), *pod)),
        Subject::PodGone(key) => assert!(snapshot.pods.remove(&key).is_some(), "{key}"),
        Subject::Namespace(namespace) => {
            snapshot.namespaces.insert(namespace.name().clone(), namespace);
        }
        Subject::Policy(policy) => drop(snapshot.policies.insert(policy.key.clone(), *policy)),
        Subject::PolicyGone(key) => assert!(snapshot.policies.remove(&key).is_some(), "{key}"),
    }
}

#[test]
fn changes_lead_from_one_state_of_the_cluster_to_the_next() {
    let mut cluster = small();
    let mut snapshot = cluster.snapshot();
    let mut kinds = BTreeMap::<What, usize>::new();
    for number in 0..3_000 {
        let change = cluster.change();
        *kinds.entry(change.what).or_default() += 1;
        if let Subject::Pod(pod) = &change.subject {
            let decoded = decode::pod(&as_asked_for(change.object().clone()), None).unwrap();
            assert_eq!(decoded.object, **pod);
            if change.what == What::StatusOnly {
                assert_eq!(snapshot.pods.get(&pod.key), Some(&**pod));
            } else if change.what == What::PodLabel {
                assert_ne!(snapshot.pods[&pod.key].labels, pod.labels);
            }
        }
        put(&mut snapshot, change.subject);
        if number % 500 == 0 {
            assert_eq!(snapshot, cluster.snapshot(), "after {number}");
        }
    }
    assert_eq!(snapshot, cluster.snapshot());
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    assert!(kinds.values().all(|count| *count >= 4), "{kinds:?}");
    let pods = snapshot.pods.len();
    assert!((500..700).contains(&pods), "{pods} pods are left of 600");
}

#[test]
fn a_pod_comes_and_goes_in_three_steps_each() {
    let mut cluster = small();
    let mut steps = |what| {
        let change = (0..3).map(|_| cluster.change_of(what).subject);
        change
            .map(|subject| match subject {
                Subject::Pod(pod) => {
                    (Some(pod.phase), pod.node.is_some(), !pod.addresses.is_empty())
                }
                _ => (None, false, false),
            })
            .collect::<Vec<_>>()
    };
    let coming = [
        (Some(Phase::Pending), false, false),
        (Some(Phase::Pending), true, false),
        (Some(Phase::Running), true, true),
    ];
    assert_eq!(steps(What::PodComes), coming);
    let going = [
        (Some(Phase::Running), true, true),
        (Some(Phase::Finished), true, true),
        (None, false, false),
    ];
    assert_eq!(steps(What::PodGoes), going);
}

#[test]
fn the_largest_namespace_of_the_largest_cluster_has_three_thousand_live_pods() {
    let cluster = Cluster::new(Size::ENVELOPE, 1);
    let largest = cluster.largest_namespace();
    let of_largest = cluster.pods.iter().filter(|pod| {
        let namespace = cluster.workload(pod).namespace;
        namespace == namespace::LARGEST && pod.phase == Phase::Running
    });
    assert!(of_largest.count() >= 3_000, "{largest}");
}
