//! Finding out whether the kernel still holds what was written, and what stands around it.
//!
//! ```text
//!  probes ── suspicion ──> reading, on a thread of its own ──> compare ──> nothing, or repair
//!  by time (verify) ─────> reading, waited for ─────────────────┘
//! ```
//!
//! What a reading costs sets the pace: others may change tables of theirs all the time, and after a
//! suspicion that came to nothing the next reading waits until [`SHARE`] times what that one took has
//! passed. After a repair nothing waits. A reading that was overtaken by a write of ours says nothing,
//! and the next one is waited for.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Instant;

use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{ChainName, FamilyRules, Hook};
use policy_compiler::update::Update;
use tracing::{debug, warn};

use super::FamilyPlane;
use super::contest::Contest;
use super::repair::Repair;
use crate::dataplane::above::{Position, brief};
use crate::dataplane::backend::{Backend, has_ipv6};
use crate::dataplane::command::Runner;
use crate::dataplane::drift::Drift;
use crate::dataplane::ipset::{self, kind_of};
use crate::dataplane::iptables::{self, FoundHook, FoundTable};
use crate::dataplane::probe::headers::{Headers, differ};
use crate::dataplane::probe::{Look, Sets};
use crate::dataplane::verify::reading::{HookRule, sets, table};
use crate::dataplane::verify::{Difference, Expected, Found, compare};
use crate::dataplane::{Changes, Kernel, Outcome, WriteError, error_chain};
use crate::health::Note;

/// How many times as long as a reading took that has found nothing the next one waits, if it is for a
/// suspicion.
const SHARE: u32 = 20;
/// How many differences are named in the log.
const NAMED: usize = 3;

/// What is known, and being found out, of others' changes.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Whether something may have changed since the last reading began.
    suspected: bool,
    /// Headers of sets that looked changed.
    looked_changed: Option<Headers>,
    /// Headers of sets that look changed though a comparison has shown that nothing is, as of how many
    /// writes.
    cleared: Option<(u64, Headers)>,
    /// When the next reading for a suspicion may begin.
    not_before: Option<Instant>,
    /// When something was last found changed, in whichever family.
    stirred: Option<Instant>,
    under_way: Option<UnderWay>,
    /// A reading that has shown something to put right, until others let us write.
    waiting: Option<Finished>,
    /// Whether the last reading was overtaken by a write.
    overtaken: bool,
    /// Whether the next reading is to show that a repair has done its work.
    checks: bool,
    contest: Contest,
    /// Until when what is not urgent is left as it is.
    yields_until: Option<Instant>,
}

/// A reading that is being taken.
#[derive(Debug)]
struct UnderWay {
    result: Receiver<Result<Reading, WriteError>>,
    begun: Instant,
    /// How many writes had been set out then.
    writes: u64,
    /// What might be there besides then.
    given_up: BTreeSet<String>,
    held: BTreeSet<ChainName>,
}

/// A reading that was taken.
#[derive(Debug)]
struct Finished {
    reading: Reading,
    begun: Instant,
    /// How many writes had been set out when it was begun.
    writes: u64,
}

/// What the kernel holds of a family.
#[derive(Debug)]
struct Reading {
    table: FoundTable,
    found: Found,
}

impl Reading {
    fn take(runner: &Runner, backend: Backend, family: Family) -> Result<Self, WriteError> {
        let printed = backend.save_table(runner, family, "filter");
        let rules = printed.as_deref().map(table).unwrap_or_default();
        let table = iptables::shown(printed, family).map_err(WriteError::ReadTable)?;
        let there = ipset::save(runner, family).map_err(WriteError::ReadSets)?;
        Ok(Self { table, found: Found { table: rules, sets: sets(&there, family) } })
    }

    /// Takes what iptables cannot show to be as it was written: of such a table only names are known, and
    /// where the hooks stand.
    fn believe_what_is_hidden(&mut self, expected: &Expected) {
        if !self.table.hidden {
            return;
        }
        let rules = |name: &ChainName| expected.chains.get(name.as_str()).cloned();
        let chains = self.table.chains.iter();
        self.found.table.chains =
            chains.map(|name| (name.to_string(), rules(name).unwrap_or_default())).collect();
        for (hook, there) in &self.table.hooks {
            let wanted = expected.hooks.get(hook.builtin()).cloned().unwrap_or_default();
            let leads = |rule: &FoundHook| {
                let target = format!("-j {}", rule.target);
                let words = if wanted.ends_with(&target) { wanted.clone() } else { target };
                HookRule { position: rule.position, words }
            };
            let there = there.iter().map(leads).collect();
            self.found.table.hooks.insert(hook.builtin().to_owned(), there);
        }
    }
}

impl FamilyPlane {
    /// See [`crate::dataplane::Dataplane::verify`].
    pub(in crate::dataplane) fn verify(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
    ) -> Outcome {
        if !self.in_step {
            return self.write(kernel, &Update::default(), desired);
        }
        let begun = Instant::now();
        self.watch.suspected = false;
        self.watch.under_way = None;
        self.watch.waiting = None;
        let writes = self.writes;
        match Reading::take(&kernel.runner, kernel.backend, self.family) {
            Ok(reading) => self.judge(kernel, desired, Finished { reading, begun, writes }),
            Err(error) => {
                // Until a reading succeeds, nobody knows.
                self.doubtful = true;
                Outcome::Failed(error)
            }
        }
    }

    /// See [`crate::dataplane::Dataplane::look_again`].
    pub(in crate::dataplane) fn look_again(&mut self, kernel: &Kernel) -> bool {
        if !self.in_step {
            // A failed write has its own retry; a family that the kernel lacked has none.
            return self.absent && has_ipv6();
        }
        if self.remove_held.is_due() {
            self.held = self.delete(kernel, &self.held);
            if self.held.is_empty() {
                self.remove_held.forget();
            } else {
                self.remove_held.put_off();
            }
        }
        self.leftovers.search_again(kernel, self.family);
        if self.refused.is_empty() {
            self.retest.forget();
        } else if self.retest.is_due() {
            self.retest.put_off();
            self.in_step = !self.refused.is_outdated(kernel, self.family);
        }
        !self.in_step || self.doubtful
    }

    /// See [`crate::dataplane::Dataplane::look_out`].
    pub(in crate::dataplane) fn suspect(&mut self, desired: &FamilyRules, look: &Look) {
        if !self.in_step {
            return;
        }
        self.watch.suspected |= look.tables || look.sets == Sets::Doubtful;
        let Some(headers) = look.headers(self.family) else { return };
        let wanted = desired.sets.iter().map(|(name, set)| {
            let name = self.shift.name(name);
            (name.to_string(), kind_of(&name), set.members.len())
        });
        if differ(wanted, &self.given_up, headers)
            && self
                .watch
                .cleared
                .as_ref()
                .is_none_or(|(writes, cleared)| (*writes, cleared) != (self.writes, headers))
        {
            self.watch.suspected = true;
            self.watch.looked_changed = Some(headers.clone());
        }
    }

    /// Whether something is being read, or is to be put right when others let us.
    pub(in crate::dataplane) fn is_reading(&self) -> bool {
        self.watch.under_way.is_some() || self.watch.waiting.is_some()
    }

    /// Follows a suspicion up, as far as the pace allows, and puts right what differs.
    pub(in crate::dataplane) fn follow_up(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
    ) -> Outcome {
        if !self.in_step {
            // It starts over, and that is read back.
            self.watch.under_way = None;
            self.watch.waiting = None;
            return Outcome::Unchanged;
        }
        if let Some(finished) = self.watch.waiting.take() {
            if !kernel.is_our_turn() {
                self.watch.waiting = Some(finished);
                return Outcome::Unchanged;
            }
            return self.take(kernel, desired, finished);
        }
        if let Some(under_way) = self.watch.under_way.take() {
            return self.take_reading(kernel, desired, under_way);
        }
        let now = Instant::now();
        if self.watch.yields_until.is_some_and(|until| until <= now) {
            self.watch.yields_until = None;
            self.watch.suspected = true;
        }
        if !self.watch.suspected || self.watch.not_before.is_some_and(|at| now < at) {
            return Outcome::Unchanged;
        }
        if self.watch.overtaken {
            // What it finds it puts right.
            let may_write = kernel.is_our_turn();
            return if may_write { self.verify(kernel, desired) } else { Outcome::Unchanged };
        }
        self.watch.suspected = false;
        match self.begin_reading(kernel) {
            Ok(under_way) => {
                self.watch.under_way = Some(under_way);
                Outcome::Unchanged
            }
            Err(error) => {
                debug!(family = %self.family, %error, "no thread to read on");
                self.verify(kernel, desired)
            }
        }
    }

    /// Begins a reading in the network namespace of the caller.
    fn begin_reading(&self, kernel: &Kernel) -> std::io::Result<UnderWay> {
        let (to, result) = mpsc::channel();
        let (runner, backend, family) = (kernel.runner.clone(), kernel.backend, self.family);
        thread::Builder::new().name("reading".to_owned()).spawn(move || {
            // Nobody listens where something was written meanwhile.
            let _ = to.send(Reading::take(&runner, backend, family));
        })?;
        Ok(UnderWay {
            result,
            begun: Instant::now(),
            writes: self.writes,
            given_up: self.given_up.clone(),
            held: self.held.clone(),
        })
    }

    fn take_reading(
        &mut self,
        kernel: &Kernel,
        desired: &FamilyRules,
        under_way: UnderWay,
    ) -> Outcome {
        let result = match under_way.result.try_recv() {
            Err(TryRecvError::Empty) => {
                self.watch.under_way = Some(under_way);
                return Outcome::Unchanged;
            }
            result => result,
        };
        let UnderWay { begun, writes, given_up, held, .. } = under_way;
        match result {
            Ok(Ok(mut reading)) => {
                // What was destroyed while it was being read is none of somebody else's.
                reading.found.sets.retain(|name, _| !given_up.contains(name));
                reading.found.table.chains.retain(|name, rules| {
                    !rules.is_empty() || held.iter().all(|held| held.as_str() != name)
                });
                self.take(kernel, desired, Finished { reading, begun, writes })
            }
            // A set may have gone while it was being read.
            Ok(Err(_)) | Err(_) => self.read_again(begun),
        }
    }

    /// Judges a reading, unless something was written since it was begun.
    fn take(&mut self, kernel: &Kernel, desired: &FamilyRules, finished: Finished) -> Outcome {
        if finished.writes == self.writes {
            self.judge(kernel, desired, finished)
        } else {
            self.read_again(finished.begun)
        }
    }

    fn read_again(&mut self, begun: Instant) -> Outcome {
        self.watch.overtaken = true;
        self.watch.suspected = true;
        self.pace(begun);
        Outcome::Unchanged
    }

    /// Something was found changed, here or in the other family: signs are worth a reading each.
    pub(in crate::dataplane) fn stir(&mut self) {
        self.watch.stirred = Some(Instant::now());
        self.watch.not_before = None;
    }

    fn pace(&mut self, begun: Instant) {
        if self.watch.stirred.is_some_and(|at| at >= begun) {
            // A sign does not say of which family it is.
            return;
        }
        let now = Instant::now();
        self.watch.not_before = Some(now + now.saturating_duration_since(begun) * SHARE);
    }

    /// Compares what was read with what was written, and puts right what differs.
    fn judge(&mut self, kernel: &Kernel, desired: &FamilyRules, finished: Finished) -> Outcome {
        let Finished { mut reading, begun, writes } = finished;
        self.doubtful = false;
        self.watch.overtaken = false;
        self.see_hooks(desired, &reading.table);
        self.seen.engines.clone_from(&reading.table.engines);
        self.seen.hidden = reading.table.hidden;
        self.held.retain(|chain| reading.table.chains.contains(chain));
        let rules = self.as_written(desired);
        let expected = Expected {
            held: self.held.iter().map(ToString::to_string).collect(),
            given_up: self.given_up.clone(),
            ..Expected::new(self.family, &rules)
        };
        reading.believe_what_is_hidden(&expected);
        let differences = compare(&expected, &reading.found);
        let checks = std::mem::take(&mut self.watch.checks);
        let looked_changed = self.watch.looked_changed.take();
        let repair = Repair::new(&rules, &reading.table, &differences);
        if repair.as_ref().is_some_and(Repair::is_empty) {
            if !checks {
                self.pace(begun);
            }
            self.watch.cleared = looked_changed.map(|headers| (self.writes, headers));
            self.tidy(kernel);
            debug!(family = %self.family, "read, and as it was written");
            return Outcome::Unchanged;
        }
        let now = Instant::now();
        if self.is_harmless(&differences)
            && let Some(until) = self.watch.contest.yields_until(now)
        {
            self.watch.yields_until = Some(until);
            return Outcome::Unchanged;
        }
        if !kernel.is_our_turn() {
            self.watch.waiting = Some(Finished { reading, begun, writes });
            return Outcome::Unchanged;
        }
        self.tell(&differences, now);
        self.drift = Drift::of(&differences);
        // Whether it is as it should be now is seen the next time.
        self.watch.suspected = true;
        self.watch.checks = true;
        self.watch.not_before = None;
        let done = match repair {
            Some(repair) => self.carry_out_repair(kernel, &rules, repair).map(Some),
            None => Ok(None),
        };
        if self.watch.contest.repaired(Instant::now()) {
            warn!(
                family = %self.family,
                "somebody changes our rules again and again; what opens nothing is put right less often"
            );
        }
        match done {
            Ok(Some(changes)) => {
                let repaired = std::mem::take(&mut self.drift);
                return Outcome::Written(Changes { repaired, ..changes });
            }
            Ok(None) => {}
            Err(error) => {
                warn!(family = %self.family, error = %error_chain(&error), "not repaired, starting over");
            }
        }
        self.in_step = false;
        self.write(kernel, &Update::default(), desired)
    }

    /// Whether our rules are met by every packet all the same: others stand above ours and let nothing
    /// by.
    fn is_harmless(&self, differences: &[Difference]) -> bool {
        let moved = |difference: &Difference| matches!(difference, Difference::HookNotFirst { .. });
        let passes = |position: &Option<Position>| {
            matches!(position, Some(Position::First | Position::Below { accepting: None, .. }))
        };
        // Of neighbours that iptables cannot show nothing is known.
        !self.seen.hidden && differences.iter().all(moved) && self.seen.hooks.values().all(passes)
    }

    fn tell(&self, differences: &[Difference], now: Instant) {
        let named: Vec<String> =
            differences.iter().take(NAMED).map(|one| brief(&one.to_string())).collect();
        let (family, count, named) = (self.family, differences.len(), named.join("; "));
        if self.watch.contest.pause(now).is_some() {
            debug!(%family, differences = count, named, "changed by others, putting it right");
        } else {
            warn!(%family, differences = count, named, "changed by others, putting it right");
        }
    }

    /// What somebody who fights with us makes worth knowing, under a name.
    pub(in crate::dataplane) fn contested(&self) -> Option<(String, Note)> {
        let pause = self.watch.contest.pause(Instant::now())?.as_secs();
        let family = self.family;
        let text = format!(
            "{family}: somebody changes our rules again and again; rules above ours that let nothing by \
             are borne for {pause} s"
        );
        Some((format!("contest {family}"), Note { text, since: None }))
    }

    fn see_hooks(&mut self, desired: &FamilyRules, found: &FoundTable) {
        let position = |hook: &Hook| (*hook, found.positions.get(hook).cloned());
        self.seen.hooks = desired.hooks.keys().map(position).collect();
    }
}
