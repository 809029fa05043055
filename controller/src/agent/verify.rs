//! Compares what the running agent has written with what the kernel holds, and changes nothing.
//!
//! The agent says what it has written, and this process reads the kernel by itself. The agent may write
//! while it is being read; so where anything differs, it is asked once more. What differs though the
//! agent did nothing meanwhile is reported. While it goes on writing, the comparison is repeated, and
//! at last only that counts which differed each time.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use policy_compiler::cidr::Family;
use serde::{Serialize, Serializer};

use super::ask::{AskError, ask};
use super::desired::Desired;
use super::wire::{Answer, Question};
use crate::dataplane::backend::Backend;
use crate::dataplane::command::{CommandError, Runner};
use crate::dataplane::verify::{Difference, Found, compare};
use crate::dataplane::{FamilyState, PROGRAM_LIMIT};

/// How often a kernel that is being written to is read.
const READINGS: usize = 6;
/// How long a busy agent is given before the next reading.
const PAUSE: Duration = Duration::from_millis(300);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Whether the kernel holds what was written.
    pub equal: bool,
    /// In which iptables.
    pub backend: Backend,
    /// By family, IPv4 first.
    pub families: Vec<FamilyVerification>,
    /// What the kernel refuses, so that it was left out: no difference, but not what policies say.
    pub refused: Vec<String>,
}

/// What came of it in a family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyVerification {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Whether it was written at all, as the agent says; where it was not, nothing is compared.
    pub state: FamilyState,
    /// Chains that were written.
    pub chains: usize,
    /// Rules in them.
    pub rules: usize,
    /// Sets that were made.
    pub sets: usize,
    /// Members of all of them.
    pub members: usize,
    /// In what the kernel differs.
    #[serde(serialize_with = "with_text")]
    pub differences: Vec<Difference>,
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The agent.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It answered something else.
    #[error("the policyd of this network namespace answers another question")]
    Answer,
    /// The kernel.
    #[error("cannot read the kernel's rules and sets")]
    Read(#[from] CommandError),
}

/// Each difference with its line.
fn with_text<S: Serializer>(differences: &[Difference], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        difference: &'a Difference,
        text: String,
    }
    serializer.collect_seq(
        differences.iter().map(|difference| Line { difference, text: difference.to_string() }),
    )
}

/// Asks the agent of this network namespace and reads the kernel.
///
/// # Errors
/// Where either cannot be.
pub fn verify() -> Result<Verification, VerifyError> {
    let runner = Runner::new(PROGRAM_LIMIT);
    let asked = || match ask(&Question::Desired)? {
        Answer::Desired(desired) => Ok(*desired),
        _ => Err(VerifyError::Answer),
    };
    let read = |desired: &Desired| {
        let written = desired.iter().filter(|(_, wanted)| wanted.state == FamilyState::InStep);
        let read = |(family, _)| Ok((family, Found::read(&runner, desired.backend, family)?));
        written.map(read).collect::<Result<Vec<_>, VerifyError>>()
    };
    repeat(asked, read, || thread::sleep(PAUSE))
}

/// What each family holds.
type Reading = Vec<(Family, Found)>;

fn repeat(
    asked: impl Fn() -> Result<Desired, VerifyError>,
    read: impl Fn(&Desired) -> Result<Reading, VerifyError>,
    pause: impl Fn(),
) -> Result<Verification, VerifyError> {
    let mut desired = asked()?;
    let mut each_time: Option<BTreeSet<(Family, Difference)>> = None;
    let mut failure = None;
    for _ in 0..READINGS {
        match read(&desired) {
            // A set may have gone while it was being read.
            Err(error) => failure = Some(error),
            Ok(found) => {
                let differences = differences(&desired, &found);
                if differences.is_empty() {
                    return Ok(Verification::new(&desired, &differences));
                }
                let again = asked()?;
                if again == desired {
                    return Ok(Verification::new(&desired, &differences));
                }
                each_time = Some(match each_time {
                    None => differences,
                    Some(before) => before.intersection(&differences).cloned().collect(),
                });
            }
        }
        pause();
        desired = asked()?;
    }
    match (each_time, failure) {
        (Some(differences), _) => Ok(Verification::new(&desired, &differences)),
        (None, Some(error)) => Err(error),
        (None, None) => Err(VerifyError::Answer),
    }
}

fn differences(desired: &Desired, found: &Reading) -> BTreeSet<(Family, Difference)> {
    let mut differences = BTreeSet::new();
    for (family, wanted) in desired.iter() {
        if let Some((_, found)) = found.iter().find(|(other, _)| *other == family) {
            let here = compare(&wanted.expected, found);
            differences.extend(here.into_iter().map(|difference| (family, difference)));
        }
    }
    differences
}

impl Verification {
    fn new(desired: &Desired, differences: &BTreeSet<(Family, Difference)>) -> Self {
        let family = |(family, wanted): (Family, &super::desired::DesiredFamily)| {
            let expected = &wanted.expected;
            let here = differences.iter().filter(|(other, _)| *other == family);
            FamilyVerification {
                family: family.to_string(),
                state: wanted.state,
                chains: expected.chains.len(),
                rules: expected.chains.values().map(Vec::len).sum(),
                sets: expected.sets.len(),
                members: expected.sets.values().map(|set| set.members.len()).sum(),
                differences: here.map(|(_, difference)| difference.clone()).collect(),
            }
        };
        let families: Vec<FamilyVerification> = desired.iter().map(family).collect();
        let is_written = |family: &FamilyVerification| family.state != FamilyState::OutOfStep;
        Self {
            equal: differences.is_empty() && families.iter().all(is_written),
            backend: desired.backend,
            families,
            refused: desired.refused.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::desired::DesiredFamily;
    use crate::dataplane::verify::Expected;
    use std::cell::Cell;

    fn table(chains: &[&str]) -> String {
        let declared: Vec<String> =
            chains.iter().map(|chain| format!(":{chain} - [0:0]")).collect();
        declared.join("\n")
    }

    fn desired(writes: u64, chains: &[&str]) -> Desired {
        use crate::dataplane::verify::reading;
        let expected =
            Expected { chains: reading::table(&table(chains)).chains, ..Expected::default() };
        let of = |expected| DesiredFamily { state: FamilyState::InStep, writes, expected };
        Desired {
            backend: Backend::Nft,
            families: vec![of(expected), of(Expected::default())],
            refused: Vec::new(),
        }
    }

    fn found(chains: &[&str]) -> Reading {
        use crate::dataplane::verify::reading;
        let table = reading::table(&table(chains));
        vec![(Family::V4, Found { table, ..Found::default() })]
    }

    fn lines(verification: &Verification) -> Vec<String> {
        let differences = verification.families.iter().flat_map(|family| &family.differences);
        differences.map(ToString::to_string).collect()
    }

    #[test]
    fn what_differs_while_the_agent_does_nothing_is_reported_at_once() {
        let readings = Cell::new(0);
        let read = |_: &Desired| {
            readings.set(readings.get() + 1);
            Ok(found(&["NPC-A"]))
        };
        let verification = repeat(|| Ok(desired(1, &["NPC-A", "NPC-B"])), read, || {}).unwrap();
        assert!(!verification.equal);
        assert_eq!(lines(&verification), ["chain NPC-B is missing"]);
        assert_eq!(readings.get(), 1);
    }

    #[test]
    fn a_change_during_the_reading_is_no_difference() {
        let asked = Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            Ok(if asked.get() == 1 { desired(1, &["NPC-A"]) } else { desired(2, &["NPC-B"]) })
        };
        let verification = repeat(ask, |_| Ok(found(&["NPC-B"])), || {}).unwrap();
        assert_eq!(lines(&verification), [""; 0]);
        assert!(verification.equal);
    }

    #[test]
    fn under_an_agent_that_never_rests_only_what_differs_each_time_counts() {
        let writes = Cell::new(0);
        let ask = || {
            writes.set(writes.get() + 1);
            Ok(desired(writes.get(), &["NPC-A", "NPC-B"]))
        };
        let readings = Cell::new(0);
        let read = |_: &Desired| {
            readings.set(readings.get() + 1);
            let stray = format!("NPC-X{}", readings.get());
            Ok(found(&["NPC-A", &stray]))
        };
        let verification = repeat(ask, read, || {}).unwrap();
        assert_eq!(lines(&verification), ["chain NPC-B is missing"]);
        assert_eq!(readings.get(), READINGS);
    }

    #[test]
    fn a_reading_that_fails_is_tried_again_and_then_said() {
        let failed = || {
            let program = "ipset";
            VerifyError::Read(CommandError::TimedOut { program, limit: Duration::ZERO })
        };
        let readings = Cell::new(0);
        let once = |_: &Desired| {
            readings.set(readings.get() + 1);
            if readings.get() == 1 { Err(failed()) } else { Ok(found(&["NPC-A"])) }
        };
        assert!(repeat(|| Ok(desired(1, &["NPC-A"])), once, || {}).unwrap().equal);
        let error = repeat(|| Ok(desired(1, &[])), |_| Err(failed()), || {}).unwrap_err();
        assert!(matches!(error, VerifyError::Read(_)), "{error}");
    }

    #[test]
    fn a_family_that_was_not_written_is_not_equal_and_not_compared() {
        let mut out_of_step = desired(1, &["NPC-A"]);
        out_of_step.families[0].state = FamilyState::OutOfStep;
        let verification = repeat(|| Ok(out_of_step.clone()), |_| Ok(Vec::new()), || {}).unwrap();
        assert!(!verification.equal);
        assert_eq!(lines(&verification), [""; 0]);
    }
}
