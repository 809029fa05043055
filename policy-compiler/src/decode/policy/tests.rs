//! What a NetworkPolicy means when it is written rightly, and when it is not.

use serde_json::{Value as Json, json};

use super::*;
use crate::policy::{Grant, Peers, Ports};

fn of_spec(spec: Json) -> Decoded<Policy> {
    policy_spec(ObjectKey::new("shop", "web").unwrap(), &Node::from(spec), None)
}

#[test]
fn an_unknown_key_in_a_rule_makes_that_rule_alone_allow_nothing() {
    let decoded = of_spec(json!({"podSelector": {}, "ingress": [{"form": []}, {}]}));
    let policy = &decoded.object;
    assert_eq!(
        policy.ingress.iter().map(|r| &r.grant).collect::<Vec<_>>(),
        [
            &Grant::Nothing { reason: "form: unknown field".to_owned() },
            &Grant::Traffic { peers: Peers::Any, ports: Ports::Any },
        ]
    );
    assert!(policy.flawed && policy.isolates_ingress && !policy.isolates_egress);
    assert_eq!(
        decoded.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "error: NetworkPolicy shop/web: spec.ingress[0].form: unknown field; this rule allows nothing \
          (did you mean `from`?)"
        ]
    );
}
