//! A pod somewhere comes: how long until the kernel lets its first packet through, and what that takes.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;
use policy_compiler::port::Protocol;
use policy_compiler::update::Event;

use super::Selection;
use crate::bench::BenchError;
use crate::bench::enforced::{Enforced, timed};
use crate::bench::layout::Layout;
use crate::bench::report::{Row, Target, Unit};
use crate::bench::road::Road;
use crate::bench::shape::{self, Directions, ELSEWHERE, Ends, Shape};
use crate::bench::statistics::{Spread, median, quantile};
use crate::bench::traffic::Callers;
use crate::enforcement::Backend;

/// The rows of one backend.
pub(super) fn measure(selection: &Selection, backend: Backend) -> Result<Vec<Row>, BenchError> {
    let (events, restores) = selection.size.pick((1_000, 9), (100, 3), (8, 1));
    let shape = selection.node(Directions::Both, Protocol::Udp);
    let turns = shape.turns();
    let road = Road::build(backend, &turns)?;
    let callers = Callers::open(&road, &turns)?;
    let arrivals = road.node.enter(|| arrivals(shape, backend, &turns, &callers, events))??;
    let whole = median(&restores_of(shape, backend, restores)?);
    let micros = |times: &[Duration]| -> Vec<f64> {
        times.iter().map(|time| time.as_secs_f64() * 1e6).collect()
    };
    let (times, engine) = (micros(&arrivals.times), median(&micros(&arrivals.engine)));
    let (p50, p99) = (median(&times), quantile(&times, 0.99));
    let row = |title: &str, unit: Unit, figure: f64| {
        Row::of_figure("peer", title, unit, figure).under(backend)
    };
    Ok(vec![
        row("peer pod event to its first packet, median", Unit::Micros, p50)
            .within(Spread::of(&times))
            .aiming(Target::AtMost(100.0))
            .showing(format!("{engine:.1} µs of it in the engine")),
        row("  99th of 100", Unit::Micros, p99).aiming(Target::AtMost(500.0)),
        row("  how many times faster", Unit::Times, whole * 1e3 / p50)
            .aiming(Target::AtLeast(1_000.0))
            .against("saving and restoring the linear layout")
            .showing(format!("{whole:.0} ms")),
        row("  processes started", Unit::Count, arrivals.processes).aiming(Target::AtMost(0.0)),
    ])
}

/// What came of pods that came.
struct Arrivals {
    /// From each event to the packet.
    times: Vec<Duration>,
    /// And in the engine.
    engine: Vec<Duration>,
    /// Programs that all of them took.
    processes: f64,
}

/// Lets pods of other nodes come one by one, each a peer of the policy that a turn's port needs, and sends a
/// packet from each as soon as it is known.
#[allow(clippy::cast_precision_loss, reason = "a handful of processes")]
fn arrivals(
    shape: Shape,
    backend: Backend,
    turns: &[Ends],
    callers: &Callers,
    events: u16,
) -> Result<Arrivals, BenchError> {
    let mut node = Enforced::open(backend, shape.snapshot()?)?;
    node.write()?;
    let begun = node.processes();
    let (mut times, mut engine) = (Vec::new(), Vec::new());
    for number in 0..events {
        let namespace = number % shape.namespaces();
        let Some(ends) = turns.get(usize::from(namespace)) else { continue };
        let policy = namespace % shape.policies;
        // Behind all that the shape has, and with the label that the policy asks for.
        let ordinal = shape.together + ELSEWHERE + 10 * (number / shape.namespaces()) + policy;
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 245, 128, 0)) + u32::from(number));
        let ends = Ends { source: address, ..*ends };
        callers.call_unheard(ends)?;
        let pod = shape::pod(namespace, ordinal, "another", address)?;
        let key = pod.key.clone();
        let known = Instant::now();
        node.take(Event::PodApplied(Box::new(pod)))?;
        callers.call_until_heard(ends)?;
        times.push(known.elapsed());
        engine.push(node.in_engine());
        if number % 2 == 1 {
            node.take(Event::PodDeleted(key))?;
            callers.call_unheard(ends)?;
        }
    }
    Ok(Arrivals { times, engine, processes: (node.processes() - begun) as f64 })
}

/// How long it takes to read the linear layout and to put it back whole, in milliseconds.
fn restores_of(shape: Shape, backend: Backend, times: usize) -> Result<Vec<f64>, BenchError> {
    let road = Road::build(backend, &[])?;
    let linear = Layout::linear(&shape);
    road.load(&linear)?;
    road.switch(&Layout::nothing(), &linear)?;
    let once = || {
        let text = backend.save(&road.node, Family::V4, "filter")?;
        let mut restore = Command::new(format!("{}-restore", backend.iptables(Family::V4)));
        road.node.run(restore.arg("-w"), &text)?;
        Ok(())
    };
    (0..times).map(|_| timed(once).map(|time| time.as_secs_f64() * 1e3)).collect()
}
