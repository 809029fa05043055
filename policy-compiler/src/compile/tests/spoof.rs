//! The chains that check where packets come from.

use std::num::NonZeroU16;

use super::builders::*;
use super::reading::*;
use crate::cidr::Family;
use crate::compile::compile;
use crate::config::{Antispoof, InterfaceName, NodeConfig};
use crate::engine::plan;
use crate::render;
use crate::ruleset::{Generation, Hook};
use crate::update::Step;

fn with(interfaces: &[(&str, &[&str])]) -> NodeConfig {
    let interfaces = interfaces.iter().map(|(name, addresses)| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        (InterfaceName::new(name).unwrap(), addresses.collect())
    });
    let tunnel_ports = [4789, 8472].map(|port| NonZeroU16::new(port).unwrap()).into();
    let antispoof = Antispoof { interfaces: interfaces.collect(), tunnel_ports };
    NodeConfig { antispoof: Some(antispoof), ..config() }
}

#[test]
fn every_packet_meets_the_check_and_then_standing_connections_are_let_go() {
    let isolated = cluster(
        [pod("shop/web-0", "app=web", 17)],
        [ingress(policy("shop/deny", "app=web"), vec![])],
    );
    let compiled = compile(&isolated, &with(&[("veth1", &["10.244.1.17", "fd00::17"])]));
    for family in Family::ALL {
        let hooks = &compiled.ruleset.family(family).hooks;
        let hooks = hooks.iter().map(|(hook, rule)| (*hook, render::rule_spec(rule).join(" ")));
        assert_eq!(
            hooks.collect::<Vec<_>>(),
            [
                (Hook::Forward, "-j NPC-FORWARD".to_owned()),
                (Hook::Input, "-j NPC-SOURCES".to_owned())
            ]
        );
        assert_eq!(
            named_in(&compiled, family, "NPC-FORWARD")[..2],
            ["-j NPC-SOURCES", "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"]
        );
    }
    assert_eq!(
        named(&compiled, "NPC-SOURCES"),
        ["-s 10.244.1.17/32 -i veth1 -g NPC-OWN-SOURCE", "-i veth1 -g NPC-DENY-S"]
    );
    assert_eq!(
        named(&compiled, "NPC-OWN-SOURCE"),
        ["-p udp -m multiport --dports 4789,8472 -g NPC-TUNNEL"]
    );
    assert_eq!(
        named(&compiled, "NPC-TUNNEL"),
        [
            "-m addrtype --dst-type LOCAL -g NPC-DENY-S",
            "-m addrtype --dst-type BROADCAST -g NPC-DENY-S",
            "-d 224.0.0.0/4 -g NPC-DENY-S",
        ]
    );
    assert_eq!(
        named_in(&compiled, Family::V6, "NPC-SOURCES"),
        ["-s fd00::17/128 -i veth1 -g NPC-OWN-SOURCE", "-i veth1 -g NPC-LINK-LOCAL"]
    );
    assert_eq!(
        named_in(&compiled, Family::V6, "NPC-LINK-LOCAL"),
        ["-s fe80::/10 -g NPC-OWN-SOURCE", "-s ::/128 -g NPC-OWN-SOURCE", "-g NPC-DENY-S"]
    );
}

#[test]
fn names_are_told_apart_by_how_they_begin() {
    let names = ["veth1", "veth10", "veth1_a", "veth1_b", "veth2", "veth30", "veth31", "lxc0", "x"];
    let interfaces: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &[][..])).collect();
    let compiled = compile(&cluster([], []), &with(&interfaces));
    assert_eq!(
        named(&compiled, "NPC-SOURCES"),
        ["-i lxc0 -g NPC-DENY-S", "-i veth+ -g NPC-ST-veth", "-i x -g NPC-DENY-S"]
    );
    let listed = names[..7].iter().map(|name| format!("-i {name} -g NPC-DENY-S"));
    assert_eq!(named(&compiled, "NPC-ST-veth"), listed.collect::<Vec<_>>());
}

#[test]
fn a_beginning_that_no_chain_could_be_named_by_is_hashed() {
    let names: Vec<String> = (0..9).map(|number| format!("a_{number}")).collect();
    let interfaces: Vec<(&str, &[&str])> = names.iter().map(|name| (&**name, &[][..])).collect();
    let compiled = compile(&cluster([], []), &with(&interfaces));
    let [only] = &named(&compiled, "NPC-SOURCES")[..] else { panic!("one beginning") };
    let chain = only.strip_prefix("-i a_+ -g ").unwrap();
    assert!(chain.starts_with("NPC-ST-") && chain.len() == "NPC-ST-".len() + 16, "{chain}");
    assert_eq!(named(&compiled, chain).len(), 9);
}

#[test]
fn without_the_check_nothing_of_it_is_there() {
    let compiled = compile(&cluster([], []), &config());
    assert_eq!(chain_names(&compiled, Family::V4), ["NPC-FORWARD"]);
    assert_eq!(compiled.ruleset.v4.hooks.keys().copied().collect::<Vec<_>>(), [Hook::Forward]);
}

/// A pod that comes brings an interface and joins sets: these are edited where they are.
#[test]
fn an_interface_that_comes_with_a_pod_has_no_set_made_anew() {
    let rules = vec![(listed(vec![pods("app=peer")]), ports(&["80"]))];
    let policy = || ingress(policy("shop/web", "app=web"), rules.clone());
    let web = || pod("shop/web-0", "app=web", 17);
    let before = compile(
        &cluster([web(), pod("shop/peer-0", "app=peer", 18)], [policy()]),
        &with(&[("veth1", &["10.244.1.17"])]),
    );
    let peers = [web(), pod("shop/peer-0", "app=peer", 18), pod("shop/peer-1", "app=peer", 19)];
    let after = compile(
        &cluster(peers, [policy()]),
        &with(&[("veth1", &["10.244.1.17"]), ("veth2", &["10.244.1.19"])]),
    );
    let update = plan(&before.ruleset, &after.ruleset, Generation(1)).update;
    let kinds: Vec<&str> = update
        .steps
        .iter()
        .map(|step| match step {
            Step::AddMembers(_) => "add members",
            Step::ReplaceChains(_) => "replace chains",
            _ => "something else",
        })
        .collect();
    assert_eq!(kinds, ["add members", "replace chains", "replace chains"]);
}
