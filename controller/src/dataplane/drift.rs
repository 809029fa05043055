//! What somebody else changed about our rules and sets.

use std::collections::BTreeSet;
use std::fmt;

use super::verify::Difference;

/// A kind of change by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// The rules that lead to ours.
    Hooks,
    /// Which chains there are.
    Chains,
    /// The rules in them.
    Rules,
    /// Which sets there are, and of which type.
    Sets,
    /// Who is in them.
    Members,
}

impl Drift {
    /// All of them.
    pub const ALL: [Drift; 5] =
        [Drift::Hooks, Drift::Chains, Drift::Rules, Drift::Sets, Drift::Members];

    /// A word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Drift::Hooks => "hooks",
            Drift::Chains => "chains",
            Drift::Rules => "rules",
            Drift::Sets => "sets",
            Drift::Members => "members",
        }
    }

    /// The kinds that these differences are of.
    #[must_use]
    pub fn of(differences: &[Difference]) -> BTreeSet<Self> {
        differences.iter().map(kind).collect()
    }
}

fn kind(difference: &Difference) -> Drift {
    use Difference as D;
    match difference {
        D::HookMissing { .. }
        | D::HookNotFirst { .. }
        | D::HookRepeated { .. }
        | D::HookAltered { .. }
        | D::HookUnknown { .. } => Drift::Hooks,
        D::ChainMissing { .. } | D::ChainUnknown { .. } => Drift::Chains,
        D::ChainEmpty { .. }
        | D::RuleMissing { .. }
        | D::RuleUnknown { .. }
        | D::RulesReordered { .. } => Drift::Rules,
        D::SetMissing { .. } | D::SetUnknown { .. } | D::SetHeader { .. } => Drift::Sets,
        D::MemberMissing { .. } | D::MemberUnknown { .. } => Drift::Members,
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Drift::Hooks => "a rule that leads to ours was moved, copied, changed or removed",
            Drift::Chains => "chains of ours were removed, or others added",
            Drift::Rules => "rules in our chains were changed",
            Drift::Sets => "sets of ours were removed or replaced, or others added",
            Drift::Members => "members of our sets were changed",
        })
    }
}
