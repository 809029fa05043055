//! The matrix as data: each row once, with its columns by what they are sent.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::cidr::Family;
use policy_compiler::flow::End;
use policy_compiler::port::Protocol;
use policy_compiler::reach::{KIND, Level, Party, TrafficSet, Who};
use serde::Serialize;

use crate::answer::{self, Certainty, Outcome, RulingNote};
use crate::can::Port;

use super::{Content, Exchange, Grid};

/// What everyone may send to everyone.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Matrix {
    /// How pods are put together: `pod`, `workload`, `namespace`.
    pub by: &'static str,
    /// The families that were asked.
    pub families: Vec<String>,
    /// The port that decisions are about, where one was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Everyone, rows and columns.
    pub parties: Vec<PartyAnswer>,
    /// The ids of the columns, in order.
    pub columns: Vec<String>,
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// What a reader has to know, in sentences: where there are no pods that these are selectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Someone who is spoken of as one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartyAnswer {
    /// By which rows and columns name it.
    pub id: String,
    /// The kind of workload, or `Pod`, `Namespace`, `Selector`, `Node`, `World`.
    pub kind: String,
    /// Its namespace, of pods; of selectors also in words: `namespaces team=obs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// How many pods these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How many its workload has: more than `count` where not all are alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// The pods, or the templates that make them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// The networks, of a class of the world; pods and nodes in them are not meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

/// What one party may send.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The id of who sends.
    pub from: String,
    /// To whom what. Columns that are not named are sent nothing, and the specification says so.
    pub reaches: Vec<Reached>,
}

/// What several parties are sent alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    /// Their ids.
    pub to: Vec<String>,
    /// `allowed` where everything passes (or the port that was asked), `partly` where something does.
    pub decision: Outcome,
    /// Whether the specification settles that.
    pub certainty: Certainty,
    /// Whether it is one pod and itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub itself: bool,
    /// By families, those that agree together.
    pub traffic: Vec<FamilyTraffic>,
}

/// What is sent in some families.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyTraffic {
    /// The families.
    pub families: Vec<String>,
    /// Allowed for every pair of pods.
    pub allowed: Traffics,
    /// Allowed for some pairs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partly: Option<Traffics>,
    /// Of what the input does not tell, for some pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Traffics>,
    /// Of which the specification leaves the verdict open: of the port that was asked, or of what passes or
    /// may and of all ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<Traffics>,
    /// On which choices these verdicts rest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rulings: Vec<RulingNote>,
}

/// A set of traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffics {
    /// In words: `80, 8080-8090/TCP`.
    pub text: String,
    /// Ranges of ports.
    pub ports: Vec<PortsAnswer>,
    /// Whether ICMP is in it.
    pub icmp: bool,
    /// Whether protocols other than TCP, UDP, SCTP and ICMP are in it.
    pub other_protocols: bool,
}

/// A range of ports.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortsAnswer {
    /// Of which protocol.
    pub protocol: String,
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Traffics {
    /// The set for programs.
    #[must_use]
    pub fn of(set: &TrafficSet) -> Self {
        let ports = Protocol::ALL.into_iter().flat_map(|protocol| {
            let ranges = set.ports(protocol).ranges().iter();
            ranges.map(move |range| PortsAnswer {
                protocol: protocol.to_string(),
                first: range.first().get(),
                last: range.last().get(),
            })
        });
        Self {
            text: set.to_string(),
            ports: ports.collect(),
            icmp: set.icmp(),
            other_protocols: set.other(),
        }
    }

    /// The set for programs, unless nothing is in it.
    fn some(set: &TrafficSet) -> Option<Self> {
        (!set.is_empty()).then(|| Self::of(set))
    }
}

/// The families of a content, those that agree together.
#[must_use]
pub(super) fn folded(content: &Content) -> Vec<(Vec<Family>, &Exchange)> {
    let mut folded: Vec<(Vec<Family>, &Exchange)> = Vec::new();
    for (family, exchange) in &content.families {
        match folded.iter_mut().find(|(_, known)| *known == exchange) {
            Some((families, _)) => families.push(*family),
            None => folded.push((vec![*family], exchange)),
        }
    }
    folded
}

impl Matrix {
    /// The grid for programs.
    #[must_use]
    pub fn of(grid: &Grid) -> Self {
        let mut ids = Ids::default();
        let rows: Vec<String> = grid.from.iter().map(|party| ids.of(party)).collect();
        let columns: Vec<String> = grid.to.iter().map(|party| ids.of(party)).collect();
        let row = |(from, cells): (&String, &Vec<Option<usize>>)| {
            let mut by_content: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for (column, content) in columns.iter().zip(cells) {
                if let Some(content) = content {
                    by_content.entry(*content).or_default().push(column.clone());
                }
            }
            let reached = |(index, to): (usize, Vec<String>)| {
                let content = grid.contents.get(index)?;
                let decision = match &grid.port {
                    Some(port) => content.outcome_of(port),
                    None => content.outcome(),
                };
                let certainty = content.certainty(grid.port.as_ref());
                if decision == Outcome::Denied && !certainty.is_undefined() {
                    return None;
                }
                let traffic = traffic(content, grid.port.as_ref());
                Some(Reached { to, decision, certainty, itself: content.itself, traffic })
            };
            Row {
                from: from.clone(),
                reaches: by_content.into_iter().filter_map(reached).collect(),
            }
        };
        Self {
            by: match grid.level {
                Level::Pod => "pod",
                Level::Workload => "workload",
                Level::Namespace => "namespace",
            },
            families: grid.families.iter().map(ToString::to_string).collect(),
            port: grid.port.as_ref().map(Port::text),
            rows: rows.iter().zip(&grid.cells).map(row).collect(),
            columns,
            parties: ids.answers(),
            notes: grid.notes.clone(),
        }
    }
}

/// What there is in a cell, for programs.
#[must_use]
pub(crate) fn traffic(content: &Content, port: Option<&Port>) -> Vec<FamilyTraffic> {
    let of_families = |(families, exchange): (Vec<Family>, &Exchange)| {
        let undefined = exchange.undefined(port);
        FamilyTraffic {
            families: families.iter().map(ToString::to_string).collect(),
            allowed: Traffics::of(&exchange.all),
            partly: Traffics::some(&exchange.partly),
            unknown: Traffics::some(&exchange.unknown),
            undefined: Traffics::some(&undefined.traffic()),
            rulings: answer::rulings(&undefined.rulings()),
        }
    };
    folded(content).into_iter().map(of_families).collect()
}

/// An id for each party: its name, and a number behind it where several have that.
#[derive(Debug, Default)]
pub(crate) struct Ids<'g> {
    given: BTreeMap<&'g Party, String>,
    taken: BTreeSet<String>,
    order: Vec<&'g Party>,
}

impl<'g> Ids<'g> {
    /// The id of `party`.
    pub(crate) fn of(&mut self, party: &'g Party) -> String {
        if let Some(id) = self.given.get(party) {
            return id.clone();
        }
        let name = id_name(&party.who);
        let mut id = name.clone();
        let mut number = 2;
        while !self.taken.insert(id.clone()) {
            id = format!("{name}#{number}");
            number += 1;
        }
        self.order.push(party);
        self.given.insert(party, id.clone());
        id
    }

    /// Everyone who was given one, in that order.
    pub(crate) fn answers(&self) -> Vec<PartyAnswer> {
        let id = |party: &Party| self.given.get(party).cloned().unwrap_or_default();
        self.order.iter().map(|party| PartyAnswer::of(party, id(party))).collect()
    }
}

fn id_name(who: &Who) -> String {
    match who {
        Who::Workload { namespace, name, .. } => format!("{namespace}/{name}"),
        Who::Namespace(name) => format!("ns/{name}"),
        other => other.to_string(),
    }
}

impl PartyAnswer {
    fn of(party: &Party, id: String) -> Self {
        let pods: Vec<String> = party
            .members
            .iter()
            .filter_map(|end| match end {
                End::Pod(key) => Some(key.to_string()),
                End::Node(_) | End::Address(_) => None,
            })
            // What a selector means is made up, and has no name.
            .filter(|_| !matches!(party.who, Who::Selected { .. }))
            .collect();
        let (kind, name) = match &party.who {
            Who::Pod(key) => ("Pod".to_owned(), key.name.to_string()),
            Who::Workload { kind, name, .. } => (kind.to_string(), name.to_string()),
            Who::Namespace(name) => ("Namespace".to_owned(), name.to_string()),
            Who::Selected { pods, .. } => (KIND.to_owned(), pods.to_string()),
            Who::Node(name) => ("Node".to_owned(), name.to_string()),
            Who::World(class) => ("World".to_owned(), class.to_string()),
            Who::Outside => ("World".to_owned(), "world".to_owned()),
        };
        let (count, of) = match party.who {
            Who::Workload { count, of, .. } => (Some(count), Some(of)),
            _ => (None, None),
        };
        let networks = match &party.who {
            Who::World(class) => class.networks().iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        let namespace = match &party.who {
            Who::Namespace(_) => None,
            who => who.place().map(str::to_owned),
        };
        Self { id, kind, namespace, name, count, of, pods, networks }
    }
}
