//! Another version's rules stand when policyd starts: it takes over, no packet finds a window, and
//! nothing of the other is left. A downgrade is the same, seen from the older version.
//!
//! What the other version wrote is made of what this one would write for the same objects.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use policy_compiler::cidr::Family;
use policy_compiler::render;
use policy_compiler::ruleset::{ChainName, FamilyRules, Match, SetRole, Target};
use policy_compiler::update::ChainsUpdate;
use policy_tests::enforcement::{Backend, LOCK_FILE, OWN_NAMESPACE};

use crate::random::{Dice, seed};
use crate::town::{PATIENCE, State, Town, expect_nothing_wrong};

under_both_backends!(
    rules_with_other_names_and_another_hook_are_taken_over_without_a_window,
    a_linear_layout_hooked_twice_is_taken_over_without_a_window,
    sets_of_other_types_under_our_names_are_taken_over_without_a_leak,
    a_chain_that_a_rule_of_others_leads_to_is_emptied_and_goes_once_it_is_free,
    an_orphaned_session_that_commits_late_changes_nothing_for_long,
);

/// What another version wrote for one family: sets, then rules.
struct Rendered {
    sets: String,
    rules: String,
}

/// What this version writes.
fn ours(rules: &FamilyRules, family: Family) -> Rendered {
    let update = ChainsUpdate {
        family,
        replace: rules.chains.clone(),
        delete: BTreeSet::new(),
        hook: rules.hooks.clone(),
        unhook: BTreeMap::new(),
    };
    let sets = render::ipset_restore(&rules.sets);
    Rendered { sets, rules: render::iptables_restore(&update) }
}

/// Each word that is a key becomes its value.
fn renamed(text: &str, names: &BTreeMap<String, String>) -> String {
    let word = |word: &str| {
        let bare = word.strip_prefix(':').unwrap_or(word);
        names.get(bare).map_or_else(|| word.to_owned(), |new| word.replace(bare, new))
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n";
    text.lines().map(line).collect()
}

/// Another version's names throughout, and a hook that leads to a chain which looks at the connection.
fn by_other_names(rules: &FamilyRules, family: Family) -> Rendered {
    let mut names = BTreeMap::new();
    for (number, chain) in rules.chains.keys().enumerate() {
        names.insert(chain.to_string(), format!("NPC-V9-{number}"));
    }
    for (number, set) in rules.sets.keys().enumerate() {
        let prefix = if family == Family::V4 { "npc4" } else { "npc6" };
        names.insert(set.to_string(), format!("{prefix}-v9-{number}"));
    }
    let Rendered { sets, rules } = ours(rules, family);
    let rules = renamed(&rules, &names);
    let old = "-m conntrack ! --ctstate RELATED,ESTABLISHED -j ";
    let hook = "-m comment --comment \"policyd 9, and its hook\" -j NPC-V9-ENTRY";
    let entry = rules.lines().find_map(|line| Some(line.split_once(old)?.1.to_owned())).unwrap();
    let rules = rules.replace(&format!("{old}{entry}"), hook).replacen(
        "*filter\n",
        &format!(
            "*filter\n:NPC-V9-ENTRY - [0:0]\n-A NPC-V9-ENTRY -m conntrack --ctstate \
             RELATED,ESTABLISHED -j RETURN\n-A NPC-V9-ENTRY -j {entry}\n"
        ),
        1,
    );
    // A chain can be led to only once it is declared.
    let (declared, others): (Vec<&str>, Vec<&str>) =
        rules.lines().skip(1).partition(|line| line.starts_with(':'));
    let rules = format!("*filter\n{}\n{}\n", declared.join("\n"), others.join("\n"));
    Rendered { sets: renamed(&sets, &names), rules }
}

/// No tree: every pod's rule in one list. The chains of pods are named as ours are.
fn linear(rules: &FamilyRules, family: Family) -> Rendered {
    let mut rules = rules.clone();
    for (list, tree) in [("NPC-EGRESS", "NPC-ET-"), ("NPC-INGRESS", "NPC-IT-")] {
        let leads_on = |target: &Target| match target {
            Target::Goto(chain) | Target::Jump(chain) => chain.as_str().starts_with(tree),
            _ => false,
        };
        let inner: Vec<ChainName> =
            rules.chains.keys().filter(|name| name.as_str().starts_with(tree)).cloned().collect();
        let mut leaves = Vec::new();
        let whole = inner.into_iter().map(|name| rules.chains.remove(&name).unwrap());
        for chain in whole.collect::<Vec<_>>() {
            leaves.extend(chain.rules.iter().filter(|rule| !leads_on(&rule.target)).cloned());
        }
        if let Some(chain) = rules.chains.get_mut(&ChainName::new(list).unwrap()) {
            let chain = Arc::make_mut(chain);
            chain.rules.retain(|rule| !leads_on(&rule.target));
            chain.rules.extend(leaves);
        }
    }
    let mut written = ours(&rules, family);
    let hook =
        written.rules.lines().find(|line| line.starts_with("-I FORWARD")).unwrap().to_owned();
    let bare = "-I FORWARD 1 -m conntrack --ctstate NEW,INVALID,UNTRACKED -j NPC-FORWARD";
    written.rules = written.rules.replace(&hook, &format!("{hook}\n{bare}"));
    written
}

/// Isolated addresses as networks, which expire in an hour, and networks in smaller sets.
fn of_other_types(rules: &FamilyRules, family: Family) -> Rendered {
    let mut written = ours(rules, family);
    for set in rules.sets.keys() {
        let (old, new) = match set.role {
            SetRole::Isolated => ("hash:ip", "hash:net"),
            _ => ("maxelem 1048576", "maxelem 65536"),
        };
        let create = format!("create {set} ");
        let line = written.sets.lines().find(|line| line.starts_with(&create)).unwrap().to_owned();
        let mut other = line.replace(old, new);
        if set.role == SetRole::Isolated {
            other.push_str(" timeout 3600");
        }
        written.sets = written.sets.replace(&line, &other);
    }
    written
}

impl Town {
    fn load(&self, state: &State, of: impl Fn(&FamilyRules, Family) -> Rendered) {
        let ruleset = Self::ruleset(state);
        for family in Family::ALL {
            let Rendered { sets, rules } = of(ruleset.family(family), family);
            self.node().run(Command::new("ipset").arg("restore"), &sets).unwrap();
            self.backend.restore(self.node(), family, &rules).unwrap();
        }
    }

    /// Empties the node of what policyd leaves.
    fn clean(&self) {
        self.node().run(&mut Self::policyd(&["cleanup"]), "").unwrap();
    }
}

/// Lets policyd take over what another version wrote for some objects, while the objects stay or change.
fn take_over(backend: Backend, of: fn(&FamilyRules, Family) -> Rendered) {
    let mut dice = Dice::new(seed());
    let town = Town::new(backend);
    for round in 0..3 {
        let before = State::random(&mut dice);
        let after = if round == 0 { None } else { Some(State::random(&mut dice)) };
        town.load(&before, of);
        let vigil = town.watch(&before);
        // What the other version wrote enforces, or nothing would be proved.
        vigil.await_rounds(20).unwrap();
        let now = after.as_ref().unwrap_or(&before);
        let number = vigil.may_become(town.verdicts(now));
        town.put(now);
        let daemon = town.start();
        vigil.is_in_force(number);
        town.expect_kernel(now);
        town.expect_verified();
        daemon.stop(Signal::SIGTERM).unwrap();
        expect_nothing_wrong(vigil);
        town.clean();
    }
}

fn rules_with_other_names_and_another_hook_are_taken_over_without_a_window(backend: Backend) {
    take_over(backend, by_other_names);
}

fn a_linear_layout_hooked_twice_is_taken_over_without_a_window(backend: Backend) {
    take_over(backend, linear);
}

/// The kernel keeps a set that rules look up, so that for a moment more is denied: nothing may leak, and
/// nobody may be denied for good.
fn sets_of_other_types_under_our_names_are_taken_over_without_a_leak(backend: Backend) {
    let mut dice = Dice::new(seed());
    let town = Town::new(backend);
    let state = State::random(&mut dice);
    town.load(&state, of_other_types);
    let vigil = town.watch(&state);
    town.put(&state);
    let _daemon = town.start();
    town.expect_kernel(&state);
    town.expect_verified();
    let tally = vigil.end().unwrap();
    assert_eq!(tally.leaked, 0, "{:#?}", tally.told);
    expect_calm(&town, &state);
}

/// Nothing is wrong any more.
fn expect_calm(town: &Town, state: &State) {
    let vigil = town.watch(state);
    vigil.await_rounds(50).unwrap();
    expect_nothing_wrong(vigil);
}

fn a_chain_that_a_rule_of_others_leads_to_is_emptied_and_goes_once_it_is_free(backend: Backend) {
    let town = Town::new(backend);
    let state = State::plain();
    town.load(&state, by_other_names);
    let held = "NPC-V9-ENTRY";
    town.iptables(Family::V4, &["-w", "-N", "THEIRS"]);
    town.iptables(Family::V4, &["-w", "-A", "THEIRS", "-p", "99", "-j", held]);
    let vigil = town.watch(&state);
    town.put(&state);
    let daemon = town.start();
    expect_nothing_wrong(vigil);
    let table = || town.backend.save(town.node(), Family::V4, "filter").unwrap();
    assert!(table().contains(&format!(":{held} ")), "{}", table());
    assert!(!table().contains(&format!("-A {held} ")), "{}", table());
    town.iptables(Family::V4, &["-w", "-F", "THEIRS"]);
    town.expect_kernel(&state);
    drop(daemon);
}

/// A session that an older policyd left behind has read a block to which only COMMIT is missing, and
/// gets that once its successor has written. With legacy it holds the lock until then.
fn an_orphaned_session_that_commits_late_changes_nothing_for_long(backend: Backend) {
    let town = Town::new(backend);
    let state = State::plain();
    town.put(&state);
    let daemon = town.start();
    let mut command = Command::new(format!("{}-restore", backend.iptables(Family::V4)));
    command.args(["--noflush", "-w"]).env(LOCK_FILE, OWN_NAMESPACE);
    command.stdin(Stdio::piped());
    let mut orphan = town.node().spawn(&mut command).unwrap();
    let mut stdin = orphan.stdin.take().unwrap();
    stdin.write_all(b"*filter\n:NPC-FORWARD - [0:0]\n-A NPC-FORWARD -j RETURN\n").unwrap();
    daemon.stop(Signal::SIGKILL).unwrap();
    let daemon = town.launch();
    if backend == Backend::Nft {
        daemon.await_line(" ready ", 0, PATIENCE).unwrap();
    } else {
        thread::sleep(Duration::from_millis(500));
    }
    stdin.write_all(b"COMMIT\n").unwrap();
    drop(stdin);
    assert!(orphan.wait().unwrap().success());
    daemon.await_line(" ready ", 0, PATIENCE).unwrap();
    town.expect_kernel(&state);
    expect_calm(&town, &state);
}

/// The rules of pods must be reached without the tree, or the test would test nothing.
#[test]
fn a_linear_layout_has_no_tree() {
    let ruleset = Town::ruleset(&State::plain());
    let Rendered { rules, .. } = linear(&ruleset.v4, Family::V4);
    assert!(!rules.contains("-IT-") && !rules.contains("-ET-"), "{rules}");
    let leaves = ruleset.v4.chains.values().flat_map(|chain| &chain.rules).filter(|rule| {
        let one = |m: &Match| matches!(m, Match::Source(net) | Match::Destination(net) if net.prefix_len() == 32);
        matches!(rule.target, Target::Goto(_)) && rule.matches.iter().any(one)
    });
    assert_eq!(rules.matches("/32 -g NPC-").count(), leaves.count(), "{rules}");
}
