//! Where a rule of ours stands in a built-in chain, and what the rules above it do.
//!
//! A packet that a rule above ours accepts meets none of ours. Such a rule need not say so itself: it
//! may lead to a chain from which an accepting rule can be reached. Matches are not judged, so that
//! a rule which accepts anything at all counts: in doubt it lets everything by.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::ruleset::Hook;

/// Where the first rule of ours stands in a built-in chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Before all others.
    First,
    /// Below others.
    Below {
        /// How many they are.
        above: usize,
        /// The first of them that can let a packet by ours, as `iptables-save` prints it.
        accepting: Option<String>,
    },
}

/// What a rule may at most take of a line that people read.
const BRIEF: usize = 200;

impl Position {
    /// Where our first rule in `hook` stands, if that is the rule number `first` (from 1) of a table
    /// that `iptables-save` printed whole.
    #[must_use]
    pub fn of(table: &str, hook: Hook, first: usize) -> Self {
        let above = first.saturating_sub(1);
        if above == 0 {
            return Self::First;
        }
        let chains = Chains::of(table);
        let mut rules = chains.rules(hook.builtin()).iter().take(above);
        // What was come to by one rule need not be looked at for the next.
        let mut reached = BTreeSet::new();
        let accepting = rules.find(|rule| chains.lets_by(hook, rule, &mut reached));
        let accepting = accepting.map(|rule| brief(&format!("-A {} {rule}", hook.builtin())));
        Self::Below { above, accepting }
    }
}

impl Position {
    /// Where a rule with that number (from 1) stands, of whose neighbours nothing is known.
    #[must_use]
    pub fn numbered(number: usize) -> Self {
        match number.saturating_sub(1) {
            0 => Self::First,
            above => Self::Below { above, accepting: None },
        }
    }
}

/// The rules of a table by their chains.
struct Chains<'a> {
    rules: BTreeMap<&'a str, Vec<&'a str>>,
    /// Built-in chains that drop what no rule decides.
    closed: BTreeSet<&'a str>,
}

impl<'a> Chains<'a> {
    fn of(table: &'a str) -> Self {
        let mut chains = Self { rules: BTreeMap::new(), closed: BTreeSet::new() };
        for line in table.lines() {
            if let Some(declared) = line.strip_prefix(':') {
                let mut words = declared.split(' ');
                if let (Some(name), Some("DROP")) = (words.next(), words.next()) {
                    chains.closed.insert(name);
                }
            } else if let Some((chain, rule)) =
                line.strip_prefix("-A ").and_then(|appended| appended.split_once(' '))
            {
                chains.rules.entry(chain).or_default().push(rule);
            }
        }
        chains
    }

    fn rules(&self, chain: &str) -> &[&'a str] {
        self.rules.get(chain).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a packet that meets this rule of a built-in chain may leave that chain alive without
    /// meeting the rules below. What comes back from a goto goes on with the chain's policy.
    fn lets_by(&self, hook: Hook, rule: &'a str, reached: &mut BTreeSet<&'a str>) -> bool {
        let open = !self.closed.contains(hook.builtin());
        targets(rule).into_iter().any(|(verb, target)| match (verb, target) {
            (_, "RETURN") => open,
            (Verb::Goto, chain) => open || self.accepts(chain, reached),
            (Verb::Jump, target) => self.accepts(target, reached),
        })
    }

    /// Whether a target accepts, or is a chain from which one that does can be reached. Those `reached`
    /// before do not.
    fn accepts(&self, target: &'a str, reached: &mut BTreeSet<&'a str>) -> bool {
        let mut ahead = vec![target];
        while let Some(target) = ahead.pop() {
            // What a queue's reader lets go skips the rest of the table.
            if matches!(target, "ACCEPT" | "NFQUEUE" | "QUEUE") {
                return true;
            }
            if reached.insert(target) {
                let rules = self.rules(target).iter();
                ahead.extend(rules.flat_map(|rule| targets(rule)).map(|(_, target)| target));
            }
        }
        false
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Jump,
    Goto,
}

/// Where a rule may lead. One is the target; a word of a match that looks like another counts too,
/// since a rule must not hide its target behind a comment.
fn targets(rule: &str) -> Vec<(Verb, &str)> {
    let words = unquoted_words(rule);
    let pairs = words.iter().zip(words.iter().skip(1));
    pairs
        .filter_map(|(verb, target)| match *verb {
            "-j" => Some((Verb::Jump, *target)),
            "-g" => Some((Verb::Goto, *target)),
            _ => None,
        })
        .collect()
}

/// The words outside quotes, in which a backslash takes the next character for itself.
fn unquoted_words(rule: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut begin = None;
    let mut quoted = false;
    let mut escaped = false;
    for (at, letter) in rule.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                begin = None;
            }
            ' ' if !quoted => words.extend(begin.take().and_then(|from: usize| rule.get(from..at))),
            _ if !quoted => {
                begin.get_or_insert(at);
            }
            _ => {}
        }
    }
    words.extend(begin.and_then(|from| rule.get(from..)));
    words
}

/// A rule of others as part of a line: they may put anything into a comment.
pub(super) fn brief(rule: &str) -> String {
    let plain = |letter: char| if letter.is_control() { '?' } else { letter };
    let mut text: String = rule.chars().take(BRIEF).map(plain).collect();
    if rule.chars().nth(BRIEF).is_some() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rules: &str) -> String {
        table_with("ACCEPT", rules)
    }

    fn table_with(policy: &str, rules: &str) -> String {
        format!(
            "*filter\n:FORWARD {policy} [0:0]\n:NPC-FORWARD - [0:0]\n{rules}\
             -A FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED -j NPC-FORWARD\nCOMMIT\n"
        )
    }

    /// The rule above ours that can let packets by, in a table whose `FORWARD` has one above.
    fn accepting(table: &str) -> Option<String> {
        match Position::of(table, Hook::Forward, 2) {
            Position::Below { above: 1, accepting } => accepting,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rule_that_stands_first_has_nothing_above() {
        assert_eq!(Position::of(&table(""), Hook::Forward, 1), Position::First);
    }

    #[test]
    fn rules_above_ours_that_can_let_packets_by_are_told() {
        for (name, rule) in [
            ("it accepts", "-A FORWARD -s 10.0.0.0/8 -j ACCEPT"),
            ("it asks a program", "-A FORWARD -j NFQUEUE --queue-num 1"),
            ("it leaves the chain", "-A FORWARD -s 10.0.0.0/8 -j RETURN"),
            ("it leads to a chain that accepts", "-A FORWARD -j X\n-A X -p tcp -j ACCEPT"),
            ("by way of another", "-A FORWARD -j X\n-A X -g Y\n-A Y -j Z\n-A Z -j ACCEPT"),
            ("it never comes back", "-A FORWARD -g X\n-A X -j LOG"),
            ("chains lead to each other", "-A FORWARD -j X\n-A X -j Y\n-A Y -j X\n-A Y -j ACCEPT"),
            (
                "it has a comment",
                "-A FORWARD -m comment --comment \"say \\\"-j X\\\" to\" -m mark --mark 1 -j ACCEPT",
            ),
            ("its comment is a word", "-A FORWARD -m comment --comment -j -j ACCEPT"),
        ] {
            let first = rule.lines().next().map(str::to_owned);
            assert_eq!(accepting(&table(&format!("{rule}\n"))), first, "{name}");
        }
    }

    #[test]
    fn rules_above_ours_that_let_nothing_by_are_not() {
        for (name, rule) in [
            ("it drops", "-A FORWARD -s 10.0.0.0/8 -j DROP"),
            ("it counts", "-A FORWARD -s 10.0.0.0/8"),
            ("it logs", "-A FORWARD -j LOG --log-prefix \"-j ACCEPT \""),
            ("it leads to a chain that returns", "-A FORWARD -j X\n-A X -j RETURN"),
            ("only another chain accepts", "-A FORWARD -j X\n-A X -j DROP\n-A INPUT -j ACCEPT"),
            ("it speaks of it", "-A FORWARD -m comment --comment \"-j ACCEPT\" -j DROP"),
        ] {
            assert_eq!(accepting(&table(&format!("{rule}\n"))), None, "{name}");
        }
    }

    #[test]
    fn what_leaves_a_chain_that_drops_by_itself_is_dropped() {
        for (rule, lets_by) in [
            ("-A FORWARD -j RETURN", false),
            ("-A FORWARD -g X\n-A X -j LOG", false),
            ("-A FORWARD -g X\n-A X -j ACCEPT", true),
        ] {
            let found = accepting(&table_with("DROP", &format!("{rule}\n")));
            assert_eq!(found.is_some(), lets_by, "{rule}");
        }
    }

    #[test]
    fn only_rules_above_ours_count() {
        let below = "-A FORWARD -j DROP\n\
                     -A FORWARD -j NPC-FORWARD\n\
                     -A FORWARD -j ACCEPT\n";
        assert_eq!(accepting(&table(below)), None);
    }

    #[test]
    fn a_rule_of_any_length_and_content_is_told_on_one_line() {
        let long =
            format!("-A FORWARD -m comment --comment \"{}\u{7}\" -j ACCEPT", "é".repeat(500));
        let told = accepting(&table(&format!("{long}\n"))).unwrap();
        assert_eq!(told.chars().count(), BRIEF + 3);
        assert_eq!(brief("a\u{1b}b\nc"), "a?b?c");
    }
}
