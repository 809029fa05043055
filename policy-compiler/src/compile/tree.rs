//! The dispatch from addresses to the chains of pods: a prefix tree with strides of 3 bits.
//!
//! The tree is a function of the set of addresses alone, and its inner chains are named by their
//! prefix, so that a pod that comes changes the chains on its path and no other. A stretch with one
//! child is skipped; up to eight addresses are listed where they stand; and what lies deeper than
//! six chains is listed flat, since nft follows 15 nested chains at most, gotos counted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::digest::{Digest, Registry};
use super::layout::Frame;
use super::networks::{bits, net, width};
use super::structure::FamilyStructure;
use crate::cidr::Family;
use crate::policy::Direction;
use crate::ruleset::{Chain, ChainName, Match, Rule, Target};

/// Bits that one chain decides.
const STRIDE: u8 = 3;
/// As many addresses as one chain lists rather than divides.
const LISTED: usize = 8;
/// The most inner chains on the way to a pod's.
const DEPTH: usize = 6;

/// One address with the chain that judges it.
struct Leaf {
    address: IpAddr,
    bits: u128,
    chain: ChainName,
}

/// A tree being built.
struct Tree<'r> {
    direction: Direction,
    family: Family,
    registry: &'r mut Registry,
    chains: BTreeMap<ChainName, Chain>,
}

/// Trees as they were made last.
#[derive(Clone, Debug, Default)]
pub(super) struct Trees(BTreeMap<(Family, Direction), Frame>);

impl Trees {
    /// Puts the tree with these leaves where the last one was.
    pub(super) fn grow(
        &mut self,
        direction: Direction,
        family: Family,
        leaves: &BTreeMap<IpAddr, ChainName>,
        (root, registry): (ChainName, &mut Registry),
        rules: &mut FamilyStructure,
    ) {
        let mut planted = Frame::default();
        if !leaves.is_empty() {
            let (top, inner) = tree(direction, family, leaves, registry);
            planted.put_all(inner);
            planted.put(root, top);
        }
        let last = self.0.entry((family, direction)).or_default();
        planted.replace(last, rules);
        *last = planted;
    }
}

/// The rules of the tree's root, and its inner chains.
pub(super) fn tree(
    direction: Direction,
    family: Family,
    leaves: &BTreeMap<IpAddr, ChainName>,
    registry: &mut Registry,
) -> (Chain, BTreeMap<ChainName, Chain>) {
    let leaves: Vec<Leaf> = leaves
        .iter()
        .map(|(address, chain)| Leaf {
            address: *address,
            bits: bits(*address),
            chain: chain.clone(),
        })
        .collect();
    let mut tree = Tree { direction, family, registry, chains: BTreeMap::new() };
    let root = tree.rules(&leaves, 0);
    (Chain { rules: root }, tree.chains)
}

impl Tree<'_> {
    /// The rules that tell these leaves apart, which are sorted by address.
    fn rules(&mut self, leaves: &[Leaf], depth: usize) -> Vec<Rule> {
        if leaves.len() <= LISTED || depth == DEPTH {
            return leaves.iter().map(|leaf| self.leaf(leaf)).collect();
        }
        let length = next_boundary(self.family, self.shared_prefix(leaves));
        let mut rules = Vec::new();
        let family = self.family;
        let same = |a: &Leaf, b: &Leaf| net(family, a.bits, length) == net(family, b.bits, length);
        for group in leaves.chunk_by(same) {
            match group {
                [leaf] => rules.push(self.leaf(leaf)),
                _ => rules.extend(self.inner(group, depth + 1)),
            }
        }
        rules
    }

    /// The rule for a group, with the chain that it leads to; the group's own rules, should the
    /// chain's name be taken.
    fn inner(&mut self, group: &[Leaf], depth: usize) -> Vec<Rule> {
        let length = boundary(self.family, self.shared_prefix(group));
        let [first, ..] = group else { return Vec::new() };
        let prefix = net(self.family, first.bits, length);
        let rules = self.rules(group, depth);
        match self.name(prefix) {
            Some(name) => {
                self.chains.insert(name.clone(), Chain { rules });
                vec![self.dispatch(prefix, name)]
            }
            None => rules,
        }
    }

    /// How many bits all of these leaves share.
    fn shared_prefix(&self, leaves: &[Leaf]) -> u8 {
        let width = width(self.family);
        match leaves {
            [first, .., last] => {
                let differing = 128 - (first.bits ^ last.bits).leading_zeros();
                width - u8::try_from(differing).unwrap_or(width).min(width)
            }
            _ => width,
        }
    }

    fn leaf(&self, leaf: &Leaf) -> Rule {
        self.dispatch(IpNet::from(leaf.address), leaf.chain.clone())
    }

    fn dispatch(&self, prefix: IpNet, chain: ChainName) -> Rule {
        let condition = match self.direction {
            Direction::Egress => Match::Source(prefix),
            Direction::Ingress => Match::Destination(prefix),
        };
        Rule { matches: vec![condition], comment: None, target: Target::Goto(chain) }
    }

    /// `ET-0af40110-29`; an IPv6 prefix does not fit and is hashed.
    fn name(&mut self, prefix: IpNet) -> Option<ChainName> {
        let letter = match self.direction {
            Direction::Egress => 'E',
            Direction::Ingress => 'I',
        };
        let length = prefix.prefix_len();
        match prefix {
            IpNet::V4(prefix) => {
                let address = u32::from(prefix.network());
                Some(ChainName::of(format_args!("{letter}T-{address:08x}-{length}")))
            }
            IpNet::V6(prefix) => {
                let mut digest = Digest::new("tree");
                digest.text(&prefix.to_string());
                let hash = self.registry.name("tree", digest.finish()).ok()?;
                Some(ChainName::of(format_args!("{letter}T-{hash}")))
            }
        }
    }
}

/// The longest prefix length that divides strides and is at most `shared`. Strides are counted from
/// the single address up, so that the lowest chains always hold 8 neighbours.
fn boundary(family: Family, shared: u8) -> u8 {
    let offset = width(family) % STRIDE;
    if shared < offset { 0 } else { shared - (shared - offset) % STRIDE }
}

/// The shortest prefix length that divides strides and is more than `shared`.
fn next_boundary(family: Family, shared: u8) -> u8 {
    let offset = width(family) % STRIDE;
    if shared < offset { offset } else { boundary(family, shared) + STRIDE }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
