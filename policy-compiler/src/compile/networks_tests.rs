use std::collections::BTreeMap;

use super::*;

fn block(cidr: &str, except: &[&str]) -> IpBlock {
    let except = except.iter().map(|e| e.parse().unwrap()).collect();
    IpBlock::new(cidr.parse().unwrap(), except).unwrap()
}

fn entries(family: Family, blocks: &[IpBlock]) -> Vec<String> {
    match coverage(family, blocks) {
        Coverage::Nothing => vec!["nothing".to_owned()],
        Coverage::Everything => vec!["everything".to_owned()],
        Coverage::Entries(entries) => entries
            .iter()
            .map(|e| format!("{}{}", if e.nomatch { "!" } else { "" }, e.net))
            .collect(),
    }
}

#[test]
fn everything_but_one_address_is_three_entries() {
    assert_eq!(
        entries(Family::V4, &[block("0.0.0.0/0", &["169.254.169.254/32"])]),
        ["0.0.0.0/1", "128.0.0.0/1", "!169.254.169.254/32"]
    );
    assert_eq!(
        entries(Family::V6, &[block("::/0", &["fd00:ec2::254/128"])]),
        ["::/1", "8000::/1", "!fd00:ec2::254/128"]
    );
}

#[test]
fn an_except_takes_nothing_from_another_block() {
    let both = [block("10.0.0.0/8", &["10.1.0.0/16"]), block("10.0.0.0/12", &[])];
    assert_eq!(entries(Family::V4, &both), ["10.0.0.0/8"]);
}

#[test]
fn all_of_ipv6_includes_the_translation_prefix_and_is_no_entry_at_all() {
    assert_eq!(entries(Family::V6, &[block("::/0", &[])]), ["everything"]);
    assert_eq!(entries(Family::V4, &[block("::/0", &[])]), ["nothing"]);
    let halves = [block("0.0.0.0/1", &[]), block("128.0.0.0/1", &[])];
    assert_eq!(entries(Family::V4, &halves), ["everything"]);
}

#[test]
fn a_block_that_is_all_excepts_grants_nothing() {
    let hollow = block("10.0.0.0/8", &["10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/9"]);
    assert_eq!(entries(Family::V4, &[hollow]), ["nothing"]);
}

#[test]
fn excepts_may_overlap_and_reach_the_ends_of_the_family() {
    let ends = block("0.0.0.0/0", &["0.0.0.0/8", "0.0.0.0/16", "255.255.255.255/32"]);
    assert_eq!(
        entries(Family::V4, &[ends]),
        ["0.0.0.0/1", "!0.0.0.0/8", "128.0.0.0/1", "!255.255.255.255/32"]
    );
    let last = block("ffff::/16", &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"]);
    let found = coverage(Family::V6, [&last]);
    assert!(found.contains("ffff::1".parse().unwrap()));
    assert!(!found.contains("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
    assert!(!found.contains("fffe::1".parse().unwrap()));
}

#[test]
fn a_hundred_thousand_excepts_stay_a_hundred_thousand_entries() {
    let except: Vec<IpNet> = (0..100_000_u32)
        .map(|i| IpNet::from(IpAddr::from(Ipv4Addr::from(0x0a00_0000 + i * 7))))
        .collect();
    let large = IpBlock::new("0.0.0.0/0".parse().unwrap(), except).unwrap();
    let Coverage::Entries(entries) = coverage(Family::V4, [&large]) else { panic!("no entries") };
    assert_eq!(entries.len(), 100_002);
    assert_eq!(entries.iter().filter(|e| e.nomatch).count(), 100_000);
}

/// The fewest entries by trying, on a subtree of a small universe: for each inherited state.
fn fewest(
    universe: u32,
    first: u32,
    size: u32,
    inherited: bool,
    memo: &mut BTreeMap<(u32, u32, bool), usize>,
) -> usize {
    if let Some(known) = memo.get(&(first, size, inherited)) {
        return *known;
    }
    let below = |state: bool, memo: &mut BTreeMap<_, _>| -> usize {
        if size == 1 {
            let inside = universe >> first & 1 == 1;
            return if inside == state { 0 } else { usize::MAX / 4 };
        }
        let half = size / 2;
        fewest(universe, first, half, state, memo)
            + fewest(universe, first + half, half, state, memo)
    };
    // The whole universe stands for /0, which has no entry.
    let mut best = below(inherited, memo);
    if size < 32 {
        best = best.min(1 + below(!inherited, memo));
    }
    memo.insert((first, size, inherited), best);
    best
}

proptest::proptest! {
    #![proptest_config(crate::laws::config(2000))]

    #[test]
    fn the_encoding_is_exact_and_none_is_shorter(universe in proptest::prelude::any::<u32>()) {
        // 32 addresses spread over the family as its /5 networks.
        let chosen: Vec<IpBlock> = (0..32_u32)
            .filter(|i| universe >> i & 1 == 1)
            .map(|i| block(&format!("{}/5", Ipv4Addr::from(i << 27)), &[]))
            .collect();
        let found = coverage(Family::V4, &chosen);
        for i in 0..32_u32 {
            let address = IpAddr::from(Ipv4Addr::from(i << 27 | 0x1234));
            proptest::prop_assert_eq!(found.contains(address), universe >> i & 1 == 1);
        }
        let count = match &found {
            Coverage::Entries(entries) => entries.len(),
            // What the encoding leaves to a rule without an address match.
            Coverage::Everything => 2,
            Coverage::Nothing => 0,
        };
        let memo = &mut BTreeMap::new();
        proptest::prop_assert_eq!(count, fewest(universe, 0, 32, false, memo));
    }

    #[test]
    fn the_union_holds_what_some_block_grants_and_nothing_else(
        blocks in proptest::collection::vec(
            (0_u32..256, 24_u8..=32, proptest::collection::vec((0_u32..256, 25_u8..=32), 0..4)),
            0..5,
        ),
    ) {
        let small = |host: u32, length: u8| {
            IpNet::V4(Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 | host), length).unwrap()).trunc()
        };
        let blocks: Vec<IpBlock> = blocks
            .into_iter()
            .map(|(host, length, except)| {
                let cidr = small(host, length);
                let inside = except
                    .into_iter()
                    .map(|(host, length)| small(host, length))
                    .filter(|e| cidr.contains(e) && *e != cidr)
                    .collect();
                IpBlock::new(cidr, inside).unwrap()
            })
            .collect();
        let found = coverage(Family::V4, &blocks);
        for host in 0..256 {
            let address = IpAddr::from(Ipv4Addr::from(0x0a00_0000 | host));
            let granted = blocks.iter().any(|b| {
                b.cidr().contains(&address) && !b.except().iter().any(|e| e.contains(&address))
            });
            proptest::prop_assert_eq!(found.contains(address), granted, "{}", address);
        }
    }
}
