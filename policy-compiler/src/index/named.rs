//! Ports by name toward pods: which numbers the pods that are meant declare under a name, and at which
//! addresses each number is found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::delta::Delta;
use super::memberships::MembershipId;
use super::pods::CommonId;
use crate::cidr::Family;
use crate::cluster::{Addresses, ContainerPort};
use crate::compile::networks::Coverage;
use crate::port::{PortName, Protocol};

/// What is asked: the numbers under a name among the pods of a membership, and among those whose address
/// lies in a coverage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedQuestion {
    /// Of this protocol.
    pub(crate) protocol: Protocol,
    /// Under this name.
    pub(crate) name: PortName,
    /// At addresses of this family.
    pub(crate) family: Family,
    /// Among these pods.
    pub(crate) pods: MembershipId,
    /// And among those that have an address there.
    pub(crate) coverage: Arc<Coverage>,
}

impl NamedQuestion {
    /// The numbers that a pod with these ports declares under the name.
    pub(super) fn declared_by(&self, ports: &[ContainerPort]) -> BTreeSet<NonZeroU16> {
        let asked = |port: &&ContainerPort| {
            port.protocol == self.protocol && port.name.as_ref() == Some(&self.name)
        };
        ports.iter().filter(asked).map(|port| port.number).collect()
    }

    /// Whether a pod is meant, which is in the membership or not.
    pub(super) fn means(&self, addresses: Addresses, is_member: bool) -> bool {
        is_member
            || *self.coverage == Coverage::Everything
            || addresses.of(self.family).is_some_and(|address| self.coverage.contains(address))
    }
}

/// An answer that is kept up, for as long as it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamedId(usize);

/// Who declares a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Declared {
    pods: usize,
    addresses: BTreeMap<IpAddr, usize>,
}

#[derive(Clone, Debug)]
struct Named {
    question: NamedQuestion,
    numbers: BTreeMap<NonZeroU16, Declared>,
    deltas: BTreeMap<NonZeroU16, Delta>,
}

impl Named {
    fn count(&mut self, number: NonZeroU16, address: Option<IpAddr>) -> bool {
        let is_new = !self.numbers.contains_key(&number);
        let declared = self.numbers.entry(number).or_default();
        declared.pods += 1;
        if let Some(address) = address {
            let claims = declared.addresses.entry(address).or_default();
            *claims += 1;
            if *claims == 1 {
                self.deltas.entry(number).or_default().join(address);
            }
        }
        is_new
    }

    fn discount(&mut self, number: NonZeroU16, address: Option<IpAddr>) -> bool {
        let Some(declared) = self.numbers.get_mut(&number) else { return false };
        if let Some(address) = address
            && let Some(claims) = declared.addresses.get_mut(&address)
        {
            *claims -= 1;
            if *claims == 0 {
                declared.addresses.remove(&address);
                self.deltas.entry(number).or_default().leave(address);
            }
        }
        declared.pods -= 1;
        let is_gone = declared.pods == 0;
        if is_gone {
            self.numbers.remove(&number);
        }
        is_gone
    }
}

/// A name that is asked about.
#[derive(Clone, Debug, Default)]
struct Asked {
    /// What live pods have in common that declare it.
    commons: BTreeSet<CommonId>,
    questions: BTreeSet<NamedId>,
}

/// All answers that are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedPorts {
    /// The names that are asked about.
    asked: BTreeMap<(Protocol, PortName), Asked>,
    ids: BTreeMap<NamedQuestion, NamedId>,
    slots: Vec<Option<Named>>,
    free: Vec<NamedId>,
    /// Those with deltas.
    changed: BTreeSet<NamedId>,
}

impl NamedPorts {
    pub(super) fn find(&self, question: &NamedQuestion) -> Option<NamedId> {
        self.ids.get(question).copied()
    }

    fn get(&self, id: NamedId) -> Option<&Named> {
        self.slots.get(id.0)?.as_ref()
    }

    /// What live pods have in common that declare a name, once it is asked about.
    pub(super) fn declaring(
        &self,
        protocol: Protocol,
        name: &PortName,
    ) -> Option<&BTreeSet<CommonId>> {
        self.asked.get(&(protocol, name.clone())).map(|asked| &asked.commons)
    }

    /// Asks about names; the pods that declare them are to be told of next.
    pub(super) fn ask(&mut self, names: BTreeSet<(Protocol, PortName)>) {
        self.asked.extend(names.into_iter().map(|name| (name, Asked::default())));
    }

    /// Adds an answer that is not there, with the numbers of the pods that are meant and where each is
    /// found.
    pub(super) fn add(
        &mut self,
        question: NamedQuestion,
        meant: Vec<(NonZeroU16, Option<IpAddr>)>,
    ) -> NamedId {
        let id = self.free.pop().unwrap_or(NamedId(self.slots.len()));
        if id.0 == self.slots.len() {
            self.slots.push(None);
        }
        let (numbers, deltas) = (counted(meant), BTreeMap::new());
        let named = Named { question: question.clone(), numbers, deltas };
        let asked = self.asked.entry((question.protocol, question.name.clone())).or_default();
        asked.questions.insert(id);
        self.ids.insert(question, id);
        self.slots[id.0] = Some(named);
        id
    }

    /// The questions about names that a pod with these ports declares.
    pub(super) fn about(&self, ports: &[ContainerPort]) -> Vec<(NamedId, &NamedQuestion)> {
        if self.asked.is_empty() {
            return Vec::new();
        }
        let names: BTreeSet<(Protocol, PortName)> = declared(ports).collect();
        let asked = names.iter().filter_map(|name| self.asked.get(name));
        let questions = asked.flat_map(|asked| &asked.questions);
        questions.filter_map(|id| Some((*id, self.question(*id)?))).collect()
    }

    /// The questions about the pods of these memberships.
    pub(super) fn among(&self, memberships: &BTreeSet<MembershipId>) -> Vec<NamedId> {
        let asked = self.ids.iter();
        asked.filter(|(q, _)| memberships.contains(&q.pods)).map(|(_, id)| *id).collect()
    }

    pub(super) fn all(&self) -> Vec<NamedId> {
        self.ids.values().copied().collect()
    }

    pub(super) fn question(&self, id: NamedId) -> Option<&NamedQuestion> {
        self.get(id).map(|named| &named.question)
    }

    /// Takes note of the names that live pods declare, which have that in common.
    pub(super) fn declare(&mut self, ports: &[ContainerPort], id: CommonId) {
        self.each_asked(ports, |commons| {
            commons.insert(id);
        });
    }

    /// Forgets the names that no such pod declares any more.
    pub(super) fn retract(&mut self, ports: &[ContainerPort], id: CommonId) {
        self.each_asked(ports, |commons| {
            commons.remove(&id);
        });
    }

    fn each_asked(&mut self, ports: &[ContainerPort], then: impl Fn(&mut BTreeSet<CommonId>)) {
        if self.asked.is_empty() {
            return;
        }
        for name in declared(ports) {
            if let Some(asked) = self.asked.get_mut(&name) {
                then(&mut asked.commons);
            }
        }
    }

    /// A pod is meant now; whether that brought a number.
    pub(super) fn count(
        &mut self,
        id: NamedId,
        ports: &[ContainerPort],
        address: Option<IpAddr>,
    ) -> bool {
        self.changed.insert(id);
        let Some(named) = self.slots.get_mut(id.0).and_then(Option::as_mut) else { return false };
        let mut news = false;
        for number in named.question.declared_by(ports) {
            news |= named.count(number, address);
        }
        news
    }

    /// A pod is not meant any more; whether that took a number away.
    pub(super) fn discount(
        &mut self,
        id: NamedId,
        ports: &[ContainerPort],
        address: Option<IpAddr>,
    ) -> bool {
        self.changed.insert(id);
        let Some(named) = self.slots.get_mut(id.0).and_then(Option::as_mut) else { return false };
        let mut news = false;
        for number in named.question.declared_by(ports) {
            news |= named.discount(number, address);
        }
        news
    }

    /// Counts anew, as in [`NamedPorts::add`]; whether a number came or went.
    pub(super) fn recount(
        &mut self,
        id: NamedId,
        meant: Vec<(NonZeroU16, Option<IpAddr>)>,
    ) -> bool {
        self.changed.insert(id);
        let Some(named) = self.slots.get_mut(id.0).and_then(Option::as_mut) else { return false };
        let before = std::mem::replace(&mut named.numbers, counted(meant));
        let numbers: BTreeSet<NonZeroU16> =
            before.keys().chain(named.numbers.keys()).copied().collect();
        let none = Declared::default();
        for number in numbers {
            let was = &before.get(&number).unwrap_or(&none).addresses;
            let is = &named.numbers.get(&number).unwrap_or(&none).addresses;
            let delta = named.deltas.entry(number).or_default();
            for address in is.keys().filter(|address| !was.contains_key(*address)) {
                delta.join(*address);
            }
            for address in was.keys().filter(|address| !is.contains_key(*address)) {
                delta.leave(*address);
            }
        }
        !before.keys().eq(named.numbers.keys())
    }

    /// The numbers of an answer.
    pub(super) fn numbers(&self, id: NamedId) -> impl Iterator<Item = NonZeroU16> + '_ {
        self.get(id).into_iter().flat_map(|named| named.numbers.keys().copied())
    }

    /// The addresses at which one of them is found.
    pub(super) fn found_at(
        &self,
        id: NamedId,
        number: NonZeroU16,
    ) -> impl Iterator<Item = IpAddr> + '_ {
        let declared = self.get(id).and_then(|named| named.numbers.get(&number));
        declared.into_iter().flat_map(|declared| declared.addresses.keys().copied())
    }

    /// The memberships that questions are about.
    pub(super) fn asked_of(&self) -> impl Iterator<Item = MembershipId> + '_ {
        self.ids.keys().map(|question| question.pods)
    }

    /// What has come about since the deltas were last forgotten.
    pub(super) fn deltas(&self) -> impl Iterator<Item = (NamedId, NonZeroU16, &Delta)> {
        self.changed.iter().flat_map(|id| {
            let deltas = self.get(*id).into_iter().flat_map(|named| &named.deltas);
            deltas
                .filter(|(_, delta)| !delta.is_empty())
                .map(|(number, delta)| (*id, *number, delta))
        })
    }

    pub(super) fn delta(&self, id: NamedId, number: NonZeroU16) -> Option<&Delta> {
        self.get(id)?.deltas.get(&number)
    }

    pub(super) fn settle(&mut self, id: NamedId, number: NonZeroU16, addresses: &[IpAddr]) {
        let named = self.slots.get_mut(id.0).and_then(Option::as_mut);
        if let Some(delta) = named.and_then(|named| named.deltas.get_mut(&number)) {
            delta.settle(addresses);
        }
    }

    pub(super) fn forget_deltas(&mut self) {
        for id in std::mem::take(&mut self.changed) {
            if let Some(named) = self.slots.get_mut(id.0).and_then(Option::as_mut) {
                named.deltas.clear();
            }
        }
    }

    /// Drops all but these.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<NamedId>) {
        let gone: Vec<NamedId> =
            self.ids.values().filter(|id| !wanted.contains(id)).copied().collect();
        for id in gone {
            let Some(named) = self.slots.get_mut(id.0).and_then(Option::take) else { continue };
            let name = (named.question.protocol, named.question.name.clone());
            if let Some(asked) = self.asked.get_mut(&name) {
                asked.questions.remove(&id);
                if asked.questions.is_empty() {
                    self.asked.remove(&name);
                }
            }
            self.ids.remove(&named.question);
            self.changed.remove(&id);
            self.free.push(id);
        }
        self.asked.retain(|_, asked| !asked.questions.is_empty());
    }
}

/// Who declares each number. Counted at once, since there may be very many.
fn counted(mut meant: Vec<(NonZeroU16, Option<IpAddr>)>) -> BTreeMap<NonZeroU16, Declared> {
    meant.sort_unstable();
    let declared = |meant: &[(NonZeroU16, Option<IpAddr>)]| {
        let claims = meant.chunk_by(|a, b| a == b);
        let addresses = claims.filter_map(|claims| Some((claims.first()?.1?, claims.len())));
        Declared { pods: meant.len(), addresses: addresses.collect() }
    };
    let numbers = meant.chunk_by(|(a, _), (b, _)| a == b);
    numbers.filter_map(|meant| Some((meant.first()?.0, declared(meant)))).collect()
}

/// The names among ports, each with its protocol.
fn declared(ports: &[ContainerPort]) -> impl Iterator<Item = (Protocol, PortName)> + '_ {
    ports.iter().filter_map(|port| Some((port.protocol, port.name.clone()?)))
}
