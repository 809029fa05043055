//! `policyc explain policy`: what one policy does.
//!
//! Whom it isolates is the evaluator's word. What a rule means is what passes in a cluster in which that
//! rule is the only one there is; what its deletion would change is the difference between what passes
//! now and what passes without it, both from [`Reach`].

mod text;

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Snapshot;
use policy_compiler::flow::End;
use policy_compiler::name::ObjectKey;
use policy_compiler::policy::{Direction, Grant, Policy};
use policy_compiler::reach::{Between, Level, Partition, Party, Reach, TrafficSet, Who};
use serde::Serialize;

use crate::answer::{Certainty, Place};
use crate::args::{self, Format};
use crate::error::CommandError;
use crate::input;
use crate::matrix::{self, Content, Exchange, FamilyTraffic, Ids, PartyAnswer};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::question;
use crate::scene::Scene;
use crate::status::Status;
use crate::suggest;
use crate::text::Layout;

/// What was found about a policy.
#[derive(Debug)]
pub struct Found<'a> {
    policy: &'a Policy,
    /// Whether it is audited only.
    audited: bool,
    /// Everyone: pods by workload, nodes, classes of outside addresses.
    parties: Vec<Party>,
    /// Those of them that it isolates, or would if it were enforced, by direction.
    isolated: Vec<(Direction, Vec<Isolated>)>,
    rules: Vec<FoundRule<'a>>,
    changes: Vec<Change>,
    /// What a reader has to know, in sentences.
    notes: Vec<String>,
}

/// A party that the policy isolates.
#[derive(Clone, Copy, Debug)]
struct Isolated {
    party: usize,
    /// Whether no other policy does.
    alone: bool,
}

/// One rule, and whom it means.
#[derive(Debug)]
struct FoundRule<'a> {
    direction: Direction,
    index: usize,
    policy: &'a Policy,
    /// What it grants whom, for the isolated pods in that order, those alike together.
    grants: Vec<Granted>,
}

/// What a rule grants some peers of some isolated pods.
#[derive(Debug)]
struct Granted {
    pods: Vec<usize>,
    peers: Vec<usize>,
    content: Content,
}

/// What deleting the policy would change between some parties.
#[derive(Debug)]
struct Change {
    opens: bool,
    from: Vec<usize>,
    to: Vec<usize>,
    content: Content,
}

/// What one policy does, for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyExplanation {
    /// `shop/cart`.
    pub policy: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// As `kubectl -l` writes it; empty: every pod of the namespace.
    pub pod_selector: String,
    /// Whether it is audited only, and so neither isolates nor allows.
    pub audited: bool,
    /// Whether something in it is invalid.
    pub invalid: bool,
    /// The families that were asked.
    pub families: Vec<String>,
    /// Everyone who is named below.
    pub parties: Vec<PartyAnswer>,
    /// Whom it isolates, or would if it were enforced, by each of its types.
    pub isolates: Vec<Isolation>,
    /// Its rules, ingress first.
    pub rules: Vec<RuleMeaning>,
    /// What would change if it were deleted.
    pub deleted: Deletion,
    /// What a reader has to know, in sentences: where there are no pods that these are selectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Whom a policy isolates in one direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Isolation {
    /// `ingress` or `egress`.
    pub direction: String,
    /// The ids of the pods.
    pub pods: Vec<String>,
    /// Those that nothing else isolates.
    pub alone: Vec<String>,
}

/// What a rule means today.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleMeaning {
    /// `ingress[0]`.
    pub rule: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Why it can allow nothing, where it is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// What it grants; nothing where it means nobody today.
    pub grants: Vec<Grants>,
}

/// What a rule grants.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grants {
    /// The ids of the isolated pods.
    pub pods: Vec<String>,
    /// The ids of those that may reach them, or that they may reach.
    pub peers: Vec<String>,
    /// Whether the specification settles that.
    pub certainty: Certainty,
    /// What.
    pub traffic: Vec<FamilyTraffic>,
}

/// What would change.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// What would pass that does not now.
    pub opens: Vec<Changed>,
    /// What would not pass that does now.
    pub closes: Vec<Changed>,
}

/// What would pass between others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// The ids of who sends.
    pub from: Vec<String>,
    /// The ids of to whom.
    pub to: Vec<String>,
    /// Whether the specification settles what passes now and what would.
    pub certainty: Certainty,
    /// What, for one pair of pods at least.
    pub traffic: Vec<FamilyTraffic>,
}

impl PolicyExplanation {
    /// What was found, for programs.
    #[must_use]
    pub fn of(found: &Found<'_>, families: &[Family]) -> Self {
        let mut ids = Ids::default();
        let mut named = |numbers: &[usize]| -> Vec<String> {
            let parties = numbers.iter().filter_map(|number| found.parties.get(*number));
            parties.map(|party| ids.of(party)).collect()
        };
        let isolates = found.isolated.iter().map(|(direction, isolated)| {
            let pods: Vec<usize> = isolated.iter().map(|one| one.party).collect();
            let alone: Vec<usize> =
                isolated.iter().filter(|one| one.alone).map(|one| one.party).collect();
            Isolation { direction: direction.to_string(), pods: named(&pods), alone: named(&alone) }
        });
        let isolates = isolates.collect();
        let rules = found.rules.iter().map(|rule| RuleMeaning {
            rule: format!("{}[{}]", rule.direction, rule.index),
            place: rule.place(),
            invalid: rule.invalid().map(str::to_owned),
            grants: rule
                .grants
                .iter()
                .map(|granted| Grants {
                    pods: named(&granted.pods),
                    peers: named(&granted.peers),
                    certainty: granted.content.certainty(None),
                    traffic: matrix::traffic(&granted.content, None),
                })
                .collect(),
        });
        let rules = rules.collect();
        let mut changed = |opens: bool| -> Vec<Changed> {
            let changes = found.changes.iter().filter(|change| change.opens == opens);
            changes
                .map(|change| Changed {
                    from: named(&change.from),
                    to: named(&change.to),
                    certainty: change.content.certainty(None),
                    traffic: matrix::traffic(&change.content, None),
                })
                .collect()
        };
        let deleted = Deletion { opens: changed(true), closes: changed(false) };
        let selector = &found.policy.pod_selector;
        Self {
            policy: found.policy.key.to_string(),
            place: Place::of(&found.policy.location),
            pod_selector: if selector.is_everything() {
                String::new()
            } else {
                selector.to_string()
            },
            audited: found.audited,
            invalid: found.policy.flawed,
            families: families.iter().map(ToString::to_string).collect(),
            parties: ids.answers(),
            isolates,
            rules,
            deleted,
            notes: found.notes.clone(),
        }
    }
}

impl Found<'_> {
    /// What is said of anything.
    fn contents(&self) -> impl Iterator<Item = &Content> {
        let rules = self.rules.iter().flat_map(|rule| &rule.grants).map(|granted| &granted.content);
        rules.chain(self.changes.iter().map(|change| &change.content))
    }

    /// Whether a text marks something.
    fn is_marked(&self) -> bool {
        self.contents().any(|content| content.is_marked(None))
    }

    /// Whether the input does not tell of something: that some pods of a selector fare otherwise than
    /// others, or what passes at all.
    fn is_in_doubt(&self) -> bool {
        self.contents().any(|content| {
            let mut exchanges = content.families.iter();
            exchanges.any(|(_, of)| !of.partly.is_empty() || !of.unknown.is_empty())
        })
    }
}

impl FoundRule<'_> {
    fn place(&self) -> Option<Place> {
        let rule = self.policy.rules(self.direction).get(self.index)?;
        Place::of(&rule.location)
    }

    fn invalid(&self) -> Option<&str> {
        match &self.policy.rules(self.direction).get(self.index)?.grant {
            Grant::Nothing { reason } => Some(reason),
            Grant::Traffic { .. } => None,
        }
    }
}

/// The snapshot with nothing but one rule of `policy` in it, enforced; with all of its rules where none
/// is chosen.
fn with_only(snapshot: &Snapshot, policy: &Policy, chosen: Option<(Direction, usize)>) -> Snapshot {
    let mut alone = Policy { audit: false, ..policy.clone() };
    if let Some((direction, index)) = chosen {
        let only = |rules: &[policy_compiler::policy::Rule], own: bool| {
            rules.get(index).filter(|_| own).cloned().into_iter().collect()
        };
        alone.isolates_ingress = direction == Direction::Ingress;
        alone.isolates_egress = direction == Direction::Egress;
        alone.ingress = only(&policy.ingress, alone.isolates_ingress);
        alone.egress = only(&policy.egress, alone.isolates_egress);
    }
    let mut other = snapshot.clone();
    other.policies = BTreeMap::from([(alone.key.clone(), alone)]);
    for namespace in other.namespaces.values_mut() {
        namespace.audit = false;
    }
    other
}

/// Finds out about `policy` of `scene`.
#[must_use]
pub fn find<'a>(scene: &'a Scene<'_>, policy: &'a Policy, families: &[Family]) -> Found<'a> {
    let snapshot = scene.snapshot();
    let alone = with_only(snapshot, policy, None);
    let mut without = snapshot.clone();
    without.policies.remove(&policy.key);
    let partition = Partition::of(&[snapshot, &alone, &without]);
    let parties = scene.parties_of(&partition, Level::Workload);
    let [now, then, enforced] = [snapshot, &without, &alone].map(|of| scene.bounds(of));
    let (now, then) = (now.reach(&partition), then.reach(&partition));
    let enforced = enforced.reach(&partition);
    let mut isolated = Vec::new();
    let mut rules = Vec::new();
    for direction in Direction::ALL.into_iter().filter(|direction| policy.isolates(*direction)) {
        let pods = isolated_by(&enforced, &then, direction, &parties);
        let numbers: Vec<usize> = pods.iter().map(|one| one.party).collect();
        for index in 0..policy.rules(direction).len() {
            let only = with_only(snapshot, policy, Some((direction, index)));
            let only = scene.bounds(&only);
            let reach = only.reach(&partition);
            let grants = granted(&reach, direction, &numbers, &parties, families);
            rules.push(FoundRule { direction, index, policy, grants });
        }
        isolated.push((direction, pods));
    }
    let changes = changes(&now, &then, &isolated, &parties, families);
    let audited = snapshot.audits(policy);
    let notes = scene.notes();
    Found { policy, audited, parties, isolated, rules, changes, notes }
}

/// The parties that the only policy of `enforced` isolates, and whether none of `others` does.
fn isolated_by(
    enforced: &Reach<'_>,
    others: &Reach<'_>,
    direction: Direction,
    parties: &[Party],
) -> Vec<Isolated> {
    let isolates = |reach: &Reach<'_>, end: &End| {
        let End::Pod(key) = end else { return false };
        let pod = reach.snapshot().pods.get(key);
        pod.is_some_and(|pod| !reach.evaluator().isolating(pod, direction).is_empty())
    };
    // Of the pods that a selector would mean it may be some.
    let all = |party: &Party| party.members.iter().all(|end| isolates(enforced, end));
    let others = |party: &Party| party.members.iter().any(|end| isolates(others, end));
    let parties = parties.iter().enumerate().filter(|(_, party)| all(party));
    parties.map(|(number, party)| Isolated { party: number, alone: !others(party) }).collect()
}

/// What passes between two parties, `own` being the end that `direction` polices.
fn between(
    reach: &Reach<'_>,
    direction: Direction,
    own: &Party,
    other: &Party,
    family: Family,
) -> Between {
    match direction {
        Direction::Ingress => reach.between(other, own, family),
        Direction::Egress => reach.between(own, other, family),
    }
}

/// What the only rule of `reach` grants whom. A node is a peer to the pods on it whatever rules say, so
/// nodes are left out.
fn granted(
    reach: &Reach<'_>,
    direction: Direction,
    pods: &[usize],
    parties: &[Party],
    families: &[Family],
) -> Vec<Granted> {
    let mut grants: Vec<Granted> = Vec::new();
    for pod in pods {
        let mut alike: Alike = Vec::new();
        for (number, other) in parties.iter().enumerate() {
            if matches!(other.who, Who::Node(_)) {
                continue;
            }
            let mut content = Content { itself: false, families: Vec::new() };
            for family in families {
                let between = between(reach, direction, &parties[*pod], other, *family);
                if between.pairs > 0 && !between.itself && !between.is_empty() {
                    content.families.push((*family, Exchange::from(between)));
                }
            }
            if content.families.is_empty() {
                continue;
            }
            match alike.iter_mut().find(|(known, _)| *known == content) {
                Some((_, peers)) => peers.push(number),
                None => alike.push((content, vec![number])),
            }
        }
        for (content, peers) in alike {
            match grants.iter_mut().find(|one| one.content == content && one.peers == peers) {
                Some(one) => one.pods.push(*pod),
                None => grants.push(Granted { pods: vec![*pod], peers, content }),
            }
        }
    }
    grants
}

/// Parties by what is to be said of them.
type Alike = Vec<(Content, Vec<usize>)>;

/// The differences between what passes `now` and `then`, at the pods that are isolated.
fn changes(
    now: &Reach<'_>,
    then: &Reach<'_>,
    isolated: &[(Direction, Vec<Isolated>)],
    parties: &[Party],
    families: &[Family],
) -> Vec<Change> {
    // By what opens or closes for whom: each pair of parties once.
    let mut pairs: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (direction, pods) in isolated {
        for (own, other) in
            pods.iter().flat_map(|own| (0..parties.len()).map(move |o| (own.party, o)))
        {
            let ingress = *direction == Direction::Ingress;
            pairs.insert(if ingress { (other, own) } else { (own, other) });
        }
    }
    let mut rows: BTreeMap<(bool, usize), Alike> = BTreeMap::new();
    for (from, to) in pairs {
        for opens in [true, false] {
            let content = difference(now, then, (&parties[from], &parties[to]), opens, families);
            if content.families.is_empty() {
                continue;
            }
            let alike = rows.entry((!opens, to)).or_default();
            match alike.iter_mut().find(|(known, _)| *known == content) {
                Some((_, sources)) => sources.push(from),
                None => alike.push((content, vec![from])),
            }
        }
    }
    let mut changes: Vec<Change> = Vec::new();
    for ((closes, to), alike) in rows {
        for (content, from) in alike {
            let same = |change: &&mut Change| {
                change.opens != closes && change.content == content && change.from == from
            };
            match changes.iter_mut().find(same) {
                Some(change) => change.to.push(to),
                None => changes.push(Change { opens: !closes, from, to: vec![to], content }),
            }
        }
    }
    changes
}

/// What opens, or closes, for one pair of pods of two parties at least.
fn difference(
    now: &Reach<'_>,
    then: &Reach<'_>,
    (from, to): (&Party, &Party),
    opens: bool,
    families: &[Family],
) -> Content {
    let mut content = Content { itself: false, families: Vec::new() };
    for family in families {
        let (before, after) = (now.between(from, to, *family), then.between(from, to, *family));
        let (more, less) = if opens { (after, before) } else { (before, after) };
        let gained = |more: &TrafficSet, less: &TrafficSet| more.difference(less);
        let all = gained(&more.all, &less.all).union(&gained(&more.some, &less.some));
        // What the input does not tell of now may pass already, or pass still.
        let doubtful = all.intersection(&less.unknown);
        let all = all.difference(&less.unknown);
        let unknown = gained(&more.unknown, &less.unknown.union(&less.some)).difference(&all);
        let unknown = unknown.union(&doubtful);
        if !all.is_empty() || !unknown.is_empty() {
            let undefined = more.undefined.union(&less.undefined).within(&all.union(&unknown));
            let exchange = Exchange { all, unknown, undefined, ..Exchange::default() };
            content.families.push((*family, exchange));
        }
    }
    content
}

/// Does what the command line asks.
///
/// # Errors
/// Where the input cannot be read, or lacks the policy.
pub fn run(
    args: &args::ExplainPolicy,
    verbose: bool,
    output: Output,
) -> Result<Status, CommandError> {
    let input = input::read(&args.asked.input, verbose, output)?;
    let policy = named(&args.policy, input.snapshot(), &input.namespace)?;
    let families = question::asked(args.asked.families);
    let progress = Progress::spin("asking for everyone, with the policy and without");
    let scene = Scene::of(input.snapshot());
    let found = find(&scene, policy, &families);
    drop(progress);
    let document =
        || output::document("PolicyExplanation", &PolicyExplanation::of(&found, &families));
    output.result(&match args.asked.output {
        Format::Text => {
            text::text(&found, &Layout { width: output.width, directory: input.directory() })
        }
        Format::Json => output::json(&document()),
        Format::Yaml => output::yaml(&document()),
    })?;
    let untold = scene.is_crowded() || scene.is_of_selectors() && found.is_in_doubt();
    let told = if untold { Status::Unknown } else { Status::Fine };
    let flawed = input.status_of_policies(std::slice::from_ref(&policy.key));
    Ok(input.status().and(flawed).and(told))
}

/// The policy called `NAMESPACE/NAME` or `NAME`.
fn named<'s>(
    text: &str,
    snapshot: &'s Snapshot,
    namespace: &str,
) -> Result<&'s Policy, CommandError> {
    let wanted = if text.contains('/') { text.to_owned() } else { format!("{namespace}/{text}") };
    let key = wanted.split_once('/').and_then(|(space, name)| ObjectKey::new(space, name).ok());
    key.and_then(|key| snapshot.policies.get(&key)).ok_or_else(|| {
        let names: Vec<String> = snapshot.policies.keys().map(ToString::to_string).collect();
        let help = match names.len() {
            0 => "the input has no NetworkPolicies".to_owned(),
            1..=8 => format!("the input has {}", crate::text::join(&names, "and")),
            n => format!("the input has {n} NetworkPolicies"),
        };
        let nearest = suggest::nearest(&wanted, names);
        CommandError::NotFound { what: "NetworkPolicy", name: wanted, nearest, help: Some(help) }
    })
}
