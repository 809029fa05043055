//! Which workloads of a cluster stand for pods that there may be.
//!
//! Not those that another workload of the cluster makes and speaks for: a Deployment for its
//! `ReplicaSets`, a `CronJob` for its Jobs. Nor a Job that is done, for it makes no more pods. Whether a
//! workload has pods, which then speak for it, is seen where all objects are merged.

use serde_json::Value;

/// Whether the pods of `item`, as the server lists it, may come to be; then it is left without an owner
/// that is no workload: what an operator makes goes by its own name, as its pods do.
pub(super) fn stands(item: &mut Value) -> bool {
    if is_done(item) || is_spoken_for(item) {
        return false;
    }
    if let Some(Value::Object(metadata)) = item.get_mut("metadata") {
        metadata.remove("ownerReferences");
    }
    true
}

/// Whether this is a Job that has completed or failed for good.
fn is_done(item: &Value) -> bool {
    let conditions = item["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        matches!(condition["type"].as_str(), Some("Complete" | "Failed"))
            && condition["status"] == "True"
    })
}

/// Whether a workload that is listed too made this one, or a rollout as it moves on from one
/// `ReplicaSet` to the next.
fn is_spoken_for(item: &Value) -> bool {
    let owners = item["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().any(|owner| {
        owner["controller"] == true
            && matches!(owner["kind"].as_str(), Some("Deployment" | "CronJob" | "Rollout"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_other_workload_speaks_for_and_is_not_done_stands() {
        let owned = |kind: &str, controller: bool| {
            json!({"metadata": {"name": "x",
                "ownerReferences": [{"kind": kind, "name": "o", "controller": controller}]}})
        };
        let done = |kind: &str, status: &str| {
            json!({"metadata": {"name": "x"},
                "status": {"conditions": [{"type": kind, "status": status}]}})
        };
        for (item, expected) in [
            (json!({"metadata": {"name": "x"}}), true),
            (owned("Deployment", true), false),
            (owned("CronJob", true), false),
            (owned("Rollout", true), false),
            (owned("Prometheus", true), true),
            (owned("Deployment", false), true),
            (done("Complete", "True"), false),
            (done("Failed", "True"), false),
            (done("Complete", "False"), true),
            (done("Suspended", "True"), true),
            (done("Available", "True"), true),
        ] {
            let mut left = item.clone();
            assert_eq!(stands(&mut left), expected, "{item}");
            assert!(!expected || left["metadata"] == json!({"name": "x"}), "{left}");
        }
    }
}
