//! Something changes that chains follow from: a pod of this node comes or goes, a policy is edited.

use std::thread;
use std::time::Duration;

use policy_compiler::port::Protocol;
use policy_compiler::update::Event;

use super::Selection;
use crate::bench::BenchError;
use crate::bench::enforced::{ByProcesses, Enforced, timed};
use crate::bench::layout::Layout;
use crate::bench::report::{Row, Target, Unit};
use crate::bench::road::Road;
use crate::bench::shape::{self, Directions, FIRST_PORT, NODE, Shape};
use crate::bench::statistics::{Spread, median, quantile};
use crate::enforcement::Backend;

/// How long a node is left alone between two changes.
const IDLE: Duration = Duration::from_millis(50);

/// The rows of one backend.
pub(super) fn measure(selection: &Selection, backend: Backend) -> Result<Vec<Row>, BenchError> {
    let (idle, busy) = selection.size.pick((60, 300), (12, 60), (4, 4));
    let shape = selection.node(Directions::Both, Protocol::Tcp);
    let ours = changes(backend, shape, idle, busy)?;
    let processes = by_processes(backend, shape, idle)?;
    let of_udp = Shape { protocol: Protocol::Udp, ..shape };
    let of_udp = changes(backend, of_udp, idle, 0)?;
    let rules = Layout::ours(&shape, false, 'C')?.rules();
    let row = |title: &str, figure: f64| {
        Row::of_figure("change", title, Unit::Millis, figure).under(backend)
    };
    let limit = if backend == Backend::Nft { 2.0 } else { 6.0 };
    let back_to_back = row("  back to back, 99th of 100", quantile(&ours.pressed, 0.99));
    Ok(vec![
        row("local pod or policy event to the kernel, 50 ms apart, median", median(&ours.rested))
            .within(Spread::of(&ours.rested))
            .aiming(Target::AtMost(limit))
            .against("a process for each step")
            .showing(format!(
                "{:.2} ms; {:.2} ms of ours in the engine; {rules} rules",
                median(&processes),
                median(&ours.engine)
            )),
        match backend {
            Backend::Nft => back_to_back.aiming(Target::AtMost(30.0)),
            Backend::Legacy => back_to_back,
        },
        row("  the same with policies for ports of UDP, 50 ms apart", median(&of_udp.rested))
            .within(Spread::of(&of_udp.rested)),
    ])
}

/// How long changes took, in milliseconds.
struct Times {
    /// Each after a pause.
    rested: Vec<f64>,
    /// One upon another.
    pressed: Vec<f64>,
    /// And how much of either the engine took.
    engine: Vec<f64>,
}

/// Changes one by one, as policyd carries them out.
fn changes(backend: Backend, shape: Shape, idle: u16, busy: u16) -> Result<Times, BenchError> {
    let road = Road::build(backend, &[])?;
    let mut engine = Vec::new();
    let (rested, pressed) = road.node.enter(|| {
        let mut node = Enforced::open(backend, shape.snapshot()?)?;
        node.write()?;
        let mut times = |count: u16, pause: Duration| {
            (0..count)
                .map(|number| {
                    let event = change(shape, number)?;
                    node.rest(pause);
                    let time = timed(|| node.take(event))?;
                    engine.push(node.in_engine().as_secs_f64() * 1e3);
                    Ok(time.as_secs_f64() * 1e3)
                })
                .collect::<Result<Vec<f64>, BenchError>>()
        };
        let rested = times(idle, IDLE)?;
        Ok::<_, BenchError>((rested, times(busy, Duration::ZERO)?))
    })??;
    Ok(Times { rested, pressed, engine })
}

/// The same changes, each step of them by a program of its own.
fn by_processes(backend: Backend, shape: Shape, idle: u16) -> Result<Vec<f64>, BenchError> {
    let road = Road::build(backend, &[])?;
    let mut node = ByProcesses::new(&road, shape.snapshot()?)?;
    node.write()?;
    let each = |number: u16| {
        let event = change(shape, number)?;
        thread::sleep(IDLE);
        Ok(timed(|| node.take(event))?.as_secs_f64() * 1e3)
    };
    (0..idle).map(each).collect()
}

/// A pod goes, a policy gets another port, the pod comes back, the policy gets its port back: the changes
/// undo each other, so that the node is the same all along.
fn change(shape: Shape, number: u16) -> Result<Event, BenchError> {
    let namespace = number / 4 % shape.namespaces();
    let policy = namespace % shape.policies;
    let pod = || {
        let address = Shape::local(namespace * shape.together + 3);
        shape::pod(namespace, 3, NODE, address)
    };
    Ok(match number % 4 {
        0 => Event::PodDeleted(pod()?.key),
        1 => Event::PolicyApplied(Box::new(shape.policy(namespace, policy, 9_000)?)),
        2 => Event::PodApplied(Box::new(pod()?)),
        _ => {
            Event::PolicyApplied(Box::new(shape.policy(namespace, policy, FIRST_PORT + policy)?))
        }
    })
}
