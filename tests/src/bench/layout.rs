//! Ways to lay policies out in table filter, as text: sets, chains, and the hooks that lead to them.
//!
//! Several stand in one table at once, and the hooks alone say which one packets meet: what is
//! compared then differs in nothing else. A chain that nobody leads to costs a packet nothing.

mod linear;
mod proxy;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy_compiler::cidr::Family;
use policy_compiler::compile::compile;
use policy_compiler::render;
use policy_compiler::ruleset::{Hook, Ruleset};

pub use self::proxy::PROXY;
use super::BenchError;
use super::path::{Passage, Tally};
use super::shape::{Directions, Shape};

/// A layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the reader of a report calls it.
    pub name: &'static str,
    /// Input of `ipset restore`.
    pub sets: String,
    /// Input of `iptables-restore --noflush`, hooks left out.
    pub chains: String,
    /// Rules that stand first in built-in chains: the chain, and the rule's words.
    pub hooks: Vec<(&'static str, String)>,
    /// The rules that show which way packets went.
    pub tallies: Vec<Tally>,
    /// Whether it denies what policies deny; otherwise that is delivered.
    pub polices: bool,
}

impl Layout {
    /// No policy engine.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            name: "none",
            sets: String::new(),
            chains: String::new(),
            hooks: Vec::new(),
            tallies: proxy::tallies(true),
            polices: false,
        }
    }

    /// No policy engine, and one rule that drops what comes for a port: the least that a node must do
    /// to deny a packet.
    #[must_use]
    pub fn one_drop(protocol: &str, port: u16) -> Self {
        Self {
            name: "one drop rule",
            hooks: vec![("FORWARD", format!("-p {protocol} -m {protocol} --dport {port} -j DROP"))],
            polices: true,
            ..Self::nothing()
        }
    }

    /// policyd's, as the compiler makes it. `tag` stands for the `C` and `c` of all of its names, so
    /// that two can stand side by side.
    ///
    /// # Errors
    /// Where the shape makes no cluster.
    pub fn ours(shape: &Shape, ipvs: bool, tag: char) -> Result<Self, BenchError> {
        let compiled = compile(&shape.snapshot()?, &Shape::config(ipvs)?);
        if let Some(diagnostic) = compiled.diagnostics.first() {
            return Err(BenchError::Shape(format!("{diagnostic:?}")));
        }
        let mut ruleset = compiled.ruleset;
        let hooks = std::mem::take(&mut ruleset.v4.hooks);
        let renamed = |text: &str| rename(text, tag);
        let hook = |(hook, rule): (Hook, _)| {
            (hook.builtin(), renamed(&render::rule_spec(&rule).join(" ")))
        };
        Ok(Self {
            name: "policyd",
            sets: renamed(&render::ipset_restore(&ruleset.v4.sets)),
            chains: renamed(&render::ruleset(&ruleset, Family::V4)),
            hooks: hooks.into_iter().map(hook).collect(),
            tallies: our_tallies(&ruleset, tag, shape.directions),
            polices: true,
        })
    }

    /// What other engines do, see [`linear`].
    #[must_use]
    pub fn linear(shape: &Shape) -> Self {
        linear::layout(*shape)
    }

    /// How many rules it has, hooks included.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.hooks.len() + self.chains.lines().filter(|line| line.starts_with("-A ")).count()
    }

    /// The transaction that puts the hooks of `self` in the place of those of `other`, each first.
    ///
    /// It rewrites a chain that nobody leads to besides: so it changes the table even between a layout and
    /// itself, and the control costs what a comparison costs.
    #[must_use]
    pub fn switch_from(&self, other: &Layout) -> String {
        let mut text = format!("*filter\n:{TOUCHED} - [0:0]\n-A {TOUCHED} -j RETURN\n");
        // Writing to a string cannot fail.
        for (chain, words) in &other.hooks {
            let _ = writeln!(text, "-D {chain} {words}");
        }
        for (chain, words) in &self.hooks {
            let _ = writeln!(text, "-I {chain} 1 {words}");
        }
        text.push_str("COMMIT\n");
        text
    }

    /// Everything as one transaction, hooks included, for an empty table.
    #[must_use]
    pub fn whole(&self) -> String {
        let mut text = self.chains.strip_suffix("COMMIT\n").unwrap_or(&self.chains).to_owned();
        for (chain, words) in &self.hooks {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "-I {chain} 1 {words}");
        }
        text.push_str("COMMIT\n");
        text
    }
}

/// The chain that every switch rewrites.
const TOUCHED: &str = "BENCH-TOUCHED";

fn rename(text: &str, tag: char) -> String {
    let lower = tag.to_ascii_lowercase();
    text.replace("NPC-", &format!("NP{tag}-")).replace("npc4-", &format!("np{lower}4-"))
}

/// What the rules of ours count, by what becomes of a packet.
fn our_tallies(ruleset: &Ruleset, tag: char, directions: Directions) -> Vec<Tally> {
    let name = |text: &str| rename(text, tag);
    let mut tallies = proxy::tallies(true);
    let mut direction = |word: &'static str, letter: char, passages: &[Passage]| {
        let entry = name(&format!("-j NPC-{word}"));
        tallies.push(Tally::new("entered", &[&name("NPC-FORWARD")], &entry, passages));
        let leaves = [name(&format!("NPC-{letter}-")), name(&format!("NPC-{letter}B-"))];
        let leaves: Vec<&str> = leaves.iter().map(String::as_str).collect();
        let allowed: Vec<Passage> =
            passages.iter().copied().filter(|passage| *passage == Passage::Allowed).collect();
        tallies.push(Tally::new("allowed", &leaves, "-j RETURN", &allowed));
    };
    // Denied packets are denied at their source where both directions are policed.
    if directions == Directions::Both {
        direction("EGRESS", 'E', &[Passage::Allowed, Passage::Denied]);
        direction("INGRESS", 'I', &[Passage::Allowed]);
    } else {
        direction("INGRESS", 'I', &[Passage::Allowed, Passage::Denied]);
    }
    tallies.push(Tally::new("denied", &[&name("NPC-DENY-")], "-j DROP", &[Passage::Denied]));
    if ruleset.v4.chains.keys().any(|chain| chain.as_str() == "NPC-OUTPUT") {
        // What the node sends is established here, and meets the hook alone.
        tallies.push(Tally::new("sent by the node", &[&name("NPC-OUTPUT")], "", &[]));
    }
    tallies
}

/// The sets of a linear layout.
type Sets = BTreeMap<String, Vec<std::net::Ipv4Addr>>;

fn ipset_restore(sets: &Sets) -> String {
    let mut text = String::new();
    for (name, members) in sets {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "create {name} hash:ip family inet hashsize 64 maxelem 65536");
        for member in members {
            let _ = writeln!(text, "add {name} {member}");
        }
    }
    text
}
