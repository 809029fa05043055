//! The union of rules, and the sets behind it.

use super::builders::*;
use super::reading::{allows, chain, chain_of};
use crate::cidr::Family;
use crate::cluster::Snapshot;
use crate::compile::compile;
use crate::policy::{Direction, Peers, Policy, Ports};

const IN: Direction = Direction::Ingress;
const OUT: Direction = Direction::Egress;

/// A database, a web pod and a job: 10.244.1.1, 2 and 3.
fn shop(policies: impl IntoIterator<Item = Policy>) -> Snapshot {
    let db = declare(pod("shop/db", "app=db", 1), "sql", 5432);
    cluster([db, pod("shop/web", "app=web", 2), pod("shop/job", "app=job", 3)], policies)
}

fn into_db(name: &str, rules: Vec<(Peers, Ports)>) -> Policy {
    ingress(policy(name, "app=db"), rules)
}

fn allowed_into_db(rules: Vec<(Peers, Ports)>) -> Vec<String> {
    allows(&compile(&shop([into_db("shop/a", rules)]), &config()), IN, 1)
}

#[test]
fn rules_of_several_policies_are_one_set_lookup_for_each_group_of_ports() {
    let snapshot = shop([
        into_db("shop/a", vec![(listed(vec![pods("app=web")]), ports(&["80"]))]),
        into_db("shop/b", vec![(listed(vec![pods("app=job")]), ports(&["80"]))]),
        into_db(
            "shop/c",
            vec![(listed(vec![pods("app=job"), pods("app=web")]), ports(&["8080-8090", "443"]))],
        ),
    ]);
    assert_eq!(
        allows(&compile(&snapshot, &config()), IN, 1),
        ["-p tcp -m multiport --dports 80,443,8080:8090 {10.244.1.2 10.244.1.3} src"]
    );
}

#[test]
fn an_egress_rule_does_not_open_ingress_between_two_selected_pods() {
    let both = egress(ingress(policy("shop/both", ""), vec![]), vec![(Peers::Any, Ports::Any)]);
    let snapshot = cluster([pod("shop/a", "", 1), pod("shop/b", "", 2)], [both]);
    let compiled = compile(&snapshot, &config());
    assert_eq!(allows(&compiled, IN, 1), Vec::<String>::new());
    assert_eq!(allows(&compiled, OUT, 1), [""]);
    let own = chain_of(&compiled, IN, "10.244.1.1".parse().unwrap());
    assert_eq!(
        chain(&compiled, Family::V4, &own),
        [
            "-s 10.244.1.1/32 -m conntrack ! --ctorigdst 10.244.1.1 -j RETURN",
            "-m comment --comment shop/a -g NPC-DENY-I"
        ]
    );
}

#[test]
fn everybody_absorbs_every_peer_of_the_same_and_of_narrower_ports() {
    assert_eq!(
        allowed_into_db(vec![
            (listed(vec![pods("app=web"), block("10.0.0.0/8", &[])]), ports(&["80", "85"])),
            (Peers::Any, ports(&["80-90"])),
            (listed(vec![pods("app=web")]), ports(&["80/UDP", "100"])),
        ]),
        [
            "-p tcp -m tcp --dport 80:90",
            "-p tcp -m tcp --dport 100 {10.244.1.2} src",
            "-p udp -m udp --dport 80 {10.244.1.2} src"
        ]
    );
}

#[test]
fn an_empty_from_allows_its_ports_from_everywhere() {
    assert_eq!(allowed_into_db(vec![(Peers::Any, ports(&["80"]))]), ["-p tcp -m tcp --dport 80"]);
}

#[test]
fn a_peer_with_every_port_is_in_no_set_of_some_ports() {
    assert_eq!(
        allowed_into_db(vec![
            (listed(vec![pods("app=web"), pods("app=job")]), ports(&["80"])),
            (listed(vec![pods("app=web")]), Ports::Any),
        ]),
        ["-p tcp -m tcp --dport 80 {10.244.1.3} src", "{10.244.1.2} src"]
    );
}

#[test]
fn pods_and_networks_are_rules_of_their_own_and_a_single_prefix_needs_no_set() {
    let whom = || vec![pods("app=web"), block("10.0.0.0/8", &[])];
    assert_eq!(
        allowed_into_db(vec![(listed(whom()), ports(&["80"]))]),
        ["-s 10.0.0.0/8 -p tcp -m tcp --dport 80", "-p tcp -m tcp --dport 80 {10.244.1.2} src"]
    );
}

#[test]
fn an_except_takes_nothing_from_another_block_of_the_union() {
    let both = vec![block("10.0.0.0/8", &["10.1.0.0/16"]), block("10.0.0.0/12", &[])];
    assert_eq!(
        allowed_into_db(vec![(listed(both), ports(&["80"]))]),
        ["-s 10.0.0.0/8 -p tcp -m tcp --dport 80"]
    );
    let apart = |cidr, except| (listed(vec![block(cidr, except)]), ports(&["80"]));
    assert_eq!(
        allowed_into_db(vec![apart("10.0.0.0/8", &["10.1.0.0/16"]), apart("10.2.0.0/16", &[])]),
        ["-p tcp -m tcp --dport 80 {10.0.0.0/8 !10.1.0.0/16} src"]
    );
}

#[test]
fn all_of_one_family_needs_no_address_and_grants_nothing_in_the_other() {
    let compiled = compile(
        &shop([into_db("shop/a", vec![(listed(vec![block("::/0", &[])]), ports(&["80"]))])]),
        &config(),
    );
    assert_eq!(allows(&compiled, IN, 1), Vec::<String>::new());
    let own = chain_of(&compiled, IN, "fd00::1".parse().unwrap());
    assert_eq!(chain(&compiled, Family::V6, &own)[2], "-p tcp -m tcp --dport 80 -j RETURN");
}

#[test]
fn peers_that_surely_mean_more_absorb_those_that_mean_less() {
    let all = || pods_in(selector(""), "");
    assert_eq!(
        allowed_into_db(vec![(listed(vec![pods("app=web"), pods("")]), ports(&["80"]))]),
        allowed_into_db(vec![(listed(vec![pods("")]), ports(&["80"]))])
    );
    let sets = |rules| compile(&shop([into_db("shop/a", rules)]), &config()).ruleset.v4.sets;
    assert_eq!(
        sets(vec![(listed(vec![all(), pods("app=web"), pods("")]), ports(&["80"]))]),
        sets(vec![(listed(vec![all()]), ports(&["80"]))])
    );
}

#[test]
fn the_order_of_rules_peers_and_ports_changes_nothing() {
    let peers = [pods("app=web"), pods("app=job"), block("10.0.0.0/8", &["10.1.0.0/16"])];
    let mut backwards = peers.clone();
    backwards.reverse();
    let open = || (Peers::Any, ports(&["sql", "22"]));
    let forwards = vec![(listed(peers.into()), ports(&["80", "443", "53/UDP"])), open()];
    let backwards = vec![open(), (listed(backwards.into()), ports(&["53/UDP", "443", "80"]))];
    let of = |rules| compile(&shop([into_db("shop/a", rules)]), &config());
    assert_eq!(of(forwards), of(backwards));
}
