//! The addresses that blocks grant, as exact sets of one family.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::cidr::{Family, IpBlock};
use crate::compile::networks::{Span, bits, spans};

/// Addresses of one family: spans, sorted and apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressSet {
    family: Family,
    spans: Vec<Span>,
}

impl AddressSet {
    /// What those of `blocks` that are of `family` grant together.
    pub(super) fn of<'a>(family: Family, blocks: impl IntoIterator<Item = &'a IpBlock>) -> Self {
        Self { family, spans: spans(family, blocks) }
    }

    /// A network whole.
    pub(super) fn network(net: IpNet) -> Self {
        Self { family: Family::of_net(&net), spans: vec![Span::of(&net)] }
    }

    /// Their family.
    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether `address` is among them.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let bits = bits(address);
        let before = self.spans.partition_point(|span| span.last < bits);
        Family::of(address) == self.family
            && self.spans.get(before).is_some_and(|span| span.first <= bits)
    }

    /// Whether every address of `inner` is among them.
    pub(super) fn includes(&self, inner: &Self) -> bool {
        inner.is_empty()
            || self.family == inner.family
                && inner.spans.iter().all(|inner| {
                    let before = self.spans.partition_point(|span| span.last < inner.last);
                    self.spans.get(before).is_some_and(|span| span.first <= inner.first)
                })
    }

    /// Whether some address is in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.family == other.family
            && other.spans.iter().any(|other| {
                let before = self.spans.partition_point(|span| span.last < other.first);
                self.spans.get(before).is_some_and(|span| span.first <= other.last)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(blocks: &[(&str, &[&str])]) -> AddressSet {
        let blocks: Vec<IpBlock> = blocks
            .iter()
            .map(|(cidr, except)| {
                let except = except.iter().map(|e| e.parse().unwrap()).collect();
                IpBlock::new(cidr.parse().unwrap(), except).unwrap()
            })
            .collect();
        AddressSet::of(Family::V4, &blocks)
    }

    #[test]
    fn inclusion_looks_at_addresses_and_not_at_how_they_are_written() {
        let halves = set(&[("10.0.0.0/9", &[]), ("10.128.0.0/9", &[])]);
        let whole = set(&[("10.0.0.0/8", &[])]);
        assert!(halves.includes(&whole) && whole.includes(&halves));
        let holed = set(&[("10.0.0.0/8", &["10.1.0.0/16"])]);
        assert!(whole.includes(&holed) && !holed.includes(&whole));
        let filled = set(&[("10.0.0.0/8", &["10.1.0.0/16"]), ("10.1.0.0/16", &[])]);
        assert!(filled.includes(&whole));
        assert!(whole.includes(&set(&[])) && !set(&[]).includes(&whole));
    }

    #[test]
    fn sets_meet_where_an_address_is_in_both() {
        let holed = set(&[("10.0.0.0/8", &["10.1.0.0/16"])]);
        let hole = set(&[("10.1.0.0/16", &[])]);
        assert!(!holed.meets(&hole) && !hole.meets(&holed));
        assert!(holed.meets(&set(&[("10.0.0.0/15", &[])])));
        assert!(!holed.contains("10.1.2.3".parse().unwrap()));
        assert!(holed.contains("10.2.0.0".parse().unwrap()));
        assert!(!holed.contains("fd00::1".parse().unwrap()));
    }

    #[test]
    fn no_set_has_addresses_of_the_other_family() {
        let world = AddressSet::network("::/0".parse().unwrap());
        assert!(!world.includes(&set(&[("10.0.0.0/8", &[])])));
        assert!(!world.meets(&set(&[("10.0.0.0/8", &[])])));
    }
}
