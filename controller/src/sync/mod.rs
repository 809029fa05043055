//! The loop: what a source says goes through the engine into the kernel.
//!
//! ```text
//!  inbox ── intake ──> engine ── plan (paced) ──> members: at once
//!    └── questions                            └─> chains: paced ──> dataplane ──> health
//! ```
//!
//! One thread runs it and owns engine and dataplane. Each turn it takes in what waits, then plans and
//! writes as far as the pace allows: at once where little happens, many events together where much
//! does. Invariants: nothing is written before everything was listed once; a write that failed is
//! tried again, ever more slowly, until it succeeds; whatever fails is a reason not to be ready and
//! never ends the loop.

mod awaited;
mod cutting;
mod flaws;
mod intake;
mod node;
mod outlets;
mod refusals;
mod report;
mod scoping;
mod settings;
mod view;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use policy_compiler::engine::Engine;
use policy_compiler::update::Reach;
use tokio::sync::watch;

pub use self::outlets::Outlets;
pub use self::settings::{Ipvs, Settings, Unknown};
pub use self::view::View;

use self::awaited::Awaited;
use self::cutting::Cutting;
use self::flaws::Flaws;
use self::intake::Intake;
use self::node::Wiring;
use self::refusals::{Refusal, refusals};
use self::report::Failures;
use self::scoping::Scoping;
use crate::again::Again;
use crate::dataplane::{Dataplane, START, Written};
use crate::health::Health;
use crate::inspect::{Inspector, Sight};
use crate::pace::Bucket;
use crate::source::scoped::PodWatches;
use crate::source::{Change, Input, Kind, Listing, Question};

/// How long after everything was written anew the kernel is read once more.
const VERIFY_AFTER: Duration = Duration::from_secs(2);
/// How often the node's wiring is looked at, what else changes by itself, and what others may change.
const RECHECK: Duration = Duration::from_secs(1);
/// How often it is asked whether the kernel has been read, while that is going on.
const READING: Duration = Duration::from_millis(10);
/// The first and the longest pause before a failed write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The first and the longest pause before a set that was given up is tried to be destroyed.
const TIDY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long inputs are taken in before something else has its turn.
const INTAKE: Duration = Duration::from_millis(100);
/// How often plans are made, and members written: so many at once, then one in so long.
const PLANS: (Duration, u32) = (Duration::from_millis(2), 4);
/// How often chains are written. A transaction that follows one which removed rules waits some 16 ms
/// in the kernel: more in each costs less than more of them.
const CHAINS: (Duration, u32) = (Duration::from_millis(20), 2);

/// How often it is asked whether others have let go of the lock that chains are written under.
const LOCKED: Duration = Duration::from_millis(20);

/// The loop's state.
#[derive(Debug)]
pub struct Sync {
    settings: Settings,
    engine: Engine,
    dataplane: Dataplane,
    health: Health,
    intake: Intake,
    /// Which pods of other nodes are watched, where not all are.
    scoping: Option<Scoping>,
    wiring: Wiring,
    awaited: Awaited,
    cutting: Cutting,
    failures: Failures,
    flaws: Flaws,
    /// The rules that the kernel refuses, as of the last look.
    refusals: Vec<Refusal>,
    outlets: Outlets,
    inspector: Inspector,
    /// How far the plan reaches that waits to be written, if one does.
    planned: Option<Reach>,
    plans: Bucket,
    chains: Bucket,
    /// When it is asked again whether others have let go of the lock, where they had not.
    locked_until: Option<Instant>,
    /// Whether a write waits for that lock though nothing may have changed: the kernel is out of step.
    owed: bool,
    /// Whether members went ahead of the plan that waits.
    ahead: bool,
    retry: Again,
    tidy: Again,
    verify_at: Option<Instant>,
    recheck_at: Instant,
    /// Whether everything has been written once.
    written: bool,
    /// When the kernel was last changed.
    updated: Option<Instant>,
}

/// What a look into the inbox has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// Changes at most.
    Nothing,
    /// Something that readiness depends on.
    News,
    End,
}

impl Sync {
    /// A loop that has seen and written nothing.
    #[must_use]
    pub fn new(settings: Settings, dataplane: Dataplane) -> Self {
        let wiring = Wiring::new(&settings);
        let cutting = Cutting::new(&settings);
        let intake = Intake::new(settings.node.clone());
        let inspector = Inspector::new().setting_bridge_sysctls(settings.set_bridge_sysctls);
        Self {
            engine: Engine::new(wiring.config().clone(), START),
            settings,
            dataplane,
            health: Health::default(),
            intake,
            scoping: None,
            wiring,
            awaited: Awaited::default(),
            cutting,
            failures: Failures::default(),
            flaws: Flaws::default(),
            refusals: Vec::new(),
            outlets: Outlets::default(),
            inspector,
            planned: None,
            plans: Bucket::new(PLANS.0, PLANS.1),
            chains: Bucket::new(CHAINS.0, CHAINS.1),
            locked_until: None,
            owed: false,
            ahead: false,
            retry: Again::new(RETRY),
            tidy: Again::new(TIDY),
            verify_at: None,
            recheck_at: Instant::now() + RECHECK,
            written: false,
            updated: None,
        }
    }

    /// Tells of what it does there.
    #[must_use]
    pub fn with_outlets(mut self, outlets: Outlets) -> Self {
        outlets.metrics.writes_to(self.dataplane.backend());
        outlets.board.follow(self.dataplane.work());
        self.outlets = outlets;
        self
    }

    /// Bears that the source says nothing for so long.
    #[must_use]
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.intake.bear_silence_for(silence);
        self
    }

    /// Says which pods of other nodes the source is to tell of, and takes in no others.
    #[must_use]
    pub fn with_scope(mut self, wanted: watch::Sender<PodWatches>) -> Self {
        let scoping = Scoping::new(self.settings.node.clone(), wanted);
        self.intake.stand(scoping.standing());
        self.scoping = Some(scoping);
        self
    }

    /// Tries what failed again after other pauses: the first and the longest.
    #[must_use]
    pub fn with_retry(mut self, bounds: (Duration, Duration)) -> Self {
        self.retry = Again::new(bounds);
        self
    }

    /// Runs until told to stop, or until no source is left. Rules stay in the kernel.
    pub fn run(&mut self, inbox: &Receiver<Input>) {
        while self.turn(inbox) {}
    }

    /// Runs until what was listed first has been written, or writing it has failed; no longer than
    /// `limit`.
    pub fn run_once(&mut self, inbox: &Receiver<Input>, limit: Duration) {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline && self.turn(inbox) {
            let begun = self.intake.has_begun();
            if begun && !(self.wiring.is_known() && self.engine.is_behind()) {
                break;
            }
        }
        self.settle();
    }

    /// Takes in what waits and does what is due; whether to go on.
    fn turn(&mut self, inbox: &Receiver<Input>) -> bool {
        self.outlets.board.beat();
        let was_silent = self.intake.is_silent();
        let mut questions = Vec::new();
        let came = self.take_in(inbox, &mut questions);
        if came != Came::End {
            self.do_due();
            self.advance();
        }
        let news = self.intake.has_news();
        if news {
            self.report();
        }
        if news || came != Came::Nothing || was_silent != self.intake.is_silent() {
            self.update_health();
        }
        // Last, so that what they are shown is up to date; whoever asks can wait for a write.
        for question in questions {
            question(&self.view());
        }
        came != Came::End
    }

    /// Takes in what waits, for which it waits itself until something is due.
    fn take_in(&mut self, inbox: &Receiver<Input>, questions: &mut Vec<Question>) -> Came {
        let mut next = match inbox.recv_timeout(self.idle_for()) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Came::End,
        };
        let until = Instant::now() + INTAKE;
        let mut came = Came::Nothing;
        // Of several listings that wait, only the last still holds.
        let mut newest = None;
        while let Some(input) = next {
            match input {
                Input::Stop => return Came::End,
                Input::Asked(question) => questions.push(question),
                Input::SourceEnded => self.intake.end(),
                Input::Unchanged => self.intake.heard(),
                Input::Listed(listing) => {
                    self.intake.heard();
                    came = Came::News;
                    newest = Some(listing);
                }
                Input::Standing(standing) => {
                    self.intake.heard();
                    came = Came::News;
                    self.outlets.metrics.standing(&standing);
                    self.intake.stand(standing);
                }
                Input::Changed(change) => {
                    self.intake.heard();
                    self.change(*change);
                }
                Input::Watched(watched) => {
                    self.intake.heard();
                    if let Some(scoping) = &mut self.scoping
                        && let Some(seen) =
                            scoping.take(*watched, &mut self.intake, &mut self.engine)
                    {
                        self.awaited.arrive(Kind::Pod, seen);
                    }
                }
            }
            next = if Instant::now() < until { inbox.try_recv().ok() } else { None };
        }
        if let Some(listing) = newest {
            self.intake.take(*listing, &mut self.engine);
        }
        if self.follow_scope() {
            came = Came::News;
        }
        self.intake.listened();
        if self.intake.has_ended() { Came::End } else { came }
    }

    /// Takes in what is said of one object, or of all of a kind.
    fn change(&mut self, change: Change) {
        let change = match &mut self.scoping {
            Some(scoping) => scoping.hold(change, &self.engine),
            None => Some(change),
        };
        let Some(change) = change else { return };
        let (kind, seen, one) = (change.subject.kind, change.seen, change.subject.object.is_some());
        if self.intake.apply(change, &mut self.engine) {
            if let Some(scoping) = &mut self.scoping {
                scoping.notice(kind);
            }
            if one {
                self.awaited.arrive(kind, seen);
            }
        }
    }

    /// Watches what has come into the scope, and forgets what has left it. Whether the pods that are
    /// watched stand otherwise than before.
    fn follow_scope(&mut self) -> bool {
        let Some(scoping) = &mut self.scoping else { return false };
        scoping.follow(&mut self.intake, &mut self.engine, &self.outlets.metrics);
        let standing = scoping.standing();
        if self.intake.standing().get(&Kind::Pod) == Some(&standing) {
            return false;
        }
        self.outlets.metrics.standing(&standing);
        self.intake.stand(standing);
        true
    }

    /// Whether the kernel holds what was last listed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.health.is_ready()
    }

    /// The dataplane, to look at.
    #[must_use]
    pub fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// What there is to see.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            settings: &self.settings,
            engine: &self.engine,
            dataplane: &self.dataplane,
            health: &self.health,
            listed: self.intake.listed(),
            standing: self.intake.standing(),
            updated: self.updated,
            concerns: self.inspector.concerns(),
        }
    }

    fn idle_for(&self) -> Duration {
        let now = Instant::now();
        let write_at = self.is_wanted().then(|| self.next_write_at().unwrap_or(now));
        let times = [
            self.retry.at(),
            self.tidy.at(),
            self.verify_at,
            Some(self.recheck_at),
            self.intake.silent_at(),
            self.cutting.at(),
            self.scoping.as_ref().and_then(Scoping::at),
            self.dataplane.is_reading().then(|| now + READING),
            write_at,
        ];
        let next = times.into_iter().flatten().min().unwrap_or(self.recheck_at);
        next.saturating_duration_since(now)
    }

    /// Takes all that there is, and brings the kernel after it at once.
    pub fn take(&mut self, listing: Listing) {
        self.intake.take(listing, &mut self.engine);
        if self.intake.has_begun() {
            self.wiring.look(&self.engine);
            self.flush();
        }
        self.report();
        self.update_health();
    }

    /// Logs and counts what is wrong with the objects.
    fn report(&mut self) {
        self.intake.report(&self.engine);
        let metrics = &self.outlets.metrics;
        metrics.problems(self.intake.problems());
        let refused = self.refusals.iter().flat_map(|refusal| &refusal.policies);
        metrics.diagnosed(self.intake.listed().iter().chain(self.engine.diagnostics()), refused);
    }

    /// Whether there is something to write that may be written.
    fn is_wanted(&self) -> bool {
        // Before the bridges are known the rules would let pass what the old ones may deny; they are
        // looked for in their own time.
        let never_looked = !self.wiring.is_known() && self.wiring.reason().is_none();
        let known = self.wiring.is_known() || never_looked;
        self.intake.has_begun() && known && (self.engine.is_behind() || self.owed)
    }

    /// When the next step towards the kernel may be done; `None` where at once.
    fn next_write_at(&self) -> Option<Instant> {
        if self.planned != Some(Reach::Chains) && !self.owed {
            return self.plans.ready_at();
        }
        let chains = self.chains.ready_at().max(self.locked_until);
        // What has come since may be a matter of members, which wait for no chains.
        if self.engine.is_dirty() { chains.min(self.plans.ready_at()) } else { chains }
    }

    /// Brings the kernel after what was taken in, as far as the pace allows. A plan whose turn has
    /// not come waits, and what is taken in meanwhile becomes part of it; what it changes of members
    /// alone goes ahead.
    fn advance(&mut self) {
        let is_due = |at: Option<Instant>| at.is_none_or(|at| at <= Instant::now());
        if !self.is_wanted() || !is_due(self.next_write_at()) {
            return;
        }
        // What is out of step is written whole.
        let whole = self.owed || !self.written || !self.failures.is_empty();
        let chains = self.plan() == Reach::Chains || whole;
        if !self.wiring.is_known() {
            return;
        }
        if chains && !(is_due(self.chains.ready_at()) && self.is_our_turn()) {
            self.write_members();
        } else {
            self.write();
        }
    }

    /// Whether others let us write chains now.
    fn is_our_turn(&mut self) -> bool {
        let ours = self.dataplane.is_our_turn();
        self.locked_until = (!ours).then(|| Instant::now() + LOCKED);
        ours
    }

    /// Plans what has changed, and says how far that reaches.
    fn plan(&mut self) -> Reach {
        let begun = Instant::now();
        self.wiring.follow(&self.engine);
        self.engine.set_config(self.wiring.config().clone());
        if self.engine.is_dirty() {
            self.cutting.before(&self.engine);
            self.awaited.plan();
        }
        let reach = self.engine.pending();
        self.planned = Some(reach);
        let now = Instant::now();
        self.plans.take(now, now - begun);
        reach
    }

    fn do_due(&mut self) {
        let now = Instant::now();
        if self.retry.is_due() {
            self.flush();
        }
        if self.verify_at.is_some_and(|at| at <= now) && !self.is_our_turn() {
            // What it finds it puts right.
            self.verify_at = self.locked_until;
        } else if self.verify_at.is_some_and(|at| at <= now) {
            let interval = self.settings.verify_interval;
            self.verify_at = (!interval.is_zero()).then(|| now + interval);
            let written = self.dataplane.verify(self.engine.ruleset());
            self.after(&written, now);
        }
        if self.tidy.is_due() {
            self.tidy_up();
        }
        self.cutting.do_due(&self.engine);
        if self.recheck_at <= now {
            self.recheck_at = now + RECHECK;
            if self.intake.has_begun() {
                self.recheck();
            }
        } else if self.dataplane.is_reading() {
            self.follow_up();
        }
    }

    /// Looks at what changes without an input's doing, and writes where that is needed.
    fn recheck(&mut self) {
        let was_known = self.wiring.is_known();
        self.wiring.look(&self.engine);
        self.engine.set_config(self.wiring.config().clone());
        let out_of_step = self.dataplane.look_again();
        self.dataplane.look_out(self.engine.ruleset());
        self.follow_up();
        if out_of_step || !was_known {
            self.flush();
        } else {
            self.update_health();
        }
        self.tell();
    }

    /// Looks whom the rules concern that the kernel refuses.
    fn look_at_refusals(&mut self) {
        let ruleset = self.engine.ruleset();
        let left_out = self.dataplane.left_out(ruleset);
        let refusals = refusals(&left_out, &self.engine);
        if refusals != self.refusals {
            self.refusals = refusals;
            self.report();
        }
    }

    /// Puts right what others have changed, as far as it is known by now.
    fn follow_up(&mut self) {
        let begun = Instant::now();
        let written = self.dataplane.follow_up(self.engine.ruleset());
        if written.is_unchanged() {
            return;
        }
        self.failures.add(&written);
        self.outlets.written(&written, begun.elapsed());
        self.cutting.after(&written);
        self.cutting.do_due(&self.engine);
        if report::is_whole(&written) {
            self.verify_at = Some(Instant::now() + VERIFY_AFTER);
        }
        if report::log_applied(&written, begun.elapsed()) {
            self.updated = Some(Instant::now());
        }
        if !written.is_in_step() {
            self.retry.put_off();
        }
        self.tidy_later();
        self.update_health();
    }

    /// Tells of the state in which things are, which need not be done at every turn.
    fn tell(&mut self) {
        self.look_at_refusals();
        if self.intake.is_cluster() {
            self.wiring.recognise(&self.engine);
        }
        self.outlets.sizes(report::in_force(&self.engine), self.engine.ruleset());
        self.outlets.metrics.processes(self.dataplane.processes());
        self.outlets.metrics.writes_to(self.dataplane.backend());
        self.outlets.flaws(self.flaws.news(&self.engine, self.intake.listed(), &self.refusals));
    }

    /// Writes what has changed since the last write, or all where the kernel is out of step, whatever
    /// the pace.
    fn flush(&mut self) {
        self.plan();
        if self.wiring.is_known() && self.is_our_turn() {
            self.write();
        } else {
            self.owed = self.wiring.is_known();
            self.update_health();
        }
    }

    /// Writes what of the plan may go ahead while its chains wait.
    fn write_members(&mut self) {
        let begun = Instant::now();
        let update = self.engine.flush_members();
        if update.is_empty() {
            return;
        }
        self.ahead = true;
        let written = self.dataplane.write_members(&update);
        self.outlets.written(&written, begun.elapsed());
        self.cutting.after(&written);
        self.cutting.do_due(&self.engine);
        if report::log_applied(&written, begun.elapsed()) {
            self.updated = Some(Instant::now());
        }
        if !written.is_in_step() {
            self.failures.add(&written);
            self.retry.put_off();
            self.update_health();
        }
        let now = Instant::now();
        self.plans.take(now, now - begun);
    }

    /// Writes the plan.
    fn write(&mut self) {
        let reach = self.planned.take();
        self.owed = false;
        let begun = Instant::now();
        let update = self.engine.flush();
        self.outlets.listening.set_audits(self.engine.ruleset().audits());
        let written = self.dataplane.write(&update, self.engine.ruleset());
        // Enforcement comes first: there may be many lines, and a log that is slow.
        self.report();
        self.after(&written, begun);
        let now = Instant::now();
        if reach == Some(Reach::Chains) || report::is_whole(&written) {
            self.chains.take(now, now - begun);
        } else {
            self.plans.take(now, now - begun);
        }
    }

    fn after(&mut self, written: &Written, begun: Instant) {
        self.failures.take(written);
        self.look_at_refusals();
        self.outlets.written(written, begun.elapsed());
        self.cutting.after(written);
        self.cutting.do_due(&self.engine);
        if report::is_whole(written) {
            self.verify_at = Some(Instant::now() + VERIFY_AFTER);
        }
        if report::log_applied(written, begun.elapsed()) {
            self.updated = Some(Instant::now());
        }
        if self.failures.is_empty() {
            self.written = true;
            self.retry.forget();
            if self.planned.is_none() {
                let changed = std::mem::take(&mut self.ahead) || report::changes(written);
                self.outlets.enforced(&self.awaited.finish(), changed);
            }
        } else {
            self.retry.put_off();
        }
        self.tidy_later();
        self.update_health();
    }

    /// Waits for the kernel to let go of sets that were given up, for a second at most. A loop that
    /// goes on need not wait; one that ends would leave them behind.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.dataplane.tidy() > 0 && Instant::now() < deadline {
            thread::sleep(TIDY.0);
        }
    }

    /// Leaves the sets that were given up to a moment when their end holds nothing up.
    fn tidy_later(&mut self) {
        if self.dataplane.is_tidy() {
            self.tidy.forget();
        } else {
            self.tidy.hurry();
        }
    }

    fn tidy_up(&mut self) {
        if self.dataplane.tidy() > 0 {
            self.tidy.put_off();
        } else {
            self.tidy.forget();
        }
    }

    fn update_health(&mut self) {
        let mut reasons = self.intake.reasons();
        if !self.written {
            reasons.insert("nothing has been written yet".to_owned());
        }
        reasons.extend(self.failures.reasons());
        reasons.extend(self.cutting.reason());
        reasons.extend(self.dataplane.leftovers());
        reasons.extend(self.dataplane.kept_waiting());
        reasons.extend(self.wiring.reason().map(str::to_owned));
        reasons.extend(self.wiring.spoofing());
        self.outlets.metrics.refused(self.refusals.len());
        reasons.extend(self.refusals.iter().map(ToString::to_string));
        if self.intake.has_begun() {
            self.inspect();
        }
        reasons.extend(self.inspector.reasons());
        let mut notes = self.intake.notes();
        notes.extend(self.inspector.notes());
        notes.extend(self.dataplane.notes());
        notes.extend(self.outlets.notes());
        notes.extend(self.wiring.notes());
        notes.extend(self.scoping.iter().flat_map(Scoping::notes));
        self.health.note(notes);
        // It becomes ready when what there is stands in the kernel, and not while that waits its turn.
        let waits = reasons.is_empty() && self.engine.is_behind() && !self.health.is_ready();
        if !waits {
            self.health.set(reasons, || report::in_force(&self.engine));
        }
        self.outlets.health(&self.health);
    }

    fn inspect(&mut self) {
        let changed = self.inspector.look(&Sight {
            pods: &node::local_pods(&self.engine),
            backend: self.dataplane.backend(),
            tables: self.dataplane.seen(),
        });
        if changed {
            self.outlets.concerns(self.inspector.concerns());
        }
    }
}
