//! Walks the chains.

use super::matching::{applies, fault};
use super::refusal::{Fault, Place, Refusal};
use super::{Fate, Outcome};
use crate::cidr::Family;
use crate::packet::{Packet, Path};
use crate::policy::Direction;
use crate::ruleset::{ChainName, FamilyRules, Hook, Notice, Rule, Target};

/// A chain being executed, and what it comes back to when it ends: the frame below.
struct Frame<'a> {
    chain: &'a ChainName,
    rules: &'a [Rule],
    /// The index of the rule to look at next.
    next: usize,
    /// How many chains lie between the built-in one and this, itself included.
    depth: usize,
}

/// What one rule led to.
enum Progress {
    Continues,
    Ends(Outcome),
}

struct Machine<'a> {
    family: Family,
    rules: &'a FamilyRules,
    packet: &'a Packet,
    /// Chains that are not entered: rules that lead there are passed over.
    closed: &'a [&'a str],
    frames: Vec<Frame<'a>>,
    /// The chains by which the packet came to where it is, gotos included.
    path: Vec<&'a ChainName>,
    evaluated: usize,
    audited: Vec<Direction>,
}

/// Executes the hook and the chains of `rules` on `packet`, passing over the rules that lead to one
/// of the chains `closed`.
pub(super) fn run(rules: &FamilyRules, packet: &Packet, closed: &[&str]) -> Fate {
    let family = packet.family();
    if Family::of(packet.source) != family {
        let why = Refusal { place: Place::Packet, fault: Fault::MixedFamilies };
        return Fate { outcome: Outcome::Malformed { why }, evaluated: 0, audited: Vec::new() };
    }
    let mut machine = Machine {
        family,
        rules,
        packet,
        closed,
        frames: Vec::new(),
        path: Vec::new(),
        evaluated: 0,
        audited: Vec::new(),
    };
    let outcome = machine.run();
    Fate { outcome, evaluated: machine.evaluated, audited: machine.audited }
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Outcome {
        let hook = match self.packet.path {
            Path::Forwarded { .. } => Hook::Forward,
            Path::SentByNode { .. } => Hook::Output,
            Path::ForNode { .. } => Hook::Input,
        };
        if let Some(rule) = self.rules.hooks.get(&hook)
            && let Err(fault) = self.enter_by(rule)
        {
            let why = Refusal { place: Place::Hook(hook.builtin()), fault };
            return Outcome::Malformed { why };
        }
        while let Some(frame) = self.frames.last_mut() {
            let (chain, number) = (frame.chain, frame.next + 1);
            let Some(rule) = frame.rules.get(frame.next) else {
                self.frames.pop();
                continue;
            };
            frame.next += 1;
            match self.execute(chain, rule) {
                Ok(Progress::Continues) => {}
                Ok(Progress::Ends(outcome)) => return outcome,
                Err(fault) => {
                    let place = Place::Rule { chain: chain.clone(), number };
                    return Outcome::Malformed { why: Refusal { place, fault } };
                }
            }
        }
        Outcome::Passes
    }

    /// The hook's rule. Whether it jumps or goes makes no difference here: behind it come the rules
    /// of others, or the built-in chain's policy, which both let the packet pass as far as we know.
    fn enter_by(&mut self, rule: &'a Rule) -> Result<(), Fault> {
        self.evaluated += 1;
        if let Some(fault) = fault(self.rules, self.family, rule) {
            return Err(fault);
        }
        match &rule.target {
            Target::Jump(chain) | Target::Goto(chain) => {
                if applies(self.rules, rule, self.packet) {
                    self.push(chain, 1)
                } else {
                    Ok(())
                }
            }
            Target::Return | Target::Log(_) | Target::Deny(_) => Err(Fault::HookWithoutChain),
        }
    }

    fn execute(&mut self, chain: &'a ChainName, rule: &'a Rule) -> Result<Progress, Fault> {
        self.evaluated += 1;
        if let Some(fault) = fault(self.rules, self.family, rule) {
            return Err(fault);
        }
        if self.is_closed(&rule.target) || !applies(self.rules, rule, self.packet) {
            return Ok(Progress::Continues);
        }
        match &rule.target {
            Target::Log(Notice::Audited(direction)) => self.audited.push(*direction),
            Target::Log(Notice::Denied(_)) => {}
            Target::Deny(_) => return Ok(Progress::Ends(Outcome::Denied { by: chain.clone() })),
            Target::Return => {
                self.frames.pop();
            }
            Target::Jump(target) => {
                let depth = self.frames.last().map_or(0, |frame| frame.depth);
                self.push(target, depth + 1)?;
            }
            Target::Goto(target) => {
                let depth = self.frames.pop().map_or(0, |frame| frame.depth);
                self.push(target, depth + 1)?;
            }
        }
        Ok(Progress::Continues)
    }

    fn is_closed(&self, target: &Target) -> bool {
        match target {
            Target::Jump(chain) | Target::Goto(chain) => self.closed.contains(&chain.as_str()),
            Target::Return | Target::Log(_) | Target::Deny(_) => false,
        }
    }

    fn push(&mut self, chain: &'a ChainName, depth: usize) -> Result<(), Fault> {
        self.path.truncate(depth - 1);
        if self.path.contains(&chain) {
            return Err(Fault::Loop(chain.clone()));
        }
        if depth > Fault::NESTING {
            return Err(Fault::NestedTooDeep);
        }
        self.path.push(chain);
        let rules = self.rules.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        self.frames.push(Frame { chain, rules, next: 0, depth });
        Ok(())
    }
}
