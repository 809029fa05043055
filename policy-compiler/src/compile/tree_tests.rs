use std::collections::BTreeSet;

use super::*;

fn leaves(addresses: impl IntoIterator<Item = IpAddr>) -> BTreeMap<IpAddr, ChainName> {
    addresses
        .into_iter()
        .enumerate()
        .map(|(i, address)| (address, ChainName::of(format_args!("E-{i}"))))
        .collect()
}

fn v4(addresses: impl IntoIterator<Item = u32>) -> BTreeMap<IpAddr, ChainName> {
    leaves(addresses.into_iter().map(|a| IpAddr::from(std::net::Ipv4Addr::from(a))))
}

fn grow(leaves: &BTreeMap<IpAddr, ChainName>) -> (Chain, BTreeMap<ChainName, Chain>) {
    let family = leaves.keys().next().map_or(Family::V4, |a| Family::of(*a));
    tree(Direction::Egress, family, leaves, &mut Registry::default())
}

fn show(chain: &Chain) -> Vec<String> {
    let rule = |rule: &Rule| match (&rule.matches[..], &rule.target) {
        ([Match::Source(net)], Target::Goto(chain)) => format!("{net} {chain}"),
        other => panic!("{other:?}"),
    };
    chain.rules.iter().map(rule).collect()
}

/// The chain that an address is led to, and how many inner chains lie on the way.
fn walk(root: &Chain, inner: &BTreeMap<ChainName, Chain>, address: IpAddr) -> (ChainName, usize) {
    let (mut chain, mut depth) = (root, 0);
    loop {
        let next = chain
            .rules
            .iter()
            .find_map(|rule| match (&rule.matches[..], &rule.target) {
                ([Match::Source(net)], Target::Goto(to)) if net.contains(&address) => Some(to),
                _ => None,
            })
            .expect("an address of the tree is led somewhere");
        match inner.get(next) {
            Some(found) => (chain, depth) = (found, depth + 1),
            None => return (next.clone(), depth),
        }
    }
}

#[test]
fn up_to_eight_addresses_are_listed_where_they_stand() {
    let (root, inner) = grow(&v4([0x0a00_0001, 0x0a00_0002, 0xc0a8_0001]));
    assert_eq!(
        show(&root),
        ["10.0.0.1/32 NPC-E-0", "10.0.0.2/32 NPC-E-1", "192.168.0.1/32 NPC-E-2"]
    );
    assert_eq!(inner, BTreeMap::new());
}

#[test]
fn chains_are_named_by_their_prefix_and_stretches_with_one_child_skipped() {
    let far = (0..9).map(|i| 0x0af4_0110 + i).chain([0xc0a8_0001]);
    let (root, inner) = grow(&v4(far));
    assert_eq!(show(&root), ["10.244.1.0/26 NPC-ET-0af40100-26", "192.168.0.1/32 NPC-E-9"]);
    let names: Vec<&str> = inner.keys().map(ChainName::as_str).collect();
    assert_eq!(names, ["NPC-ET-0af40100-26", "NPC-ET-0af40110-29"]);
    let middle = &inner[&ChainName::of(format_args!("ET-0af40100-26"))];
    assert_eq!(show(middle), ["10.244.1.16/29 NPC-ET-0af40110-29", "10.244.1.24/32 NPC-E-8"]);
}

#[test]
fn a_full_slash_24_takes_two_levels_below_the_top() {
    let all = v4((0..256).map(|i| 0x0af4_0100 + i));
    let (root, inner) = grow(&all);
    // Four /26 of eight /29 of eight addresses.
    assert_eq!((root.rules.len(), inner.len()), (4, 4 + 32));
    let rules: usize = inner.values().map(|chain| chain.rules.len()).sum();
    assert_eq!(root.rules.len() + rules, 4 + 32 + 256);
}

#[test]
fn no_way_is_longer_than_six_chains_and_every_address_gets_to_its_own() {
    // Nine neighbours at every level of a long path, so that nothing can be skipped.
    let deep = (0..32).flat_map(|bit| (0..9).map(move |i| (1_u32 << bit).wrapping_add(i * 3)));
    let v6 = (0..128).flat_map(|bit| {
        (0..9).map(move |i| IpAddr::from(std::net::Ipv6Addr::from((1_u128 << bit) + i)))
    });
    for all in [v4(deep.collect::<BTreeSet<_>>()), leaves(v6.collect::<BTreeSet<_>>())] {
        let (root, inner) = grow(&all);
        let deepest = all.iter().map(|(address, chain)| {
            let (found, depth) = walk(&root, &inner, *address);
            assert_eq!(&found, chain, "{address}");
            depth
        });
        assert_eq!(deepest.max(), Some(DEPTH));
    }
}

#[test]
fn the_names_of_ipv6_prefixes_fit() {
    let all = leaves((0..100).map(|i| {
        IpAddr::from(std::net::Ipv6Addr::from(0xfd00_0010_0244_0001_0000_0000_0000_0000 + i * 5))
    }));
    let (_, inner) = grow(&all);
    assert!(inner.len() > 8);
    for name in inner.keys() {
        assert_eq!(ChainName::new(name.as_str()).as_ref(), Some(name));
        assert_eq!(name.as_str().len(), "NPC-ET-".len() + 16);
    }
}

#[test]
fn where_a_prefix_has_no_name_its_rules_stand_in_the_chain_above() {
    let all = leaves((0..16).map(|i| IpAddr::from(std::net::Ipv6Addr::from(i))));
    let (root, inner) = grow(&all);
    assert_eq!((root.rules.len(), inner.len()), (2, 2));
    let mut registry = Registry::default();
    for name in inner.keys() {
        registry.take("tree", name.as_str().trim_start_matches("NPC-ET-"));
    }
    let (root, inner) = tree(Direction::Egress, Family::V6, &all, &mut registry);
    assert_eq!((root.rules.len(), inner.len()), (16, 0));
}
