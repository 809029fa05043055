//! The annotation that has policies audited and not enforced.
//!
//! Enforcing is the safe way, so nothing but one `"true"` is taken for the wish to audit: whatever else
//! stands there is reported, and the policy is enforced.

use super::report::{Field, Report};
use crate::document::Value;
use crate::policy::AUDIT_ANNOTATION;

/// Whether `object` says that it is audited. `enforced` is what follows where it says so wrongly.
pub(super) fn audit(object: &Field<'_>, enforced: &str, report: &mut Report<'_>) -> bool {
    let mut at = vec![object.clone()];
    let mut repeated = false;
    for key in ["metadata", "annotations", AUDIT_ANNOTATION] {
        at = at.iter().flat_map(|field| field.every(key)).collect();
        repeated |= at.len() > 1;
    }
    let Some(one) = at.last() else { return false };
    if repeated {
        let message = format!("this, or what it stands in, is written more than once; {enforced}");
        report.warning(one, message, Some("keep one of them".to_owned()));
        return false;
    }
    let is = match &one.node.value {
        Value::String(text) if text == "true" => return true,
        Value::String(text) if text == "false" => return false,
        Value::String(text) => format!("`{text}`"),
        _ => one.node.kind().to_owned(),
    };
    let help = "`\"true\"` audits, `\"false\"` enforces, both in quotes";
    let message = format!("must be the text `true` or `false`, is {is}; {enforced}");
    report.warning(one, message, Some(help.to_owned()));
    false
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::decode;
    use crate::document::{Entry, Node, Value};

    fn policy(annotations: &Json) -> Node {
        Node::from(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "shop", "name": "web", "annotations": annotations},
            "spec": {"podSelector": {}},
        }))
    }

    fn namespace(annotations: &Json) -> Node {
        let metadata = json!({"name": "shop", "annotations": annotations});
        Node::from(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
    }

    /// Whether each is audited, and what there is to say; the same of both but for the words.
    fn of(annotations: &Json) -> (bool, Vec<String>) {
        let policy = decode::policy(&policy(annotations), None).unwrap();
        let namespace = decode::namespace(&namespace(annotations), None).unwrap();
        assert_eq!(policy.object.audit, namespace.object.audit, "{annotations}");
        assert_eq!(policy.diagnostics.len(), namespace.diagnostics.len(), "{annotations}");
        assert!(!policy.object.flawed, "{annotations}");
        (policy.object.audit, policy.diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn only_the_text_true_audits() {
        assert_eq!(of(&json!({"policyd.dev/audit": "true"})), (true, Vec::new()));
        for enforced in [json!({"policyd.dev/audit": "false"}), json!({"a": "true"}), json!(null)] {
            assert_eq!(of(&enforced), (false, Vec::new()), "{enforced}");
        }
    }

    #[test]
    fn whatever_else_stands_there_is_reported_and_the_policy_is_enforced() {
        let at = "warning: NetworkPolicy shop/web: metadata.annotations[policyd.dev/audit]: must be the \
                  text `true` or `false`, is";
        let meant = "; this policy is enforced (`\"true\"` audits, `\"false\"` enforces, both in \
                     quotes)";
        for (value, said) in [
            (json!(true), format!("{at} a boolean{meant}")),
            (json!("True"), format!("{at} `True`{meant}")),
            (json!("true "), format!("{at} `true `{meant}")),
            (json!("yes"), format!("{at} `yes`{meant}")),
            (json!(""), format!("{at} ``{meant}")),
            (json!(null), format!("{at} null{meant}")),
            (json!(1), format!("{at} a number{meant}")),
            (json!(["true"]), format!("{at} a list{meant}")),
        ] {
            assert_eq!(of(&json!({ "policyd.dev/audit": value })), (false, vec![said]), "{value}");
        }
        assert_eq!(of(&json!(["true"])), (false, Vec::new()), "no annotations at all");
    }

    #[test]
    fn an_annotation_that_is_written_twice_enforces_wherever_it_is_repeated() {
        fn doubled(node: &mut Node, path: &[&str]) {
            let Value::Map(entries) = &mut node.value else { return };
            let Some((key, rest)) = path.split_first() else { return };
            let found: Vec<Entry> = entries.iter().filter(|e| e.key == *key).cloned().collect();
            if rest.is_empty() {
                entries.extend(found);
            } else {
                entries
                    .iter_mut()
                    .filter(|e| e.key == *key)
                    .for_each(|e| doubled(&mut e.node, rest));
            }
        }
        let audited = json!({"policyd.dev/audit": "true"});
        for path in
            [&["metadata", "annotations"][..], &["metadata", "annotations", "policyd.dev/audit"]]
        {
            for mut node in [policy(&audited), namespace(&audited)] {
                doubled(&mut node, path);
                let (audit, diagnostics) = match decode::object(&node, None) {
                    decode::Object::Policy(Ok(d)) => (d.object.audit, d.diagnostics),
                    decode::Object::Namespace(Ok(d)) => (d.object.audit, d.diagnostics),
                    other => panic!("{other:?}"),
                };
                assert!(!audit, "{path:?}");
                assert!(diagnostics[0].message.contains("is written more than once; "), "{path:?}");
            }
        }
    }
}
