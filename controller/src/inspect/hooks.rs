//! What others' rules above ours mean.

use std::collections::BTreeSet;

use policy_compiler::cidr::Family;

use super::{Concern, ConcernKind};
use crate::dataplane::Seen;
use crate::dataplane::above::Position;

/// What to do about whoever writes above us.
const APPEND: &str = "make its owner append instead (Calico: chainInsertMode Append and \
                      iptablesFilterAllowAction Return)";

/// Judges where the hooks stood when they were last looked at. They have been put right since; one
/// who takes our place again and again is seen by each look.
pub(super) fn judge(tables: &[(Family, &Seen)], concerns: &mut BTreeSet<Concern>) {
    for (family, seen) in tables {
        for (hook, position) in &seen.hooks {
            let chain = hook.builtin();
            concerns.extend(match position {
                Some(Position::First) => None,
                None => Some(Concern::new(
                    ConcernKind::HookMissing,
                    format!(
                        "{family}: the rule in {chain} was gone, and is put back: find out what \
                         removes it"
                    ),
                )),
                Some(Position::Below { accepting: Some(rule), .. }) => Some(Concern::new(
                    ConcernKind::HookBelowAccept,
                    format!("{family}: `{rule}` stood above our rule and can accept: {APPEND}"),
                )),
                Some(Position::Below { above, accepting: None }) => Some(Concern::new(
                    ConcernKind::HookNotFirst,
                    format!(
                        "{family}: rules of others ({above}) stood above ours in {chain}, none of \
                         which accepts: {APPEND}"
                    ),
                )),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::ruleset::Hook;

    fn kinds(position: Option<Position>) -> Vec<ConcernKind> {
        let seen = Seen { hooks: [(Hook::Forward, position)].into(), ..Seen::default() };
        let mut concerns = BTreeSet::new();
        judge(&[(Family::V4, &Seen::default()), (Family::V6, &seen)], &mut concerns);
        assert!(concerns.iter().all(|concern| concern.detail.starts_with("IPv6: ")));
        concerns.into_iter().map(|concern| concern.kind).collect()
    }

    #[test]
    fn a_hook_counts_where_it_is_first() {
        assert_eq!(kinds(Some(Position::First)), []);
        assert_eq!(kinds(None), [ConcernKind::HookMissing]);
        let below = |accepting| Some(Position::Below { above: 2, accepting });
        assert_eq!(kinds(below(None)), [ConcernKind::HookNotFirst]);
        let rule = "-A FORWARD -j ACCEPT".to_owned();
        assert_eq!(kinds(below(Some(rule))), [ConcernKind::HookBelowAccept]);
    }
}
