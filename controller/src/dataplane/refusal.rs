//! Rules that this kernel refuses, such as a match whose module it lacks.
//!
//! One such rule makes the kernel refuse a whole transaction, and with it every policy. So where a
//! transaction is refused, the rules that allow something are tried in a scratch chain that nothing
//! leads to, by halves, until those are found that the kernel will not take. They are left out: what
//! they would allow stays denied, since the chain that they stand in ends in a denial. A rule that
//! does not allow is never left out; if the kernel refuses one of those, the write fails.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{Chain, ChainName, Match, Rule, Target};

use super::Kernel;
use super::command::CommandError;
use super::iptables::{Transaction, words_of};

/// The chain in which rules are tried.
const SCRATCH: &str = "NPC-TRY";
/// How many trials a search may take before it is given up.
const TRIALS: usize = 1000;
/// The exit status of iptables where another program holds the lock.
const LOCKED: i32 = 4;

/// The conditions of the rules that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused(BTreeSet<Vec<Match>>);

impl Refused {
    /// The chains without what is refused.
    pub(super) fn without(
        &self,
        chains: &BTreeMap<ChainName, Chain>,
    ) -> BTreeMap<ChainName, Chain> {
        if self.0.is_empty() {
            return chains.clone();
        }
        let allowed = |chain: &Chain| Chain {
            rules: chain.rules.iter().filter(|rule| !self.refuses(rule)).cloned().collect(),
        };
        chains.iter().map(|(name, chain)| (name.clone(), allowed(chain))).collect()
    }

    fn refuses(&self, rule: &Rule) -> bool {
        rule.target == Target::Return && self.0.contains(&rule.matches)
    }

    /// Forgets what no chain wants any more.
    pub(super) fn retain_wanted(&mut self, chains: &BTreeMap<ChainName, Chain>) {
        let rules = || chains.values().flat_map(|chain| &chain.rules);
        self.0.retain(|matches| rules().any(|rule| rule.matches == *matches));
    }

    /// The rules in the words of iptables, without their target.
    pub(super) fn words(&self) -> Vec<String> {
        let words = |matches: &Vec<Match>| {
            let words = words_of(&allowing(matches.clone()));
            words.trim_end_matches(" -j RETURN").to_owned()
        };
        self.0.iter().map(words).collect()
    }

    /// Whether nothing is left out.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Finds what a kernel refuses in chains that it refused for `error`. Nothing, where that lies
    /// in no rule that may be left out.
    pub(super) fn find(
        kernel: &Kernel,
        family: Family,
        chains: &BTreeMap<ChainName, Chain>,
        error: &CommandError,
    ) -> Self {
        match error {
            CommandError::Failed { status, .. } if status.code() != Some(LOCKED) => {}
            _ => return Self::default(),
        }
        let Some(scratch) = ChainName::new(SCRATCH) else { return Self::default() };
        let rules = chains.values().flat_map(|chain| &chain.rules);
        let candidates: BTreeSet<Vec<Match>> = rules
            .filter(|rule| rule.target == Target::Return)
            .map(|rule| rule.matches.clone())
            .collect();
        let candidates: Vec<Vec<Match>> = candidates.into_iter().collect();
        let takes = |matches: &[Vec<Match>]| {
            let rules = matches.iter().cloned().map(allowing).collect();
            let replace = BTreeMap::from([(scratch.clone(), Chain { rules })]);
            let trial = Transaction { replace, ..Transaction::default() };
            trial.carry_out(&kernel.runner, kernel.backend, family).is_ok()
        };
        let found = search(&candidates, &takes);
        let sweep = Transaction { delete: BTreeSet::from([scratch.clone()]), ..Default::default() };
        // What stays behind is empty of effect, and a stray to the next reading.
        let _ = sweep.carry_out(&kernel.runner, kernel.backend, family);
        Self(found.unwrap_or_default())
    }
}

fn allowing(matches: Vec<Match>) -> Rule {
    Rule { matches, comment: None, target: Target::Return }
}

/// The candidates that are not taken, by halves; nothing where that takes too many trials, or where
/// not even an empty list is taken.
fn search<T: Clone + Ord>(candidates: &[T], takes: &dyn Fn(&[T]) -> bool) -> Option<BTreeSet<T>> {
    let mut trials = 1;
    if !takes(&[]) {
        return None;
    }
    let mut found = BTreeSet::new();
    let mut open = vec![candidates];
    while let Some(part) = open.pop() {
        trials += 1;
        if trials > TRIALS {
            return None;
        }
        if part.is_empty() || takes(part) {
            continue;
        }
        if let [only] = part {
            found.insert(only.clone());
        } else {
            let (left, right) = part.split_at(part.len() / 2);
            open.extend([left, right]);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::port::Protocol;

    #[test]
    fn the_search_finds_each_refused_candidate_and_no_other() {
        let candidates: Vec<u32> = (0..100).collect();
        for refused in [vec![], vec![0], vec![99], vec![3, 4, 77]] {
            let refused: BTreeSet<u32> = refused.into_iter().collect();
            let takes = |part: &[u32]| part.iter().all(|c| !refused.contains(c));
            assert_eq!(search(&candidates, &takes), Some(refused.clone()), "{refused:?}");
        }
        assert_eq!(search(&candidates, &|_| false), None, "nothing works at all");
    }

    #[test]
    fn only_a_rule_that_allows_is_left_out() {
        let sctp = vec![Match::Protocol(Protocol::Sctp)];
        let refused = Refused(BTreeSet::from([sctp.clone()]));
        let deny = ChainName::new("NPC-DENY-I").unwrap();
        let denying =
            Rule { matches: sctp.clone(), comment: None, target: Target::Goto(deny.clone()) };
        let chain = Chain { rules: vec![allowing(sctp), denying.clone()] };
        let chains = BTreeMap::from([(deny.clone(), chain)]);
        assert_eq!(
            refused.without(&chains),
            BTreeMap::from([(deny, Chain { rules: vec![denying] })])
        );
        assert_eq!(refused.words(), ["-p sctp"]);
    }
}
