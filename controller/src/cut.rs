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
//! What is judged is judged by the part of the cluster that it is about: however many pods there are
//! elsewhere, a pass looks at those of this node and at those that its connections are with.
//!
//! Whoever runs a pod decides how many connections it has and how much there is to read in its
//! policies. So a pass judges for so long and no longer, and the next goes on where it stopped.
//!
//! On failure connections live on that should not; the caller says so and tries again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use policy_compiler::cidr::Family;
use policy_compiler::cluster::Age;
use policy_compiler::config::Hairpin;
use policy_compiler::engine::Engine;
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::{NodeName, ObjectKey};
use policy_compiler::policy::Direction;
use policy_compiler::verdict::{Decision, Half};

use crate::dataplane::conntrack::{ConntrackError, Entry, Table};
use crate::excerpt::excerpt;

/// How long after a change everything is done once more.
const AGAIN: Duration = Duration::from_millis(100);
/// How long one pass may judge: the loop has others to look after.
const JUDGING: Duration = Duration::from_millis(200);

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
    round: Round,
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
            round: Round::default(),
        }
    }

    /// Looks whose addresses are whose, and says whether some have lost their owner since.
    pub fn notice(&mut self, engine: &Engine) -> bool {
        let owners = owners(engine);
        let gone =
            self.owners.iter().filter(|(address, owner)| owners.get(address) != Some(*owner));
        let gone: Vec<IpAddr> = gone.map(|(address, _)| *address).collect();
        self.owners = owners;
        self.lost.extend(&gone);
        !gone.is_empty()
    }

    /// Cuts what the objects deny, after the kernel's rules have come to deny it. Says how many
    /// connections were forgotten.
    ///
    /// # Errors
    /// Where the kernel's connections cannot be read or forgotten; the addresses that were to lose
    /// theirs are remembered.
    pub fn cut(&mut self, engine: &Engine) -> Result<usize, ConntrackError> {
        self.notice(engine);
        self.again = Some(Instant::now() + AGAIN);
        self.round.begin();
        let forgotten = self.pass(engine)?;
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
    pub fn cut_again(&mut self, engine: &Engine) -> Result<usize, ConntrackError> {
        self.again = None;
        self.round.begin();
        let forgotten = self.pass(engine)?;
        self.lost.clear();
        Ok(forgotten)
    }

    /// Whether there was no time to judge all since it was last cut.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.round.next.is_some()
    }

    /// Goes on where there was no more time.
    ///
    /// # Errors
    /// As [`Cutter::cut`].
    pub fn go_on(&mut self, engine: &Engine) -> Result<usize, ConntrackError> {
        self.pass(engine)
    }

    fn pass(&mut self, engine: &Engine) -> Result<usize, ConntrackError> {
        if self.owners.is_empty() && self.lost.is_empty() {
            self.round = Round::default();
            return Ok(0);
        }
        let table = match &mut self.table {
            Some(table) => table,
            none => none.insert(Table::open()?),
        };
        let local: BTreeSet<IpAddr> = self.owners.keys().copied().collect();
        let own = own_addresses()?;
        let lost = of_others(&self.lost, &own);
        let is_lost = |entry: &Entry| {
            [entry.from, entry.sent_to, entry.to].iter().any(|end| lost.contains(end))
        };
        let (senders, receivers) = isolated(engine, &local);
        let is_policed =
            |entry: &Entry| senders.contains(&entry.from) || receivers.contains(&entry.to);
        let mut condemned = Vec::new();
        let mut questions = BTreeSet::new();
        let mut work = || {
            read(table, |entry| {
                if is_lost(&entry) {
                    condemned.push(entry);
                } else if is_policed(&entry) {
                    questions.insert(Question::of(&entry));
                }
            })?;
            let objects = excerpt(engine, questions.iter().flat_map(|q| [q.from, q.to]));
            let evaluator = Evaluator::new(&objects).with_hairpin(self.hairpin);
            let judge = Judge { evaluator: &evaluator, node: &self.node, own: &own };
            let until = Instant::now() + JUDGING;
            let in_time = || Instant::now() < until;
            let denied = self.round.judge(&questions, in_time, |question| judge.denies(question));
            if !denied.is_empty() {
                // They are read once more rather than all kept: there may be very many.
                read(table, |entry| {
                    if denied.contains(&Question::of(&entry)) {
                        condemned.push(entry);
                    }
                })?;
            }
            forget(table, &condemned)
        };
        let forgotten = work();
        if forgotten.is_err() {
            self.table = None;
        }
        forgotten
    }
}

/// Shows each connection of both families to `each`.
fn read(table: &mut Table, mut each: impl FnMut(Entry)) -> Result<(), ConntrackError> {
    Family::ALL.into_iter().try_for_each(|family| table.read(family, &mut each))
}

/// Forgets connections, and says how many were still there.
fn forget(table: &mut Table, condemned: &[Entry]) -> Result<usize, ConntrackError> {
    let mut forgotten = 0;
    for entry in condemned {
        forgotten += usize::from(table.forget(entry)?);
    }
    Ok(forgotten)
}

/// How far judging has come, where there is no time for all at once. Each pass goes on where the one
/// before it stopped, even if everything is to be judged anew: whatever comes in meanwhile, every
/// question has its turn.
#[derive(Debug, Default)]
struct Round {
    /// With which question the round began; the first of all where none.
    began: Option<Question>,
    /// With which it goes on; none where all were judged.
    next: Option<Question>,
}

impl Round {
    /// All are to be judged anew.
    fn begin(&mut self) {
        self.began.clone_from(&self.next);
    }

    /// Judges those whose turn it is while there is time, one at least; the ones that are denied.
    fn judge(
        &mut self,
        questions: &BTreeSet<Question>,
        in_time: impl Fn() -> bool,
        denies: impl Fn(&Question) -> bool,
    ) -> BTreeSet<Question> {
        let (from, end) = (self.next.take(), self.began.take());
        let has_wrapped = from.is_some() && end.is_some() && from < end;
        let first = questions.iter().filter(|q| {
            from.as_ref().is_none_or(|from| *q >= from)
                && !(has_wrapped && end.as_ref().is_some_and(|end| *q >= end))
        });
        let wrapped = questions
            .iter()
            .filter(|q| !has_wrapped && from.is_some() && end.as_ref().is_some_and(|end| *q < end));
        let mut condemned = BTreeSet::new();
        for (count, question) in first.chain(wrapped).enumerate() {
            if count > 0 && !in_time() {
                self.next = Some(question.clone());
                self.began.clone_from(&end);
                break;
            }
            if denies(question) {
                condemned.insert(question.clone());
            }
        }
        condemned
    }
}

/// What a verdict depends on: connections that differ in the opener's port alone share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The addresses of this network namespace.
    own: &'a BTreeSet<IpAddr>,
}

impl Judge<'_> {
    fn denies(&self, question: &Question) -> bool {
        let Question { from, sent_to, to, traffic, related } = *question;
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

    fn is_local(&self, address: IpAddr) -> bool {
        let owner = self.evaluator.owners(address).first();
        owner.is_some_and(|pod| pod.node.as_ref() == Some(self.node))
    }
}

/// The addresses of the pods of this node that some policy isolates for egress, and for ingress: a
/// verdict costs more than a look at these, and of the others none can deny.
fn isolated(engine: &Engine, local: &BTreeSet<IpAddr>) -> (BTreeSet<IpAddr>, BTreeSet<IpAddr>) {
    let objects = excerpt(engine, local.iter().copied());
    let evaluator = Evaluator::new(&objects);
    let isolated = |direction: Direction| {
        let addresses = local.iter().copied().filter(|address| {
            let pod = evaluator.owners(*address).first();
            pod.is_some_and(|pod| !evaluator.isolating(pod, direction).is_empty())
        });
        addresses.collect()
    };
    (isolated(Direction::Egress), isolated(Direction::Ingress))
}

/// The addresses of this node's live pods, each with the newest that claims it.
fn owners(engine: &Engine) -> BTreeMap<IpAddr, (ObjectKey, Age)> {
    let mut owners: BTreeMap<IpAddr, (ObjectKey, Age)> = BTreeMap::new();
    for pod in engine.local_pods() {
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
    use crate::dataplane::conntrack::Wire;
    use crate::excerpt::tests::engine_of;
    use policy_compiler::cluster::Snapshot;
    use policy_compiler::decode;
    use policy_compiler::document::Node;
    use policy_compiler::update::Event;
    use serde_json::json;
    use std::io;

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

    fn isolated(objects: Snapshot) -> [Vec<String>; 2] {
        let engine = engine_of("n1", objects);
        let local = owners(&engine).into_keys().collect();
        let (senders, receivers) = super::isolated(&engine, &local);
        [senders, receivers].map(|addresses| addresses.iter().map(IpAddr::to_string).collect())
    }

    #[test]
    fn only_connections_of_isolated_pods_of_this_node_are_judged() {
        let none = || Vec::<String>::new();
        assert_eq!(isolated(cluster("web", "Ingress")), [none(), vec!["10.0.0.1".to_owned()]]);
        assert_eq!(isolated(cluster("db", "Egress")), [vec!["10.0.0.2".to_owned()], none()]);
        assert_eq!(isolated(cluster("far", "Ingress")), [none(), none()]);
    }

    fn question(port: u16) -> Question {
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let traffic = Traffic::Port { protocol: policy_compiler::port::Protocol::Udp, port };
        Question { from: address, sent_to: address, to: address, traffic, related: false }
    }

    /// Judges so many in one pass: which, and whether that was the end of the round.
    fn pass(round: &mut Round, all: &BTreeSet<Question>, most: usize) -> (Vec<u16>, bool) {
        let judged = std::cell::RefCell::new(Vec::new());
        let in_time = || judged.borrow().len() < most;
        let denied = round.judge(all, in_time, |question| {
            let Traffic::Port { port, .. } = question.traffic else { return false };
            judged.borrow_mut().push(port);
            port == 4
        });
        let judged = judged.into_inner();
        assert_eq!(denied.contains(&question(4)), judged.contains(&4));
        (judged, round.next.is_none())
    }

    /// A kernel that has no room for its answers.
    struct Full;

    impl Wire for Full {
        fn send(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn receive(&mut self) -> io::Result<Vec<u8>> {
            Err(io::Error::from_raw_os_error(nix::libc::ENOBUFS))
        }
    }

    #[test]
    fn where_connections_cannot_be_read_it_is_remembered_whose_are_to_go() {
        let mut engine = engine_of("n1", cluster("db", "Ingress"));
        let mut cutter = Cutter::new(node(), Hairpin::default());
        cutter.notice(&engine);
        engine.apply(Event::PodDeleted(ObjectKey::new("x", "web").unwrap()));
        cutter.table = Some(Table::over(Box::new(Full)));
        assert!(matches!(cutter.cut(&engine), Err(ConntrackError::Socket(_))));
        assert_eq!(cutter.lost, ["10.0.0.1".parse().unwrap()].into());
        assert!(cutter.table.is_none(), "the next reading is over another socket");
    }

    #[test]
    fn where_there_is_no_time_for_all_each_has_its_turn() {
        let all: BTreeSet<Question> = (0..7).map(question).collect();
        let mut round = Round::default();
        round.begin();
        assert_eq!(pass(&mut round, &all, 9), ((0..7).collect(), true));
        round.begin();
        assert_eq!(pass(&mut round, &all, 3), (vec![0, 1, 2], false));
        assert_eq!(pass(&mut round, &all, 3), (vec![3, 4, 5], false));
        assert_eq!(pass(&mut round, &all, 3), (vec![6], true));
    }

    #[test]
    fn a_round_that_begins_anew_goes_on_where_the_last_stopped_and_comes_around() {
        let all: BTreeSet<Question> = (0..7).map(question).collect();
        let mut round = Round::default();
        round.begin();
        assert_eq!(pass(&mut round, &all, 3), (vec![0, 1, 2], false));
        round.begin();
        assert_eq!(pass(&mut round, &all, 3), (vec![3, 4, 5], false));
        assert_eq!(pass(&mut round, &all, 3), (vec![6, 0, 1], false));
        assert_eq!(pass(&mut round, &all, 3), (vec![2], true));
        round.begin();
        assert_eq!(pass(&mut round, &all, 0), (vec![0], false), "one at least");
        assert_eq!(pass(&mut round, &BTreeSet::new(), 3), (vec![], true), "they are gone");
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
