//! What is written whole: a node's first rules, and a large set.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use policy_compiler::cidr::Family;
use policy_compiler::port::Protocol;
use policy_compiler::render;
use policy_compiler::ruleset::{AddressSet, Generation, Member, SetName, SetRole};

use super::Selection;
use crate::bench::BenchError;
use crate::bench::enforced::{Enforced, timed};
use crate::bench::layout::Layout;
use crate::bench::report::{Row, Target};
use crate::bench::road::Road;
use crate::bench::shape::Directions;
use crate::bench::statistics::{Arm, Spread, median, quad, ratio};
use crate::enforcement::Backend;
use crate::namespace::Namespace;

/// The linear layout of a family in which the node has no pods, as ours is then: a hook, and a chain.
const LINEAR_V6: &str = "*filter\n:LIN-ENTRY - [0:0]\n-I FORWARD 1 -j LIN-ENTRY\nCOMMIT\n";

/// A node's first rules, against the linear layout restored.
pub(super) fn first(selection: &Selection, backend: Backend) -> Result<Vec<Row>, BenchError> {
    let shape = selection.node(Directions::Both, Protocol::Tcp);
    let (snapshot, linear) = (shape.snapshot()?, Layout::linear(&shape));
    let quads = selection.size.pick(5, 1, 1);
    let row = alternate("first", "first programming of a node, both directions", quads, |arm| {
        let road = Road::build(backend, &[])?;
        match arm {
            Arm::Tested => road.node.enter(|| {
                let mut node = Enforced::open(backend, snapshot.clone())?;
                timed(|| node.write())
            })?,
            Arm::Base => timed(|| {
                road.load(&Layout { chains: linear.whole(), ..linear.clone() })?;
                Ok(backend.restore(&road.node, Family::V6, LINEAR_V6)?)
            }),
        }
    })?;
    Ok(vec![row.under(backend).aiming(Target::AtMost(0.25)).against("restoring the linear layout")])
}

/// A set of 100,000 addresses, as policyd makes it, against one that grows while it is filled.
pub(super) fn set(selection: &Selection) -> Result<Vec<Row>, BenchError> {
    let ours = large_set(selection.size.pick(100_000, 100_000, 1_000));
    let default = without_hashsize(&ours);
    let quads = selection.size.pick(8, 2, 1);
    let row = alternate("set", "loading a set of 100,000 addresses", quads, |arm| {
        let namespace = Namespace::create()?;
        let text = if arm == Arm::Tested { &ours } else { &default };
        timed(|| {
            namespace.run(Command::new("ipset").arg("restore"), text)?;
            Ok(())
        })
    })?;
    Ok(vec![row.aiming(Target::AtMost(0.65)).against("the default hashsize")])
}

/// Input of `ipset restore` as policyd writes it.
fn large_set(count: u32) -> String {
    // Spread over the addresses as pods of a large cluster are: dense in each node's /24.
    let address = |number: u32| {
        IpAddr::V4(Ipv4Addr::from((10 << 24) + number / 100 * 256 + number % 100 + 2))
    };
    let members = (0..count).map(|number| Member::address(address(number))).collect();
    let role = SetRole::Known { generation: Generation(0) };
    let name = SetName { family: Family::V4, role };
    render::ipset_restore(&BTreeMap::from([(name, AddressSet { members })]))
}

fn without_hashsize(text: &str) -> String {
    let Some((before, rest)) = text.split_once(" hashsize ") else { return text.to_owned() };
    let (_, after) = rest.split_once(' ').unwrap_or_default();
    format!("{before} {after}")
}

/// Times two arms in turns. The control is one base against the other of the same quad, either way in turn.
fn alternate(
    group: &'static str,
    title: &str,
    quads: usize,
    mut run: impl FnMut(Arm) -> Result<Duration, BenchError>,
) -> Result<Row, BenchError> {
    let [mut ratios, mut controls, mut bases, mut testeds] = [const { Vec::new() }; 4];
    for round in 0..quads {
        let mut blocks = Vec::with_capacity(4);
        for arm in quad(round) {
            let millis = run(arm)?.as_secs_f64() * 1e3;
            if arm == Arm::Base { &mut bases } else { &mut testeds }.push(millis);
            blocks.push((arm, millis));
        }
        ratios.push(ratio(&blocks));
        let alike = |wanted: Arm| {
            let times: Vec<f64> =
                blocks.iter().filter(|(arm, _)| *arm == wanted).map(|(_, time)| *time).collect();
            times.first().copied().unwrap_or(f64::NAN) / times.last().copied().unwrap_or(f64::NAN)
        };
        // First by last of either arm, upside down for one: a drift cancels out.
        controls.push((alike(Arm::Base) / alike(Arm::Tested)).sqrt());
    }
    let row = Row::of_figure(group, title, crate::bench::report::Unit::Ratio, median(&ratios));
    let row = row.within(Spread::of(&ratios));
    let absolute = format!("{:.0} ms to {:.0} ms", median(&bases), median(&testeds));
    Ok(Row { control: Some(median(&controls)), ..row }.showing(absolute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_differs_from_the_one_that_grows_in_its_hashsize_alone() {
        let ours = large_set(100_000);
        let name = "npc4-known-0";
        let first = format!("create {name} hash:ip family inet hashsize 131072 maxelem 1048576\n");
        // A node's hundred addresses follow upon each other.
        assert_eq!(ours.lines().count(), 1_001);
        assert!(ours.starts_with(&first), "{}", ours.lines().next().unwrap());
        let grows = without_hashsize(&ours);
        let first = format!("create {name} hash:ip family inet maxelem 1048576\n");
        assert!(grows.starts_with(&first), "{}", grows.lines().next().unwrap());
        assert_eq!(
            grows.lines().skip(1).collect::<Vec<_>>(),
            ours.lines().skip(1).collect::<Vec<_>>()
        );
    }

    #[test]
    fn arms_take_turns_and_each_is_also_held_against_itself() {
        let mut order = Vec::new();
        let row = alternate("set", "two", 2, |arm| {
            order.push(arm);
            Ok(Duration::from_millis(if arm == Arm::Base { 100 } else { 20 }))
        });
        let row = row.unwrap();
        assert_eq!(order, [quad(0), quad(1)].concat());
        assert!((row.figure - 0.2).abs() < 1e-9, "{row:?}");
        assert!((row.control.unwrap() - 1.0).abs() < 1e-9, "{row:?}");
        assert_eq!(row.absolute, "100 ms to 20 ms");
    }
}
