//! Rules that this kernel refuses, such as a match whose module it lacks.
//!
//! One such rule makes the kernel refuse a whole transaction, and with it every policy. So where a
//! transaction is refused, the rules that allow something are tried in a scratch chain that nothing
//! leads to, by halves, until those are found that the kernel will not take. They are left out: what
//! they would allow stays denied, since the chain that they stand in ends in a denial. So may the rules
//! be that only tell of a packet. No other rule is left out; if the kernel refuses one of those, the
//! write fails.
//!
//! The search is bounded. Rules alike in all but their values share a shape, and where three samples
//! of a shape are refused, all of the shape are taken to be. What is undecided when the trials run out
//! is left out too: too much is denied then, and every other rule is in force.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{Chain, ChainName, Chains, Rule, Target};

use super::Kernel;
use super::command::CommandError;
use super::iptables::{Transaction, words_of};

/// The chain in which rules are tried.
const SCRATCH: &str = "NPC-TRY";
/// How many trials a search may take.
const TRIALS: usize = 200;

/// The rules that are left out, without their comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused(BTreeSet<Rule>);

impl Refused {
    /// The chains without what is refused.
    pub(super) fn without(&self, chains: &Chains) -> Chains {
        if self.0.is_empty() {
            return chains.clone();
        }
        let allowed = |chain: &Chain| {
            let rules = chain.rules.iter().filter(|rule| !self.refuses(rule)).cloned().collect();
            Arc::new(Chain { rules })
        };
        chains.iter().map(|(name, chain)| (name.clone(), allowed(chain))).collect()
    }

    fn refuses(&self, rule: &Rule) -> bool {
        may_be_left_out(rule) && self.0.contains(&bare(rule))
    }

    /// Forgets what no chain wants any more.
    pub(super) fn retain_wanted(&mut self, chains: &Chains) {
        let rules = || chains.values().flat_map(|chain| &chain.rules);
        self.0.retain(|refused| rules().any(|rule| bare(rule) == *refused));
    }

    /// The rules in the words of iptables, without the target of those that allow.
    pub(super) fn words(&self) -> Vec<String> {
        self.0.iter().map(words).collect()
    }

    /// Each rule that is left out of `chains`, with the chains that want it.
    pub(super) fn places(&self, chains: &Chains) -> Vec<(&Rule, Names)> {
        let mut places: BTreeMap<&Rule, Names> = BTreeMap::new();
        if !self.is_empty() {
            for (name, chain) in chains {
                for rule in chain.rules.iter().filter(|rule| may_be_left_out(rule)) {
                    if let Some(refused) = self.0.get(&bare(rule)) {
                        places.entry(refused).or_default().insert(name.clone());
                    }
                }
            }
        }
        places.into_iter().collect()
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
        chains: &Chains,
        error: &CommandError,
    ) -> Self {
        if !error.is_refusal() {
            return Self::default();
        }
        let rules = chains.values().flat_map(|chain| &chain.rules);
        let candidates = rules.filter(|rule| may_be_left_out(rule)).map(bare).collect();
        Self(refused(kernel, family, &candidates).unwrap_or_default())
    }

    /// Whether the kernel now takes some of what is left out.
    pub(super) fn is_outdated(&self, kernel: &Kernel, family: Family) -> bool {
        !self.is_empty() && refused(kernel, family, &self.0).is_some_and(|now| now != self.0)
    }
}

/// Names of chains.
type Names = BTreeSet<ChainName>;

/// A rule in the words of iptables, without the target of one that allows.
pub(super) fn words(rule: &Rule) -> String {
    words_of(rule).trim_end_matches(" -j RETURN").to_owned()
}

/// The candidates that the kernel does not take; nothing where it takes not even an empty chain.
fn refused(kernel: &Kernel, family: Family, candidates: &BTreeSet<Rule>) -> Option<BTreeSet<Rule>> {
    let scratch = ChainName::new(SCRATCH)?;
    let mut shapes: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for rule in candidates {
        shapes.entry(shape(rule)).or_default().push(rule.clone());
    }
    let shapes: Vec<Vec<Rule>> = shapes.into_values().collect();
    let takes = |rules: &[Rule]| {
        let chain = Chain { rules: rules.to_vec() };
        let replace = Chains::from([(scratch.clone(), Arc::new(chain))]);
        let trial = Transaction { replace, ..Transaction::default() };
        kernel.restore.carry_out(family, &trial).is_ok()
    };
    let found = search(&shapes, &takes, TRIALS);
    let sweep = Transaction { delete: BTreeSet::from([scratch.clone()]), ..Default::default() };
    // What stays behind is empty of effect, and a stray to the next reading.
    let _ = kernel.restore.carry_out(family, &sweep);
    found
}

/// The words of a rule without their values: its protocol, the extensions and the options.
fn shape(rule: &Rule) -> String {
    let words = words_of(rule);
    let mut shape = String::new();
    let mut before = "";
    for word in words.split(' ') {
        if word.starts_with('-') || matches!(before, "-p" | "-m") {
            shape.push_str(word);
            shape.push(' ');
        }
        before = word;
    }
    shape
}

/// Whether nothing is opened where a rule is not there.
fn may_be_left_out(rule: &Rule) -> bool {
    matches!(rule.target, Target::Return | Target::Log(_))
}

fn bare(rule: &Rule) -> Rule {
    Rule { comment: None, ..rule.clone() }
}

/// The candidates, given by shape, that are not taken, and those left undecided after so many
/// trials; nothing where not even an empty list is taken.
fn search<T: Clone + Ord>(
    shapes: &[Vec<T>],
    takes: &dyn Fn(&[T]) -> bool,
    trials: usize,
) -> Option<BTreeSet<T>> {
    if !takes(&[]) {
        return None;
    }
    let left = Cell::new(trials);
    // Without a trial left, whatever is asked about counts as refused.
    let takes = |part: &[T]| {
        let can_ask = left.get() > 0;
        left.set(left.get().saturating_sub(1));
        part.is_empty() || can_ask && takes(part)
    };
    let mut found = BTreeSet::new();
    for shape in shapes {
        if takes(shape) {
            continue;
        }
        let samples = [shape.first(), shape.get(shape.len() / 2), shape.last()];
        if samples.into_iter().flatten().all(|sample| !takes(std::slice::from_ref(sample))) {
            found.extend(shape.iter().cloned());
            continue;
        }
        let mut open = vec![shape.as_slice()];
        while let Some(part) = open.pop() {
            if left.get() == 0 {
                found.extend(part.iter().cloned());
            } else if takes(part) {
            } else if let [only] = part {
                found.insert(only.clone());
            } else {
                let (one, other) = part.split_at(part.len() / 2);
                open.extend([one, other]);
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::policy::Direction;
    use policy_compiler::port::Protocol;
    use policy_compiler::ruleset::{Match, Notice};

    fn allowing(matches: Vec<Match>) -> Rule {
        Rule { matches, comment: None, target: Target::Return }
    }

    #[test]
    fn the_search_finds_each_refused_candidate_and_no_other() {
        let shapes: Vec<Vec<u32>> = vec![(0..60).collect(), (60..100).collect()];
        for refused in [vec![], vec![0], vec![99], vec![3, 4, 77]] {
            let refused: BTreeSet<u32> = refused.into_iter().collect();
            let takes = |part: &[u32]| part.iter().all(|c| !refused.contains(c));
            assert_eq!(search(&shapes, &takes, 200), Some(refused.clone()), "{refused:?}");
        }
        assert_eq!(search(&shapes, &|_| false, 200), None, "nothing works at all");
    }

    #[test]
    fn a_shape_that_is_refused_takes_few_trials_and_spent_trials_deny_the_rest() {
        let shapes: Vec<Vec<u32>> = vec![(0..5000).collect(), (5000..10_000).collect()];
        let trials = Cell::new(0);
        let takes = |part: &[u32]| {
            trials.set(trials.get() + 1);
            part.iter().all(|c| *c >= 5000)
        };
        assert_eq!(search(&shapes, &takes, 200), Some((0..5000).collect()));
        assert!(trials.get() <= 6, "{}", trials.get());

        trials.set(0);
        let takes = |part: &[u32]| {
            trials.set(trials.get() + 1);
            part.iter().all(|c| c % 3 != 1)
        };
        let found = search(&shapes, &takes, 200).unwrap();
        assert!(trials.get() <= 201, "{}", trials.get());
        let missed = (0..10_000).filter(|c| c % 3 == 1 && !found.contains(c)).count();
        assert_eq!(missed, 0, "whatever is refused is left out");
    }

    #[test]
    fn rules_alike_but_for_their_values_share_a_shape() {
        use policy_compiler::port::PortRange;
        use std::num::NonZeroU16;
        let to = |protocol, port| {
            let port = NonZeroU16::new(port).unwrap();
            let port = Match::DestinationPort(PortRange::single(port));
            allowing(vec![Match::Protocol(protocol), port])
        };
        assert_eq!(shape(&to(Protocol::Sctp, 9)), shape(&to(Protocol::Sctp, 900)));
        assert_ne!(shape(&to(Protocol::Sctp, 9)), shape(&to(Protocol::Tcp, 9)));
        let only = allowing(vec![Match::Protocol(Protocol::Sctp)]);
        assert_ne!(shape(&to(Protocol::Sctp, 9)), shape(&only));
    }

    #[test]
    fn only_a_rule_that_allows_or_tells_is_left_out() {
        let sctp = vec![Match::Protocol(Protocol::Sctp)];
        let tells = Rule {
            target: Target::Log(Notice::Denied(Direction::Ingress)),
            ..allowing(Vec::new())
        };
        let refused = Refused(BTreeSet::from([allowing(sctp.clone()), tells.clone()]));
        let deny = ChainName::new("NPC-DENY-I").unwrap();
        let denying =
            Rule { matches: sctp.clone(), comment: None, target: Target::Goto(deny.clone()) };
        let chain = Chain { rules: vec![tells, allowing(sctp), denying.clone()] };
        let chains = Chains::from([(deny.clone(), chain.into())]);
        assert_eq!(
            refused.without(&chains),
            Chains::from([(deny, Chain { rules: vec![denying] }.into())])
        );
        let words = refused.words();
        assert_eq!(words.len(), 2);
        assert!(words.contains(&"-p sctp".to_owned()), "{words:?}");
    }
}
