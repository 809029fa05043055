//! Standing connections that policy has come to deny.
//!
//! The rules judge only the first packet of a connection. So after a change the connections of local
//! pods are read and judged by `evaluate`, on their ends after translation, and those that a local
//! pod's half denies are forgotten by the kernel: their next packet is judged as a first one. That
//! alone does not end TCP, whose next segment may come from the other side; the chain for mid-stream
//! segments sees to that. A packet in flight may confirm a connection under the old rules just after
//! the reading, so everything is done once more a moment later.
//!
//! An address that has changed its owner, or has none any more, loses all of its connections: they
//! were another pod's. Connections of the node itself are never touched, nor are those that belong to
//! another connection (RELATED), which was judged. Where no policy isolates a local end there is
//! nothing to judge.
//!
//! On failure connections live on that should not; the caller says so and tries again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Age, Pod, Snapshot};
use policy_compiler::config::Hairpin;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::{NodeName, ObjectKey};
use policy_compiler::policy::Direction;
use policy_compiler::verdict::{Decision, Half};

use crate::dataplane::conntrack::{ConntrackError, Entry, Table};

/// How long after a change everything is done once more.
const AGAIN: Duration = Duration::from_millis(100);

/// Cuts connections, and remembers whose addresses were whose.
#[derive(Debug)]
pub struct Cutter {
    node: NodeName,
    hairpin: Hairpin,
    table: Option<Table>,
    /// The local addresses and their owners, as at the last cut.
    owners: BTreeMap<IpAddr, (ObjectKey, Age)>,
    /// Addresses whose connections are all another's.
    lost: BTreeSet<IpAddr>,
    again: Option<Instant>,
}

impl Cutter {
    /// For the pods of `node`; nothing is opened yet.
    #[must_use]
    pub fn new(node: NodeName, hairpin: Hairpin) -> Self {
        Self {
            node,
            hairpin,
            table: None,
            owners: BTreeMap::new(),
            lost: BTreeSet::new(),
            again: None,
        }
    }

    /// Looks whose addresses are whose, and says whether some have lost their owner since.
    pub fn notice(&mut self, objects: &Snapshot) -> bool {
        let owners = owners(objects, &self.node);
        let gone =
            self.owners.iter().filter(|(address, owner)| owners.get(address) != Some(*owner));
        let gone: Vec<IpAddr> = gone.map(|(address, _)| *address).collect();
        self.owners = owners;
        self.lost.extend(&gone);
        !gone.is_empty()
    }

    /// Cuts what `objects` deny, after the kernel's rules have come to deny it. Says how many
    /// connections were forgotten.
    ///
    /// # Errors
    /// Where the kernel's connections cannot be read or forgotten; the addresses that were to lose
    /// theirs are remembered.
    pub fn cut(&mut self, objects: &Snapshot) -> Result<usize, ConntrackError> {
        self.notice(objects);
        self.again = Some(Instant::now() + AGAIN);
        let forgotten = self.pass(objects)?;
        // A newcomer keeps what it has opened since.
        self.lost.retain(|address| !self.owners.contains_key(address));
        Ok(forgotten)
    }

    /// When it is time for the second pass.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.again
    }

    /// Cuts once more what the first pass may have missed.
    ///
    /// # Errors
    /// As [`Cutter::cut`].
    pub fn cut_again(&mut self, objects: &Snapshot) -> Result<usize, ConntrackError> {
        self.again = None;
        let forgotten = self.pass(objects)?;
        self.lost.clear();
        Ok(forgotten)
    }

    fn pass(&mut self, objects: &Snapshot) -> Result<usize, ConntrackError> {
        if self.owners.is_empty() && self.lost.is_empty() {
            return Ok(0);
        }
        let evaluator = Evaluator::new(objects).with_hairpin(self.hairpin);
        let table = match &mut self.table {
            Some(table) => table,
            none => none.insert(Table::open()?),
        };
        let local = self.owners.keys().copied().collect();
        let own = own_addresses()?;
        let judge = Judge { evaluator: &evaluator, node: &self.node, local, own };
        let lost = of_others(&self.lost, &judge.own);
        let is_lost = |entry: &Entry| {
            [entry.from, entry.sent_to, entry.to].iter().any(|end| lost.contains(end))
        };
        let (senders, receivers) =
            (judge.isolated(Direction::Egress), judge.isolated(Direction::Ingress));
        let is_policed =
            |entry: &Entry| senders.contains(&entry.from) || receivers.contains(&entry.to);
        let mut verdicts: BTreeMap<Question, bool> = BTreeMap::new();
        let mut condemned = Vec::new();
        for family in Family::ALL {
            let read = table.read(family, |entry| {
                let mut denied = || {
                    let known = verdicts.entry(Question::of(&entry));
                    *known.or_insert_with(|| judge.denies(&entry))
                };
                if is_lost(&entry) || (is_policed(&entry) && denied()) {
                    condemned.push(entry);
                }
            });
            if let Err(error) = read {
                self.table = None;
                return Err(error);
            }
        }
        let mut forgotten = 0;
        for entry in &condemned {
            match table.forget(entry) {
                Ok(true) => forgotten += 1,
                Ok(false) => {}
                Err(error) => {
                    self.table = None;
                    return Err(error);
                }
            }
        }
        Ok(forgotten)
    }
}

/// What a verdict depends on: connections that differ in the opener's port alone share one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    from: IpAddr,
    sent_to: IpAddr,
    to: IpAddr,
    traffic: Traffic,
    related: bool,
}

impl Question {
    fn of(entry: &Entry) -> Self {
        let Entry { from, sent_to, to, traffic, related, .. } = *entry;
        Self { from, sent_to, to, traffic, related }
    }
}

struct Judge<'a> {
    evaluator: &'a Evaluator<'a>,
    node: &'a NodeName,
    /// The addresses of this node's pods.
    local: BTreeSet<IpAddr>,
    /// The addresses of this network namespace.
    own: BTreeSet<IpAddr>,
}

impl Judge<'_> {
    fn denies(&self, entry: &Entry) -> bool {
        let Entry { from, sent_to, to, traffic, related, .. } = *entry;
        if related || self.own.contains(&from) || self.own.contains(&to) {
            return false;
        }
        let wire = if from == to && sent_to != to { Wire::Translated } else { Wire::Routed };
        let family = if from.is_ipv4() { Family::V4 } else { Family::V6 };
        let ends = (End::Address(from), End::Address(to));
        let verdict =
            self.evaluator.verdict(&Flow { from: ends.0, to: ends.1, family, traffic, wire });
        let denies = |half: &Half, subject: IpAddr| {
            half.decision == Decision::Denied && self.is_local(subject)
        };
        denies(&verdict.egress, from) || denies(&verdict.ingress, to)
    }

    /// The addresses of the pods of this node that some policy isolates: a verdict costs more than a
    /// look at these, and of the others none can deny.
    fn isolated(&self, direction: Direction) -> BTreeSet<IpAddr> {
        let pods = self.local.iter().copied().filter(|address| {
            let pod = self.evaluator.owners(*address).first();
            pod.is_some_and(|pod| !self.evaluator.isolating(pod, direction).is_empty())
        });
        pods.collect()
    }

    fn is_local(&self, address: IpAddr) -> bool {
        let owner = self.evaluator.owners(address).first();
        owner.is_some_and(|pod| pod.node.as_ref() == Some(self.node))
    }
}

/// The addresses of this node's live pods, each with the newest that claims it.
fn owners(objects: &Snapshot, node: &NodeName) -> BTreeMap<IpAddr, (ObjectKey, Age)> {
    let is_local = |pod: &&Pod| pod.is_live() && pod.node.as_ref() == Some(node);
    let mut owners: BTreeMap<IpAddr, (ObjectKey, Age)> = BTreeMap::new();
    for pod in objects.pods.values().filter(is_local) {
        for address in pod.addresses.iter() {
            let older = owners.get(&address).is_some_and(|(_, age)| pod.age < *age);
            if !older {
                owners.insert(address, (pod.key.clone(), pod.age.clone()));
            }
        }
    }
    owners
}

/// The addresses that were pods': one that this network namespace has is the node's, whatever pod
/// claimed it.
fn of_others(lost: &BTreeSet<IpAddr>, own: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    lost.difference(own).copied().collect()
}

fn own_addresses() -> Result<BTreeSet<IpAddr>, ConntrackError> {
    let interfaces = getifaddrs().map_err(|errno| ConntrackError::Socket(errno.into()))?;
    Ok(interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::decode;
    use policy_compiler::document::Node;
    use serde_json::json;

    fn node() -> NodeName {
        NodeName::new("n1").unwrap()
    }

    /// `web` at 10.0.0.1 and `db` at 10.0.0.2 on this node, and a policy that isolates one of them.
    fn cluster(isolates: &str, direction: &str) -> Snapshot {
        let pods = [("web", "10.0.0.1", "n1"), ("db", "10.0.0.2", "n1"), ("far", "10.0.1.1", "n2")];
        let pods = pods.into_iter().map(|(name, address, node)| {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": "x", "name": name, "labels": {"app": name}},
                "spec": {"nodeName": node, "containers": []},
                "status": {"phase": "Running", "podIP": address},
            });
            let pod = decode::pod(&Node::from(pod), None).unwrap().object;
            (pod.key.clone(), pod)
        });
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "x", "name": "deny"},
            "spec": {"podSelector": {"matchLabels": {"app": isolates}}, "policyTypes": [direction]},
        });
        let policy = decode::policy(&Node::from(policy), None).unwrap().object;
        let policies = [(policy.key.clone(), policy)].into();
        Snapshot { pods: pods.collect(), policies, ..Snapshot::default() }
    }

    fn isolated(objects: &Snapshot) -> [Vec<String>; 2] {
        let evaluator = Evaluator::new(objects);
        let local = owners(objects, &node()).into_keys().collect();
        let judge =
            Judge { evaluator: &evaluator, node: &node(), local, own: own_addresses().unwrap() };
        [Direction::Egress, Direction::Ingress]
            .map(|direction| judge.isolated(direction).iter().map(IpAddr::to_string).collect())
    }

    #[test]
    fn only_connections_of_isolated_pods_of_this_node_are_judged() {
        let none = || Vec::<String>::new();
        assert_eq!(isolated(&cluster("web", "Ingress")), [none(), vec!["10.0.0.1".to_owned()]]);
        assert_eq!(isolated(&cluster("db", "Egress")), [vec!["10.0.0.2".to_owned()], none()]);
        assert_eq!(isolated(&cluster("far", "Ingress")), [none(), none()]);
    }

    #[test]
    fn the_nodes_own_addresses_are_nobodys_to_lose() {
        let own = own_addresses().unwrap();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let pod: IpAddr = "10.0.0.1".parse().unwrap();
        let own = own.into_iter().chain([loopback]).collect();
        assert_eq!(of_others(&[loopback, pod].into(), &own), [pod].into());
    }
}
