//! The addresses that are no pod's and no node's, in classes that no policy tells apart.
//!
//! All blocks of all policies cut the address space of each family into spans; spans that the same
//! blocks grant are one class. Addresses of pods and nodes are then taken out: they are ends of their
//! own. A class without any address left is none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::cidr::{Family, IpBlock};
use crate::cluster::Snapshot;
use crate::compile::networks::{Span, bits, spans};
use crate::evaluate::Evaluator;
use crate::policy::{Grant, PeerSelects, Peers};

/// Addresses of one family that every policy of the snapshots treats alike, and that are no pod's and
/// no node's in any of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorldClass {
    family: Family,
    representative: IpAddr,
    /// As the blocks cut them, sorted and apart; never empty. Some may hold addresses of pods.
    spans: Vec<Span>,
    /// Whether some block grants it.
    granted: bool,
}

impl WorldClass {
    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// One of its addresses.
    #[must_use]
    pub fn representative(&self) -> IpAddr {
        self.representative
    }

    /// Whether some block of some policy grants it; one class a family at most is not: the rest.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.granted
    }

    /// Whether it is all of its family, but for pods and nodes.
    #[must_use]
    pub fn is_whole_family(&self) -> bool {
        self.spans == [whole(self.family)]
    }

    /// Its addresses as networks, in order, and those of pods and nodes that lie between them.
    #[must_use]
    pub fn networks(&self) -> Vec<IpNet> {
        networks(self.family, &self.spans)
    }

    /// Its addresses as networks, in order, without those of `taken`.
    #[must_use]
    pub fn prefixes(&self, taken: &BTreeSet<IpAddr>) -> Vec<IpNet> {
        let own = |address: &&IpAddr| Family::of(**address) == self.family;
        let holes = taken.iter().filter(own).map(|address| bits(*address));
        let holes: Vec<Span> = holes.map(|at| Span { first: at, last: at }).collect();
        networks(self.family, &without(&self.spans, &holes))
    }

    /// Its addresses without those of `taken` as a policy can grant them: networks, or the network around
    /// them less the others, whichever is shorter. Never empty.
    #[must_use]
    pub fn blocks(&self, taken: &BTreeSet<IpAddr>) -> Vec<IpBlock> {
        let own = self.prefixes(taken);
        let first = own.iter().map(|net| bits(net.network())).min().unwrap_or_default();
        let last = own.iter().map(|net| bits(net.broadcast())).max().unwrap_or(first);
        let around = around(self.family, &[Span { first, last }]);
        let spans: Vec<Span> = own.iter().map(Span::of).collect();
        let lacking = networks(self.family, &without(&[Span::of(&around)], &spans));
        let whole = (lacking.len() + 1 < own.len()).then(|| IpBlock::new(around, lacking).ok());
        match whole.flatten() {
            Some(block) => vec![block],
            None => own.into_iter().filter_map(|net| IpBlock::new(net, Vec::new()).ok()).collect(),
        }
    }

    /// Whether `address` is one of its addresses, or would be if it were no pod's and no node's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let at = bits(address);
        let next = self.spans.partition_point(|span| span.last < at);
        Family::of(address) == self.family
            && self.spans.get(next).is_some_and(|span| span.first <= at)
    }
}

/// At most this many networks are named in a line.
const NAMED: usize = 4;

impl fmt::Display for WorldClass {
    /// `203.0.113.0/24`, `all of IPv4 but 10.0.0.0/8`, `10.0.0.0/9, 10.192.0.0/10 and 12 networks more`:
    /// by what it has, or by what a network around it has besides, whichever is shorter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.networks();
        let around = around(self.family, &self.spans);
        let lacking = networks(self.family, &without(&[Span::of(&around)], &self.spans));
        let (intro, list) = match around.prefix_len() {
            _ if lacking.len() + 1 >= own.len() && own != [around] => (String::new(), own),
            0 => (format!("all of {}", self.family), lacking),
            _ => (around.to_string(), lacking),
        };
        f.write_str(&intro)?;
        for (i, net) in list.iter().take(NAMED).enumerate() {
            let between = match (i, intro.is_empty()) {
                (0, true) => "",
                (0, false) => " but ",
                _ => ", ",
            };
            write!(f, "{between}{net}")?;
        }
        match list.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} networks more"),
        }
    }
}

/// The classes of the addresses outside all of `snapshots`, IPv4 first, those that blocks grant before
/// the rest, by first address.
pub(super) fn classes(snapshots: &[&Snapshot]) -> Vec<WorldClass> {
    let evaluators: Vec<Evaluator<'_>> = snapshots.iter().map(|s| Evaluator::new(s)).collect();
    let blocks: BTreeSet<&IpBlock> = snapshots.iter().flat_map(|s| blocks(s)).collect();
    let free = |address: IpAddr| {
        evaluators.iter().all(|evaluator| {
            evaluator.owners(address).is_empty() && evaluator.nodes_with(address).is_empty()
        })
    };
    let mut classes = Vec::new();
    for family in Family::ALL {
        let mut of_family: Vec<WorldClass> = by_grants(family, &blocks)
            .into_iter()
            .filter_map(|(granting, spans)| {
                let representative = representative(family, &spans, free)?;
                Some(WorldClass { family, representative, spans, granted: !granting.is_empty() })
            })
            .collect();
        of_family.sort_by(|a, b| (!a.granted, &a.spans).cmp(&(!b.granted, &b.spans)));
        classes.extend(of_family);
    }
    classes
}

/// The addresses that are some pod's or some node's.
pub(super) fn taken(snapshot: &Snapshot, evaluator: &Evaluator<'_>) -> BTreeSet<IpAddr> {
    let of_pods = snapshot
        .pods
        .values()
        .flat_map(|pod| pod.addresses.iter().chain(pod.host_addresses.iter().copied()));
    let of_nodes = snapshot.nodes.values().flat_map(|node| node.addresses.iter().copied());
    of_pods
        .chain(of_nodes)
        .filter(|address| {
            !evaluator.owners(*address).is_empty() || !evaluator.nodes_with(*address).is_empty()
        })
        .collect()
}

/// Every block that some rule grants.
fn blocks(snapshot: &Snapshot) -> impl Iterator<Item = &IpBlock> {
    let peers = super::rules(snapshot).flat_map(|rule| match &rule.grant {
        Grant::Traffic { peers: Peers::Listed(peers), .. } => peers.as_slice(),
        _ => &[],
    });
    peers.filter_map(|peer| match &peer.selects {
        PeerSelects::Block(block) => Some(block),
        PeerSelects::Pods { .. } => None,
    })
}

/// The address space of `family` by the blocks that grant it, each part sorted and its spans apart.
fn by_grants(family: Family, blocks: &BTreeSet<&IpBlock>) -> BTreeMap<BTreeSet<usize>, Vec<Span>> {
    // Where a block begins to grant, and the first address behind where it ends to.
    let mut changes: BTreeMap<u128, Vec<(usize, bool)>> = BTreeMap::new();
    for (block, granted) in blocks.iter().map(|block| spans(family, [*block])).enumerate() {
        for span in granted {
            changes.entry(span.first).or_default().push((block, true));
            if let Some(behind) = span.last.checked_add(1) {
                changes.entry(behind).or_default().push((block, false));
            }
        }
    }
    let end = whole(family).last;
    let mut parts: BTreeMap<BTreeSet<usize>, Vec<Span>> = BTreeMap::new();
    let mut granting: BTreeSet<usize> = BTreeSet::new();
    let mut first = 0;
    let mut add = |granting: &BTreeSet<usize>, first: u128, last: u128| {
        let spans = parts.entry(granting.clone()).or_default();
        match spans.last_mut() {
            Some(before) if before.last.checked_add(1) == Some(first) => before.last = last,
            _ => spans.push(Span { first, last }),
        }
    };
    for (at, changed) in changes.into_iter().filter(|(at, _)| *at <= end) {
        if at > first {
            add(&granting, first, at - 1);
        }
        for (block, begins) in changed {
            if begins {
                granting.insert(block);
            } else {
                granting.remove(&block);
            }
        }
        first = at;
    }
    add(&granting, first, end);
    parts
}

/// An address of the spans that is `free`: one out of the blocks for documentation where they hold
/// one, else rather not the first of a network.
fn representative(family: Family, spans: &[Span], free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let documentation = match family {
        Family::V4 => 0xc000_0201, // 192.0.2.1
        Family::V6 => 0x2001_0db8_ffff_0000_0000_0000_0000_0001,
    };
    let documented = spans.iter().filter(|span| (span.first..=span.last).contains(&documentation));
    let likely = documented.map(|_| documentation);
    let second = spans.iter().filter(|span| span.last > span.first).map(|span| span.first + 1);
    // There are only so many addresses that are not free, so the search ends.
    let any = spans.iter().flat_map(|span| span.first..=span.last);
    likely.chain(second).chain(any).map(|at| address(family, at)).find(|at| free(*at))
}

fn whole(family: Family) -> Span {
    let last = match family {
        Family::V4 => u32::MAX.into(),
        Family::V6 => u128::MAX,
    };
    Span { first: 0, last }
}

fn address(family: Family, at: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(u32::try_from(at).unwrap_or(u32::MAX).into()),
        Family::V6 => IpAddr::V6(at.into()),
    }
}

/// The smallest network that holds all of `spans`.
fn around(family: Family, spans: &[Span]) -> IpNet {
    let first = spans.first().map_or(0, |span| span.first);
    let last = spans.last().map_or(first, |span| span.last);
    let width: u32 = if family == Family::V4 { 32 } else { 128 };
    let host = u128::BITS - (first ^ last).leading_zeros();
    let prefix = u8::try_from(width.saturating_sub(host)).unwrap_or(0);
    network(family, first, prefix).trunc()
}

fn network(family: Family, at: u128, prefix: u8) -> IpNet {
    match address(family, at) {
        IpAddr::V4(at) => IpNet::V4(Ipv4Net::new_assert(at, prefix.min(32))),
        IpAddr::V6(at) => IpNet::V6(Ipv6Net::new_assert(at, prefix.min(128))),
    }
}

/// `spans` less `holes`; both sorted and apart.
fn without(spans: &[Span], holes: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    for span in spans {
        let mut next = Some(span.first);
        let from = holes.partition_point(|hole| hole.last < span.first);
        for hole in holes[from..].iter().take_while(|hole| hole.first <= span.last) {
            if let Some(first) = next.filter(|first| *first < hole.first) {
                left.push(Span { first, last: hole.first - 1 });
            }
            next = hole.last.checked_add(1);
        }
        if let Some(first) = next.filter(|first| *first <= span.last) {
            left.push(Span { first, last: span.last });
        }
    }
    left
}

/// The fewest networks that are exactly `spans`, in order.
fn networks(family: Family, spans: &[Span]) -> Vec<IpNet> {
    let width: u32 = if family == Family::V4 { 32 } else { 128 };
    let mut networks = Vec::new();
    for span in spans {
        let mut first = Some(span.first);
        while let Some(at) = first.filter(|at| *at <= span.last) {
            // The largest network that begins here and ends within the span.
            let aligned = at.trailing_zeros().min(width);
            let fitting = match (span.last - at).checked_add(1) {
                Some(room) => room.ilog2(),
                None => width,
            };
            let host = aligned.min(fitting);
            let prefix = u8::try_from(width - host).unwrap_or(0);
            networks.push(network(family, at, prefix));
            first = 1_u128.checked_shl(host).and_then(|size| at.checked_add(size));
        }
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> IpBlock {
        let except = except.iter().map(|e| e.parse().unwrap()).collect();
        IpBlock::new(cidr.parse().unwrap(), except).unwrap()
    }

    fn cut(family: Family, blocks: &[IpBlock]) -> Vec<Vec<String>> {
        let parts = by_grants(family, &blocks.iter().collect());
        parts
            .values()
            .map(|spans| networks(family, spans).iter().map(ToString::to_string).collect())
            .collect()
    }

    #[test]
    fn blocks_cut_the_space_and_what_the_same_ones_grant_is_one_part() {
        let blocks = [
            block("10.0.0.0/8", &["10.1.0.0/16"]),
            block("10.0.0.0/15", &[]),
            block("fd00::/8", &[]),
        ];
        let parts = cut(Family::V4, &blocks);
        assert_eq!(parts.len(), 4, "{parts:?}");
        assert!(parts.contains(&vec!["10.0.0.0/16".to_owned()]), "both");
        assert!(parts.contains(&vec!["10.1.0.0/16".to_owned()]), "the second alone");
        assert_eq!(cut(Family::V6, &blocks)[1], ["fd00::/8"]);
        assert_eq!(cut(Family::V6, &[]), [["::/0"]]);
    }

    #[test]
    fn a_class_is_told_by_what_it_lacks_where_that_is_shorter() {
        let class = |spans: Vec<Span>| WorldClass {
            family: Family::V4,
            representative: address(Family::V4, 1),
            spans,
            granted: true,
        };
        let whole = whole(Family::V4);
        let ten = Span::of(&"10.0.0.0/8".parse().unwrap());
        let one = Span::of(&"192.0.2.7/32".parse().unwrap());
        assert_eq!(class(vec![whole]).to_string(), "all of IPv4");
        assert_eq!(class(vec![ten]).to_string(), "10.0.0.0/8");
        assert_eq!(class(without(&[whole], &[ten])).to_string(), "all of IPv4 but 10.0.0.0/8");
        let holed = class(without(&[ten], &[Span::of(&"10.0.0.1/32".parse().unwrap())]));
        assert_eq!(holed.to_string(), "10.0.0.0/8 but 10.0.0.1/32");
        let scattered = Span::of(&"192.0.2.9/32".parse().unwrap());
        assert_eq!(
            class(vec![ten, one, scattered]).to_string(),
            "10.0.0.0/8, 192.0.2.7/32, 192.0.2.9/32"
        );
        let taken = [address(Family::V4, one.first)].into();
        assert_eq!(class(vec![one]).prefixes(&taken), []);
        assert_eq!(class(vec![ten]).prefixes(&[address(Family::V4, ten.first)].into()).len(), 24);
        assert_eq!(class(vec![one]).networks(), ["192.0.2.7/32".parse().unwrap()]);
    }

    #[test]
    fn networks_of_spans_are_the_fewest_at_both_ends_of_the_space() {
        let all = |family| networks(family, &[whole(family)]);
        assert_eq!(all(Family::V4), ["0.0.0.0/0".parse().unwrap()]);
        assert_eq!(all(Family::V6), ["::/0".parse().unwrap()]);
        let upper = Span { first: 1, last: u128::MAX };
        assert_eq!(networks(Family::V6, &[upper]).len(), 128);
    }
}
