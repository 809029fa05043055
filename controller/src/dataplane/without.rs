//! Rules that do without some sets, for as long as those cannot be had.
//!
//! A set may bear a name of ours and be of another type, or have other options: an older version made
//! it, or a person did. Where rules refer to it the kernel keeps it, whatever anybody wants. So rules
//! are written first that do without: what looks the set up to allow is left out, and what looks it up
//! to deny denies without looking. That denies more for a moment, and opens nothing; then nothing of
//! ours refers to the set, and it can be made anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy_compiler::ruleset::{Chain, FamilyRules, Match, Rule, SetName, Target};

/// The same rules without `sets`: they allow nothing that the whole would deny.
pub(super) fn without_sets(rules: &FamilyRules, sets: &BTreeSet<SetName>) -> FamilyRules {
    let chain = |chain: &Chain| {
        let rules = chain.rules.iter().filter_map(|rule| without(rule, sets)).collect();
        Arc::new(Chain { rules })
    };
    FamilyRules {
        hooks: rules.hooks.clone(),
        chains: rules.chains.iter().map(|(name, c)| (name.clone(), chain(c))).collect(),
        sets: rules
            .sets
            .iter()
            .filter(|(name, _)| !sets.contains(name))
            .map(|(name, set)| (name.clone(), set.clone()))
            .collect(),
    }
}

fn without(rule: &Rule, sets: &BTreeSet<SetName>) -> Option<Rule> {
    let looks_up = |m: &Match| match m {
        Match::Set { set, .. } | Match::NotInSet { set, .. } => sets.contains(set),
        _ => false,
    };
    if !rule.matches.iter().any(looks_up) {
        return Some(rule.clone());
    }
    // A packet that is sent on is not denied yet, and what is sent back has been allowed.
    let denies = match &rule.target {
        Target::Deny(_) | Target::Log(_) => true,
        Target::Goto(chain) => chain.as_str().starts_with("NPC-DENY-"),
        Target::Return | Target::Jump(_) => false,
    };
    denies.then(|| Rule {
        matches: rule.matches.iter().filter(|m| !looks_up(m)).cloned().collect(),
        ..rule.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::cidr::Family;
    use policy_compiler::config::DenyAction;
    use policy_compiler::ruleset::{AddressSet, ChainName, SetHash, SetRole, Side};
    use std::collections::BTreeMap;

    #[test]
    fn what_a_set_allows_is_left_out_and_what_it_denies_is_denied_to_all() {
        let isolated = SetName { family: Family::V4, role: SetRole::Isolated };
        let hash = SetHash::new("abc").unwrap();
        let other = SetName { family: Family::V4, role: SetRole::Networks { hash } };
        let rule = |set: &SetName, target| Rule {
            matches: vec![Match::NotSyn, Match::Set { set: set.clone(), side: Side::Source }],
            comment: None,
            target,
        };
        let chain = |name: &str| ChainName::new(name).unwrap();
        let deny = || Target::Goto(chain("NPC-DENY-E"));
        let rules = |rules| BTreeMap::from([(chain("NPC-X"), Arc::new(Chain { rules }))]);
        let whole = FamilyRules {
            chains: rules(vec![
                rule(&isolated, Target::Return),
                rule(&isolated, deny()),
                rule(&isolated, Target::Deny(DenyAction::Drop)),
                rule(&other, Target::Return),
            ]),
            sets: BTreeMap::from([
                (isolated.clone(), AddressSet::default()),
                (other.clone(), AddressSet::default()),
            ]),
            ..FamilyRules::default()
        };
        let bare = |target| Rule { matches: vec![Match::NotSyn], comment: None, target };
        assert_eq!(
            without_sets(&whole, &BTreeSet::from([isolated])),
            FamilyRules {
                chains: rules(vec![
                    bare(deny()),
                    bare(Target::Deny(DenyAction::Drop)),
                    rule(&other, Target::Return),
                ]),
                sets: BTreeMap::from([(other, AddressSet::default())]),
                ..FamilyRules::default()
            }
        );
    }
}
