//! What the source says: objects for the engine, and how it fares itself.
//!
//! Nothing may be written before everything was listed once. From then on a part of the source that
//! cannot be heard is a note: the rules that stand go on, and what changes meanwhile comes later.
//! So is a pod of another node that cannot be read: what it last was goes on. Were it a reason, one
//! such pod would make every node not ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy_compiler::diagnostic::Diagnostic;
use policy_compiler::engine::Engine;
use policy_compiler::name::NodeName;
use policy_compiler::update::Event;
use tracing::error;

use crate::findings::Findings;
use crate::health::{Note, Notes};
use crate::source::{Change, Found, Kind, Listing, Problem, RESCAN, Standing, Subject};

/// How long a source may say nothing before what it last said is no longer trusted to be all.
const SILENCE: Duration = RESCAN.saturating_mul(3);

/// How many of the inputs that cannot be read are named at once.
const NAMED: usize = 10;

/// What the source has said.
#[expect(clippy::struct_excessive_bools, reason = "each is true or not whatever the others are")]
#[derive(Debug)]
pub(super) struct Intake {
    node: NodeName,
    /// Whether everything was listed once.
    begun: bool,
    problems: BTreeSet<Problem>,
    findings: Findings,
    /// Diagnostics of the source; the engine adds its own.
    listed: Vec<Diagnostic>,
    /// The engine's, as last reported.
    compiled: Vec<Diagnostic>,
    /// What a source that tells object by object last said about each.
    found: BTreeMap<(Kind, Arc<str>), Found>,
    /// Whether that, or what was listed, is other than what was last reported.
    news: bool,
    standing: BTreeMap<Kind, Standing>,
    /// When the source must have been heard of again, and how long that is from each time.
    silent_at: Instant,
    silence: Duration,
    /// Whether it had not been when what waited was last taken in: what waits while a write takes
    /// its time is no silence.
    silent: bool,
    ended: bool,
}

impl Intake {
    pub(super) fn new(node: NodeName) -> Self {
        Self {
            node,
            begun: false,
            problems: BTreeSet::new(),
            findings: Findings::default(),
            listed: Vec::new(),
            compiled: Vec::new(),
            found: BTreeMap::new(),
            news: false,
            standing: BTreeMap::new(),
            silent_at: Instant::now() + SILENCE,
            silence: SILENCE,
            silent: false,
            ended: false,
        }
    }

    pub(super) fn bear_silence_for(&mut self, silence: Duration) {
        self.silence = silence;
        self.heard();
    }

    /// The source has been heard of.
    pub(super) fn heard(&mut self) {
        self.silent_at = Instant::now() + self.silence;
        self.silent = false;
    }

    /// All that waited has been taken in.
    pub(super) fn listened(&mut self) {
        self.silent = self.silent_at <= Instant::now();
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// When the source will have been silent for too long, where that is still to come.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        Some(self.silent_at).filter(|at| *at > Instant::now())
    }

    /// The source will not be heard of any more.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether rules may be written.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// How the parts of the source stand.
    pub(super) fn standing(&self) -> &BTreeMap<Kind, Standing> {
        &self.standing
    }

    /// What the source found wrong inside objects.
    pub(super) fn listed(&self) -> &[Diagnostic] {
        &self.listed
    }

    /// How many inputs or objects cannot be read.
    pub(super) fn problems(&self) -> usize {
        let inputs: BTreeSet<&str> = self.problems.iter().map(|p| &*p.input).collect();
        inputs.len()
    }

    /// Whether what is wrong is other than what was last reported.
    pub(super) fn has_news(&self) -> bool {
        self.news
    }

    /// Takes in all that there is.
    pub(super) fn take(&mut self, listing: Listing, engine: &mut Engine) {
        self.report_problems(listing.problems.into_iter().collect());
        self.listed = listing.diagnostics;
        self.news = true;
        if self.begun || listing.whole {
            self.begun = true;
            engine.apply(Event::Relisted(Box::new(listing.snapshot)));
        }
    }

    /// Takes in what is said of one object, or of all objects of a kind, and says whether an object
    /// is now another.
    pub(super) fn apply(&mut self, change: Change, engine: &mut Engine) -> bool {
        let Change { subject: Subject { kind, object }, event, found, seen: _ } = change;
        self.news |= !found.is_empty();
        match object {
            None => {
                let before = self.found.len();
                self.found.retain(|(other, _), _| *other != kind);
                self.news |= self.found.len() < before;
            }
            Some(object) => self.news |= self.found.remove(&(kind, object)).is_some(),
        }
        self.found.extend(found.into_iter().map(|(object, found)| ((kind, object), found)));
        event.is_some_and(|event| engine.apply(event))
    }

    /// Takes in what is wrong with some objects of a kind, and that nothing else is known to be wrong
    /// with these.
    pub(super) fn find(
        &mut self,
        kind: Kind,
        about: BTreeSet<Arc<str>>,
        found: BTreeMap<Arc<str>, Found>,
    ) {
        self.news |= !found.is_empty();
        for object in about {
            self.news |= self.found.remove(&(kind, object)).is_some();
        }
        self.found.extend(found.into_iter().map(|(object, found)| ((kind, object), found)));
    }

    /// Takes in how a part stands.
    pub(super) fn stand(&mut self, standing: Standing) {
        self.standing.insert(standing.kind, standing);
        self.begun |= self.standing.values().all(|standing| standing.listed);
    }

    /// Whether what is wrong, the engine's diagnostics included, is other than what was last reported.
    pub(super) fn differs(&self, engine: &Engine) -> bool {
        self.news || self.compiled != engine.diagnostics()
    }

    /// Logs what is new of what is wrong, with what the engine has to say of it.
    pub(super) fn report(&mut self, engine: &Engine) {
        if std::mem::take(&mut self.news) && !self.standing.is_empty() {
            let problems = self.found.values().flat_map(|found| found.problems.iter().cloned());
            self.report_problems(problems.collect());
            let listed = self.found.values().flat_map(|found| found.diagnostics.iter().cloned());
            self.listed = listed.collect();
        }
        self.findings.report(self.listed.iter().chain(engine.diagnostics()));
        self.compiled = engine.diagnostics().to_vec();
    }

    fn report_problems(&mut self, now: BTreeSet<Problem>) {
        for problem in now.difference(&self.problems) {
            error!(input = &*problem.input, reason = %problem, "cannot read");
        }
        self.problems = now;
    }

    /// Why what there is may not be all.
    pub(super) fn reasons(&self) -> BTreeSet<String> {
        let mut reasons: BTreeSet<String> = self.unreadable(true).into_values().collect();
        if !self.begun {
            let unlisted = self.standing.values().filter(|standing| !standing.listed);
            let kinds: Vec<&str> = unlisted.map(|standing| standing.kind.resource()).collect();
            reasons.insert(if kinds.is_empty() {
                "not everything has been read yet".to_owned()
            } else {
                format!("not listed yet: {}", kinds.join(", "))
            });
            reasons.extend(self.failing().map(|(kind, _, cause)| format!("{kind}: {cause}")));
        }
        if self.ended {
            reasons.insert("the source has ended".to_owned());
        } else if self.is_silent() {
            reasons.insert(format!("the source has said nothing for {:?}", self.silence));
        }
        reasons
    }

    /// What may come later than it happens.
    pub(super) fn notes(&self) -> Notes {
        if !self.begun {
            return Notes::new();
        }
        let failing = self.failing().map(|(kind, since, cause)| {
            let text = format!("{kind} cannot be followed: {cause}");
            (kind.to_owned(), Note { text, since: Some(since) })
        });
        let unreadable = self.unreadable(false).into_iter();
        let elsewhere = unreadable
            .map(|(input, text)| (input, Note { text: format!("elsewhere: {text}"), since: None }));
        failing.chain(elsewhere).collect()
    }

    /// What cannot be read, in words: the inputs that matter `here`, or the others.
    fn unreadable(&self, here: bool) -> BTreeMap<String, String> {
        let is_here = |problem: &Problem| {
            problem.node.as_deref().is_none_or(|node| node == self.node.as_str())
        };
        let problems = self.problems.iter().filter(|problem| is_here(problem) == here);
        let inputs: BTreeSet<&str> = problems.map(|p| &*p.input).collect();
        let more = inputs.len().saturating_sub(NAMED);
        let named = inputs.into_iter().take(NAMED);
        let mut unreadable: BTreeMap<String, String> =
            named.map(|input| (input.to_owned(), format!("{input} cannot be read"))).collect();
        if more > 0 {
            let text = format!("{more} more inputs cannot be read");
            unreadable.insert("more inputs".to_owned(), text);
        }
        unreadable
    }

    /// Whether the API server speaks, and not a directory.
    pub(super) fn is_cluster(&self) -> bool {
        !self.standing.is_empty()
    }

    /// What fails, since when and why.
    fn failing(&self) -> impl Iterator<Item = (&'static str, Instant, &str)> {
        self.standing.values().filter_map(|standing| {
            let (since, cause) = standing.failing.as_ref()?;
            Some((standing.kind.resource(), *since, cause.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use policy_compiler::config::NodeConfig;
    use policy_compiler::ruleset::Generation;

    use super::*;

    fn problem(input: &str) -> Problem {
        Problem { input: Arc::from(input), version: 0, message: "wrong".to_owned(), node: None }
    }

    fn intake() -> Intake {
        Intake::new(NodeName::new("n1").unwrap())
    }

    fn standing(kind: Kind, listed: bool, cause: Option<&str>) -> Standing {
        let failing = cause.map(|cause| (Instant::now(), cause.to_owned()));
        Standing { kind, listed, failing }
    }

    #[test]
    fn before_the_first_list_what_fails_is_a_reason_and_afterwards_a_note() {
        let mut intake = intake();
        intake.stand(standing(Kind::Pod, false, None));
        intake.stand(standing(Kind::Policy, false, Some("forbidden")));
        intake.stand(standing(Kind::Pod, true, None));
        assert!(!intake.has_begun());
        let expected = ["networkpolicies: forbidden", "not listed yet: networkpolicies"];
        assert_eq!(intake.reasons().into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(intake.notes(), Notes::new());

        intake.stand(standing(Kind::Policy, true, Some("away")));
        assert!(intake.has_begun());
        assert_eq!(intake.reasons(), BTreeSet::new());
        let notes = intake.notes();
        assert_eq!(notes["networkpolicies"].text, "networkpolicies cannot be followed: away");
    }

    #[test]
    fn a_pod_that_cannot_be_read_is_a_reason_on_its_node_and_a_note_elsewhere() {
        let on = |input: &str, node: Option<&str>| Problem {
            node: node.map(Arc::from),
            ..problem(input)
        };
        let mut intake = intake();
        intake.begun = true;
        intake.report_problems(BTreeSet::from([
            on("networkpolicies shop/web", None),
            on("pods shop/here", Some("n1")),
            on("pods shop/nowhere", Some("")),
            on("pods shop/there", Some("n2")),
            on("pods shop/who-knows", None),
        ]));
        let cannot = |input: &str| format!("{input} cannot be read");
        let here = ["networkpolicies shop/web", "pods shop/here", "pods shop/who-knows"];
        assert_eq!(intake.reasons(), here.map(cannot).into());
        let note = |input: &str| {
            let text = format!("elsewhere: {input} cannot be read");
            (input.to_owned(), Note { text, since: None })
        };
        assert_eq!(intake.notes(), ["pods shop/nowhere", "pods shop/there"].map(note).into());
        assert_eq!(intake.problems(), 5);
    }

    #[test]
    fn what_waits_to_be_taken_in_is_no_silence() {
        let mut intake = intake();
        intake.bear_silence_for(Duration::ZERO);
        intake.begun = true;
        assert_eq!(intake.reasons(), BTreeSet::new(), "nobody has listened yet");
        intake.listened();
        let silent = "the source has said nothing for 0ns".to_owned();
        assert_eq!(intake.reasons(), BTreeSet::from([silent]));
        intake.heard();
        assert_eq!(intake.reasons(), BTreeSet::new());
    }

    #[test]
    fn of_many_inputs_that_cannot_be_read_some_are_named() {
        let node = NodeName::new("n1").unwrap();
        let mut engine = Engine::new(NodeConfig::new(node), Generation(0));
        let mut intake = intake();
        let problems = (0..15).map(|n| problem(&format!("{n:02}.yaml"))).collect();
        let listing = Listing { problems, whole: true, ..Listing::default() };
        intake.take(listing, &mut engine);
        assert_eq!(intake.problems(), 15);
        let reasons = intake.reasons();
        assert_eq!(reasons.len(), NAMED + 1);
        assert!(reasons.contains("5 more inputs cannot be read"), "{reasons:?}");
    }
}
