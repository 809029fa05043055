//! The answer of `policyc diff`, ready to be written.

use policy_compiler::reach::TrafficSet;
use serde::Serialize;

use crate::answer::{Certainty, Place};

use super::cause::Cause;

/// What differs between two sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The old side as it was named.
    pub old: String,
    /// The new side as it was named.
    pub new: String,
    /// How much.
    pub summary: Summary,
    /// The connections that differ, between ends that are on both sides.
    pub connections: Vec<ConnectionChange>,
    /// The workloads that are on one side alone.
    pub workloads: Vec<WorkloadChange>,
    /// The differences between policies that no connection of the pods there are changes because of.
    pub policies: Vec<PolicyChange>,
    /// What a reader has to know, in sentences: where no side has pods that ends are selectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Whether policies that differ say something that no side tells, such as a port by name without pods.
    #[serde(skip)]
    pub doubtful: bool,
}

/// A difference of a policy that changes nothing between the ends there are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyChange {
    /// What differs.
    #[serde(flatten)]
    pub cause: Cause,
    /// Whether its namespace has no pods on either side, so that nobody knows what would change.
    pub untold: bool,
}

/// How many pairs of ends are concerned; replicas that fare alike are one end, addresses that no policy
/// tells apart too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Between which something opens and nothing closes.
    pub opened: usize,
    /// Between which something closes and nothing opens.
    pub closed: usize,
    /// Between which something opens and something closes.
    pub changed: usize,
    /// Of which the input does not tell.
    pub unknown: usize,
    /// Workloads that only the new side has.
    pub added: usize,
    /// Workloads that only the old side has.
    pub removed: usize,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Becomes {
    /// Some traffic is allowed that was not.
    Opened,
    /// Some traffic is denied that was not.
    Closed,
    /// Both.
    Changed,
    /// The input does not tell.
    Unknown,
}

/// One change, of every connection from one of some ends to another of some ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionChange {
    /// What it is.
    pub change: Becomes,
    /// From each of these.
    pub from: Vec<Ends>,
    /// To each of these.
    pub to: Vec<Ends>,
    /// In which address families.
    pub families: Vec<String>,
    /// Whether the ends have another family in common, in which this does not change.
    #[serde(skip)]
    pub partial: bool,
    /// Denied before, allowed now: `8080/TCP`, `8000-8010/UDP`, `icmp`, `other protocols`, `everything`.
    pub opened: Vec<String>,
    /// Allowed before, denied now.
    pub closed: Vec<String>,
    /// What may have opened: an address is not known on one side.
    pub may_open: Vec<String>,
    /// What may have closed.
    pub may_close: Vec<String>,
    /// Whether the specification settles the verdicts of both sides on all of this traffic.
    pub certainty: Certainty,
    /// Of which traffic it does not.
    pub undefined: Vec<String>,
    /// The differences between the sides that make it so: those of which each alone would, or, where none
    /// would, the fewest that do together.
    pub causes: Vec<Cause>,
}

/// Ends that fare alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ends {
    /// `Deployment`, ...; `Pod`, `Node`, `Selector`, or `World` for addresses outside.
    pub kind: String,
    /// `shop/web`, `node-a`, `203.0.113.0/24`, `all of IPv4`.
    pub name: String,
    /// How many they are; 0 for addresses and selectors.
    pub count: u32,
    /// How many its workload has on the new side.
    pub of: u32,
    /// The pods or nodes by name as the new side has them, and networks that hold the addresses (and those
    /// of pods and nodes that lie between).
    pub members: Vec<String>,
    /// Whether it is all of the world in its family.
    #[serde(skip)]
    pub whole: bool,
}

/// A workload, or a pod without one, that one side lacks. Its coming or going is no change of what was
/// there before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadChange {
    /// `added` or `removed`.
    pub change: &'static str,
    /// `Deployment`, ..., or `Pod`.
    pub kind: String,
    /// Its name: `shop/report`.
    pub name: String,
    /// How many pods it has.
    pub count: u32,
    /// The policies that isolate it for ingress; none: everything may reach it.
    pub ingress: Vec<String>,
    /// The policies that isolate it for egress; none: it may reach everything.
    pub egress: Vec<String>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A set of traffic by its parts.
#[must_use]
pub fn traffic(set: &TrafficSet) -> Vec<String> {
    use policy_compiler::reach::Part;
    if set.is_all() {
        return vec!["everything".to_owned()];
    }
    let named = |part| match part {
        Part::Ports(protocol, range)
            if range.first().get() == 1 && range.last().get() == u16::MAX =>
        {
            format!("every {protocol} port")
        }
        Part::Ports(protocol, range) => format!("{range}/{protocol}"),
        Part::Icmp => "icmp".to_owned(),
        Part::Other => "other protocols".to_owned(),
    };
    set.parts().map(named).collect()
}
