//! Announcements as Kubernetes has events.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use policy_compiler::name::NodeName;

use super::Announcement;

/// What the API server takes at most: a note's bytes, a reporting instance's, an object name's.
const NOTE_BYTES: usize = 1024;
const INSTANCE_BYTES: usize = 128;
const NAME_BYTES: usize = 253;
/// A dot and 16 digits.
const SUFFIX_BYTES: usize = 17;

/// The event that tells of `announcement`; `uid` is that of the policy it is about, if known.
///
/// What is wrong with a policy is the same on every node, so its event has a name that all nodes give
/// it: the first creates it, the others find it there. (Hashes of two versions of policyd may differ,
/// which costs one event more.)
pub(super) fn event_of(
    announcement: &Announcement,
    uid: Option<&str>,
    node: &NodeName,
    now: Timestamp,
) -> Event {
    let (reason, action, text) = words(announcement);
    let (regarding, tag) = match announcement {
        Announcement::PolicyFailsClosed { policy, .. } => {
            let regarding = ObjectReference {
                api_version: Some("networking.k8s.io/v1".to_owned()),
                kind: Some("NetworkPolicy".to_owned()),
                namespace: Some(policy.namespace.to_string()),
                name: Some(policy.name.to_string()),
                uid: uid.map(str::to_owned),
                ..ObjectReference::default()
            };
            let mut hasher = DefaultHasher::new();
            (&text, &uid).hash(&mut hasher);
            (regarding, hasher.finish())
        }
        Announcement::DriftRepaired { .. } | Announcement::CannotEnforce { .. } => {
            let regarding = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_string()),
                // By convention the name, which is what `kubectl describe node` looks for.
                uid: Some(node.to_string()),
                ..ObjectReference::default()
            };
            let mut hasher = DefaultHasher::new();
            (&text, now.as_nanosecond()).hash(&mut hasher);
            (regarding, hasher.finish())
        }
    };
    let stem = regarding.name.as_deref().unwrap_or_default();
    let stem = cut(stem, NAME_BYTES - SUFFIX_BYTES).trim_end_matches(['.', '-']);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{stem}.{tag:016x}")),
            namespace: Some(namespace_of(announcement)),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some("policyd".to_owned()),
        reporting_instance: Some(cut(node.as_str(), INSTANCE_BYTES).to_owned()),
        type_: Some("Warning".to_owned()),
        reason: Some(reason.to_owned()),
        action: Some(action.to_owned()),
        note: Some(cut(&text, NOTE_BYTES).to_owned()),
        regarding: Some(regarding),
        ..Event::default()
    }
}

/// Where the event of an announcement is. What regards a node, which is in no namespace, is where every
/// API server takes it: old ones take it nowhere else.
pub(super) fn namespace_of(announcement: &Announcement) -> String {
    match announcement {
        Announcement::PolicyFailsClosed { policy, .. } => policy.namespace.to_string(),
        Announcement::DriftRepaired { .. } | Announcement::CannotEnforce { .. } => {
            "kube-system".to_owned()
        }
    }
}

/// Reason, action, note.
fn words(announcement: &Announcement) -> (&'static str, &'static str, String) {
    match announcement {
        Announcement::PolicyFailsClosed { reason, .. } => {
            let note = format!("what it concerns is denied: {reason}");
            ("PolicyFailsClosed", "Compile", note)
        }
        Announcement::DriftRepaired { family, what } => {
            let note = format!("{family}: changed by others and put right: {what}");
            ("DriftRepaired", "Repair", note)
        }
        Announcement::CannotEnforce { reasons } => {
            let note = format!("NetworkPolicies are not enforced here: {}", reasons.join("; "));
            ("CannotEnforce", "Enforce", note)
        }
    }
}

/// As much of a text as fits, in whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::cidr::Family;
    use policy_compiler::name::ObjectKey;
    use serde_json::json;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn broken(name: &str, reason: &str) -> Announcement {
        let policy = ObjectKey::new("shop", name).unwrap();
        Announcement::PolicyFailsClosed { policy, reason: reason.to_owned() }
    }

    #[test]
    fn an_event_of_a_policy_regards_it_in_its_namespace() {
        let event = event_of(
            &broken("web", "unknown field"),
            Some("11-22"),
            &node("n1"),
            at(1_700_000_000),
        );
        let name = event.metadata.name.clone().unwrap();
        assert!(name.starts_with("web.") && name.len() == "web.".len() + 16, "{name}");
        let expected = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name, "namespace": "shop"},
            "eventTime": "2023-11-14T22:13:20.000000Z",
            "reportingController": "policyd", "reportingInstance": "n1",
            "type": "Warning", "reason": "PolicyFailsClosed", "action": "Compile",
            "note": "what it concerns is denied: unknown field",
            "regarding": {
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "namespace": "shop", "name": "web", "uid": "11-22",
            },
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
    }

    #[test]
    fn an_event_of_a_node_is_where_describe_looks_for_it() {
        let drift = Announcement::DriftRepaired { family: Family::V6, what: "the hook".to_owned() };
        let event = event_of(&drift, None, &node("n1.example"), at(1_700_000_000));
        let expected = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": event.metadata.name.clone(), "namespace": "kube-system"},
            "eventTime": "2023-11-14T22:13:20.000000Z",
            "reportingController": "policyd", "reportingInstance": "n1.example",
            "type": "Warning", "reason": "DriftRepaired", "action": "Repair",
            "note": "IPv6: changed by others and put right: the hook",
            "regarding": {
                "apiVersion": "v1", "kind": "Node", "name": "n1.example", "uid": "n1.example",
            },
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
        let reasons = vec!["forwarding is off".to_owned(), "br0 bypasses the rules".to_owned()];
        let event = event_of(&Announcement::CannotEnforce { reasons }, None, &node("n1"), at(0));
        let note =
            "NetworkPolicies are not enforced here: forwarding is off; br0 bypasses the rules";
        assert_eq!(
            (event.reason.as_deref(), event.note.as_deref()),
            (Some("CannotEnforce"), Some(note))
        );
    }

    #[test]
    fn all_nodes_tell_of_a_policy_by_one_name_and_each_of_itself_by_another() {
        let name = |announcement: &Announcement, uid: &str, by: &str, second| {
            event_of(announcement, Some(uid), &node(by), at(second)).metadata.name.unwrap()
        };
        let first = name(&broken("web", "a"), "1", "n1", 1);
        assert_eq!(name(&broken("web", "a"), "1", "n2", 2), first);
        assert_ne!(name(&broken("web", "b"), "1", "n1", 1), first, "something else is wrong");
        assert_ne!(name(&broken("web", "a"), "2", "n1", 1), first, "a new policy of that name");
        let drift = Announcement::DriftRepaired { family: Family::V4, what: "a set".to_owned() };
        assert_ne!(name(&drift, "1", "n1", 1), name(&drift, "1", "n1", 2));
    }

    #[test]
    fn what_is_too_long_is_cut_where_the_api_server_would_refuse() {
        let long = format!("{}.x", "a".repeat(235));
        let reason = "ü".repeat(2000);
        let by = node(&"n".repeat(200));
        let event = event_of(&broken(&long, &reason), None, &by, at(1));
        let name = event.metadata.name.unwrap();
        assert!(name.starts_with(&format!("{}.", "a".repeat(235))), "{name}");
        assert!(!name.contains("..") && name.len() <= NAME_BYTES, "{name}");
        let note = event.note.unwrap();
        assert!(note.len() <= NOTE_BYTES && note.ends_with('ü'), "{}", note.len());
        assert_eq!(event.reporting_instance.unwrap().len(), INSTANCE_BYTES);
    }
}
