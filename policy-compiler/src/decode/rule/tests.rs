use serde_json::{Value as Json, json};

use super::super::{Decoded, policy_spec};
use crate::diagnostic::Severity;
use crate::document::Node;
use crate::name::ObjectKey;
use crate::policy::{
    Direction, Grant, NamespaceScope, PeerSelects, Peers, Policy, PortNumbers, Ports, Rule,
};

fn of_spec(spec: Json) -> Decoded<Policy> {
    policy_spec(ObjectKey::new("shop", "web").unwrap(), &Node::from(spec), None)
}

/// The one ingress rule of a policy, and the findings as `severity field: message (help)`.
fn ingress_rule(rule: &Json) -> (Rule, Vec<String>) {
    let mut decoded = of_spec(json!({"ingress": [rule]}));
    let findings = decoded.diagnostics.iter().map(|d| {
        let text = d.to_string();
        text.replace(" NetworkPolicy shop/web:", "").replace("spec.ingress[0]", "~")
    });
    let findings = findings.collect();
    (decoded.object.ingress.remove(0), findings)
}

/// A grant in words: `peers on ports`.
fn described(rule: &Rule) -> String {
    match &rule.grant {
        Grant::Nothing { .. } => "nothing".to_owned(),
        Grant::Traffic { peers, ports } => {
            let peers = match peers {
                Peers::Any => "anybody".to_owned(),
                Peers::Listed(peers) => peers.iter().map(peer).collect::<Vec<_>>().join(" or "),
            };
            let ports = match ports {
                Ports::Any => "anything".to_owned(),
                Ports::Listed(ports) => {
                    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                }
            };
            format!("{peers} on {ports}")
        }
    }
}

fn peer(peer: &crate::policy::Peer) -> String {
    match &peer.selects {
        PeerSelects::Pods { namespaces: NamespaceScope::Own, pods } => format!("[{pods}]"),
        PeerSelects::Pods { namespaces: NamespaceScope::Matching(namespaces), pods } => {
            format!("[{pods}] in [{namespaces}]")
        }
        PeerSelects::Block(block) => block.to_string(),
    }
}

#[test]
fn what_a_rule_grants() {
    let web = json!({"matchLabels": {"app": "web"}});
    let team =
        json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x", "y"]}]});
    for (rule, grant) in [
        (json!({}), "anybody on anything"),
        (json!({"from": null, "ports": null}), "anybody on anything"),
        (json!({"from": [], "ports": []}), "anybody on anything"),
        (json!({"from": [], "ports": [{"port": 80}]}), "anybody on 80/TCP"),
        (json!({"ports": [{}]}), "anybody on any/TCP"),
        (
            json!({"ports": [{"protocol": null, "port": null, "endPort": null}]}),
            "anybody on any/TCP",
        ),
        (json!({"ports": [{"protocol": "UDP"}]}), "anybody on any/UDP"),
        (
            json!({"ports": [{"protocol": "SCTP", "port": 9}, {"port": "http"}]}),
            "anybody on 9/SCTP, http/TCP",
        ),
        (json!({"ports": [{"port": 1, "endPort": 65535}]}), "anybody on 1-65535/TCP"),
        (json!({"ports": [{"port": 80, "endPort": 80}]}), "anybody on 80/TCP"),
        (json!({"from": [{"podSelector": {}}]}), "[everything] on anything"),
        (json!({"from": [{"podSelector": web}]}), "[app=web] on anything"),
        (json!({"from": [{"podSelector": web, "ipBlock": null}]}), "[app=web] on anything"),
        (json!({"from": [{"namespaceSelector": {}}]}), "[everything] in [everything] on anything"),
        (
            json!({"from": [{"namespaceSelector": team, "podSelector": web}]}),
            "[app=web] in [team notin (x,y)] on anything",
        ),
        (
            json!({"from": [{"namespaceSelector": team}, {"podSelector": web}]}),
            "[everything] in [team notin (x,y)] or [app=web] on anything",
        ),
        (json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}), "0.0.0.0/0 on anything"),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.1.2.0/24", "10.1.0.0/16"]}}]}),
            "10.0.0.0/8 except 10.1.0.0/16, 10.1.2.0/24, 10.1.0.0/16 on anything",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "fd00::/8", "except": null}}]}),
            "fd00::/8 on anything",
        ),
    ] {
        let (decoded, findings) = ingress_rule(&rule);
        assert_eq!((described(&decoded).as_str(), findings), (grant, vec![]), "{rule}");
    }
}

#[test]
fn an_egress_rule_names_its_peers_in_to() {
    let decoded = of_spec(json!({"egress": [{"to": [{"podSelector": {}}]}, {"from": []}]}));
    let rules: Vec<String> = decoded.object.egress.iter().map(described).collect();
    assert_eq!(rules, ["[everything] on anything", "nothing"]);
    let [finding] = &decoded.diagnostics[..] else { panic!("{decoded:?}") };
    assert_eq!(finding.help.as_deref(), Some("an egress rule names its peers in `to`"));
}

#[test]
fn stored_cidrs_with_host_bits_or_zeros_are_masked_with_a_warning() {
    let block = json!({"cidr": "010.1.2.3/8", "except": ["10.9.9.9/16"]});
    let (rule, findings) = ingress_rule(&json!({"from": [{"ipBlock": block}]}));
    assert_eq!(described(&rule), "10.0.0.0/8 except 10.9.0.0/16 on anything");
    assert_eq!(
        findings,
        [
            "warning: ~.from[0].ipBlock.cidr: `010.1.2.3/8` has zeros in front of a number, which are ignored: it is \
             taken as `10.0.0.0/8` (write `10.0.0.0/8`)",
            "warning: ~.from[0].ipBlock.cidr: `010.1.2.3/8` has bits set behind its prefix, which are ignored: it is \
             taken as `10.0.0.0/8` (write `10.0.0.0/8`)",
            "warning: ~.from[0].ipBlock.except[0]: `10.9.9.9/16` has bits set behind its prefix, which are ignored: it \
             is taken as `10.9.0.0/16` (write `10.9.0.0/16`)",
        ]
    );
}

/// Asserts that each rule allows nothing, for one error that begins as given.
fn assert_refused(rows: &[(Json, &str)]) {
    for (rule, wanted) in rows {
        let (decoded, findings) = ingress_rule(rule);
        assert_eq!(described(&decoded), "nothing", "{rule}");
        let [finding] = &findings[..] else { panic!("{rule}: {findings:#?}") };
        let finding = finding.strip_prefix("error: ~").unwrap_or_else(|| panic!("{finding}"));
        let Some((what, help)) = finding.split_once("; this rule allows nothing") else {
            panic!("{finding}: says not what follows")
        };
        assert_eq!(format!("{what}{help}"), *wanted, "{rule}");
    }
}

#[test]
fn a_rule_with_a_wrong_shape_allows_nothing() {
    assert_refused(&[
        (
            json!(null),
            ": an empty item is no rule (write `{}` for a rule that allows everything, or remove the item)",
        ),
        (json!([]), ": must be a mapping, is a list"),
        (json!("all"), ": must be a mapping, is text"),
        (json!({"form": []}), ".form: unknown field (did you mean `from`?)"),
        (json!({"From": []}), ".From: unknown field (did you mean `from`?)"),
        (json!({"to": []}), ".to: unknown field (an ingress rule names its peers in `from`)"),
        (json!({"podSelector": {}}), ".podSelector: unknown field (put it in an item of `from`)"),
        (json!({"prots": null}), ".prots: unknown field (did you mean `ports`?)"),
        (json!({"comment": ""}), ".comment: unknown field (an ingress rule has `from`, `ports`)"),
        (json!({"from": {}}), ".from: must be a list, is a mapping (begin each item with `- `)"),
        (json!({"ports": 80}), ".ports: must be a list, is a number"),
    ]);
}

#[test]
fn a_rule_with_a_wrong_peer_allows_nothing() {
    assert_refused(&[
        (
            json!({"from": [{}]}),
            ".from[0]: a peer must have a podSelector, a namespaceSelector or an ipBlock (`podSelector: {}` is every \
             pod of the policy's namespace, `namespaceSelector: {}` every pod of all namespaces; without any peers the \
             rule is for everybody)",
        ),
        (
            json!({"from": [{"podSelector": null}]}),
            ".from[0]: a peer must have a podSelector, a namespaceSelector or an ipBlock (`podSelector: {}` is every \
             pod of the policy's namespace, `namespaceSelector: {}` every pod of all namespaces; without any peers the \
             rule is for everybody)",
        ),
        (
            json!({"from": [{"podSelector": {}}, null]}),
            ".from[1]: an empty item is no peer (write a podSelector, a namespaceSelector or an ipBlock behind the `-`)",
        ),
        (
            json!({"from": [{"podselector": {}}]}),
            ".from[0].podselector: unknown field (did you mean `podSelector`?)",
        ),
        (
            json!({"from": [{"podSelector": {}, "ports": []}]}),
            ".from[0].ports: unknown field (put it beside `from` or `to`)",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "namespaceSelector": {}}]}),
            ".from[0].ipBlock: must stand alone in its peer (make the ipBlock an item of its own)",
        ),
        (json!({"from": [{"ipBlock": {}}]}), ".from[0].ipBlock.cidr: an ipBlock must have a cidr"),
        (
            json!({"from": [{"ipBlock": "10.0.0.0/8"}]}),
            ".from[0].ipBlock: must be a mapping, is text",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.1"}}]}),
            ".from[0].ipBlock.cidr: `10.0.0.1` is no network in CIDR notation (one address is `10.0.0.1/32`)",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}]}),
            ".from[0].ipBlock.cidr: `::ffff:10.0.0.0/104` is an IPv4 address written as IPv6, which is ambiguous (write \
             it as IPv4)",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "excepts": []}}]}),
            ".from[0].ipBlock.excepts: unknown field (did you mean `except`?)",
        ),
    ]);
}

#[test]
fn an_except_must_be_a_strict_subset_of_its_block() {
    let except = |text: Json| json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16", text]}}]});
    let field = ".from[0].ipBlock.except[1]";
    let rule = "an except must be a strict subset of its block";
    assert_refused(&[
        (except(json!("10.0.0.0/8")), &format!("{field}: `10.0.0.0/8` is the whole block: {rule}")),
        (
            except(json!("10.0.0.0/7")),
            &format!("{field}: `10.0.0.0/7` is not inside `10.0.0.0/8`: {rule}"),
        ),
        (
            except(json!("11.0.0.0/16")),
            &format!("{field}: `11.0.0.0/16` is not inside `10.0.0.0/8`: {rule}"),
        ),
        (
            except(json!("fd00::/16")),
            &format!("{field}: `fd00::/16` is not of the family of `10.0.0.0/8`: {rule}"),
        ),
        (except(json!(null)), &format!("{field}: must be text, is null")),
    ]);
}

#[test]
fn a_rule_with_a_wrong_port_allows_nothing() {
    let ports = |port: Json| json!({"ports": [{"port": 443}, port]});
    let no_name = |text: &str| {
        format!(
            ".ports[1].port: `{text}` is no port name: at most 15 characters of a-z, 0-9 and `-`, at least one letter, \
             no `--`, no `-` at an end"
        )
    };
    assert_refused(&[
        (
            ports(json!(null)),
            ".ports[1]: an empty item is no port (write `{}` for every TCP port, or remove the item)",
        ),
        (
            ports(json!({"port": "80"})),
            ".ports[1].port: `\"80\"` in quotes is a port name, and a port name must have a letter (write 80 without quotes)",
        ),
        (
            ports(json!({"port": "8000-8010"})),
            &format!("{} (a range is `port: 8000` with `endPort: 8010`)", no_name("8000-8010")),
        ),
        (ports(json!({"port": ""})), &no_name("")),
        (ports(json!({"port": "HTTP"})), &no_name("HTTP")),
        (ports(json!({"port": "a--b"})), &no_name("a--b")),
        (ports(json!({"port": "sixteen-letters-"})), &no_name("sixteen-letters-")),
        (ports(json!({"port": 0})), ".ports[1].port: 0 is no port number: they go from 1 to 65535"),
        (
            ports(json!({"port": 65536})),
            ".ports[1].port: 65536 is no port number: they go from 1 to 65535",
        ),
        (
            ports(json!({"port": 80.5})),
            ".ports[1].port: must be a whole number or a name, is a fraction",
        ),
        (
            ports(json!({"endPort": 90})),
            ".ports[1].endPort: an endPort needs a numeric port to begin with",
        ),
        (
            ports(json!({"port": "http", "endPort": 90})),
            ".ports[1].endPort: an endPort needs a numeric port to begin with, not `http`",
        ),
        (
            ports(json!({"port": 90, "endPort": 80})),
            ".ports[1].endPort: must not be below the port, 90",
        ),
        (
            ports(json!({"port": 80, "endPort": "90"})),
            ".ports[1].endPort: must be a whole number, is text (write 90 without quotes)",
        ),
        (
            ports(json!({"port": 80, "protocol": "tcp"})),
            ".ports[1].protocol: `tcp` is no protocol (did you mean `TCP`?)",
        ),
        (
            ports(json!({"port": 80, "protocol": "ICMP"})),
            ".ports[1].protocol: `ICMP` is no protocol (the protocols are `TCP`, `UDP` and `SCTP`)",
        ),
        (
            ports(json!({"port": 80, "endport": 90})),
            ".ports[1].endport: unknown field (did you mean `endPort`?)",
        ),
        (
            ports(json!({"targetPort": 80})),
            ".ports[1].targetPort: unknown field (write `port`: the one on the pod)",
        ),
    ]);
}

#[test]
fn a_rule_with_a_wrong_selector_allows_nothing() {
    let peer = |selector: Json| json!({"from": [{"podSelector": selector}]});
    let expression = |expression: Json| peer(json!({"matchExpressions": [expression]}));
    let field = ".from[0].podSelector";
    let at = |rest: &str| format!("{field}{rest}");
    let item = |rest: &str| format!("{field}.matchExpressions[0]{rest}");
    assert_refused(&[
        (
            peer(json!({"matchlabels": {}})),
            &at(".matchlabels: unknown field (did you mean `matchLabels`?)"),
        ),
        (peer(json!({"app": "web"})), &at(".app: unknown field (put labels under `matchLabels`)")),
        (
            peer(json!({"matchLabels": {"a": true}})),
            &at(".matchLabels.a: must be text, is a boolean (put it in quotes: \"true\")"),
        ),
        (
            peer(json!({"matchLabels": {"a/b/c": "d"}})),
            &at(
                ".matchLabels[a/b/c]: `a/b/c` is no label key: it must have 1 to 63 letters, digits, `-`, `_` and `.`, \
                 begin and end with a letter or a digit, and may have a DNS name and `/` before that",
            ),
        ),
        (
            peer(json!({"matchLabels": {"Example.com/a": "d"}})),
            &at(
                ".matchLabels[Example.com/a]: `Example.com/a` is no label key: what stands before `/` must be a DNS \
                 name in lower case",
            ),
        ),
        (
            peer(json!({"matchLabels": {"a": "b/c"}})),
            &at(
                ".matchLabels.a: `b/c` is no label value: it must be empty, or have at most 63 letters, digits, `-`, \
                 `_` and `.`, and begin and end with a letter or a digit",
            ),
        ),
        (expression(json!({"operator": "Exists"})), &item(".key: the label's key is missing")),
        (expression(json!({"key": "a"})), &item(".operator: the operator is missing")),
        (
            expression(json!({"key": "a", "operator": "in", "values": ["b"]})),
            &item(".operator: `in` is no operator (did you mean `In`?)"),
        ),
        (
            expression(json!({"key": "a", "operator": "Gt", "values": ["1"]})),
            &item(
                ".operator: `Gt` is no operator (the operators are `In`, `NotIn`, `Exists`, `DoesNotExist`)",
            ),
        ),
        (
            expression(json!({"key": "a", "operator": "In"})),
            &item(".values: `In` needs at least one value"),
        ),
        (
            expression(json!({"key": "a", "operator": "NotIn", "values": []})),
            &item(".values: `NotIn` needs at least one value"),
        ),
        (
            expression(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
            &item(".values: `Exists` takes no values"),
        ),
        (
            expression(json!({"key": "a", "operator": "DoesNotExist", "values": [""]})),
            &item(".values: `DoesNotExist` takes no values"),
        ),
        (
            expression(json!({"key": "a", "operator": "Exists", "value": null})),
            &item(".value: unknown field (did you mean `values`?)"),
        ),
    ]);
}

#[test]
fn every_error_of_a_rule_is_found_at_once_and_the_first_is_the_reason() {
    let rule = json!({
        "from": [{"podSelector": {}}, {"ipBlock": {"cidr": "x"}}, {}],
        "ports": [{"port": "80"}, {"protocol": "tcp"}],
    });
    let (decoded, findings) = ingress_rule(&rule);
    let reason = "from[1].ipBlock.cidr: `x` is no network in CIDR notation".to_owned();
    assert_eq!(decoded.grant, Grant::Nothing { reason });
    assert_eq!(findings.len(), 4, "{findings:#?}");
}

#[test]
fn an_invalid_rule_leaves_the_rules_beside_it_alone() {
    let decoded = of_spec(json!({
        "ingress": [{}, {"ports": [{"port": 0}]}, {"ports": [{"port": 1}]}], "egress": [{}],
    }));
    let rules = decoded.object.ingress.iter().chain(&decoded.object.egress);
    assert_eq!(
        rules.map(described).collect::<Vec<_>>(),
        ["anybody on anything", "nothing", "anybody on 1/TCP", "anybody on anything"]
    );
    assert!(decoded.object.isolates(Direction::Egress));
    assert_eq!(
        decoded.diagnostics.iter().map(|d| d.severity).collect::<Vec<_>>(),
        [Severity::Error]
    );
}

#[test]
fn the_order_of_requirements_does_not_matter_to_a_selector() {
    let selector = |expressions: Json| {
        let decoded = of_spec(json!({"podSelector": {"matchExpressions": expressions}}));
        assert_eq!(decoded.diagnostics, []);
        decoded.object.pod_selector
    };
    let a = json!({"key": "example.com/a", "operator": "In", "values": ["y", "x", "x"]});
    let b = json!({"key": "b", "operator": "DoesNotExist", "values": null});
    assert_eq!(selector(json!([a, b])), selector(json!([b, a, a])));
    assert_eq!(selector(json!([a, b])).to_string(), "!b,example.com/a in (x,y)");
}

#[test]
fn a_port_that_is_listed_knows_its_name_and_protocol() {
    let (rule, _) = ingress_rule(&json!({"ports": [{"port": "dns-1", "protocol": "UDP"}]}));
    let Grant::Traffic { ports: Ports::Listed(ports), .. } = &rule.grant else {
        panic!("{rule:?}")
    };
    let name = crate::port::PortName::new("dns-1").unwrap();
    assert_eq!(ports[0].numbers, PortNumbers::Named(name));
    assert_eq!(ports[0].protocol, crate::port::Protocol::Udp);
}
