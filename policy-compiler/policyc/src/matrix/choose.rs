//! Which parties are rows and which are columns.

use std::collections::BTreeSet;

use policy_compiler::cluster::Snapshot;
use policy_compiler::flow::End;
use policy_compiler::port::{PortName, PortRange, Protocol};
use policy_compiler::reach::{Party, Reach, TrafficSet, Who};

use crate::args;
use crate::error::CommandError;
use crate::scene::Scene;
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
    /// A selector, where the input has no pods: `shop/app=web`.
    Selector(String),
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
        scene: &Scene<'_>,
        namespace: &str,
    ) -> Result<Self, CommandError> {
        let snapshot = scene.snapshot();
        let of_selectors = scene.is_of_selectors();
        let side = |text: &Option<String>| match text.as_deref() {
            Some(text) if of_selectors && text.contains(['=', ' ']) => {
                let whole = if text.contains('/') { "" } else { &format!("{namespace}/") };
                Ok(Some(Side::Selector(format!("{whole}{text}"))))
            }
            text => text.map(|text| side(text, snapshot, namespace)).transpose(),
        };
        if let Some(name) = &args.asked.input.namespace {
            known_namespace(name, snapshot)?;
        }
        Ok(Self {
            namespace: args.asked.input.namespace.clone(),
            from: side(&args.from)?,
            to: side(&args.to)?,
            nodes: args.nodes,
            networks: args.networks || of_selectors,
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
///
/// # Errors
/// Where a selector is chosen that no policy has.
pub fn choose(
    reach: &Reach<'_>,
    mut all: Vec<Party>,
    choice: &Choice,
) -> Result<(Vec<Party>, Vec<Party>), CommandError> {
    if !choice.networks {
        all.retain(|party| !matches!(party.who, Who::World(_)));
        all.extend(reach.outside());
    }
    let of_side = |side: &Option<Side>| -> Vec<Party> {
        let chosen = |party: &&Party| match (side, &party.who) {
            (Some(Side::World), who) => matches!(who, Who::World(_) | Who::Outside),
            (Some(Side::Selector(text)), who) => who.to_string() == *text,
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
    let found = |side: &Option<Side>| match (of_side(side), side) {
        (parties, Some(Side::Selector(text))) if parties.is_empty() => Err(no_selector(text, &all)),
        (parties, _) => Ok(parties),
    };
    Ok((found(&choice.from)?, found(&choice.to)?))
}

/// `party` in parts by what its pods call the port `name`: what that is, and who calls it so. Pods that call
/// nothing so are in none.
#[must_use]
pub(super) fn calling(
    party: &Party,
    reach: &Reach<'_>,
    name: &PortName,
    protocol: Option<Protocol>,
) -> Vec<(TrafficSet, Party)> {
    let mut callers: Vec<(TrafficSet, Party)> = Vec::new();
    for end in &party.members {
        let End::Pod(key) = end else { continue };
        let declared = reach.snapshot().pods.get(key).into_iter().flat_map(|pod| &pod.ports);
        let named = declared
            .filter(|port| port.name.as_ref() == Some(name))
            .filter(|port| protocol.is_none_or(|protocol| protocol == port.protocol))
            .map(|port| TrafficSet::of_ports(port.protocol, PortRange::single(port.number)))
            .fold(TrafficSet::nothing(), |all, one| all.union(&one));
        if named.is_empty() {
            continue;
        }
        if let Some((_, part)) = callers.iter_mut().find(|(known, _)| *known == named) {
            part.members.push(end.clone());
        } else {
            callers.push((named, Party { who: party.who.clone(), members: vec![end.clone()] }));
        }
    }
    callers
}

/// Checks that some pod of `parties` calls a port `name`.
///
/// # Errors
/// Where none does.
pub(super) fn known_port(
    parties: &[Party],
    reach: &Reach<'_>,
    name: &PortName,
    protocol: Option<Protocol>,
) -> Result<(), CommandError> {
    if parties.iter().any(|party| !calling(party, reach, name, protocol).is_empty()) {
        return Ok(());
    }
    let pods = parties.iter().flat_map(|party| &party.members).filter_map(|end| match end {
        End::Pod(key) => reach.snapshot().pods.get(key),
        End::Node(_) | End::Address(_) => None,
    });
    let names: BTreeSet<String> = pods
        .flat_map(|pod| &pod.ports)
        .filter_map(|port| port.name.as_ref().map(ToString::to_string))
        .collect();
    let listed: Vec<String> = names.iter().cloned().collect();
    let help = if listed.is_empty() {
        "they declare no ports by name; name it by its number".to_owned()
    } else {
        format!("they declare {}", crate::text::join(&listed, "and"))
    };
    let nearest = crate::suggest::nearest(name.as_str(), names);
    let name = match protocol {
        Some(protocol) => format!("{name}/{protocol}"),
        None => name.to_string(),
    };
    let what = "port name";
    Err(CommandError::NotFound { what, name, nearest, help: Some(help) })
}

fn no_selector(text: &str, all: &[Party]) -> CommandError {
    let selectors = all.iter().filter(|party| matches!(party.who, Who::Selected { .. }));
    let names: Vec<String> = selectors.map(ToString::to_string).collect();
    let help = format!("the input has {}", crate::text::join(&names, "and"));
    let nearest = crate::suggest::nearest(text, names);
    CommandError::NotFound { what: "selector", name: text.to_owned(), nearest, help: Some(help) }
}
