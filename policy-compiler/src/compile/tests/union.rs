//! The union of rules, and the sets behind it.

use super::builders::*;
use super::reading::{allows, chain, chain_of};
use crate::cidr::Family;
use crate::compile::compile;
use crate::policy::{Direction, Peers, Ports};

const IN: Direction = Direction::Ingress;
const OUT: Direction = Direction::Egress;

#[test]
fn rules_of_several_policies_are_one_set_lookup_for_each_group_of_ports() {
    let snapshot = cluster(
        [pod("shop/db", "app=db", 1), pod("shop/web", "app=web", 2), pod("shop/job", "app=job", 3)],
        [
            ingress(
                policy("shop/a", "app=db"),
                vec![(listed(vec![pods("app=web")]), ports(&["80"]))],
            ),
            ingress(
                policy("shop/b", "app=db"),
                vec![(listed(vec![pods("app=job")]), ports(&["80"]))],
            ),
            ingress(
                policy("shop/c", "app=db"),
                vec![(
                    listed(vec![pods("app=job"), pods("app=web")]),
                    ports(&["8080-8090", "443"]),
                )],
            ),
        ],
    );
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
