//! Hooks, entry chains and the chains that every isolated pod shares.

use super::builders::*;
use super::reading::{chain, chain_names, chain_of, named, named_in, set_names};
use crate::cidr::Family;
use crate::cluster::Snapshot;
use crate::compile::compile;
use crate::config::{DenyAction, Hairpin, InterfaceName, NodeConfig};
use crate::policy::{Direction, Peers, Policy, Ports};
use crate::render;
use crate::ruleset::Hook;
use crate::simulate::check;

fn deny_ingress() -> Policy {
    ingress(policy("shop/deny", ""), vec![])
}

fn deny_both() -> Policy {
    egress(deny_ingress(), vec![])
}

fn one_pod(policy: Policy) -> Snapshot {
    cluster([pod("shop/web-0", "app=web", 17)], [policy])
}

fn on_bridge() -> NodeConfig {
    NodeConfig { bridges: [InterfaceName::new("cni0").unwrap()].into(), ..config() }
}

#[test]
fn without_an_isolated_pod_a_new_flow_pays_for_one_empty_chain() {
    let idle = cluster([pod("shop/web-0", "", 17)], [ingress(policy("other/deny", ""), vec![])]);
    let compiled = compile(&idle, &NodeConfig { ipvs: true, ..on_bridge() });
    for family in Family::ALL {
        let rules = compiled.ruleset.family(family);
        assert_eq!(chain_names(&compiled, family), ["NPC-FORWARD", "NPC-OUTPUT"]);
        assert_eq!(named_in(&compiled, family, "NPC-FORWARD"), Vec::<String>::new());
        assert!(rules.sets.is_empty());
        let hooks: Vec<(Hook, String)> =
            rules.hooks.iter().map(|(h, rule)| (*h, render::rule_spec(rule).join(" "))).collect();
        let hook = |to: &str| format!("-m conntrack ! --ctstate RELATED,ESTABLISHED -j {to}");
        assert_eq!(
            hooks,
            [(Hook::Forward, hook("NPC-FORWARD")), (Hook::Output, hook("NPC-OUTPUT"))]
        );
    }
}

#[test]
fn a_family_without_an_isolated_pod_stays_empty_beside_the_other() {
    let mut only_v4 = pod("shop/web-0", "", 17);
    only_v4.addresses.v6 = None;
    let compiled = compile(&cluster([only_v4], [deny_both()]), &config());
    assert_eq!(chain_names(&compiled, Family::V6), ["NPC-FORWARD"]);
    assert_eq!(chain_names(&compiled, Family::V4).len(), 8);
}

#[test]
fn new_flows_meet_the_midstream_check_then_egress_then_ingress() {
    let compiled = compile(&one_pod(deny_both()), &config());
    assert_eq!(
        named(&compiled, "NPC-FORWARD"),
        [
            "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j NPC-MIDSTREAM",
            "-j NPC-EGRESS",
            "-j NPC-INGRESS",
        ]
    );
    assert_eq!(
        named(&compiled, "NPC-MIDSTREAM"),
        [
            "-m set --match-set npc4-iso src -g NPC-DENY-E",
            "-m set --match-set npc4-iso dst -g NPC-DENY-I",
        ]
    );
    assert_eq!(set_names(&compiled, Family::V6), ["npc6-iso"]);
    assert_eq!(named(&compiled, "NPC-DENY-E"), ["-j DROP"]);
}

#[test]
fn denied_packets_are_told_of_before_they_are_denied_where_that_is_asked_for() {
    let told = compile(&one_pod(deny_both()), &NodeConfig { log_denied: true, ..config() });
    for (chain, prefix) in [("NPC-DENY-E", "NPC-E"), ("NPC-DENY-I", "NPC-I")] {
        let log = format!(
            "-m limit --limit 100/sec --limit-burst 200 -j NFLOG --nflog-prefix {prefix} \
             --nflog-group 6917 --nflog-size 128"
        );
        assert_eq!(named(&told, chain), [log.as_str(), "-j DROP"]);
    }
}

#[test]
fn a_direction_in_which_nobody_is_isolated_has_no_tree() {
    let compiled = compile(&one_pod(deny_ingress()), &config());
    let forward = named(&compiled, "NPC-FORWARD");
    assert_eq!(forward.last().map(String::as_str), Some("-j NPC-INGRESS"));
    assert!(!chain_names(&compiled, Family::V4).contains(&"NPC-EGRESS".to_owned()));
}

#[test]
fn flows_that_may_live_on_need_no_midstream_check() {
    let keep = NodeConfig { keep_established: true, ..config() };
    let compiled = compile(&one_pod(deny_both()), &keep);
    assert_eq!(named(&compiled, "NPC-FORWARD"), ["-j NPC-EGRESS", "-j NPC-INGRESS"]);
    assert_eq!(set_names(&compiled, Family::V4), Vec::<String>::new());
}

#[test]
fn on_a_bridge_what_belongs_to_no_address_is_denied_first() {
    let compiled = compile(&one_pod(deny_ingress()), &on_bridge());
    let forward = named(&compiled, "NPC-FORWARD");
    assert_eq!(forward[0], "-i cni0 -m physdev --physdev-is-bridged -g NPC-BRIDGED");
    let bridged = named(&compiled, "NPC-BRIDGED");
    assert_eq!(
        bridged[..2],
        ["-m addrtype --dst-type BROADCAST -g NPC-DENY-I", "-d 224.0.0.0/4 -g NPC-DENY-I"]
    );
    assert_eq!(bridged[2..], forward[1..]);
    let bridged = named_in(&compiled, Family::V6, "NPC-BRIDGED");
    let exempt = |kind: u8| format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN");
    assert_eq!(bridged[..6], [130, 131, 132, 143, 135, 136].map(exempt));
    assert_eq!(
        bridged[6..9],
        ["-s fe80::/10 -g NPC-DENY-I", "-d fe80::/10 -g NPC-DENY-I", "-d ff00::/8 -g NPC-DENY-I"]
    );
}

#[test]
fn with_ipvs_what_the_node_itself_sends_passes_and_the_rest_goes_the_way_of_forward() {
    let compiled = compile(&one_pod(deny_ingress()), &NodeConfig { ipvs: true, ..config() });
    assert_eq!(
        named(&compiled, "NPC-OUTPUT"),
        ["-m addrtype --src-type LOCAL -j RETURN", "-g NPC-FORWARD"]
    );
    let plain = compile(&one_pod(deny_ingress()), &config());
    assert_eq!(plain.ruleset.v4.hooks.keys().copied().collect::<Vec<_>>(), [Hook::Forward]);
}

#[test]
fn a_pod_that_nobody_may_reach_still_reaches_itself_through_a_service() {
    let compiled = compile(&one_pod(deny_ingress()), &config());
    for (address, net) in [("10.244.1.17", "10.244.1.17/32"), ("fd00::11", "fd00::11/128")] {
        let address = address.parse().unwrap();
        let own = chain_of(&compiled, Direction::Ingress, address);
        assert_eq!(
            chain(&compiled, Family::of(address), &own),
            [
                format!("-s {net} -m conntrack ! --ctorigdst {address} -j RETURN"),
                "-m comment --comment shop/web-0 -g NPC-DENY-I".to_owned(),
            ]
        );
    }
}

#[test]
fn up_to_three_rules_stand_in_the_pods_chain_after_the_denial_of_its_own_address() {
    let open = |list| egress(policy("shop/out", ""), vec![(Peers::Any, ports(list))]);
    let compiled = compile(&one_pod(open(&["80", "53/UDP", "9/SCTP"])), &config());
    let address = "10.244.1.17".parse().unwrap();
    let own = chain_of(&compiled, Direction::Egress, address);
    assert_eq!(
        chain(&compiled, Family::V4, &own),
        [
            "-d 10.244.1.17/32 -m conntrack ! --ctorigdst 10.244.1.17 -j RETURN",
            "-d 10.244.1.17/32 -g NPC-DENY-E",
            "-p tcp -m tcp --dport 80 -j RETURN",
            "-p udp -m udp --dport 53 -j RETURN",
            "-p sctp -m sctp --dport 9 -j RETURN",
            "-m comment --comment shop/web-0 -g NPC-DENY-E",
        ]
    );
}

/// Two pods that four distinct rules select.
fn two_pods_with_a_long_body() -> Snapshot {
    let peers = |select| listed(vec![pods(select)]);
    let rules = vec![
        (peers("app=a"), ports(&["1"])),
        (peers("app=b"), ports(&["2"])),
        (peers("app=c"), ports(&["3"])),
        (peers("app=d"), ports(&["4"])),
    ];
    let policy = ingress(policy("shop/long", "app=web"), rules);
    cluster([pod("shop/web-0", "app=web", 17), pod("shop/web-1", "app=web", 18)], [policy])
}

#[test]
fn a_longer_body_is_shared_by_the_pods_that_have_it() {
    let compiled = compile(&two_pods_with_a_long_body(), &config());
    let bodies: Vec<String> = chain_names(&compiled, Family::V4)
        .into_iter()
        .filter(|name| name.starts_with("NPC-IB-"))
        .collect();
    let [body] = &bodies[..] else { panic!("one body, not {bodies:?}") };
    for host in [17, 18] {
        let own = chain_of(&compiled, Direction::Ingress, [10, 244, 1, host].into());
        assert_eq!(
            chain(&compiled, Family::V4, &own),
            [
                format!(
                    "-s 10.244.1.{host}/32 -m conntrack ! --ctorigdst 10.244.1.{host} -j RETURN"
                ),
                format!("-s 10.244.1.{host}/32 -g NPC-DENY-I"),
                format!("-g {body}"),
            ]
        );
    }
    let rules = named(&compiled, body);
    assert_eq!((rules.len(), rules[4].as_str()), (5, "-g NPC-DENY-I"));
}

#[test]
fn where_hairpins_are_policed_a_translated_packet_goes_to_the_body() {
    let police = NodeConfig { hairpin: Hairpin::Police, ..config() };
    let open = egress(policy("shop/out", ""), vec![(Peers::Any, ports(&["80"]))]);
    let compiled = compile(&one_pod(egress(open, vec![(Peers::Any, ports(&["80"]))])), &police);
    let own = chain_of(&compiled, Direction::Egress, "10.244.1.17".parse().unwrap());
    let rules = chain(&compiled, Family::V4, &own);
    let body = rules[2].trim_start_matches("-g ");
    assert_eq!(
        rules,
        [
            format!("-d 10.244.1.17/32 -m conntrack ! --ctorigdst 10.244.1.17 -g {body}"),
            "-d 10.244.1.17/32 -g NPC-DENY-E".to_owned(),
            format!("-g {body}"),
        ]
    );
    assert_eq!(named(&compiled, body), ["-p tcp -m tcp --dport 80 -j RETURN", "-g NPC-DENY-E"]);
    let compiled = compile(&one_pod(deny_ingress()), &police);
    let own = chain_of(&compiled, Direction::Ingress, "10.244.1.17".parse().unwrap());
    assert_eq!(
        chain(&compiled, Family::V4, &own),
        ["-m comment --comment shop/web-0 -g NPC-DENY-I"]
    );
}

#[test]
fn everything_allowed_is_one_rule_and_no_denial_behind_it() {
    let open = ingress(policy("shop/open", ""), vec![(Peers::Any, Ports::Any)]);
    let compiled = compile(&one_pod(open), &config());
    let own = chain_of(&compiled, Direction::Ingress, "10.244.1.17".parse().unwrap());
    let rules = chain(&compiled, Family::V4, &own);
    assert_eq!((rules.len(), rules[2].as_str()), (3, "-j RETURN"));
}

#[test]
fn a_refusal_is_a_reset_for_tcp_and_unreachable_for_the_rest() {
    let refuse = NodeConfig { deny: DenyAction::Reject, ..config() };
    let compiled = compile(&one_pod(deny_ingress()), &refuse);
    for (family, unreachable) in
        [(Family::V4, "icmp-port-unreachable"), (Family::V6, "icmp6-port-unreachable")]
    {
        let text = render::ruleset(&compiled.ruleset, family);
        let denials: Vec<&str> =
            text.lines().filter(|line| line.starts_with("-A NPC-DENY-I ")).collect();
        let second = format!("-A NPC-DENY-I -j REJECT --reject-with {unreachable}");
        assert_eq!(
            denials,
            ["-A NPC-DENY-I -p tcp -j REJECT --reject-with tcp-reset", second.as_str()]
        );
    }
}

#[test]
fn the_kernel_would_take_every_one_of_these() {
    let full = NodeConfig { ipvs: true, deny: DenyAction::Reject, ..on_bridge() };
    for snapshot in [Snapshot::default(), one_pod(deny_both()), two_pods_with_a_long_body()] {
        for config in [config(), full.clone()] {
            assert_eq!(check(&compile(&snapshot, &config).ruleset), Ok(()));
        }
    }
}
