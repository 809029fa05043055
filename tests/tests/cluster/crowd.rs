//! A crowd: pods that are objects alone, on twenty nodes of which two exist, and policies over them
//! that change all the time.
//!
//! What happens is decided by a seed. Nothing of it may let `x/intruder` into the fort, nor keep
//! `x/friend` out: the constant policies see to that, and everything else selects by labels that
//! neither of them ever has.

use std::time::{Duration, Instant};

use policy_tests::cluster::Cluster;
use policy_tests::cluster::client::Call;
use policy_tests::cluster::network::pod_addresses;
use policy_tests::cluster::objects::{
    PodPlan, create_namespace, create_policy, label_pod, pod_status, pods, policies, split,
};
use serde_json::{Value, json};

/// On how many nodes pods are.
const NODES: usize = 20;
/// In how many namespaces.
const NAMESPACES: usize = 10;
/// How many values a label has.
const TIERS: u64 = 12;

/// Numbers that look random and follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64)).unwrap()
    }
}

fn running(plan: &PodPlan) -> Call {
    plan.running(pod_addresses(plan.node, plan.host.unwrap()))
}

/// The crowd as it is now.
pub(crate) struct Crowd {
    dice: Dice,
    pods: Vec<PodPlan>,
    policies: Vec<String>,
    /// Those that one of the changes under way is about.
    touched: Vec<String>,
    made: usize,
}

impl Crowd {
    /// Makes so many pods and policies.
    pub(crate) fn gather(cluster: &Cluster, dice: Dice, pods: usize, policies: usize) -> Self {
        let mut crowd =
            Self { dice, pods: Vec::new(), policies: Vec::new(), touched: Vec::new(), made: 0 };
        let names: Vec<Call> = (0..NAMESPACES)
            .map(|n| create_namespace(&format!("n{n}"), &[("team", &format!("t{}", n % 4))]))
            .collect();
        cluster.client().all(names).unwrap();
        let (mut create, mut status) = (Vec::new(), Vec::new());
        for _ in 0..pods {
            let plan = crowd.pod();
            create.push(plan.create(&format!("node-{}", plan.node)));
            status.push(running(&plan));
            crowd.pods.push(plan);
        }
        cluster.client().all(create).unwrap();
        cluster.client().all(status).unwrap();
        let create = (0..policies).map(|_| crowd.new_policy()).collect();
        cluster.client().all(create).unwrap();
        crowd.policies.append(&mut crowd.touched);
        crowd
    }

    /// The next pod. Its place among all says its address.
    fn pod(&mut self) -> PodPlan {
        let number = self.made;
        self.made += 1;
        let namespace = number % NAMESPACES;
        let tier = self.dice.roll(TIERS);
        let host = u8::try_from(20 + number / NODES).unwrap();
        PodPlan::new(&format!("n{namespace}/p{number}"), number % NODES)
            .label("app", "crowd")
            .label("tier", &format!("t{tier}"))
            .port("web", 8000 + u16::try_from(tier).unwrap())
            .host(host)
    }

    fn new_policy(&mut self) -> Call {
        let number = self.made;
        self.made += 1;
        // One in six is about the fort itself.
        let namespace = match self.dice.roll(6) {
            0 => "fort".to_owned(),
            _ => format!("n{}", self.dice.roll(NAMESPACES as u64)),
        };
        let key = format!("{namespace}/policy{number}");
        self.touched.push(key.clone());
        let spec = self.spec(&namespace);
        create_policy(&key, spec)
    }

    /// A policy that lets in some of the crowd.
    fn spec(&mut self, namespace: &str) -> Value {
        let tier = |dice: &mut Dice| format!("t{}", dice.roll(TIERS));
        let team = format!("t{}", self.dice.roll(4));
        let peer = match self.dice.roll(3) {
            0 => json!({"podSelector": {"matchLabels": {"tier": tier(&mut self.dice)}}}),
            1 => json!({
                "namespaceSelector": {"matchLabels": {"team": team}},
                "podSelector": {"matchExpressions": [{
                    "key": "tier", "operator": "In",
                    "values": [tier(&mut self.dice), tier(&mut self.dice)],
                }]},
            }),
            _ => json!({"ipBlock": {"cidr": format!("10.244.{}.128/25", 3 + self.dice.roll(17))}}),
        };
        let port = match self.dice.roll(3) {
            0 => json!([]),
            1 => json!([{"port": "web"}]),
            _ => json!([{"port": 7000 + self.dice.roll(3)}]),
        };
        let subject = if namespace == "fort" {
            json!({})
        } else {
            json!({"matchLabels": {"tier": tier(&mut self.dice)}})
        };
        json!({
            "podSelector": subject, "policyTypes": ["Ingress"],
            "ingress": [{"from": [peer], "ports": port}],
        })
    }

    /// Some changes, to be made all at once.
    fn changes(&mut self) -> Vec<Call> {
        (0..8).flat_map(|_| self.change()).collect()
    }

    fn change(&mut self) -> Vec<Call> {
        let (pod, policy) =
            (self.dice.index(self.pods.len()), self.dice.index(self.policies.len()));
        match self.dice.roll(10) {
            0..4 => {
                let tier = format!("t{}", self.dice.roll(TIERS));
                vec![label_pod(&self.pods[pod].key, json!({"tier": tier}))]
            }
            4..7 => {
                let key = self.policies.swap_remove(policy);
                let (namespace, name) = split(&key);
                self.touched.push(key.clone());
                vec![Call::Merge {
                    collection: policies(namespace),
                    name: name.to_owned(),
                    subresource: None,
                    patch: json!({"spec": self.spec(namespace)}),
                }]
            }
            7 => {
                let namespace = format!("n{}", self.dice.roll(NAMESPACES as u64));
                let patch =
                    json!({"metadata": {"labels": {"team": format!("t{}", self.dice.roll(4))}}});
                let (collection, name) = ("/api/v1/namespaces".to_owned(), namespace);
                vec![Call::Merge { collection, name, subresource: None, patch }]
            }
            8 => {
                let key = self.policies.swap_remove(policy);
                let (namespace, name) = split(&key);
                let (collection, name) = (policies(namespace), name.to_owned());
                vec![Call::Delete { collection, name }, self.new_policy()]
            }
            _ => vec![pod_status(&self.pods[pod].key, json!({"phase": "Running"}))],
        }
    }

    /// Replaces a pod by another one with its address, in order.
    fn replace(&mut self, cluster: &Cluster) {
        let index = self.dice.index(self.pods.len());
        let old = self.pods.swap_remove(index);
        let (namespace, name) = split(&old.key);
        let (collection, name) = (pods(namespace), name.to_owned());
        cluster.client().call(Call::Delete { collection, name }).unwrap();
        let tier = self.dice.roll(TIERS);
        let number = self.made;
        self.made += 1;
        let new = PodPlan { key: format!("{namespace}/p{number}"), ..old.clone() }
            .label("tier", &format!("t{tier}"));
        cluster.client().call(new.create(&format!("node-{}", new.node))).unwrap();
        cluster.client().call(running(&new)).unwrap();
        self.pods.push(new);
    }

    /// Changes things for so long, and says how many requests that were.
    pub(crate) fn churn(&mut self, cluster: &Cluster, time: Duration) -> usize {
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < time {
            let changes = self.changes();
            count += changes.len() + 3;
            cluster.client().all(changes).unwrap();
            self.policies.append(&mut self.touched);
            self.replace(cluster);
        }
        count
    }
}
