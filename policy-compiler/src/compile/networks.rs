//! The exact union of ipBlocks, and the fewest set entries that say it.
//!
//! A block grants its network less its excepts; blocks are united after that, so that one block's
//! `except` never takes away what another grants. The result is encoded for a lookup in which the
//! longest prefix decides and an entry may say "not in the set". The encoding is the one of fewest
//! entries, found as optimal routing tables are (Draves, King, Venkatachary, Zill: "Constructing
//! Optimal IP Routing Tables"): bottom up, which states a node could inherit at least cost; top
//! down, an entry wherever the inherited state is not one of them. No entry is ever /0.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::cidr::{Family, IpBlock};
use crate::ruleset::Member;

/// The addresses that some blocks grant in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Coverage {
    /// None.
    Nothing,
    /// All there are: no address match is needed.
    Everything,
    /// These: one entry that is a match, or several of which the longest prefix decides. Sorted.
    Entries(Vec<Member>),
}

impl Coverage {
    /// Whether an address is among them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let entries = match self {
            Self::Nothing => return false,
            Self::Everything => return true,
            Self::Entries(entries) => entries,
        };
        let family = Family::of(address);
        (1..=width(family)).rev().find_map(|length| {
            let candidate = net(family, bits(address), length);
            let found = entries.binary_search_by(|entry| entry.net.cmp(&candidate)).ok()?;
            entries.get(found).map(|entry| !entry.nomatch)
        }) == Some(true)
    }
}

/// Addresses from `first` to `last`, both included, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Span {
    pub(crate) fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(net) => Self {
                first: u32::from(net.network()).into(),
                last: u32::from(net.broadcast()).into(),
            },
            IpNet::V6(net) => Self { first: net.network().into(), last: net.broadcast().into() },
        }
    }
}

/// The number of bits of an address.
pub(super) fn width(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

/// The address as a number.
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The network of `length` bits that holds the address of that number.
pub(super) fn net(family: Family, bits: u128, length: u8) -> IpNet {
    // Only lengths within the family come here; a longer one is its longest.
    let length = length.min(width(family));
    match family {
        Family::V4 => {
            let address = Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX));
            IpNet::V4(Ipv4Net::new_assert(address, length)).trunc()
        }
        Family::V6 => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(bits), length)).trunc(),
    }
}

/// What the blocks of `family` among `blocks` grant together.
pub(super) fn coverage<'a>(
    family: Family,
    blocks: impl IntoIterator<Item = &'a IpBlock>,
) -> Coverage {
    encode(family, &spans(family, blocks))
}

/// The addresses that the blocks of `family` among `blocks` grant together: sorted, apart.
pub(crate) fn spans<'a>(
    family: Family,
    blocks: impl IntoIterator<Item = &'a IpBlock>,
) -> Vec<Span> {
    let mut spans = Vec::new();
    for block in blocks {
        if Family::of_net(&block.cidr()) == family {
            granted(block, &mut spans);
        }
    }
    unite(spans)
}

/// Adds what one block grants: its network less its excepts.
fn granted(block: &IpBlock, spans: &mut Vec<Span>) {
    let whole = Span::of(&block.cidr());
    let mut next = Some(whole.first);
    for hole in unite(block.except().iter().map(Span::of).collect()) {
        if let Some(first) = next.filter(|first| *first < hole.first) {
            spans.push(Span { first, last: hole.first - 1 });
        }
        next = hole.last.checked_add(1);
    }
    if let Some(first) = next.filter(|first| *first <= whole.last) {
        spans.push(Span { first, last: whole.last });
    }
}

/// Sorts spans and joins those that overlap or touch.
fn unite(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut united: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match united.last_mut() {
            Some(last) if last.last.checked_add(1).is_none_or(|next| span.first <= next) => {
                last.last = last.last.max(span.last);
            }
            _ => united.push(span),
        }
    }
    united
}

/// Which inherited states a subtree can have at least cost.
const OUT: u8 = 1;
const IN: u8 = 2;

/// A subtree of the addresses, with the spans that reach into it.
#[derive(Clone, Copy)]
struct Subtree<'a> {
    first: u128,
    length: u8,
    width: u8,
    spans: &'a [Span],
}

impl Subtree<'_> {
    /// Its last address.
    fn last(self) -> u128 {
        self.first | ones(self.width - self.length)
    }

    /// Its state, where that is one and the same for every address.
    fn uniform(self) -> Option<u8> {
        match self.spans {
            [] => Some(OUT),
            [span] if span.first <= self.first && self.last() <= span.last => Some(IN),
            _ => None,
        }
    }

    /// Its halves. Only a subtree that is not uniform has them, so it is longer than one address.
    fn halves(self) -> [Self; 2] {
        let middle = self.first | 1_u128 << (self.width - self.length - 1);
        let below = self.spans.partition_point(|span| span.first < middle);
        let above = self.spans.partition_point(|span| span.last < middle);
        let length = self.length + 1;
        [
            Self { length, spans: &self.spans[..below], ..self },
            Self { length, first: middle, spans: &self.spans[above..], ..self },
        ]
    }
}

/// A number of that many low bits set.
fn ones(count: u8) -> u128 {
    if count == 0 { 0 } else { u128::MAX >> (128 - count) }
}

/// Bottom up: the cheapest states of the subtree. Those of every mixed one are pushed to `states`,
/// halves before the whole, which read backwards is the order of [`assign`].
fn survey(subtree: Subtree<'_>, states: &mut Vec<u8>) -> u8 {
    if let Some(state) = subtree.uniform() {
        return state;
    }
    let [left, right] = subtree.halves();
    let (left, right) = (survey(left, states), survey(right, states));
    let both = left & right;
    let state = if both == 0 { left | right } else { both };
    states.push(state);
    state
}

/// Top down: an entry wherever the state inherited is not among the cheapest.
fn assign(
    subtree: Subtree<'_>,
    inherited: u8,
    states: &mut Vec<u8>,
    emit: &mut impl FnMut(u128, u8, bool),
) {
    let uniform = subtree.uniform();
    let wanted = uniform.or_else(|| states.pop()).unwrap_or(OUT);
    let mut state = inherited;
    // An entry for everything cannot be written: its halves get their own.
    if wanted & inherited == 0 && subtree.length > 0 {
        state = wanted;
        emit(subtree.first, subtree.length, wanted == IN);
    }
    if uniform.is_none() {
        let [left, right] = subtree.halves();
        assign(right, state, states, emit);
        assign(left, state, states, emit);
    }
}

/// The fewest entries for these spans, which are sorted and do not touch.
fn encode(family: Family, spans: &[Span]) -> Coverage {
    let root = Subtree { first: 0, length: 0, width: width(family), spans };
    match root.uniform() {
        Some(OUT) => return Coverage::Nothing,
        Some(_) => return Coverage::Everything,
        None => {}
    }
    let mut states = Vec::new();
    survey(root, &mut states);
    let mut entries = Vec::new();
    assign(root, OUT, &mut states, &mut |first, length, matches| {
        entries.push(Member { net: net(family, first, length), nomatch: !matches });
    });
    entries.sort_unstable();
    Coverage::Entries(entries)
}

#[cfg(test)]
#[path = "networks_tests.rs"]
mod tests;
