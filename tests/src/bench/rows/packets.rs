//! What packets pay for policies, each row a duel on a road of its own.

use policy_compiler::port::Protocol;

use super::Selection;
use crate::bench::BenchError;
use crate::bench::duel::{Effort, fight};
use crate::bench::layout::Layout;
use crate::bench::path::Passage;
use crate::bench::processor::pin;
use crate::bench::report::{Row, Target};
use crate::bench::road::Road;
use crate::bench::shape::{DENIED_PORT, Directions, Ends, Shape};
use crate::bench::traffic::{Connections, NewFlows, RoundTrips, SentByNode, Traffic};
use crate::enforcement::Backend;

/// Takes rows as they come.
type Take<'a> = dyn FnMut(Vec<Row>) + Send + 'a;

/// All rows of packets that were chosen, under one backend.
pub(super) fn measure(
    selection: &Selection,
    backend: Backend,
    take: &mut Take<'_>,
) -> Result<(), BenchError> {
    if selection.has("node") || selection.has("flow") {
        Stage::build(selection, backend, selection.node(Directions::Both, Protocol::Udp))?
            .run(take, both_ways)?;
    }
    if selection.has("steady") || selection.has("connection") {
        Stage::build(selection, backend, selection.node(Directions::Both, Protocol::Tcp))?
            .run(take, tcp)?;
    }
    if selection.has("flow") || selection.has("denied") {
        let shape = selection.node(Directions::Ingress, Protocol::Udp);
        Stage::build(selection, backend, shape)?.run(take, ingress)?;
    }
    if selection.has("flow") {
        let pods = selection.size.pick(110, 110, 20);
        let shape = Shape { pods, ..selection.node(Directions::Both, Protocol::Udp) };
        Stage::build(selection, backend, shape)?.run(take, larger)?;
    }
    Ok(())
}

/// A road, and what stands beside it for all duels on it.
struct Stage<'a> {
    selection: &'a Selection,
    shape: Shape,
    turns: Vec<Ends>,
    road: Road,
    nothing: Layout,
    ours: Layout,
    effort: Effort,
}

impl<'a> Stage<'a> {
    fn build(selection: &'a Selection, backend: Backend, shape: Shape) -> Result<Self, BenchError> {
        let turns = shape.turns();
        let road = Road::build(backend, &turns)?;
        let ours = Layout::ours(&shape, true, 'C')?;
        road.load(&ours)?;
        let (nothing, effort) = (Layout::nothing(), selection.effort());
        Ok(Self { selection, shape, turns, road, nothing, ours, effort })
    }

    /// Duels are fought by a thread of their own, on one processor and at the near end of the road.
    fn run(
        &self,
        take: &mut Take<'_>,
        duels: impl FnOnce(&Self, &mut Take<'_>) -> Result<(), BenchError> + Send,
    ) -> Result<(), BenchError> {
        self.road.from.enter(|| {
            pin()?;
            duels(self, take)
        })?
    }

    fn duel(
        &self,
        (group, title): (&'static str, &str),
        arms: (&Layout, &Layout),
        traffic: &mut dyn Traffic,
    ) -> Result<Row, BenchError> {
        let duel = fight(&self.road, title, arms, traffic, self.effort)?;
        Ok(Row::of_duel(group, title, self.road.backend, &duel))
    }

    /// Ours against nothing, then the linear layout against nothing, on the same traffic. What the list
    /// costs is many times what is told apart here: a quarter of the quads will do.
    fn beside_the_list(
        &self,
        (group, title): (&'static str, &str),
        limit: f64,
        linear: &Layout,
        traffic: &mut dyn Traffic,
    ) -> Result<Vec<Row>, BenchError> {
        let ours = self.duel((group, title), (&self.nothing, &self.ours), traffic)?;
        let effort = Effort { quads: self.effort.quads.div_ceil(4), ..self.effort };
        let listed = format!("{title}, linear layout");
        let list = fight(&self.road, &listed, (&self.nothing, linear), traffic, effort)?;
        let list = Row::of_duel(group, "  the same, linear layout", self.road.backend, &list);
        Ok(vec![ours.aiming(Target::AtMost(limit)), list])
    }

    /// The target of the backend.
    fn limit(&self, nft: f64, legacy: f64) -> f64 {
        match self.road.backend {
            Backend::Nft => nft,
            Backend::Legacy => legacy,
        }
    }

    fn first(&self) -> Result<Ends, BenchError> {
        let none = || BenchError::Shape("it has no pods".to_owned());
        self.turns.get(self.turns.len() / 2).copied().ok_or_else(none)
    }
}

fn both_ways(stage: &Stage<'_>, take: &mut Take<'_>) -> Result<(), BenchError> {
    if stage.selection.has("node") {
        let mut sent = SentByNode::open(&stage.road, stage.first()?)?;
        let title = ("node", "established packet of the node, with IPVS");
        let row = stage.duel(title, (&stage.nothing, &stage.ours), &mut sent)?;
        take(vec![row.aiming(Target::AtMost(1.03))]);
    }
    if stage.selection.has("flow") {
        let linear = Layout::linear(&stage.shape);
        stage.road.load(&linear)?;
        let mut flows = NewFlows::open(&stage.road, &stage.turns, Passage::Allowed)?;
        let title = ("flow", "packet of a new flow, both directions policed");
        take(stage.beside_the_list(title, stage.limit(1.27, 1.15), &linear, &mut flows)?);
    }
    Ok(())
}

fn tcp(stage: &Stage<'_>, take: &mut Take<'_>) -> Result<(), BenchError> {
    let linear = Layout::linear(&stage.shape);
    stage.road.load(&linear)?;
    if stage.selection.has("steady") {
        let mut trips = RoundTrips::open(&stage.road, stage.first()?)?;
        let title = ("steady", "round trip on an open connection");
        take(stage.beside_the_list(title, 1.01, &linear, &mut trips)?);
    }
    if stage.selection.has("connection") {
        let mut connections = Connections::open(&stage.road, &stage.turns)?;
        let title = ("connection", "new TCP connection, both directions policed");
        take(stage.beside_the_list(title, stage.limit(1.045, 1.03), &linear, &mut connections)?);
    }
    Ok(())
}

fn ingress(stage: &Stage<'_>, take: &mut Take<'_>) -> Result<(), BenchError> {
    if stage.selection.has("flow") {
        let mut flows = NewFlows::open(&stage.road, &stage.turns, Passage::Allowed)?;
        let title = ("flow", "packet of a new flow, ingress policies alone");
        let row = stage.duel(title, (&stage.nothing, &stage.ours), &mut flows)?;
        take(vec![row.aiming(Target::AtMost(stage.limit(1.23, 1.13)))]);
    }
    if stage.selection.has("denied") {
        let turns: Vec<Ends> =
            stage.turns.iter().map(|ends| Ends { port: DENIED_PORT, ..*ends }).collect();
        let mut flows = NewFlows::open(&stage.road, &turns, Passage::Denied)?;
        let title = ("denied", "denied packet");
        let row = stage.duel(title, (&stage.nothing, &stage.ours), &mut flows)?;
        let row = row.against("no policy engine, where it is delivered");
        take(vec![row.aiming(Target::AtMost(stage.limit(1.16, 1.03)))]);
        let drop = Layout::one_drop("udp", DENIED_PORT);
        let title = ("denied", "  the same, against the least that denying takes");
        let row = stage.duel(title, (&drop, &stage.ours), &mut flows)?;
        take(vec![row.against("a single rule that drops it")]);
    }
    Ok(())
}

/// A node of 110 isolated pods and one of 1,000 on the same packets, side by side in one table.
fn larger(stage: &Stage<'_>, take: &mut Take<'_>) -> Result<(), BenchError> {
    let pods = stage.selection.size.pick(1_000, 1_000, 100);
    let large = Layout::ours(&Shape { pods, ..stage.shape }, true, 'B')?;
    stage.road.load(&large)?;
    let mut flows = NewFlows::open(&stage.road, &stage.turns, Passage::Allowed)?;
    let title = ("flow", "packet of a new flow, 1,000 isolated pods");
    let row = stage.duel(title, (&stage.ours, &large), &mut flows)?;
    take(vec![row.aiming(Target::AtMost(1.05)).against("110 isolated pods")]);
    Ok(())
}
