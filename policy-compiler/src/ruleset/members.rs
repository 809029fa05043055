//! What a set holds.
//!
//! A set of pods has very many members, and all of them are single addresses: each takes the four or sixteen
//! bytes that it has. Networks and exceptions, which sets of ipBlocks have besides, take what they take.
//! A copy shares what it holds with what it was copied from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Member;
use super::sorted::Sorted;

/// Members of a set, each once, in their order.
///
/// A single address is never among `others`, so that equal sets are equal part by part.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MemberSet {
    v4: Sorted<Ipv4Addr>,
    v6: Sorted<Ipv6Addr>,
    others: Sorted<Member>,
}

impl MemberSet {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len() + self.others.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && self.others.is_empty()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, member: &Member) -> bool {
        match member.alone() {
            Some(IpAddr::V4(address)) => self.v4.contains(&address),
            Some(IpAddr::V6(address)) => self.v6.contains(&address),
            None => self.others.contains(member),
        }
    }

    /// All of them in their order.
    pub fn iter(&self) -> impl Iterator<Item = Member> {
        let mut alone = self.addresses().map(Member::address).peekable();
        let mut others = self.others.iter().copied().peekable();
        std::iter::from_fn(move || match (alone.peek(), others.peek()) {
            (Some(one), Some(other)) if one > other => others.next(),
            (Some(_), _) => alone.next(),
            (None, _) => others.next(),
        })
    }

    /// Those that are single addresses, in their order: all members of a `hash:ip` set.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.iter().copied().map(IpAddr::V4);
        v4.chain(self.v6.iter().copied().map(IpAddr::V6))
    }

    /// Adds those of another set. It takes as long as there are of them, however many are here.
    pub fn add(&mut self, members: &Self) {
        self.v4.add(&members.v4);
        self.v6.add(&members.v6);
        self.others.add(&members.others);
    }

    /// Removes those of another set, likewise.
    pub fn remove(&mut self, members: &Self) {
        self.v4.remove(&members.v4);
        self.v6.remove(&members.v6);
        self.others.remove(&members.others);
    }

    /// Those that are not in another set.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.compared(other, false)
    }

    /// Those that are in another set too.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.compared(other, true)
    }

    /// Those of some addresses, which are in their order, that are `held` here too, or those that are not.
    pub(crate) fn telling_apart(&self, mut addresses: Vec<IpAddr>, held: bool) -> Self {
        let (mut v4, mut v6) = (self.v4.search(), self.v6.search());
        addresses.retain(|address| match address {
            IpAddr::V4(address) => v4.finds(address) == held,
            IpAddr::V6(address) => v6.finds(address) == held,
        });
        if addresses.is_empty() { Self::default() } else { addresses.into_iter().collect() }
    }

    fn compared(&self, other: &Self, held: bool) -> Self {
        Self {
            v4: self.v4.compared(&other.v4, held),
            v6: self.v6.compared(&other.v6, held),
            others: self.others.compared(&other.others, held),
        }
    }
}

impl Member {
    /// The address, where it is a single one.
    fn alone(&self) -> Option<IpAddr> {
        let alone = !self.nomatch && self.net.prefix_len() == self.net.max_prefix_len();
        alone.then(|| self.net.addr())
    }
}

impl fmt::Debug for MemberSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Member> for MemberSet {
    fn from_iter<T: IntoIterator<Item = Member>>(members: T) -> Self {
        let (mut v4, mut v6, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for member in members {
            match member.alone() {
                Some(IpAddr::V4(address)) => v4.push(address),
                Some(IpAddr::V6(address)) => v6.push(address),
                None => others.push(member),
            }
        }
        Self {
            v4: v4.into_iter().collect(),
            v6: v6.into_iter().collect(),
            others: others.into_iter().collect(),
        }
    }
}

impl FromIterator<IpAddr> for MemberSet {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(address),
                IpAddr::V6(address) => v6.push(address),
            }
        }
        Self {
            v4: v4.into_iter().collect(),
            v6: v6.into_iter().collect(),
            others: Sorted::default(),
        }
    }
}

impl<const N: usize> From<[Member; N]> for MemberSet {
    fn from(members: [Member; N]) -> Self {
        members.into_iter().collect()
    }
}

impl Extend<Member> for MemberSet {
    fn extend<T: IntoIterator<Item = Member>>(&mut self, members: T) {
        self.add(&members.into_iter().collect());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;

    /// Few addresses and lengths of both families, so that the same is often met again.
    fn member() -> impl Strategy<Value = Member> {
        let v4 = (0..4_u8, 29..=32_u8)
            .prop_map(|(last, length)| IpNet::new(IpAddr::from([10, 0, 0, last]), length).unwrap());
        let v6 = (0..4_u16, 125..=128_u8).prop_map(|(last, length)| {
            IpNet::new(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]), length).unwrap()
        });
        (prop_oneof![v4, v6], any::<bool>()).prop_map(|(net, nomatch)| Member { net, nomatch })
    }

    fn members() -> impl Strategy<Value = BTreeSet<Member>> {
        proptest::collection::btree_set(member(), 0..24)
    }

    proptest! {
        #[test]
        fn members_are_those_of_a_set_and_in_its_order(one in members(), other in members()) {
            let [a, b]: [MemberSet; 2] = [&one, &other].map(|all| all.iter().copied().collect());
            let same = |found: &MemberSet, wanted: BTreeSet<Member>| {
                assert!(found.iter().eq(wanted.iter().copied()), "{found:?} is not {wanted:?}");
                assert_eq!((found.len(), found.is_empty()), (wanted.len(), wanted.is_empty()));
                assert_eq!(*found, wanted.into_iter().collect());
            };
            same(&a, one.clone());
            same(&a.difference(&b), &one - &other);
            same(&a.intersection(&b), &one & &other);
            let (mut more, mut less) = (a.clone(), a.clone());
            more.add(&b);
            same(&more, &one | &other);
            less.remove(&b);
            same(&less, &one - &other);
            prop_assert!(one.union(&other).all(|member| a.contains(member) == one.contains(member)));
            let alone = |m: &&Member| !m.nomatch && m.net.prefix_len() == m.net.max_prefix_len();
            prop_assert!(a.addresses().eq(one.iter().filter(alone).map(|m| m.net.addr())));
        }
    }
}
