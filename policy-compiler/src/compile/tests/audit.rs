//! Pods that policies audit.

use super::builders::*;
use super::reading::{chain, chain_names, chain_of, named, set_names};
use crate::cidr::Family;
use crate::cluster::{Namespace, Snapshot};
use crate::compile::compile;
use crate::config::{Hairpin, InterfaceName, NodeConfig};
use crate::document::Location;
use crate::labels::Labels;
use crate::name::NamespaceName;
use crate::policy::{Direction, Peers, Policy};
use crate::ruleset::ChainName;
use crate::simulate::check;

const OWN: &str = "10.244.1.17";
const LOG: &str = "-m limit --limit 100/sec --limit-burst 200 -j NFLOG --nflog-prefix NPC-AI \
                   --nflog-group 6917 --nflog-size 128";

fn audited(policy: Policy) -> Policy {
    Policy { audit: true, ..policy }
}

fn from_web(name: &str) -> Policy {
    ingress(policy(name, ""), vec![(listed(vec![pods("app=web")]), ports(&["80"]))])
}

fn one_pod(policies: impl IntoIterator<Item = Policy>) -> Snapshot {
    cluster([pod("shop/web-0", "app=web", 17)], policies)
}

fn leaf(compiled: &super::super::Compiled) -> ChainName {
    chain_of(compiled, Direction::Ingress, OWN.parse().unwrap())
}

#[test]
fn a_pod_that_is_audited_alone_has_a_tree_and_nothing_that_denies() {
    let compiled = compile(&one_pod([audited(from_web("shop/p"))]), &config());
    assert_eq!(check(&compiled.ruleset), Ok(()));
    assert_eq!(named(&compiled, "NPC-FORWARD"), ["-j NPC-INGRESS"]);
    assert_eq!(named(&compiled, "NPC-AUDIT-I"), [LOG, "-j RETURN"]);
    let own = leaf(&compiled);
    assert!(own.as_str().starts_with("NPC-AI-"), "{own}");
    let rules = chain(&compiled, Family::V4, &own);
    let [hairpin, spoofed, body] = rules.as_slice() else { panic!("{rules:#?}") };
    assert_eq!(*hairpin, format!("-s {OWN}/32 -m conntrack ! --ctorigdst {OWN} -j RETURN"));
    assert_eq!(*spoofed, format!("-s {OWN}/32 -m comment --comment shop/web-0 -g NPC-AUDIT-I"));
    let body = body.strip_prefix("-j ").unwrap();
    let rules = named(&compiled, body);
    assert_eq!(rules.len(), 2, "{rules:#?}");
    assert!(rules[0].starts_with("-p tcp -m tcp --dport 80 -m set"), "{rules:#?}");
    assert_eq!(rules[1], "-g NPC-AUDIT-I");
    let names = chain_names(&compiled, Family::V4);
    assert_eq!(names, [own.as_str(), body, "NPC-AUDIT-I", "NPC-FORWARD", "NPC-INGRESS"]);
    let sets = set_names(&compiled, Family::V4);
    assert!(sets.len() == 1 && sets[0].starts_with("npc4-p-"), "no set of isolated: {sets:?}");
}

#[test]
fn where_a_policy_isolates_an_audited_one_leaves_no_trace() {
    let enforced = || from_web("shop/p");
    let other = audited(ingress(policy("shop/q", ""), vec![]));
    let with = compile(&one_pod([enforced(), other]), &config());
    assert_eq!(with, compile(&one_pod([enforced()]), &config()));
}

#[test]
fn a_namespace_that_audits_has_all_of_its_policies_audited_and_no_others() {
    let mut snapshot = one_pod([from_web("shop/p")]);
    let name = NamespaceName::new("shop").unwrap();
    let mut namespace = Namespace::new(name.clone(), Labels::default(), Location::default());
    let enforced = leaf(&compile(&snapshot, &config()));
    assert!(
        enforced.as_str().starts_with("NPC-I-"),
        "a namespace that is not known audits nothing"
    );
    namespace.audit = true;
    snapshot.namespaces.insert(name, namespace);
    assert!(leaf(&compile(&snapshot, &config())).as_str().starts_with("NPC-AI-"));
    let elsewhere = cluster([pod("other/web-0", "app=web", 17)], [from_web("other/p")]);
    snapshot.pods = elsewhere.pods;
    snapshot.policies = elsewhere.policies;
    assert!(leaf(&compile(&snapshot, &config())).as_str().starts_with("NPC-I-"));
}

#[test]
fn each_audited_policy_is_asked_for_itself_and_one_that_allows_all_not_at_all() {
    let open =
        audited(ingress(policy("shop/open", ""), vec![(Peers::Any, crate::policy::Ports::Any)]));
    let closed = audited(ingress(policy("shop/closed", ""), vec![]));
    let compiled = compile(&one_pod([audited(from_web("shop/p")), open, closed]), &config());
    let rules = chain(&compiled, Family::V4, &leaf(&compiled));
    assert_eq!(
        rules.iter().filter(|rule| rule.starts_with("-j NPC-AIB-")).count(),
        2,
        "{rules:#?}"
    );
}

#[test]
fn where_hairpin_traffic_is_policed_every_body_is_asked_about_it() {
    let policies = [audited(from_web("shop/p")), audited(ingress(policy("shop/q", ""), vec![]))];
    let police = NodeConfig { hairpin: Hairpin::Police, ..config() };
    let compiled = compile(&one_pod(policies), &police);
    let rules = chain(&compiled, Family::V4, &leaf(&compiled));
    let itself = format!("-s {OWN}/32 -m conntrack ! --ctorigdst {OWN} ");
    let asked: Vec<&str> = rules.iter().filter_map(|rule| rule.strip_prefix(&itself)).collect();
    assert_eq!(asked.len(), 3, "{rules:#?}");
    assert!(asked[..2].iter().all(|rule| rule.starts_with("-j NPC-AIB-")), "{rules:#?}");
    assert_eq!(asked[2], "-j RETURN");
}

#[test]
fn on_a_bridge_of_audited_pods_nothing_is_denied_and_neighbour_discovery_is_no_business_of_audits()
{
    let bridges = [InterfaceName::new("cni0").unwrap()].into();
    let config = NodeConfig { bridges, ..config() };
    let compiled = compile(&one_pod([audited(from_web("shop/p"))]), &config);
    assert_eq!(named(&compiled, "NPC-FORWARD"), ["-j NPC-INGRESS"]);
    let v6 = |name: &str| super::reading::named_in(&compiled, Family::V6, name);
    let on_bridge = v6("NPC-BRIDGED");
    assert_eq!(on_bridge.len(), 7, "{on_bridge:#?}");
    assert!(on_bridge[..6].iter().all(|rule| rule.ends_with("-j RETURN")), "{on_bridge:#?}");
    assert_eq!(on_bridge[6], "-j NPC-INGRESS");
    assert_eq!(
        v6("NPC-FORWARD"),
        ["-i cni0 -m physdev --physdev-is-bridged -g NPC-BRIDGED", "-j NPC-INGRESS"]
    );
}

#[test]
fn a_named_port_of_an_audited_policy_that_resolves_nowhere_is_told() {
    let odd = ingress(policy("shop/p", ""), vec![(Peers::Any, ports(&["metrics"]))]);
    let compiled = compile(&one_pod([audited(odd)]), &config());
    let told: Vec<String> = compiled.diagnostics.iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("declares a TCP port `metrics`"), "{told:#?}");
}
