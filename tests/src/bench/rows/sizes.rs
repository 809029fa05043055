//! How many rules a node has: counted, not timed, and the same everywhere.

use policy_compiler::port::Protocol;

use crate::bench::BenchError;
use crate::bench::layout::Layout;
use crate::bench::report::{Row, Target, Unit};
use crate::bench::shape::{Directions, Shape};

/// The node of which most rows speak.
pub(super) fn node(directions: Directions, protocol: Protocol) -> Shape {
    Shape { pods: 250, policies: 10, directions, protocol }
}

#[allow(clippy::cast_precision_loss, reason = "a few thousand")]
fn count(rules: usize) -> f64 {
    rules as f64
}

/// Ours and the list, of one family.
pub(super) fn rules() -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for (directions, words, most) in
        [(Directions::Ingress, "ingress policies", 1_100.0), (Directions::Both, "both directions", 2_150.0)]
    {
        let shape = node(directions, Protocol::Tcp);
        let title = format!("rules, 250 pods x 10 policies, {words}");
        let (ours, linear) = (Layout::ours(&shape, false, 'C')?, Layout::linear(&shape));
        let row = Row::of_figure("rules", &title, Unit::Count, count(ours.rules()))
            .aiming(Target::AtMost(most))
            .against(&format!("{} of the linear layout", linear.rules()));
        rows.push(row);
    }
    let shape = node(Directions::Both, Protocol::Tcp);
    let output = Layout::ours(&shape, false, 'C')?;
    let output = output.hooks.iter().filter(|(chain, _)| *chain == "OUTPUT").count();
    rows.push(
        Row::of_figure("rules", "rules for what the node sends, without IPVS", Unit::Count, count(output))
            .aiming(Target::AtMost(0.0)),
    );
    Ok(rows)
}
