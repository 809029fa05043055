//! PC026: a policy that is only audited neither isolates nor allows anything yet.
//!
//! All other rules look at such policies as if they were enforced, since that is what they are written
//! for: a mistake is best found before.

use crate::cluster::Snapshot;
use crate::lint::Found;
use crate::lint::rule::Rule;
use crate::lint::scene::finding;
use crate::lint::written::reference;

/// `snapshot` as it would be if everything in it were enforced; `None` where it is.
pub(in crate::lint) fn enforced(snapshot: &Snapshot) -> Option<Snapshot> {
    snapshot.policies.values().any(|policy| snapshot.audits(policy)).then(|| {
        let mut snapshot = snapshot.clone();
        for policy in snapshot.policies.values_mut() {
            policy.audit = false;
        }
        for namespace in snapshot.namespaces.values_mut() {
            namespace.audit = false;
        }
        snapshot
    })
}

/// Policies that are audited by their own annotation or their namespace's.
pub(in crate::lint) fn audited(snapshot: &Snapshot, found: &mut Found) {
    for policy in snapshot.policies.values().filter(|policy| snapshot.audits(policy)) {
        let whose = if policy.audit { "it" } else { "its namespace" };
        let message =
            format!("{whose} is annotated to be audited: the policy denies and allows nothing yet");
        let fix = "remove the annotation `policyd.dev/audit` to enforce it";
        found.add(finding(
            Rule::AuditOnly,
            Rule::AuditOnly.severity(),
            policy.location.clone(),
            Some(reference(policy)),
            "",
            message,
            fix,
        ));
    }
}
