//! Whether a kernel holds what a ruleset says.
//!
//! The ruleset is loaded into a namespace of its own by the text of `render`, and both kernels are read
//! back: they must hold the same chains, rules, sets and members, up to the generations in the names
//! of sets.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{ChainName, Ruleset};

use crate::enforcement::{Backend, Loader};
use crate::error::LabError;
use crate::namespace::Namespace;

/// Waits until a node's kernel holds `ruleset` and nothing else of ours.
///
/// # Errors
/// Where it does not in time; the error has the lines that differ.
pub fn expect(
    backend: Backend,
    node: &Namespace,
    ruleset: &Ruleset,
    patience: Duration,
) -> Result<(), LabError> {
    let reference = Namespace::create()?;
    Loader::Text.load(backend, &reference, ruleset)?;
    let expected = lines(backend, &reference)?;
    let start = Instant::now();
    loop {
        // A set that goes while legacy's rules are read fails the reading.
        let found = match lines(backend, node) {
            Err(LabError::Refused { .. }) if start.elapsed() <= patience => continue,
            found => found?,
        };
        if found == expected {
            return Ok(());
        }
        if start.elapsed() > patience {
            let show = |lines: BTreeSet<&String>| {
                lines.into_iter().take(40).cloned().collect::<Vec<_>>().join("\n  ")
            };
            let what = format!(
                "the kernel to hold what follows\n missing:\n  {}\n foreign:\n  {}\n",
                show(expected.difference(&found).collect()),
                show(found.difference(&expected).collect()),
            );
            return Err(LabError::TimeOut { what, seconds: patience.as_secs() });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The lines about our chains and sets in a namespace, each with its place in its chain, and with
/// the names of sets without their generation.
///
/// # Errors
/// Where the kernel cannot be read.
pub fn lines(backend: Backend, namespace: &Namespace) -> Result<BTreeSet<String>, LabError> {
    let mut lines = BTreeSet::new();
    for family in Family::ALL {
        let text = backend.save(namespace, family, "filter")?;
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for line in text.lines().filter(|line| line.contains(ChainName::PREFIX)) {
            let line = line.split(" [").next().unwrap_or_default();
            let chain = line.split(' ').nth(1).unwrap_or_default();
            let place = places.entry(chain).or_default();
            *place += 1;
            lines.insert(format!("{family} {place} {}", without_generations(line)));
        }
    }
    lines.extend(sets(namespace)?);
    Ok(lines)
}

/// Those about our sets alone.
///
/// # Errors
/// Where the kernel cannot be read.
pub fn sets(namespace: &Namespace) -> Result<BTreeSet<String>, LabError> {
    let sets = namespace.run(Command::new("ipset").arg("save"), "")?;
    let ours = sets.lines().filter(|line| line.contains(" npc"));
    // How large a set was made is no part of what it says.
    let said = ours.map(|line| line.split(" hashsize ").next().unwrap_or_default());
    Ok(said.map(without_generations).collect())
}

/// `npc4-p-HASH-GENERATION` as `npc4-p-HASH`.
#[must_use]
pub fn without_generations(line: &str) -> String {
    let word = |word: &str| {
        let peers = word.starts_with("npc4-p-") || word.starts_with("npc6-p-");
        match word.rsplit_once('-') {
            Some((name, _)) if peers => name.to_owned(),
            _ => word.to_owned(),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
