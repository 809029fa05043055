//! Whether a ruleset could be loaded, every rule and set of it, reached by a packet or not.

use std::collections::BTreeMap;

use super::matching::{fault, unfit_member};
use super::refusal::{Fault, Place, Refusal};
use crate::cidr::Family;
use crate::ruleset::{ChainName, FamilyRules, Rule, Ruleset, Target};

/// Looks at every hook, rule and set.
///
/// # Errors
/// The first thing that the kernel or `iptables-restore` would refuse: IPv4 before IPv6, sets before
/// hooks before chains.
pub fn check(ruleset: &Ruleset) -> Result<(), Refusal> {
    for family in Family::ALL {
        check_family(family, ruleset.family(family))?;
    }
    Ok(())
}

fn check_family(family: Family, rules: &FamilyRules) -> Result<(), Refusal> {
    for (name, set) in &rules.sets {
        let fault = if name.family == family {
            unfit_member(name, set)
        } else {
            Some(Fault::SetOfOtherFamily(name.clone()))
        };
        refuse(fault, || Place::Set(name.clone()))?;
    }
    for (hook, rule) in &rules.hooks {
        let place = || Place::Hook(hook.builtin());
        refuse(fault(rules, family, rule), place)?;
        refuse(chain_of(rule).is_none().then_some(Fault::HookWithoutChain), place)?;
    }
    let mut nesting = Nesting { rules, below: BTreeMap::new(), path: Vec::new() };
    for (chain, content) in &rules.chains {
        for (index, rule) in content.rules.iter().enumerate() {
            let place = || Place::Rule { chain: chain.clone(), number: index + 1 };
            refuse(fault(rules, family, rule), place)?;
        }
        nesting.depth(chain)?;
    }
    Ok(())
}

fn refuse(fault: Option<Fault>, place: impl FnOnce() -> Place) -> Result<(), Refusal> {
    match fault {
        Some(fault) => Err(Refusal { place: place(), fault }),
        None => Ok(()),
    }
}

fn chain_of(rule: &Rule) -> Option<&ChainName> {
    match &rule.target {
        Target::Jump(chain) | Target::Goto(chain) => Some(chain),
        Target::Return | Target::Log(_) | Target::Deny(_) => None,
    }
}

/// Measures how many chains are nested, itself included, where one begins at a given chain.
struct Nesting<'a> {
    rules: &'a FamilyRules,
    below: BTreeMap<&'a ChainName, usize>,
    path: Vec<&'a ChainName>,
}

impl<'a> Nesting<'a> {
    fn depth(&mut self, chain: &'a ChainName) -> Result<usize, Refusal> {
        if let Some(depth) = self.below.get(chain) {
            return Ok(*depth);
        }
        self.path.push(chain);
        let mut deepest = 0;
        let rules = self.rules.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        for (index, rule) in rules.iter().enumerate() {
            let Some(target) = chain_of(rule) else { continue };
            let fault = if self.path.contains(&target) {
                Some(Fault::Loop(target.clone()))
            } else {
                // The path bounds the recursion; what was measured before may still be too deep here.
                let known = self.below.get(target).copied().unwrap_or(1);
                (self.path.len() + known > Fault::NESTING).then_some(Fault::NestedTooDeep)
            };
            refuse(fault, || Place::Rule { chain: chain.clone(), number: index + 1 })?;
            deepest = deepest.max(self.depth(target)?);
        }
        self.path.pop();
        self.below.insert(chain, deepest + 1);
        Ok(deepest + 1)
    }
}
