//! Which parties are rows and which are columns.

use std::collections::BTreeSet;

use policy_compiler::cluster::Snapshot;
use policy_compiler::flow::End;
use policy_compiler::reach::{Level, Party, Reach, Who};

use crate::args;
use crate::error::CommandError;
use crate::subject;

/// What the command line chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only pods of this namespace, in rows and columns for which nothing else is said.
    pub namespace: Option<String>,
    /// The rows.
    pub from: Option<Side>,
    /// The columns.
    pub to: Option<Side>,
    /// Whether nodes are parties.
    pub nodes: bool,
    /// Whether each class of addresses outside is a party of its own.
    pub networks: bool,
}

/// The parties of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// Every pod of a namespace.
    Namespace(String),
    /// Those with one of these ends.
    Ends(BTreeSet<End>),
    /// The addresses outside.
    World,
}

impl Choice {
    /// What `args` choose.
    ///
    /// # Errors
    /// Where the input lacks what they name.
    pub fn of(
        args: &args::Matrix,
        snapshot: &Snapshot,
        namespace: &str,
    ) -> Result<Self, CommandError> {
        let side = |text: &Option<String>| {
            text.as_deref().map(|text| side(text, snapshot, namespace)).transpose()
        };
        if let Some(name) = &args.asked.input.namespace {
            known_namespace(name, snapshot)?;
        }
        Ok(Self {
            namespace: args.asked.input.namespace.clone(),
            from: side(&args.from)?,
            to: side(&args.to)?,
            nodes: args.nodes,
            networks: args.networks,
        })
    }
}

fn side(text: &str, snapshot: &Snapshot, namespace: &str) -> Result<Side, CommandError> {
    if text == "world" {
        return Ok(Side::World);
    }
    if let Some(("ns" | "namespace" | "namespaces", name)) = text.split_once('/') {
        known_namespace(name, snapshot)?;
        return Ok(Side::Namespace(name.to_owned()));
    }
    let ends = subject::end(text, snapshot, namespace)?.ends;
    if ends.iter().any(|end| matches!(end, End::Address(_))) {
        return Err(CommandError::usage(
            format!("`{text}` is one address, and a matrix speaks of classes of them"),
            "write `world`, or ask `policyc can` about the address",
        ));
    }
    Ok(Side::Ends(ends.into_iter().collect()))
}

fn known_namespace(name: &str, snapshot: &Snapshot) -> Result<(), CommandError> {
    let with_pods = snapshot.pods.keys().map(|key| key.namespace.to_string());
    let known: BTreeSet<String> =
        with_pods.chain(snapshot.namespaces.keys().map(ToString::to_string)).collect();
    if known.contains(name) {
        return Ok(());
    }
    Err(CommandError::NotFound {
        what: "namespace",
        name: name.to_owned(),
        nearest: crate::suggest::nearest(name, known),
        help: None,
    })
}

/// The rows and the columns.
#[must_use]
pub fn choose(reach: &Reach<'_>, level: Level, choice: &Choice) -> (Vec<Party>, Vec<Party>) {
    let mut all = reach.parties(level);
    if !choice.networks {
        all.retain(|party| !matches!(party.who, Who::World(_)));
        all.extend(reach.outside());
    }
    let of_side = |side: &Option<Side>| -> Vec<Party> {
        let chosen = |party: &&Party| match (side, &party.who) {
            (Some(Side::World), who) => matches!(who, Who::World(_) | Who::Outside),
            (Some(Side::Namespace(name)), who) => {
                who.namespace().is_some_and(|own| own.as_str() == name)
            }
            (Some(Side::Ends(ends)), _) => party.members.iter().any(|end| ends.contains(end)),
            (None, Who::Node(_)) => choice.nodes,
            (None, who) => match (&choice.namespace, who.namespace()) {
                (Some(wanted), Some(own)) => own.as_str() == wanted,
                _ => true,
            },
        };
        all.iter().filter(chosen).cloned().collect()
    };
    (of_side(&choice.from), of_side(&choice.to))
}
