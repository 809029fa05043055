//! PC025: a connection needs the egress of its source and the ingress of its destination, so that what
//! one side allows and the other denies does not pass.
//!
//! `evaluate` is asked about every pair of a pod that the rule is for and one that it means, as far as a
//! rule of the other side may mean the pair, on every port that could make a difference. Only where
//! nothing at all passes is that a finding: what a rule for many opens towards some may well be denied by
//! others of them. Where an address is missing, or the pairs are too many, it is left open.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::cidr::Family;
use crate::cluster::Pod;
use crate::flow::{End, Flow, Traffic, Wire};
use crate::lint::Found;
use crate::lint::ports;
use crate::lint::rule::Rule;
use crate::lint::scene::{self, Class, Listed, Scene, rules_of};
use crate::lint::words::{list, peer};
use crate::name::ObjectKey;
use crate::policy::{Direction, Peer, PeerSelects, Peers, Policy, PortMatch, PortNumbers, Ports};
use crate::port::Protocol;
use crate::verdict::Decision;

/// How many flows are asked of one peer before it is left open.
const FLOWS: usize = 5_000;
/// How many are asked in all.
const ALL_FLOWS: usize = 100_000;

/// Peers with whom nothing passes, whatever this side allows.
pub(super) fn one_sided(scene: &Scene<'_>, found: &mut Found) {
    let mut other_side = OtherSide::new(scene);
    for rule in scene.rules() {
        for (index, peer) in rule.listed_peers().iter().enumerate() {
            if let PeerSelects::Pods { .. } = &peer.selects {
                let field = rule.peer_field(index);
                match other_side.passes(&rule, &peer.selects) {
                    Answer::Passes | Answer::Nobody => {}
                    Answer::Unknown(reason) => {
                        found.lacks(Rule::OneSided, reason, scene.spot(rule.policy, &field));
                    }
                    Answer::Denied(by) => report(scene, &rule, (&field, &peer.selects), &by, found),
                }
            }
        }
    }
}

fn report(
    scene: &Scene<'_>,
    rule: &Listed<'_>,
    (field, selects): (&str, &PeerSelects),
    by: &BTreeSet<&ObjectKey>,
    found: &mut Found,
) {
    let own = &rule.policy.key.namespace;
    let (side, verb) = match rule.direction {
        Direction::Ingress => ("egress", "send"),
        Direction::Egress => ("ingress", "accept"),
    };
    let policies = list(by.iter().map(ToString::to_string));
    let verb_of = if by.len() == 1 { "isolates" } else { "isolate" };
    let message = format!(
        "nothing passes although this allows it: {policies} {verb_of} the {side} of {}, and no rule lets them \
         {verb} it",
        peer(selects, own)
    );
    let preposition = if rule.direction == Direction::Ingress { "to" } else { "from" };
    let fix = format!(
        "allow the same {side} {preposition} {} there, or remove this peer",
        super::subject_words(scene, rule.policy)
    );
    let mut finding = scene.finding(Rule::OneSided, rule.policy, field, message, fix);
    for policy in by.iter().filter_map(|key| scene.snapshot.policies.get(*key)) {
        finding.related.push(crate::lint::finding::Related {
            location: policy.location.clone(),
            message: format!("isolates the {side}"),
        });
    }
    found.add(finding);
}

/// Whether anything of a peer's passes.
enum Answer<'a> {
    Passes,
    /// There is no pair of pods, or no port.
    Nobody,
    Unknown(&'static str),
    Denied(BTreeSet<&'a ObjectKey>),
}

/// What the policies of the other side say.
struct OtherSide<'s, 'a> {
    scene: &'s Scene<'a>,
    isolating: BTreeMap<(usize, Direction), Rc<Vec<&'a Policy>>>,
    meant: BTreeMap<(&'a ObjectKey, Direction, usize), Rc<Meant>>,
    left: usize,
}

/// Policies, and the classes that just these isolate.
type Group<'a> = (Rc<Vec<&'a Policy>>, Vec<usize>);

/// Whom a rule of the other side may mean.
struct Meant {
    /// Everybody.
    any: bool,
    /// These classes, as far as is known; for blocks those without addresses as well.
    classes: Vec<usize>,
    /// Whether addresses decide.
    by_address: bool,
}

impl<'a> OtherSide<'_, 'a> {
    fn new<'s>(scene: &'s Scene<'a>) -> OtherSide<'s, 'a> {
        OtherSide { scene, isolating: BTreeMap::new(), meant: BTreeMap::new(), left: ALL_FLOWS }
    }

    fn isolating(&mut self, class: usize, direction: Direction) -> Rc<Vec<&'a Policy>> {
        let scene = self.scene;
        let policies = || Rc::new(scene.evaluator.isolating(scene.classes[class].one(), direction));
        self.isolating.entry((class, direction)).or_insert_with(policies).clone()
    }

    fn meant(&mut self, rule: &Listed<'a>) -> Rc<Meant> {
        let scene = self.scene;
        let meant = || {
            let block = |peer: &&Peer| matches!(peer.selects, PeerSelects::Block(_));
            let own = &rule.policy.key.namespace;
            let by_address = rule.listed_peers().iter().any(|peer| block(&peer));
            let named = rule.listed_peers().iter().map(|peer| scene.peers(own, &peer.selects));
            let mut classes: BTreeSet<usize> =
                named.flat_map(|classes| classes.iter().copied().collect::<Vec<_>>()).collect();
            if by_address {
                let unknown = |class: &Class<'_>| class.pods.iter().any(|p| p.addresses.is_empty());
                let all = scene.classes.iter().enumerate();
                classes.extend(all.filter(|(_, class)| unknown(class)).map(|(index, _)| index));
            }
            let any = *rule.peers == Peers::Any;
            Rc::new(Meant { any, classes: classes.into_iter().collect(), by_address })
        };
        let key = (&rule.policy.key, rule.direction, rule.index);
        self.meant.entry(key).or_insert_with(meant).clone()
    }

    fn passes(&mut self, rule: &Listed<'a>, selects: &'a PeerSelects) -> Answer<'a> {
        let scene = self.scene;
        let subjects = scene.subjects(rule.policy);
        let peers = scene.peers(&rule.policy.key.namespace, selects);
        let opposite = match rule.direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        // Peers under the same policies fare alike but for their labels and ports.
        let mut groups: BTreeMap<Vec<&ObjectKey>, Group<'a>> = BTreeMap::new();
        for peer in peers.iter().copied() {
            let policies = self.isolating(peer, opposite);
            if policies.is_empty() && any_flow(scene, rule, &subjects, &[peer]) {
                return Answer::Passes;
            }
            let keys = policies.iter().map(|policy| &policy.key).collect();
            groups.entry(keys).or_insert_with(|| (policies, Vec::new())).1.push(peer);
        }
        if !any_flow(scene, rule, &subjects, &peers) {
            return Answer::Nobody;
        }
        let mut asking = Asking { left: FLOWS.min(self.left), unknown: false };
        let mut by = BTreeSet::new();
        for (policies, classes) in groups.values() {
            by.extend(policies.iter().map(|policy| &policy.key));
            for other in policies.iter().flat_map(|policy| rules_of(policy, opposite)) {
                if may_share_ports(rule.ports, other.ports) {
                    let meant = self.meant(&other);
                    let before = asking.left;
                    let passes = self.ask(rule, &other, (&subjects, classes, &meant), &mut asking);
                    self.left = self.left.saturating_sub(before - asking.left);
                    if passes {
                        return Answer::Passes;
                    }
                }
            }
        }
        match asking {
            Asking { left: 0, .. } => {
                Answer::Unknown("there are too many pairs of pods to ask about each")
            }
            Asking { unknown: true, .. } => {
                Answer::Unknown("the pods have no addresses yet, and blocks are about addresses")
            }
            Asking { .. } => Answer::Denied(by),
        }
    }

    /// Asks about the pairs that a rule of the other side may mean; whether anything passes.
    fn ask(
        &self,
        rule: &Listed<'a>,
        other: &Listed<'a>,
        (subjects, peers, meant): (&[usize], &[usize], &Meant),
        asking: &mut Asking,
    ) -> bool {
        let subjects: Vec<usize> = if meant.any {
            subjects.to_vec()
        } else {
            scene::common(subjects, &meant.classes).collect()
        };
        for subject in subjects {
            for peer in peers.iter().copied() {
                let (own, theirs) = (&self.scene.classes[subject], &self.scene.classes[peer]);
                for (own, theirs) in pairs(own, theirs, subject == peer, meant.by_address) {
                    let to = if rule.direction == Direction::Ingress { own } else { theirs };
                    for traffic in candidates(rule.ports, to, other.ports) {
                        let Some(rest) = asking.left.checked_sub(1) else { return false };
                        asking.left = rest;
                        match self.decision(rule.direction, own, theirs, traffic) {
                            Decision::Allowed => return true,
                            Decision::Unknown => asking.unknown = true,
                            Decision::Denied => {}
                        }
                    }
                }
            }
        }
        false
    }

    /// The best that any family says.
    fn decision(&self, direction: Direction, own: &Pod, other: &Pod, traffic: Traffic) -> Decision {
        let (from, to) = match direction {
            Direction::Ingress => (other, own),
            Direction::Egress => (own, other),
        };
        let speaks =
            |pod: &Pod, family| pod.addresses.is_empty() || pod.addresses.of(family).is_some();
        Family::ALL
            .into_iter()
            .filter(|family| speaks(from, *family) && speaks(to, *family))
            .map(|family| {
                let flow = Flow {
                    from: End::Pod(from.key.clone()),
                    to: End::Pod(to.key.clone()),
                    family,
                    traffic,
                    wire: Wire::Routed,
                };
                let verdict = self.scene.evaluator.verdict(&flow);
                // Which side of it this rule has settled may still rest on another pod's address.
                verdict.decision
            })
            .fold(Decision::Denied, Decision::or)
    }
}

/// How far the asking about one peer is.
struct Asking {
    left: usize,
    /// Whether some answer rests on an address that is not known.
    unknown: bool,
}

/// Whether there is a pair of pods and a port at all.
fn any_flow(scene: &Scene<'_>, rule: &Listed<'_>, subjects: &[usize], peers: &[usize]) -> bool {
    subjects.iter().any(|subject| {
        peers.iter().any(|peer| {
            let (own, theirs) = (&scene.classes[*subject], &scene.classes[*peer]);
            let to = if rule.direction == Direction::Ingress { own } else { theirs };
            let ports = match rule.ports {
                Ports::Any => true,
                Ports::Listed(list) => {
                    list.iter().any(|p| !numbers(&p.numbers, p.protocol, to.one()).is_empty())
                }
            };
            ports && !pairs(own, theirs, subject == peer, false).is_empty()
        })
    })
}

/// Pairs of different pods of two classes: one, or all where addresses decide.
fn pairs<'a>(
    own: &Class<'a>,
    other: &Class<'a>,
    same: bool,
    by_address: bool,
) -> Vec<(&'a Pod, &'a Pod)> {
    let mut pairs = Vec::new();
    for (i, a) in own.pods.iter().enumerate() {
        for (j, b) in other.pods.iter().enumerate() {
            // A pod always reaches itself; a template may stand for several pods.
            let replicas = a.workload.as_ref().map_or(1, |workload| workload.replicas);
            if !(same && i == j) || (a.template && replicas > 1) {
                pairs.push((*a, *b));
            }
            if pairs.len() > FLOWS || (!by_address && !pairs.is_empty()) {
                return pairs;
            }
        }
    }
    pairs
}

/// Whether both may allow the same; names may stand for anything.
fn may_share_ports(a: &Ports, b: &Ports) -> bool {
    let names = |ports: &Ports| match ports {
        Ports::Any => false,
        Ports::Listed(list) => list.iter().any(|p| matches!(p.numbers, PortNumbers::Named(_))),
    };
    names(a) || names(b) || !ports::common(a, b).is_empty()
}

/// Traffic of which one passes if both allow something: what either allows changes only where one of
/// its ranges begins.
fn candidates(own: &Ports, to: &Pod, other: &Ports) -> BTreeSet<Traffic> {
    let begins = |ports: &Ports| -> BTreeSet<(Protocol, u16)> {
        let Ports::Listed(list) = ports else { return [(Protocol::Tcp, 1)].into() };
        let numbers = |port: &PortMatch| numbers(&port.numbers, port.protocol, to);
        list.iter().flat_map(|p| numbers(p).into_iter().map(|n| (p.protocol, n))).collect()
    };
    let allows = |ports: &Ports, (protocol, number): (Protocol, u16)| match ports {
        Ports::Any => true,
        Ports::Listed(list) => list.iter().any(|port| {
            port.protocol == protocol
                && match &port.numbers {
                    PortNumbers::Any => true,
                    PortNumbers::Range(range) => range.contains(number),
                    PortNumbers::Named(_) => numbers(&port.numbers, protocol, to).contains(&number),
                }
        }),
    };
    let all = begins(own).into_iter().chain(begins(other));
    all.filter(|begin| allows(own, *begin) && allows(other, *begin))
        .map(|(protocol, port)| Traffic::Port { protocol, port })
        .collect()
}

/// Where ports begin: a range at its first number, a name at whatever the destination calls so.
fn numbers(numbers: &PortNumbers, protocol: Protocol, to: &Pod) -> Vec<u16> {
    match numbers {
        PortNumbers::Any => vec![1],
        PortNumbers::Range(range) => vec![range.first().get()],
        PortNumbers::Named(name) => to
            .ports
            .iter()
            .filter(|port| port.name.as_ref() == Some(name) && port.protocol == protocol)
            .map(|port| port.number.get())
            .collect(),
    }
}
