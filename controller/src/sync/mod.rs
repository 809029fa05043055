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
//! never ends the loop. What a turn costs follows what has come and the pods of this node, however
//! many there are elsewhere.

mod awaited;
mod cutting;
mod flaws;
mod hearing;
mod intake;
mod node;
mod outlets;
mod refusals;
mod report;
mod scoping;
mod settings;
mod telling;
mod upkeep;
mod view;
mod writing;

use std::sync::mpsc::Receiver;
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
use self::hearing::Came;
use self::intake::Intake;
use self::node::{LocalPods, Wiring};
use self::refusals::Refusal;
use self::report::Failures;
use self::scoping::Scoping;
use crate::again::Again;
use crate::dataplane::{Dataplane, START};
use crate::health::Health;
use crate::inspect::Inspector;
use crate::pace::Bucket;
use crate::source::scoped::PodWatches;
use crate::source::{Input, Listing};

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
/// How often plans are made, and members written: so many at once, then one in so long.
const PLANS: (Duration, u32) = (Duration::from_millis(2), 4);
/// How often chains are written. A transaction that follows one which removed rules waits some 16 ms
/// in the kernel: more in each costs less than more of them.
const CHAINS: (Duration, u32) = (Duration::from_millis(20), 2);

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
    /// The pods of this node, as last looked at.
    local: LocalPods,
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
            local: LocalPods::default(),
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
        let scoping = Scoping::new(wanted);
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
        // Nobody else would destroy what was given up a moment ago.
        self.settle();
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
}
