//! The matrix as a page: namespaces fold, and a cell tells the rules behind it, of both halves.
//!
//! Of each cell one packet of what passes is asked about, and one of what does not: to a port that the
//! destination declares, where it does. Texts and halves that are the same are in the page once.

use std::collections::BTreeMap;

use policy_compiler::cidr::Family;
use policy_compiler::cluster::Pod;
use policy_compiler::flow::{End, Traffic};
use policy_compiler::policy::Direction;
use policy_compiler::port::Protocol;
use policy_compiler::reach::{Level, Part, Party, Reach, TrafficSet, Who};
use policy_compiler::verdict::{Half, Verdict};
use serde::Serialize;

use crate::answer::{Outcome, Place};
use crate::can::{HalfAnswer, Port, RuleAnswer};
use crate::page;
use crate::text::join;

use super::answer::folded;
use super::text::brief;
use super::{Content, Grid};

/// What the page is given. There may be a hundred thousand cells, so whatever they have in common is told
/// once and spoken of by number.
#[derive(Serialize)]
struct Sheet {
    port: Option<String>,
    notes: Vec<String>,
    rows: Vec<Head>,
    columns: Vec<Head>,
    contents: Vec<Shown>,
    /// By row and column: a number in `contents` and one in `whys`; none where no policy has a say.
    cells: Vec<Vec<Option<(usize, usize)>>>,
    whys: Vec<Vec<Why>>,
    halves: Vec<Told>,
    /// Each rule: which it is, and where it stands.
    rules: Vec<(String, String)>,
    /// What a rule says, and why.
    reasons: Vec<(Outcome, String)>,
    texts: Vec<String>,
}

/// A row or a column.
#[derive(Serialize)]
struct Head {
    name: String,
    group: String,
}

/// What stands in a cell.
#[derive(Serialize)]
struct Shown {
    outcome: Outcome,
    brief: String,
    full: String,
    itself: bool,
}

/// What becomes of one packet, and why: the numbers of its families and of what it is (both texts), what
/// becomes of it, and the halves of its source and its destination.
type Why = (usize, usize, Outcome, usize, usize);

/// A [`Why`] that is of no family yet.
type Asked = (usize, Outcome, usize, usize);

/// What one half says: what it comes to, in a text, and each rule with its reason.
type Told = (usize, Vec<(usize, usize)>);

/// The page of `grid`.
#[must_use]
pub fn html(grid: &Grid, reach: &Reach<'_>) -> String {
    let mut telling = Telling { port: grid.port.as_ref(), ..Telling::new(reach) };
    let mut cells = Vec::with_capacity(grid.from.len());
    for (from, row) in grid.from.iter().zip(&grid.cells) {
        let told = grid.to.iter().zip(row).map(|(to, cell)| {
            let content = grid.contents.get((*cell)?)?;
            Some(((*cell)?, telling.cell(from, to, content)))
        });
        cells.push(told.collect());
    }
    let sheet = Sheet {
        port: grid.port.as_ref().map(Port::text),
        notes: grid.notes.clone(),
        rows: grid.from.iter().map(|party| head(party, grid.level)).collect(),
        columns: grid.to.iter().map(|party| head(party, grid.level)).collect(),
        contents: grid.contents.iter().map(|content| shown(content, grid.port.as_ref())).collect(),
        cells,
        whys: telling.whys.into_list(),
        halves: telling.halves.into_list(),
        rules: telling.rules.into_list(),
        reasons: telling.reasons.into_list(),
        texts: telling.texts.into_list(),
    };
    page::MATRIX.with(&sheet)
}

fn head(party: &Party, level: Level) -> Head {
    let group = match (&party.who, level) {
        (Who::Node(_), _) => "nodes".to_owned(),
        (Who::World(_) | Who::Outside, _) => "world".to_owned(),
        (_, Level::Namespace) => "namespaces".to_owned(),
        (who, _) => who.place().unwrap_or_default().to_owned(),
    };
    let text = party.who.to_string();
    let name = text.strip_prefix(&format!("{group}/")).unwrap_or(&text).to_owned();
    Head { name, group }
}

fn shown(content: &Content, port: Option<&Port>) -> Shown {
    let lines: Vec<String> = brief(content, port).into_iter().map(|(_, text)| text).collect();
    let full = folded(content).into_iter().map(|(families, exchange)| {
        let families: Vec<String> = families.iter().map(ToString::to_string).collect();
        let mut parts = Vec::new();
        for (set, word) in
            [(&exchange.all, ""), (&exchange.partly, "in part "), (&exchange.unknown, "unknown: ")]
        {
            if !set.is_empty() {
                parts.push(format!("{word}{set}"));
            }
        }
        let undefined = exchange.undefined(port);
        let resting = undefined.rulings().into_iter().map(|ruling| {
            format!(" (a choice that the specification leaves open: {})", ruling.explanation())
        });
        let resting: String = resting.collect();
        let what = if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") };
        format!("{} over {}{resting}", what, join(&families, "and"))
    });
    Shown {
        outcome: port.map_or_else(|| content.outcome(), |port| content.outcome_of(port)),
        brief: lines.join(" "),
        full: full.collect::<Vec<_>>().join("; "),
        itself: content.itself,
    }
}

/// Values that are told once, by number.
struct Once<T> {
    known: BTreeMap<T, usize>,
}

impl<T: Ord + Clone> Once<T> {
    fn number(&mut self, value: T) -> usize {
        let next = self.known.len();
        *self.known.entry(value).or_insert(next)
    }

    fn into_list(self) -> Vec<T> {
        let mut list: Vec<(usize, T)> =
            self.known.into_iter().map(|(value, n)| (n, value)).collect();
        list.sort_unstable_by_key(|(n, _)| *n);
        list.into_iter().map(|(_, value)| value).collect()
    }
}

struct Telling<'t, 'a> {
    reach: &'t Reach<'a>,
    port: Option<&'t Port>,
    texts: Once<String>,
    halves: Once<Told>,
    rules: Once<(String, String)>,
    reasons: Once<(Outcome, String)>,
    whys: Once<Vec<Why>>,
}

impl<'t, 'a> Telling<'t, 'a> {
    fn new(reach: &'t Reach<'a>) -> Self {
        Self {
            reach,
            port: None,
            texts: Once { known: BTreeMap::new() },
            halves: Once { known: BTreeMap::new() },
            rules: Once { known: BTreeMap::new() },
            reasons: Once { known: BTreeMap::new() },
            whys: Once { known: BTreeMap::new() },
        }
    }

    fn cell(&mut self, from: &Party, to: &Party, content: &Content) -> usize {
        // What two families are told alike, they are told once.
        let mut told: Vec<(Asked, Vec<String>)> = Vec::new();
        for (family, exchange) in &content.families {
            let Some((a, b)) = self.pair(from, to, *family) else { continue };
            let possible = exchange.possible();
            for traffic in self.asked(&possible, &b, *family) {
                let verdict = self.reach.because(&a, &b, *family, traffic);
                let why = self.why(&verdict, traffic);
                match told.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, families)) => families.push(family.to_string()),
                    None => told.push((why, vec![family.to_string()])),
                }
            }
        }
        let whys = told.into_iter().map(|((traffic, decision, egress, ingress), families)| {
            (self.texts.number(join(&families, "and")), traffic, decision, egress, ingress)
        });
        let whys = whys.collect();
        self.whys.number(whys)
    }

    /// An end of each that speak `family` and are not one: parties of pods fare alike, but those of whole
    /// namespaces, of which the first pair is told.
    fn pair(&self, from: &Party, to: &Party, family: Family) -> Option<(End, End)> {
        let speaking = |party: &Party| -> Vec<End> {
            let ends = party.members.iter().filter(|end| self.reach.speaks(end, family));
            ends.cloned().collect()
        };
        let (sources, destinations) = (speaking(from), speaking(to));
        let pairs = sources.iter().flat_map(|a| destinations.iter().map(move |b| (a, b)));
        let other = pairs.clone().find(|(a, b)| a != b);
        other.or_else(|| pairs.clone().next()).map(|(a, b)| (a.clone(), b.clone()))
    }

    /// A packet of what passes, where anything does, and one of what does not, where the destination
    /// listens for it or nothing passes.
    fn asked(&self, possible: &TrafficSet, to: &End, family: Family) -> Vec<Traffic> {
        if let Some(port) = self.port {
            return vec![match port {
                Port::Number(port, protocol) => Traffic::Port { protocol: *protocol, port: *port },
                Port::Icmp => Traffic::ping(family),
                // Only ends that call a port so are asked about.
                Port::Name(..) => {
                    return port.traffic(to, family, self.reach.snapshot()).unwrap_or_default();
                }
            }];
        }
        let passing = possible.parts().next().map(|part| match part {
            Part::Ports(protocol, range) => Traffic::Port { protocol, port: range.first().get() },
            Part::Icmp => Traffic::ping(family),
            Part::Other => Traffic::Other { protocol: 47 },
        });
        let pod: Option<&Pod> = match to {
            End::Pod(key) => self.reach.snapshot().pods.get(key),
            End::Node(_) | End::Address(_) => None,
        };
        let declared = pod.into_iter().flat_map(|pod| &pod.ports);
        let declared = declared
            .map(|port| Traffic::Port { protocol: port.protocol, port: port.number.get() })
            .find(|traffic| !possible.contains(*traffic));
        let any = Traffic::Port { protocol: Protocol::Tcp, port: 80 };
        let dropped = declared.or_else(|| passing.is_none().then_some(any));
        passing.into_iter().chain(dropped).collect()
    }

    fn why(&mut self, verdict: &Verdict, traffic: Traffic) -> Asked {
        let traffic = match traffic {
            Traffic::Icmp { .. } => "icmp".to_owned(),
            other => other.to_string(),
        };
        let traffic = self.texts.number(traffic);
        let egress = self.half(&verdict.egress, Direction::Egress);
        let ingress = self.half(&verdict.ingress, Direction::Ingress);
        (traffic, verdict.decision.into(), egress, ingress)
    }

    fn half(&mut self, half: &Half, direction: Direction) -> usize {
        let answer = HalfAnswer::of(half, direction, self.reach.snapshot());
        let mut rules: Vec<(Outcome, usize, usize)> = Vec::new();
        let policed = matches!(answer.because, "ruleAllows" | "noRuleAllows" | "ruleMayAllow");
        for policy in answer.policies.iter().filter(|_| policed) {
            let name = &policy.policy;
            if policy.rules.is_empty() {
                let rule = self.rules.number((name.clone(), place(policy.place.as_ref())));
                let reason = (Outcome::Denied, "has no rules".to_owned());
                rules.push((Outcome::Denied, rule, self.reasons.number(reason)));
            }
            for rule in &policy.rules {
                let decision = rule.decision;
                let reason = self.reasons.number((decision, reason(rule)));
                let rule = (format!("{name} {}", rule.rule), place(rule.place.as_ref()));
                rules.push((decision, self.rules.number(rule), reason));
            }
        }
        // What lets it pass comes first.
        rules.sort_by_key(|(decision, ..)| *decision == Outcome::Denied);
        let rules = rules.into_iter().map(|(_, rule, reason)| (rule, reason)).collect();
        let told = (self.texts.number(answer.summary), rules);
        self.halves.number(told)
    }
}

fn place(place: Option<&Place>) -> String {
    match place {
        Some(Place { file, line: Some(line), .. }) => format!("{file}:{line}"),
        Some(Place { file, .. }) => file.clone(),
        None => String::new(),
    }
}

/// Of a rule with many peers only the first are told.
const PEERS: usize = 4;

/// Why a rule lets something pass, or does not.
fn reason(rule: &RuleAnswer) -> String {
    if let Some(invalid) = &rule.invalid {
        return format!("invalid, allows nothing: {invalid}");
    }
    let denied = |decision| decision == Outcome::Denied;
    if !rule.peers.is_empty() && rule.peers.iter().all(|peer| denied(peer.decision)) {
        let all = rule.peers.iter().map(|peer| match peer.reason.as_str() {
            "" => peer.means.clone(),
            reason => format!("means {}: {reason}", peer.means),
        });
        let mut told: Vec<String> = all.take(PEERS).collect();
        if rule.peers.len() > PEERS {
            told.push(format!("and {} peers more", rule.peers.len() - PEERS));
        }
        return told.join("; ");
    }
    let mut parts: Vec<String> = Vec::new();
    let peers = rule.peers.iter().filter(|peer| !denied(peer.decision));
    let means: Vec<String> = peers.map(|peer| peer.means.clone()).collect();
    parts.push(if means.is_empty() { "everybody".to_owned() } else { join(&means, "and") });
    let matched: Vec<String> = rule
        .ports
        .iter()
        .filter(|port| !denied(port.decision))
        .map(|port| port.means.clone())
        .collect();
    if rule.ports.is_empty() {
        parts.push("every port".to_owned());
    } else if matched.is_empty() {
        let others: Vec<String> = rule
            .ports
            .iter()
            .take(PEERS)
            .map(|port| match port.reason.as_str() {
                "" => port.means.clone(),
                reason => format!("{} ({reason})", port.means),
            })
            .collect();
        parts.push(format!("but on {}", join(&others, "and")));
    } else {
        parts.push(format!("on {}", join(&matched, "and")));
    }
    parts.join(", ")
}
