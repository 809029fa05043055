//! Table `filter` of one family: what stands there of ours, and one transaction that changes it.
//!
//! Reading knows names alone: which chains are ours by their prefix, and which rules of a built-in
//! chain lead into them. No other syntax is parsed back. Such a rule is deleted by the very words
//! that `iptables-save` printed. Writing is one `iptables-restore --noflush` with one COMMIT, which
//! the kernel carries out as a whole or not at all; only chains named `NPC-*` are ever declared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use policy_compiler::cidr::Family;
use policy_compiler::render;
use policy_compiler::ruleset::{ChainName, Chains, Hook, Rule};
use policy_compiler::update::ChainsUpdate;
use tracing::debug;

use super::above::Position;
use super::backend::Backend;
use super::command::{CommandError, Runner};
use super::engines::PolicyEngine;
use super::native;

/// How long `iptables` and `iptables-restore` wait for the lock that legacy writers share, in seconds.
pub(super) const LOCK_WAIT: &str = "5";

/// The built-in chains that may carry a rule of ours.
pub(super) const HOOKS: [Hook; 3] = [Hook::Forward, Hook::Output, Hook::Input];

/// What table `filter` of one family holds of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundTable {
    /// Our chains.
    pub chains: BTreeSet<ChainName>,
    /// The rules that lead from a built-in chain into ours.
    pub hooks: BTreeMap<Hook, Vec<FoundHook>>,
    /// Where the first of those stands in each, and what is above it.
    pub positions: BTreeMap<Hook, Position>,
    /// Other engines whose policies are in it.
    pub engines: BTreeSet<PolicyEngine>,
    /// Whether rules of `nft`'s own keep iptables from showing it; a rule's words are its number then.
    pub hidden: bool,
}

/// A rule in a built-in chain that leads into a chain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundHook {
    /// Its place among the rules of the built-in chain, from 1.
    pub position: usize,
    /// The chain that it leads to.
    pub target: String,
    /// The rule as `iptables-save` prints it after `-A CHAIN `.
    pub words: String,
}

impl FoundTable {
    /// Whether nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.hooks.is_empty()
    }

    /// Whether `hook` carries exactly one rule that leads to `target`, before all others.
    #[must_use]
    pub fn is_hooked(&self, hook: Hook, target: &str) -> bool {
        matches!(
            self.hooks.get(&hook).map(Vec::as_slice),
            Some([only]) if only.position == 1 && only.target == target
        )
    }
}

/// Reads what `iptables-save -t filter` printed.
#[must_use]
pub fn parse_save(text: &str) -> FoundTable {
    let mut found = FoundTable::default();
    let mut positions: BTreeMap<Hook, usize> = BTreeMap::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix(':') {
            let name = declared.split(' ').next().unwrap_or_default();
            found.chains.extend(ChainName::new(name));
            found.engines.extend(PolicyEngine::of_chain(name));
        } else if let Some(appended) = line.strip_prefix("-A ") {
            let Some((chain, words)) = appended.split_once(' ') else { continue };
            let Some(hook) = HOOKS.into_iter().find(|hook| hook.builtin() == chain) else {
                continue;
            };
            let position = positions.entry(hook).or_default();
            *position += 1;
            if let Some(target) = target_of(words) {
                let entry = FoundHook {
                    position: *position,
                    target: target.to_owned(),
                    words: words.to_owned(),
                };
                found.hooks.entry(hook).or_default().push(entry);
            }
        }
    }
    for (hook, entries) in &found.hooks {
        let first = entries.first().map_or(1, |entry| entry.position);
        found.positions.insert(*hook, Position::of(text, *hook, first));
    }
    found
}

/// The chain of ours that a rule ends in. A comment that merely speaks of one is no target: it is
/// quoted where it has a space, and comes before the target.
fn target_of(words: &str) -> Option<&str> {
    let mut last = words.rsplit(' ');
    let target = last.next()?;
    let verb = last.next()?;
    (matches!(verb, "-j" | "-g") && target.starts_with(ChainName::PREFIX)).then_some(target)
}

/// Reads table `filter` of one family and backend.
///
/// # Errors
/// Where `iptables-save` is missing or fails.
pub fn read(runner: &Runner, backend: Backend, family: Family) -> Result<FoundTable, CommandError> {
    shown(backend.save_whole(runner, family, "filter"), family)
}

/// Reads table `filter` of a backend that may not be in use, without bringing it into use.
///
/// # Errors
/// Where `iptables-save` is missing or fails.
pub fn read_if_used(
    runner: &Runner,
    backend: Backend,
    family: Family,
) -> Result<FoundTable, CommandError> {
    shown(backend.save_table(runner, family, "filter"), family)
}

/// What was printed, or what the kernel itself says of a table that iptables cannot show.
pub(super) fn shown(
    printed: Result<String, CommandError>,
    family: Family,
) -> Result<FoundTable, CommandError> {
    match printed {
        Err(hidden @ CommandError::Hidden { .. }) => native::read(family).map_err(|error| {
            debug!(%family, %error, "the kernel does not show table filter either");
            hidden
        }),
        printed => Ok(parse_save(&printed?)),
    }
}

/// One transaction on table `filter` of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Chains to declare, whole.
    pub replace: Chains,
    /// Chains to remove.
    pub delete: BTreeSet<ChainName>,
    /// Rules to take out of built-in chains, in the words of `iptables-save` or of render.
    pub unhook: Vec<(Hook, String)>,
    /// Rules to put first in built-in chains.
    pub hook: BTreeMap<Hook, Rule>,
}

impl Transaction {
    /// Whether it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replace.is_empty()
            && self.delete.is_empty()
            && self.unhook.is_empty()
            && self.hook.is_empty()
    }

    /// The input of `iptables-restore --noflush`. Hooks move after the chains that they lead to are
    /// declared, and before the chains that they led to are removed.
    #[must_use]
    pub fn text(&self, family: Family) -> String {
        let rendered = render::iptables_restore(&ChainsUpdate {
            family,
            replace: self.replace.clone(),
            delete: self.delete.clone(),
            hook: BTreeMap::new(),
            unhook: BTreeMap::new(),
        });
        let mut hooks = String::new();
        for (hook, words) in &self.unhook {
            // Writing to a String cannot fail.
            let _ = writeln!(hooks, "-D {} {words}", hook.builtin());
        }
        for (hook, rule) in &self.hook {
            let _ = writeln!(hooks, "-I {} 1 {}", hook.builtin(), words_of(rule));
        }
        let before = ["\n-X ", "\nCOMMIT"].into_iter().find_map(|word| rendered.find(word));
        match before {
            Some(at) => format!("{}\n{hooks}{}", &rendered[..at], &rendered[at + 1..]),
            None => format!("*filter\n{hooks}COMMIT\n"),
        }
    }
}

impl Transaction {
    /// The same as transactions of `size` chains that are not among `found`, each after those that its
    /// rules lead to, and one with the rest. What is found, hooks and removals are in that last one alone:
    /// before it nothing leads to what is new.
    #[must_use]
    pub fn in_parts(&self, found: &BTreeSet<ChainName>, size: usize) -> (Vec<Self>, Self) {
        let mut last = self.clone();
        let order = render::callees_first(&self.replace);
        let new: Vec<&ChainName> = order.into_iter().filter(|name| !found.contains(name)).collect();
        let parts = new.chunks_exact(size).map(|names| {
            let chains = names.iter().filter_map(|name| last.replace.remove_entry(*name));
            Self { replace: chains.collect(), ..Self::default() }
        });
        (parts.collect(), last)
    }
}

/// A hook's rule as the words of a command line; none of them has a space.
pub(super) fn words_of(rule: &Rule) -> String {
    render::rule_spec(rule).join(" ")
}

/// How many packets the rules that deny, or end an audit, have counted, of a chain listed with its
/// counters.
pub(super) fn counted_by(listed: &str) -> u64 {
    let ends = ["-j DROP", "-j REJECT", "-j RETURN"];
    let rules = listed.lines().filter(|rule| ends.iter().any(|end| rule.contains(end)));
    let packets = |rule: &str| {
        let mut words = rule.split(' ').skip_while(|word| *word != "-c");
        words.nth(1)?.parse::<u64>().ok()
    };
    rules.filter_map(packets).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::ruleset::{Chain, Match, Target};
    use std::sync::Arc;

    const SAVED: &str = "\
# Generated by iptables-save v1.8.9 on Sun Nov 22 02:29:57 2026
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:WEAVE-NPC - [0:0]
:NPC-E-abc - [0:0]
:NPC-FORWARD - [0:0]
-A INPUT -j DOCKER
-A FORWARD -m comment --comment \"-j NPC-FORWARD once was here\" -j ACCEPT
-A FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED -j NPC-FORWARD
-A FORWARD -j DOCKER
-A FORWARD -j NPC-FORWARD
-A NPC-FORWARD -j NPC-E-abc
-A NPC-E-abc -m comment --comment \"shop/web 0\" -j DROP
COMMIT
";

    fn chain(name: &str) -> ChainName {
        ChainName::new(name).unwrap()
    }

    fn found(position: usize, words: &str) -> FoundHook {
        FoundHook { position, target: "NPC-FORWARD".to_owned(), words: words.to_owned() }
    }

    #[test]
    fn only_our_chains_and_the_rules_that_lead_into_them_are_seen() {
        let table = parse_save(SAVED);
        assert_eq!(
            table,
            FoundTable {
                chains: BTreeSet::from([chain("NPC-E-abc"), chain("NPC-FORWARD")]),
                hooks: BTreeMap::from([(
                    Hook::Forward,
                    vec![
                        found(2, "-m conntrack ! --ctstate RELATED,ESTABLISHED -j NPC-FORWARD"),
                        found(4, "-j NPC-FORWARD"),
                    ]
                )]),
                positions: BTreeMap::from([(
                    Hook::Forward,
                    Position::Below {
                        above: 1,
                        accepting: Some(
                            "-A FORWARD -m comment --comment \"-j NPC-FORWARD once was here\" -j ACCEPT"
                                .to_owned()
                        ),
                    }
                )]),
                engines: BTreeSet::from([PolicyEngine::Weave]),
                hidden: false,
            }
        );
        assert!(!table.is_hooked(Hook::Forward, "NPC-FORWARD"));
    }

    #[test]
    fn what_rules_that_deny_have_counted_is_added_up() {
        let listed = "-N NPC-DENY-I\n\
                      -A NPC-DENY-I -m limit --limit 100/sec -c 9 540 -j NFLOG --nflog-prefix NPC-I\n\
                      -A NPC-DENY-I -p tcp -c 7 420 -j REJECT --reject-with tcp-reset\n\
                      -A NPC-DENY-I -c 5 300 -j REJECT --reject-with icmp-port-unreachable\n";
        assert_eq!(counted_by(listed), 12);
        assert_eq!(counted_by("-N NPC-DENY-I\n-A NPC-DENY-I -c 8 1 -j DROP\n"), 8);
        assert_eq!(counted_by("-N NPC-DENY-I\n"), 0);
        let audit = "-A NPC-AUDIT-I -m limit --limit 100/sec -c 9 540 -j NFLOG --nflog-prefix NPC-AI\n\
                     -A NPC-AUDIT-I -c 12 700 -j RETURN\n";
        assert_eq!(counted_by(audit), 12);
    }

    #[test]
    fn a_hook_is_in_place_where_it_is_alone_and_first() {
        for (name, rules, expected) in [
            ("first and alone", "-A FORWARD -j NPC-FORWARD\n-A FORWARD -j X\n", true),
            ("second", "-A FORWARD -j X\n-A FORWARD -j NPC-FORWARD\n", false),
            ("twice", "-A FORWARD -j NPC-FORWARD\n-A FORWARD -j NPC-FORWARD\n", false),
            ("another chain", "-A FORWARD -j NPC-OLD\n", false),
            ("absent", "-A FORWARD -j X\n", false),
        ] {
            let table = parse_save(rules);
            assert_eq!(table.is_hooked(Hook::Forward, "NPC-FORWARD"), expected, "{name}");
        }
    }

    #[test]
    fn new_chains_come_in_parts_of_which_none_leads_to_a_later_one_nor_is_led_to() {
        let to = |name: &str| {
            let target = Target::Goto(chain(name));
            Rule { matches: Vec::new(), comment: None, target }
        };
        let leading_to =
            |names: &[&str]| Arc::new(Chain { rules: names.iter().map(|n| to(n)).collect() });
        let whole = Transaction {
            replace: BTreeMap::from([
                (chain("NPC-DENY-I"), Arc::default()),
                (chain("NPC-A"), leading_to(&["NPC-Z", "NPC-DENY-I"])),
                (chain("NPC-B"), leading_to(&["NPC-Z"])),
                (chain("NPC-OLD"), leading_to(&["NPC-A"])),
                (chain("NPC-TOP"), leading_to(&["NPC-A", "NPC-B", "NPC-OLD"])),
                (chain("NPC-Z"), leading_to(&["NPC-DENY-I"])),
            ]),
            delete: BTreeSet::from([chain("NPC-GONE")]),
            unhook: vec![(Hook::Forward, "-j NPC-TOP".to_owned())],
            hook: BTreeMap::from([(Hook::Forward, to("NPC-TOP"))]),
        };
        let found = BTreeSet::from(["NPC-GONE", "NPC-OLD", "NPC-DENY-I"].map(chain));
        let names = |transaction: &Transaction| -> Vec<String> {
            transaction.replace.keys().map(ToString::to_string).collect()
        };
        let (parts, last) = whole.in_parts(&found, 2);
        assert_eq!(
            parts.iter().map(names).collect::<Vec<_>>(),
            [["NPC-A", "NPC-Z"], ["NPC-B", "NPC-TOP"]]
        );
        assert_eq!(names(&last), ["NPC-DENY-I", "NPC-OLD"]);
        assert!(
            parts.iter().all(|part| part.delete.is_empty()
                && part.hook.is_empty()
                && part.unhook.is_empty())
        );
        let (parts, last) = whole.in_parts(&found, 5);
        assert_eq!((parts, last), (Vec::new(), whole.clone()), "too few for a part");
        let (parts, last) = whole.in_parts(&found, usize::MAX);
        assert_eq!((parts, last), (Vec::new(), whole));
    }

    #[test]
    fn hooks_move_between_the_declarations_and_the_removals() {
        let target = Target::Jump(chain("NPC-FORWARD"));
        let transaction = Transaction {
            replace: BTreeMap::from([(chain("NPC-FORWARD"), Arc::default())]),
            delete: BTreeSet::from([chain("NPC-E-old")]),
            unhook: vec![(Hook::Forward, "-j NPC-FORWARD".to_owned())],
            hook: BTreeMap::from([(
                Hook::Forward,
                Rule { matches: vec![Match::NotEstablished], comment: None, target },
            )]),
        };
        let text = transaction.text(Family::V4);
        let at = |line: &str| text.lines().position(|l| l == line).expect(line);
        let declared = at(":NPC-FORWARD - [0:0]");
        let unhooked = at("-D FORWARD -j NPC-FORWARD");
        let hooked = at("-I FORWARD 1 -m conntrack ! --ctstate RELATED,ESTABLISHED -j NPC-FORWARD");
        let removed = at("-X NPC-E-old");
        let committed = at("COMMIT");
        assert!(declared < unhooked && unhooked < hooked && hooked < removed);
        assert!(removed < committed);
        assert_eq!(text.lines().next(), Some("*filter"));
    }
}
