//! How many rules a node has: counted, not timed, and the same everywhere.

use policy_compiler::port::Protocol;

use super::Selection;
use crate::bench::BenchError;
use crate::bench::layout::Layout;
use crate::bench::report::{Row, Target, Unit};
use crate::bench::shape::{Directions, Shape};

#[allow(clippy::cast_precision_loss, reason = "a few thousand")]
fn count(rules: usize) -> f64 {
    rules as f64
}

/// Ours and the list, of one family: ten policies that all pods share, and ten in each of 25 namespaces.
pub(super) fn rules(selection: &Selection) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for (directions, words, most) in
        [(Directions::Ingress, "ingress", 1_100.0), (Directions::Both, "both directions", 2_150.0)]
    {
        let several = selection.node(directions, Protocol::Tcp);
        let one = Shape { together: several.pods, ..several };
        let row = |title: String, shape: &Shape| {
            let (ours, linear) = (Layout::ours(shape, false, 'C')?, Layout::linear(shape));
            let row = Row::of_figure("rules", &title, Unit::Count, count(ours.rules()));
            Ok::<_, BenchError>(row.against(&format!("{} of the linear layout", linear.rules())))
        };
        let title = format!("rules, 250 pods x 10 policies, {words}");
        rows.push(row(title, &one)?.aiming(Target::AtMost(most)));
        rows.push(row(format!("  the same in 25 namespaces of 10 policies, {words}"), &several)?);
    }
    let output = Layout::ours(&selection.node(Directions::Both, Protocol::Tcp), false, 'C')?;
    let output = output.hooks.iter().filter(|(chain, _)| *chain == "OUTPUT").count();
    let title = "rules for what the node sends, without IPVS";
    rows.push(
        Row::of_figure("rules", title, Unit::Count, count(output)).aiming(Target::AtMost(0.0)),
    );
    Ok(rows)
}
